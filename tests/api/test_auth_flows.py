"""An account from its registration to the end of its sessions, as a person uses it."""

from __future__ import annotations

from typing import Any

import bcrypt
import pytest

from config.settings import Settings
from handlers.auth._passwords import prehash
from tests.support.accounts import CHEAP, PASSWORD, accounts_world

ADDRESS = "trader@example.com"
OTHER = "quite another horse"
CLAIMS = {
    *("sub", "email", "name", "is_demo", "is_provider", "email_verified", "permissions", "sid"),
    *("iat", "exp", "jti", "iss", "aud"),
}


def fields_of(problem: dict[str, Any]) -> list[str]:
    return [each["field"] for each in problem["details"]]


async def test_a_person_registers_verifies_logs_in_and_stays(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        registered = await world.register(" Trader@Example.COM ", display_name="  Ann  ")
        assert registered.status == 201
        assert {key: registered.json[key] for key in ("email", "display_name", "email_verified")} == {
            "email": ADDRESS,
            "display_name": "Ann",
            "email_verified": False,
        }
        assert registered.json["message"]
        browser = world.browser()
        assert (await browser.login(ADDRESS)).problem(403, "FORBIDDEN")["message"] == "Email not verified"
        token = await world.email(ADDRESS)
        for method in ("HEAD", "GET"):
            led_on = await browser.send(method, f"/auth/verify-email?token={token}")
            assert led_on.expect(302).headers["Location"] == f"{settings.frontend_url}/verify-email#token={token}"
        assert (await browser.login(ADDRESS)).problem(403, "FORBIDDEN")["message"] == "Email not verified"
        (await browser.send("POST", "/auth/verify-email", {"token": token})).expect(200)
        answer = (await browser.login("TRADER@example.com ")).expect(200)
        assert {key: answer.json[key] for key in ("token_type", "expires_in", "is_demo")} == {
            "token_type": "Bearer",
            "expires_in": 900,
            "is_demo": False,
        }
        assert answer.json["user"] == {
            "user_id": registered.json["user_id"],
            "email": ADDRESS,
            "display_name": "Ann",
            "avatar_url": None,
            "email_verified": True,
            "is_provider": False,
        }
        me = (await browser.send("GET", "/auth/me")).expect(200)
        assert me.json["user_id"] == registered.json["user_id"]
        first = browser.refresh_token
        (await browser.refresh()).expect(200)
        assert browser.refresh_token != first
        (await browser.send("GET", "/auth/me")).expect(200)


async def test_the_access_token_says_what_the_contract_lists(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS, display_name="Ann")
        claims = browser.claims
        assert set(claims) == CLAIMS
        assert claims["exp"] - claims["iat"] == 900
        assert (claims["iss"], claims["aud"]) == ("tradestream.io", "tradestream-api")
        assert (claims["email"], claims["name"]) == (ADDRESS, "Ann")
        assert claims["permissions"] == [
            *("read:signals", "read:providers", "write:settings", "write:watchlist"),
            *("write:follows", "write:reactions", "read:achievements"),
        ]


async def test_a_provider_has_the_permission_from_the_next_token_on(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        assert not browser.claims["is_provider"]
        await world.execute(
            "INSERT INTO providers (user_id, display_name) VALUES ($1::uuid, 'King')", browser.claims["sub"]
        )
        assert (await browser.refresh()).json["user"]["is_provider"]
        assert "write:provider" in browser.claims["permissions"]
        assert (await browser.login(ADDRESS)).json["user"]["is_provider"]
        assert (await browser.send("GET", "/auth/me")).json["is_provider"]


async def test_a_demo_has_an_hour_and_no_name(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = world.browser()
        answer = (await browser.send("POST", "/auth/demo")).expect(200)
        assert {key: value for key, value in answer.json.items() if key != "access_token"} == {
            "token_type": "Bearer",
            "expires_in": 3600,
            "is_demo": True,
            "user": None,
        }
        browser.token = answer.json["access_token"]
        assert browser.claims["sub"] == "demo"
        assert browser.claims["permissions"] == ["read:signals", "read:providers"]
        assert browser.claims["exp"] - browser.claims["iat"] == 3600
        assert set(browser.claims) == CLAIMS
        assert browser.claims["sid"] is None  # it has no session that could be ended
        assert answer.cookie() is None
        for path in ("/auth/logout", "/auth/change-password"):
            problem = (await browser.send("POST", path, {})).problem(403, "FORBIDDEN")
            assert problem["message"] == "Demo users cannot access this resource"


async def test_the_database_holds_hashes_and_no_tokens(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        await browser.refresh()
        await world.register("new@example.com")
        secrets = [browser.refresh_token, await world.email("new@example.com"), PASSWORD]
        tables = await world.dump()
        assert ADDRESS in tables
        for secret in secrets:
            assert secret not in tables
            assert secret.encode().hex() not in tables
        hashed = await world.value(
            "SELECT count(*) FROM refresh_tokens WHERE hash = sha256($1::bytea)", secrets[0].encode()
        )
        assert hashed == 1


async def test_a_forgotten_password_is_reset_by_the_letter(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        (await browser.send("POST", "/auth/forgot-password", {"email": ADDRESS})).expect(200)
        token = await world.email(ADDRESS)
        for weak in ("short", "password", ADDRESS):
            problem = await browser.send("POST", "/auth/reset-password", {"token": token, "new_password": weak})
            assert fields_of(problem.problem(400, "VALIDATION_ERROR")) == ["new_password"]
        (await browser.send("POST", "/auth/reset-password", {"token": token, "new_password": OTHER})).expect(200)
        (await browser.send("GET", "/auth/me")).problem(401, "UNAUTHORIZED")
        (await browser.refresh()).problem(401, "UNAUTHORIZED")
        (await world.browser().login(ADDRESS)).problem(401, "UNAUTHORIZED")
        (await world.browser().login(ADDRESS, OTHER)).expect(200)
        again = await browser.send("POST", "/auth/reset-password", {"token": token, "new_password": PASSWORD})
        assert fields_of(again.problem(400, "VALIDATION_ERROR")) == ["token"]


async def test_a_token_opens_only_what_it_was_mailed_for(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        await world.register(ADDRESS)
        browser = world.browser()
        verification = await world.email(ADDRESS)
        body = {"token": verification, "new_password": OTHER}
        (await browser.send("POST", "/auth/reset-password", body)).problem(400, "VALIDATION_ERROR")
        await browser.send("POST", "/auth/forgot-password", {"email": ADDRESS})
        reset = await world.email(ADDRESS)
        (await browser.send("POST", "/auth/verify-email", {"token": reset})).problem(400, "VALIDATION_ERROR")
        for _ in range(2):  # a used link of an address that is verified has done what it is for
            (await browser.send("POST", "/auth/verify-email", {"token": verification})).expect(200)
        for nonsense in ("nonsense", "a" * 43):
            (await browser.send("POST", "/auth/verify-email", {"token": nonsense})).problem(400, "VALIDATION_ERROR")
        for nonsense in ("", "a" * 201):
            answer = await browser.send("GET", f"/auth/verify-email?token={nonsense}")
            assert answer.problem(400, "VALIDATION_ERROR")["message"] == "Invalid query parameters"
        (await browser.send("GET", "/auth/verify-email")).problem(400, "VALIDATION_ERROR")
        for odd in ("a%0d%0aSet-Cookie%3Ax%3Dy", "a%23b%26c", "%3Cscript%3E"):
            led_on = (await browser.send("GET", f"/auth/verify-email?token={odd}")).expect(302)
            assert led_on.headers["Location"].lower() == f"{settings.frontend_url}/verify-email#token={odd}".lower()


async def test_a_link_that_has_expired_is_no_proof_also_where_the_address_is_verified(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        await world.register(ADDRESS)
        first = await world.email(ADDRESS)
        await world.client.post("/auth/resend-verification", {"email": ADDRESS})
        second = await world.email(ADDRESS)
        await world.execute("UPDATE one_time_tokens SET used_at = now()")
        browser = world.browser()
        used = await browser.send("POST", "/auth/verify-email", {"token": first})
        used.problem(400, "VALIDATION_ERROR")  # used, but the address is not verified
        await world.execute("UPDATE one_time_tokens SET used_at = NULL")
        (await browser.send("POST", "/auth/verify-email", {"token": first})).expect(200)
        await world.execute("UPDATE one_time_tokens SET expires_at = now() - interval '1 minute'")
        (await browser.send("POST", "/auth/verify-email", {"token": first})).expect(200)
        (await browser.send("POST", "/auth/verify-email", {"token": second})).problem(400, "VALIDATION_ERROR")


async def test_a_letter_that_got_lost_is_sent_again_and_both_links_are_good_until_one_is_followed(
    settings: Settings,
) -> None:
    async with accounts_world(settings) as world:
        await world.register(ADDRESS)
        await world.email(ADDRESS)
        (await world.client.post("/auth/resend-verification", {"email": ADDRESS}))
        second = await world.email(ADDRESS)
        (await world.browser().send("POST", "/auth/verify-email", {"token": second})).expect(200)
        await world.client.post("/auth/resend-verification", {"email": ADDRESS})
        with pytest.raises(AssertionError, match="no unread letter"):
            await world.email(ADDRESS)


async def test_changing_the_password_asks_for_the_present_one_and_ends_the_other_sessions(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        here = await world.logged_in(ADDRESS)
        there = world.browser()
        await there.login(ADDRESS)
        wrong = await here.send("POST", "/auth/change-password", {"current_password": "wrong", "new_password": OTHER})
        assert fields_of(wrong.problem(400, "VALIDATION_ERROR")) == ["current_password"]
        weak = {"current_password": PASSWORD, "new_password": ADDRESS}
        problem = (await here.send("POST", "/auth/change-password", weak)).problem(400, "VALIDATION_ERROR")
        assert fields_of(problem) == ["new_password"]
        right = {"current_password": PASSWORD, "new_password": OTHER}
        (await here.send("POST", "/auth/change-password", right)).expect(200)
        (await here.send("GET", "/auth/me")).expect(200)
        (await here.refresh()).expect(200)
        (await there.send("GET", "/auth/me")).problem(401, "UNAUTHORIZED")
        (await there.refresh()).problem(401, "UNAUTHORIZED")
        (await world.browser().login(ADDRESS, OTHER)).expect(200)
        (await world.client.post("/auth/change-password", right)).problem(401, "UNAUTHORIZED")


async def test_a_profile_is_edited_by_name(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS, display_name="Before")
        changes = {
            "display_name": "After 🐎",
            "avatar_url": "https://example.com/a.png",
            "bio": "Since 2017.\nMomentum.",
        }
        edited = (await browser.send("PATCH", "/auth/me", changes)).expect(200).json
        assert {name: edited[name] for name in changes} == changes
        cleared = (await browser.send("PATCH", "/auth/me", {"bio": None})).expect(200).json
        assert (cleared["bio"], cleared["display_name"]) == (None, "After 🐎")
        assert (await browser.send("GET", "/auth/me")).json == cleared
        await browser.refresh()
        assert browser.claims["name"] == "After 🐎"
        for name, value in [
            ("avatar_url", "http://example.com/a.png"),
            ("avatar_url", "javascript:alert(1)"),
            ("avatar_url", "https://user@example.com/"),
            ("display_name", None),
            ("display_name", " x "),
            ("bio", "x" * 501),
            ("email", "other@example.com"),
            ("is_provider", True),
        ]:
            problem = (await browser.send("PATCH", "/auth/me", {name: value})).problem(400, "VALIDATION_ERROR")
            assert fields_of(problem) == [name]


async def test_a_referral_code_is_checked_and_stored_as_pending(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        referrer = await world.verified("king@example.com")
        code: str = await world.value("SELECT referral_code FROM users WHERE id = $1", referrer)
        assert len(code) == 6
        problem = (await world.register("a@example.com", referral_code="NOSUCH")).problem(400, "VALIDATION_ERROR")
        assert fields_of(problem) == ["referral_code"]
        referee = (await world.register("a@example.com", referral_code=code.lower())).json["user_id"]
        stored = await world.value(
            "SELECT (referrer_id, status)::text FROM referrals WHERE referee_id = $1::uuid", referee
        )
        assert stored == f"({referrer},pending)"
        (await world.register("b@example.com", referral_code=None)).json["user_id"]
        own: str = await world.value("SELECT referral_code FROM users WHERE id = $1::uuid", referee)
        assert len(own) == 6
        assert not set(own) & set("01OIL")


async def test_wrong_fields_are_named(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        good: dict[str, Any] = {"email": ADDRESS, "password": PASSWORD, "display_name": "Ann"}
        for name, values in {
            "email": [
                None,
                7,
                "",
                "nobody",
                "a@b",
                "a b@example.com",
                "a@example.com\r\nBcc: x@example.com",
                "é@x.org",
            ],
            "password": [None, 7, "", "1234567", "x" * 129, "password1", ADDRESS],
            "display_name": [None, "", " ", "x", "x" * 51, "a\tb", "a\u202eb", "a\nb"],
            "referral_code": [7, "x" * 21],
            "is_admin": [True],
        }.items():
            for value in values:
                problem = await world.client.post("/auth/register", good | {name: value})
                assert fields_of(problem.problem(400, "VALIDATION_ERROR")) == [name], value
        for name in good:
            body = {key: value for key, value in good.items() if key != name}
            problem = await world.client.post("/auth/register", body)
            assert fields_of(problem.problem(400, "VALIDATION_ERROR")) == [name]
        assert await world.value("SELECT count(*) FROM users") == 0


async def test_a_password_that_is_the_address_is_named_with_all_else_that_is_wrong(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        answer = await world.register(ADDRESS, password=ADDRESS, display_name="x", is_admin=True)
        problem = answer.problem(400, "VALIDATION_ERROR")
        assert sorted(fields_of(problem)) == ["display_name", "is_admin", "password"]
        answer = await world.register("nobody", password="nobody")
        assert sorted(fields_of(answer.problem(400, "VALIDATION_ERROR"))) == ["email", "password"]
        browser = await world.logged_in(ADDRESS)
        both = {"current_password": "wrong", "new_password": ADDRESS}
        answer = await browser.send("POST", "/auth/change-password", both)
        assert fields_of(answer.problem(400, "VALIDATION_ERROR")) == ["current_password", "new_password"]


async def test_the_limits_of_the_contract_hold_for_each_route(settings: Settings) -> None:
    async with accounts_world(settings, rate_limit_enabled=True) as world:
        browser = world.browser()
        calls: dict[str, tuple[int, Any]] = {
            "/auth/register": (5, {}),
            "/auth/login": (10, {}),
            "/auth/forgot-password": (3, {}),
            "/auth/resend-verification": (3, {}),
        }
        for path, (limit, body) in calls.items():
            for used in range(1, limit + 1):
                answer = (await browser.send("POST", path, body)).expect(400)
                assert answer.headers["X-RateLimit-Limit"] == str(limit)
                assert answer.headers["X-RateLimit-Remaining"] == str(limit - used)
            refused = await browser.send("POST", path, body)
            assert refused.problem(429, "RATE_LIMITED")["retry_after"] >= 1
        for path in ("/auth/oauth/google", "/auth/oauth/google/callback"):
            for _ in range(10):
                (await browser.send("GET", path)).problem(404, "NOT_FOUND")
            (await browser.send("GET", path)).problem(429, "RATE_LIMITED")


COMPOSED, DECOMPOSED = "caf\u00e9 \u00e0 la cr\u00e8me", "cafe\u0301 a\u0300 la cre\u0300me"


async def test_a_password_is_the_same_however_a_keyboard_writes_it(settings: Settings) -> None:
    """The kind of fault: one text in two codings is two texts. macOS composes what other systems leave in pieces."""
    async with accounts_world(settings) as world:
        for address, typed in (("a@example.com", COMPOSED), ("b@example.com", DECOMPOSED)):
            await world.register(address, password=typed)
            token = await world.email(address)
            await world.client.post("/auth/verify-email", {"token": token})
            for other in (COMPOSED, DECOMPOSED):
                (await world.browser().login(address, other)).expect(200)
        browser = world.browser()
        await browser.login("a@example.com", DECOMPOSED)
        change = {"current_password": DECOMPOSED, "new_password": "\u1112\u1161\u11ab horse battery"}
        (await browser.send("POST", "/auth/change-password", change)).expect(200)
        (await world.browser().login("a@example.com", "\ud55c horse battery")).expect(200)


async def test_a_hash_from_before_of_a_password_in_pieces_still_opens_and_is_made_anew(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        raw = prehash(settings.password_pepper.encode(), DECOMPOSED)
        user = await world.verified(ADDRESS)
        before = bcrypt.hashpw(raw, bcrypt.gensalt(CHEAP)).decode()
        await world.execute("UPDATE users SET password_hash = $1 WHERE id = $2", before, user)
        await world.forget()
        (await world.browser().login(ADDRESS, COMPOSED)).problem(401, "UNAUTHORIZED")
        (await world.browser().login(ADDRESS, DECOMPOSED + "x")).problem(401, "UNAUTHORIZED")
        first = world.browser()
        (await first.login(ADDRESS, DECOMPOSED)).expect(200)
        for form in (COMPOSED, DECOMPOSED):
            (await world.browser().login(ADDRESS, form)).expect(200)
        (await first.send("GET", "/auth/me")).expect(200)
        assert await world.value("SELECT password_hash FROM users WHERE id = $1", user) != before


async def test_names_are_stored_in_one_form(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        registered = await world.register(ADDRESS, display_name="Zoe\u0308")
        assert registered.json["display_name"] == "Zo\u00eb"
        browser = await world.logged_in("b@example.com")
        edited = await browser.send("PATCH", "/auth/me", {"display_name": "\u1112\u1161\u11ab\u1112\u1161\u11ab"})
        assert edited.json["display_name"] == "\ud55c\ud55c"
