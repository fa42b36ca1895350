"""The outbox over a real Postgres: a committed e-mail is sent once, by one sender, through any failure."""

from __future__ import annotations

import asyncio
import email.policy
import mailbox
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from uuid import UUID

import pytest
from prometheus_client import REGISTRY

from config.backoff import backoff_seconds
from config.clock import now
from config.ids import uuid7
from config.keys import token_hash
from config.settings import Settings
from db import mail
from db._postgres import Pool, connection, create_pool, transaction
from db.mail import EmailRow
from db.users import accounts, tokens
from schemas._vocabulary import TokenPurpose
from server.mail import Mailer
from server.mail.emails import Email
from server.mail.mailer import RETRY_SECONDS
from server.mail.senders import NotSent, ResendSender
from tests.api.serving import until
from tests.peers.resend import resend_api
from tests.support.users_factory import account_row


@asynccontextmanager
async def pool_of(settings: Settings) -> AsyncIterator[Pool]:
    assert settings.database_url is not None
    pool = await create_pool(settings.database_url, 4, name="mail")
    try:
        yield pool
    finally:
        await pool.close()


async def queue(pool: Pool, email: str, purpose: TokenPurpose = "verification", *, hours_ago: float = 0) -> UUID:
    email = EmailRow(uuid7(), purpose, email, now() - timedelta(hours=hours_ago))
    async with transaction(pool) as conn:
        await mail.insert_emails(conn, [email])
    return email.id


async def add_account(pool: Pool, email: str, *, verified: bool = False) -> UUID:
    row = account_row(email=email, email_verified=verified)
    async with transaction(pool) as conn:
        await accounts.insert_accounts(conn, [row])
    return row.id


async def waiting(pool: Pool) -> int:
    async with connection(pool) as conn:
        count: int = await conn.fetchval("SELECT count(*) FROM mail_outbox")
    return count


async def make_due(pool: Pool) -> None:
    async with transaction(pool) as conn:
        await conn.execute("UPDATE mail_outbox SET due_at = now()")


def messages(folder: Path) -> list[EmailMessage]:
    found = [message for _, message in sorted(mailbox.Maildir(folder, create=False).items())]
    parsed = [email.message_from_bytes(bytes(each), policy=email.policy.default) for each in found]
    assert all(isinstance(each, EmailMessage) for each in parsed)
    return parsed  # type: ignore[return-value]  # the policy makes EmailMessages


def link_in(text: str) -> str:
    match = re.search(r"token=([A-Za-z0-9_-]{43})\b", text)
    assert match is not None, text
    return match[1]


class Recorder:
    """A mail transport that keeps its e-mails, and fails as told."""

    def __init__(self, *failures: NotSent) -> None:
        self.emails: list[Email] = []
        self.failures = list(failures)

    async def send(self, email: Email) -> None:
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        self.emails.append(email)


async def test_a_letter_in_the_maildir_carries_a_link_that_can_be_followed(settings: Settings) -> None:
    async with pool_of(settings) as pool:
        user = await add_account(pool, "trader@example.com")
        await queue(pool, "trader@example.com")
        assert await Mailer(settings, pool).send_due() == 1
        [message] = messages(settings.data_dir / "mail")
        assert message["To"] == "trader@example.com"
        assert message["Subject"] == "Verify your e-mail address"
        text = message.get_body(("plain",))
        assert text is not None
        token = link_in(text.get_content())
        assert f"{settings.api_url}/auth/verify-email?token={token}\n" in text.get_content()
        # The file on the disk, too, since people read it with `cat`.
        [file] = (settings.data_dir / "mail" / "new").iterdir()
        assert f"/auth/verify-email?token={token}\n" in file.read_text()
        async with connection(pool) as conn:
            holder = await tokens.find_link(conn, token_hash(token), "verification")
            stored = await conn.fetchval(
                "SELECT count(*) FROM one_time_tokens WHERE encode(hash, 'escape') = $1", token
            )
        assert holder is not None
        assert holder.user_id == user
        assert stored == 0
        assert await waiting(pool) == 0


