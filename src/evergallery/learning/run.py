"""One run: a network learns from its lessons, or its neck is solved from them, and becomes a generation."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from evergallery.data.features import FeatureSet
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.errors import InputError
from evergallery.files import read_json, sha256_of, write_json
from evergallery.generations.card import MethodCard
from evergallery.generations.generation import Generation, directory_name, generation_directories
from evergallery.learning.lessons import cut_validation, take_lessons
from evergallery.learning.start import Start, memory_of, root_beside, solves, start_network, teacher_of, weights_seed
from evergallery.memory import ClassMeans, Scatter, Trial
from evergallery.methods import Method
from evergallery.names import normal
from evergallery.network import Network, Outputs
from evergallery.network.features import feature_width
from evergallery.network.ranks import Ranks
from evergallery.network.stages import freeze_below_last_stage
from evergallery.redaction import redacted_text
from evergallery.training import Settings, Trained, train
from evergallery.watching import Watcher

ALONE = Ranks()
ASKED = "run.json"
"""What a run was asked for, apart from its images."""
TRIAL_CLASSES, TRIAL_IMAGES = 100, 20
"""Of the new images, to choose by: so many classes and images of each, at most."""
AT_ONCE = 65_536
"""Images whose features are in memory at once."""
LOGS_KEPT = ("log.jsonl", "tensorboard")


def relabel(images: ImageSet, classes: Sequence[str]) -> ImageSet:
    """The same images with labels that index ``classes``, which hold every class of theirs."""
    row = {normal(name): index for index, name in enumerate(classes)}
    labels = np.array([row[normal(name)] for name in images.classes], dtype=np.int64)[images.labels]
    return replace(images, labels=labels, classes=tuple(classes))


def learn(
    directory: Path,
    number: int,
    images: ImageSet,
    method: Method,
    settings: Settings,
    *,
    parent: Generation | None,
    start: Start,
    preprocessing: Preprocessing,
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
        start: how the run begins.
        preprocessing: of its input.
        watcher: hears of progress.
        ranks: who learn together, all of whom call this; the first one writes.
    """
    old_classes = parent.card.classes if parent else ()
    had = set(map(normal, old_classes))
    new_classes = tuple(name for name in images.classes if normal(name) not in had)
    classes = old_classes + new_classes
    images = relabel(images, classes)
    root = root_of(directory, parent, method) if parent and method.needs.root else None
    method_card = MethodCard(name=method.name, parameters=method.parameters())
    data = {"images": len(images), "classes": len(np.unique(images.labels)), "fingerprint": images.fingerprint()}
    asked = {
        "method": method_card.model_dump(),
        # A run may go on elsewhere.
        "settings": settings.model_dump(exclude={"device", "compile"}),
        "parent": parent.fingerprint if parent else None,
        "root": root.fingerprint if root else None,
        "architecture": start.architecture.model_dump(),
        "preprocessing": preprocessing.to_dict(),
        "head": start.head,
        "beginning": start.beginning,
        "weights": sha256_of(start.weights) if start.weights is not None else None,
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
    solved = solves(method, start, parent)
    if method.needs.old_head == "optional" and parent is not None and parent.head_card.classes == 0 and not solved:
        watcher.said(f"{parent.name} has no classifier: {method.name} leaves out what it would read from it")
    run_directory.mkdir(parents=True, exist_ok=True)
    if ranks.is_first:
        write_json(run_directory / ASKED, asked)

    # Where nothing is chosen by it, a validation part would only be images that nobody learns from.
    training, validation = cut_validation(
        images, 0 if solved else settings.validation_fraction, settings.validation_seed
    )
    seed = weights_seed(settings.init_seed, number)
    network = start_network(start, len(classes), parent, seed=seed)
    if start.train == "last-stage":
        freeze_below_last_stage(network.embedder.backbone)
    old = teacher_of(parent, start) if parent else None
    remembered = memory_of(parent, start)
    first = root.network() if root else None
    involved = [(network, preprocessing)]
    involved += [(old, parent.preprocessing)] if old and parent else []
    involved += [(first, root.preprocessing)] if first and root else []
    lessons = take_lessons(training, validation, involved, settings, directory / "cache", watcher, ranks)
    scatter = None
    chosen: dict[str, Any] = {}
    before = parent.memory().scatter if parent is not None and start.beginning == "parent" else None
    if isinstance(lessons.training, FeatureSet):
        features, width = lessons.training, feature_width(network.embedder)
        scatter = scatter_of(features, width)
        scatter = scatter if before is None else before.joined(scatter)
    if solved:
        assert scatter is not None
        trained, chosen = solve(
            network,
            method,
            scatter,
            lambda: trials_of(features, width, before, settings.validation_seed),
            parent.card.training.get("solved", {}) if parent is not None else {},
            len(training) * features.view_count,
        )
    else:
        trained = train(
            lessons.fit(network, preprocessing),
            method,
            lessons.training,
            lessons.validation,
            preprocessing,
            settings,
            run_directory,
            parent=lessons.fit(old, parent.preprocessing) if old and parent and method.needs.parent else None,
            root=lessons.fit(first, root.preprocessing) if first and root else None,
            inherited=parent is not None and start.beginning == "parent",
            memory=remembered,
            another_network=lambda beginning: lessons.fit(
                start_network(start, len(classes), parent, seed=seed + 1, beginning=beginning),
                preprocessing,
            ),
            on_progress=watcher.trained,
        )
    watcher.said("remembering the class means")

    def ancestors() -> dict[str, tuple[ClassMeans, Outputs]]:
        # Where a generation was deleted from disk, only the drift that was chained through it is known.
        kept = map(Generation.load, generation_directories(directory / "generations"))
        return {
            one.name: (one.memory().means[one.name], lessons.outputs(one.network(), one.preprocessing, ranks))
            for one in kept
            if parent is not None and one.name in parent.card.memory
        }

    memory = method.remember(
        f"v{number}",
        remembered,
        torch.from_numpy(training.labels),
        lessons.outputs(network, preprocessing, ranks),
        lessons.outputs(old, parent.preprocessing, ranks) if old and parent else None,
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
        replace(memory, scatter=scatter),
        images.hashes,
        root_beside(parent, start, preprocessing, method),
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
            **({"root": root.name} if root and not solved else {}),
            **({"solved": chosen} if solved else {}),
            "device": trained.device,
            "precision": trained.precision,
            **({"processes": ranks.size} if ranks.size > 1 else {}),
            "validation": trained.validation,
        },
    )
    ranks.wait()
    return generation


