"""One run of a benchmark: what is asked for, and what follows from it before anything is learned."""

from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from evergallery.benchmark.contenders import Contender
from evergallery.benchmark.parts import TRAIN, ProtocolImages
from evergallery.benchmark.protocol import NO_CHANGES, BenchmarkProtocol, Budget, ProtocolChanges, TrainingPlan
from evergallery.benchmark.protocols import PROTOCOLS
from evergallery.data.datasets import MADE, NAMED
from evergallery.data.evaluation_sets import EVALUATION_SETS
from evergallery.data.image_set import ImageSet
from evergallery.data.images.sizes import size_text
from evergallery.data.known_sets import layout_of
from evergallery.data.tasks import Tasks
from evergallery.files import sha256_of
from evergallery.methods import Method
from evergallery.watching import Watcher


@dataclass(frozen=True)
class Experiment:
    """A protocol on some images: what the runs of all contenders and seeds share.

    Attributes:
        protocol: a name of ``PROTOCOLS``.
        budget: how long it trains.
        data: images, for protocols that bring none: a source as ``learn`` takes it, or a named set.
        data_dir: where a named set lies.
        changes: of the protocol; results of each are by themselves.
    """

    protocol: str
    budget: Budget = "standard"
    data: str | None = None
    data_dir: Path | None = None
    changes: ProtocolChanges = NO_CHANGES

    @cached_property
    def definition(self) -> BenchmarkProtocol:
        """The protocol as it is run."""
        return PROTOCOLS[self.protocol].changed(self.budget, self.changes)

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields alone: a protocol holds functions, which are not sent to other processes."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def options(self) -> dict[str, Any]:
        """Return what was asked for beside protocol, budget, methods and seeds, as JSON values."""
        places = {name: value for name in ("data", "data_dir") if (value := getattr(self, name)) is not None}
        given = {**places, **self.changes.given()}
        return {
            name: value if isinstance(value, bool | int) else option_text(name, value) for name, value in given.items()
        }

    @property
    def weight_files(self) -> dict[str, Path]:
        """Return the files of weights that were named, by option."""
        return {name: value for name, value in self.changes.given().items() if isinstance(value, Path)}

    @cached_property
    def weights(self) -> dict[str, str]:
        """The SHA-256 of each of them: a name may come to stand for other weights."""
        return {name: sha256_of(path) for name, path in self.weight_files.items()}

    @property
    def published_set(self) -> str | None:
        """The name of the published set that the images are, named or a folder in its layout; ``None`` for others."""
        if self.data is None:
            return self.definition.data
        # As ``load`` reads it: where it is said where named sets lie, a folder of the same name is one of them.
        if self.data.lower() in NAMED and (self.data_dir is not None or not Path(self.data).exists()):
            return self.data.lower()
        return layout_of(Path(self.data)) if Path(self.data).is_dir() else None

    @property
    def another_set(self) -> str | None:
        """The published set that is run on, where the protocol does not bring it: each has results by themselves."""
        name = self.published_set
        return None if name == self.definition.data or name in MADE else name

    @property
    def reads_data_dir(self) -> bool:
        """Return whether anything that is read lies where named sets lie."""
        if any(name.lower() in EVALUATION_SETS for name in self.definition.evaluate):
            return True
        named = self.definition.data if self.data is None else self.data.lower()
        return named in NAMED and named not in MADE

    @property
    def image_name(self) -> str:
        """Return what the images are called: a named set by its name, others by that of their file or folder."""
        definition = self.definition
        if definition.runs_on_its_own(self.data):
            return str(definition.data)
        return str(self.data).rstrip("/").rpartition("/")[2]


@dataclass(frozen=True)
class TaskImages:
    """The images of a run, and the classes of each of its tasks.

    Attributes:
        parts: the images, each learned from or tested on.
        tasks: classes of each.
    """

    parts: ProtocolImages
    tasks: Tasks

    @property
    def images(self) -> ImageSet:
        """All images."""
        return self.parts.images

    @property
    def training(self) -> ImageSet:
        """The images that are learned from."""
        return self.images.of_split(TRAIN)


@dataclass(frozen=True)
class BenchmarkJob:
    """One run of an experiment, of one contender and one seed.

    Attributes:
        experiment: that it is a run of.
        contender: what learns.
        seed: of everything that is drawn.
        directory: of the results of this experiment.
        device: that it learns on.
    """

    experiment: Experiment
    contender: Contender
    seed: int
    directory: Path
    device: str = "auto"

    @property
    def definition(self) -> BenchmarkProtocol:
        """The protocol as it is run."""
        return self.experiment.definition

    @property
    def result(self) -> Path:
        """The path of the run's result file."""
        return self.directory / "runs" / f"{self.contender.name}-seed{self.seed}.json"

    @property
    def work(self) -> Path:
        """The directory of the generations of its seed, which runs share and resume from."""
        return self.directory / "work" / f"seed{self.seed}"

    @property
    def method(self) -> Method | None:
        """Return how it learns; ``None`` where nothing learns after the first generation."""
        return self.contender.method(self.definition)

    def plan(self) -> TrainingPlan:
        """The settings, with the seeds of the run and the device that it learns on."""
        plan = self.definition.plan(self.experiment.budget, self.seed)
        chosen = {"device": self.device}
        return replace(plan, first=plan.first.model_copy(update=chosen), update=plan.update.model_copy(update=chosen))

    def parts(self, watcher: Watcher) -> ProtocolImages:
        """The images, read once for all runs of a protocol."""
        cache = self.directory / "work" / "cache"
        return read_parts(self.experiment, cache, watcher)

    def tasks(self, images: ImageSet) -> Tasks:
        """The tasks, of the classes that there are training images of."""
        trained = np.unique(images.of_split(TRAIN).labels)
        tasks = self.definition.tasks_of(self.experiment.budget, self.experiment.published_set)
        return tasks([images.classes[label] for label in trained], self.seed)

    def task_images(self, watcher: Watcher) -> TaskImages:
        """The images, read once for all runs of a protocol, and the tasks."""
        parts = self.parts(watcher)
        return TaskImages(parts, self.tasks(parts.images))

    def cost(self) -> float:
        """Epochs, weighted by how many networks a method runs: only to estimate the time that is left."""
        plan = self.definition.budgets[self.experiment.budget]
        method = self.method
        if method is None:
            return float(plan.first.epochs)  # It learns the generation that all runs of its seed share.
        weight = 1.0 + 0.4 * method.needs.old_batches + 1.0 * (method.needs.beside == "network")
        epochs = plan.update.epochs if method.needs.parent_weights else 2 * plan.first.epochs
        return weight * epochs


def option_text(name: str, value: Any) -> str:
    """The value of an option as it is given on the command line."""
    if name == "size":
        return size_text(value)
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


@lru_cache(maxsize=2)
def read_parts(experiment: Experiment, cache: Path, watcher: Watcher) -> ProtocolImages:
    """The images of an experiment in their parts; those of the last two are kept in memory."""
    definition = experiment.definition
    plan = definition.budgets[experiment.budget]
    return definition.parts(experiment.data, plan, cache, watcher, experiment.data_dir)
