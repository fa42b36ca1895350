"""The database's checks and the schemas' enumerations hold the same values."""

from __future__ import annotations

import re
from collections.abc import Mapping

import asyncpg

from schemas import _vocabulary as words
from schemas._vocabulary import values_of

COLUMNS: Mapping[str, object] = {
    "lens_decisions.decision": words.DecisionKind,
    "lens_dlq.stage": words.DeadLetterStage,
    "lens_dlq.way": words.Broker,
    "lens_events.event_type": words.EventType,
    "lens_events.order_type": words.OrderType,
    "lens_events.signal_direction": words.Direction,
    "lens_progress.stage": words.EventStage,
    "lens_progress.status": words.EventState,
    "mail_outbox.purpose": words.TokenPurpose,
    "one_time_tokens.purpose": ("verification", "reset"),  # an attempt to register again has no link
    "provider_stats.verification_level": words.VerificationLevel,
    "provider_streaks.streak_type": words.ProviderStreakType,
    "providers.risk_level": words.RiskLevel,
    "reactions.reaction_type": words.ReactionType,
    "referrals.status": words.ReferralStatus,
    "referrals.tier": words.ReferralTierId,
    "removed_items.list": words.PreferenceList,
    "open_positions.side": words.Side,
    "signal_outcomes.close_reason": words.CloseReason,
    "signal_outcomes.direction": words.Side,
    "signal_outcomes.status": words.OutcomeStatus,
    "signals.action": words.PublicAction,
    "signals.direction": words.Side,
    "signals.event_type": words.EventType,
    "signals.order_type": words.OrderType,
    "signals.way_in": words.WayIn,
    "user_settings.risk_tolerance": words.RiskLevel,
    "user_settings.theme": words.Theme,
    "user_streaks.streak_type": words.UserStreakType,
}

LIST_CHECKS = """
    SELECT c.conrelid::regclass || '.' || a.attname, pg_get_constraintdef(c.oid)
    FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
    WHERE c.contype = 'c' AND cardinality(c.conkey) = 1
"""


async def test_a_column_with_a_list_of_texts_allows_the_values_of_its_enumeration(database_url: str) -> None:
    conn = await asyncpg.connect(database_url)
    try:
        checks = await conn.fetch(LIST_CHECKS)
    finally:
        await conn.close()
    allowed = {column: tuple(re.findall(r"'([^']*)'::text", definition)) for column, definition in checks}
    lists = {column: values for column, values in allowed.items() if values}
    assert lists == {column: values_of(vocabulary) for column, vocabulary in COLUMNS.items()}
