"""Comparison of every method with the outputs of its authors' code."""
