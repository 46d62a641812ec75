"""Pictures for the pages: charts and the lineage graph."""
