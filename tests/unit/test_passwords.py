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

from handlers._passwords import COST, NO_HASH, Passwords, prehash
from schemas._passwords import password_problem
from schemas.errors import Overloaded

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


async def test_nobody_has_a_password_that_takes_as_long_to_check_as_anybodys() -> None:
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


@pytest.mark.parametrize(
    ("password", "problem"),
    [
        ("1234567", "must have 8-128 characters"),
        ("x" * 129, "must have 8-128 characters"),
        ("password", "is among the most common passwords"),
        ("PassWord1", "is among the most common passwords"),
        ("qwertyuiop", "is among the most common passwords"),
        ("Trader@Example.com", "must not be the e-mail"),
        ("        ", None),  # no composition rules: eight spaces that nobody tries first
        ("correct horse battery staple", None),
        ("пароль-мой", None),
        ("🐎" * 8, None),
        ("x" * 128, None),
    ],
)
def test_a_password_is_refused_for_its_length_its_fame_or_the_email(password: str, problem: str | None) -> None:
    assert password_problem(password, "trader@example.com") == problem
