"""Encode WebSocket frames of the server's side (RFC 6455 § 5.2): unmasked, so one frame serves every reader."""

from __future__ import annotations

_TEXT = 0x81  # FIN and opcode: the only fragment of a text message


def text_frame(payload: bytes) -> bytes:
    """Encode a text message as one frame."""
    size = len(payload)
    if size < 126:
        return b"%c%c%b" % (_TEXT, size, payload)
    if size < 1 << 16:
        return b"%c\x7e%b%b" % (_TEXT, size.to_bytes(2), payload)
    return b"%c\x7f%b%b" % (_TEXT, size.to_bytes(8), payload)
