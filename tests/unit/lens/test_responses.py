"""A response that is no JSON is described in words."""

from __future__ import annotations

import orjson
import pytest

from actors.lens._responses import unreadable

WHOLE = orjson.dumps({"a": [1.25, True, None, "é\n"], "b": {"c": -1}})


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"<html>", "text/html; charset=utf-8", "text/html instead of JSON"),
        (b"<html>", "TEXT/HTML", "text/html instead of JSON"),
        (b"<html>", "text/h\x07tml" + "l" * 100, "text/html" + "l" * 51 + " instead of JSON"),
        (b"<html>", "application/json", "what is not JSON (6 bytes)"),
        (b"<html>", "", "what is not JSON (6 bytes)"),
        (b"", "text/html", "an empty body"),
        (b" \n", "application/json", "an empty body"),
        (b'{"a": NaN}', "application/json", "what is not JSON (10 bytes)"),
        (b'{"a": 1}}', "application/json", "what is not JSON (9 bytes)"),
        (b'{"a": "\xff"}', "application/problem+json", "what is not JSON (10 bytes)"),
    ],
)
def test_a_body_is_named_by_what_it_is(body: bytes, content_type: str, expected: str) -> None:
    with pytest.raises(orjson.JSONDecodeError) as refused:
        orjson.loads(body)
    assert unreadable(body, content_type, refused.value) == expected


def test_json_that_ends_anywhere_before_its_end_is_cut_off() -> None:
    for end in range(1, len(WHOLE)):
        cut = WHOLE[:end]
        with pytest.raises(orjson.JSONDecodeError) as refused:
            orjson.loads(cut)
        expected = "JSON that is cut off" if cut.decode(errors="ignore").encode() == cut else "what is not JSON"
        assert unreadable(cut, "application/json", refused.value).startswith(expected), cut
