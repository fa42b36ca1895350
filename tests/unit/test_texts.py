"""Texts from outside are stored and sent with characters escaped that Postgres or UTF-8 cannot hold."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.lens._results import StageFailure
from actors.lens.market._http import CallFailed
from actors.lens.models._failures import ModelFailure
from config.texts import escape_unstorable
from handlers._http.errors import error_body
from schemas.errors import ActorUnavailable, AppError
from server.mail.senders import NotSent

ODD = "nothing \0 there, half \ud800 of a pair"
ESCAPED = "nothing \\u0000 there, half \\ud800 of a pair"


def error_message(error: AppError) -> str:
    """Return the message of a response, which is encoded by a library that refuses a lone surrogate."""
    message: str = orjson.loads(orjson.dumps(error_body(error, "r")))["error"]["message"]
    return message


def test_nul_and_lone_surrogates_are_escaped_and_all_else_stays() -> None:
    assert escape_unstorable(ODD) == ESCAPED
    assert escape_unstorable("as it is: é € 🏴") == "as it is: é € 🏴"


@given(st.text(st.characters(exclude_categories=()), max_size=50))
def test_an_escaped_text_can_be_encoded_whatever_it_was(text: str) -> None:
    assert "\0" not in escape_unstorable(text).encode().decode()


@pytest.mark.parametrize(
    "text",
    [
        StageFailure("INTERNAL_ERROR", ODD).message,
        CallFailed("PROVIDER_ERROR", ODD).message,
        ModelFailure("PROVIDER_ERROR", ODD).message,
        str(NotSent(ODD)),
        error_message(ActorUnavailable(ODD)),
    ],
)
def test_errors_that_are_stored_or_sent_have_escaped_texts(text: str) -> None:
    """The kind: a vendor's error, which JSON can spell and neither UTF-8 nor Postgres can hold."""
    assert text == ESCAPED
