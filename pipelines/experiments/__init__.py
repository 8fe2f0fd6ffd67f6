"""Experiments: any number of arms over paired seeds, trained by the engine of `run`, in one table with intervals."""
