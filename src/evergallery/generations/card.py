"""A generation's card: everything about it but its tensors."""

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from evergallery._version import __version__
from evergallery.files.cards import write_card
from evergallery.network.architecture import Architecture, HeadKind

FORMAT = 4
"""The newest. Older versions read cards of trained generations (1) and of other kinds (2); 3 is expanded, 4 an endpoint."""
CARD = "card.json"

Kind = Literal["trained", "model", "onnx", "callable", "endpoint", "vectors"]
KINDS = {
    "trained": "a trained network",
    "model": "a registered model",
    "onnx": "an ONNX model",
    "callable": "a Python function",
    "endpoint": "an HTTP endpoint",
    "vectors": "vectors only",
}


class MethodCard(BaseModel):
    """The method of a generation and its hyper-parameters."""

    model_config = ConfigDict(frozen=True)

    name: str
    parameters: dict[str, Any]


class HeadCard(BaseModel):
    """The head of a generation."""

    model_config = ConfigDict(frozen=True)

    kind: HeadKind
    scale: float
    classes: int


class Card(BaseModel):
    """Everything about a generation but its tensors.

    Attributes:
        name: ``v1``, ``v2``, …
        kind: ``trained`` here; a ``model`` of timm or torchvision that was registered with its weights; an ``onnx`` file;
            a Python function (``callable``); an HTTP ``endpoint``; or imported ``vectors``, whose model nobody here has.
        fingerprint: identifies the embedding space: weights, preprocessing, normalisation, dimension.
        parent: name of the generation that it learned from, or ``None``.
        run: identifies the training run, so that a run killed at its very end is not repeated; empty without one.
        method: how it learned, or ``register`` or ``import``.
        architecture: of the network that learns, where there is one.
        root: of the network whose embeddings are the first part of its own; where it was expanded.
        preprocessing: from a file to the embedder's input; empty where there are vectors only.
        dimension: D of its embeddings.
        head: shape and kind of the head, where there is a network.
        model: what else it takes to run a foreign model, or to know vectors again.
        classes: names of the head's rows: the parent's first, then the new ones.
        new_classes: those that this generation learned.
        data: counts and fingerprint of the images that it learned from; empty where it did not learn here.
        settings: of the training, seeds included; empty where it did not learn here.
        training: its epochs, seconds, device, precision, figures on the validation part; empty where it did not learn here.
        memory: names of the generations whose class means it remembers, oldest first.
        versions: of the libraries.
        created: ISO 8601, UTC.
        checksums: SHA-256 of the tensor files.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    name: str
    kind: Kind = "trained"
    fingerprint: str
    parent: str | None
    run: str = ""
    method: MethodCard
    architecture: Architecture | None = None
    root: Architecture | None = None
    preprocessing: dict[str, Any] = Field(default_factory=dict)
    dimension: int
    head: HeadCard | None = None
    model: dict[str, Any] = Field(default_factory=dict)
    classes: tuple[str, ...] = ()
    new_classes: tuple[str, ...] = ()
    data: dict[str, Any] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    memory: tuple[str, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
    created: str
    checksums: dict[str, str] = Field(default_factory=dict)


def new_card(directory: Path, **fields: Any) -> Card:
    """Make a card of its fields, and write it with its checksum."""
    kind = fields.get("kind", "trained")
    trained, expanded = kind == "trained", fields.get("root") is not None
    card = Card(
        format=4 if kind == "endpoint" else 3 if expanded else 1 if trained else 2,
        versions={"evergallery": __version__, "python": platform.python_version(), **_versions()},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        **fields,
    )
    # Fields that only others have are left out, so that older versions read the card of a generation like theirs.
    only_others = [*([] if expanded else ["root"]), *(["kind", "model"] if trained else [])]
    write_card(directory / CARD, card, leave_out=only_others)
    return card


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "timm", "numpy", "pillow", "lightning-fabric")}
