"""Achievements and streaks, as they are shown."""

from __future__ import annotations

from schemas._fields import Nested, Schema, Text, Timestamp, Whole


class AchievementDefinition(Schema):
    """What can be achieved."""

    id = Text(required=True)
    name = Text(required=True)
    description = Text(required=True)
    category = Text(required=True)
    icon = Text(required=True)
    points = Whole(required=True)
    rarity = Text(required=True)


class AchievementDefinitions(Schema):
    """All of them, in a fixed order."""

    achievements = Nested(AchievementDefinition, many=True, required=True)


class UnlockedAchievement(Schema):
    """An achievement that the user has."""

    achievement_id = Text(required=True)
    unlocked_at = Timestamp(required=True)


class NextAchievement(Schema):
    """The nearest achievement of a requirement that the user does not have."""

    id = Text(required=True)
    name = Text(required=True)
    progress = Whole(required=True)
    target = Whole(required=True)


class MyAchievements(Schema):
    """What was unlocked, the first one first; and what comes next, the nearest first."""

    unlocked = Nested(UnlockedAchievement, many=True, required=True)
    total_points = Whole(required=True)
    next_achievements = Nested(NextAchievement, many=True, required=True)


class Streak(Schema):
    """Days, or profitable signals, in a row."""

    streak_type = Text(required=True)
    current_count = Whole(required=True, metadata={"description": "0 once a day has been left out."})
    longest_count = Whole(required=True)
    last_activity_date = Text(
        required=True, allow_none=True, metadata={"description": "In the user's time zone; null: none yet."}
    )


class MyStreaks(Schema):
    """Those that the user can have: the ones of publishing are a provider's."""

    streaks = Nested(Streak, many=True, required=True)
