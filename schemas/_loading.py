"""Load valid objects in a third of marshmallow's time; invalid ones are left to marshmallow, which reports them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from math import inf
from typing import Any, NamedTuple, TypeVar

import marshmallow
from marshmallow import EXCLUDE, RAISE, ValidationError, fields, missing, types, validate
from marshmallow.decorators import POST_LOAD, PRE_LOAD, VALIDATES, VALIDATES_SCHEMA

from config.documents import Loaded

Given = Mapping[str, object]
Field = fields.Field[Any]
Load = Callable[[object, str, Given], object]  # of a value, under a key, in an object: as Field.deserialize

T = TypeVar("T")
_ASK = object()  # in place of a default: the field supplies it, or refuses


class Reading(fields.Field[T]):
    """A field that reads a value alike wherever it is given."""

    def read(self, value: object) -> T:
        """Return the value in its loaded form. Raises ValidationError."""
        raise NotImplementedError

    def _deserialize(self, value: object, attr: str | None, data: Given | None, **_: object) -> T:
        return self.read(value)


class _Way(NamedTuple):
    """The compiled steps by which a schema loads an object."""

    keys: frozenset[str]
    steps: Sequence[tuple[str, str, Load, object]]  # key, name, loader, default
    checks: Sequence[Callable[..., object]]  # of the whole
    ends: Sequence[Callable[..., Loaded]]  # functions that convert the result


class LoadingSchema(marshmallow.Schema):
    """A schema whose `load` answers as marshmallow's own does."""

    def load(
        self,
        data: Given | Sequence[Given],
        *,
        many: bool | None = None,
        partial: bool | types.StrSequenceOrSet | None = None,
        unknown: types.UnknownOption | None = None,
    ) -> Loaded:
        """Load an object; returns the values. Raises marshmallow's ValidationError."""
        rule = unknown or self.unknown
        if not (many or partial or self.many or self.partial) and rule in {RAISE, EXCLUDE}:
            found = self._load_quickly(data, rule)
            if found is not None:
                return found
        loaded: Loaded = super().load(data, many=many, partial=partial, unknown=unknown)
        return loaded

    def _load_quickly(self, data: object, unknown: str) -> Loaded | None:
        """Load as `load` does; return None for an object that is invalid, or that this way does not support."""
        way = self._way
        if way is None or not isinstance(data, Mapping) or (unknown == RAISE and not data.keys() <= way.keys):
            return None
        found: Loaded = {}
        try:
            for key, name, load, default in way.steps:
                value = data.get(key, missing)
                value = load(value, key, data) if value is not missing or default is _ASK else default
                if value is not missing:
                    found[name] = value
            for check in way.checks:
                check(found, many=False, partial=self.partial, unknown=unknown)
            for end in way.ends:
                found = end(found, many=False, partial=self.partial, unknown=unknown)
        except ValidationError:
            return None
        return found

    @cached_property
    def _way(self) -> _Way | None:
        """Compile the schema's way of loading; None for a schema with hooks that none of ours has."""
        hooks = [*self._hooks[VALIDATES_SCHEMA], *self._hooks[POST_LOAD]]
        if self._hooks[PRE_LOAD] or self._hooks[VALIDATES]:
            return None
        if any(is_of_many or options.get("pass_original") for _, is_of_many, options in hooks):
            return None
        if any(field.attribute is not None for field in self.load_fields.values()):
            return None
        named = {field.data_key or name: (name, field) for name, field in self.load_fields.items()}
        return _Way(
            keys=frozenset(named),
            steps=[(key, name, _loader(field), _default(field)) for key, (name, field) in named.items()],
            checks=[getattr(self, name) for name, _, _ in self._hooks[VALIDATES_SCHEMA]],
            ends=[getattr(self, name) for name, _, _ in self._hooks[POST_LOAD]],
        )


def _default(field: Field) -> object:
    if _is_odd(field) or field.required or callable(field.load_default):
        return _ASK
    return field.load_default


def _loader(field: Field) -> Load:
    if _is_odd(field):
        return field.deserialize
    checks = field.validators
    if type(field)._deserialize is fields.String._deserialize:  # noqa: SLF001 - only a text's type is checked
        bounds = [each for each in checks if type(each) is validate.Length and each.equal is None]
        sets = [each.choices for each in checks if type(each) is validate.OneOf and type(each.choices) is tuple]
        if len(bounds) + len(sets) == len(checks):
            return _text_loader(field, bounds, sets)
    return _any_loader(field)


def _is_odd(field: Field) -> bool:
    """Return whether the field has steps of its own beside those of Field.deserialize."""
    kind, usual = type(field), fields.Field
    own = kind.deserialize, kind._validate, kind._validate_missing  # noqa: SLF001
    return bool(
        own != (usual.deserialize, usual._validate, usual._validate_missing)  # noqa: SLF001
        or field.pre_load
        or field.post_load
    )


def _text_loader(field: Field, bounds: Sequence[validate.Length], sets: Sequence[tuple[object, ...]]) -> Load:
    whole = field.deserialize
    least = max((each.min or 0 for each in bounds), default=0)
    most = min((inf if each.max is None else each.max for each in bounds), default=inf)
    allowed = frozenset.intersection(*map(frozenset, sets)) if sets else None

    def load(value: object, key: str, data: Given) -> object:
        if type(value) is str and least <= len(value) <= most and (allowed is None or value in allowed):
            return value
        return whole(value, key, data)

    return load


def _any_loader(field: Field) -> Load:
    whole, own, checks = field.deserialize, field._deserialize, tuple(field.validators)  # noqa: SLF001
    read = field.read if isinstance(field, Reading) else None

    def load(value: object, key: str, data: Given) -> object:
        if value is None or value is missing:
            return whole(value, key, data)
        found = own(value, key, data) if read is None else read(value)
        for check in checks:
            check(found)
        return found

    return load
