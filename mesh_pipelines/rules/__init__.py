"""A contract's rules compiled to SQL: predicates, masks, queries."""
