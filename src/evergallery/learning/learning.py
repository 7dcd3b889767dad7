"""The verb ``learn``: from images and a parent to a new generation."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from evergallery.data.image_set import ImageSet, concatenate
from evergallery.data.images import Preprocessing
from evergallery.data.tasks import at_most_per_class
from evergallery.errors import InputError
from evergallery.files import lock
from evergallery.generations.generation import Generation
from evergallery.holdings.holdings import Holdings, promote_first
from evergallery.holdings.images import load_images
from evergallery.learning.lessons import in_two_classes, left_out, training_part
from evergallery.learning.run import learn as run_learning
from evergallery.learning.run import tidy_up
from evergallery.learning.start import check_images, check_space, decide_start, said_train
from evergallery.methods import Evergreen, Finetune, Method
from evergallery.network import HeadKind, Neck
from evergallery.network.ranks import join
from evergallery.training import Settings, TrainedPart, check_compiler, resolve_device
from evergallery.watching import SILENT, Watcher


def learn(
    holdings: Holdings,
    data: str | Path | ImageSet,
    *,
    method: Method | None = None,
    parent: str | None = None,
    old_data: str | Path | ImageSet | None = None,
    classes: Sequence[str] | None = None,
    settings: Settings | Mapping[str, Any] | None = None,
    backbone: str | None = None,
    dim: int | None = None,
    neck: Neck | None = None,
    head: HeadKind | None = None,
    train: TrainedPart | None = None,
    pretrained: bool = False,
    weights: str | Path | None = None,
    from_scratch: bool = False,
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
        classes: learn only these of the data's classes.
        settings: of the training, or those that are to differ from the usual ones: ``Settings()`` for a network from
            scratch, ``Settings.update()`` for one that begins with its parent's weights, ``Settings.neck()`` where only
            the neck learns.
        backbone: another one than the parent's (than the workspace's, for a first generation).
        dim: another dimension of the embedding.
        neck: another neck.
        head: another kind of classifier in training.
        train: ``neck`` learns a neck on features that the backbone makes of each image once; ``last-stage`` the last
            stage of the backbone as well; ``all`` everything. By default the neck, where the backbone was trained
            elsewhere (registered, or begun with published weights) and has been frozen since; otherwise all.
        pretrained: begin with the backbone's published weights rather than the parent's.
        weights: begin with the backbone's weights in this file: safetensors, or a plain state dict.
        from_scratch: begin with new weights rather than the parent's.
        data_dir: where named sets lie.
        watcher: hears of progress.

    Raises:
        InputError: the data or the arguments cannot be used.
        BusyError: another process is learning in this workspace.
        TrainingError: a loss is not finite.
    """
    state = holdings.state
    ancestor = holdings.generation(parent) if parent else (holdings.promoted if state.promoted else None)
    if ancestor and not ancestor.can_be_parent and parent is None and method and not method.needs.parent:
        ancestor = None  # What only answers queries is no reason not to begin a lineage.
    if ancestor is not None:
        ancestor.require_network()
    start = decide_start(
        state.architecture, state.head, ancestor, method, backbone=backbone, dim=dim, neck=neck, head=head,
        pretrained=pretrained, weights=None if weights is None else Path(weights).expanduser(),
        from_scratch=from_scratch, train=train or said_train(settings),
    )  # fmt: skip
    method = method or (Evergreen() if ancestor or start.frozen else Finetune())
    check_images(method, old_data is not None, ancestor, start)
    preprocessing = ancestor.preprocessing if ancestor else Preprocessing.from_dict(state.preprocessing)
    check_space(method, start.architecture, ancestor)
    chosen = start.settings(settings)
    check_compiler(chosen)
    ranks = join(resolve_device(chosen.device))
    watcher = watcher if ranks.is_first else SILENT

    def read(source: str | Path | ImageSet) -> ImageSet:
        found = load_images(holdings, source, preprocessing, data_dir, watcher, minimum_per_class=2)
        for remark in (left_out(found), in_two_classes(training_part(found))):
            if remark is not None:
                watcher.said(remark)
        return training_part(found)

    with lock(holdings.directory / "generations" / ".lock", "learn") if ranks.is_first else nullcontext():
        images = ranks.in_turn(lambda: read(data))
        if classes is not None:
            images = images.of_classes(classes)
        if old_data is not None:
            old = ranks.in_turn(lambda: read(old_data))
            old = old.of_classes(ancestor.card.classes) if ancestor else old
            most = method.old_images()
            if most is not None:
                old = old.select(at_most_per_class(old.labels, most, chosen.data_seed))
            images = concatenate([old, images])
        if len(images) == 0:
            raise InputError("There is no image to learn from: the data has no split 'train'.")
        generation = run_learning(
            holdings.directory,
            ranks.agreed(max((generation.number for generation in holdings.generations()), default=0) + 1),
            images,
            method,
            chosen,
            parent=ancestor,
            start=start,
            preprocessing=preprocessing,
            watcher=watcher,
            ranks=ranks,
        )
        if ranks.is_first:
            _learned(holdings, generation)
    ranks.wait()
    return generation


def _learned(holdings: Holdings, generation: Generation) -> None:
    promote_first(holdings, generation)
    tidy_up(holdings.directory, generation)
    card = generation.card
    holdings.journal.record(
        "learn", generation=card.name, parent=card.parent, method=card.method.name, images=card.data["training"],
        new_classes=len(card.new_classes), seconds=card.training["seconds"],
    )  # fmt: skip
