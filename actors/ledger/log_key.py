"""Read the key that signs the log from its file, which development makes at the first start."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from config.settings import Settings

KEY_FILE: Final = "log.pem"
_MOST_BYTES: Final = 10_000
_MAKE_ONE: Final = "`openssl genpkey -algorithm ed25519 -out log.pem` makes one"


class LogRefused(Exception):
    """The log cannot be signed: by this key, under this name, or as it stands in the database."""


def log_key(settings: Settings) -> Ed25519PrivateKey:
    """Return the key of LOG_KEY_FILE; without that setting, the one in DATA_DIR, made if need be. Raises LogRefused."""
    if settings.log_key_file is not None:
        return read_key(settings.log_key_file)
    return kept_key(settings.data_dir / KEY_FILE)


def kept_key(path: Path) -> Ed25519PrivateKey:
    """Return the key in the file, which is made (0600) if it does not exist. Raises LogRefused."""
    if not path.exists():
        try:
            _make(path)
        except OSError as error:
            raise LogRefused(f"{path} cannot be made: {error.strerror or error}") from None
    return read_key(path)


def read_key(path: Path) -> Ed25519PrivateKey:
    """Return the key in the file. Raises LogRefused."""
    try:
        with path.open("rb") as file:
            key = load_pem_private_key(file.read(_MOST_BYTES), password=None)
    except OSError as error:
        raise LogRefused(f"the log's key {path} cannot be read: {error.strerror or error}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise LogRefused(f"{path} holds no private key as PEM without a password; {_MAKE_ONE}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise LogRefused(f"{path} holds a key that is none of Ed25519; {_MAKE_ONE}")
    return key


def _make(path: Path) -> None:
    """Write a new key; a file that another process has made meanwhile stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
