"""Avro: schemas, and values by the native or the portable reader."""
