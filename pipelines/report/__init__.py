"""The report of a run, for people who look rather than read."""
