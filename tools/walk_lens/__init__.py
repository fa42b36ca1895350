"""Walks every row and example of the Lens document against a running server: `python -m tools.walk_lens [URL]`."""
