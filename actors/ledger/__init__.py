"""The owner of the log: what it appends and signs."""
