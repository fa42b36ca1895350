"""Every parser of outside input raises only the project's own errors.

The kind of fault: a value that is well-formed to the first reader and impossible to the second. `{"type": []}` is JSON
and no key of a table; `1e1000000000000000000` is a number and has no Decimal; `[` five thousand times is a text and no
stack is deep enough for it. Each parser of outside data stands in WAYS with a message that it takes and the exceptions
that are its answers; each is given the whole corpus in the place of each of the message's values, and then more of the
same kind by chance, for as long as `tests.fuzz.budget` says.
"""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any
from urllib.parse import quote_plus

import jwt
import orjson
import pytest
from tornado.httputil import HTTPHeaders, parse_qs_bytes

from actors.ingest.received import Received, read
from actors.lens._edits import edit_signal, new_submission, scored_message
from actors.lens._responses import retry_after_seconds
from actors.lens.market._hyperliquid_answers import Contexts, Mids, candles_of, minutes_of, order_book_of, touch_of
from actors.lens.market._hyperliquid_coins import Coins
from actors.lens.market.quotes import complete_minutes
from actors.lens.messages import Scored
from actors.lens.models._failures import refused, retry_after
from config.ids import parse_uuid, uuid7
from config.settings import Settings
from db.ingest import LostMessage
from db.lens.retries import OpenDeadLetter, RetriedEvent
from handlers._http.access import AUDIENCE, ISSUER, Gatekeeper
from handlers._http.base import known_id
from handlers._http.body import check_body_headers, parse_json
from handlers._http.endpoint import endpoint_of, load_body, load_query
from handlers._http.errors import error_body
from handlers._http.json import encode
from handlers.auth._oauth import ProviderFailed, States, github_user, openid_user
from handlers.streams.connections import EVENT_ID
from handlers.streams.records import SessionRecord
from handlers.streams.resume import Resumer
from schemas._fields import component_name
from schemas._json import parse_texts
from schemas._symbols import CATEGORY_OF, normalise_symbol
from schemas.decisions import load_decision, problem_text
from schemas.errors import AppError, ValidationFailed
from schemas.examples import EXAMPLES
from schemas.feed import FeedDecision, FeedSignal, decode_batch, decode_decisions, encode_batch, encode_decisions
from schemas.ingest import load_scored
from schemas.stream import SignalFilter, SocketProblem, parse_command
from server.routes import routes_for
from tests.fuzz.budget import SHORT_SECONDS, fuzz_seconds, rounds
from tests.fuzz.outside import DOCUMENTS, FRAGMENTS, TEXTS, mangled, spoil_at_random, spoiled, text_of_chance
from tests.peers.model_apis import GOOD, GOOD_EXIT
from tests.unit.lens.test_hyperliquid_answers import BOOK, CONTEXTS, NOW_MS, hours

SETTINGS = Settings.load(None)
ROUTES = routes_for(SETTINGS)
NEVER: tuple[type[Exception], ...] = ()
SLOW_SECONDS = 0.3  # of the processor's time, for one message; all of the corpus is below 64 KiB
TURNS = 4 if fuzz_seconds() <= SHORT_SECONDS else 1
SCORED = {
    "id": "abc123",
    "asset_type": "option",
    "asset_category": "equities",
    "symbol": "AAPL 195C 3/15",
    "price": 4.2,
    "action": "buy",
    "score": 84,
    "confidence": 0.8,
    "reasoning": "Unusual call volume.",
    "provider": {"id": "options-flow", "name": "OptionsFlow", "win_rate": 71},
    "provider_id": "options-flow",
    "asset_data": {"underlying": "AAPL", "strike": 195.0, "option_type": "call", "expiry": "2026-03-15"},
    "created_at": "2026-02-15T12:34:56Z",
}
SUBMISSION = {
    "event_type": "OPEN_SIGNAL",
    "symbol": "AAPL 195C 3/15",
    "signal_direction": "long",
    "entry_price": 4.2,
    "size": 1,
    "liquidation_price": 2.1,
    "ts_utc": "2024-01-15T10:30:00Z",
    "source": "strategy_alpha",
    "asset_type": "option",
    "asset_data": SCORED["asset_data"],
    "commentary": "Strong.",
}


