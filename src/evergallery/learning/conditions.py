"""Conditions of a run, checked before anything is read for it."""

from collections.abc import Collection

from evergallery.errors import InputError
from evergallery.learning.run import Run
from evergallery.network import Embedder
from evergallery.network.backbones import require_published
from evergallery.training.settings import GROUPS_OF_STEPS, Settings, group_of


def check_old_images(run: Run, *, given: bool) -> None:
    """Refuse images of old classes that the method does not read, or the lack of those it needs.

    Raises:
        InputError: one sentence.
    """
    needed = run.method.needs.old_images
    if needed and run.parent is not None and not given:
        raise InputError(
            f"The method {run.method.name!r} learns from the old images too: name them with --old-data, "
            f"or choose a method that does not need them, such as evergreen."
        )
    if given and not needed:
        raise InputError(
            f"The method {run.method.name!r} does not read old images: leave --old-data out, or use joint."
        )


def check_batches(run: Run) -> None:
    """Refuse batches of balanced classes for a method that mixes old and new images in a proportion of its own.

    Raises:
        InputError: one sentence.
    """
    if run.method.share_of_old_images() is not None and run.settings.images_per_class is not None:
        raise InputError(
            f"The method {run.method.name!r} has a share of old images in each batch, and --images-per-class balances classes: "
            f"leave one of the two out."
        )


def check_settings(run: Run, given: Collection[str]) -> None:
    """Refuse settings of a training in steps where the neck is solved, which takes none.

    Args:
        run: how to learn.
        given: the names of the settings that somebody has named one by one.

    Raises:
        InputError: one sentence.
    """
    fields = Settings.model_fields
    without_effect = [name for name in given if name in fields and group_of(fields[name]) in GROUPS_OF_STEPS]
    if run.solves and without_effect:
        options = " and ".join("--" + name.replace("_", "-") for name in without_effect)
        raise InputError(
            f"{options} would change nothing, because {run.method.name} solves the neck of a frozen backbone and takes no steps: "
            f"leave it out, or learn more of the network with --train last-stage or --train all."
        )


def check_shift(run: Run) -> None:
    """Refuse a random shift of the images that leaves nothing of them.

    Raises:
        InputError: one sentence.
    """
    if not run.frozen:
        run.settings.require_shift_within(run.preprocessing.size)


def check_second_network(run: Run) -> None:
    """Refuse weights for a second network that the method does not train, or begins otherwise.

    Raises:
        InputError: one sentence.
    """
    if run.supporting_weights is not None and run.method.second_beginning != "pretrained":
        raise InputError(
            f"--supporting-weights belongs to a second network that begins with published weights, and {run.method.name!r} has "
            f"none: leave it out, or give  --method mutual --option supporting=pretrained"
        )


def check_published(run: Run) -> None:
    """Refuse to begin with published weights of a backbone that has none.

    Raises:
        InputError: one sentence.
    """
    second = run.method.second_beginning == "pretrained" and run.supporting_weights is None
    if run.weights is None and (run.beginning == "pretrained" or second):
        require_published(run.architecture.backbone)


def check_parent(run: Run) -> None:
    """Refuse a parent that has not what the method reads of it, or the lack of one.

    Raises:
        InputError: one sentence.
    """
    needs, parent = run.method.needs, run.parent
    other = parent is not None and parent.is_expanded and not run.inherits
    if needs.old_head == "needed" and parent is not None and (parent.head_card.classes == 0 or other):
        raise InputError(
            f"The method {run.method.name!r} learns from the scores of its parent's classes and {parent.name} has none: "
            f"choose a method that learns from its embeddings, such as evergreen or dual-tuning."
        )
    if needs.parent and parent is None and not run.solves:
        raise InputError(
            f"The method {run.method.name!r} learns from a parent and there is no generation yet: "
            f"learn the first one with  --method finetune."
        )


def check_space(run: Run) -> None:
    """Refuse a change of dimension that the method cannot bridge.

    Raises:
        InputError: one sentence.
    """
    parent = run.parent
    # What goes on from an expanded parent learns beside its root, and counts as the evolving part alone.
    if not run.method.needs.same_dimension or parent is None or run.architecture == parent.architecture:
        return
    dimension = Embedder(run.architecture).dimension
    if dimension != parent.card.dimension:
        raise InputError(
            f"The method {run.method.name!r} compares coordinates with those of {parent.name}, which have "
            f"{parent.card.dimension} dimensions and not {dimension}: keep the dimension with --dim "
            f"{parent.card.dimension}, or choose a method that changes it, such as dual-tuning."
        )
