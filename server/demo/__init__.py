"""`run.py demo`: fill a running development server with a community, and keep it active."""
