"""The fields of every schema: strict about types, with messages that end the sentence "the field …".

Bodies hold what `parse_json` makes: str, bool, None, int, Decimal (a number with a fraction or exponent), list, dict.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import cached_property
from operator import attrgetter
from typing import Any, TypedDict, TypeVar, Unpack
from uuid import UUID

import marshmallow
from marshmallow import ValidationError, fields, validate

from config.clock import rfc3339
from config.documents import Document
from config.ids import parse_uuid
from schemas._json import DOUBLE_DIGITS, MOST_DEPTH, is_plain
from schemas._loading import LoadingSchema, Reading
from schemas._vocabulary import values_of

PRICE_DIGITS = 15  # before the point: more than any market's price or size has
PRICE_DECIMALS = 18  # after it: the smallest unit of the usual tokens
_FINEST = Decimal(1).scaleb(-PRICE_DECIMALS)
_EXACT = Context(prec=PRICE_DIGITS + PRICE_DECIMALS + 1)  # one digit more where rounding carries
_LEAST_PLAIN = -6  # the power of ten below which Decimal writes an exponent
_SAFE_INTEGER = 2**53  # beyond it a JSON number is no longer exact in JavaScript

T = TypeVar("T")


class LoadOptions(TypedDict, total=False):
    """A field's options on input: required, nullable, and the default where it is missing."""

    required: bool
    allow_none: bool
    load_default: object


class FieldOptions(LoadOptions, total=False):
    """The options that every field takes."""

    data_key: str
    metadata: Mapping[str, object]


class About(TypedDict):
    """A field's description, in the form of an option."""

    metadata: Mapping[str, object]


def about(description: str, **more: object) -> About:
    """Describe a field for the OpenAPI document, as in `Flag(**about("…"))`; `more` are other words of its schema."""
    return {"metadata": {"description": description, **more}}


def _number(value: object) -> Decimal | None:
    if type(value) is int:  # not a bool
        return Decimal(value)
    if isinstance(value, float):  # from JSON that another parser has read; its shortest form is what was written
        value = Decimal(repr(value))
    return value if isinstance(value, Decimal) and value.is_finite() else None


def _length(least: int | None, most: int | None, unit: str) -> Sequence[validate.Length]:
    if least is None and most is None:
        return ()
    if most is None:
        message = "must not be empty" if least == 1 and unit == "characters" else f"must have at least {least} {unit}"
    else:
        message = f"must have {least}-{most} {unit}" if least else f"must have at most {most} {unit}"
    return (validate.Length(min=least, max=most, error=message),)


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

    def handle_error(self, error: ValidationError, data: object, *, many: bool, **options: object) -> None:
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

    def _dump_one(self, obj: Any) -> Document:
        keys, names, values_of, conversions = self._dumping
        if isinstance(obj, Mapping):
            document: Document = {key: obj.get(name) for key, name in zip(keys, names, strict=True)}
        else:
            document = dict(zip(keys, values_of(obj), strict=True))
        for key, name, plain, serialize in conversions:
            if type(document[key]) is not plain:
                document[key] = serialize(document[key], name, obj)
        return document

    @cached_property
    def _dumping(self) -> _Dumping:
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


def component_name(schema: type[marshmallow.Schema]) -> str:
    """Return a schema's name in the OpenAPI document: without the ending of those whose name another class has, too."""
    return schema.__name__.removesuffix("Schema")


_Conversion = tuple[str, str, type, Callable[[Any, str, object], object]]
_Dumping = tuple[Sequence[str], Sequence[str], Callable[[object], Sequence[object]], Sequence[_Conversion]]


class _Nothing:
    """A type that no value has."""


class AsItIs(fields.Field[T]):
    """A field whose values are dumped as they are: JSON has them, or the encoder knows them."""

    def _serialize(self, value: T | None, attr: str | None, obj: object, **_: object) -> Any:
        return value


class Text(fields.String):
    """A string of `min` to `max` characters."""

    default_error_messages = {"invalid": "must be a string", "invalid_utf8": "must be a string"}  # noqa: RUF012

    def __init__(self, *, min: int | None = None, max: int | None = None, **options: Unpack[FieldOptions]) -> None:  # noqa: A002
        super().__init__(validate=_length(min, max, "characters"), **options)


