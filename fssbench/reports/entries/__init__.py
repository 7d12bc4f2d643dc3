"""Records become results that can be compared: merged, repeated, measured."""
