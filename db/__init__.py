"""SQL: one file per domain, functions that take a connection."""
