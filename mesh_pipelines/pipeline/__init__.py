"""A product through one run: land, candidate, audit, publish."""
