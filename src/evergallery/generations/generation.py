"""A generation: one embedder, or only the vectors of one, with its card. Written once, whole or not at all, checksummed."""

import hashlib
import json
import platform
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from evergallery._version import __version__
from evergallery.data.images import Preprocessing
from evergallery.errors import DamagedError, EvergalleryError, InputError
from evergallery.files import new_directory, sha256_of
from evergallery.files.cards import read_card, write_card
from evergallery.files.tensors import hash_tensors, load_tensors, save_tensors
from evergallery.memory import Memory
from evergallery.network import Architecture, Embedder, ExpandedEmbedder, Extractor, Head, HeadKind, Network
from evergallery.network.foreign import SAME, ForeignModel, function_model, onnx_model, probe

FORMAT = 3
"""The newest. Older versions read the cards of trained generations (1) and of other kinds (2); 3 is expanded."""
CARD, EMBEDDER, HEAD, MEMORY = "card.json", "embedder.safetensors", "head.safetensors", "memory.safetensors"
LEARNED_FROM = "learned_from.safetensors"
ONNX, PROBE = "model.onnx", "probe.safetensors"

Kind = Literal["trained", "model", "onnx", "callable", "vectors"]
KINDS = {
    "trained": "a trained network",
    "model": "a registered model",
    "onnx": "an ONNX model",
    "callable": "a Python function",
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
            a Python function (``callable``); or ``vectors`` that were imported, whose model nobody here has.
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
        settings: of the training, seeds included; likewise.
        training: likewise epochs, seconds, device, precision, figures on the validation part.
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
        learned_from: Sequence[str] = (),
        root: Embedder | None = None,
        **description: Any,
    ) -> "Generation":
        """Write a new generation: the directory appears complete, or not at all.

        Args:
            directory: must not exist.
            network: its weights are stored.
            preprocessing: of its input.
            memory: what it remembers of its task and of those before.
            learned_from: content hashes of the images that it has seen.
            root: whose embeddings are served before the network's own, in one vector; ``None`` for the network's alone.
            **description: the fields of ``Card`` that do not follow from the network.
        """
        head = network.head
        embedder = network.embedder if root is None else ExpandedEmbedder(root, network.embedder)
        memory = memory or Memory()
        with new_directory(directory) as temporary:
            checksums = {
                EMBEDDER: save_tensors(temporary / EMBEDDER, embedder.state_dict()),
                HEAD: save_tensors(temporary / HEAD, head.state_dict()),
                MEMORY: save_tensors(temporary / MEMORY, memory.tensors()),
                LEARNED_FROM: save_tensors(temporary / LEARNED_FROM, {"hashes": short_hashes(learned_from)}),
            }
            card = _write_card(
                temporary,
                fingerprint=fingerprint_of(embedder, preprocessing),
                architecture=network.embedder.architecture,
                root=root.architecture if root is not None else None,
                preprocessing=preprocessing.to_dict(),
                dimension=embedder.dimension,
                head=HeadCard(kind=head.kind, scale=head.scale, classes=head.classes),
                memory=tuple(memory.means),
                checksums=checksums,
                **description,
            )
        return cls(directory, card)

    @classmethod
    def write_foreign(
        cls, directory: Path, model: ForeignModel, preprocessing: Preprocessing, *, name: str, method: MethodCard
    ) -> "Generation":
        """Write the generation of a model that is only run: its file where it has one, and what it makes of the probes.

        Args:
            directory: must not exist.
            model: what is run.
            preprocessing: of its input.
            name: ``v1``, ``v2``, …
            method: how it came here.

        Raises:
            InputError: the model fails on the probe pictures.
        """
        probes = probe(model, preprocessing)
        with new_directory(directory) as temporary:
            checksums = {PROBE: save_tensors(temporary / PROBE, {"embeddings": probes})}
            if model.file is not None:
                shutil.copyfile(model.file, temporary / ONNX)
                checksums[ONNX] = sha256_of(temporary / ONNX)
            card = _write_card(
                temporary,
                name=name,
                kind="callable" if model.file is None else "onnx",
                parent=None,
                fingerprint=fingerprint_of(model, preprocessing, probes),
                method=method,
                preprocessing=preprocessing.to_dict(),
                dimension=model.dimension,
                model={"function": model.name} if model.file is None else {"file": model.file.name},
                checksums=checksums,
            )
        return cls(directory, card)

    @classmethod
    def write_vectors(
        cls, directory: Path, *, name: str, dimension: int, content: str, method: MethodCard
    ) -> "Generation":
        """Write the generation of vectors whose model nobody here has.

        Args:
            directory: must not exist.
            name: ``v1``, ``v2``, …
            dimension: D.
            content: SHA-256 of the first vectors of the space and of their ids, which is what tells it from others.
            method: how they came here.
        """
        with new_directory(directory) as temporary:
            card = _write_card(
                temporary,
                name=name,
                kind="vectors",
                parent=None,
                fingerprint=vectors_fingerprint(content, dimension),
                method=method,
                dimension=dimension,
                model={"content": content},
            )
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
        """From a file to the embedder's input.

        Raises:
            InputError: there are vectors only.
        """
        self._require_model()
        return Preprocessing.from_dict(self.card.preprocessing)

    @property
    def extracts(self) -> bool:
        """Whether it can look at an image; not where only vectors are known."""
        return self.card.kind != "vectors"

    @property
    def can_be_parent(self) -> bool:
        """Whether another generation can learn from it: it is a network, with its weights."""
        return self.card.architecture is not None

    @property
    def is_expanded(self) -> bool:
        """Whether the embeddings of its root are the first part of its own."""
        return self.card.root is not None

    @property
    def backbone_is_known(self) -> bool:
        """Whether its backbone was trained elsewhere, on more than anybody has here, and has been frozen since."""
        if self.card.kind == "model":
            # A model that was registered with initial weights has learned nothing yet.
            return not str(self.card.method.parameters.get("weights", "")).startswith("seed ")
        return self.card.settings.get("train") == "neck" or self.card.settings.get("normalisation") == "fixed"

    def require_network(self) -> None:
        """Refuse to learn from what is no network.

        Raises:
            InputError: in one sentence that says what is possible instead.
        """
        if not self.can_be_parent:
            raise InputError(
                f"{self.name} is {KINDS[self.card.kind]}, which nothing can learn from: learn a generation without a parent "
                f"(--method finetune), and fit a map between the two with  evergallery adapt"
            )

    @property
    def architecture(self) -> Architecture:
        """Of its network.

        Raises:
            InputError: it has none that could learn.
        """
        self.require_network()
        assert self.card.architecture is not None
        return self.card.architecture

    @property
    def head_card(self) -> HeadCard:
        """Of its network's head.

        Raises:
            InputError: it has no network that could learn.
        """
        self.require_network()
        assert self.card.head is not None
        return self.card.head

    def embedder(self, device: torch.device | str = "cpu") -> Extractor:
        """What embeds images, in evaluation mode: an ``Embedder`` where it is a network, else the foreign model.

        Args:
            device: of a network; a foreign model runs where it likes.

        Raises:
            InputError: there are vectors only, or a Python function cannot be imported.
            DamagedError: weights are missing or altered, or the model behind a foreign generation has changed.
            MissingExtraError: an ONNX model without onnxruntime.
        """
        self._require_model()
        return self._foreign_model() if self.card.architecture is None else self._embedder(device)

    def network(self) -> Network:
        """The network that learns with its head, on the CPU, in evaluation mode; the head of a registered model is empty.

        Of an expanded generation it is the part that goes on learning, without the root.

        Raises:
            InputError: it is no network.
            DamagedError: weights are missing or altered.
        """
        card = self.head_card
        embedder = self._embedder("cpu")
        evolving = embedder.evolving if isinstance(embedder, ExpandedEmbedder) else embedder
        head = Head(evolving.dimension, card.classes, card.kind, card.scale)
        head.load_state_dict(self._tensors(HEAD))
        return Network(evolving, head).eval()

    def root(self) -> Embedder | None:
        """The network whose embeddings are the first part of its own; ``None`` where it was not expanded.

        Raises:
            DamagedError: weights are missing or altered.
        """
        embedder = self._embedder("cpu") if self.is_expanded else None
        return embedder.root if isinstance(embedder, ExpandedEmbedder) else None

    def memory(self) -> Memory:
        """What it remembers of its task and of those before; empty for a generation that kept nothing.

        Raises:
            DamagedError: the file is missing or altered.
        """
        return Memory.from_tensors(self._tensors(MEMORY), self.card.memory) if self.card.memory else Memory()

    def learned_from(self) -> torch.Tensor:
        """(N,) ``short_hashes`` of the images that it has seen itself, sorted; empty where nobody wrote them down.

        Raises:
            DamagedError: the file is missing or altered.
        """
        if LEARNED_FROM not in self.card.checksums:
            return short_hashes(())
        return self._tensors(LEARNED_FROM)["hashes"]

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
        if found:
            return found
        try:
            if self._fingerprint_of_files() != self.fingerprint:
                found.append(
                    f"{self.directory} holds another embedding space than its card says: restore it from a backup."
                )
        except EvergalleryError as error:
            found.append(str(error))
        return found

    def _embedder(self, device: torch.device | str) -> Embedder | ExpandedEmbedder:
        embedder: Embedder | ExpandedEmbedder = Embedder(self.architecture)
        if self.card.root is not None:
            embedder = ExpandedEmbedder(Embedder(self.card.root), Embedder(self.architecture))
        embedder.load_state_dict(self._tensors(EMBEDDER))
        return embedder.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]

    def _foreign_model(self) -> ForeignModel:
        """The model, which still makes of the probe pictures what it made when it was registered."""
        size, dimension = self.preprocessing.size, self.card.dimension
        if self.card.kind == "callable":
            model = function_model(self.card.model["function"], size, dimension)
        else:
            path = self.directory / ONNX
            if not path.is_file() or sha256_of(path) != self.card.checksums[ONNX]:
                raise DamagedError(f"{path} is not the file that was written: restore it from a backup.")
            model = onnx_model(path, size, dimension=dimension)
        now = probe(model, self.preprocessing)
        cosine = float((now * self._probes()).sum(1).min())
        if cosine < SAME:
            raise DamagedError(
                f"The model behind {self.name} has changed (fixed pictures are embedded at a cosine of {cosine:.3f} with "
                f"what they were): register it as a new generation."
            )
        model.eval()
        return model

    def _probes(self) -> torch.Tensor:
        return self._tensors(PROBE)["embeddings"]

    def _require_model(self) -> None:
        if self.card.kind == "vectors":
            raise InputError(
                f"{self.name} has vectors only: nothing can be extracted with it; search by a vector or an item, or "
                f"register its model."
            )

    def _fingerprint_of_files(self) -> str:
        card = self.card
        if card.kind == "vectors":
            return vectors_fingerprint(card.model["content"], card.dimension)
        return fingerprint_of(self.embedder(), self.preprocessing, self._probes() if card.kind == "callable" else None)

    def _tensors(self, name: str) -> dict[str, torch.Tensor]:
        return load_tensors(self.directory / name, self.card.checksums[name], "restore it from a backup")


