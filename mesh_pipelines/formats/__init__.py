"""Event values to columns and back: one folder a wire format."""
