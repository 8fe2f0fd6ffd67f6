"""A run: its configuration, its folder, its steps, and all of them in order."""
