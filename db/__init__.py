"""The SQL: one file per domain, of functions that take a connection."""
