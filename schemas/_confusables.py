"""Detect names that look alike: Unicode's confusables (UTS 39 § 4), with letter case taken into account."""

from __future__ import annotations

import unicodedata
from functools import cache

from confusable_homoglyphs.confusables import confusables_data

from schemas._names import BLANKS, visible

_ROUNDS = 4  # each maps the result of the one before; two are enough for all characters


def name_key(display_name: str) -> str:
    """Return a name's key for comparison, without case, letter forms, width, invisible characters, repeated spaces."""
    compatible = unicodedata.normalize("NFKC", visible(unicodedata.normalize("NFKC", display_name)))
    return " ".join(unicodedata.normalize("NFKC", compatible.casefold()).split())


def skeletons(display_name: str) -> tuple[str, ...]:
    """Return a name's looks: two names that share one of these look alike.

    They are the name as written, in small letters, and with its foreign letters as capitals: Greek β looks like ß and
    its capital like B. A blank looks like a space, or like nothing: that is the font's choice.
    """
    found: dict[str, None] = {}
    for blank in ("", " ") if any(each in display_name for each in BLANKS) else ("",):
        text = "".join(blank if each in BLANKS else each for each in display_name)
        shown = unicodedata.normalize("NFKC", visible(unicodedata.normalize("NFKC", text)))
        capitals = "".join(each if each.isascii() else each.upper() for each in shown)
        found.update(dict.fromkeys(map(_skeleton, (shown, shown.casefold(), capitals))))
    return tuple(found)


def is_plain_ascii(display_name: str) -> bool:
    """Return whether the name is pure ASCII: such names are not compared by looks, or `Ill` would bar `lll`."""
    return display_name.isascii()


def _skeleton(text: str) -> str:
    table = _prototypes()
    for _ in range(_ROUNDS):
        pieces = unicodedata.normalize("NFD", text)
        mapped = "".join(table.get(each, each) for each in pieces).casefold()
        if mapped == text:
            break
        text = mapped
    return " ".join(text.split())


@cache
def _prototypes() -> dict[str, str]:
    """Map each character to the one that it looks like.

    The confusables package lists, for each character or group, those that look like it, in both directions: each class
    has one representative. Letters that are written from right to left come wrapped in direction marks.
    """
    found: dict[str, str] = {}
    seen: set[str] = set()
    for first in confusables_data:
        if first in seen:
            continue
        alike, waiting = set[str](), [first]
        while waiting:
            each = waiting.pop()
            if each not in seen:
                seen.add(each)
                alike.add(each.replace("\u200e", ""))
                waiting += [other["c"] for other in confusables_data.get(each, ())]
        # The representative is a group (rn for m), then an ASCII letter, small ones first; else any, always the same.
        standing = min(alike, key=lambda each: (-min(len(each), 2), not each.isascii(), not each.islower(), each))
        found.update((each, standing) for each in alike if len(each) == 1 and each != standing)
    return found
