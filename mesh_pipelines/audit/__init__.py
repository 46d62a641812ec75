"""A candidate held against its contract's rules, and the results kept."""
