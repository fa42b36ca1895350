"""Read the e-mails that a development server writes into its Maildir: each holds a link that verifies an address."""

from __future__ import annotations

import asyncio
import email
import email.policy
import re
import time
from pathlib import Path

_TOKEN = re.compile(r"verify-email\?token=([A-Za-z0-9_-]{43})")
_WAIT_SECONDS = 30.0
_LOOK_SECONDS = 0.3


class NoEmail(Exception):
    """The e-mail has not arrived."""


class Emails:
    """The e-mails that arrive in the Maildir `folder` after it was opened. An address's newest e-mail counts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "new"
        self._seen = set(self._names())
        self._tokens: dict[str, str] = {}

    async def token_for(self, address: str) -> str:
        """Return the token of the link that was sent to the address; each is returned once. Raises NoEmail."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while address not in self._tokens:
            if time.monotonic() > deadline:
                raise NoEmail(f"no letter to {address} in {self._folder}: does the server send mail by RESEND_API_KEY?")
            self._look()
            if address not in self._tokens:
                await asyncio.sleep(_LOOK_SECONDS)
        return self._tokens.pop(address)

    def _look(self) -> None:
        for name in sorted(set(self._names()) - self._seen):
            self._seen.add(name)
            message = email.message_from_bytes((self._folder / name).read_bytes(), policy=email.policy.default)
            body = message.get_body(("plain",))
            match = _TOKEN.search(body.get_content()) if body is not None else None
            if match is not None:
                self._tokens[str(message["To"])] = match[1]

    def _names(self) -> list[str]:
        return [each.name for each in self._folder.iterdir()] if self._folder.is_dir() else []
