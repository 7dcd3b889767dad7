"""Stored items over the wire."""

from typing import Any

from pydantic import BaseModel, Field

from evergallery.serving.schemas.common import MOST_QUERIES, Body, Identifier, Metadata, Name, Scalar, Text, Vector


class NewVector(Body):
    """A vector made elsewhere."""

    id: Identifier
    embedding: Vector = Field(description="(D,) of unit length.")
    label: Text | None = None
    uri: Text | None = Field(None, description="Where the image is, as a note: it is kept and shown, and never opened.")
    metadata: Metadata = Field(default_factory=dict)


class NewVectors(Body):
    """Vectors of one generation."""

    generation: Name = Field(examples=["v2"])
    items: list[NewVector] = Field(min_length=1, max_length=MOST_QUERIES, fail_fast=True)
    relabel: bool = Field(False, description="Let a label take the place of another one that is known.")


class DeletionRequest(Body):
    """Items to delete."""

    ids: list[Identifier] = Field(min_length=1, max_length=10_000, fail_fast=True)


class Item(BaseModel):
    """A stored item."""

    id: str
    label: str | None
    uri: str | None
    generation: str = Field(description="Name of the space of its vector.", examples=["v1"])
    added: str = Field(description="ISO 8601, UTC.")
    metadata: dict[str, Any]
    content_hash: str | None
    thumbnail: str | None = Field(description="Where a small picture of it is, if it has one.")


class Items(BaseModel):
    """A page of items."""

    items: list[Item]
    next: str | None = Field(description="Give it as `after` for the next page.")
    total: int


class Labels(BaseModel):
    """The number of items of each label."""

    labels: dict[str, int]


class NewMark(Body):
    """A mark of a result, as somebody gives it."""

    query: Identifier = Field(
        description="Id of the stored item that was searched with, or the SHA-256 of a kept picture."
    )
    item: Identifier
    right: bool | None = Field(description="Whether it is right for the query; null takes back what was said.")


class Mark(BaseModel):
    """A mark of a result."""

    query: str
    item: str
    right: bool


class Marks(BaseModel):
    """Marks of results."""

    marks: list[Mark]
    queries: int = Field(description="Queries of which a right result is known: what a check can ask.")


class KeptPicture(BaseModel):
    """A picture that was searched with, kept so that its results can be marked."""

    query: str = Field(description="SHA-256 of the picture.")


class LabelCount(BaseModel):
    """A label."""

    label: str
    items: int


class ValueCount(BaseModel):
    """A value of the metadata."""

    value: Scalar
    items: int


class MetadataCount(ValueCount):
    """A value of metadata with the name that it stands under."""

    name: str


class MetadataValues(BaseModel):
    """The values under each name of the metadata."""

    names: dict[str, list[ValueCount]]
    complete: bool = Field(description="Whether every item was looked at.")


class Suggestions(BaseModel):
    """Proposals for the letters that somebody types."""

    labels: list[LabelCount]
    metadata: list[MetadataCount]
    ids: list[str]
    complete: bool = Field(description="Whether every item was looked at.")


class SkippedImage(BaseModel):
    """An image that could not be added."""

    name: str
    reason: str


class LabelConflict(BaseModel):
    """An item that has a label, which it keeps, and was said to have another one."""

    item: str
    known: str
    said: str


class AdditionResult(BaseModel):
    """The result of adding. Known values of an item stay where nothing else is said of it."""

    added: int
    replaced: int
    unchanged: int
    conflicts: list[LabelConflict] = Field(description="Items that keep another label than was said; the first 100.")
    conflict_count: int
    items: list[Item]
    skipped: list[SkippedImage]


class DeletionResult(BaseModel):
    """The result of deleting."""

    deleted: int
