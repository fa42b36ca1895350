"""`run.py demo`: fill a running development server with a community, and keep it active."""


class DemoFailed(Exception):
    """The demo cannot go on; the text is for the person who started it."""
