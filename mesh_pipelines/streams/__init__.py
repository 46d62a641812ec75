"""Kafka: admin, end offsets, bounded drain, decode, encode."""
