"""A generation: one embedder, or only the vectors of one, with its card; what is written is never changed, and checksummed."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from evergallery.data.images import Preprocessing
from evergallery.errors import DamagedError, EvergalleryError, InputError, UnavailableError
from evergallery.files.cards import read_card
from evergallery.files.tensor_files import require_written, stored_tensors_hash
from evergallery.generations.card import CARD, FORMAT, KINDS, Card, HeadCard
from evergallery.generations.identity import network_fingerprint, vectors_fingerprint
from evergallery.network.architecture import Architecture

if TYPE_CHECKING:
    import torch

    from evergallery.memory import Memory
    from evergallery.network import Embedder, ExpandedEmbedder, Extractor, Network
    from evergallery.network.foreign import ForeignModel

EMBEDDER, HEAD, MEMORY = "embedder.safetensors", "head.safetensors", "memory.safetensors"
LEARNED_FROM = "learned_from.safetensors"
ONNX, PROBE = "model.onnx", "probe.safetensors"
ENDPOINTS = "endpoints"


@dataclass(frozen=True)
class Generation:
    """A generation on disk: its card, and what is made of its files when it is asked for.

    Who reads cards needs no torch: it is imported where tensors are written or a network is built.

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

    @property
    def name(self) -> str:
        """``v1``, ``v2``, …"""
        return self.card.name

    @property
    def number(self) -> int:
        """The generation's number: 1, 2, …"""
        return int(self.card.name.removeprefix("v"))

    @property
    def fingerprint(self) -> str:
        """Identifies the embedding space."""
        return self.card.fingerprint

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing of a file to the embedder's input.

        Raises:
            InputError: there are vectors only.
        """
        self._require_model()
        return Preprocessing.from_dict(self.card.preprocessing)

    @property
    def extracts(self) -> bool:
        """Return whether it can look at an image; not where only vectors are known."""
        return self.card.kind != "vectors"

    @property
    def is_asked(self) -> bool:
        """Return whether somebody else's server embeds for it, which takes money perhaps."""
        return self.card.kind == "endpoint"

    @property
    def account_path(self) -> Path:
        """Return where it is counted how much an endpoint was asked, beside the terms on which it is."""
        return account_path(self.directory)

    def makes(self, probes: "torch.Tensor") -> bool:
        """Return whether it made so of the probe pictures, of which somebody has unit rows (P, D)."""
        from evergallery.network.foreign import SAME, least_cosine

        return least_cosine(probes, self._probes()) >= SAME

    @property
    def can_be_parent(self) -> bool:
        """Return whether another generation can learn from it: it is a network, with its weights."""
        return self.card.architecture is not None

    @property
    def runs_on_gpus(self) -> bool:
        """Return whether it looks at images on the device that it is told: its own network, and an ONNX file in float32."""
        return self.can_be_parent or (
            self.card.kind == "onnx" and self.card.model.get("numbers", "float32") == "float32"
        )

    @property
    def is_expanded(self) -> bool:
        """Return whether the embeddings of its root are the first part of its own."""
        return self.card.root is not None

    @property
    def backbone_is_known(self) -> bool:
        """Return whether its backbone was trained elsewhere, on more than anybody has here, and has been frozen since."""
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
            raise self._no_network()

    def _no_network(self) -> InputError:
        return InputError(
            f"{self.name} is {KINDS[self.card.kind]}, which nothing can learn from: learn a generation without a parent "
            f"(--method finetune), and fit a map between the two with  evergallery adapt NEW {self.name} --pairs IMAGES"
        )

    @property
    def architecture(self) -> Architecture:
        """Return what its network is made of.

        Raises:
            InputError: it has none that could learn.
        """
        if self.card.architecture is None:
            raise self._no_network()
        return self.card.architecture

    @property
    def head_card(self) -> HeadCard:
        """Return what its card says of the head of its network.

        Raises:
            InputError: it has no network that could learn.
        """
        if self.card.head is None:
            raise self._no_network()
        return self.card.head

    def embedder(self, device: "torch.device | str" = "cpu") -> "Extractor":
        """Return what embeds images, in evaluation mode: an ``Embedder`` where it is a network, else the foreign model.

        Args:
            device: of a network, or of an ONNX file; other models run where they like.

        Raises:
            InputError: there are vectors only, or a Python function cannot be imported.
            DamagedError: weights are missing or altered, or the model behind a foreign generation has changed.
            MissingExtraError: an ONNX model without onnxruntime.
            UnavailableError: an endpoint does not answer, or a GPU has no memory for the network, or cannot run the ONNX file.
        """
        self._require_model()
        return self._foreign_model(device) if self.card.architecture is None else self._embedder(device)

    def network(self) -> "Network":
        """The network that learns with its head, on the CPU, in evaluation mode; the head of a registered model is empty.

        Of an expanded generation it is the part that goes on learning, without the root.

        Raises:
            InputError: it is no network.
            DamagedError: weights are missing or altered.
        """
        from evergallery.network import ExpandedEmbedder, Head, Network

        card = self.head_card
        embedder = self._embedder("cpu")
        evolving = embedder.evolving if isinstance(embedder, ExpandedEmbedder) else embedder
        head = Head(evolving.dimension, card.classes, card.kind, card.scale)
        head.load_state_dict(self._tensors(HEAD))
        return Network(evolving, head).eval()

    def root(self) -> "Embedder | None":
        """The network whose embeddings are the first part of its own; ``None`` where it was not expanded.

        Raises:
            DamagedError: weights are missing or altered.
        """
        from evergallery.network import ExpandedEmbedder

        embedder = self._embedder("cpu") if self.is_expanded else None
        return embedder.root if isinstance(embedder, ExpandedEmbedder) else None

    def memory(self) -> "Memory":
        """Return what it remembers of its task and of those before; empty for a generation that kept nothing.

        Raises:
            DamagedError: the file is missing or altered.
        """
        from evergallery.memory import Memory

        return Memory.from_tensors(self._tensors(MEMORY), self.card.memory) if self.card.memory else Memory()

    def learned_from(self) -> "torch.Tensor":
        """(N,) ``short_hashes`` of the images that it has seen itself, sorted; empty where nobody wrote them down.

        Raises:
            DamagedError: the file is missing or altered.
        """
        from evergallery.generations.fingerprint import short_hashes

        if LEARNED_FROM not in self.card.checksums:
            return short_hashes(())
        return self._tensors(LEARNED_FROM)["hashes"]

    def problems(self) -> list[str]:
        """Return what is wrong with its files, a sentence each; empty where all is well."""
        found = []
        for name, checksum in self.card.checksums.items():
            try:
                require_written(self.directory / name, checksum, "restore it from a backup")
            except EvergalleryError as error:
                found.append(str(error))
        if self.card.kind == "endpoint":
            from evergallery.network.endpoint_account import Account

            try:
                Account(self.account_path).terms  # noqa: B018
            except EvergalleryError as error:
                found.append(str(error))
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

    def _embedder(self, device: "torch.device | str") -> "Embedder | ExpandedEmbedder":
        import torch

        from evergallery.devices.gpu import gpu_trouble
        from evergallery.network import Embedder, ExpandedEmbedder
        from evergallery.network.uninitialised import uninitialised

        with uninitialised():
            own = Embedder(self.architecture)
            root = None if self.card.root is None else Embedder(self.card.root)
        embedder = own if root is None else ExpandedEmbedder(root, own)
        embedder.load_state_dict(self._tensors(EMBEDDER))
        with gpu_trouble("the network"):
            return embedder.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]

    def _foreign_model(self, device: "torch.device | str") -> "ForeignModel":
        """The model, which still makes of the probe pictures what it made when it was registered."""
        import torch

        from evergallery.devices.gpu import gpu_trouble
        from evergallery.network.foreign import EXACT, SAME, function_model, least_cosine, onnx_model, probe

        size, dimension = self.preprocessing.size, self.card.dimension
        if self.card.kind == "endpoint":
            return self._endpoint_model()
        if self.card.kind == "callable":
            model = function_model(self.card.model["function"], size, dimension)
        else:
            path = self.directory / ONNX
            require_written(path, self.card.checksums[ONNX], "restore it from a backup")
            with gpu_trouble("the model"):
                model = onnx_model(path, size, dimension=dimension, on_gpu=torch.device(device).type == "cuda")
        with gpu_trouble("a few pictures"):
            cosine = least_cosine(probe(model, self.preprocessing), self._probes())
        if model.on_gpu and cosine < EXACT:
            raise UnavailableError(
                f"On the GPU {self.name} embeds fixed pictures at a cosine of {cosine:.5f} with what they were, below {EXACT}."
            )
        if cosine < SAME:
            raise DamagedError(
                f"The model behind {self.name} has changed (fixed pictures are embedded at a cosine of {cosine:.3f} with "
                f"what they were): register it as a new generation."
            )
        model.eval()
        return model

    def _endpoint_model(self) -> "ForeignModel":
        from evergallery.network.endpoint import Endpoint, EndpointModel
        from evergallery.network.endpoint_account import Account

        account = Account(self.account_path)
        endpoint = Endpoint(**self.card.model, terms=account.terms)
        size, dimension = self.preprocessing.size, self.card.dimension
        model = EndpointModel(endpoint, account, dimension, kept=self._probes(), size=size)
        model.require_same()
        model.eval()
        return model

    def _probes(self) -> "torch.Tensor":
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
        if card.architecture is not None:
            weights = stored_tensors_hash(self.directory / EMBEDDER)
            return network_fingerprint(
                weights, card.architecture, card.root, self.preprocessing.to_dict(), card.dimension
            )
        from evergallery.generations.fingerprint import endpoint_fingerprint, fingerprint_of

        if card.kind == "endpoint":
            # What it makes now is another question, and asked too.
            self.embedder()
            return endpoint_fingerprint(card.model, self._probes(), card.preprocessing, card.dimension)
        return fingerprint_of(self.embedder(), self.preprocessing, self._probes() if card.kind == "callable" else None)

    def _tensors(self, name: str) -> "dict[str, torch.Tensor]":
        from evergallery.files.tensors import load_tensors

        return load_tensors(self.directory / name, self.card.checksums[name], "restore it from a backup")


def account_path(directory: Path) -> Path:
    """Return where the generation of a directory has its endpoint's account."""
    return directory.parent.parent / ENDPOINTS / f"{directory.name}.json"


def directory_name(number: int) -> str:
    """``v0001`` for 1."""
    return f"v{number:04d}"


def generation_directories(directory: Path) -> list[Path]:
    """The directories of generations, in order of their numbers; none where the whole folder is gone."""
    there = directory.iterdir() if directory.is_dir() else ()
    found = [path for path in there if re.fullmatch(r"v\d{4,}", path.name)]
    return sorted(found, key=lambda path: int(path.name[1:]))
