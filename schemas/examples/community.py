"""Examples of providers, comments, reactions, follows, achievements and referrals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas import achievements, follows, leaderboards, providers, referrals, social
from schemas._fields import Schema
from schemas.examples._ids import COMMENT, PROVIDER, SIGNAL, USER
from schemas.examples.signals import CRYPTO, KING

_AT = "2025-02-01T12:34:56.000Z"
_AVATAR = "https://images.example.com/provider.png"
_WHO = {"user_id": USER, "display_name": "Trader", "avatar_url": None}
_COMMENT: dict[str, Any] = {
    "id": COMMENT,
    "user": _WHO,
    "content": "Great call! I'm in.",
    "parent_id": None,
    "is_edited": False,
    "is_deleted": False,
    "replies": [],
    "created_at": _AT,
}
_ITEM = {
    "user_id": PROVIDER,
    "display_name": "CryptoKing_42",
    "bio": "Trading since 2017. Focus on momentum strategies.",
    "avatar_url": _AVATAR,
    "risk_level": "aggressive",
    "specialties": ["crypto", "momentum"],
    "total_signals": 1247,
    "win_rate": 0.6734,
    "avg_return": 0.0423,
    "total_return": 2.45,
    "current_streak": 14,
    "longest_streak": 28,
    "follower_count": 12400,
    "is_verified": True,
    "verification_level": "pro",
}
_WORDS = {
    "bio": "Trading since 2017.",
    "strategy_description": "I focus on RSI reversals and MACD crossovers.",
    "avatar_url": _AVATAR,
    "banner_url": "https://images.example.com/banner.png",
    "website_url": "https://king.example.com",
    "twitter_handle": "cryptoking42",
    "risk_level": "aggressive",
    "specialties": ["crypto", "momentum"],
}

EXAMPLES: Mapping[type[Schema], dict[str, Any]] = {
    providers.PageOfProviders: {"providers": [_ITEM], "total": 456, "limit": 20, "offset": 0},
    providers.ProviderProfile: {
        "user_id": PROVIDER,
        "display_name": "CryptoKing_42",
        **_WORDS,
        "stats": {
            "total_signals": 1247,
            "win_count": 840,
            "loss_count": 407,
            "win_rate": 0.6734,
            "avg_return": 0.0423,
            "total_return": 2.45,
            "sharpe_ratio": 1.82,
            "max_drawdown": 0.15,
            "current_streak": 14,
            "longest_streak": 28,
            "follower_count": 12400,
            "signal_likes_total": 45600,
        },
        "is_verified": True,
        "verification_level": "pro",
        "verified_at": "2024-06-15T00:00:00.000Z",
        "recent_signals": [CRYPTO],
        "is_following": False,
        "created_at": "2023-01-01T00:00:00.000Z",
    },
    providers.NewProvider: {
        "display_name": "MyTradingName",
        "bio": "Experienced trader.",
        "strategy_description": "I specialize in momentum.",
        "risk_level": "moderate",
    },
    providers.ProviderChange: {"display_name": "MyTradingName", **_WORDS},
    follows.NewFollow: {"notify_on_signal": True},
    follows.FollowChange: {"notify_on_signal": False},
    follows.Followed: {"following": True, "provider_id": PROVIDER, "notify_on_signal": True, "followed_at": _AT},
    follows.Unfollowed: {"following": False, "provider_id": PROVIDER},
    follows.Following: {
        "following": [
            {
                "provider": {
                    "user_id": PROVIDER,
                    "display_name": "CryptoKing_42",
                    "avatar_url": _AVATAR,
                    "win_rate": 0.67,
                    "follower_count": 12400,
                },
                "notify_on_signal": True,
                "followed_at": "2025-01-15T10:00:00.000Z",
            }
        ],
        "total": 5,
    },
    social.Feed: {
        "signals": [
            {
                "signal_id": SIGNAL,
                "provider": KING,
                "symbol": "ETH/USD",
                "action": "BUY",
                "opportunity_score": 87,
                "commentary": "Strong setup here.",
                "reactions": {"like": 42, "fire": 15},
                "comment_count": 12,
                "created_at": _AT,
            }
        ],
        "total": 50,
        "limit": 20,
        "offset": 0,
    },
    social.Reaction: {"reaction_type": "fire"},
    social.Reacted: {"reaction_type": "fire", "reactions": {"like": 42, "fire": 16}},
    social.NewComment: {"content": "Great call! I'm in.", "parent_id": None},
    social.CommentText: {"content": "Great call! I was in."},
    social.Comment: _COMMENT,
    social.PageOfComments: {
        "comments": [
            {
                **_COMMENT,
                "replies": [
                    {
                        "id": SIGNAL,
                        "user": {**_WHO, "display_name": "CryptoKing_42"},
                        "content": "Thanks.",
                        "parent_id": COMMENT,
                        "is_edited": False,
                        "created_at": _AT,
                    }
                ],
            }
        ],
        "total": 2,
        "limit": 50,
        "offset": 0,
    },
    social.CommentDeleted: {"id": COMMENT, "deleted": True},
    leaderboards.Leaderboard: {
        "leaderboard": "followers",
        "period": "all",
        "entries": [
            {
                "rank": 1,
                "provider": {
                    "user_id": PROVIDER,
                    "display_name": "CryptoKing_42",
                    "avatar_url": _AVATAR,
                    "is_verified": True,
                },
                "value": 12400,
                "change": 234,
                "change_period": "week",
            }
        ],
        "updated_at": "2025-02-01T12:00:00.000Z",
        "me": {"rank": 17, "value": 812},
    },
    achievements.AchievementDefinitions: {
        "achievements": [
            {
                "id": "first_win",
                "name": "First Win",
                "description": "Your first profitable signal",
                "category": "trading",
                "icon": "🏆",
                "points": 25,
                "rarity": "common",
            }
        ]
    },
    achievements.MyAchievements: {
        "unlocked": [
            {"achievement_id": "first_win", "unlocked_at": "2025-01-15T10:00:00.000Z"},
            {"achievement_id": "streak_7", "unlocked_at": "2025-01-22T00:00:00.000Z"},
        ],
        "total_points": 75,
        "next_achievements": [{"id": "win_10", "name": "Getting Started", "progress": 7, "target": 10}],
    },
    achievements.MyStreaks: {
        "streaks": [
            {
                "streak_type": "login",
                "current_count": 14,
                "longest_count": 21,
                "last_activity_date": "2025-02-01",
            }
        ]
    },
    referrals.ReferralClusters: {
        "clusters": [
            {
                "referrer_id": USER,
                "address": "203.0.113.7",
                "is_referrers": True,
                "referees": 3,
                "qualified": 2,
                "rewards": 100.00,
                "first_at": "2024-01-10T09:00:00.000Z",
                "last_at": "2024-01-15T10:30:00.000Z",
                "referee_ids": [USER],
            }
        ],
        "total": 1,
        "limit": 50,
        "offset": 0,
    },
    referrals.Dashboard: {
        "referral_code": "KING42",
        "referral_url": "https://tradestream.io/join/KING42",
        "tier": {"id": "silver", "name": "Silver", "referrer_reward": 50.00, "referee_reward": 25.00},
        "stats": {
            "total_referrals": 7,
            "qualified_referrals": 5,
            "pending_referrals": 2,
            "total_earned": 250.00,
            "pending_earnings": 100.00,
        },
        "next_tier": {"id": "gold", "name": "Gold", "referrals_needed": 5, "referrer_reward": 75.00},
        "referrals": [
            {
                "referee_name": "Trader***",
                "status": "qualified",
                "reward_amount": 50.00,
                "created_at": "2025-01-20T10:00:00.000Z",
                "qualified_at": "2025-01-21T14:30:00.000Z",
            }
        ],
    },
    referrals.CodeChoice: {"code": "CRYPTOKING"},
    referrals.CodeInForce: {
        "referral_code": "CRYPTOKING",
        "referral_url": "https://tradestream.io/join/CRYPTOKING",
    },
}
