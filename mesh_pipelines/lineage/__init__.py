"""What steps read and wrote, told to others: OpenLineage events and their delivery. Loaded only where it is on."""
