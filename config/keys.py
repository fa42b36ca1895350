"""Keys derived from the one secret, each for its purpose, and the digests under which tokens are stored."""

from __future__ import annotations

import base64
import hashlib
import hmac


def derive_key(secret: str, purpose: str) -> bytes:
    """Derive a key of 32 bytes that reveals nothing of the secret, nor of the keys for other purposes."""
    return hmac.digest(secret.encode(), f"tradestream.{purpose}.v1".encode(), hashlib.sha256)


def derive_token(key: bytes, origin: bytes) -> str:
    """Derive a 256-bit token from `origin` and the key; 43 characters that need no escaping."""
    return encode_token(hmac.digest(key, origin, hashlib.sha256))


def encode_token(token: bytes) -> str:
    """Encode a token in Base64 for URLs, without padding."""
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


def token_hash(token: str) -> bytes:
    """Return the token's SHA-256, under which it is stored: the database's content grants no access."""
    return hashlib.sha256(token.encode()).digest()
