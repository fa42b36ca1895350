"""Users: accounts with their sessions, passwords and one-time links, and users' preferences."""
