"""Providers: their track records, their followers, what they say of themselves."""
