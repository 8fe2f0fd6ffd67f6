"""The command `c2al`, its data sets, and the steps of a run."""
