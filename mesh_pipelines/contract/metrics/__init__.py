"""The words a contract may use for a check, one class each."""