class ConvertedText(Reading[Any], Text):  # a str, or None where a subclass makes nothing of it
    """A text with rules of its own: `convert` checks it, and returns what is kept."""

    def convert(self, text: str) -> str | None:
        """Return the text in its loaded form. Raises ValidationError."""
        raise NotImplementedError

    def read(self, value: object) -> str | None:
        if not isinstance(value, str):
            raise self.make_error("invalid")
        return self.convert(value)


class Choice(fields.String):
    """One of a closed vocabulary: a Literal of schemas/_vocabulary.py, or a tuple of texts."""

    default_error_messages = {"invalid": "must be a string"}  # noqa: RUF012

    def __init__(self, vocabulary: object, **options: Unpack[FieldOptions]) -> None:
        values = values_of(vocabulary)
        super().__init__(validate=validate.OneOf(values, error=f"must be one of: {', '.join(values)}"), **options)


class AnyCase(Reading[str], Choice):
    """One of a closed vocabulary of small letters, in upper or lower case; loaded in lower case."""

    def read(self, value: object) -> str:
        if not isinstance(value, str):
            raise self.make_error("invalid")
        return value.lower()


class Price(AsItIs[Decimal], Reading[Decimal], fields.Decimal):
    """A decimal greater than 0, or with `zero` at least 0, that a Postgres `numeric` holds: money, a price, a size.

    Exact to its 18th decimal place, half to even there: programs write floats with all their digits.
    """

    def __init__(self, *, zero: bool = False, most: int | None = None, **options: Unpack[FieldOptions]) -> None:
        super().__init__(**options)
        self.zero = zero
        self.most = most

    def read(self, value: object) -> Decimal:
        number = _number(value)
        if number is None:
            raise ValidationError("must be a number")
        # as_tuple makes an object of each digit. A text this short has fewer decimals, unless it has an exponent.
        if number > 0 and (len(str(number)) > PRICE_DECIMALS or number.adjusted() < _LEAST_PLAIN):
            exponent = number.as_tuple().exponent
            assert isinstance(exponent, int)  # finite: _number let it through
            if exponent < -PRICE_DECIMALS and number.adjusted() < PRICE_DIGITS:
                number = number.quantize(_FINEST, ROUND_HALF_EVEN, _EXACT)
        if number < 0 or (number == 0 and not self.zero):
            raise ValidationError("must be greater than 0")
        if number.adjusted() >= PRICE_DIGITS:
            raise ValidationError(f"must be less than 10^{PRICE_DIGITS}")
        if self.most is not None and number > self.most:
            raise ValidationError(f"must be at most {self.most}")
        return number


class Number(AsItIs[float], Reading[float], fields.Float):
    """A JSON number between `min` and `max`, or `above` a bound, as int or float: for what is measured, not paid."""

    def __init__(
        self,
        *,
        min: float | None = None,  # noqa: A002
        max: float | None = None,  # noqa: A002
        above: float | None = None,
        **options: Unpack[FieldOptions],
    ) -> None:
        super().__init__(validate=_range(min, max), **options)
        self.above = above

    def read(self, value: object) -> float:
        number = _number(value)
        if number is None:
            raise ValidationError("must be a number")
        if number.adjusted() >= DOUBLE_DIGITS:
            raise ValidationError(f"must be between -10^{DOUBLE_DIGITS} and 10^{DOUBLE_DIGITS}")
        if self.above is not None and number <= self.above:
            raise ValidationError(f"must be greater than {self.above}")
        return value if isinstance(value, int) and abs(value) <= _SAFE_INTEGER else float(number)


class Whole(AsItIs[int], Reading[int], fields.Integer):
    """A JSON integer between `min` and `max`."""

    def __init__(self, *, min: int | None = None, max: int | None = None, **options: Unpack[FieldOptions]) -> None:  # noqa: A002
        super().__init__(validate=_range(min, max), **options)

    def read(self, value: object) -> int:
        if type(value) is not int:
            raise ValidationError("must be an integer")
        return value


