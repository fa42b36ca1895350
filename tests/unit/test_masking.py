"""Secrets are found by value, in whatever form an error or a log line has them."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from actors.lens._results import StageFailure, cause
from actors.lens.market._http import CallFailed
from actors.lens.models._failures import ModelFailure, refused
from config import clock, masking
from config.log import configure_logging
from config.masking import redact
from config.settings import Settings
from db._migrate import MigrationError
from handlers._http.errors import error_body
from schemas.errors import ActorUnavailable
from server.mail.senders import NotSent

PLAIN = "sk-live-Zk3vQ9wLr8Tn5Xb2"
ODD = "sk-live_a'b\"c\\d é/ü+x y"
PASSWORD = "p@ss:w0rd/Zk3vQ9"


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mask the secrets of this module only."""
    for name, value in (("_protected", set()), ("_forms", set()), ("_pattern", None)):
        monkeypatch.setattr(masking, name, value)
    Settings.load(env_file=None).replace(
        openai_api_key=PLAIN, google_api_key=ODD, database_url=f"postgresql://me:{quote(PASSWORD, safe='')}@db/x"
    )


FORMS: list[Callable[[str], str]] = [
    str,
    repr,
    lambda secret: repr(repr(secret)),
    lambda secret: repr(ValueError(f"Illegal header value {secret!r}")),
    lambda secret: repr(secret.encode()),
    json.dumps,
    lambda secret: json.dumps({"error": {"message": json.dumps({"key": secret})}}),
    lambda secret: json.dumps(secret, ensure_ascii=False),
    quote,
    lambda secret: f"https://api.example.com/v1?key={quote(secret, safe='')}&alt=json",
    quote_plus,
    lambda secret: re.sub("%..", lambda code: code[0].lower(), quote(secret, safe="")),
    lambda secret: secret.encode().hex(),
]


@pytest.mark.parametrize("secret", [PLAIN, ODD, PASSWORD])
@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_found_in_every_form(secret: str, form: Callable[[str], str]) -> None:
    """The kind: a mask that compares the secret as it was given with a text that holds it escaped or quoted."""
    text = f"before {form(secret)} after"
    masked = redact(text)
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    assert form(secret).strip("'\"") not in masked
    assert secret[-6:] not in masked
    assert "***" in masked


@pytest.mark.parametrize("secret", [PLAIN, ODD, PASSWORD])
@pytest.mark.parametrize("user", ["", "a", "ab", "abc"])
def test_a_secret_is_found_in_basic_credentials(secret: str, user: str) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        encoded = encode(f"{user}:{secret}".encode()).decode()
        assert redact(f"x-auth: {encoded}") != f"x-auth: {encoded}"
        assert encoded[-14:-4] not in redact(encoded)
        assert redact(f"Authorization: Basic {encoded}") == "Authorization: Basic ***"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("GET /x?next=%2Fy%3Faccess_token%3Dabc", "GET /x?next=%2Fy%3Faccess_token%3D***"),
        ('{"access_token": "eyJ.a.b"}', '{"access_token": "***"}'),
        ("{'refresh_token': 'abc'}", "{'refresh_token': '***'}"),
        (r'{"body":"{\"id_token\":\"abc\"}"}', r'{"body":"{\"id_token\":\"***\"}"}'),
        ("redis://:s3cr3t@cache:6379/0", "redis://:***@cache:6379/0"),
        ("mongodb://me:s3cr3t@a,b/x is away", "mongodb://me:***@a,b/x is away"),
        ("postgresql://me@db/x", "postgresql://me@db/x"),
    ],
)
def test_text_with_a_secret_of_anybodys_is_masked_by_its_shape(text: str, masked: str) -> None:
    assert redact(text) == masked


@pytest.mark.parametrize("password", ["tradestream", "postgres", "short"])
def test_a_password_that_is_a_word_does_not_take_the_word_out_of_every_text(password: str) -> None:
    Settings.load(env_file=None).replace(database_url=f"postgresql://me:{password}@db/x")
    assert (
        redact(f"{password}.access: postgresql://me:{password}@db/x") == f"{password}.access: postgresql://me:***@db/x"
    )


def test_the_text_of_every_failure_that_is_stored_or_sent_is_masked() -> None:
    """The kind: each place where an error's text leaves the process masks it by itself, or forgets to."""
    text = f"Illegal header value {(ODD + chr(10))!r}"
    letters = [
        ModelFailure("NETWORK_ERROR", text).message,
        str(refused("OpenAI", 401, {"error": {"message": "x" * 280 + PLAIN}})),  # which cuts its text after 300
        StageFailure("INTERNAL_ERROR", text).message,
        str(StageFailure("INTERNAL_ERROR", text)),
        json.dumps(cause(StageFailure("INTERNAL_ERROR", text), clock.now())),
        CallFailed("NETWORK_ERROR", text).message,
        str(NotSent(text)),
        str(MigrationError(f"dbmate failed on postgres://me:{quote(PASSWORD, safe='')}@db/x")),
        json.dumps(error_body(ActorUnavailable(text), "r")),
    ]
    for each in letters:
        assert "***" in each
        assert not any(part in each for part in ("sk-live", "Zk3vQ9"))


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_log_line_has_a_secret_wherever_in_the_record_it_is(form: str) -> None:
    logger, stream = logging.getLogger(), io.StringIO()
    before = logger.handlers[:], logger.level
    try:
        configure_logging("INFO", form, stream=stream)
        try:
            raise ValueError(f"Illegal header value {ODD!r}")
        except ValueError:
            logging.getLogger("a").exception("with %s", {"key": PLAIN}, extra={"url": f"https://x/?key={PLAIN}"})
    finally:
        logger.handlers[:] = before[0]
        logger.setLevel(before[1])
        logging.captureWarnings(False)
    said = stream.getvalue()
    assert said.count("***") >= 2
    assert "sk-live" not in said
    if form == "json":
        assert json.loads(said)["url"] == "https://x/?key=***"
