"""Ids that several examples share, so that the examples are consistent."""

from __future__ import annotations

EVENT = "550e8400-e29b-41d4-a716-446655440000"
SIGNAL = "0194f3a2-7c1e-7d32-9b54-3f0c8a6d1e21"
OPTION = "0194f3a2-7c1e-7d32-9b54-3f0c8a6d1e22"
PREDICTION = "0194f3a2-7c1e-7d32-9b54-3f0c8a6d1e23"
USER = "0194a1b0-52d3-7a41-8c6f-2b9d4e7f1a10"
PROVIDER = "0193c7d4-0b6e-7f25-a1d8-5c3e9f2b7a44"
SESSION = "0194a1b0-60f1-7c02-b3a9-6d1e8c4f2b35"
VIEW = "0194a1b1-11c2-7d93-8e0a-7f2c5b6d3a90"
COMMENT = "0194f3b5-2a4d-7e18-9c73-1d5f8b0e6c47"
LETTER = "0194f3c0-9d8e-7b16-8f42-6a7c3e5d1b09"
DECISION = "0194f3a2-8b2f-7c64-a5e1-4d9f0b7c3a58"
