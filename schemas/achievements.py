"""Schemas of achievements and streaks."""

from __future__ import annotations

from schemas._fields import Nested, Schema, Text, Timestamp, Whole, about


class AchievementDefinition(Schema):
    """An achievement that can be unlocked."""

    id = Text(required=True)
    name = Text(required=True)
    description = Text(required=True)
    category = Text(required=True)
    icon = Text(required=True)
    points = Whole(required=True)
    rarity = Text(required=True)


class AchievementDefinitions(Schema):
    """All achievements, in a fixed order."""

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
    """The unlocked achievements, the first one first; and the next ones, the nearest first."""

    unlocked = Nested(UnlockedAchievement, many=True, required=True)
    total_points = Whole(required=True)
    next_achievements = Nested(NextAchievement, many=True, required=True)


class StreakSchema(Schema):
    """Days, or profitable signals, in a row."""

    streak_type = Text(required=True)
    current_count = Whole(required=True, **about("0 once a day has been left out."))
    longest_count = Whole(required=True)
    last_activity_date = Text(required=True, allow_none=True, **about("In the user's time zone; null: none yet."))


class MyStreaks(Schema):
    """The streaks that the user can have: those of publishing are a provider's."""

    streaks = Nested(StreakSchema, many=True, required=True)
