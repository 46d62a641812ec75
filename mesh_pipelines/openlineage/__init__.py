"""OpenLineage events about what steps read and wrote."""