@dataclass(frozen=True)
class Way:
    """A parser of outside input. `parse` takes the bytes; `refusals` are the exceptions by which it refuses."""

    parse: Callable[[bytes], Any]
    message: Any  # a valid message as JSON; None for a parser of texts
    refusals: tuple[type[Exception], ...] = (AppError,)


def _bodies() -> Iterator[tuple[str, Way]]:
    for route in ROUTES:
        declared = endpoint_of(getattr(route.handler, route.method.lower()))
        assert declared is not None
        if declared.body is not None:
            message = (
                SUBMISSION if route.name == "POST /api/v1/signals" else EXAMPLES[component_name(type(declared.body))]
            )
            yield f"body of {route.name}", Way(partial(load_body, declared.body), message)


def _queries() -> Iterator[tuple[str, Way]]:
    for route in ROUTES:
        declared = endpoint_of(getattr(route.handler, route.method.lower()))
        assert declared is not None
        if declared.query is not None:
            yield f"query of {route.name}", Way(partial(_load_query, declared.query), None)


def _load_query(schema: Any, data: bytes) -> None:
    for name, field in schema.load_fields.items():
        key = field.data_key or name
        # Escaped and as it is, alone and twice.
        for text in (quote_plus(data).encode(), data.replace(b"&", b"%26")):
            arguments = parse_qs_bytes(key.encode() + b"=" + text, keep_blank_values=True)
            _told(partial(load_query, schema, arguments))
        _told(partial(load_query, schema, {key: [data, data]}))


def _told(parse: Callable[[], Any]) -> None:
    """Refuse as a request's handler does: the error can be sent, and names the field."""
    try:
        parse()
    except AppError as error:
        _check_error(error)


def _model_answer(event_type: str, data: bytes) -> None:
    try:
        loaded = load_decision(data.decode("utf-8", "surrogatepass"), event_type)
    except UnicodeDecodeError:
        return
    except ValidationFailed as error:
        problem_text(error).encode()
        raise
    orjson.dumps(loaded)


def _ingest(data: bytes) -> None:
    for message in (Received.by_redis(data), Received.by_kafka(data, "topic-0-1", 1 << 45)):
        outcome = read(message)
        assert isinstance(outcome, Scored | LostMessage)
        if isinstance(outcome, LostMessage):
            orjson.loads(outcome.payload)
            for attempt in outcome.attempts:
                assert attempt["reason_code"] == "VALIDATION_ERROR", attempt
                assert "\0" not in attempt["error_message"]
                orjson.dumps(attempt)
        else:
            encode({name: getattr(outcome, name) for name in type(outcome).__struct_fields__})


EVENT = RetriedEvent(
    event_id=uuid7(),
    status="FAILED",
    stage="DEAD_LETTER",
    is_open=True,
    asked=None,
    announced=None,
    has_document=True,
    models=["claude"],
    edited=None,
    event_type="OPEN_SIGNAL",
    symbol="AAPL 195C 3/15",
    signal_direction="long",
    entry_price=Decimal("4.2"),
    size=Decimal(1),
    liquidation_price=None,
    ts_utc=datetime(2024, 1, 15, tzinfo=UTC),
    source="strategy_alpha",
    asset_type="option",
    asset_data=orjson.dumps(SCORED["asset_data"]).decode(),
    commentary=None,
    order_type="limit",
    take_profit="[4.5, 5.000000000000000001]",
    stop_loss=Decimal(0),
    valid_until=datetime(2024, 1, 16, tzinfo=UTC),
    close_fraction=None,
)


