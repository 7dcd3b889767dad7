"""The verb ``learn``: from images and a parent to a new generation."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from evergallery.data.image_set import ImageSet, concatenate
from evergallery.data.sources import Requirements
from evergallery.data.tasks import ClassChoice, at_most_per_class
from evergallery.errors import InputError
from evergallery.files import lock
from evergallery.generations.generation import Generation
from evergallery.holdings.holdings import Holdings, promote_first
from evergallery.holdings.images import ImageReader
from evergallery.learning.decision import StartingPoint, decide
from evergallery.learning.inputs import in_two_classes, left_out, training_part
from evergallery.learning.learner import Learner
from evergallery.learning.request import InitialWeights, NetworkChanges, Request
from evergallery.learning.run import Run
from evergallery.learning.runs import tidy_up
from evergallery.methods import Method
from evergallery.network import HeadKind, Neck
from evergallery.network.ranks import Ranks, join
from evergallery.training import Settings, TrainedPart, check_compiler, resolve_device
from evergallery.watching import SILENT, Watcher

Decode = Callable[[], ImageSet]


def learn(
    holdings: Holdings,
    data: str | Path | ImageSet,
    *,
    method: Method | None = None,
    parent: str | None = None,
    old_data: str | Path | ImageSet | None = None,
    classes: ClassChoice | None = None,
    settings: Settings | Mapping[str, Any] | None = None,
    backbone: str | None = None,
    dim: int | None = None,
    neck: Neck | None = None,
    head: HeadKind | None = None,
    train: TrainedPart | None = None,
    pretrained: bool = False,
    weights: str | Path | None = None,
    from_scratch: bool = False,
    supporting_weights: str | Path | None = None,
    data_dir: Path | None = None,
    watcher: Watcher = SILENT,
) -> Generation:
    """Learn a generation from images of new categories; the first one is promoted at once.

    A run that was interrupted is continued when the same call is made again. Processes that ``torchrun`` or Slurm has
    started make the same call together, on one workspace that all of them see.

    Args:
        data: a folder, table, array file or named set (see ``evergallery.data.sources.load``), or an image set.
            Where it has splits, ``train`` is learned from and ``val``, if any, chooses the epoch.
        method: ``Evergreen()`` by default, ``Finetune()`` for a first generation that begins with new weights.
        parent: generation to learn from; the promoted one by default.
        old_data: images of the old categories, for methods that need them (joint).
        classes: learn only these of the data's classes, by their names, or one of several equal groups of them.
        settings: of the training, or those of them that are to differ from the usual ones, see ``Settings``.
        backbone: another one than the parent's (than the workspace's, for a first generation).
        dim: another dimension of the embedding.
        neck: another neck.
        head: another kind of classifier in training.
        train: what learns. By default the neck, where the backbone was trained elsewhere (registered, or begun with
            published weights) and has been frozen since; otherwise all.
        pretrained: begin with the backbone's published weights rather than the parent's.
        weights: begin with the backbone's weights in this file: safetensors, or a plain state dict.
        from_scratch: begin with new weights rather than the parent's.
        supporting_weights: a file of those that the second network of ``Mutual(supporting="pretrained")`` begins with.
        data_dir: where named sets lie.
        watcher: hears of progress.

    Raises:
        InputError: the data or the arguments cannot be used.
        BusyError: another process is learning in this workspace.
        TrainingError: a loss is not finite.
    """
    beginning = InitialWeights.of(
        pretrained=pretrained, from_scratch=from_scratch, file=weights, supporting_file=supporting_weights
    )
    network = NetworkChanges(backbone, dim, neck, head)
    request = Request(method, settings, train, network, beginning, old_images=old_data is not None)
    start = StartingPoint.of(_parent(holdings, parent, method), holdings.state)
    run = decide(request, start, _next_number(holdings), holdings.directory)
    return _learned(holdings, run, Sources(data, old_data, classes, data_dir), watcher)


@dataclass(frozen=True)
class Sources:
    """The sources of a run's images.

    Attributes:
        data: of the new images.
        old_data: of images of the old classes, for methods that need them.
        classes: only these of the new images' classes; ``None`` for all.
        data_dir: where named sets lie.
    """

    data: str | Path | ImageSet
    old_data: str | Path | ImageSet | None
    classes: ClassChoice | None
    data_dir: Path | None

    def images(self, run: Run, prepare: Callable[[str | Path | ImageSet, ClassChoice | None], Decode]) -> ImageSet:
        """All images that the run learns from; none is decoded before all are found.

        Args:
            run: that learns from them.
            prepare: finds the images of a source that are of some classes, and returns what decodes them.

        Raises:
            InputError: there is none, or one of the classes is not there.
        """
        # A parent from elsewhere knows no class: then nothing says which of the old images are meant, and all are.
        old_classes = (run.parent.card.classes if run.parent else ()) or None
        old = None if self.old_data is None else prepare(self.old_data, old_classes)
        images = prepare(self.data, self.classes)()
        if old is not None:
            images = concatenate([_of_the_past(run, old()), images])
        if len(images) == 0:
            raise InputError("There is no image to learn from: the data has no split 'train'.")
        return images


def _learned(holdings: Holdings, run: Run, sources: Sources, watcher: Watcher) -> Generation:
    """The generation that a run makes, by all processes that were started for it together."""
    check_compiler(run.settings)
    ranks = join(resolve_device(run.settings.device))
    watcher = watcher if ranks.is_first else SILENT
    with lock(holdings.directory / "generations" / ".lock", "learn") if ranks.is_first else nullcontext():
        images = sources.images(run, partial(_prepare, ImageReader(holdings, sources.data_dir, watcher), run, ranks))
        # Nobody else writes a generation while this is locked.
        run = replace(run, number=ranks.agreed(_next_number(holdings)))
        generation = Learner(holdings.directory, run, images, watcher, ranks).learn()
        if ranks.is_first:
            _finish(holdings, generation)
    ranks.wait()
    return generation


def _parent(holdings: Holdings, name: str | None, method: Method | None) -> Generation | None:
    """The generation that is named, or else the promoted one."""
    if name is not None:
        return holdings.generation(name)
    promoted = holdings.promoted if holdings.state.promoted else None
    if promoted is not None and not promoted.can_be_parent and method is not None and not method.needs.parent:
        return None  # What only answers queries is no reason not to begin a lineage.
    return promoted


def _next_number(holdings: Holdings) -> int:
    return max((generation.number for generation in holdings.generations()), default=0) + 1


def _prepare(
    reader: ImageReader, run: Run, ranks: Ranks, source: str | Path | ImageSet, classes: ClassChoice | None
) -> Decode:
    """Find images of some classes that may be learned from; what decodes them, rank after rank, says what is left out."""
    required = Requirements(minimum_per_class=2, choice=classes, every_split=False)
    decode = reader.prepare(source, run.preprocessing.with_margins, required)

    def images() -> ImageSet:
        found = ranks.in_turn(decode)
        learned = training_part(found)
        for remark in (left_out(found), in_two_classes(learned)):
            if remark is not None:
                reader.watcher.said(remark)
        return learned

    return images


def _of_the_past(run: Run, images: ImageSet) -> ImageSet:
    """Old images, as many of each class as the method takes."""
    most = run.method.old_images()
    return images if most is None else images.select(at_most_per_class(images.labels, most, run.settings.data_seed))


def _finish(holdings: Holdings, generation: Generation) -> None:
    promote_first(holdings, generation)
    tidy_up(holdings.directory, generation)
    card = generation.card
    holdings.journal.record(
        "learn",
        generation=card.name,
        parent=card.parent,
        method=card.method.name,
        images=card.data["training"],
        new_classes=len(card.new_classes),
        seconds=card.training["seconds"],
    )
