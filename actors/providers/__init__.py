"""Providers: their track records, followers and profiles."""
