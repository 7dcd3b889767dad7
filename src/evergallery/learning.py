"""From images and a parent to a new generation: which images train, which network starts, which run this is."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.data.listing import SPLITS
from evergallery.data.tasks import stratified_validation
from evergallery.errors import InputError
from evergallery.files import read_json, write_json
from evergallery.generation import Generation, MethodCard, directory_name, generation_directories
from evergallery.memory import ClassMeans, Memory
from evergallery.methods import Beginning, Method
from evergallery.names import normal
from evergallery.network import Architecture, Embedder, Head, HeadKind, Neck, Network, Outputs, outputs_of
from evergallery.ranks import Ranks
from evergallery.redaction import redacted_text
from evergallery.training import Settings, train
from evergallery.watching import Watcher

ALONE = Ranks()
ASKED = "run.json"
"""What a run was asked for, apart from its images."""
LOGS_KEPT = ("log.jsonl", "tensorboard")


def training_part(images: ImageSet) -> ImageSet:
    """The images that may be learned from: the ``train`` split where there are splits, with ``val`` beside it."""
    if images.split is None:
        return images
    return images.select(np.flatnonzero(np.isin(images.split, ("train", "val"))))


def left_out(images: ImageSet) -> str | None:
    """In words, which images are not learned from because their split is none that is known; ``None`` where all are."""
    if images.split is None:
        return None
    counts = Counter(one for one in images.split.tolist() if one not in set(SPLITS.values()))
    named = ", ".join(f"{count} of {repr(name) if name else 'no split'}" for name, count in counts.most_common(5))
    return f"not learned from, for their split is none of {', '.join(SPLITS)}: {named}" if counts else None


def in_two_classes(images: ImageSet) -> str | None:
    """In words, which pictures are in several classes; ``None`` where none is."""
    first: dict[str, int] = {}
    found: list[tuple[int, int]] = []
    for index, content in enumerate(images.hashes):
        other = first.setdefault(content, index)
        if -1 != images.labels[other] != images.labels[index] != -1:
            found.append((other, index))
    if not found:
        return None
    one, other = found[0]
    names = [f"{images.uris[index]} ({images.classes[images.labels[index]]})" for index in (one, other)]
    return f"the same picture is in two classes, {len(found)} times, first as {names[0]} and {names[1]}: leave one out"


def cut_validation(images: ImageSet, fraction: float, seed: int) -> tuple[ImageSet, ImageSet | None]:
    """Training and validation images: by the split ``val`` where there is one, else a stratified cut."""
    if images.split is not None and (images.split == "val").any():
        return images.select(np.flatnonzero(images.split != "val")), images.of_split("val")
    if fraction == 0:
        return images, None
    train_indices, validation_indices = stratified_validation(images.labels, fraction, seed)
    return images.select(train_indices), images.select(validation_indices)


def relabel(images: ImageSet, classes: Sequence[str]) -> ImageSet:
    """The same images with labels that index ``classes``, which hold every class of theirs."""
    row = {normal(name): index for index, name in enumerate(classes)}
    labels = np.array([row[normal(name)] for name in images.classes], dtype=np.int64)[images.labels]
    return replace(images, labels=labels, classes=tuple(classes))


def start_network(
    architecture: Architecture,
    head: HeadKind,
    classes: int,
    parent: Generation | None,
    *,
    pretrained: bool,
    seed: int,
) -> Network:
    """The network before training: the parent's with a head that grew, or a new one.

    A parent whose head is of another kind gives its embedder only.
    """
    if parent is not None and parent.head_card.kind != head:
        embedder = parent.network().embedder
        return Network(embedder, Head(embedder.dimension, 0, head).grow(classes, seed))
    if parent is not None:
        network = parent.network()
        return Network(network.embedder, network.head.grow(classes, seed))
    embedder = Embedder(architecture, pretrained=pretrained, seed=seed)
    empty = Head(embedder.dimension, 0, head)
    return Network(embedder, empty.grow(classes, seed))


def learn(
    directory: Path,
    number: int,
    images: ImageSet,
    method: Method,
    settings: Settings,
    *,
    parent: Generation | None,
    architecture: Architecture,
    preprocessing: Preprocessing,
    head: HeadKind,
    pretrained: bool = False,
    from_scratch: bool = False,
    watcher: Watcher,
    ranks: Ranks = ALONE,
) -> Generation:
    """Train and write generation ``number``; an interrupted run of the same arguments is continued.

    The run's directory stays until ``tidy_up``, so that a process killed in between does not learn it again.

    Args:
        directory: of the workspace.
        number: of the new generation.
        images: training images, validation still among them.
        method: how to learn.
        settings: of the training.
        parent: learned from, or ``None`` for a first generation.
        architecture: of the new network; it begins with the parent's weights where it is the parent's own.
        preprocessing: of its input.
        head: its kind of head.
        pretrained: whether its backbone begins with published weights.
        from_scratch: whether it begins with new weights although the parent's would fit.
        watcher: hears of progress.
        ranks: who learn together, all of whom call this; the first one writes.
    """
    old_classes = parent.card.classes if parent else ()
    known = set(map(normal, old_classes))
    new_classes = tuple(name for name in images.classes if normal(name) not in known)
    classes = old_classes + new_classes
    images = relabel(images, classes)
    root = root_of(directory, parent, method) if parent and method.reads_root else None
    method_card = MethodCard(name=method.name, parameters=method.parameters())
    data = {"images": len(images), "classes": len(np.unique(images.labels)), "fingerprint": images.fingerprint()}
    asked = {
        "method": method_card.model_dump(),
        # A run may go on elsewhere.
        "settings": settings.model_dump(exclude={"device", "compile"}),
        "parent": parent.fingerprint if parent else None,
        "root": root.fingerprint if root else None,
        "architecture": architecture.model_dump(),
        "preprocessing": preprocessing.to_dict(),
        "head": head,
        "pretrained": pretrained,
        "from_scratch": from_scratch,
    }
    # Batches and the validation part are drawn by number: the same images in another order are another run.
    seen = {"classes": classes, "data": data, "order": _digest([images.hashes, images.labels.tolist()])}
    run = _digest(asked | seen)
    if ranks.agreed(run) != run:
        raise InputError("The processes have read different images: learn again once nobody changes them.")
    run_directory = _run_directory(directory, run)
    finished = ranks.agreed(_finished(directory, run))
    if finished:
        return Generation.load(finished)
    if run_directory.is_dir():
        watcher.said("continuing the run that was interrupted")
    for other in _of_other_images(directory, run_directory, asked):
        watcher.said(
            f"{other} is the unfinished run of this same command on other images, or on the same in another order: it is left "
            f"as it is, and this one begins by itself; delete it if those images do not come back"
        )
    if method.reads_old_head == "optional" and parent is not None and parent.head_card.classes == 0:
        watcher.said(f"{parent.name} has no classifier: {method.name} leaves out what it would read from it")
    run_directory.mkdir(parents=True, exist_ok=True)
    if ranks.is_first:
        write_json(run_directory / ASKED, asked)

    training, validation = cut_validation(images, settings.validation_fraction, settings.validation_seed)
    inherits = method.starts_from_parent and not (pretrained or from_scratch)
    if parent is not None and parent.card.architecture != architecture:
        inherits = False

    def start(beginning: Beginning, seed: int) -> Network:
        begins_with = parent if beginning == "parent" else None
        return start_network(
            architecture, head, len(classes), begins_with, pretrained=beginning == "pretrained", seed=seed
        )

    own: Beginning = "parent" if inherits and parent is not None else ("pretrained" if pretrained else "scratch")
    network = start(own, settings.init_seed)
    old = parent.network() if parent else None
    trained = train(
        network,
        method,
        training,
        validation,
        preprocessing,
        settings,
        run_directory,
        parent=old if method.needs_parent else None,
        root=root.network() if root else None,
        inherited=parent is not None and own == "parent",
        memory=parent.memory() if parent else None,
        another_network=lambda beginning: start(beginning, settings.init_seed + 1),
        on_progress=watcher.trained,
    )
    watcher.said("remembering the class means")

    def ancestors() -> dict[str, tuple[ClassMeans, Outputs]]:
        # Whoever removed a generation from disk has its chained drift only.
        kept = map(Generation.load, generation_directories(directory / "generations"))
        return {
            one.name: (
                one.memory().means[one.name],
                outputs_of(one.network(), training, one.preprocessing, ranks=ranks),
            )
            for one in kept
            if parent is not None and one.name in parent.card.memory
        }

    memory = method.remember(
        f"v{number}",
        parent.memory() if parent else Memory(),
        torch.from_numpy(training.labels),
        outputs_of(network, training, preprocessing, ranks=ranks),
        outputs_of(old, training, preprocessing, ranks=ranks) if old else None,
        ancestors,
    )
    path = directory / "generations" / directory_name(number)
    if not ranks.is_first:
        ranks.wait()
        return Generation.load(path)
    generation = Generation.write(
        path,
        network,
        preprocessing,
        memory,
        images.hashes,
        name=f"v{number}",
        parent=parent.name if parent else None,
        run=run,
        method=method_card,
        classes=classes,
        new_classes=new_classes,
        data={
            **data,
            "training": len(training),
            "validation": len(validation) if validation else 0,
            "skipped": [redacted_text(f"{skipped.uri}: {skipped.reason}") for skipped in images.skipped],
        },
        settings=settings.model_dump(),
        training={
            "epochs": trained.epochs,
            "best_epoch": trained.best_epoch,
            "images_seen": trained.images_seen,
            "seconds": round(trained.seconds, 2),
            **({"root": root.name} if root else {}),
            "device": trained.device,
            "precision": trained.precision,
            **({"processes": ranks.size} if ranks.size > 1 else {}),
            "validation": trained.validation,
        },
    )
    ranks.wait()
    return generation


def root_of(directory: Path, parent: Generation, method: Method) -> Generation | None:
    """The first generation of the parent's line: as far up as each one learned from the one before by this same method.

    A generation learned otherwise began a space of its own, which nothing holds to those before it. Who removed a
    generation from disk has a line that begins after it.

    Args:
        directory: of the workspace.
        parent: of the generation that is about to learn.
        method: by which it will.

    Returns:
        ``None`` where that is the parent itself.
    """
    kept = {path.name: path for path in generation_directories(directory / "generations")}
    root = parent
    while root.card.method.name == method.name and root.card.parent is not None:
        path = kept.get(directory_name(int(root.card.parent.removeprefix("v"))))
        if path is None:
            break
        root = Generation.load(path)
    return None if root is parent else root


def _finished(directory: Path, run: str) -> Path | None:
    """The generation of a run that was killed after writing it and before tidying up."""
    for path in generation_directories(directory / "generations"):
        generation = Generation.load(path)
        if generation.card.run == run and _run_directory(directory, run).is_dir():
            return path
    return None


def _of_other_images(directory: Path, run_directory: Path, asked: dict[str, Any]) -> list[Path]:
    """Unfinished runs that were asked for in the same way, on other images."""
    wanted = json.loads(json.dumps(asked))
    others = (path.parent for path in sorted((directory / "runs").glob(f"*/{ASKED}")))
    return [path for path in others if path != run_directory and read_json(path / ASKED) == wanted]


def tidy_up(directory: Path, generation: Generation) -> None:
    """Keep the logs of a finished run under its generation's name, and drop its checkpoints."""
    run = _run_directory(directory, generation.card.run)
    kept = directory / "runs" / generation.directory.name
    kept.mkdir(exist_ok=True)
    for name in LOGS_KEPT:
        if (run / name).exists():
            (run / name).rename(kept / name)
    shutil.rmtree(run)