def _dead_letter(payload: str, way: str | None = None) -> OpenDeadLetter:
    return OpenDeadLetter(uuid7(), EVENT.event_id, "enrich", None, 0, False, None, payload, None, way)


def _edit(data: bytes) -> None:
    """Parse a retry's edit: its body, for a dead letter of an event and of a message that never became one."""
    declared = endpoint_of(next(each.handler for each in ROUTES if each.template.endswith("/{dlq_id}/retry")).post)
    assert declared is not None
    assert declared.body is not None
    patch = load_body(declared.body, b'{"payload": ' + data + b"}")["payload"] or {}
    shown = orjson.dumps(SUBMISSION).decode()
    for edit in (
        lambda: edit_signal(EVENT, _dead_letter(shown), patch),
        lambda: new_submission(_dead_letter(shown), patch),
        lambda: scored_message(_dead_letter(orjson.dumps(SCORED).decode(), "redis"), patch),
    ):
        _told(edit)


def _stored_payload(data: bytes) -> None:
    """Store a payload that was no signal, as ingest does, and read it as a retry does."""
    outcome = read(Received.by_redis(data))
    if isinstance(outcome, LostMessage):
        _told(lambda: scored_message(_dead_letter(outcome.payload, "redis"), None))
        _told(lambda: scored_message(_dead_letter(outcome.payload, "redis"), {"score": 1}))
        _told(lambda: new_submission(_dead_letter(outcome.payload), None))


def _mids(data: bytes) -> None:
    document = orjson.loads(data)
    mids = Mids(document, NOW_MS)
    coins = Coins()
    coins.learn(mids.names)
    for name in mids.names[:50]:
        coins.find(name)
        try:
            mids.quote(name)
        except ValueError:
            continue


def _contexts(data: bytes) -> None:
    contexts = Contexts(orjson.loads(data))
    for coin in ("BTC", "kPEPE", "ETH"):
        try:
            contexts.context(coin)
        except ValueError:
            continue


def _claims(data: bytes) -> None:
    """Sign any claims and header validly, and read the token."""
    keeper = Gatekeeper(SETTINGS)
    now = int(time.time())
    payload = {"sub": "x", "jti": "y", "sid": "z", "iat": now, "exp": now + 60, "iss": ISSUER, "aud": AUDIENCE}
    for name in (*payload, "email", "permissions", "is_demo"):
        whole = b"{" + b",".join(
            orjson.dumps(each) + b":" + (data if each == name else orjson.dumps(value))
            for each, value in {name: None, **payload}.items()
        )
        token = jwt.api_jws.encode(whole + b"}", SETTINGS.jwt_secret, SETTINGS.jwt_algorithm)
        _told(lambda token=token: keeper.read_token(token))  # type: ignore[misc]


def _token(data: bytes) -> None:
    keeper = Gatekeeper(SETTINGS)
    part = base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    good = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=").decode()
    text = data.decode("latin-1")
    for token in (text, f"{text}.{text}.{text}", f"{part}.e30.AAAA", f"{good}.{part}.AAAA", f"{part}.{part}.{part}"):
        _told(lambda token=token: keeper.read_token(token))  # type: ignore[misc]


