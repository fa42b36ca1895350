"""The corpus of outside input, and messages with it in the place of each of their values.

`corpus/fragments.txt` are JSON values as text, `corpus/documents.txt` whole messages, `corpus/texts.txt` what is no
JSON at all: ids, parameters, headers, cookies, tokens. A fuzzer's find becomes a line in one of them.
"""

from __future__ import annotations

import ast
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_CORPUS = Path(__file__).parent / "corpus"
_LONG_BYTES = 1_500
_HOLE = "\ue000hole\ue000"
_BITS = [b"\x00", b"\xff", b"\xed\xa0\x80", b'"', b"{", b"[", b"}", b"]", b":", b",", b"\\", b"\\u", b"e", b"-", b"."]


def _lines(name: str) -> list[str]:
    return [line for line in (_CORPUS / name).read_text("utf-8").split("\n") if not line.startswith("#")]


FRAGMENTS: list[bytes] = [
    *(line.encode() for line in _lines("fragments.txt") if line),
    # Fragments that are too long for a line.
    *(sign + b"9" * digits for digits in (16, 40, 310, 4_300, 4_301, 60_000) for sign in (b"", b"-")),
    *(b"0." + b"0" * digits + b"1" for digits in (18, 19, 330, 20_000)),
    b"1" + b"0" * 400 + b"e-400",
    b"1e-" + b"9" * 400,
    b"1e" + b"0" * 400 + b"1",
    *(b"[" * depth + b"]" * depth for depth in (16, 17, 64, 65, 300, 900, 5_000)),
    *(b'{"a":' * depth + b"1" + b"}" * depth for depth in (16, 17, 64, 65, 300, 900, 5_000)),
    *(b'"' + text + b'"' for text in (b"x" * 101, b"x" * 501, b"x" * 2_001, b"x" * 50_000, "é".encode() * 200)),
    b'"' + "\U0001f680".encode() * 200 + b'"',
    b'"a@' + b"a." * 60 + b'com"',
    b"[" + b",".join([b"1"] * 5_000) + b"]",
    b"[" + b",".join([b'"BTC"'] * 5_000) + b"]",
    b"{" + b",".join(b'"k%d":1' % number for number in range(3_000)) + b"}",
]
DOCUMENTS: list[bytes] = [
    *(line.encode() for line in _lines("documents.txt") if line),
    b"",
    b" \n",
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}",
    b"\x00",
    b'{"a": "\xff"}',
    b'{"a": "\xed\xa0\x80"}',
    b"[" * 50_000,
    b'{"a":' * 9_000,
    b"[" * 400 + b"]" * 400,
    b'{"a":' * 990 + b"1" + b"}" * 990,
    b'"' + b"x" * 60_000 + b'"',
    b"9" * 60_000,
    b'{"a": ' + b"9" * 60_000 + b"}",
]
TEXTS: list[str] = [
    *(ast.literal_eval(f'"{line}"') for line in (each.replace('"', '\\"') for each in _lines("texts.txt"))),
    *("x" * length for length in (37, 101, 255, 256, 4_000)),
    "9" * 5_000,
    "1," * 2_000,
    "[" * 5_000,
    "\U0001f680" * 100,
]


def spoiled(message: Any, turns: int = 1) -> Iterator[bytes]:
    """Yield the message with each fragment in the place of each value, with a value left out, and with one too many.

    With `turns` each fragment is put at every so many values only, and a long one, which takes long, in fewer.
    """
    wholes = list(_with_holes(message))
    turns = max(turns, len(wholes) // 6) if turns > 1 else turns
    for place, whole in enumerate(wholes):
        before, after = json.dumps(whole, ensure_ascii=False).encode().split(f'"{_HOLE}"'.encode())
        for number, fragment in enumerate(FRAGMENTS):
            if (place + number) % (turns if len(fragment) < _LONG_BYTES else 3 * turns) == 0:
                yield before + fragment + after
    if isinstance(message, dict):
        text = json.dumps(message, ensure_ascii=False).encode()
        yield text[:-1] + b', "no_such_field": 1}'
        for name in message:
            yield json.dumps({key: value for key, value in message.items() if key != name}).encode()
            yield text[:-1] + b", " + json.dumps(name).encode() + b": 1}"  # twice


def mangled(chance: random.Random, data: bytes) -> bytes:
    """Return the bytes with a few faults: cut, doubled, exchanged for others, or with a fragment in between."""
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(data) + 1)
        end = min(len(data), start + chance.choice((0, 1, 1, 2, 5, 40)))
        with_what = chance.choice(
            (b"", data[start:end] * 2, chance.choice(_BITS), chance.choice(FRAGMENTS)[:200], chance.randbytes(2))
        )
        data = data[:start] + with_what + data[end:]
    return data


def any_value(chance: random.Random, depth: int = 3) -> bytes:
    """Return a JSON value made of fragments."""
    kind = chance.randrange(4 if depth else 2)
    if kind == 2:
        return b"[" + b",".join(any_value(chance, depth - 1) for _ in range(chance.randrange(4))) + b"]"
    if kind == 3:
        names = [json.dumps(chance.choice(("a", "id", "type", "name", "", "\0", "\ud800"))).encode() for _ in range(3)]
        pairs = [name + b":" + any_value(chance, depth - 1) for name in names[: chance.randrange(4)]]
        return b"{" + b",".join(pairs) + b"}"
    return chance.choice(FRAGMENTS)


def spoil_at_random(chance: random.Random, message: Any) -> bytes:
    """Return the message with random values in the places of some of its own, or mangled."""
    data = json.dumps(message, ensure_ascii=False).encode()
    if chance.random() < 0.4:
        return mangled(chance, data)
    whole = chance.choice(list(_with_holes(message)))
    before, after = json.dumps(whole, ensure_ascii=False).encode().split(f'"{_HOLE}"'.encode())
    data = before + any_value(chance) + after
    return mangled(chance, data) if chance.random() < 0.2 else data


def text_of_chance(chance: random.Random) -> str:
    """Return a text of the corpus, or a similar one."""
    text = chance.choice(TEXTS)
    kind = chance.randrange(4)
    if kind == 0:
        return text
    if kind == 1:
        return text[: chance.randrange(len(text) + 1)] + chance.choice(TEXTS)[:200]
    characters = "".join(chr(chance.choice((chance.randrange(256), chance.randrange(0xD800)))) for _ in range(3))
    place = chance.randrange(len(text) + 1)
    return text[:place] + characters + text[place + kind - 2 :]


def _with_holes(message: Any) -> Iterator[Any]:
    """Yield the message with a placeholder for each value in turn, the whole message first."""
    yield _HOLE
    if isinstance(message, dict):
        for name, value in message.items():
            yield from ({**message, name: inner} for inner in _with_holes(value))
    elif isinstance(message, list):
        for index, value in enumerate(message):
            yield from ([*message[:index], inner, *message[index + 1 :]] for inner in _with_holes(value))
