"""Send e-mails by Resend's HTTP API, or into a Maildir on this machine."""

from __future__ import annotations

import asyncio
import email.policy
import email.utils
import os
from email.message import EmailMessage
from pathlib import Path
from typing import Protocol

import orjson
from tornado.httpclient import AsyncHTTPClient, HTTPError, HTTPRequest

from config.masking import redact
from config.settings import Settings
from config.texts import escape_unstorable
from server.mail.emails import Email

TIMEOUT_SECONDS = 10.0
# Statuses that another try cannot change: the sender itself must be corrected first.
_FOR_GOOD = frozenset({400, 404, 413, 415, 422})


class NotSent(Exception):
    """The e-mail was not sent. `for_good`: another try is of no use; `retry_after`: seconds that the server asks."""

    def __init__(self, reason: str, *, for_good: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(escape_unstorable(redact(reason)))
        self.for_good = for_good
        self.retry_after = retry_after


class Sender(Protocol):
    """A way to send e-mails."""

    async def send(self, mail: Email) -> None:
        """Send the e-mail, or raise NotSent. Sending it again makes no second one, wherever that is possible."""


def sender_of(settings: Settings) -> Sender:
    """Return the sender that the settings choose."""
    if settings.resend_api_key is None:
        return MaildirSender(settings.data_dir / "mail")
    return ResendSender(settings.resend_base_url, settings.resend_api_key)


class ResendSender:
    """Send by Resend's API, which remembers an e-mail's id for 24 hours and sends it once."""

    def __init__(self, base_url: str, key: str) -> None:
        self._url = base_url.rstrip("/") + "/emails"
        self._key = key
        self._http = AsyncHTTPClient(force_instance=True)

    async def send(self, mail: Email) -> None:
        """Send the e-mail: see Sender."""
        request = HTTPRequest(
            self._url,
            method="POST",
            headers={
                "Authorization": f"Bearer {self._key}",
                "Content-Type": "application/json",
                "Idempotency-Key": str(mail.id),
                "User-Agent": "TradeStream",
            },
            body=orjson.dumps(
                {
                    "from": mail.sender,
                    "to": [mail.recipient],
                    "subject": mail.subject,
                    "text": mail.text,
                    "html": mail.html,
                }
            ),
            connect_timeout=TIMEOUT_SECONDS,
            request_timeout=TIMEOUT_SECONDS,
            follow_redirects=False,
        )
        try:
            await self._http.fetch(request)
        except HTTPError as error:
            raise _refusal(error) from None
        except OSError as error:
            raise NotSent(f"{type(error).__name__}: {error}") from None


def _refusal(error: HTTPError) -> NotSent:
    said = b"" if error.response is None else error.response.body[:10_000]
    wanted = "" if error.response is None else error.response.headers.get("Retry-After", "")
    return NotSent(
        redact(f"{error.code} {said.decode('utf-8', 'replace')}".strip())[:300],
        for_good=error.code in _FOR_GOOD,
        retry_after=min(float(wanted), 3600.0) if wanted.isascii() and wanted.isdigit() else 0.0,
    )


class MaildirSender:
    """Write to a Maildir, for any mail program or `cat`. An e-mail's file is named by the e-mail's id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def send(self, mail: Email) -> None:
        """Send the e-mail: see Sender."""
        try:
            await asyncio.to_thread(self._write, mail)
        except OSError as error:
            raise NotSent(f"{type(error).__name__}: {error}") from None

    def _write(self, mail: Email) -> None:
        # Not by `mailbox.Maildir`, which takes a folder that another thread is making for a whole one.
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in ("tmp", "new", "cur"):
            (self._folder / part).mkdir(mode=0o700, exist_ok=True)
        name = f"{int(mail.written_at.timestamp())}.{mail.id}.tradestream"
        unfinished = self._folder / "tmp" / f"{name}.{os.getpid()}"
        unfinished.write_bytes(as_message(mail).as_bytes())
        unfinished.rename(self._folder / "new" / name)


def as_message(mail: Email) -> EmailMessage:
    """Encode the e-mail by RFC 5322, its text part unfolded: a folded link could not be copied from the file."""
    message = EmailMessage(policy=email.policy.default.clone(max_line_length=900))
    message["From"] = mail.sender
    message["To"] = mail.recipient
    message["Subject"] = mail.subject
    message["Date"] = mail.written_at
    message["Message-ID"] = f"<{mail.id}@{email.utils.parseaddr(mail.sender)[1].rpartition('@')[2]}>"
    message.set_content(mail.text, cte="7bit")
    message.add_alternative(mail.html, subtype="html", cte="7bit")
    return message
