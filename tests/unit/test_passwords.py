"""Passwords: which are accepted, how they are stored, and that hashing them is bounded."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time

import bcrypt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.auth._passwords import COST, NO_HASH, Passwords, PasswordVerdict, prehash
from schemas._passwords import password_problem
from schemas.errors import Overloaded, RateLimited

CHEAP = 4  # the least that bcrypt takes


@pytest.fixture
def passwords() -> Passwords:
    return Passwords("pepper", threads=2, cost=CHEAP)


async def test_a_password_is_stored_as_the_contract_says() -> None:
    passwords = Passwords("pepper", threads=1)
    stored = await passwords.hash("correct horse 🐎")
    expected = base64.b64encode(hmac.new(b"pepper", "correct horse 🐎".encode(), hashlib.sha384).digest())
    assert bcrypt.checkpw(expected, stored.encode())
    assert stored.startswith(f"$2b${COST}$")
    passwords.close()


@settings(max_examples=30, deadline=None)
@given(st.text(min_size=8, max_size=128), st.text(min_size=8, max_size=128))
def test_only_the_same_password_has_the_same_prehash(one: str, two: str) -> None:
    assert (prehash(b"key", one) == prehash(b"key", two)) == (one == two)
    assert len(prehash(b"key", one)) == 64


async def test_every_character_of_a_long_password_counts(passwords: Passwords) -> None:
    stored = await passwords.hash("é" * 127 + "a")
    assert await passwords.check("é" * 127 + "a", stored)
    assert not await passwords.check("é" * 127 + "b", stored)
    passwords.close()


async def test_a_password_of_another_pepper_is_wrong(passwords: Passwords) -> None:
    other = Passwords("salt", threads=1, cost=CHEAP)
    assert not await other.check("correct horse", await passwords.hash("correct horse"))
    other.close()
    passwords.close()


async def test_a_missing_password_takes_as_long_to_check_as_any() -> None:
    passwords = Passwords("pepper", threads=1)
    stored = await passwords.hash("correct horse")
    assert not await passwords.check("correct horse", None)
    assert bcrypt.checkpw(b"no password leads here", NO_HASH.encode())

    async def seconds(of: str | None) -> float:
        began = time.perf_counter()
        await passwords.check("wrong horse", of)
        return time.perf_counter() - began

    real, none = [], []
    for _ in range(7):
        real.append(await seconds(stored))
        none.append(await seconds(None))
    # The least of several: what the machine does beside them only ever adds.
    assert min(none) == pytest.approx(min(real), rel=0.5)
    passwords.close()


async def test_past_the_bound_a_login_is_refused_at_once() -> None:
    passwords = Passwords("pepper", threads=1, waiting=2, cost=8)
    jobs = [asyncio.ensure_future(passwords.hash("correct horse")) for _ in range(3)]  # noqa: TID251 - awaited below
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await passwords.hash("correct horse")
    await asyncio.gather(*jobs)
    assert await passwords.hash("correct horse")
    passwords.close()


async def test_a_caller_who_leaves_gives_the_place_back_only_when_the_thread_is_free() -> None:
    passwords = Passwords("pepper", threads=1, waiting=0, cost=10)
    job = asyncio.ensure_future(passwords.hash("correct horse"))  # noqa: TID251 - cancelled below
    await asyncio.sleep(0.01)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    with pytest.raises(Overloaded):
        await passwords.hash("correct horse")
    deadline = time.monotonic() + 5
    while True:
        try:
            assert await passwords.hash("correct horse")
            break
        except Overloaded:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
    passwords.close()


async def test_a_sender_of_many_waits_for_its_own_and_others_do_not() -> None:
    """The kind of fault: one queue for all clients, so that one client that fills it makes all others wait."""
    passwords = Passwords("pepper", threads=2, waiting_of_one=8, cost=CHEAP + 2)
    stored = await passwords.hash("correct horse")
    order: list[str] = []

    async def check(address: str) -> None:
        await passwords.check("wrong horse", stored, address)
        order.append(address)

    flood = [asyncio.ensure_future(check("192.0.2.1")) for _ in range(72)]  # noqa: TID251 - awaited below
    await asyncio.sleep(0)
    others = [asyncio.ensure_future(check(f"198.51.100.{n}")) for n in range(5)]  # noqa: TID251 - awaited below
    await asyncio.gather(*others)
    # The hash in progress, and one of the flood's for each of the others: never the flood's whole queue.
    assert order.count("192.0.2.1") <= 2 + 5
    results = await asyncio.gather(*flood, return_exceptions=True)
    refused = [each for each in results if isinstance(each, RateLimited)]
    assert len(refused) == 72 - 2 - 8
    assert all(each.retry_after for each in refused)
    assert results.count(None) == 10
    passwords.close()


async def test_the_sender_of_most_gives_a_place_up_where_all_are_taken() -> None:
    """Many addresses together are a flood, too; an address with a single waiting login keeps it."""
    passwords = Passwords("pepper", threads=1, waiting=6, waiting_of_one=4, cost=CHEAP + 2)
    stored = await passwords.hash("correct horse")
    running = asyncio.ensure_future(passwords.check("x", stored, "a"))  # noqa: TID251 - awaited below
    await asyncio.sleep(0)
    many = [asyncio.ensure_future(passwords.check("x", stored, "b")) for _ in range(4)]  # noqa: TID251 - awaited below
    few = [asyncio.ensure_future(passwords.check("x", stored, f"c{n}")) for n in range(4)]  # noqa: TID251 - awaited below
    late = [asyncio.ensure_future(passwords.check("x", stored, "b")) for _ in range(2)]  # noqa: TID251 - awaited below
    results = await asyncio.gather(running, *many, *few, *late, return_exceptions=True)
    assert [type(each) for each in results[1:5]].count(Overloaded) == 2
    assert results[5:9] == [False] * 4
    assert {type(each) for each in results[9:]} <= {Overloaded, RateLimited}
    passwords.close()


async def test_a_caller_who_leaves_the_queue_leaves_it_to_others() -> None:
    passwords = Passwords("pepper", threads=1, waiting=2, waiting_of_one=2, cost=CHEAP + 2)
    stored = await passwords.hash("correct horse")
    running = asyncio.ensure_future(passwords.check("x", stored, "a"))  # noqa: TID251 - awaited below
    await asyncio.sleep(0)
    gone = [asyncio.ensure_future(passwords.check("x", stored, "b")) for _ in range(2)]  # noqa: TID251 - cancelled
    await asyncio.sleep(0)
    for each in gone:
        each.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    assert await asyncio.gather(*(passwords.check("x", stored, "b") for _ in range(2))) == [False, False]
    assert await running is False
    passwords.close()


async def test_a_password_has_one_form_and_is_found_in_the_form_of_before(passwords: Passwords) -> None:
    composed, decomposed = "caf\u00e9 cr\u00e8me", "cafe\u0301 cre\u0300me"
    for stored in (await passwords.hash(composed), await passwords.hash(decomposed)):
        assert await passwords.judge(composed, stored) == PasswordVerdict(matches=True)
        assert await passwords.judge(decomposed, stored) == PasswordVerdict(matches=True)
    before = bcrypt.hashpw(prehash(b"pepper", decomposed), bcrypt.gensalt(CHEAP)).decode()
    assert await passwords.judge(decomposed, before) == PasswordVerdict(matches=True, is_outdated=True)
    assert not await passwords.check(composed, before)
    assert not await passwords.check(decomposed, None)
    passwords.close()


@pytest.mark.parametrize(
    ("password", "problem"),
    [
        ("1234567", "must have 8-128 characters"),
        ("x" * 129, "must have 8-128 characters"),
        ("password", "is among the most common passwords"),
        ("PassWord1", "is among the most common passwords"),
        ("qwertyuiop", "is among the most common passwords"),
        ("Trader@Example.com", "must not be the e-mail"),
        ("        ", None),  # no composition rules: eight spaces are accepted
        ("correct horse battery staple", None),
        ("пароль-мой", None),
        ("🐎" * 8, None),
        ("x" * 128, None),
    ],
)
def test_a_password_is_refused_for_its_length_its_fame_or_the_email(password: str, problem: str | None) -> None:
    assert password_problem(password, "trader@example.com") == problem
