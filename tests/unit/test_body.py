"""JSON bodies: strict where parsers differ, exact where numbers are money."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.httputil import HTTPHeaders

from handlers._http.body import BODY_BYTES, check_body_headers, declared_bytes, has_body, parse_json
from handlers._http.json import encode
from schemas._json import parse_object
from schemas.errors import PayloadTooLarge, UnsupportedMediaType, ValidationFailed


def test_numbers_keep_all_their_digits_in_and_out() -> None:
    text = b'{"price":0.1234567890123456789,"size":42000.50,"count":9007199254740993}'
    document = parse_json(text)
    assert document["price"] == Decimal("0.1234567890123456789")
    assert encode(document) == text


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{", "not valid JSON"),
        (b'{"a": 1,}', "not valid JSON"),
        (b"{'a': 1}", "not valid JSON"),
        (b'{"a": 1} x', "not valid JSON"),
        (b'{"a": NaN}', "NaN is not a number"),
        (b'{"a": Infinity}', "Infinity is not a number"),
        (b'{"a": -Infinity}', "-Infinity is not a number"),
        (b'{"a": 01}', "not valid JSON"),
        (b'{"a": "\xff"}', "not valid UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "not valid UTF-8"),
        (b'\xef\xbb\xbf{"a": 1}', "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b'"text"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b"[" * 60_000, "nested too deeply"),
        (b'{"a":' * 10_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "too long"),
        (b'{"a": "\\u0000"}', "NUL"),
        (b'{"\\u0000": 1}', "NUL"),
        (b'{"a": ["\\ud800"]}', "surrogate"),
        (b'{"a": {"b": "\\uDFFF"}}', "surrogate"),
    ],
)
def test_a_body_that_is_no_json_object_says_why(body: bytes, message: str) -> None:
    with pytest.raises(ValidationFailed, match=message):
        parse_json(body)


def test_a_surrogate_pair_is_one_character() -> None:
    assert parse_json(b'{"a": "\\ud83d\\ude80"}') == {"a": "🚀"}


@pytest.mark.parametrize("body", [b'{"a": 1, "a": 1}', b'{"x": {"a": 1, "b": 2, "a": 3}}'])
def test_a_key_given_twice_is_refused_by_name(body: bytes) -> None:
    with pytest.raises(ValidationFailed) as caught:
        parse_json(body)
    assert [(each.field, each.message) for each in caught.value.details] == [("a", "is given more than once")]


@given(st.binary(max_size=300))
def test_any_bytes_are_an_object_or_a_validation_error(body: bytes) -> None:
    try:
        assert isinstance(parse_json(body), dict)
    except ValidationFailed:
        pass


@pytest.mark.parametrize(
    "content_type",
    [
        *("application/json", "Application/JSON", "application/json; charset=utf-8", "application/json;"),
        *('application/json;charset="UTF-8"', 'application/json; charset="utf8"'),
        *("application/json; charset=utf8", "application/json;charset=UTF8", "application/json; charset = utf-8 ;"),
        *("application/json; odata=verbose", "application/json; profile=x; charset=utf8", " application/json ;"),
    ],
)
def test_json_is_accepted_however_it_is_spelled(content_type: str) -> None:
    check_body_headers(HTTPHeaders({"Content-Type": content_type, "Content-Length": str(BODY_BYTES)}))


@pytest.mark.parametrize(
    "content_type",
    [
        *("", "text/plain", "application/jsonp", "application/json; charset=latin-1", "text/json"),
        *("application/json, x/y", "application/json; charset=utf-16", "application/json; charset=", ";charset=utf8"),
        *("application/json x", "application/json;charset=utf8,text/plain"),
        "application/json; charset=utf-8; charset=latin-1",
    ],
)
def test_other_content_types_are_refused(content_type: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        check_body_headers(HTTPHeaders({"Content-Type": content_type}))


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "identity, gzip", "x"])
def test_a_compressed_body_is_refused(coding: str) -> None:
    with pytest.raises(UnsupportedMediaType) as caught:
        check_body_headers(HTTPHeaders({"Content-Type": "application/json", "Content-Encoding": coding}))
    assert caught.value.headers == {"Accept-Encoding": "identity"}


@pytest.mark.parametrize("coding", ["identity", "Identity", " identity ", "identity, identity", ""])
def test_a_body_that_is_said_not_to_be_compressed_is_read(coding: str) -> None:
    """The kind: a header that spells out the default, taken for something else."""
    headers = HTTPHeaders({"Content-Type": "application/json"})
    headers["Content-Encoding"] = coding
    check_body_headers(headers)


def test_the_type_is_judged_before_the_size() -> None:
    too_large = str(BODY_BYTES + 1)
    with pytest.raises(UnsupportedMediaType):
        check_body_headers(HTTPHeaders({"Content-Type": "text/plain", "Content-Length": too_large}))
    with pytest.raises(PayloadTooLarge):
        check_body_headers(HTTPHeaders({"Content-Type": "application/json", "Content-Length": too_large}))


def test_a_body_announces_itself() -> None:
    assert not has_body(HTTPHeaders())
    assert not has_body(HTTPHeaders({"Content-Length": "0"}))
    assert has_body(HTTPHeaders({"Content-Length": "1"}))
    assert has_body(HTTPHeaders({"Transfer-Encoding": "chunked"}))
    assert declared_bytes(HTTPHeaders({"Content-Length": "12"})) == 12
    assert declared_bytes(HTTPHeaders({"Content-Length": "twelve"})) is None
    assert declared_bytes(HTTPHeaders({"Transfer-Encoding": "chunked"})) is None


@pytest.mark.parametrize(
    ("text", "is_taken"),
    [
        ('{"a":' * 500 + "1" + "}" * 500, True),
        ('{"a":' * 501 + "1" + "}" * 501, False),
        ('{"a":' + "[" * 500 + "]" * 500 + "}", False),
        ('{"a":"' + "[" * 5000 + '"}', True),  # a text is no nesting
        ('{"a":"\\"' + "{" * 5000 + '"}', True),
        ('{"a":[' + "[]," * 5000 + "[]]}", True),
    ],
)
def test_json_is_read_to_the_same_depth_by_every_python(text: str, is_taken: bool) -> None:
    """The kind: a bound that the interpreter sets, which another version sets elsewhere."""
    if is_taken:
        assert "a" in parse_object(text.encode(), "Message")
    else:
        with pytest.raises(ValidationFailed, match="nested too deeply"):
            parse_object(text.encode(), "Message")
