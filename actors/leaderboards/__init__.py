"""Leaderboards: every ranking of providers, kept in order as their records change."""
