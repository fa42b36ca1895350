"""Real clients and a real nginx: what others' code makes of the streams."""
