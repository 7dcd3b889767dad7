"""An adapter's card: everything about it but its tensors."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

FORMAT = 1
CARD = "card.json"

Direction = Literal["query", "gallery"]
"""``query``: from new embeddings into the old space. ``gallery``: from stored embeddings into the new one."""


class NamedSpace(BaseModel):
    """An embedding space by the name of what makes it, and the fingerprint that identifies it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    fingerprint: str


class AdapterCard(BaseModel):
    """Everything about an adapter but its tensors.

    Attributes:
        name: ``a1``, ``a2``, …
        fingerprint: identifies the map, and the space of the vectors that it makes.
        kind: a name of ``ADAPTERS``.
        direction: ``query``, new embeddings into the old space, or ``gallery``, stored vectors into the new one.
        source: the space that it maps from.
        target: the space that it was fitted to.
        dimension: of the vectors that it makes.
        pairs: how many it was fitted to.
        data: fingerprint of the images of the pairs.
        figures: how it was chosen, ``Selection.to_dict()``; empty where it was not.
        created: ISO 8601, UTC.
        versions: of the libraries.
        checksums: SHA-256 of the tensor file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    name: str
    fingerprint: str
    kind: str
    direction: Direction
    source: NamedSpace
    target: NamedSpace
    dimension: int
    pairs: int
    data: str
    figures: dict[str, Any]
    created: str
    versions: dict[str, str]
    checksums: dict[str, str]
