"""The fields of every schema: strict about types, with messages that end the sentence "the field …".

Bodies hold what `parse_json` makes: str, bool, None, int, Decimal (a number with a fraction or exponent), list, dict.
Queries hold strings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import cached_property
from operator import attrgetter
from typing import Any
from uuid import UUID

import marshmallow
from marshmallow import ValidationError, fields, validate

from config.clock import rfc3339
from config.ids import parse_uuid
from schemas._json import DOUBLE_DIGITS, MOST_DEPTH, is_plain
from schemas._loading import LoadingSchema

PRICE_DIGITS = 15  # before the point: more than any market's price or size has
PRICE_DECIMALS = 18  # after it: the smallest unit of the usual tokens
_FINEST = Decimal(1).scaleb(-PRICE_DECIMALS)
_EXACT = Context(prec=PRICE_DIGITS + PRICE_DECIMALS + 1)  # one digit more where rounding carries
_LEAST_PLAIN = -6  # the power of ten below which Decimal writes an exponent
_QUERY_DIGITS = 15  # of an integer in a query
_SAFE_INTEGER = 2**53  # beyond it a JSON number is no longer exact in JavaScript


def _number(value: Any) -> Decimal | None:
    if type(value) is int:  # not a bool
        return Decimal(value)
    if isinstance(value, float):  # from JSON that another parser has read; its shortest form is what was written
        value = Decimal(repr(value))
    return value if isinstance(value, Decimal) and value.is_finite() else None


def _length_message(least: int | None, most: int | None) -> str:
    if most is None:
        return "must not be empty" if least == 1 else f"must have at least {least} characters"
    return f"must have {least}-{most} characters" if least else f"must have at most {most} characters"


def _items_message(least: int | None, most: int | None) -> str:
    if most is None:
        return f"must have at least {least} items"
    return f"must have {least}-{most} items" if least else f"must have at most {most} items"


def _range(least: float | None, most: float | None) -> Sequence[validate.Validator]:
    if least is None and most is None:
        return ()
    if least is None:
        message = f"must be at most {most}"
    elif most is None:
        message = f"must be at least {least}"
    else:
        message = f"must be between {least} and {most}"
    return (validate.Range(min=least, max=most, error=message),)


class Schema(LoadingSchema):
    """An object. Loading refuses fields that it does not know; dumping calls each field's serializer and no more."""

    class Meta:
        """Unknown fields are refused, and named."""

        unknown = marshmallow.RAISE

    error_messages = {"unknown": "unknown field", "type": "must be an object"}  # noqa: RUF012 - marshmallow's own name

    def handle_error(self, error: ValidationError, data: Any, *, many: bool, **options: Any) -> None:
        """Report unknown fields after the others, in the order given; marshmallow reports them in that of a set."""
        messages = error.messages
        if isinstance(data, Mapping) and isinstance(messages, dict):
            known = {field.data_key or name for name, field in self.fields.items()}
            unknown = [name for name in data if name not in known and name in messages]
            messages |= {name: messages.pop(name) for name in unknown}

    def dump(self, obj: Any, *, many: bool | None = None) -> Any:
        """Convert the object, a mapping or anything with attributes, to plain values for the JSON encoder.

        marshmallow's own dump costs 4 µs a field, this one 0.2: a page of 100 events would hold the loop for 4 ms.
        """
        if self.many if many is None else many:
            return [self._dump_one(each) for each in obj]
        return self._dump_one(obj)

    def _dump_one(self, obj: Any) -> dict[str, Any]:
        keys, names, values_of, conversions = self._dumping
        if isinstance(obj, Mapping):
            document = {key: obj.get(name) for key, name in zip(keys, names, strict=True)}
        else:
            document = dict(zip(keys, values_of(obj), strict=True))
        for key, name, plain, serialize in conversions:
            if type(document[key]) is not plain:
                document[key] = serialize(document[key], name, obj)
        return document

    @cached_property
    def _dumping(self) -> tuple[Sequence[str], Sequence[str], Callable[[Any], Any], Sequence[Any]]:
        """Return keys, attributes, their getter, and the fields that convert: (key, attribute, plain type, how)."""
        named = [(field.data_key or name, name, field) for name, field in self.dump_fields.items()]
        names = [name for _, name, _ in named]
        methods = [(key, name, type(field)._serialize, field._serialize) for key, name, field in named]  # noqa: SLF001
        conversions = [
            (key, name, str if method is fields.String._serialize else _Nothing, bound)  # noqa: SLF001
            for key, name, method, bound in methods
            if method is not AsItIs._serialize  # noqa: SLF001
        ]
        # attrgetter of a single name returns no tuple.
        values_of = attrgetter(*names) if len(names) > 1 else lambda obj: [getattr(obj, name) for name in names]
        return [key for key, _, _ in named], names, values_of, conversions