def _text(parse: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """Pass the bytes to a parser of texts: as UTF-8 if they are, and else as HTTP headers arrive."""

    def parse_both(data: bytes) -> None:
        for encoding in ("utf-8", "latin-1"):
            try:
                text = data.decode(encoding)
            except UnicodeDecodeError:
                continue
            _told(lambda text=text: parse(text))  # type: ignore[misc]

    return parse_both


def _symbol(text: str) -> None:
    for asset_type in CATEGORY_OF:
        try:
            stored = normalise_symbol(text, asset_type)
        except ValueError:
            continue
        stored.encode()


def _uuid(text: str) -> None:
    found = parse_uuid(text)
    assert found is None or str(found) == text.lower(), "what is no UUID in its canonical form is none"


def _wire(decode: Callable[[bytes], list[Any]], filters: Callable[[Any], Any], data: bytes) -> None:
    for item in decode(data):
        hash(item)
        filters(item)


def _record(data: bytes) -> None:
    record = SessionRecord.decode(data)
    assert isinstance(record.owner, str)
    hash(record.filter)
    record.filter.predicate()
    record.encode()


FEED = encode_batch([FeedSignal(1, "crypto", "crypto", 87, str(uuid7()), b"{}"), FeedSignal(2, "a", "b", 1, "c", b"")])
DECISIONS = encode_decisions([FeedDecision("claude", "BTC", "OPEN_SIGNAL", b"{}")])
SESSION = b'3 7 ["user",{"categories":["crypto"],"min_score":80,"provider_ids":["x"]}]\n\x01\x02'
WANTED = SignalFilter(("crypto",), ("crypto",), 50, ("x",)).predicate()
UNREADABLE = (ValueError,)  # of JsonApi and of HyperliquidMarketData: a failure that is the provider's

WAYS: dict[str, Way] = {
    **dict(_bodies()),
    **dict(_queries()),
    "id in a path": Way(_text(lambda text: known_id(text, "Event")), None),
    "UUID": Way(_text(_uuid), None, NEVER),
    "symbol": Way(_text(_symbol), None, NEVER),
    "Last-Event-ID": Way(_text(Resumer.parse), None, NEVER),
    "resumed?": Way(_text(lambda text: EVENT_ID.fullmatch(text)), None, NEVER),
    "X-Forwarded-For": Way(_text(lambda text: Gatekeeper(SETTINGS).locate("127.0.0.1", text)), None, NEVER),
    "Content-Type": Way(_text(lambda text: check_body_headers(HTTPHeaders({"Content-Type": text}))), None),
    "Retry-After of a market": Way(_text(retry_after_seconds), None, NEVER),
    "Retry-After of a model": Way(_text(lambda t: retry_after({"retry-after": t, "retry-after-ms": t})), None, NEVER),
    "state of OAuth": Way(_text(lambda text: States(b"x" * 32).check("google", text, text)), None, NEVER),
    "access token": Way(_token, None),
    "claims": Way(_claims, {"a": 1}),
    "message of a Lens socket": Way(
        lambda data: parse_command(data.decode("utf-8", "replace")),
        {"action": "subscribe", "filters": {"model": "claude", "symbol": ["BTC"], "event_type": "OPEN_SIGNAL"}},
        (SocketProblem,),
    ),
    "binary message of a Lens socket": Way(parse_command, None, (SocketProblem,)),
    "scored signal": Way(_ingest, SCORED, NEVER),
    "scored signal's fields": Way(lambda data: load_scored(parse_json(data)), SCORED),
    "edit of a dead letter": Way(_edit, SUBMISSION),
    "edit of a dead message": Way(_edit, SCORED),
    "payload of a dead letter": Way(_stored_payload, SCORED, NEVER),
    "model's answer to an OPEN": Way(partial(_model_answer, "OPEN_SIGNAL"), GOOD, (ValidationFailed,)),
    "model's answer to a CLOSE": Way(partial(_model_answer, "CLOSE_SIGNAL"), GOOD_EXIT, (ValidationFailed,)),
    "model's refusal": Way(
        lambda data: refused("x", 500, orjson.loads(data)), {"error": {"message": "no", "code": 1}}, UNREADABLE
    ),
    "mids": Way(_mids, {"BTC": "97012.5", "@1": "13.4"}, UNREADABLE),
    "contexts": Way(_contexts, CONTEXTS, UNREADABLE),
    "order book": Way(lambda data: order_book_of(orjson.loads(data), "BTC", NOW_MS), BOOK, UNREADABLE),
    "touch": Way(
        lambda data: (book := order_book_of(orjson.loads(data), "BTC", NOW_MS)) and touch_of(book, "hyperliquid"),
        BOOK,
        UNREADABLE,
    ),
    "minutes": Way(
        lambda data: complete_minutes("crypto", minutes_of(orjson.loads(data), "BTC"), 0, datetime.now(UTC)),
        [{"t": 1771158840000, "s": "BTC", "i": "1m", "o": "1.5", "h": "2", "l": "1", "c": "1.75", "v": "3"}],
        UNREADABLE,
    ),
    "candles": Way(lambda data: candles_of(orjson.loads(data), "BTC", "1h", NOW_MS), hours(3), UNREADABLE),
    "userinfo of OpenID": Way(
        lambda data: encode(vars_of(openid_user("google", orjson.loads(data)))),
        {"sub": "1", "email": "a@example.com", "email_verified": True, "name": "A B", "picture": "https://x.example/p"},
        (ProviderFailed, *UNREADABLE),
    ),
    "user of GitHub": Way(
        lambda data: encode(vars_of(github_user(*both(data)))),
        {"id": 1, "login": "a", "name": "A B", "avatar_url": "https://x.example/p"},
        (ProviderFailed, *UNREADABLE),
    ),
    "e-mails of GitHub": Way(
        lambda data: encode(vars_of(github_user({"id": 1, "login": "abc"}, orjson.loads(data)))),
        [{"email": "a@example.com", "primary": True, "verified": True}],
        (ProviderFailed, *UNREADABLE),
    ),
    "texts on a channel": Way(parse_texts, ["a", "b"], UNREADABLE),
    "feed on a channel": Way(partial(_wire, decode_batch, WANTED), None, UNREADABLE),
    "decisions on a channel": Way(partial(_wire, decode_decisions, lambda item: item.symbol.upper()), None, UNREADABLE),
    "session in Redis": Way(_record, None, UNREADABLE),
}
# Of what reads no JSON: what else each is given, whole and mangled.
SEEDS: Mapping[str, list[bytes]] = {
    "feed on a channel": [FEED, *(b"[" + b"[%s,1,1,1,1,0]" % each + b"]\n" for each in FRAGMENTS[:150])],
    "decisions on a channel": [DECISIONS, *(b'[[%s,"a","b",0]]\n' % each for each in FRAGMENTS[:150])],
    "session in Redis": [
        SESSION,
        *(b'1 2 ["u",%s]\n\x01\x02' % each for each in FRAGMENTS[:150]),
        *(b'1 2 ["u",{"categories":%s}]\n\x01\x02' % each for each in FRAGMENTS[:150]),
        *(b"1 2 [%s,{}]\n\x01\x02" % each for each in FRAGMENTS[:150]),
    ],
    "Last-Event-ID": [b"sess-0123456789abcdef:12"],
    "UUID": [b"550e8400-e29b-41d4-a716-446655440000"],
    "id in a path": [b"550e8400-e29b-41d4-a716-446655440000"],
    "X-Forwarded-For": [b"203.0.113.7, [2001:db8::1]:443, fe80::1%eth0"],
    "access token": [b'{"alg":"HS256","typ":"JWT"}', *(each for each in FRAGMENTS if len(each) < 6_000)],
}


def vars_of(user: Any) -> dict[str, Any]:
    """Return the fields of a dataclass with slots; each is text that can be stored."""
    fields = {name: getattr(user, name) for name in user.__slots__}
    for value in fields.values():
        assert value is None or "\0" not in value.encode().decode()
    return fields


def both(data: bytes) -> tuple[Any, Any]:
    """Return the document twice: as the user, and in place of the list of e-mails."""
    document = orjson.loads(data)
    return document, document


def _check_error(error: AppError) -> None:
    document = error_body(error, "a-request")
    encode(document)
    assert error.status < 500, error
    for each in error.details:
        assert len(each.field) <= 101, "a name is cut"
        assert each.message, each
    if isinstance(error, ValidationFailed):
        is_whole = any(
            what in error.message
            for what in ("not JSON", "not a JSON", "not valid", "is empty", "must be a JSON", "nested")
        )
        assert error.details or is_whole, f"which field is it? {error.message}"


def _try(way: Way, data: bytes) -> None:
    # A single look may hold the garbage of a whole run; what is slow by itself is slow again.
    if _seconds(way, data) >= SLOW_SECONDS:
        assert _seconds(way, data) < SLOW_SECONDS, data[:300]


def _seconds(way: Way, data: bytes) -> float:
    began = time.thread_time()
    try:
        way.parse(data)
    except way.refusals as error:
        if isinstance(error, AppError):
            _check_error(error)
        else:
            str(error).encode()
    except Exception as error:
        error.add_note(f"given {data[:300]!r} ({len(data)} bytes)")
        raise
    return time.thread_time() - began


@pytest.mark.parametrize("name", WAYS)
def test_the_whole_corpus_meets_no_exception_but_ours(name: str) -> None:
    way = WAYS[name]
    if way.message is not None:
        way.parse(orjson.dumps(way.message))
        inputs: Iterator[bytes] = iter([*DOCUMENTS, *spoiled(way.message, TURNS)])
    else:
        inputs = iter([*SEEDS.get(name, []), *(each.encode("utf-8", "surrogatepass") for each in TEXTS), *DOCUMENTS])
    for data in inputs:
        _try(way, data)


def test_random_faults_raise_no_exception_but_ours() -> None:
    names = list(WAYS)
    for said, chance in rounds():
        name = chance.choice(names)
        data = _by_chance(chance, name, WAYS[name])
        try:
            _try(WAYS[name], data)
        except BaseException as error:
            error.add_note(f"{said}, {name}")
            raise


def _by_chance(chance: random.Random, name: str, way: Way) -> bytes:
    if way.message is not None:
        return spoil_at_random(chance, way.message)
    if name in SEEDS and chance.random() < 0.6:
        return mangled(chance, chance.choice(SEEDS[name]))
    return text_of_chance(chance).encode("utf-8", "surrogatepass")


def test_a_lens_sockets_message_of_the_issue_is_answered() -> None:
    with pytest.raises(SocketProblem) as caught:
        parse_command('{"type": []}')
    assert caught.value.code == "INVALID_MESSAGE"
    with pytest.raises(SocketProblem) as caught:  # a sibling: the action
        parse_command('{"action": {"a": []}}')
    assert caught.value.code == "INVALID_ACTION"


@pytest.mark.parametrize("number", ["1e1000000000000000000", "-1e-99999999999999999999", "0e1000000", "9" * 5_000])
def test_a_number_without_a_value_is_refused_by_its_name_wherever_it_comes_in(number: str) -> None:
    text = orjson.dumps(SUBMISSION).replace(b"195.0", number.encode())
    with pytest.raises(ValidationFailed) as caught:
        load_body(endpoint_of(_route("POST /api/v1/signals").handler.post).body, text)  # type: ignore[union-attr, arg-type]
    assert [each.field for each in caught.value.details] == ["asset_data.strike"]
    lost = read(Received.by_redis(orjson.dumps(SCORED).replace(b"195.0", number.encode())))
    assert isinstance(lost, LostMessage)
    [attempt] = lost.attempts
    assert attempt["reason_code"] == "VALIDATION_ERROR"
    assert attempt["error_message"].startswith("asset_data.strike: ")
    with pytest.raises(ValidationFailed) as caught:
        load_decision(orjson.dumps(GOOD).decode().replace("0.78", number), "OPEN_SIGNAL")
    assert problem_text(caught.value).startswith("confidence: ")


def _route(name: str) -> Any:
    return next(each for each in ROUTES if each.name == name)


def test_every_request_schema_is_a_way_in() -> None:
    assert sum(name.startswith("body of ") for name in WAYS) >= 25
    assert sum(name.startswith("query of ") for name in WAYS) >= 16
