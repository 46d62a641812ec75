"""What contracts ask for beside what is there: lint, plan, apply."""
