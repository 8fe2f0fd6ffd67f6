"""`c2al tune`: what a team should do with its own data, found within a budget."""
