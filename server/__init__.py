"""The Tornado side: assembly, life cycle, fan-out, supervisor."""
