"""Generate secrets that are not configured, at the first start, and keep them in the data directory."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from pathlib import Path

from config._consistency import PROCESS_SECRET
from config.settings import ConfigurationError, Settings

_BYTES = 64  # of randomness, enough for every algorithm that JWT_ALGORITHM knows
_LEAST_CHARACTERS = 43  # of a kept one: 256 bits in base64


def with_kept_secrets(settings: Settings) -> Settings:
    """Return the settings with the data directory's JWT secret where none is given. Raises ConfigurationError."""
    if settings.jwt_secret != PROCESS_SECRET:
        return settings
    return settings.replace(jwt_secret=kept_secret(settings.data_dir / "jwt.secret"))


def kept_secret(path: Path) -> str:
    """Return the secret in the file, which the first process to ask creates (0600) for all.

    Raises ConfigurationError.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError([f"DATA_DIR: {path} cannot be made or read: {_words(error)}"]) from None
    with os.fdopen(descriptor, "r+b") as file:
        try:
            # Held for the moment of one small write: a process that dies here leaves the next one an empty file.
            fcntl.flock(file, fcntl.LOCK_EX)
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                os.fchmod(file.fileno(), 0o600)
            found = file.read().strip().decode(errors="replace")
            if not found:
                found = secrets.token_urlsafe(_BYTES)
                file.write(found.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ConfigurationError([f"DATA_DIR: {path} cannot be kept: {_words(error)}"]) from None
    if len(found) < _LEAST_CHARACTERS or not found.isascii():
        raise ConfigurationError([f"DATA_DIR: {path} holds no secret; remove it, and the next start makes one"])
    return found


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
