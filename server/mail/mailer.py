"""Send the outbox's e-mails in a loop. Every gateway runs one; an e-mail that one holds, the others skip."""

from __future__ import annotations

import asyncio
import logging
import time

from config import tasks
from config.backoff import backoff_seconds, jittered
from config.clock import now
from config.keys import derive_key, derive_token, token_hash
from config.metrics import MAIL_EMAILS, MAIL_OLDEST_SECONDS, MAIL_WAITING
from config.settings import Settings
from db import mail
from db._postgres import Pool, connection, transaction
from db.mail import ClaimedEmail
from schemas.errors import DatabaseUnavailable
from server.mail.emails import LIFETIMES, PURPOSES, write_email
from server.mail.senders import NotSent, Sender, sender_of

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
MEASURE_SECONDS = 5.0
EMAILS = 10  # sent side by side; a provider's own limit is a few per second
HOLD_SECONDS = 60.0  # longer than sending may take: an e-mail whose sender died is sent by another after that
RETRY_SECONDS = (5.0, 3600.0)  # doubling with each attempt
GIVE_UP_SECONDS = 24 * 3600.0


class Mailer:
    """Send the e-mails that are due until stopped.

    An e-mail leaves the outbox after it was sent: a crash in between sends it once more. It is the same e-mail then,
    with the same link, since its token follows from its id and our key. The token itself is stored nowhere.
    """

    def __init__(self, settings: Settings, pool: Pool, sender: Sender | None = None) -> None:
        self._settings = settings
        self._pool = pool
        self._sender = sender or sender_of(settings)
        self._key = derive_key(settings.jwt_secret, "one-time")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the loop."""
        self._task = tasks.spawn(self._run(), name="mailer")

    async def stop(self) -> None:
        """Stop the loop; an e-mail that is being sent is sent again by another mailer."""
        await tasks.cancel(self._task)

    async def send_due(self) -> int:
        """Send the e-mails that are due, up to a bound; returns how many were taken. Raises DatabaseUnavailable."""
        async with transaction(self._pool) as conn:
            emails = await mail.claim_emails(conn, EMAILS, HOLD_SECONDS)
            # The token that the e-mail holds must be stored before the e-mail is sent.
            await mail.upsert_links(
                conn,
                [
                    mail.LinkRow(
                        token_hash(self._token(each)),
                        each.user_id,
                        each.purpose,
                        LIFETIMES[each.purpose].total_seconds(),
                    )
                    for each in emails
                    if each.user_id is not None and each.purpose in LIFETIMES
                ],
            )
        results = await asyncio.gather(*map(self._send, emails), return_exceptions=True)
        for failure in results:
            if failure is not None:
                raise failure
        return len(emails)

    async def measure(self) -> None:
        """Update the metrics of waiting e-mails. Raises DatabaseUnavailable."""
        async with connection(self._pool) as conn:
            waiting = await mail.measure_outbox(conn)
        for purpose in PURPOSES:
            count, oldest = waiting.get(purpose, (0, 0.0))
            MAIL_WAITING.labels(purpose).set(count)
            MAIL_OLDEST_SECONDS.labels(purpose).set(oldest)

    async def _send(self, email: ClaimedEmail) -> None:
        if email.user_id is not None:
            try:
                await self._sender.send(
                    write_email(
                        self._settings,
                        email.id,
                        email.created_at,
                        email.email,
                        email.purpose,
                        self._token(email),
                    )
                )
            except NotSent as error:
                await self._keep(email, error)
                return
            log.info("e-mail %s (%s) sent", email.id, email.purpose)
        MAIL_EMAILS.labels(email.purpose, "needless" if email.user_id is None else "sent").inc()
        async with connection(self._pool) as conn:
            await mail.delete_emails(conn, [email.id])

    async def _keep(self, email: ClaimedEmail, error: NotSent) -> None:
        old = (now() - email.created_at).total_seconds() > GIVE_UP_SECONDS
        async with connection(self._pool) as conn:
            if error.for_good or old:
                log.error("e-mail %s (%s) given up: %s", email.id, email.purpose, error)
                MAIL_EMAILS.labels(email.purpose, "given_up").inc()
                await mail.delete_emails(conn, [email.id])
                return
            MAIL_EMAILS.labels(email.purpose, "failed").inc()
            pause = max(error.retry_after, backoff_seconds(email.attempts, *RETRY_SECONDS))
            log.warning("e-mail %s (%s) not sent, again in %.0f s: %s", email.id, email.purpose, pause, error)
            await mail.postpone_email(conn, email.id, pause, str(error))

    def _token(self, email: ClaimedEmail) -> str:
        return derive_token(self._key, email.id.bytes)

    async def _run(self) -> None:
        measured = 0.0
        while True:
            taken = 0
            try:
                taken = await self.send_due()
                if time.monotonic() - measured >= MEASURE_SECONDS:
                    await self.measure()
                    measured = time.monotonic()
            except DatabaseUnavailable:
                pass  # the driver has logged it
            except Exception:
                log.exception("the mailer goes on after a failure")
            if taken < EMAILS:
                await asyncio.sleep(jittered(POLL_SECONDS))