def scatter_of(features: FeatureSet, width: int) -> Scatter:
    """Of the unit features of images and of all of their views."""
    labels = torch.from_numpy(features.labels)

    def parts() -> Iterator[Scatter]:
        for first in range(0, len(features), AT_ONCE):
            rows = np.arange(first, min(first + AT_ONCE, len(features)))
            for view in range(features.view_count):
                # The new network's backbone has the first columns.
                yield Scatter.measured(F.normalize(features.batch(rows, view)[:, :width]), labels[rows])

    return reduce(Scatter.joined, parts())


def trials_of(features: FeatureSet, width: int, before: Scatter | None, seed: int) -> list[Trial]:
    """New images held out of what the lineage knows: each half of the classes, and each half of every class's images.

    Of many images a sample of whole classes is enough to choose a figure by.
    """
    random = np.random.default_rng(seed)
    classes = random.permutation(np.unique(features.labels))[:TRIAL_CLASSES]
    rows = np.concatenate([random.permutation(np.flatnonzero(features.labels == c))[:TRIAL_IMAGES] for c in classes])
    sample = features.select(rows)
    # Within a class, one image goes to either half in turn.
    turn = np.concatenate([np.arange((sample.labels == c).sum()) for c in classes])
    by_class = np.isin(sample.labels, classes[::2])
    trials = []
    for held_out in (by_class, ~by_class, turn % 2 == 0, turn % 2 == 1):
        if held_out.all() or not held_out.any():
            continue
        known = scatter_of(sample.select(np.flatnonzero(~held_out)), width)
        out = np.flatnonzero(held_out)
        unit = F.normalize(sample.batch(out)[:, :width])
        trials.append(
            Trial(known if before is None else before.joined(known), unit, torch.from_numpy(sample.labels[out]))
        )
    return trials


def solve(
    network: Network,
    method: Method,
    scatter: Scatter,
    trials: Callable[[], Sequence[Trial]],
    earlier: Mapping[str, Any],
    seen: int,
) -> tuple[Trained, dict[str, Any]]:
    """Set the neck in closed form, and the head's rows to the class means that it makes; also what was chosen for it."""
    started = time.perf_counter()
    solution = method.solve(scatter, trials, earlier)
    assert solution is not None
    linear = next(layer for layer in network.embedder.neck if isinstance(layer, nn.Linear))
    with torch.no_grad():
        linear.weight.copy_(solution.weight)
        linear.bias.copy_(solution.bias)
        if network.head.kind != "simplex":
            means = scatter.means.float() @ solution.weight.T + solution.bias
            network.head.weight[scatter.classes] = F.normalize(means)
    seconds = time.perf_counter() - started
    return Trained(0, 0, seen, seconds, {}, [], precision="float64"), solution.chosen


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
