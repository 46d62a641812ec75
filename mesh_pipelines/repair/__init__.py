"""Ways back: quarantine, resume, rollback, rebuild, upkeep."""
