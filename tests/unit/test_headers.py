"""Our headers are Tornado's: the same answers and refusals after any use."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from tornado.httputil import HTTPHeaders, HTTPInputError

from handlers._http.headers import Headers
from handlers._http.security import HSTS, SECURITY_HEADERS, cors_headers

NAMES = st.sampled_from(["Content-Type", "content-TYPE", "X-Request-ID", "Set-Cookie", "vary", "a" * 70, "A" * 70])
ODD_NAMES = st.text(max_size=4) | st.sampled_from(
    ["", "-", "a b", "a:", "é", "ß-x", "x\n", "x-é", "_a", "a" * 200 + " "]
)
VALUES = st.text(st.characters(max_codepoint=0x17F), max_size=6) | st.sampled_from(
    ["", " ", "a b", " a", "a ", "\t", "é"]
)
STEPS = st.tuples(st.sampled_from(["add", "set", "delete", "lenient"]), NAMES | ODD_NAMES, VALUES)


def outcome(headers: HTTPHeaders, step: tuple[str, str, str]) -> Any:
    """Return a step's answer, or its exception."""
    kind, name, value = step
    try:
        if kind == "add":
            headers.add(name, value)
        elif kind == "lenient":
            headers.add(name, value, _chars_are_bytes=False)
        elif kind == "set":
            headers[name] = value
        else:
            del headers[name]
    except (HTTPInputError, KeyError) as error:
        return type(error), str(error)


def looks(headers: HTTPHeaders, name: str) -> list[Any]:
    """Return every property of the headers."""
    found = [name in headers, headers.get(name), headers.get(name, "x"), headers.get(name, default=1)]
    found += [headers.get_list(name), list(headers.get_all()), list(headers), len(headers), bool(headers)]
    found += [dict(headers.items()), str(headers), None in headers]
    try:
        copied = copy.copy(headers)
    except HTTPInputError as error:  # something that is no header was set, not added
        return [*found, str(error)]
    return [*found, list(copied.get_all()), headers == copied, headers.copy() == copied]


@given(st.lists(STEPS, max_size=12))
@example([("add", "a" * 70, "1"), ("add", "A" * 70, "2"), ("delete", "a" * 70, "")])
@example([("add", "Vary", "1"), ("add", "vary", ""), ("add", "VARY", " ")])
def test_headers_have_the_same_outcome_as_tornados_for_any_use(steps: list[tuple[str, str, str]]) -> None:
    ours, theirs = Headers(), HTTPHeaders()
    for step in steps:
        assert outcome(ours, step) == outcome(theirs, step)
        assert looks(ours, step[1]) == looks(theirs, step[1])
    for name in ("Content-Type", "X-Request-ID", "never"):
        assert looks(ours, name) == looks(theirs, name)


def test_headers_are_named_as_they_are_sent() -> None:
    cors = cors_headers("https://a", ["https://a"])
    ours, theirs = Headers(), HTTPHeaders()
    for fields in (SECURITY_HEADERS, cors, (HSTS,), [("Vary", "Accept")]):
        ours.put(fields)
        for name, value in fields:
            theirs[name] = value
    assert list(ours.get_all()) == list(theirs.get_all())
    assert len(cors) == 3
    ours.add("vary", "Origin")
    assert ours["VARY"] == "Accept,Origin"
    assert ("Vary", "Origin") in SECURITY_HEADERS, "what is put is not changed by what is added"
