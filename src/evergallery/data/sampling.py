"""Batches as functions of a seed and an epoch, so that a resumed run needs no state."""

import numpy as np
from numpy.typing import NDArray

from evergallery.errors import InputError

Indices = NDArray[np.int64]


def shuffled_batches(count: int, batch_size: int, *, seed: int, epoch: int, drop_last: bool = True) -> list[Indices]:
    """Indices 0 … count - 1 in random order, in batches.

    Args:
        count: number of images, at least 1.
        batch_size: of each batch.
        seed: of the order.
        epoch: a different order for each.
        drop_last: leave a last, smaller batch out; a set smaller than one batch still gives one. A last batch of one image is
            left out in any case: batch normalisation makes nothing of it, and no triplet can be drawn from it.

    Raises:
        InputError: nothing to draw from, or batches of less than one image.
    """
    if count < 1 or batch_size < 1:
        raise InputError(f"{count} images cannot be drawn in batches of {batch_size}: both must be at least 1.")
    order = np.random.default_rng([seed, epoch]).permutation(count)
    batches = [order[start : start + batch_size] for start in range(0, count, batch_size)]
    if len(batches) > 1 and len(batches[-1]) < (batch_size if drop_last else min(2, batch_size)):
        batches.pop()
    return batches


def mixed_batches(
    is_old: NDArray[np.bool_], batch_size: int, old_share: float, *, seed: int, epoch: int, drop_last: bool = True
) -> list[Indices]:
    """Batches of new and of old images in one proportion, whatever there are of each: an epoch has every new image once.

    Old images are dealt in random order, and anew whenever all of them were drawn.

    Args:
        is_old: (N,) of each image; both kinds are there.
        batch_size: of each batch, at least 2.
        old_share: of old images in a batch, in (0, 1); a batch has one of each kind at least.
        seed: of the order.
        epoch: a different order for each.
        drop_last: leave a last, smaller batch out, as ``shuffled_batches`` does.

    Raises:
        InputError: batches of less than two images, or a kind of image that is not there.
    """
    new, old = np.flatnonzero(~is_old), np.flatnonzero(is_old)
    if batch_size < 2 or len(old) == 0:
        raise InputError(
            f"{len(old)} old images cannot be mixed into batches of {batch_size}: there must be some, and 2 in a batch."
        )
    of_old = min(max(1, round(old_share * batch_size)), batch_size - 1)
    fresh = shuffled_batches(len(new), batch_size - of_old, seed=seed, epoch=epoch, drop_last=drop_last)
    # Another stream of the same seed.
    draw = np.random.default_rng([seed, epoch, 1])
    rounds = -(-of_old * len(fresh) // len(old))
    dealt = np.concatenate([draw.permutation(old) for _ in range(rounds)])
    return [np.concatenate([new[part], dealt[i * of_old : (i + 1) * of_old]]) for i, part in enumerate(fresh)]


def balanced_batches(
    labels: Indices, classes_per_batch: int, images_per_class: int, *, seed: int, epoch: int
) -> list[Indices]:
    """P×K batches: P classes, K images of each, so that every image has positives and negatives.

    Each class's images are dealt in random order in groups of K; the last group of a class, and the only one of a class
    with fewer than K images, is filled up with images of the same class drawn again. Groups are dealt to batches so that
    no batch holds a class twice; every image is drawn at least once an epoch, except for the groups that do not fill a
    last batch.

    Args:
        labels: (N,) classes.
        classes_per_batch: P; where there are fewer classes, all of them.
        images_per_class: K.
        seed: of the order.
        epoch: a different order for each.

    Returns:
        Batches of P·K indices.

    Raises:
        InputError: no images, or P or K below 1.
    """
    _check_drawn(len(labels), classes_per_batch, images_per_class)
    draw = np.random.default_rng([seed, epoch])
    queues: list[list[Indices]] = []
    for label in np.unique(labels):
        members = draw.permutation(np.flatnonzero(labels == label))
        missing = -len(members) % images_per_class
        last = len(members) - (images_per_class - missing) if missing else len(members)
        # Filled up from the class's other groups, so that no batch holds an image twice that need not.
        others = members[:last] if last >= missing else members
        members = np.concatenate([members, draw.choice(others, missing, replace=len(others) < missing)])
        queues.append(list(members.reshape(-1, images_per_class)))
    width = min(classes_per_batch, len(queues))
    batches = []
    while True:
        # The fullest classes first, so that large classes do not remain alone; ties at random.
        waiting = [index for index in draw.permutation(len(queues)) if queues[index]]
        if len(waiting) < width:
            break
        waiting.sort(key=lambda index: -len(queues[index]))
        batches.append(np.concatenate([queues[index].pop() for index in waiting[:width]]))
    order = draw.permutation(len(batches))
    return [batches[index] for index in order]


def class_batches(
    labels: Indices, classes_per_batch: int, images_per_class: int, *, seed: int, epoch: int
) -> list[Indices]:
    """P×K batches that hold each class once an epoch, with K of its images: an epoch of deep metric learning.

    Classes that do not fill a last batch wait for the next epoch; a class with fewer than K images gives some of them twice.

    Args:
        labels: (N,) classes.
        classes_per_batch: P; where there are fewer classes, all of them.
        images_per_class: K.
        seed: of the order.
        epoch: a different order, and different images, for each.

    Returns:
        Batches of P·K indices.

    Raises:
        InputError: no images, or P or K below 1.
    """
    _check_drawn(len(labels), classes_per_batch, images_per_class)
    draw = np.random.default_rng([seed, epoch])
    order = draw.permutation(np.unique(labels))
    width = min(classes_per_batch, len(order))
    batches = []
    for start in range(0, len(order) - width + 1, width):
        parts = []
        for label in order[start : start + width]:
            members = np.flatnonzero(labels == label)
            parts.append(draw.choice(members, images_per_class, replace=len(members) < images_per_class))
        batches.append(np.concatenate(parts))
    return batches


def _check_drawn(images: int, classes_per_batch: int, images_per_class: int) -> None:
    if images == 0 or classes_per_batch < 1 or images_per_class < 1:
        raise InputError(
            f"{images} images cannot be drawn as {classes_per_batch} classes × {images_per_class} images: "
            f"all three must be at least 1."
        )
