"""The SQL of published signals."""
