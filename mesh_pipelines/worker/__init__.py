"""Processes of ours that do what may hang, exhaust memory or crash, and are ended when they do."""
