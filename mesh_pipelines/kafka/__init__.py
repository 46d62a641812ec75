"""Topics and the schema registry: identity, offsets, draining, schemas by id."""
