"""The SQL of users: accounts, their sessions and one-time links, and users' preferences."""
