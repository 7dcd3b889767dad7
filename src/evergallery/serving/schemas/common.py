"""The common parts of all bodies: names and values with their bounds, and the answer when something is wrong."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, PlainValidator, WithJsonSchema

from evergallery.data.metadata import LARGEST_INTEGER, NAME, is_storable

Scope = Literal["read", "write", "admin"]
Text = Annotated[str, Field(max_length=4096)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Identifier = Annotated[str, Field(min_length=1, max_length=4096)]
LONGEST_TEXT = 65_536
MOST_NAMES = 1000


def _scalar(value: Any) -> Any:
    # One sentence, where a union of types would tell what is wrong with the first of them.
    if not is_storable(value) or (isinstance(value, str) and len(value) > LONGEST_TEXT):
        raise ValueError(
            f"it has to be a string of at most {LONGEST_TEXT} characters, a finite number of at most 64 bits, true, false or null"
        )
    return value


Scalar = Annotated[
    str | bool | int | float | None,
    PlainValidator(_scalar),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "maxLength": LONGEST_TEXT},
                {"type": "boolean"},
                {"type": "integer", "minimum": -LARGEST_INTEGER, "maximum": LARGEST_INTEGER},
                {"type": "number"},
                {"type": "null"},
            ]
        }
    ),
]


def _few(names: Any) -> Any:
    # Before they are looked at: a fault for each of a hundred thousand values takes ten seconds to tell.
    if isinstance(names, dict) and len(names) > MOST_NAMES:
        raise ValueError(f"give up to {MOST_NAMES} names")
    return names


Metadata = Annotated[dict[Annotated[str, Field(pattern=f"^{NAME}$", max_length=200)], Scalar], BeforeValidator(_few)]
# Lists end at their first fault: a fault for each of a million numbers would take a hundred times their memory.
Vector = Annotated[list[FiniteFloat], Field(min_length=1, max_length=65_536, fail_fast=True)]
MOST_QUERIES = 256


class Body(BaseModel):
    """A client's body: names that nobody knows are refused, and values of another type: ``true`` is no number, ``"1"`` none."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Problem(BaseModel):
    """A problem, for a program and for a person."""

    code: Literal[
        "refused",
        "not_found",
        "invalid",
        "busy",
        "too_large",
        "unauthorised",
        "forbidden",
        "rate_limited",
        "unavailable",
        "internal",
    ]
    message: str


class ErrorAnswer(BaseModel):
    """Any answer that is not what was asked for."""

    error: Problem

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"error": {"code": "not_found", "message": "The gallery has no item 'sku-1'."}}]
        }
    )
