"""Metadata of an item: JSON scalars by name. One rule for galleries, tables and requests."""

import json
import math
import re
from collections.abc import Mapping

from evergallery.strings.names import forms, normal

Scalar = str | int | float | bool | None
# What json.dumps makes anew for each text.
ENCODER = json.JSONEncoder(ensure_ascii=False)

NAME = "[A-Za-z0-9_-]+"
"""The pattern of a name."""
LARGEST_INTEGER = 2**63 - 1
"""The largest that every engine holds as a whole number."""


def is_name(name: object) -> bool:
    """Return whether a value of metadata may have this name."""
    return isinstance(name, str) and re.fullmatch(NAME, name) is not None


def unstorable(metadata: Mapping[str, object]) -> str | None:
    """The first name with which, or under which, nothing can be stored; ``None`` where all can."""
    return next((name for name, value in metadata.items() if not (is_name(name) and is_storable(value))), None)


def is_storable(value: object) -> bool:
    """Return whether a value can be stored: a string, a finite number of at most 64 bits, a bool or null."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return abs(value) <= LARGEST_INTEGER
    return value is None or isinstance(value, str)


def finite_values(metadata: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Metadata without the numbers that say nothing: NaN and the infinities."""
    return {name: value for name, value in metadata.items() if not isinstance(value, float) or math.isfinite(value)}


def metadata_terms(metadata: Mapping[str, Scalar]) -> list[str]:
    """One text for each name and value, sorted: metadata are equal where these are, as in JSON."""
    return sorted(
        ENCODER.encode([name, int(value) if isinstance(value, float) and value.is_integer() else value])
        for name, value in metadata.items()
    )


def term_forms(metadata: Mapping[str, Scalar]) -> list[list[str]]:
    """The terms that each name and value may be stored as: a text in whatever normal form of Unicode it came."""
    return [
        [
            term
            for form in (forms(value) if isinstance(value, str) else (value,))
            for term in metadata_terms({name: form})
        ]
        for name, value in metadata.items()
    ]


def normalised(metadata: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
    """Metadata with every text in Unicode's form NFC, as names are."""
    if all(not isinstance(value, str) or value.isascii() for value in metadata.values()):
        return metadata
    return {name: normal(value) if isinstance(value, str) else value for name, value in metadata.items()}


def to_json(metadata: Mapping[str, Scalar]) -> str:
    """A text that ``of_json`` reads back exactly."""
    return ENCODER.encode(dict(metadata)) if metadata else "{}"


def of_json(text: str | None) -> dict[str, Scalar] | None:
    """The JSON object of a text, an empty one of no text; ``None`` where it is none."""
    if not text:
        return {}
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