class _Nothing:
    """A type that no value has."""


class AsItIs(fields.Field[Any]):
    """A field whose values are dumped as they are: JSON has them, or the encoder knows them."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        return value


class QuerySchema(Schema):
    """A query string. Parameters that it does not know are ignored."""

    class Meta:
        """Unknown parameters are ignored, as the contract says."""

        unknown = marshmallow.EXCLUDE


class Text(fields.String):
    """A string of `min` to `max` characters."""

    default_error_messages = {"invalid": "must be a string", "invalid_utf8": "must be a string"}  # noqa: RUF012

    def __init__(self, *, min: int | None = None, max: int | None = None, **options: Any) -> None:  # noqa: A002
        checks = [validate.Length(min=min, max=max, error=_length_message(min, max))] if min or max else []
        super().__init__(validate=checks, **options)


class Choice(fields.String):
    """One of a closed vocabulary."""

    default_error_messages = {"invalid": "must be a string"}  # noqa: RUF012

    def __init__(self, values: Iterable[str], **options: Any) -> None:
        values = tuple(values)
        super().__init__(validate=validate.OneOf(values, error=f"must be one of: {', '.join(values)}"), **options)


class Price(AsItIs, fields.Decimal):
    """A decimal greater than 0 that a Postgres `numeric` holds: money, a price, a size.

    Exact to its 18th decimal place, half to even there: programs write floats with all their digits.
    """

    default_error_messages = {  # noqa: RUF012
        "invalid": "must be a number",
        "positive": "must be greater than 0",
        "large": f"must be less than 10^{PRICE_DIGITS}",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Decimal:
        number = _number(value)
        if number is None:
            raise self.make_error("invalid")
        if number <= 0:
            raise self.make_error("positive")
        if number.adjusted() >= PRICE_DIGITS:
            raise self.make_error("large")
        # as_tuple makes an object of each digit. A text this short has fewer decimals, unless it has an exponent.
        if len(str(number)) > PRICE_DECIMALS or number.adjusted() < _LEAST_PLAIN:
            exponent = number.as_tuple().exponent
            assert isinstance(exponent, int)  # finite: _number let it through
            if exponent < -PRICE_DECIMALS:
                number = number.quantize(_FINEST, ROUND_HALF_EVEN, _EXACT)
                if not number or number.adjusted() >= PRICE_DIGITS:
                    raise self.make_error("large" if number else "positive")
        return number


class Number(AsItIs, fields.Float):
    """A JSON number between `min` and `max`, or `above` a bound, as int or float: for what is measured, not paid."""

    default_error_messages = {  # noqa: RUF012
        "invalid": "must be a number",
        "large": f"must be between -10^{DOUBLE_DIGITS} and 10^{DOUBLE_DIGITS}",
        "above": "must be greater than {above}",
    }

    def __init__(
        self,
        *,
        min: float | None = None,  # noqa: A002
        max: float | None = None,  # noqa: A002
        above: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(validate=_range(min, max), **options)
        self.above = above

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> float:
        number = _number(value)
        if number is None:
            raise self.make_error("invalid")
        if number.adjusted() >= DOUBLE_DIGITS:
            raise self.make_error("large")
        if self.above is not None and number <= self.above:
            raise self.make_error("above", above=self.above)
        return value if isinstance(value, int) and abs(value) <= _SAFE_INTEGER else float(number)


class Whole(AsItIs, fields.Integer):
    """A JSON integer between `min` and `max`."""

    default_error_messages = {"invalid": "must be an integer"}  # noqa: RUF012

    def __init__(self, *, min: int | None = None, max: int | None = None, **options: Any) -> None:  # noqa: A002
        super().__init__(validate=_range(min, max), **options)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if type(value) is not int:
            raise self.make_error("invalid")
        return value


class Flag(AsItIs, fields.Boolean):
    """A JSON boolean."""

    default_error_messages = {"invalid": "must be true or false"}  # noqa: RUF012

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid")
        return value


class Timestamp(fields.AwareDateTime):
    """An aware datetime. In: RFC 3339 with any offset; out: UTC, milliseconds, `Z`."""

    default_error_messages = {  # noqa: RUF012
        "invalid": "must be an RFC 3339 time with an offset, as in 2024-01-15T10:30:00Z",
        "space": "must be an RFC 3339 time with an offset: a + is written %2B in a query",
    }
    # datetime.fromisoformat also takes week dates, times without seconds and other things of ISO 8601.
    _FORM = re.compile(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
    )
    _SPACED_OFFSET = re.compile(r".*[0-9] [0-9]{2}:[0-9]{2}")  # a bare + in a query becomes a space

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        if not isinstance(value, str) or self._FORM.fullmatch(value) is None:
            is_spaced = isinstance(value, str) and "T" in value and self._SPACED_OFFSET.fullmatch(value) is not None
            raise self.make_error("space" if is_spaced else "invalid")
        try:
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            raise self.make_error("invalid") from None

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        return None if value is None else rfc3339(value)


class Day(fields.String):
    """A calendar date, `2026-03-15`, kept as that text."""

    default_error_messages = {"invalid": "must be a date, as in 2026-03-15"}  # noqa: RUF012
    _FORM = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")  # date.fromisoformat also takes the days of weeks

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str) or self._FORM.fullmatch(value) is None:
            raise self.make_error("invalid")
        try:
            return date.fromisoformat(value).isoformat()
        except ValueError:
            raise self.make_error("invalid") from None


class Identifier(fields.UUID):
    """A UUID in its canonical form."""

    default_error_messages = {"invalid_uuid": "must be a UUID"}  # noqa: RUF012

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> UUID:
        found = parse_uuid(value) if isinstance(value, str) else None
        if found is None:
            raise self.make_error("invalid_uuid")
        return found

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        return None if value is None else str(value)


class Items(fields.List[Any]):
    """A JSON array of `min` to `max` items. How many there are is checked first: reading all of too many takes long."""

    default_error_messages = {"invalid": "must be an array"}  # noqa: RUF012

    def __init__(
        self,
        inner: fields.Field[Any],
        *,
        min: int | None = None,  # noqa: A002
        max: int | None = None,  # noqa: A002
        **options: Any,
    ) -> None:
        self.bounds = (
            None if min is None and max is None else validate.Length(min=min, max=max, error=_items_message(min, max))
        )
        super().__init__(inner, **options)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if self.bounds is not None and isinstance(value, list):
            self.bounds(value)
        return super()._deserialize(value, attr, data, **kwargs)


class Nested(fields.Nested):
    """Another schema's object, or with `many` an array of them."""

    default_error_messages = {"type": "must be an object"}  # noqa: RUF012


