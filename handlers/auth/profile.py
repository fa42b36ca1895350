"""Show and change the caller's own account and sessions."""

from __future__ import annotations

from actors.users.messages import EditProfile, EndSessions, Profile
from config.documents import Document, Loaded
from db.users import sessions
from handlers._http.base import known_id
from handlers._http.endpoint import endpoint
from handlers.auth._account_handler import AccountHandler
from schemas.auth import Me, ProfileChange, SessionEnded, Sessions
from schemas.errors import NotFound


class MyAccount(AccountHandler):
    """`/auth/me`"""

    @endpoint("Get one's own account", responds=Me(), errors=(503,))
    async def get(self) -> object:
        """The account as it is now, whatever the token says."""
        person = await self.find_caller()
        return _me(Profile.of(person.account), is_provider=person.is_provider)

    @endpoint("Edit one's own account", body=ProfileChange(), responds=Me(), errors=(503,))
    async def patch(self, body: Loaded) -> object:
        """Sets the fields that are given; the next token has the new name."""
        person = await self.find_caller()
        return _me(await self.ask_account(self.user_id, EditProfile(body)), is_provider=person.is_provider)


class MySessions(AccountHandler):
    """`/auth/sessions`"""

    @endpoint("List one's own sessions", responds=Sessions(), errors=(503,))
    async def get(self) -> object:
        """The most recently used first."""
        live = await self.load(sessions.load_sessions, [self.user_id])
        own = self.session_id
        fields = ("id", "created_at", "last_used_at", "user_agent", "ip")
        return {
            "sessions": [
                {name: getattr(each, name) for name in fields} | {"current": each.id == own} for each in reversed(live)
            ]
        }


class OneSession(AccountHandler):
    """`/auth/sessions/{session_id}`"""

    @endpoint(
        "End one of one's own sessions",
        responds=SessionEnded(),
        errors=(404, 503),
        sets_cookie="Where it is this session: empty and expired, so it is dropped.",
    )
    async def delete(self, session_id: str) -> object:
        """Invalidates the session's tokens from now on."""
        ended = known_id(session_id, "Session")
        if not await self.load(sessions.had_session, ended, self.user_id):
            raise NotFound("Session not found")
        await self.ask_account(self.user_id, EndSessions(ended))
        self.gateway.revoked.add((ended,))
        if ended == self.session_id:
            self.drop_refresh_cookie()
        return {"id": ended, "revoked": True}


def _me(profile: Profile, *, is_provider: bool) -> Document:
    return {name: getattr(profile, name) for name in Profile.__match_args__} | {"is_provider": is_provider}
