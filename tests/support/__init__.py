"""Servers, actors, factories and clients that tests share."""
