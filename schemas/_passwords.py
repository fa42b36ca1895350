"""Check new passwords: 8-128 characters of any kind, not the e-mail, not among the most common ones."""

from __future__ import annotations

from functools import cache
from pathlib import Path

SHORTEST = 8
LONGEST = 128

# The passwords of 8 and more characters among the 20 000 most common ones, as Royce Williams counted them in leaked
# collections; case-folded, so that "Password1" is found too.
_COMMON = Path(__file__).with_name("common_passwords.txt")


def password_problem(password: str, email: str | None = None) -> str | None:
    """Return why this password is refused, or None. NIST SP 800-63B § 3.1.1.2: no rules about its composition."""
    if not SHORTEST <= len(password) <= LONGEST:
        return f"must have {SHORTEST}-{LONGEST} characters"
    folded = password.strip().casefold()
    if email is not None and folded == email.casefold():
        return "must not be the e-mail"
    if folded in _common_passwords():
        return "is among the most common passwords"
    return None


@cache
def _common_passwords() -> frozenset[str]:
    return frozenset(_COMMON.read_text(encoding="utf-8").splitlines())
