"""Measurements that take minutes: each is a module with a `main`."""
