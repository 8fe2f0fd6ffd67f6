"""One loaded version of a model, which answers requests: read, merged, run, written."""
