"""`run.py verify`: check a server's public log, and recompute a provider's record from it, as a stranger."""

from __future__ import annotations

from collections.abc import Sequence


class NotVerified(Exception):
    """Nothing can be said: the server does not answer, or answers what is none of the log's formats."""


class Contradicted(Exception):
    """The server contradicts what it signed, or what follows from its log; `findings` say where, a line each."""

    def __init__(self, findings: Sequence[str]) -> None:
        self.findings = list(findings)
        super().__init__("\n".join(self.findings))
