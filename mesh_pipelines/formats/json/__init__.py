"""JSON objects, by the native or the portable reader."""
