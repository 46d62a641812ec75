"""Contracts that were written for other tools, brought into product folders: what is changed, and why."""
