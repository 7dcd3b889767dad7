"""A generation: one trained embedder with its card. Written once, whole or not at all, checksummed."""

import hashlib
import json
import platform
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from evergallery._version import __version__
from evergallery.cards import read_card, write_card
from evergallery.data.images import Preprocessing
from evergallery.files import new_directory, sha256_of
from evergallery.memory import Memory
from evergallery.network import Architecture, Embedder, Head, HeadKind, Network
from evergallery.tensors import hash_tensors, load_tensors, save_tensors

FORMAT = 1
CARD, EMBEDDER, HEAD, MEMORY = "card.json", "embedder.safetensors", "head.safetensors", "memory.safetensors"


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
        fingerprint: identifies the embedding space: weights, preprocessing, normalisation, dimension.
        parent: name of the generation that it learned from, or ``None``.
        run: identifies the training run, so that a run killed at its very end is not repeated.
        method: how it learned.
        architecture: of the embedder.
        preprocessing: from a file to the embedder's input.
        dimension: D of its embeddings.
        head: shape and kind of the head.
        classes: names of the head's rows: the parent's first, then the new ones.
        new_classes: those that this generation learned.
        data: counts and fingerprint of the images that it learned from.
        settings: of the training, seeds included.
        training: epochs, seconds, device, precision, figures on the validation part.
        memory: names of the generations whose class means it remembers, oldest first.
        versions: of the libraries.
        created: ISO 8601, UTC.
        checksums: SHA-256 of the tensor files.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    name: str
    fingerprint: str
    parent: str | None
    run: str
    method: MethodCard
    architecture: Architecture
    preprocessing: dict[str, Any]
    dimension: int
    head: HeadCard
    classes: tuple[str, ...]
    new_classes: tuple[str, ...]
    data: dict[str, Any]
    settings: dict[str, Any]
    training: dict[str, Any]
    memory: tuple[str, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
    created: str
    checksums: dict[str, str]


@dataclass(frozen=True)
class Generation:
    """A generation on disk.

    >>> generation = Generation.load(Path("shop/generations/v0001"))
    >>> generation.card.method.name, generation.embedder().dimension
    """

    directory: Path
    card: Card

    @classmethod
    def load(cls, directory: Path) -> "Generation":
        """Read the card; tensors are read, and verified, when they are asked for.

        Raises:
            DamagedError: the card is missing, altered, or of a newer format.
        """
        return cls(directory, read_card(directory / CARD, Card, FORMAT, "a generation's card"))

    @classmethod
    def write(
        cls,
        directory: Path,
        network: Network,
        preprocessing: Preprocessing,
        memory: Memory | None = None,
        **description: Any,
    ) -> "Generation":
        """Write a new generation: the directory appears complete, or not at all.

        Args:
            directory: must not exist.
            network: its weights are stored.
            preprocessing: of its input.
            memory: what it remembers of its task and of those before.
            **description: the fields of ``Card`` that do not follow from the network.
        """
        embedder, head = network.embedder, network.head
        memory = memory or Memory()
        with new_directory(directory) as temporary:
            checksums = {
                EMBEDDER: save_tensors(temporary / EMBEDDER, embedder.state_dict()),
                HEAD: save_tensors(temporary / HEAD, head.state_dict()),
                MEMORY: save_tensors(temporary / MEMORY, memory.tensors()),
            }
            card = Card(
                fingerprint=fingerprint_of(embedder, preprocessing),
                architecture=embedder.architecture,
                preprocessing=preprocessing.to_dict(),
                dimension=embedder.dimension,
                head=HeadCard(kind=head.kind, scale=head.scale, classes=head.classes),
                memory=tuple(memory.means),
                versions={"evergallery": __version__, "python": platform.python_version(), **_versions()},
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                checksums=checksums,
                **description,
            )
            write_card(temporary / CARD, card)
        return cls(directory, card)

    @property
    def name(self) -> str:
        """``v1``, ``v2``, …"""
        return self.card.name

    @property
    def number(self) -> int:
        """1, 2, …"""
        return int(self.card.name.removeprefix("v"))

    @property
    def fingerprint(self) -> str:
        """Identifies the embedding space."""
        return self.card.fingerprint

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """From a file to the embedder's input."""
        return Preprocessing.from_dict(self.card.preprocessing)

    def embedder(self, device: torch.device | str = "cpu") -> Embedder:
        """The embedder, in evaluation mode.

        Raises:
            DamagedError: its weights are missing or altered.
        """
        embedder = Embedder(self.card.architecture)
        embedder.load_state_dict(self._tensors(EMBEDDER))
        return embedder.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]

    def network(self) -> Network:
        """The embedder with its head, on the CPU, in evaluation mode.

        Raises:
            DamagedError: weights are missing or altered.
        """
        head = Head(self.card.dimension, self.card.head.classes, self.card.head.kind, self.card.head.scale)
        head.load_state_dict(self._tensors(HEAD))
        return Network(self.embedder(), head).eval()

    def memory(self) -> Memory:
        """What it remembers of its task and of those before; empty for a generation that kept nothing.

        Raises:
            DamagedError: the file is missing or altered.
        """
        return Memory.from_tensors(self._tensors(MEMORY), self.card.memory) if self.card.memory else Memory()

    def problems(self) -> list[str]:
        """What is wrong with its files, a sentence each; empty where all is well."""
        found = []
        for name, checksum in self.card.checksums.items():
            path = self.directory / name
            if not path.is_file():
                found.append(f"{path} is missing: restore it from a backup.")
            elif sha256_of(path) != checksum:
                found.append(
                    f"{path} is not the file that was written (its checksum differs): restore it from a backup."
                )
        if not found and fingerprint_of(self.embedder(), self.preprocessing) != self.fingerprint:
            found.append(
                f"{self.directory} holds another embedding space than its card says: restore it from a backup."
            )
        return found

    def _tensors(self, name: str) -> dict[str, torch.Tensor]:
        return load_tensors(self.directory / name, self.card.checksums[name], "restore it from a backup")


def directory_name(number: int) -> str:
    """``v0001`` for 1."""
    return f"v{number:04d}"


def generation_directories(directory: Path) -> list[Path]:
    """The directories of generations, in order of their numbers."""
    found = [path for path in directory.iterdir() if re.fullmatch(r"v\d{4,}", path.name)]
    return sorted(found, key=lambda path: int(path.name[1:]))


def fingerprint_of(embedder: Embedder, preprocessing: Preprocessing) -> str:
    """SHA-256 of the embedding space: weights, architecture, preprocessing, dimension, and the cosine it is used with.

    Two models of equal dimension have different fingerprints; two copies of one model have the same.
    """
    parts = {
        "weights": hash_tensors(embedder.state_dict()),
        "architecture": embedder.architecture.model_dump(),
        "preprocessing": preprocessing.to_dict(),
        "dimension": embedder.dimension,
        "normalisation": "l2",
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "timm", "numpy", "pillow", "lightning-fabric")}
