"""Kafka and a schema registry on this machine, for demos and tests."""