def _run_directory(directory: Path, run: str) -> Path:
    return directory / "runs" / run[:12]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def check_images(method: Method, has_old_data: bool, parent: Generation | None) -> None:
    """Refuse images or a parent that the method does not take, or the lack of those it needs, before anything is read.

    Raises:
        InputError: one sentence.
    """
    if parent is not None:
        parent.require_network()
    if method.needs_old_images and parent is not None and not has_old_data:
        raise InputError(
            f"The method {method.name!r} learns from the old images too: name them with --old-data, "
            f"or choose a method that does not need them, such as evergreen."
        )
    if has_old_data and not method.needs_old_images:
        raise InputError(f"The method {method.name!r} does not read old images: leave --old-data out, or use joint.")
    if method.reads_old_head == "needed" and parent is not None and parent.head_card.classes == 0:
        raise InputError(
            f"The method {method.name!r} learns from the scores of its parent's classes and {parent.name} has none: choose "
            f"a method that learns from its embeddings, such as evergreen or dual-tuning."
        )
    if method.needs_parent and parent is None:
        raise InputError(
            f"The method {method.name!r} learns from a parent and there is no generation yet: "
            f"learn the first one with  --method finetune."
        )


def changed_architecture(
    architecture: Architecture, backbone: str | None, dim: int | None, neck: Neck | None
) -> Architecture:
    """An architecture with what was asked for in place of its own; a dimension brings a linear neck where it needs one.

    Raises:
        InputError: it cannot be built.
    """
    if backbone is None and dim is None and neck is None:
        return architecture
    same = backbone in (None, architecture.backbone)
    values = {
        "backbone": backbone or architecture.backbone,
        "dimension": dim or (architecture.dimension if same else None),
        "neck": neck or (architecture.neck if same and not dim else "linear" if dim else "none"),
    }
    try:
        changed = Architecture.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{first['loc'][0]} is not usable: {first['msg']}.") from error
    Embedder(changed)
    return changed


def check_space(method: Method, architecture: Architecture, parent: Generation | None) -> None:
    """Refuse a change of dimension that the method cannot bridge.

    Raises:
        InputError: one sentence.
    """
    if not (method.same_dimension and parent):
        return
    dimension = Embedder(architecture).dimension
    if dimension != parent.card.dimension:
        raise InputError(
            f"The method {method.name!r} compares coordinates with those of {parent.name}, which have "
            f"{parent.card.dimension} dimensions and not {dimension}: keep the dimension with --dim "
            f"{parent.card.dimension}, or choose a method that changes it, such as dual-tuning."
        )
