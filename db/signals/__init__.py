"""The table of published signals."""
