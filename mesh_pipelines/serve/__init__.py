"""How rows of a version leave: Python, SQL, the file for BI tools, samples."""
