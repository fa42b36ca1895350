"""The owner of accounts over a real Postgres and Valkey: durable, and exact under concurrency."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson

from actors._runtime.messages import Envelope, Message, decode, encode
from actors.users.messages import (
    USERS,
    DeleteView,
    EditProfile,
    EditSettings,
    EndSessions,
    LinkIdentity,
    Refused,
    RequestEmail,
    ResetPassword,
    SaveView,
    SignedIn,
    Unwatch,
    VerifyEmail,
    Watch,
    account_key,
    address_key,
    preferences_key,
)
from actors.users.users import REVOCATIONS_CHANNEL, Users
from config.clock import now
from config.ids import uuid7
from config.settings import Settings
from db import mail
from db._postgres import Connection, Pool, connection, transaction
from db.users import accounts, preferences, sessions, tokens
from schemas.errors import AppError, Conflict, NotFound, ValidationFailed
from tests.support.local_actors import LocalActors, local_actors
from tests.support.users_factory import account_row, digest, refresh, register, sign_in


class Owner:
    """The actor, and a connection to its database."""

    def __init__(self, actors: LocalActors, settings: Settings) -> None:
        self._actors = actors
        self._settings = settings

    @property
    def pool(self) -> Pool:
        return self._actors.behaviours[USERS].context.pool

    @property
    def redis(self) -> Any:
        return self._actors.behaviours[USERS].context.redis

    async def ask(self, key: str, message: Message[Any]) -> Any:
        return await self._actors.ref(USERS).ask(key, message)

    async def batch(self, *pairs: tuple[str, Message[Any]]) -> list[Any]:
        """Return the replies to messages that arrive together, errors as values."""
        envelopes = [Envelope(key, decode(encode(message))) for key, message in pairs]
        return list(await self._actors.behaviours[USERS].process(envelopes))

    async def register(self, **changes: Any) -> UUID:
        row = account_row(**changes)
        await self.ask(account_key(row.id), register(row))
        return row.id

    async def crash(self) -> None:
        """Replace the actor as after a crash of its process."""
        await self._actors.kill(USERS)
        await self._actors.start(USERS, Users(), self._settings)

    async def add_link(self, user_id: UUID, token: str, purpose: tokens.Purpose, seconds: float = 60) -> bytes:
        async with transaction(self.pool) as conn:
            await mail.upsert_links(conn, [mail.LinkRow(digest(token), user_id, purpose, seconds)])
        return digest(token)


@asynccontextmanager
async def owner_of(settings: Settings) -> AsyncIterator[Owner]:
    async with local_actors(settings, {USERS: Users()}) as actors:
        yield Owner(actors, settings)


async def test_a_hundred_registrations_of_one_address_make_one_account(settings: Settings) -> None:
    async with owner_of(settings) as owner:
        rows = [account_row(email="same@example.com", email_verified=False) for _ in range(100)]
        halves = [rows[:50], rows[50:]]
        answers = await asyncio.gather(
            *(owner.batch(*((account_key(row.id), register(row)) for row in half)) for half in halves)
        )
        replies = [reply for half in answers for reply in half]
        assert sum(not isinstance(each, AppError) for each in replies) == 1
        refusals = {str(each) for each in replies if isinstance(each, AppError)}
        assert refusals == {"Email already registered"}
        async with connection(owner.pool) as conn:
            assert await conn.fetchval("SELECT count(*) FROM users") == 1
            assert await conn.fetchval("SELECT count(*) FROM mail_outbox") == 1


async def test_a_registration_among_others_fails_alone(settings: Settings) -> None:
    async with owner_of(settings) as owner:
        await owner.register(email="taken@example.com")
        rows = [account_row(), account_row(email="taken@example.com"), account_row()]
        replies = await owner.batch(*((account_key(row.id), register(row)) for row in rows))
        assert [isinstance(each, Conflict) for each in replies] == [False, True, False]


async def test_changes_that_could_not_be_saved_are_not_remembered_either(settings: Settings) -> None:
    async with owner_of(settings) as owner:
        await owner.register(email="taken@example.com")
        row = account_row(email="taken@example.com")
        for _ in range(2):
            assert isinstance((await owner.batch((account_key(row.id), register(row))))[0], Conflict)
        [reply] = await owner.batch((account_key(row.id), EditProfile({})))
        assert isinstance(reply, NotFound)


async def test_a_crash_loses_neither_accounts_nor_sessions_nor_lists(settings: Settings) -> None:
    async with owner_of(settings) as owner:
        user = await owner.register(bio="before")
        session = uuid7()
        await owner.ask(account_key(user), sign_in("a", session_id=session))
        await owner.ask(account_key(user), EditProfile({"bio": "after"}))
        await owner.ask(preferences_key(user), EditSettings({"theme": "light", "default_action_filter": ()}))
        await owner.ask(preferences_key(user), Watch("BTC/USD", {"notes": "x"}, now()))
        await owner.ask(preferences_key(user), SaveView(uuid7(), "A", None, {"b": 0.8, "a": [1]}, True, now()))
        await owner.crash()
        # NOON is long ago: what lies between must not look like expiry here.
        async with transaction(owner.pool) as conn:
            await conn.execute("UPDATE sessions SET expires_at = now() + interval '1 day'")
        account = owner._actors.behaviours[USERS]
        assert isinstance(account, Users)
        async with connection(owner.pool) as conn:
            loaded: dict[str, Any] = dict(await account.load(conn, [account_key(user), preferences_key(user)]))
        assert loaded[account_key(user)].row.bio == "after"
        assert list(loaded[account_key(user)].sessions) == [session]
        preferences = loaded[preferences_key(user)]
        assert (preferences.settings.theme, preferences.settings.default_action_filter) == ("light", ())
        assert preferences.watchlist["BTC/USD"].notes == "x"
        assert [list(each.filters) for each in preferences.views.values()] == [["b", "a"]]


async def test_a_refresh_replayed_from_two_places_at_once_gives_both_the_same_session(settings: Settings) -> None:
    async with owner_of(settings) as owner:
        user, session = await owner.register(), uuid7()
        await owner.ask(account_key(user), sign_in("a", session_id=session))
        replies = await asyncio.gather(
            *(owner.ask(account_key(user), refresh(session, "a", "b", seconds=1)) for _ in range(20))
        )
        assert all(isinstance(each, SignedIn) for each in replies)
        async with connection(owner.pool) as conn:
            assert await conn.fetchval("SELECT count(*) FROM refresh_tokens WHERE session_id = $1", session) == 2
            holder = await sessions.find_holder(conn, digest("a"))
        assert holder is not None
        assert (holder.user_id, holder.session_id, holder.is_provider) == (user, session, False)


async def test_a_stolen_token_ends_its_family_for_every_gateway(settings: Settings) -> None:
    async with owner_of(settings) as owner:
        user, session, other = await owner.register(), uuid7(), uuid7()
        news = owner.redis.pubsub()
        await news.subscribe(REVOCATIONS_CHANNEL)
        await owner.ask(account_key(user), sign_in("a", session_id=session))
        await owner.ask(account_key(user), sign_in("o", session_id=other))
        await owner.ask(account_key(user), refresh(session, "a", "b", seconds=1))
        reply = await owner.ask(account_key(user), refresh(session, "a", "b", seconds=60))
        assert isinstance(reply, Refused)
        assert reply.revoked == (session,)
        async with asyncio.timeout(2):
            while (heard := await news.get_message(ignore_subscribe_messages=True, timeout=0.1)) is None:
                pass
        assert orjson.loads(heard["data"]) == [str(session)]
        await news.aclose()
        async with connection(owner.pool) as conn:
            found = await sessions.revoked_since(conn, now() - timedelta(seconds=5))
        assert [each for each, _ in found] == [session]


async def test_a_link_is_good_once_however_many_follow_it_at_once(settings: Settings) -> None:
    async with owner_of(settings) as owner:
        user = await owner.register(email_verified=False)
        link = await owner.add_link(user, "link", "verification")
        replies = await owner.batch(*((account_key(user), VerifyEmail(link)) for _ in range(10)))
        assert sum(isinstance(each, ValidationFailed) for each in replies) == 9
        late = await owner.batch((account_key(user), VerifyEmail(link)))
        assert isinstance(late[0], ValidationFailed)
        async with connection(owner.pool) as conn:
            person = await accounts.find_by_id(conn, user)
        assert person is not None
        assert person.account.email_verified


async def test_a_reset_makes_the_other_links_and_letters_worthless(settings: Settings) -> None:
    async with owner_of(settings) as owner:
        user = await owner.register(email="lost@example.com")
        one = await owner.add_link(user, "one", "reset")
        two = await owner.add_link(user, "two", "reset")
        await owner.ask(address_key("lost@example.com"), RequestEmail(uuid7(), "reset", now()))
        await owner.ask(account_key(user), ResetPassword(one, "new hash"))
        replies = await owner.batch((account_key(user), ResetPassword(two, "newer hash")))
        assert isinstance(replies[0], ValidationFailed)
        async with connection(owner.pool) as conn:
            assert await conn.fetchval("SELECT count(*) FROM mail_outbox") == 0
            assert await conn.fetchval("SELECT password_hash FROM users WHERE id = $1", user) == "new hash"


async def test_an_expired_link_is_not_followed(settings: Settings) -> None:
    async with owner_of(settings) as owner:
        user = await owner.register(email_verified=False)
        link = await owner.add_link(user, "old", "verification", seconds=-1)
        replies = await owner.batch((account_key(user), VerifyEmail(link)))
        assert isinstance(replies[0], ValidationFailed)
        async with connection(owner.pool) as conn:
            assert await tokens.find_link(conn, link, "verification") is None


async def test_an_oauth_user_signs_in_to_one_account(settings: Settings) -> None:
    async with owner_of(settings) as owner:
        one, two = await owner.register(), await owner.register()
        await owner.ask(account_key(one), LinkIdentity("google", "g-1", now()))
        replies = await owner.batch(
            (account_key(two), LinkIdentity("google", "g-1", now())),
            (account_key(two), LinkIdentity("google", "g-2", now())),
        )
        assert isinstance(replies[0], Conflict)
        assert replies[1] == ()
        async with connection(owner.pool) as conn:
            found = await accounts.find_by_identity(conn, "google", "g-2")
        assert found is not None
        assert found.account.id == two


async def test_the_limits_of_lists_are_exact_under_concurrency(settings: Settings) -> None:
    async with owner_of(settings) as owner:
        user = await owner.register()
        key = preferences_key(user)
        many = [(key, Watch(f"S{n}", {}, now())) for n in range(130)]
        replies = [
            each
            for part in await asyncio.gather(*(owner.batch(*many[n : n + 13]) for n in range(0, 130, 13)))
            for each in part
        ]
        assert sum(isinstance(each, Conflict) for each in replies) == 30
        views = [(key, SaveView(uuid7(), f"view {n}", None, {}, False, now())) for n in range(60)]
        replies = [
            each
            for part in await asyncio.gather(*(owner.batch(*views[n : n + 6]) for n in range(0, 60, 6)))
            for each in part
        ]
        assert sum(isinstance(each, Conflict) for each in replies) == 10
        async with connection(owner.pool) as conn:
            assert len(await preferences.load_watchlists(conn, [user])) == 100
            assert len(await preferences.load_views(conn, [user])) == 50


async def test_concurrent_edits_of_different_settings_are_all_kept(settings: Settings) -> None:
    async with owner_of(settings) as owner:
        user = await owner.register()
        edits: list[dict[str, Any]] = [
            {"theme": "light"},
            {"timezone": "Asia/Tokyo"},
            {"onboarding_step": 3},
            {"min_opportunity_score": 0.9},
            {"risk_tolerance": "aggressive"},
            {"onboarding_completed": True},
        ]
        await asyncio.gather(*(owner.ask(preferences_key(user), EditSettings(each)) for each in edits))
        async with connection(owner.pool) as conn:
            [row] = await preferences.load_settings(conn, [user])
        for edit in edits:
            for name, value in edit.items():
                assert getattr(row, name) == value


async def test_adding_and_removing_in_one_batch_leaves_what_came_last(settings: Settings) -> None:
    async with owner_of(settings) as owner:
        user, view = await owner.register(), uuid7()
        key = preferences_key(user)
        replies = await owner.batch(
            (key, Watch("BTC", {}, now())),
            (key, Unwatch("BTC", now())),
            (key, Watch("ETH", {}, now())),
            (key, Unwatch("ETH", now())),
            (key, Watch("ETH", {"notes": "again"}, now())),
            (key, SaveView(view, "A", None, {}, False, now())),
            (key, DeleteView(view, now())),
            (key, SaveView(uuid7(), "A", None, {}, False, now())),
            (key, Unwatch("DOGE", now())),
        )
        assert isinstance(replies[-1], NotFound)
        assert not any(isinstance(each, AppError) for each in replies[:-1])
        async with connection(owner.pool) as conn:
            assert [each.symbol for each in await preferences.load_watchlists(conn, [user])] == ["ETH"]
            assert [each.name for each in await preferences.load_views(conn, [user])] == ["A"]
            removed = await preferences.load_removed(conn, [user])
        assert {(each.list, each.item) for each in removed} == {("watchlist", "BTC"), ("saved_views", str(view))}


async def test_old_tokens_links_and_states_are_forgotten(settings: Settings) -> None:
    async with owner_of(settings) as owner:
        user = await owner.register()
        await owner.ask(account_key(user), sign_in("a"))
        await owner.add_link(user, "old", "reset", seconds=-3 * 24 * 3600)
        await owner.add_link(user, "new", "reset")
        async with transaction(owner.pool) as conn:
            await conn.execute("UPDATE refresh_tokens SET issued_at = now() - interval '9 days'")
            await conn.execute("UPDATE sessions SET expires_at = now() - interval '31 days'")
            assert await tokens.use_state(conn, b"state", now() - timedelta(minutes=1))
            assert not await tokens.use_state(conn, b"state", now())
            assert await tokens.expire(conn, 100) == 4
            assert await conn.fetchval("SELECT count(*) FROM one_time_tokens") == 1


async def test_ending_a_session_is_seen_by_who_asks_the_database(settings: Settings) -> None:
    async with owner_of(settings) as owner:
        user, session = await owner.register(), uuid7()
        await owner.ask(account_key(user), sign_in("a", session_id=session))
        assert await owner.ask(account_key(user), EndSessions(session)) == (session,)
        assert await owner.ask(account_key(user), EndSessions(session)) == ()
        async with connection(owner.pool) as conn:
            assert await sessions.had_session(conn, session, user)
            assert not await sessions.had_session(conn, session, uuid7())
            assert await sessions.load_sessions(conn, [user]) == []


async def _prepare(conn: Connection, statement: str) -> None:
    prepared: Any = await conn.prepare(statement)
    assert prepared.get_statusmsg is not None


async def test_every_statement_is_one_that_postgres_accepts(settings: Settings) -> None:
    async with owner_of(settings) as owner, connection(owner.pool) as conn:
        count = 0
        for module in (accounts, sessions, tokens, preferences, mail):
            for name, value in vars(module).items():
                if name.isupper() and not name.startswith("_") and name != "EXPIRE" and isinstance(value, str):
                    await _prepare(conn, value)
                    count += 1
        for value in tokens.EXPIRE:
            await _prepare(conn, value)
        assert count > 30


async def test_the_hot_look_ups_use_an_index(settings: Settings) -> None:
    questions = {
        accounts.FIND_BY_EMAIL: ["a@example.com"],
        accounts.FIND_BY_IDENTITY: ["google", "g-1"],
        accounts.LOAD_ACCOUNTS: [[uuid7()]],
        sessions.FIND_HOLDER: [digest("a")],
        sessions.LOAD_SESSIONS: [[uuid7()]],
        sessions.REVOKED_SINCE: [now()],
        tokens.FIND_LINK: [digest("a"), "reset"],
        preferences.LOAD_WATCHLISTS: [[uuid7()]],
        preferences.LOAD_VIEWS: [[uuid7()]],
        mail.CLAIM_EMAILS: [10, 60.0],
    }
    async with owner_of(settings) as owner, transaction(owner.pool) as conn:
        await conn.execute("SET LOCAL enable_seqscan = off")
        for statement, arguments in questions.items():
            plan = "\n".join(row[0] for row in await conn.fetch("EXPLAIN " + statement, *arguments))
            assert "Seq Scan" not in plan, plan