def short_hashes(hashes: Sequence[str]) -> torch.Tensor:
    """(N,) int64: the first eight bytes of each SHA-256, sorted; enough to tell images apart, and small."""
    parts = [int.from_bytes(bytes.fromhex(one)[:8], "little", signed=True) for one in hashes]
    return torch.tensor(parts, dtype=torch.int64).sort().values


def directory_name(number: int) -> str:
    """``v0001`` for 1."""
    return f"v{number:04d}"


def generation_directories(directory: Path) -> list[Path]:
    """The directories of generations, in order of their numbers."""
    found = [path for path in directory.iterdir() if re.fullmatch(r"v\d{4,}", path.name)]
    return sorted(found, key=lambda path: int(path.name[1:]))


def fingerprint_of(embedder: Extractor, preprocessing: Preprocessing, probes: torch.Tensor | None = None) -> str:
    """SHA-256 of the embedding space: weights, architecture, preprocessing, dimension, and the cosine it is used with.

    Two models of equal dimension have different fingerprints; two copies of one model have the same. A foreign model is
    known by its file, or where it is a Python function by its name and by what it makes of the probe pictures, which the
    next version of its code may change.

    Args:
        embedder: of any kind.
        preprocessing: of its input.
        probes: (P, D) what a function made of the probe pictures; made now by default.
    """
    if isinstance(embedder, Embedder | ExpandedEmbedder):
        parts = [embedder] if isinstance(embedder, Embedder) else [embedder.evolving, embedder.root]
        names = ("architecture", "root")
        identity: dict[str, Any] = {
            "weights": hash_tensors(embedder.state_dict()),
            **{name: part.architecture.model_dump() for name, part in zip(names, parts, strict=False)},
        }
    elif isinstance(embedder, ForeignModel) and embedder.file is not None:
        identity = {"onnx": sha256_of(embedder.file)}
    else:
        made = probe(embedder, preprocessing) if probes is None else probes
        identity = {"function": getattr(embedder, "name", ""), "probes": hash_tensors({"embeddings": made})}
    space = {"preprocessing": preprocessing.to_dict(), "dimension": embedder.dimension, "normalisation": "l2"}
    return _digest({**identity, **space})


def vectors_fingerprint(content: str, dimension: int) -> str:
    """SHA-256 of an embedding space of which nothing is known but vectors."""
    return _digest({"vectors": content, "dimension": dimension, "normalisation": "l2"})


def _write_card(directory: Path, **fields: Any) -> Card:
    """Make a card of its fields, and write it with its checksum."""
    trained, expanded = fields.get("kind", "trained") == "trained", fields.get("root") is not None
    card = Card(
        format=FORMAT if expanded else 1 if trained else 2,
        versions={"evergallery": __version__, "python": platform.python_version(), **_versions()},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        **fields,
    )
    # Fields that only others have are left out, so that older versions read the card of a generation like theirs.
    only_others = [*([] if expanded else ["root"]), *(["kind", "model"] if trained else [])]
    write_card(directory / CARD, card, leave_out=only_others)
    return card


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "timm", "numpy", "pillow", "lightning-fabric")}
