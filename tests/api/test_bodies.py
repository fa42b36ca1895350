"""Bad bodies and queries: each is refused with the contract's words, and nothing gets to the actors."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from config._variables import networks
from handlers._http.body import BODY_BYTES, LINGER_BYTES
from tests.api.serving import SETTINGS, SIGNAL, Client, read_response, serving, until

PATH = "/api/v1/signals"
NO_TIME = "must be an RFC 3339 time with an offset, as in 2024-01-15T10:30:00Z"
NO_TICKER = "must be 1-64 letters, digits, '.', '_', ':' or '-', optionally followed by '/QUOTE'"
NO_PAIR = "must be BASE/QUOTE, two three-letter currency codes, as in EUR/USD"
NO_OPTION = "must be UNDERLYING STRIKE(C|P) EXPIRY, as in AAPL 195C 3/15"
NOT_BELOW = "must be below entry_price for a long position"


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in SIGNAL.items() if key != name}


@pytest.mark.parametrize("name", sorted(set(SIGNAL) - {"liquidation_price"}))
async def test_a_required_field_is_missed_by_name(name: str) -> None:
    async with serving() as client:
        response = await client.post(PATH, without(name))
        error = response.problem(400, "VALIDATION_ERROR")
        assert error["message"] == "Invalid request body"
        assert error["details"] == [{"field": name, "message": "is required"}]
        assert response.json["detail"] == f"{name}: is required"


_WRONG_TYPES: list[Any] = [True, [], {}, [1], {"a": 1}]


@pytest.mark.parametrize("name", sorted(SIGNAL))
async def test_each_field_refuses_every_wrong_type(name: str) -> None:
    is_number = isinstance(SIGNAL[name], float)
    wrong = [*_WRONG_TYPES, "12.5" if is_number else 12.5, "" if is_number else 0]
    wrong += [] if name == "liquidation_price" else [None]
    async with serving() as client:
        for value in wrong:
            error = (await client.post(PATH, SIGNAL | {name: value})).problem(400, "VALIDATION_ERROR")
            assert [each["field"] for each in error["details"]] == [name], value


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"entry_price": 0}, "entry_price", "must be greater than 0"),
        ({"entry_price": -1}, "entry_price", "must be greater than 0"),
        ({"size": -0.0}, "size", "must be greater than 0"),
        ({"size": 10**15}, "size", "must be less than 10^15"),
        ({"liquidation_price": 0}, "liquidation_price", "must be greater than 0"),
        ({"liquidation_price": 42000.5}, "liquidation_price", NOT_BELOW),
        ({"liquidation_price": 50000}, "liquidation_price", NOT_BELOW),
        (
            {"signal_direction": "short"},
            "liquidation_price",
            "must be above entry_price for a short position",
        ),
        ({"event_type": "open_signal"}, "event_type", "must be one of: OPEN_SIGNAL, CLOSE_SIGNAL"),
        ({"event_type": "CLOSE_SIGNAL"}, "signal_direction", "must be close_long or close_short with CLOSE_SIGNAL"),
        ({"signal_direction": "close_long"}, "signal_direction", "must be long or short with OPEN_SIGNAL"),
        ({"ts_utc": "2024-01-15T10:30:00"}, "ts_utc", NO_TIME),
        ({"ts_utc": "2024-13-15T10:30:00Z"}, "ts_utc", NO_TIME),
        ({"ts_utc": "0001-01-01T00:00:00+14:00"}, "ts_utc", NO_TIME),
        ({"source": ""}, "source", "must have 1-100 characters"),
        ({"source": " \t "}, "source", "must not be blank"),
        ({"source": "x" * 101}, "source", "must have 1-100 characters"),
        ({"symbol": ""}, "symbol", "must have 1-100 characters"),
        ({"symbol": "BTC$"}, "symbol", NO_TICKER),
        ({"symbol": "X" * 65}, "symbol", NO_TICKER),
        ({"symbol": "EURUSD", "asset_type": "forex"}, "symbol", NO_PAIR),
        ({"symbol": "AAPL", "asset_type": "option"}, "symbol", NO_OPTION),
        ({"asset_type": "bond"}, "asset_type", "must be one of: crypto, stock, option, etf, forex, prediction"),
        ({"commentary": "x" * 501}, "commentary", "must have at most 500 characters"),
        ({"asset_data": []}, "asset_data", "must be an object"),
        ({"asset_data": {"strike": 1}}, "asset_data.strike", "unknown field"),
        ({"asset_data": {"price": "1"}}, "asset_data.price", "must be a number"),
        ({"asset_data": {"price": -1}}, "asset_data.price", "must be at least 0"),
        (
            {"symbol": "AAPL 195C 3/15", "asset_type": "option", "asset_data": {"greeks": {"delta": "x"}}},
            "asset_data.greeks.delta",
            "must be a number",
        ),
        (
            {"symbol": "Fed", "asset_type": "prediction", "asset_data": {"probability": 1.01}},
            "asset_data.probability",
            "must be between 0 and 1",
        ),
        (
            {"symbol": "Fed", "asset_type": "prediction", "asset_data": {"resolution_date": "2026-02-30"}},
            "asset_data.resolution_date",
            "must be a date, as in 2026-03-15",
        ),
        ({"extra": 1}, "extra", "unknown field"),
    ],
)
async def test_errors_of_a_body_name_the_field(changes: dict[str, Any], field: str, message: str) -> None:
    async with serving() as client:
        response = await client.post(PATH, SIGNAL | changes)
        error = response.problem(400, "VALIDATION_ERROR")
        assert error["details"] == [{"field": field, "message": message}]
        assert response.json["detail"] == f"{field}: {message}"


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        # Two fields contradict each other, and a third is wrong in itself.
        ({"signal_direction": "close_long", "size": 0}, ["signal_direction", "size"]),
        ({"liquidation_price": 50000, "ts_utc": "now"}, ["liquidation_price", "ts_utc"]),
        ({"symbol": "a b", "source": "  ", "colour": "red"}, ["colour", "source", "symbol"]),
        ({"asset_type": "forex", "symbol": "BTC", "asset_data": {"x": 1}}, ["asset_data.x", "symbol"]),
        ({"asset_type": "prediction", "asset_data": {"probability": 2}, "size": 0}, ["size", "asset_data.probability"]),
        ({"signal_direction": "close_short", "liquidation_price": 1}, ["liquidation_price", "signal_direction"]),
        # An invalid field is not reported as a contradiction, too.
        ({"entry_price": 0, "liquidation_price": 50000}, ["entry_price"]),
        ({"event_type": "MAYBE", "signal_direction": "close_long"}, ["event_type"]),
        ({"asset_type": "bond", "symbol": "a b", "asset_data": {"x": 1}}, ["asset_type"]),
    ],
)
async def test_errors_of_fields_together_are_listed_with_the_rest(changes: dict[str, Any], fields: list[str]) -> None:
    async with serving() as client:
        error = (await client.post(PATH, SIGNAL | changes)).problem(400, "VALIDATION_ERROR")
        assert {each["field"] for each in error["details"]} == set(fields)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b'{"commentary": "a\\u0000b"}', ["commentary"]),
        (
            b'{"asset_data": {"greeks": {"delta": "\\ud800"}}, "source": "\\udc00x"}',
            ["asset_data.greeks.delta", "source"],
        ),
        (b'{"filters": ["a", "\\u0000"]}', ["filters.1"]),
        (b'{"a": {"b\\u0000": 1}}', ["a.b\\u0000"]),
        (b'{"\\ud83d": {"c": "\\u0000"}}', ["\\ud83d", "\\ud83d.c"]),
        (b'{"\\ud800": 1, "\\ud800": 2}', ["\\ud800"]),
    ],
)
async def test_characters_that_no_text_can_hold_are_an_error_of_the_field(body: bytes, fields: list[str]) -> None:
    async with serving() as client:
        headers = {"Content-Type": "application/json"}
        response = await client.request("POST", PATH, headers=headers, body=body)
        error = response.problem(400, "VALIDATION_ERROR")
        assert [each["field"] for each in error["details"]] == fields
        assert all(each["field"] in response.json["detail"] for each in error["details"])


async def test_all_wrong_parameters_are_listed_at_once() -> None:
    async with serving() as client:
        response = await client.get("/api/v1/events?limit=1&limit=2&offset=-1&symbol=%00&source=%ff&status=LOST")
        details = {each["field"]: each["message"] for each in response.problem(400, "VALIDATION_ERROR")["details"]}
        assert set(details) == {"limit", "offset", "symbol", "source", "status"}
        assert details["limit"] == "is given more than once"


async def test_all_wrong_fields_are_listed_at_once() -> None:
    async with serving() as client:
        body = SIGNAL | {"entry_price": -1, "size": "x", "unknown": 1}
        error = (await client.post(PATH, body)).problem(400, "VALIDATION_ERROR")
        assert {each["field"] for each in error["details"]} == {"entry_price", "size", "unknown"}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"[]", b'{"a":NaN}', b'{"a":1,"a":2}', b"\xff\xfe", b'{"source":"\\ud800"}', b"[" * 50_000],
)
async def test_a_body_that_is_no_json_object_is_400(body: bytes) -> None:
    async with serving() as client:
        headers = {"Content-Type": "application/json"}
        (await client.request("POST", PATH, headers=headers, body=body)).problem(400, "VALIDATION_ERROR")


@pytest.mark.parametrize("number", ["1e400", "1e-400", "1" * 400, "0." + "1" * 400, "-1e999999999", "1E+14.5"])
async def test_absurd_numbers_are_refused_quickly(number: str) -> None:
    text = orjson.dumps(SIGNAL).replace(b"42000.5", number.encode())
    async with serving() as client:
        headers = {"Content-Type": "application/json"}
        (await client.request("POST", PATH, headers=headers, body=text)).problem(400, "VALIDATION_ERROR")


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_another_content_type_is_415(content_type: str) -> None:
    async with serving() as client:
        response = await client.request("POST", PATH, headers={"Content-Type": content_type}, body=orjson.dumps(SIGNAL))
        response.problem(415, "UNSUPPORTED_MEDIA_TYPE")
        response = await client.request("POST", PATH, body=orjson.dumps(SIGNAL))
        response.problem(415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("size", [BODY_BYTES + 1, 1 << 20, LINGER_BYTES])
async def test_a_large_body_is_413_and_the_client_can_read_why(size: int) -> None:
    async with serving() as client:
        headers = {"Content-Type": "application/json"}
        response = await _send_slowly(client, headers | {"Content-Length": str(size)}, b" " * size)
        response.problem(413, "PAYLOAD_TOO_LARGE")
        assert response.headers["Connection"] == "close"


async def test_a_large_body_is_refused_before_it_is_sent() -> None:
    async with serving() as client:
        head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1%b\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(head % (PATH.encode(), b"0" * 15))
        async with asyncio.timeout(2):
            (await read_response(reader)).problem(413, "PAYLOAD_TOO_LARGE")
        writer.close()


async def test_an_endless_body_is_not_read_to_its_end() -> None:
    async with serving() as client:
        head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1%b\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(head % (PATH.encode(), b"0" * 15))
        (await read_response(reader)).problem(413, "PAYLOAD_TOO_LARGE")
        sent = await _pour(writer, 10 * LINGER_BYTES)
        assert LINGER_BYTES <= sent < 10 * LINGER_BYTES


async def test_a_client_that_goes_in_the_middle_of_its_body_leaves_nothing_behind() -> None:
    async with serving() as client:
        head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        _, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(head % PATH.encode())
        lifecycle = client.application.gateway.lifecycle
        await until(lambda: lifecycle.in_flight == 1)
        writer.close()
        await until(lambda: lifecycle.in_flight == 0)


async def test_a_client_that_waits_for_100_continue_is_told_no_instead() -> None:
    async with serving() as client:
        head = b"POST %b HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Type: application/json\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(head % PATH.encode() + b"Content-Length: 100000\r\n\r\n")
        async with asyncio.timeout(2):
            (await read_response(reader)).problem(413, "PAYLOAD_TOO_LARGE")
        writer.close()


async def test_a_chunked_body_is_counted_as_it_comes() -> None:
    async with serving() as client:
        headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
        chunk = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
        response = await _send_slowly(client, headers, chunk * (BODY_BYTES // 0x1000 + 1) + b"0\r\n\r\n")
        response.problem(413, "PAYLOAD_TOO_LARGE")
        small = b"2\r\n{}\r\n0\r\n\r\n"
        (await _send_slowly(client, headers, small)).problem(400, "VALIDATION_ERROR")


async def test_a_body_of_exactly_the_limit_is_read() -> None:
    async with serving() as client:
        body = orjson.dumps({"x": 1}).ljust(BODY_BYTES)
        response = await client.request("POST", PATH, headers={"Content-Type": "application/json"}, body=body)
        response.problem(400, "VALIDATION_ERROR")


async def test_a_refused_request_with_a_body_keeps_its_connection() -> None:
    outside = SETTINGS.replace(internal_networks=networks("192.0.2.0/24"))
    async with serving(outside) as client:
        body = orjson.dumps(SIGNAL)
        head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        for _ in range(3):
            writer.write(head % (PATH.encode(), len(body)))
            await asyncio.sleep(0.01)  # the body comes in a packet of its own
            writer.write(body)
            (await read_response(reader)).problem(403, "FORBIDDEN")
        writer.close()


async def test_the_order_of_refusals_is_method_type_size_syntax_schema() -> None:
    large = b" " * (BODY_BYTES + 1)
    async with serving() as client:
        (await client.request("PUT", PATH, body=large)).problem(405, "METHOD_NOT_ALLOWED")
        (await client.request("POST", PATH, headers={"Content-Type": "text/plain"}, body=large)).problem(
            415, "UNSUPPORTED_MEDIA_TYPE"
        )
        (await client.request("POST", PATH, headers={"Content-Type": "application/json"}, body=large)).problem(
            413, "PAYLOAD_TOO_LARGE"
        )


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_an_idempotency_key_has_its_bounds(key: str) -> None:
    async with serving() as client:
        error = (await client.post(PATH, SIGNAL, X_Idempotency_Key=key)).problem(400, "VALIDATION_ERROR")
        assert error["details"][0]["field"] == "X-Idempotency-Key"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=ten", "limit"),
        ("limit=1e2", "limit"),
        ("limit=", "limit"),
        ("limit=%D9%A3", "limit"),
        ("limit=5&limit=6", "limit"),
        ("offset=-1", "offset"),
        ("offset=99999999999999999999", "offset"),
        ("since=yesterday", "since"),
        ("since=2024-01-15T10:30:00", "since"),
        ("until=2024-01-15", "until"),
        ("status=DONE", "status"),
        ("event_type=OPEN", "event_type"),
        ("symbol=", "symbol"),
        ("symbol=%FF", "symbol"),
        ("source=a%00b", "source"),
    ],
)
async def test_a_bad_query_value_is_400_by_name(query: str, field: str) -> None:
    async with serving() as client:
        error = (await client.get(f"/api/v1/events?{query}")).problem(400, "VALIDATION_ERROR")
        assert error["message"] == "Invalid query parameters"
        assert [each["field"] for each in error["details"]] == [field]


@pytest.mark.parametrize("path", ["/api/v1/events/nonsense", "/api/v1/events/%00/status", "/api/v1/events/a%2Fb"])
async def test_a_malformed_id_is_404_like_an_unknown_one(path: str) -> None:
    async with serving(pool=_NoConnection()) as client:
        (await client.get(path)).problem(404, "NOT_FOUND")


class _NoConnection:
    """A pool whose connections cannot be queried."""

    async def acquire(self) -> object:
        return object()

    async def release(self, _: object) -> None: ...


@pytest.mark.parametrize(
    "data",
    [
        b"GET\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",  # no Host
        b"GET /health HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
        b"POST /api/v1/signals HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v1/signals HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /api/v1/signals HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
    ],
)
async def test_bytes_that_are_no_http_close_the_connection_and_nothing_else(data: bytes) -> None:
    async with serving() as client:
        assert b"HTTP/1.1 2" not in await client.raw(data)
        assert (await client.get("/health")).status == 200


async def _send_slowly(client: Client, headers: dict[str, str], body: bytes) -> Any:
    """Send the whole body before reading, as some clients do: the answer must survive that."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\n" + "".join(f"{n}: {v}\r\n" for n, v in headers.items()) + "\r\n"
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        try:
            writer.write(head.encode())
            for start in range(0, len(body), 1 << 16):
                writer.write(body[start : start + (1 << 16)])
                await writer.drain()
        except ConnectionError:
            pass
        response = await read_response(reader)
        writer.close()
        return response


async def _pour(writer: asyncio.StreamWriter, most: int) -> int:
    """Return how many bytes could be written until the server closed."""
    sent = 0
    try:
        while sent < most:
            writer.write(b" " * (1 << 16))
            await writer.drain()
            sent += 1 << 16
    except ConnectionError:
        pass
    writer.close()
    return sent
