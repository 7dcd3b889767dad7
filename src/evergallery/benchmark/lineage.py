"""The generations of a run: the first one shared by the methods of a seed, then one for each task."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evergallery.benchmark.contenders import INITIAL, baseline_of
from evergallery.benchmark.job import BenchmarkJob, TaskImages
from evergallery.benchmark.parts import PAIR
from evergallery.benchmark.protocol import BenchmarkProtocol, TrainingPlan, with_dimension
from evergallery.benchmark.provenance import peak_memory, reset_peak_memory
from evergallery.data.image_set import ImageSet, concatenate
from evergallery.data.tasks import Tasks, query_gallery
from evergallery.files import read_json, write_json
from evergallery.generations.generation import Generation
from evergallery.learning.request import NetworkChanges
from evergallery.network import Architecture, Head, HeadKind
from evergallery.training import Settings
from evergallery.training.batches import batches_of
from evergallery.watching import Watcher
from evergallery.workspace import Workspace

ALMOST_ALL = 0.99
"""Share of warm-up in a run that is shorter than it."""


def first_directory(job: BenchmarkJob) -> Path:
    """The directory of the first generation, which the methods of a seed share that take the same head."""
    own_head = _own_head(job)
    return job.work / (INITIAL if own_head is None else f"{INITIAL}-{own_head}")


def _own_head(job: BenchmarkJob) -> HeadKind | None:
    return None if job.method is None else job.method.needs.head


def first_generation(job: BenchmarkJob, watcher: Watcher) -> Workspace:
    """The workspace with the first generation; shared by every method of the seed that takes the same head."""
    protocol, plan = job.definition, job.plan()
    data = job.task_images(watcher)
    own_head, directory = _own_head(job), first_directory(job)
    if not (directory / "workspace.json").is_file():
        preprocessing = protocol.preprocessing(plan)
        Workspace.create(
            directory,
            backbone=protocol.backbone,
            size=preprocessing.size,
            fit=preprocessing.fit,
            kept=preprocessing.kept,
            interpolation=preprocessing.interpolation,
            head=own_head or protocol.head,
            **_neck(job, data.tasks),
        )
    workspace = Workspace(directory)
    if not workspace.generations():
        reset_peak_memory()
        first = _first_and_later(protocol, data.training, job.seed)[0].of_classes(data.tasks[0])
        workspace.learn(
            first,
            method=baseline_of(protocol),
            settings=_with_warmup(plan.first, plan, first),
            watcher=watcher,
            **_new_weights(protocol, protocol.weights),
        )
        write_json(directory / "memory.json", peak_memory())
    return workspace


def lineage(job: BenchmarkJob, data: TaskImages, watcher: Watcher) -> tuple[list[Generation], list[dict[str, Any]]]:
    """One generation for each task, those that are there kept, and what each took."""
    tasks = data.tasks
    initial = first_generation(job, watcher)
    first = initial.generations()[0]
    phases = [_phase("task 1 (shared)", first, initial.directory / "memory.json")]
    if job.method is None:
        return [first] * len(tasks), phases
    workspace = _successors(initial, job.work / job.contender.learner)
    for number in range(2, len(tasks) + 1):
        peak_file = workspace.directory / f"memory-v{number}.json"
        if len(workspace.generations()) < number:
            reset_peak_memory()
            _learn_task(job, workspace, data, number, watcher)
            write_json(peak_file, peak_memory())
        phases.append(_phase(f"task {number}", workspace.generation(f"v{number}"), peak_file))
    return workspace.generations()[: len(tasks)], phases


def _learn_task(job: BenchmarkJob, workspace: Workspace, data: TaskImages, number: int, watcher: Watcher) -> None:
    """Learn generation ``number`` from the classes of its task, and from the old ones where the method reads them."""
    protocol, plan, method = job.definition, job.plan(), job.method
    train, tasks = data.training, data.tasks
    assert method is not None, "the initial generation alone has no method, and learns no task"
    seen = tuple(dict.fromkeys(name for task in tasks[: number - 1] for name in task))
    arriving = tasks[number - 1]
    before, after = train, train
    if method.needs.old_images and protocol.first_share < 1:
        before, after = _first_and_later(protocol, train, job.seed)
    elif method.needs.old_images:
        # Where a task holds old classes too, their images come once, with the others of the past.
        arriving = tuple(name for name in arriving if name not in set(seen))
    scratch = not method.needs.parent_weights or (protocol.update_backbone is not None and number == 2)
    weights = protocol.later_weights
    # Another backbone comes without what stood behind the first one.
    behind = {} if protocol.update_backbone is None else _neck(job, tasks)
    new, old = after.of_classes(arriving), before.of_classes(seen) if method.needs.old_images else None
    settings = plan.first if scratch else plan.update_settings(number)
    workspace.learn(
        new,
        method=method,
        parent=f"v{number - 1}",
        old_data=old,
        backbone=protocol.update_backbone,
        settings=_with_warmup(settings, plan, new if old is None else concatenate([old, new])),
        watcher=watcher,
        supporting_weights=weights if method.second_beginning == "pretrained" else None,
        **behind,
        **(_new_weights(protocol, weights) if scratch else {"train": "all"}),
    )


def _with_warmup(settings: Settings, plan: TrainingPlan, images: ImageSet) -> Settings:
    """The settings with the plan's steps of warm-up, as a share of a run on these images."""
    if plan.warmup_steps is None:
        return settings
    steps = settings.epochs * len(batches_of(images, settings, epoch=0))
    return settings.model_copy(update={"warmup": min(plan.warmup_steps / steps, ALMOST_ALL)})


