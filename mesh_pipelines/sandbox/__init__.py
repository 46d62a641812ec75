"""People's SQL: run in a process that may be lost, over views of ours, and nothing else."""
