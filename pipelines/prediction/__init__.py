"""Predictions for files of rows, from a server."""
