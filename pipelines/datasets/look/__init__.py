"""What `c2al init` sees of files, and the configuration that it makes of it."""