class Flag(AsItIs[bool], Reading[bool], fields.Boolean):
    """A JSON boolean."""

    def read(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("must be true or false")
        return value


class Timestamp(Reading[datetime], fields.AwareDateTime):
    """An aware datetime. In: RFC 3339 with any offset; out: UTC, milliseconds, `Z`."""

    # datetime.fromisoformat also takes week dates, times without seconds and other things of ISO 8601.
    _FORM = re.compile(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
    )
    _SPACED_OFFSET = re.compile(r".*[0-9] [0-9]{2}:[0-9]{2}")  # a bare + in a query becomes a space

    def read(self, value: object) -> datetime:
        if isinstance(value, str) and self._FORM.fullmatch(value):
            try:
                return datetime.fromisoformat(value.upper()).astimezone(UTC)
            except (ValueError, OverflowError):
                pass
        elif isinstance(value, str) and "T" in value and self._SPACED_OFFSET.fullmatch(value):
            raise ValidationError("must be an RFC 3339 time with an offset: a + is written %2B in a query")
        raise ValidationError("must be an RFC 3339 time with an offset, as in 2024-01-15T10:30:00Z")

    def _serialize(self, value: datetime | None, attr: str | None, obj: object, **_: object) -> str | None:
        return None if value is None else rfc3339(value)


class Day(Reading[str], fields.String):
    """A calendar date, `2026-03-15`, kept as that text."""

    _FORM = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")  # date.fromisoformat also takes the days of weeks

    def read(self, value: object) -> str:
        if isinstance(value, str) and self._FORM.fullmatch(value):
            try:
                return date.fromisoformat(value).isoformat()
            except ValueError:
                pass
        raise ValidationError("must be a date, as in 2026-03-15")


class Identifier(Reading[UUID], fields.UUID):
    """A UUID in its canonical form."""

    def read(self, value: object) -> UUID:
        found = parse_uuid(value) if isinstance(value, str) else None
        if found is None:
            raise ValidationError("must be a UUID")
        return found

    def _serialize(self, value: UUID | None, attr: str | None, obj: object, **_: object) -> str | None:
        return None if value is None else str(value)


class Items(fields.List[T]):
    """A JSON array of `min` to `max` items. How many there are is checked first: reading all of too many takes long."""

    default_error_messages = {"invalid": "must be an array"}  # noqa: RUF012

    def __init__(
        self,
        inner: fields.Field[T],
        *,
        min: int | None = None,  # noqa: A002
        max: int | None = None,  # noqa: A002
        **options: Unpack[FieldOptions],
    ) -> None:
        self.bounds = next(iter(_length(min, max, "items")), None)
        super().__init__(inner, **options)

    def _deserialize(
        self, value: object, attr: str | None, data: Mapping[str, object] | None, **options: object
    ) -> list[T | None]:
        if self.bounds is not None and isinstance(value, list):
            self.bounds(value)
        try:
            return super()._deserialize(value, attr, data, **options)
        except ValidationError as error:
            # Without the items that are right: checks of the whole would count their places wrong.
            raise ValidationError(error.messages) from None


class Distinct(Items[str]):
    """A JSON array of texts, each kept once, ignoring case; loaded as a tuple."""

    def _deserialize(
        self, value: object, attr: str | None, data: Mapping[str, object] | None, **options: object
    ) -> Any:
        first: dict[str, str] = {}
        for each in super()._deserialize(value, attr, data, **options):
            if each is not None:
                first.setdefault(each.casefold(), each)
        return tuple(first.values())

    def _serialize(self, value: Any, attr: str | None, obj: object, **_: object) -> list[str]:
        return list(value)


class Nested(fields.Nested):
    """Another schema's object, or with `many` an array of them."""

    default_error_messages = {"type": "must be an object"}  # noqa: RUF012


class Stored(Nested):
    """Another schema's object, or an array of them, that is stored in the form that is shown."""

    def _serialize(self, *given: object, **_: object) -> object:
        return given[0]


class Object(AsItIs[Any], Reading[Any], fields.Dict):
    """A JSON object of any content that every reader of JSON can take."""

    def read(self, value: object) -> Document:
        if not isinstance(value, dict):
            raise ValidationError("must be an object")
        if not is_plain(value):
            bounds = f"-10^{DOUBLE_DIGITS} and 10^{DOUBLE_DIGITS}"
            raise ValidationError(f"must be nested at most {MOST_DEPTH} deep, its numbers between {bounds}")
        return dict(value)
