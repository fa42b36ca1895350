"""The allowed differences between our server and Tornado's or h11, with their reasons.

A peer's requests and ours must be the same, one by one, as long as both go on: to see other requests in the same bytes
is what smuggling is made of. Who stops earlier must have a reason. To refuse what another takes is safe, since nothing
behind it is served; to take what another refuses is not by itself, so that is listed with its reason, whatever chance
comes up with.
"""

from __future__ import annotations

import re

from tests.fuzz.http_peers import Verdict

# Requests that we refuse and a peer takes. The corpus shows no other reason.
STRICTER = {
    "RFC 9112 § 2.2: a bare CR or LF ends no line": rb"(?<!\r)\n|\r(?!\n)",
    "RFC 9112 § 5.2: a folded line may be refused": rb"\r\n[ \t]",
    "RFC 9110 § 5.5: no control characters in values": rb"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]",
    "RFC 9112 § 3.2: the target is a path, absolute with http or https and a host, or *": rb"^\S+ +(?!/|\* |https?://)",
    "RFC 9110 § 4.2.4: no user in a target, and no fragment": rb"^\S+ http[^ ]*[@#]",
    "RFC 9112 § 3.2: a target that is valid": rb"^\S+ http[^ ]*[\\,]|^\S+ https?:///",
    "RFC 9112 § 3.2: a Host that is valid": rb"\nHost:[^\r\n]*[ ,@/?#\\\"<>]",
    "RFC 3986 § 2: targets and hosts, chunks' extensions and numbers are ASCII": rb"[\x80-\xff]",
    "RFC 9112 § 2.3: no version but 1.0 and 1.1": rb"^[^\r\n]* HTTP/(?!1\.[01]\r)",
    "RFC 9112 § 6.1: Content-Length beside Transfer-Encoding": (
        rb"(?is)content-length:.*transfer-encoding:|transfer-encoding:.*content-length:"
    ),
    "RFC 9112 § 6.1: HTTP/1.0 knows no transfer codings": rb"(?is)HTTP/1\.0.*transfer-encoding:",
    "RFC 9110 § 8.6: one Content-Length, of one number": (
        rb"(?is)content-length:[^\r\n]*,|content-length:.*content-length:"
    ),
    "RFC 9112 § 7.1: no space in a chunk's head, no extension without a name": rb"\n[0-9a-fA-F]+(?:[ \t]|;\r)",
    'RFC 9112 § 7.1.1: quotes that are opened are closed': rb'\n[0-9a-fA-F]+;[^\r\n"]*"[^\r\n"]*\r',
    "RFC 9112 § 7.1.2: no framing in trailers": rb"(?i)\n0+\r\n(?:[^\r\n]+\r\n)*(?:content-length|transfer-encoding)",
    "llhttp: no tab behind a transfer coding": rb"(?i)transfer-encoding:[^\r\n]*\t\r",
    "RFC 9112 § 3: a method of more than 32 characters, and HTTP/2's": rb"^(?:\S{33}|PRI )",
    "ADR 11: a method that llhttp does not know, in one piece with what is before it": (
        rb"(?s).\n(?!(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH|TRACE|CONNECT) )[^\s:]+ \S+ HTTP/1\."
    ),
    "RFC 6585 § 5: a head over the bound": rb"(?s).{16000}",
}  # fmt: skip

# Requests that we take and a peer refuses, or after which it stops.
LAXER = {
    "tornado": {
        "RFC 9112 § 7.1.1: extensions of chunks are ignored": rb"\n[0-9a-fA-F]+;",
        "RFC 9112 § 7.1.2: trailers are discarded": rb"\n0+(?:;[^\r\n]*)?\r\n[^\r\n]",
    },
    "h11": {
        "llhttp: a number may have many zeros before it": rb"(?i)(?:\n|content-length:[ \t]*)0{16}",
    },
    "both": {
        # h11 keeps none, Tornado only that of GET and HEAD, and of requests with a body.
        "RFC 9112 § 9.3: HTTP/1.0 with keep-alive is kept": rb"HTTP/1\.0\r",
        "RFC 9112 § 2.2: empty lines before a request are passed over": (
            rb"^[\r\n]|\n\r?\n\r?\n|\r\n\r\n(?:.*\n)?[\r\n]"
        ),
        "RFC 9112 § 3: more than one space in a request line": rb"[!-~]  +[!-~]",
        "llhttp: RTSP is read like HTTP, and no application hears of it": rb" RTSP/1\.[01]\r",
    },
}

# Requests whose rest we wait for, and which a peer takes.
WAITING = {"llhttp: HTTP/2's preface ends behind SM, also where it follows a body": rb"PRI \* HTTP/2\.0\r\n\r\n"}


def fault(data: bytes, ours: Verdict, peers: Verdict, peer: str, *, is_known: bool) -> str | None:
    """Return the fault of our verdict beside a peer's, if any. A case of the corpus must also have reasons."""
    mine, others = ours.messages, peers.messages
    both = min(len(mine), len(others))
    for one, other in zip(mine, others, strict=False):
        if one != other:
            if one.method == other.method == "CONNECT":
                return None  # for us what comes behind it is no HTTP (RFC 9110 § 9.3.6)
            return f"{peer} sees {other} where we see {one}"
    if len(mine) == len(others):
        return None
    if len(mine) > both:
        if mine[both].method == "CONNECT":
            return None  # as above
        if _is_behind_empty_line(data, ours, both):
            return None
        reasons = LAXER[peer] | LAXER["both"]
        if any(re.search(pattern, data) for pattern in reasons.values()):
            return None
        return f"we see {mine[both]}, and {peer} nothing"
    if _is_closed(ours):
        return None
    if not ours.is_refused:
        if any(re.search(pattern, data) for pattern in WAITING.values()):
            return None
        return f"{peer} sees {others[both]} while we wait"
    if is_known and not any(re.search(pattern, data) for pattern in STRICTER.values()):
        return f"{peer} sees {others[both]} and nobody knows why we refuse it"
    return None


def _is_behind_empty_line(data: bytes, ours: Verdict, number: int) -> bool:
    # RFC 9112 § 2.2, where the line's end is what a body's length has left over. Chance repeats requests, so the place
    # is not the last where the method stands.
    if number == 0 or not (body := ours.messages[number - 1].body):
        return False
    return (
        re.search(re.escape(body) + rb"[\r\n]+" + re.escape(ours.messages[number].method.encode()) + b" ", data)
        is not None
    )


def _is_closed(verdict: Verdict) -> bool:
    # The last answer has said that nothing behind it is served (RFC 9112 § 9.6).
    heads = verdict.answer.split(b"HTTP/1.1 200 OK\r\n")
    return len(heads) > 1 and b"Connection: close\r\n" in heads[-1].partition(b"\r\n\r\n")[0] + b"\r\n"
