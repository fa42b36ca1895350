"""`run.py demo`: fills a running development server with a community, and keeps it moving."""
