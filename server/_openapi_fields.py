"""Translate our own fields' checks, which the library that reads marshmallow cannot know, into JSON Schema."""

from __future__ import annotations

from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import fields

from config.documents import Document
from schemas import _fields as own
from schemas import _people as people
from schemas import users
from schemas._passwords import LONGEST, SHORTEST
from schemas._queries import CommaList
from schemas.assets import AssetData
from schemas.auth import NewPassword
from schemas.dlq import Note
from schemas.providers import Handle
from schemas.referrals import CODE_CHARACTERS, Code
from schemas.social import COMMENT_CHARACTERS, Words

# JSON Schema's patterns know \S, but not Unicode's categories: of what is invisible, the controls are what is excluded.
_VISIBLE = r"^[^\x00-\x1f\x7f-\x9f]*\S[^\x00-\x1f\x7f-\x9f]*$"
_NOT_BLANK = r"\S"


def own_keywords(self: OpenAPIConverter, field: fields.Field[object], **_: object) -> Document:
    """Return the keywords of a field; those of its most specific class come last."""
    found: Document = {}
    for kind, keywords in _KEYWORDS:
        if isinstance(field, kind):
            found |= keywords
    if isinstance(field, own.Price):
        found |= ({"minimum": 0} if field.zero else {}) | ({"maximum": field.most} if field.most is not None else {})
    if isinstance(field, own.Number) and field.above is not None:
        found["exclusiveMinimum"] = field.above
    if isinstance(field, own.Items) and field.bounds is not None:
        found |= {
            name: bound
            for name, bound in (("minItems", field.bounds.min), ("maxItems", field.bounds.max))
            if bound is not None
        }
    if isinstance(field, CommaList):
        found |= {"type": "array", "items": self.field2property(field.inner)}
    if isinstance(field, AssetData):
        alternatives = [self.resolve_nested_schema(each) for each in field.alternatives]
        found |= {"anyOf": [*alternatives, {"type": "null"}] if field.allow_none else alternatives}
    return found


_KEYWORDS: tuple[tuple[type, Document], ...] = (
    (own.Price, {"minimum": 10.0**-own.PRICE_DECIMALS, "exclusiveMaximum": 10**own.PRICE_DIGITS}),
    (own.Day, {"format": "date"}),
    (people.EmailAddress, {"format": "email", "maxLength": people.EMAIL_CHARACTERS}),
    (people.HttpsUrl, {"format": "uri", "maxLength": people.URL_CHARACTERS, "pattern": "^https://"}),
    (people.DisplayName, {"minLength": people.NAME_CHARACTERS[0], "maxLength": people.NAME_CHARACTERS[1]}),
    (NewPassword, {"minLength": SHORTEST, "maxLength": LONGEST}),
    (Note, {"pattern": _NOT_BLANK}),
    (Words, {"minLength": 1, "maxLength": COMMENT_CHARACTERS, "pattern": _NOT_BLANK}),
    (Handle, {"pattern": r"^\s*@?[A-Za-z0-9_]{1,15}\s*$"}),
    (Code, {"pattern": f"^[A-Za-z0-9]{{{CODE_CHARACTERS[0]},{CODE_CHARACTERS[1]}}}$"}),
    (users.Zone, {"pattern": "^[A-Za-z0-9_+/-]+$", "examples": ["America/New_York"]}),
    (people.Line, {"pattern": _VISIBLE}),
    (users.Symbol, {"pattern": _NOT_BLANK}),
)
