"""Estimate from its text how hard a secret is to guess: typed, repeated or copied ones are found."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter

# 2^84 guesses are out of reach. By this measure, of the text alone, 16 random bytes in hexadecimal have some 110.
MINIMUM_BITS = 84

_WORD_BITS = 10.0  # of one of the thousand words that people choose from, were they chosen at random
_WORD = re.compile(r"[A-Z]?[a-z]{0,13}|[A-Z]{1,14}")
_CAMEL_CASE = re.compile(r"(?:[A-Z][a-z]++|[0-9]++){3,}\W*")
_SEPARATORS = re.compile(r"[\s_.,:;!?/-]+")

# Words of secrets in manuals, examples and templates: beside one of them, the rest is guessed soon.
_EXAMPLE_WORDS = frozenset(
    """
    admin api app application auth bit bits change changed changeme changethis default demo dev develop dummy
    env enough environment example fake fill foo bar hash here hmac hs insert insecure jwt key keys
    local long min minimum my only
    pass passphrase passwd password pepper phrase placeholder please private prod production random replace replaceme
    safe sample secret secrets secure security server set shared sign signed signing signs somewhere strong super sure
    temp test testing tests this todo token tokens tradestream trade stream unsafe use very your yours
    a an and any as at be by do for from in is it its least must never no not of on or out that the to with without
    characters chars bytes nothing value please something words
    """.split()  # noqa: SIM905 - to be read as lines
)
_LONG_EXAMPLE_WORDS = re.compile(
    "|".join(sorted((w for w in _EXAMPLE_WORDS if len(w) > 3), key=len, reverse=True)), re.IGNORECASE
)
_WALKS = ("abcdefghijklmnopqrstuvwxyz", "0123456789", "1234567890", "qwertyuiopasdfghjklzxcvbnm", "qwertyuiop")
_WALK_STEPS = 4  # consecutive characters of a walk that add nothing to the first


def weakness(secret: str, *, least_bytes: int) -> str | None:
    """Explain why `secret` could be guessed, without revealing it; None if nothing suggests so."""
    if len(secret.encode()) < least_bytes:
        return f"shorter than {least_bytes} bytes"
    if guessing_bits(secret) < MINIMUM_BITS:
        return "can be guessed: it repeats itself, follows a row, or is made of words or of an example"
    return None


def guessing_bits(text: str) -> float:
    """Estimate the bits of a text against a guesser who knows its words, keyboard rows and repetitions."""
    text = _once(text)
    pieces = re.findall(r"[A-Z][a-z]+|[0-9]+", text) if _CAMEL_CASE.fullmatch(text) else _SEPARATORS.split(text)
    words = [each for each in pieces if _WORD.fullmatch(each)]
    if 2 * sum(map(len, words)) > len(text):
        return sum(_bits_of_piece(each) for each in dict.fromkeys(each.lower() for each in pieces))
    return _entropy(_without_walks(_LONG_EXAMPLE_WORDS.sub("", text)))


def _once(text: str) -> str:
    """Return the repeated part of a text that consists of repetitions, else the text."""
    period = (text + text).find(text, 1)
    return text[:period]


def _bits_of_piece(piece: str) -> float:
    if piece in _EXAMPLE_WORDS:
        return 1.0
    return _WORD_BITS if _WORD.fullmatch(piece) else _entropy(_without_walks(_LONG_EXAMPLE_WORDS.sub("", piece)))


def _without_walks(text: str) -> str:
    """Remove characters that follow from the one before: along the alphabet, the digits, the keyboard."""
    rows = [row for walk in _WALKS for row in (walk, walk[::-1])]
    lower, kept, at = text.lower(), [], 0
    while at < len(text):
        run = max(_run_along(row, lower, at) for row in rows)
        kept.append(text[at])
        at += run if run >= _WALK_STEPS else 1
    return "".join(kept)


def _run_along(row: str, text: str, at: int) -> int:
    place = row.find(text[at])
    if place < 0:
        return 1
    return sum(
        1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(row[place:], text[at:], strict=False))
    )


def _entropy(text: str) -> float:
    """Return Shannon's entropy of the text's own distribution of characters, times their number."""
    counts = Counter(text)
    return -sum(n * math.log2(n / len(text)) for n in counts.values()) if text else 0.0