@pytest.mark.parametrize(("email", "purpose"), [("nobody@example.com", "reset"), ("known@example.com", "verification")])
async def test_a_letter_that_is_for_nobody_is_forgotten(settings: Settings, email: str, purpose: TokenPurpose) -> None:
    async with pool_of(settings) as pool:
        await add_account(pool, "known@example.com", verified=True)
        await queue(pool, email, purpose)
        recorder = Recorder()
        await Mailer(settings, pool, recorder).send_due()
        assert not recorder.emails
        assert await waiting(pool) == 0


async def test_several_senders_send_each_letter_once(settings: Settings) -> None:
    async with pool_of(settings) as pool:
        for number in range(30):
            await add_account(pool, f"trader{number}@example.net")
            await queue(pool, f"trader{number}@example.net")
        recorder = Recorder()
        mailers = [Mailer(settings, pool, recorder) for _ in range(4)]
        async with asyncio.timeout(10):
            while await waiting(pool):
                await asyncio.gather(*(each.send_due() for each in mailers))
        assert len(recorder.emails) == 30
        assert len({each.recipient for each in recorder.emails}) == 30


async def test_a_sender_that_dies_leaves_its_letter_to_another_who_sends_the_same(settings: Settings) -> None:
    async with pool_of(settings) as pool:
        await add_account(pool, "trader@example.com")
        await queue(pool, "trader@example.com", "reset")
        dying = Recorder()

        class Dies(Recorder):
            async def send(self, email: Email) -> None:
                dying.emails.append(email)
                raise asyncio.CancelledError

        await asyncio.gather(Mailer(settings, pool, Dies()).send_due(), return_exceptions=True)
        heir = Recorder()
        await Mailer(settings, pool, heir).send_due()
        assert not heir.emails, "it is held by the one that died"
        await make_due(pool)
        await Mailer(settings, pool, heir).send_due()
        assert heir.emails == dying.emails
        await make_due(pool)
        await Mailer(settings, pool, heir).send_due()
        assert len(heir.emails) == 1


async def test_a_letter_that_was_not_sent_is_tried_again_later(settings: Settings) -> None:
    async with pool_of(settings) as pool:
        await add_account(pool, "trader@example.com")
        await queue(pool, "trader@example.com")
        recorder = Recorder(NotSent("503"), NotSent("429", retry_after=500))
        mailer = Mailer(settings, pool, recorder)
        for least in (0.75 * RETRY_SECONDS[0], 490):
            assert await mailer.send_due() == 1
            assert await mailer.send_due() == 0
            async with connection(pool) as conn:
                left = await conn.fetchval("SELECT extract(epoch FROM due_at - now())::float8 FROM mail_outbox")
            assert left > least - 1
            await make_due(pool)
        await mailer.send_due()
        assert len(recorder.emails) == 1


@pytest.mark.parametrize(("hours_ago", "for_good"), [(25, False), (0, True)])
async def test_a_letter_is_given_up_when_it_is_old_or_refused(
    settings: Settings, hours_ago: float, for_good: bool
) -> None:
    async with pool_of(settings) as pool:
        await add_account(pool, "trader@example.com")
        await queue(pool, "trader@example.com", hours_ago=hours_ago)
        await Mailer(settings, pool, Recorder(NotSent("no", for_good=for_good))).send_due()
        assert await waiting(pool) == 0


async def test_resend_gets_the_letter_once_though_its_answer_is_lost(settings: Settings) -> None:
    async with pool_of(settings) as pool, resend_api() as resend:
        settings = settings.replace(resend_api_key="re_key", resend_base_url=resend.url)
        await add_account(pool, "trader@example.com")
        email = await queue(pool, "trader@example.com", "reset")
        resend.lose_answers = 1
        mailer = Mailer(settings, pool)
        await mailer.send_due()
        assert await waiting(pool) == 1
        await make_due(pool)
        await mailer.send_due()
        assert await waiting(pool) == 0
        assert resend.requests == 2
        assert list(resend.sent) == [str(email)]
        [sent] = resend.sent.values()
        assert sent["to"] == ["trader@example.com"]
        assert sent["from"] == settings.mail_from
        assert f"{settings.frontend_url}/reset-password?token={link_in(sent['text'])}\n" in sent["text"]
        assert link_in(sent["text"]) in sent["html"]


