"""SQL of accounts: who users are, their sessions and one-time links, and the lists they keep."""