class Object(AsItIs, fields.Dict):
    """A JSON object of any content that every reader of JSON can take."""

    default_error_messages = {  # noqa: RUF012
        "invalid": "must be an object",
        "plain": f"must be nested at most {MOST_DEPTH} deep, its numbers between -10^{DOUBLE_DIGITS} and "
        f"10^{DOUBLE_DIGITS}",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        document = super()._deserialize(value, attr, data, **kwargs)  # type: ignore[no-untyped-call]  # marshmallow's
        if not is_plain(document):
            raise self.make_error("plain")
        return document


class QueryWhole(Whole):
    """An integer in a query string."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not isinstance(value, str) or re.fullmatch(r"[+-]?[0-9]+", value) is None:
            raise self.make_error("invalid")
        # int() of a long text takes quadratic time, and Postgres holds no more than a bigint: past fifteen digits it
        # only matters that the number is out of range.
        digits = value.lstrip("+-").lstrip("0")[: _QUERY_DIGITS + 1] or "0"
        number = -int(digits) if value.startswith("-") else int(digits)
        if len(digits) > _QUERY_DIGITS:
            self._validate(number)
            raise self.make_error("invalid")
        return number


class QueryNumber(Number):
    """A number in a query string."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> float:
        # More digits than a double is ever printed with, but not so many that reading them takes time.
        if not isinstance(value, str) or re.fullmatch(r"[+-]?[0-9]{1,300}(\.[0-9]{1,300})?", value) is None:
            raise self.make_error("invalid")
        return float(value)


class QueryFlag(Flag):
    """`true` or `false` in a query string."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if value not in ("true", "false"):
            raise self.make_error("invalid")
        return bool(value == "true")


class CommaList(fields.Field[list[Any]]):
    """Values separated by commas in a query string: trimmed, empty ones dropped, each checked by `inner`."""

    default_error_messages = {"invalid": "must be a list separated by commas"}  # noqa: RUF012

    def __init__(self, inner: fields.Field[Any], **options: Any) -> None:
        self.inner = inner
        super().__init__(**options)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, str):
            raise self.make_error("invalid")
        found = []
        for item in (part.strip() for part in value.split(",")):
            if not item:
                continue
            try:
                found.append(self.inner.deserialize(item))
            except ValidationError as error:
                raise ValidationError(f"{item[:40]!r} {error.messages[0]}") from None
        return found


class LastGiven(Text):
    """A text in a query string of which the last one counts, where others may be given once only."""


class Paging(QuerySchema):
    """`limit` and `offset` of a list; a subclass may set another default."""

    limit = QueryWhole(min=1, max=100, load_default=50, metadata={"description": "Most items of one answer."})
    offset = QueryWhole(min=0, max=10**9, load_default=0, metadata={"description": "How many to leave out first."})
