"""Names as people see them.

The kind of fault: two texts that differ to a program are one to the eye, so an impostor gets a name's looks.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import ValidationError

from schemas._confusables import is_plain_ascii, name_key, skeletons
from schemas._names import BLANKS, has_idle_characters, is_invisible, visible, without_idle_characters
from schemas._people import DisplayName


def alike(one: str, other: str) -> bool:
    """Compare two names as their owner does."""
    if name_key(one) == name_key(other):
        return True
    both_plain = is_plain_ascii(one) and is_plain_ascii(other)
    return not both_plain and not set(skeletons(one)).isdisjoint(skeletons(other))


ALIKE = [
    ("Crypto King", "crypto  KING"),
    ("Crypto King", "Crуptо King"),  # Cyrillic у, о
    ("BTC King", "ΒΤС Кing"),  # Greek and Cyrillic capitals, whose small letters look otherwise
    ("PayPal", "paypaӏ"),  # Cyrillic palochka
    ("Alice", "AӀice"),
    ("Ivan", "Ιvan"),
    ("scope", "ѕсоре"),  # a word of one script that is all of it like another
    ("modern", "rnodеrn"),
    ("King", "𝐊𝐢𝐧𝐠"),
    ("King", "Ｋｉｎｇ"),
    ("King", "Ki\u200dng"),
    ("King", "Ki\u00adng"),
    ("King", "Ki\u034fng"),
    ("King", "King\ufe0f"),
    ("King", "King\U000e0041"),
    ("King", "K\u180eing"),
    ("Crypto King", "Crypto\u3164King"),
    ("CryptoKing", "Crypto\u3164King"),
    ("Crypto King", "Crypto\u2800King"),
    ("Crypto King", "Crypto King\uffa0"),
    ("Crypto King", "Crypto\u00a0King"),
    ("نامهای", "نامه\u200cای"),
    ("👩💻 Ann", "👩\u200d💻 Ann"),
    ("Straße", "STRASSE"),
    ("Zo\u00eb", "Zoe\u0308"),
]

APART = [
    ("Ill", "lll"),
    ("O0", "OO"),
    ("modern", "rnodern"),
    ("Zoe", "Zoë"),
    ("Иван", "Ivan"),
    ("Ли На", "Лина"),
    ("Марина", "Мария"),
    ("King", "Kong"),
    ("山田", "山本"),
    ("Crypto King", "CryptoKing"),
    ("🚀 Bot", "🚁 Bot"),
    ("Müller Ali", "Müller All"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_names_that_look_alike_are_one(one: str, other: str) -> None:
    assert alike(one, other)
    assert alike(other, one)


@pytest.mark.parametrize(("one", "other"), APART)
def test_names_that_look_different_are_two(one: str, other: str) -> None:
    assert not alike(one, other)
    assert not alike(other, one)


ALLOWED = [
    *(
        "Ann",
        "Иван",
        "Ελένη",
        "山田太郎",
        "김철수",
        "สมชาย",
        "Łódź",
        "Αθηνά",
        "אבי",
        "شيرين",
        "Trader Иван",
        "O'Neil 2.0",
    ),
    *("نامه\u200cای", "क\u094d\u200dष", "ක\u0dca\u200dෂ", "മലയാളം", "👩\u200d💻 Ann", "❤\ufe0f\u200d🔥 Bot"),
    *(
        "👨\u200d👩\u200d👧\u200d👦 Family",
        "👩🏽\u200d🚀 Moon",
        "🏳\ufe0f\u200d🌈 Desk",
        "1\ufe0f\u20e3 First",
        "葛\U000e0100 Katsu",
    ),
]


@pytest.mark.parametrize("name", ALLOWED)
def test_letters_of_a_script_and_joined_emoji_are_names(name: str) -> None:
    assert DisplayName().deserialize(name) == name
    assert without_idle_characters(name) == name


IDLE = [
    "a\u200db",
    "a\u200cb",
    "\u200dab",
    "ab\u200d",
    "Ki\u3164ng",
    "King\u2800",
    "a\u034fb",
    "★\u200d★",
    "א\u200dב",
    "\ufe0fab",
]


@pytest.mark.parametrize("name", IDLE)
def test_characters_without_a_look_or_an_effect_are_no_part_of_a_name(name: str) -> None:
    with pytest.raises(ValidationError, match="show nothing"):
        DisplayName().deserialize(name)
    assert DisplayName(may_idle=True).deserialize(name) == name
    assert not has_idle_characters(without_idle_characters(name))


@pytest.mark.parametrize("name", ["\u3164\u3164", "\u2800" * 5, "a\u3164", "a\u200d\u200d", "x" * 51, "\u3000 a"])
def test_a_name_has_two_characters_that_are_seen(name: str) -> None:
    for may_idle in (False, True):
        with pytest.raises(ValidationError, match="2-50 characters"):
            DisplayName(may_idle=may_idle).deserialize(name)


@pytest.mark.parametrize("name", ["a\u202eb", "a\u200bb", "a\u0000b", "🏴\U000e0067\U000e007f", "a\ue000b"])
def test_controls_are_named_as_such(name: str) -> None:
    with pytest.raises(ValidationError, match="control characters"):
        DisplayName(may_idle=True).deserialize(name)


def test_spaces_are_plain_ones() -> None:
    assert DisplayName().deserialize("Crypto\u00a0\u2009King\u3000") == "Crypto  King"


def test_blanks_are_invisible() -> None:
    assert all(map(is_invisible, BLANKS))
    assert visible("a\u00adb") == "ab"


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=50))
def test_any_text_has_a_key_and_looks_that_are_its_own(text: str) -> None:
    assert name_key(name_key(text)) == name_key(text)
    assert skeletons(text)
    assert alike(text, text)
    assert "\n" not in "".join(skeletons(text))
    assert not has_idle_characters(without_idle_characters(text)) or has_idle_characters(text)
