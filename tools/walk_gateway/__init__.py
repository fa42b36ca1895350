"""Walks every endpoint of the public document against a server that `run.py demo` has filled."""
