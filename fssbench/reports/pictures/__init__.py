"""Plots, and galleries of episodes."""