def _first_and_later(protocol: BenchmarkProtocol, train: ImageSet, seed: int) -> tuple[ImageSet, ImageSet]:
    """Training images that the first task may have, and those that come later alone."""
    if protocol.first_share == 1:
        return train, train.select(np.empty(0, dtype=np.int64))
    first, later = query_gallery(train.labels, protocol.first_share, seed, PAIR)
    return train.select(first), train.select(later)


def network_of(job: BenchmarkJob, tasks: Tasks) -> tuple[Architecture, HeadKind]:
    """The last generation of a run, and the kind of its head; built without memory, so that it is known that it can be.

    Raises:
        InputError: a neck that cannot make the dimension, or a head that has no place for all classes.
    """
    protocol, behind, head = job.definition, _neck(job, tasks), _own_head(job) or job.definition.head
    classes = len({name for task in tasks for name in task})
    for backbone in dict.fromkeys((protocol.backbone, protocol.update_backbone or protocol.backbone)):
        architecture = NetworkChanges(backbone, behind["dim"], behind["neck"]).of(Architecture())
        with torch.device("meta"):
            Head(architecture.dimension or protocol.dimension(backbone), classes, head)
    return architecture, head


def _neck(job: BenchmarkJob, tasks: Tasks) -> dict[str, Any]:
    """Dimension and neck of every generation; a simplex has one class more than it has dimensions."""
    protocol, simplex = job.definition, _own_head(job) == "simplex"
    dim = len({name for task in tasks for name in task}) - 1 if simplex else protocol.dim
    # A dimension brings a neck where nobody asks for none.
    is_open = protocol.neck == "none" and job.experiment.changes.neck is None
    return {"dim": dim, "neck": None if is_open else with_dimension(protocol.neck) if simplex else protocol.neck}


def _new_weights(protocol: BenchmarkProtocol, weights: Path | None) -> dict[str, Any]:
    """Return where a network that has no parent's weights has its own from; all of it learns."""
    return {"pretrained": protocol.pretrained, "weights": weights, "train": "all"}


def _successors(initial: Workspace, directory: Path) -> Workspace:
    """A workspace of a method's own that begins with the shared first generation."""
    if not directory.is_dir():
        unfinished = directory.with_name(f".{directory.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(initial.directory, unfinished)
        unfinished.rename(directory)
    return Workspace(directory)


def _phase(name: str, generation: Generation, peak_file: Path) -> dict[str, Any]:
    return {
        "phase": name,
        "seconds": generation.card.training["seconds"],
        "images": generation.card.data["training"],
        # Killed after the generation was written and before its peak was: nobody knows it.
        "memory_mib": read_json(peak_file) if peak_file.is_file() else {},
    }
