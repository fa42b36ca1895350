"""Providers in Postgres: track records, follows, profiles."""
