"""Find invisible characters in names, and those of them that do nothing where they stand."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right

import idna

RENAME_DAYS = 30
"""The days for which a provider's former name stays its own, and after which the name may change again."""

# Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties (16.0), which Python's database does not have; and
# characters whose glyph is blank: the blank pattern of Braille, the Khitan filler, a musical null notehead.
_INVISIBLE = (
    *((0x00AD, 0x00AD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F)),
    *((0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x2800, 0x2800), (0x3164, 0x3164), (0xFE00, 0xFE0F)),
    *((0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x16FE4, 0x16FE4), (0x1BCA0, 0x1BCA3)),
    *((0x1D159, 0x1D159), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
)
BLANKS = frozenset("\u115f\u1160\u2800\u3164\uffa0\U00016fe4\U0001d159")
"""Invisible characters that may be as wide as a letter."""

_STARTS = [first for first, _ in _INVISIBLE]
_NOT_SHOWN = frozenset({"Cc", "Cf", "Cs", "Co"})

ZWNJ, ZWJ = "\u200c", "\u200d"
_SELECTORS = frozenset(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0), 0x180B, 0x180C, 0x180D, 0x180F)))
# Parts of joined emoji outside the emoji planes: signs of ZWJ sequences (Unicode's emoji-zwj-sequences).
_EMOJI = range(0x1F000, 0x1FB00)
_EMOJI_SIGNS = frozenset("♀♂⚕⚖⚧✈❤☠⬛➡↔↕⛓⛹⛷")


def is_invisible(character: str) -> bool:
    """Return whether a character shows nothing by itself. Spaces are visible: they separate."""
    code = ord(character)
    place = bisect_right(_STARTS, code) - 1
    return (place >= 0 and code <= _INVISIBLE[place][1]) or unicodedata.category(character) in _NOT_SHOWN


def visible(text: str) -> str:
    """Return the text without invisible characters."""
    return text if text.isascii() and text.isprintable() else "".join(each for each in text if not is_invisible(each))


def has_idle_characters(text: str) -> bool:
    """Return whether the text holds an invisible character that does nothing where it stands.

    Joiners have an effect between the letters of scripts that need them (RFC 5892, appendix A) and between emoji, and
    variation selectors after a visible character.
    """
    return any(is_invisible(each) and not _has_work(text, place) for place, each in enumerate(text))


def without_idle_characters(text: str) -> str:
    """Return the text without invisible characters that do nothing where they stand."""
    kept = (each for place, each in enumerate(text) if not is_invisible(each) or _has_work(text, place))
    return "".join(kept)


def _has_work(text: str, place: int) -> bool:
    character = text[place]
    if character in _SELECTORS:
        return place > 0 and not is_invisible(text[place - 1]) and not text[place - 1].isspace()
    if character not in (ZWNJ, ZWJ):
        return False
    if character == ZWJ and _is_emoji(_before(text, place)) and _is_emoji(text[place + 1 : place + 2]):
        return True
    try:
        return idna.valid_contextj(text, place)
    except ValueError:  # a neighbour that Python's database does not know yet
        return False


def _before(text: str, place: int) -> str:
    """Return the character before, skipping its variation selector and skin tone."""
    place -= 1
    while place > 0 and (text[place] in _SELECTORS or 0x1F3FB <= ord(text[place]) <= 0x1F3FF):
        place -= 1
    return text[place] if place >= 0 else ""


def _is_emoji(character: str) -> bool:
    return character != "" and (ord(character) in _EMOJI or character in _EMOJI_SIGNS)
