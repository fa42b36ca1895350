"""When two names are one to the eye: Unicode's confusables (UTS 39 § 4), with letter case taken into account."""

from __future__ import annotations

import unicodedata
from functools import cache

from confusable_homoglyphs.confusables import confusables_data

from schemas._names import BLANKS, visible

_ROUNDS = 4  # each maps what the one before made; two are enough for all that there is


def name_key(display_name: str) -> str:
    """A name as names are compared: ignoring case, forms of letters, width, what shows nothing, and how many spaces."""
    compatible = unicodedata.normalize("NFKC", visible(unicodedata.normalize("NFKC", display_name)))
    return " ".join(unicodedata.normalize("NFKC", compatible.casefold()).split())


def skeletons(display_name: str) -> tuple[str, ...]:
    """What a name looks like: two that share one of these look alike.

    As it is written, in small letters, and with its foreign letters as capitals: Greek β looks like ß and its capital
    like B. What is blank looks like a space, or like nothing: that is the font's choice.
    """
    found: dict[str, None] = {}
    for blank in ("", " ") if any(each in display_name for each in BLANKS) else ("",):
        text = "".join(blank if each in BLANKS else each for each in display_name)
        shown = unicodedata.normalize("NFKC", visible(unicodedata.normalize("NFKC", text)))
        capitals = "".join(each if each.isascii() else each.upper() for each in shown)
        found.update(dict.fromkeys(map(_skeleton, (shown, shown.casefold(), capitals))))
    return tuple(found)


def is_plain_ascii(display_name: str) -> bool:
    """Whether the name has nothing but ASCII: such names are not compared by their looks, or `Ill` would bar `lll`."""
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
    """What each character looks like.

    The library lists, for each character or group, those that look like it, in both directions: each class of them has
    one that stands for all. Letters that are written from right to left come wrapped into marks of direction.
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
        # Groups stand for characters (rn for m), then letters of ASCII, small ones first; else any, always the same.
        standing = min(alike, key=lambda each: (-min(len(each), 2), not each.isascii(), not each.islower(), each))
        found.update((each, standing) for each in alike if len(each) == 1 and each != standing)
    return found