@pytest.mark.parametrize(
    ("status", "headers", "for_good", "retry_after"),
    [
        (500, {}, False, 0),
        (429, {"Retry-After": "7"}, False, 7),
        (429, {"Retry-After": "soon"}, False, 0),
        (401, {}, False, 0),
        (422, {}, True, 0),
    ],
)
async def test_resends_refusals_are_told_apart(
    status: int, headers: dict[str, str], for_good: bool, retry_after: float
) -> None:
    async with resend_api() as resend:
        resend.answers = [(status, headers)]
        email = Email(uuid7(), now(), "a@example.com", "b@example.com", "s", "t", "h")
        with pytest.raises(NotSent) as caught:
            await ResendSender(resend.url, "re_key").send(email)
        assert (caught.value.for_good, caught.value.retry_after) == (for_good, retry_after)


async def test_a_resend_that_is_away_is_tried_again() -> None:
    email = Email(uuid7(), now(), "a@example.com", "b@example.com", "s", "t", "h")
    async with resend_api() as resend:
        url = resend.url
    with pytest.raises(NotSent) as caught:
        await ResendSender(url, "re_key").send(email)
    assert not caught.value.for_good


def figure(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"tradestream_{name}", labels) or 0.0


async def test_the_metrics_tell_what_waits_and_what_became_of_the_rest(settings: Settings) -> None:
    async with pool_of(settings) as pool:
        await add_account(pool, "trader@example.com")
        await queue(pool, "trader@example.com", "reset", hours_ago=2)
        await queue(pool, "trader@example.com", "reset", hours_ago=1)
        await queue(pool, "nobody@example.com", "reset")
        await queue(pool, "trader@example.com", "verification")
        results = ("sent", "failed", "given_up", "needless")
        before = [figure("emails_total", purpose="reset", outcome=each) for each in results]
        mailer = Mailer(settings, pool, Recorder(NotSent("503"), NotSent("no", for_good=True)))
        await mailer.measure()
        assert (figure("mail_waiting", purpose="reset"), figure("mail_waiting", purpose="verification")) == (3, 1)
        assert figure("mail_oldest_seconds", purpose="reset") == pytest.approx(7200, abs=60)
        assert figure("mail_oldest_seconds", purpose="verification") < 60
        await mailer.send_due()
        await mailer.measure()
        assert (figure("mail_waiting", purpose="reset"), figure("mail_waiting", purpose="verification")) == (1, 0)
        assert figure("mail_oldest_seconds", purpose="verification") == 0
        await make_due(pool)
        await mailer.send_due()
        after = [figure("emails_total", purpose="reset", outcome=each) for each in results]
        assert [late - early for early, late in zip(before, after, strict=True)] == [1, 1, 1, 1]


async def test_the_loop_sends_and_measures_by_itself(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.mail.mailer.MEASURE_SECONDS", 0.0)
    async with pool_of(settings) as pool:
        await add_account(pool, "trader@example.com")
        recorder = Recorder()
        mailer = Mailer(settings, pool, recorder)
        mailer.start()
        await queue(pool, "trader@example.com")
        await until(lambda: bool(recorder.emails))
        recorder.failures = [NotSent("503")]
        await queue(pool, "trader@example.com", "reset", hours_ago=0.5)
        await until(lambda: figure("mail_oldest_seconds", purpose="reset") > 1700)
        await mailer.stop()


def test_the_pause_doubles_up_to_an_hour() -> None:
    pauses = [backoff_seconds(attempt, *RETRY_SECONDS) for attempt in range(1, 30)]
    assert 3.75 <= pauses[0] <= 6.25
    assert 7.5 <= pauses[1] <= 12.5
    assert 2700 <= pauses[-1] <= 4500
