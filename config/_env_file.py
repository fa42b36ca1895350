"""Read the `.env` file, and report its faults and misspelt names of settings, without the values."""

from __future__ import annotations

import difflib
import io
import os
from collections.abc import Collection
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

_LEAST_CHARACTERS = 6  # of a name in the environment: shorter ones resemble too many that are not ours
# Only settings of ours begin so; REDIS_PASSWORD or GOOGLE_CLOUD_PROJECT in the same file are other programs'.
_OUR_PREFIXES = (
    *("CORS_", "HYPERLIQUID_", "INTERNAL_NETWORK", "JWT_", "LENS_", "RATE_LIMIT", "RESEND_", "STREAM_"),
    *("TRADESTREAM_", "TRUSTED_PROX", "WS_MAX"),
)
# Names of our own processes that are no settings.
_INTERNAL = frozenset({"TRADESTREAM_INSTANCE", "TRADESTREAM_CHILD"})


def read_env_file(path: Path) -> tuple[dict[str, str], list[str]]:
    """Return the file's variables and its faults, a line each; a missing file is empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}, []
    except OSError as error:
        return {}, [f"{path}: cannot be read: {(error.strerror or str(error)).lower()}"]
    except UnicodeDecodeError:
        return {}, [f"{path}: is not UTF-8"]
    good, problems, lines = [], [], dict[str, int]()
    for each in parse_stream(io.StringIO(text)):
        line = each.original.line + _leading_lines(each.original.string)
        if each.error or (each.key is not None and each.value is None):
            problems.append(f"{path}: line {line} is not NAME=value")
        elif each.key is not None and each.key in lines and each.value:
            problems.append(f"{path}: line {line} gives {each.key} again, after line {lines[each.key]}")
        else:
            good.append(each.original.string)
            if each.key is not None:
                lines[each.key] = line
    values = dotenv_values(stream=io.StringIO("".join(good)))
    return {name: value for name, value in values.items() if value is not None}, problems


def put_into_environment(values: dict[str, str]) -> None:
    """Put the file's variables into the process's environment, whose own values take precedence."""
    for name, value in values.items():
        os.environ.setdefault(name, value)  # noqa: TID251 - this is where a file becomes environment


def environment() -> dict[str, str]:
    """Return the variables of this process."""
    return dict(os.environ)  # noqa: TID251 - see above


def unknown_names(known: Collection[str], in_file: Collection[str], in_environment: Collection[str]) -> list[str]:
    """Return complaints about misspelt names of settings, in the file and in the environment.

    The file is ours, so a similar name or one of our families is a mistake. The environment is shared: there only a
    slip of one letter counts (two in our families), and only if the intended setting is not given.
    """
    problems, seen = [], set()
    given = {*in_file, *in_environment}
    for name in sorted(in_file):
        if name in known or name in _INTERNAL:
            continue
        seen.add(name)
        meant = _close(name, known, 0.8)
        if meant is not None and (meant not in given or _looks_ours(name)):
            problems.append(f"{name}: there is no such setting; did you mean {meant}?")
        elif _looks_ours(name):
            problems.append(f"{name}: there is no such setting")
    for name in sorted(set(in_environment) - set(known) - _INTERNAL - seen):
        if len(name) < _LEAST_CHARACTERS:
            continue
        meant = _close(name, [each for each in known if abs(len(each) - len(name)) < 3], 0.85)
        if (
            meant is not None
            and meant not in in_environment
            and _slips(name.upper(), meant) <= (2 if _looks_ours(name) else 1)
        ):
            problems.append(f"{name}: there is no such setting; did you mean {meant}?")
    return problems


def closest(name: str, known: Collection[str]) -> str | None:
    """Return the known name that an unknown one resembles, if any."""
    return _close(name, known, 0.75)


def _close(name: str, known: Collection[str], cutoff: float) -> str | None:
    by_upper = {each.upper(): each for each in known}
    found = difflib.get_close_matches(name.upper(), list(by_upper), n=1, cutoff=cutoff)
    return by_upper[found[0]] if found else None


def _looks_ours(name: str) -> bool:
    return name.upper().startswith(_OUR_PREFIXES)


def _leading_lines(text: str) -> int:
    return text[: len(text) - len(text.lstrip())].count("\n")


def _slips(given: str, meant: str) -> int:
    """Count letters to add, drop, change or swap with their neighbour (optimal string alignment)."""
    before: list[int] = []
    last = list(range(len(meant) + 1))
    for i, letter in enumerate(given, 1):
        row = [i]
        for j, wanted in enumerate(meant, 1):
            best = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == meant[j - 2] and given[i - 2] == wanted:
                best = min(best, before[j - 2] + 1)
            row.append(best)
        before, last = last, row
    return last[-1]
