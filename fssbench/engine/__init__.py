"""Running methods on banks: encode each image once, segment each episode once, count pixels."""
