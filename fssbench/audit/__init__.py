"""Whether records can be believed, as far as their files can tell."""
