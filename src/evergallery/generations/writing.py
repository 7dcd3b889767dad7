"""Writing a generation: of a network that has learned, of a model that is only run, or of vectors alone."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evergallery.data.images import Preprocessing
from evergallery.files import new_directory, sha256_of
from evergallery.generations.card import HeadCard, Kind, MethodCard, new_card
from evergallery.generations.generation import EMBEDDER, HEAD, LEARNED_FROM, MEMORY, ONNX, PROBE, Generation
from evergallery.generations.identity import vectors_fingerprint

if TYPE_CHECKING:
    import torch

    from evergallery.memory import Memory
    from evergallery.network import Embedder, Network
    from evergallery.network.foreign import ForeignModel


@dataclass(frozen=True)
class TrainingRecord:
    """The record that a generation keeps of its training.

    Attributes:
        memory: what it remembers of its task and of those before.
        images: content hashes of the images that it has seen.
    """

    memory: "Memory"
    images: Sequence[str]


def write_network(
    directory: Path,
    network: "Network",
    preprocessing: Preprocessing,
    record: TrainingRecord | None = None,
    root: "Embedder | None" = None,
    **description: Any,
) -> Generation:
    """Write the generation of a network: the directory appears complete, or not at all.

    Args:
        directory: must not exist.
        network: its weights are stored.
        preprocessing: of its input.
        record: of its training; ``None`` of a network that was trained elsewhere.
        root: whose embeddings are served before the network's own, in one vector; ``None`` for the network's alone.
        **description: the fields of ``Card`` that do not follow from the network.
    """
    from evergallery.files.tensors import save_tensors
    from evergallery.generations.fingerprint import fingerprint_of, short_hashes
    from evergallery.memory import Memory
    from evergallery.network import ExpandedEmbedder

    head = network.head
    embedder = network.embedder if root is None else ExpandedEmbedder(root, network.embedder)
    memory, seen = (Memory(), ()) if record is None else (record.memory, record.images)
    with new_directory(directory) as temporary:
        checksums = {
            EMBEDDER: save_tensors(temporary / EMBEDDER, embedder.state_dict()),
            HEAD: save_tensors(temporary / HEAD, head.state_dict()),
            MEMORY: save_tensors(temporary / MEMORY, memory.tensors()),
            LEARNED_FROM: save_tensors(temporary / LEARNED_FROM, {"hashes": short_hashes(seen)}),
        }
        card = new_card(
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
    return Generation(directory, card)


def write_model(
    directory: Path,
    model: "ForeignModel",
    preprocessing: Preprocessing,
    probes: "torch.Tensor | None" = None,
    **description: Any,
) -> Generation:
    """Write the generation of a model that is only run: its file where it has one, and what it makes of the probes.

    Args:
        directory: must not exist.
        model: what is run.
        preprocessing: of its input.
        probes: unit rows (P, D) that it made of the probe pictures; asked for by default.
        **description: the fields of ``Card`` that do not follow from the model, such as its name and how it came here.

    Raises:
        InputError: the model fails on the probe pictures.
    """
    from evergallery.files.tensors import save_tensors
    from evergallery.generations.fingerprint import fingerprint_of
    from evergallery.network.endpoint import EndpointModel
    from evergallery.network.foreign import probe

    probes = probe(model, preprocessing) if probes is None else probes
    kind: Kind = "onnx"
    if isinstance(model, EndpointModel):
        kind, told = "endpoint", model.endpoint.identity
    elif model.file is None:
        kind, told = "callable", {"function": model.name}
    else:
        told = {"file": model.file.name}
        if model.numbers != "float32":
            told["numbers"] = model.numbers
    with new_directory(directory) as temporary:
        checksums = {PROBE: save_tensors(temporary / PROBE, {"embeddings": probes})}
        if model.file is not None:
            shutil.copyfile(model.file, temporary / ONNX)
            checksums[ONNX] = sha256_of(temporary / ONNX)
        card = new_card(
            temporary,
            kind=kind,
            parent=None,
            fingerprint=fingerprint_of(model, preprocessing, probes),
            preprocessing=preprocessing.to_dict(),
            dimension=model.dimension,
            model=told,
            checksums=checksums,
            **description,
        )
    return Generation(directory, card)


def write_vector_space(directory: Path, *, name: str, dimension: int, content: str, method: MethodCard) -> Generation:
    """Write the generation of vectors whose model nobody here has.

    Args:
        directory: must not exist.
        name: ``v1``, ``v2``, …
        dimension: D.
        content: SHA-256 of the first vectors of the space and of their ids, which is what tells it from others.
        method: how they came here.
    """
    with new_directory(directory) as temporary:
        card = new_card(
            temporary,
            name=name,
            kind="vectors",
            parent=None,
            fingerprint=vectors_fingerprint(content, dimension),
            method=method,
            dimension=dimension,
            model={"content": content},
        )
    return Generation(directory, card)
