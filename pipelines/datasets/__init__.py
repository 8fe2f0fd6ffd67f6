"""Data sets: for each, where it comes from, its columns and its semantic axes."""
