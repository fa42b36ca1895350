"""Examples of accounts and of a user's preferences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas import auth, users
from schemas._fields import Schema
from schemas.examples._ids import SESSION, USER, VIEW

_ADDRESS = "trader@example.com"
_TOKEN = "mJ3v0Yw7Zk1nQ8rT5xB2cF6hL9pS4dG0aE7uI1oW3yK"  # noqa: S105 - nobody's
_PASSWORD = "correct horse battery staple"  # noqa: S105 - nobody's
_VIEW = {
    "id": VIEW,
    "name": "High Confidence BUY",
    "description": None,
    "filters": {"actions": ["BUY"], "minOpportunityScore": 0.80},
    "is_default": False,
    "created_at": "2025-01-15T10:00:00.000Z",
}
_BITCOIN = {
    "symbol": "BTC/USD",
    "notes": "Long-term hold",
    "alert_enabled": True,
    "position_size": 0.5,
    "entry_price": 42000.00,
    "added_at": "2025-01-15T10:00:00.000Z",
}
_ETHER = {
    "symbol": "ETH/USD",
    "notes": None,
    "alert_enabled": True,
    "position_size": None,
    "entry_price": None,
    "added_at": "2025-01-20T14:30:00.000Z",
}

EXAMPLES: Mapping[type[Schema], dict[str, Any]] = {
    auth.Registration: {
        "email": _ADDRESS,
        "password": _PASSWORD,
        "display_name": "Trader",
        "referral_code": "KING42",
    },
    auth.Registered: {
        "user_id": USER,
        "email": _ADDRESS,
        "display_name": "Trader",
        "email_verified": False,
        "message": "Check your mail to verify the address",
    },
    auth.Login: {"email": _ADDRESS, "password": _PASSWORD},
    auth.AccessGranted: {
        "access_token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.…",
        "token_type": "Bearer",
        "expires_in": 900,
        "is_demo": False,
        "user": {
            "user_id": USER,
            "email": _ADDRESS,
            "display_name": "Trader",
            "avatar_url": None,
            "email_verified": True,
            "is_provider": False,
        },
    },
    auth.Said: {"message": "Done"},
    auth.TokenBody: {"token": _TOKEN},
    auth.AddressBody: {"email": _ADDRESS},
    auth.PasswordReset: {"token": _TOKEN, "new_password": _PASSWORD},
    auth.PasswordChange: {"current_password": _PASSWORD, "new_password": "a better horse battery staple"},
    auth.Me: {
        "user_id": USER,
        "email": _ADDRESS,
        "display_name": "Trader",
        "avatar_url": "https://images.example.com/trader.png",
        "bio": "Trading since 2017.",
        "email_verified": True,
        "is_provider": False,
        "created_at": "2025-01-15T10:00:00.000Z",
    },
    auth.ProfileChange: {
        "display_name": "Trader",
        "avatar_url": "https://images.example.com/trader.png",
        "bio": "Trading since 2017.",
    },
    auth.Sessions: {
        "sessions": [
            {
                "id": SESSION,
                "created_at": "2025-01-15T10:00:00.000Z",
                "last_used_at": "2025-01-15T12:34:56.000Z",
                "user_agent": "Mozilla/5.0",
                "ip": "203.0.113.7",
                "current": True,
            }
        ]
    },
    auth.SessionEnded: {"id": SESSION, "revoked": True},
    users.UserSettings: {
        "risk_tolerance": "moderate",
        "min_opportunity_score": 0.60,
        "default_action_filter": ["BUY", "SELL", "HOLD"],
        "theme": "dark",
        "timezone": "America/New_York",
        "onboarding_completed": True,
        "onboarding_step": 5,
    },
    users.SettingsChange: {"risk_tolerance": "aggressive", "min_opportunity_score": 0.70, "theme": "dark"},
    users.Watchlist: {"watchlist": [_BITCOIN, _ETHER]},
    users.WatchlistEntry: {"symbol": "SOL/USD", "notes": "Watching for entry", "alert_enabled": True},
    users.WatchlistItem: _BITCOIN,
    users.Unwatched: {"symbol": "SOL/USD", "removed": True},
    users.SavedViews: {"saved_views": [_VIEW]},
    users.SavedView: _VIEW,
    users.NewView: {"name": "High Confidence BUY", "filters": {"actions": ["BUY"], "minOpportunityScore": 0.80}},
    users.ViewChange: {"name": "High Confidence BUY", "is_default": True},
    users.ViewDeleted: {"id": VIEW, "deleted": True},
}
