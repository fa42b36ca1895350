"""The HTTP fuzzer's input: the corpus, and random changes of it.

A file of `corpus/http/` has a topic; each line is a case: the statuses of the answers that an application which answers
everything with 200 gives over our server (`-`: none, the connection is closed), a name, and the bytes, with Python's
escapes. Nothing comes behind them: the client ends its side.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "corpus" / "http"
MOST_BYTES = 70_000

TOKENS = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b";", b",", b"\x0b", b"\x7f", b"\x80", b"\xff", b"0", b"1", b"a",
    b"\r\n\r\n", b"\r\n ", b"\r\n\t", b"chunked", b"identity", b"gzip, chunked", b"close", b"keep-alive", b"upgrade",
    b"Content-Length: 0\r\n", b"Content-Length: 5\r\n", b"Content-Length: 5, 5\r\n", b"content-length:05\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding:\tchunked\r\n", b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding : chunked\r\n", b"Host: a\r\n", b"Host:\r\n", b"Connection: close\r\n", b"X: y\r\n",
    b"Expect: 100-continue\r\n", b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"Upgrade: h2c\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2.0", b"http://a/b", b"*", b"/",
    b"0\r\n\r\n", b"5\r\nhello\r\n", b"ffffffffffffffff\r\n", b"1e100", b"-1", b"+5", b"0x5", b"5;a=b\r\n",
    b'5;a="\r\n', b"FINISH ",
]  # fmt: skip

FIELDS = [b"Connection: close", b"Connection: keep-alive", b"X: y", b"Cookie: a=b; c", b"Expect: 100-continue", b"A:"]
LAST_CHUNKS = [b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"0\r\nContent-Length: 3\r\n\r\n", b"0\n\n", b""]


@dataclass(frozen=True)
class Case:
    """One connection's bytes. `statuses` is empty for a random case."""

    name: str
    data: bytes
    statuses: tuple[str, ...] = ()


@cache
def corpus() -> tuple[Case, ...]:
    """Return all cases of all files."""
    found = []
    for path in sorted(FOLDER.glob("*.txt")):
        for line in path.read_text("ascii").splitlines():
            statuses, name, text = line.split(" | ", 2)
            data = text.encode("ascii").decode("unicode_escape").encode("latin-1")
            found.append(Case(f"{path.stem}: {name}", data, tuple(statuses.split())))
    return tuple(found)


def made(chance: random.Random) -> Case:
    """Return a random case."""
    case = chance.choice(corpus()) if chance.random() < 0.7 else _written(chance)
    data = bytearray(case.data[:MOST_BYTES])
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3, 5))):
        _change(data, chance)
    return Case(f"{case.name}, changed", bytes(data[:MOST_BYTES]))


def _written(chance: random.Random) -> Case:
    # By the grammar, with what is usually wrong.
    requests = []
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        method = chance.choice((b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"BREW", b"CONNECT", b"get"))
        target = chance.choice((b"/", b"/a?b=c", b"*", b"http://a/b", b"a:80", b"//a/b", b"/%00", b"/a#b"))
        version = chance.choice((b"HTTP/1.1",) * 6 + (b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1"))
        lines = [b"Host: a"] * chance.choice((0, 1, 1, 1, 1, 1, 2))
        body = b""
        match chance.randrange(6):
            case 0:
                body = bytes(chance.randrange(256) for _ in range(chance.randrange(40)))
                lines.append(b"Content-Length: %d" % (len(body) + chance.choice((0, 0, 0, 0, 1, -1))))
            case 1 | 2:
                parts = [_text(chance) for _ in range(chance.randrange(4))]
                extensions = (b"", b"", b"", b";a=b", b" ")
                body = b"".join(b"%x%b\r\n%b\r\n" % (len(part), chance.choice(extensions), part) for part in parts)
                body += chance.choice(LAST_CHUNKS)
                lines.append(chance.choice((b"Transfer-Encoding: chunked", b"transfer-encoding: Chunked")))
            case _:
                pass
        lines += chance.choices(
            (
                b"Connection: close",
                b"Connection: keep-alive",
                b"X: y",
                b"Cookie: a=b; c",
                b"Expect: 100-continue",
                b"A:",
            ),
            k=chance.randrange(3),
        )
        chance.shuffle(lines)
        requests.append(b"\r\n".join([b"%b %b %b" % (method, target, version), *lines, b"", b""]) + body)
    return Case("written", b"".join(requests))


def _text(chance: random.Random) -> bytes:
    return bytes(chance.choices(b"abc\r\n0", k=chance.randrange(1, 20)))


def _change(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    match chance.randrange(9):
        case 0:
            del data[at : at + chance.choice((1, 1, 2, 10))]
        case 1 | 2:
            data[at:at] = chance.choice(TOKENS)
        case 3:
            token = chance.choice(TOKENS)
            data[at : at + len(token)] = token
        case 4 if at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        case 5:
            del data[at:]
        case 6:
            data[at:at] = data[at : at + chance.randrange(1, 60)]
        case 7:
            lines = bytes(data).split(b"\r\n")
            one, two = chance.randrange(len(lines)), chance.randrange(len(lines))
            lines[one], lines[two] = lines[two], lines[one]
            data[:] = b"\r\n".join(lines)
        case _:
            data += chance.choice(corpus()).data[:MOST_BYTES]
