"""Read the e-mails that a development server writes into its Maildir: each holds a link that verifies an address."""

from __future__ import annotations

import asyncio
import email
import email.policy
import re
import time
from pathlib import Path

from server.demo import DemoFailed

_TOKEN = re.compile(r"verify-email\?token=([A-Za-z0-9_-]{43})")
_WAIT_SECONDS = 30.0


class Emails:
    """The e-mails that arrive in the Maildir `folder` after it was opened. An address's newest e-mail counts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "new"
        self._seen = set(self._folder.glob("*"))
        self._tokens: dict[str, str] = {}

    async def token_for(self, address: str) -> str:
        """Return the token of the link that was sent to the address; each is returned once. Raises DemoFailed."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while address not in self._tokens:
            if time.monotonic() > deadline:
                raise DemoFailed(
                    f"no e-mail to {address} in {self._folder}: does the server send mail by RESEND_API_KEY?"
                )
            await asyncio.sleep(0.3)
            for path in sorted(set(self._folder.glob("*")) - self._seen):
                self._seen.add(path)
                message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
                body = message.get_body(("plain",))
                if body is not None and (match := _TOKEN.search(body.get_content())):
                    self._tokens[str(message["To"])] = match[1]
        return self._tokens.pop(address)
