"""What goes wrong, one module a kind; each fault is a function from a bench and a number of rounds to an outcome."""
