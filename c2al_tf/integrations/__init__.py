"""Adapters to other frameworks; nothing else of this package imports them."""
