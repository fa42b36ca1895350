"""Authentication: `/auth/*`, a file for each of its concerns."""
