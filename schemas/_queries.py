"""Query strings: their schemas, and the fields that read texts."""

from __future__ import annotations

import re
from typing import TypeVar, Unpack

import marshmallow
from marshmallow import ValidationError, fields, validate

from schemas._fields import ConvertedText, FieldOptions, Flag, Number, Schema, Text, Whole, about
from schemas._instruments import without_multiple
from schemas._loading import Reading

_DIGITS = 15  # of an integer
T = TypeVar("T")


class QuerySchema(Schema):
    """A query string. Parameters that it does not know are ignored."""

    class Meta:
        """Unknown parameters are ignored, as the contract says."""

        unknown = marshmallow.EXCLUDE


class QueryWhole(Whole):
    """An integer in a query string."""

    def read(self, value: object) -> int:
        if not isinstance(value, str) or re.fullmatch(r"[+-]?[0-9]+", value) is None:
            raise ValidationError("must be an integer")
        # int() of a long text takes quadratic time, and Postgres holds no more than a bigint: past fifteen digits it
        # only matters that the number is out of range.
        digits = value.lstrip("+-").lstrip("0")[: _DIGITS + 1] or "0"
        number = -int(digits) if value.startswith("-") else int(digits)
        if len(digits) > _DIGITS:
            self._validate(number)
            raise ValidationError("must be an integer")
        return number


class QueryNumber(Number):
    """A number in a query string."""

    def read(self, value: object) -> float:
        # More digits than a double is ever printed with, but not so many that reading them takes time.
        if not isinstance(value, str) or re.fullmatch(r"[+-]?[0-9]{1,300}(\.[0-9]{1,300})?", value) is None:
            raise ValidationError("must be a number")
        return float(value)


class QueryFlag(Flag):
    """`true` or `false` in a query string."""

    def read(self, value: object) -> bool:
        if value not in ("true", "false"):
            raise ValidationError("must be true or false")
        return value == "true"


class CommaList(Reading[list[T]]):
    """Values separated by commas in a query string: trimmed, empty ones dropped, each checked by `inner`."""

    def __init__(
        self, inner: fields.Field[T], *, validate: validate.Validator | None = None, **options: Unpack[FieldOptions]
    ) -> None:
        self.inner = inner
        super().__init__(validate=validate, **options)

    def read(self, value: object) -> list[T]:
        if not isinstance(value, str):
            raise ValidationError("must be a list separated by commas")
        found = []
        for item in filter(None, map(str.strip, value.split(","))):
            try:
                found.append(self.inner.deserialize(item))
            except ValidationError as error:
                raise ValidationError(f"{item[:40]!r} {error.messages[0]}") from None
        return found


class SymbolFilter(ConvertedText):
    """A symbol to filter by, in the spelling that signals are stored under."""

    def convert(self, text: str) -> str:
        symbol, _ = without_multiple(text)
        return symbol


class LastGiven(Text):
    """A text in a query string of which the last one counts, where others may be given once only."""


class Paging(QuerySchema):
    """`limit` and `offset` of a list; a subclass may set another default."""

    limit = QueryWhole(min=1, max=100, load_default=50, **about("Most items of one answer."))
    offset = QueryWhole(min=0, max=10**9, load_default=0, **about("How many to leave out first."))
