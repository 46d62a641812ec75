"""The mesh command: thin verbs over the steps, one output object for console and JSON."""
