"""The owner of accounts: sessions, passwords, one-time links, and what a user keeps."""
