"""Count wrong passwords by account, to slow strangers down without locking the owner out."""

from __future__ import annotations

import hashlib
import math
import time
from collections import OrderedDict

from handlers._http.limits import Limiter, Rule
from schemas.errors import RateLimited

WRONG_PASSWORDS = "POST /auth/login wrong"
"""The limit's name in RATE_LIMITS; it counts by account, wrong passwords of `/auth/change-password` included."""

FAILURES = Rule(10, window_seconds=900)  # a user who has forgotten which of some passwords it is needs fewer
NOTICES = Rule(1, window_seconds=24 * 3600)
TURN_SECONDS = 60.0  # between strangers' tries: some 1,500 a day, of a password that is not among the common ones
ACCOUNTS = 10_000  # kept in memory, some 2 MB; the one slowed longest ago goes first
TOO_MANY_WRONG = "Too many wrong passwords for this account; try again later, or reset the password"


class Attempts:
    """The accounts under attack that this process knows: those that a wrong password here took past the limit.

    The count is Redis's, over all gateways, and costs a round trip only for wrong passwords. So each gateway lets one
    more wrong password through until it knows. Addresses without an account are slowed down like others.
    """

    def __init__(self) -> None:
        self._slowed: OrderedDict[str, float] = OrderedDict()  # until when
        self._turns: dict[str, float] = {}  # when strangers may try again

    def slowed(self, email: str) -> int:
        """Return for how many seconds the account is slowed down; 0: it is not."""
        until = self._slowed.get(email)
        if until is None:
            return 0
        left = until - time.monotonic()
        if left <= 0:
            del self._slowed[email]
            self._turns.pop(email, None)
            return 0
        return math.ceil(left)

    def take_turn(self, email: str) -> None:
        """Let a stranger try a password of a slowed account. Raises RateLimited until their turn comes."""
        now = time.monotonic()
        wait = self._turns.get(email, 0.0) - now
        if wait > 0:
            raise RateLimited(TOO_MANY_WRONG, retry_after=math.ceil(wait))
        self._turns[email] = now + TURN_SECONDS

    async def count(self, limiter: Limiter, rule: Rule, email: str) -> bool:
        """Count a wrong password; returns whether the account's owner should be notified now."""
        subject = hashlib.sha256(email.encode()).hexdigest()[:32]  # a hash, so that no addresses are stored in Redis
        verdict = await limiter.check(rule, WRONG_PASSWORDS, subject)
        if verdict is None or verdict.used < verdict.limit:
            return False
        self._slowed[email] = time.monotonic() + verdict.reset_seconds
        self._slowed.move_to_end(email)
        self._turns.setdefault(email, time.monotonic() + TURN_SECONDS)
        if len(self._slowed) > ACCOUNTS:
            self._turns.pop(self._slowed.popitem(last=False)[0], None)
        notice = await limiter.check(NOTICES, "notices of wrong passwords", subject)
        return notice is not None and notice.allowed
