"""The kind of the owner of the log, which takes no messages."""

from __future__ import annotations

LEDGER = "ledger"
