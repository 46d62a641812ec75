"""The life of an event, one file each: land, snapshot, audit, publish, maintain."""
