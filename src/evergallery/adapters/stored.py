"""An adapter on disk: its tensors with a card. Written once, whole or not at all, checksummed."""

import hashlib
import json
import platform
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evergallery._version import __version__
from evergallery.adapters.card import CARD, FORMAT, AdapterCard, Direction, NamedSpace
from evergallery.errors import DamagedError, InputError, StoredFileError
from evergallery.files import new_directory
from evergallery.files.cards import read_card, write_card
from evergallery.files.tensor_files import require_written, stored_tensors_hash

if TYPE_CHECKING:
    import torch

    from evergallery.adapters.adapter import Adapter

ADAPTER = "adapter.safetensors"
REMEDY = "restore it from a backup"


@dataclass(frozen=True)
class Fitting:
    """The purpose of an adapter, and the data that it was fitted to.

    Attributes:
        direction: what it is for.
        source: the space that it maps from.
        target: the space that it was fitted to.
        pairs: how many it was fitted to.
        data: fingerprint of the images of the pairs.
        figures: how it was chosen, as JSON values; empty where it was not.
    """

    direction: Direction
    source: NamedSpace
    target: NamedSpace
    pairs: int
    data: str
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredAdapter:
    """An adapter on disk.

    >>> stored = StoredAdapter.load(Path("shop/adapters/a0001"))
    >>> stored.card.direction, stored.adapter()(embeddings)
    """

    directory: Path
    card: AdapterCard

    @classmethod
    def load(cls, directory: Path) -> "StoredAdapter":
        """Read the card; the tensors are read, and verified, when the adapter is asked for.

        Raises:
            DamagedError: the card is missing, altered, or of a newer format.
        """
        return cls(directory, read_card(directory / CARD, AdapterCard, FORMAT, "an adapter's card"))

    @classmethod
    def write(cls, directory: Path, adapter: "Adapter", name: str, fitting: Fitting) -> "StoredAdapter":
        """Write a new adapter: the directory appears complete, or not at all.

        Args:
            directory: must not exist.
            adapter: its tensors are stored.
            name: ``a1``, ``a2``, …
            fitting: what it was fitted to.
        """
        from evergallery.files.tensors import save_tensors

        with new_directory(directory) as temporary:
            card = AdapterCard(
                name=name,
                fingerprint=adapter_fingerprint(adapter, fitting.source.fingerprint, fitting.target.fingerprint),
                kind=adapter.kind,
                direction=fitting.direction,
                source=fitting.source,
                target=fitting.target,
                dimension=adapter.dimension,
                pairs=fitting.pairs,
                data=fitting.data,
                figures=fitting.figures,
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                versions={
                    "evergallery": __version__,
                    "python": platform.python_version(),
                    **{library: version(library) for library in ("torch", "numpy")},
                },
                checksums={ADAPTER: save_tensors(temporary / ADAPTER, adapter.tensors())},
            )
            write_card(temporary / CARD, card)
        return cls(directory, card)

    @property
    def name(self) -> str:
        """``a1``, ``a2``, …"""
        return self.card.name

    @property
    def number(self) -> int:
        """The adapter's number: 1, 2, …"""
        return int(self.card.name.removeprefix("a"))

    @property
    def fingerprint(self) -> str:
        """Identifies the map, and the space of the vectors that it makes."""
        return self.card.fingerprint

    def adapter(self, device: "torch.device | str" = "cpu") -> "Adapter":
        """The map.

        Raises:
            DamagedError: its tensors are missing, altered, or not those of its card.
        """
        # Torch is loaded where a map is made, so that who reads cards does not wait for it.
        from evergallery.adapters.kinds import adapter_from_tensors
        from evergallery.files.tensors import load_tensors

        path = self.directory / ADAPTER
        tensors = load_tensors(path, self.card.checksums[ADAPTER], REMEDY)
        try:
            adapter = adapter_from_tensors(self.card.kind, tensors)
        except InputError as error:
            raise DamagedError(f"{path} is not the adapter of its card ({error}): {REMEDY}.") from error
        self._require_fingerprint(
            adapter_fingerprint(adapter, self.card.source.fingerprint, self.card.target.fingerprint)
        )
        return adapter.to(device)

    def problems(self) -> list[str]:
        """Return what is wrong with its files, a sentence each; empty where all is well."""
        path, card = self.directory / ADAPTER, self.card
        try:
            require_written(path, card.checksums[ADAPTER], REMEDY)
            tensors = stored_tensors_hash(path)
            self._require_fingerprint(
                _fingerprint(card.kind, tensors, card.source.fingerprint, card.target.fingerprint)
            )
        except StoredFileError as error:
            return [str(error)]
        return []

    def _require_fingerprint(self, found: str) -> None:
        if found != self.fingerprint:
            raise DamagedError(f"{self.directory / ADAPTER} holds another map than its card says: {REMEDY}.")


def adapter_directory_name(number: int) -> str:
    """``a0001`` for 1."""
    return f"a{number:04d}"


def adapter_directories(directory: Path) -> list[Path]:
    """The directories of adapters, in order of their numbers."""
    found = [path for path in directory.iterdir() if re.fullmatch(r"a\d{4,}", path.name)]
    return sorted(found, key=lambda path: int(path.name[1:]))


def adapter_fingerprint(adapter: "Adapter", source: str, target: str) -> str:
    """SHA-256 of the map and of what it maps between: its kind, its tensors, and the fingerprints of both spaces.

    Vectors that were mapped are neither of the one space nor of the other; this identifies theirs.
    """
    from evergallery.files.tensors import hash_tensors

    return _fingerprint(adapter.kind, hash_tensors(adapter.tensors()), source, target)


def _fingerprint(kind: str, tensors: str, source: str, target: str) -> str:
    parts = {"kind": kind, "tensors": tensors, "source": source, "target": target}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
