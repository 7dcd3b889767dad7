"""The images of a set that are learned from and tested on: as the set itself says, and cut here only where it does not."""

from collections.abc import Set
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evergallery.data.image_set import ImageSet
from evergallery.data.tasks import train_and_test
from evergallery.errors import InputError

PAIR = 2
"""Held-out images of a class, at least: one alone has nothing to find."""
TRAIN, UNSEEN = "train", "unseen"
SEARCHING = ("query", "gallery")
TESTED = ("test", "val")
"""Splits that are tested on, the first that there is."""


@dataclass(frozen=True)
class ProtocolImages:
    """The images of a protocol, with a part each.

    Attributes:
        images: with the splits ``train`` and what is tested on: ``test``, ``query`` and ``gallery``, or ``unseen``.
        words: how they were split.
        tested: the parts that are tested on.
    """

    images: ImageSet
    words: str
    tested: tuple[str, ...]


def parts_of(
    images: ImageSet, source: str, *, test_split: str = "test", unseen_split: str | None = None, held_out: float = 0.3
) -> ProtocolImages:
    """The parts of a set.

    Where it has a split ``train``, that is learned from, and its ``query`` in its ``gallery``, its ``test`` or its ``val`` is
    tested on. A test part is cut out of the training images, once and for all, only where there is none.

    Args:
        images: all of them, with or without splits.
        source: for messages.
        test_split: which split is tested on, where it is there.
        unseen_split: of classes in no task.
        held_out: share of each class that is tested on, where no part is.

    Raises:
        InputError: splits that say what is tested on and not what is learned from, or too few images of a class.
    """
    named = np.full(len(images), TRAIN) if images.split is None else images.split.astype("<U16")
    there = set(named.tolist())
    unseen = named == unseen_split
    if unseen_split is not None and not unseen.any():
        raise InputError(
            f"The protocol tests on classes that no generation has seen: the images need a split {unseen_split!r} of such "
            f"classes, and have {', '.join(sorted(there))}."
        )
    tested = _tested(there, test_split, source)
    part = np.full(len(images), "", dtype="<U16")
    part[unseen] = UNSEEN
    learned = [name for name in sorted(there) if name not in (unseen_split, *SEARCHING, *TESTED, test_split)]
    if TRAIN in learned:
        learned = [TRAIN]
    if len(learned) != 1:
        raise InputError(
            f"{source} has the splits {', '.join(sorted(there))}: one of them must be 'train', which is learned from."
        )
    part[named == learned[0]] = TRAIN
    if tested:
        for name in tested:
            part[named == name] = name if len(tested) > 1 else "test"
        words = f"learned from its split {learned[0]!r}, tested on {' in '.join(map(repr, tested))}"
    else:
        words = f"{held_out:.0%} of each class held out here".replace("%", " %") + _hold_out(
            images, part, held_out, source
        )
    left = sorted(set(named[part == ""].tolist()) - set(learned))
    words += f", {unseen_split!r} unseen" if unseen_split else ""
    words += f", {' and '.join(map(repr, left))} left out" if left else ""
    words += f", images that are junk or cannot be read left out: {len(images.skipped)}" if images.skipped else ""
    images = replace(images, split=part)
    return ProtocolImages(
        images.select(np.flatnonzero(part != "")), words, tuple(sorted(set(part.tolist()) - {"", TRAIN}))
    )


def _hold_out(images: ImageSet, part: NDArray[np.str_], share: float, source: str) -> str:
    """Move a share of each class of the training part to ``test``; returns what is to be said of classes that are too small.

    Of a class of two or three images all are learned from, and an image that is alone in its class is left out.
    """
    rows = np.flatnonzero(part == TRAIN)
    sizes = np.bincount(images.labels[rows], minlength=len(images.classes))[images.labels[rows]]
    large, alone = rows[sizes >= 2 * PAIR], rows[sizes < PAIR]
    if len(large) == 0:
        raise InputError(
            f"{source} has no class of {2 * PAIR} readable images: {PAIR} are learned from and {PAIR} are held out; add images, "
            f"or name a set with a part 'test'."
        )
    part[large] = train_and_test(images.labels[large], share, seed=0, at_least=PAIR)
    part[alone] = ""
    small = len(np.unique(images.labels[rows[(sizes < 2 * PAIR) & (sizes >= PAIR)]]))
    texts = [f"classes of fewer than {2 * PAIR} images not tested on: {small}"] if small else []
    texts += [f"images that are alone in their class left out: {len(alone)}"] if len(alone) else []
    return "".join(f", {text}" for text in texts)


def _tested(there: Set[str], test_split: str, source: str) -> tuple[str, ...]:
    if test_split in there:
        return (test_split,)
    searching = tuple(name for name in SEARCHING if name in there)
    if len(searching) == 1:
        raise InputError(f"{source} has a split {searching[0]!r} alone: queries are searched in a gallery, give both.")
    return searching or next(((name,) for name in TESTED if name in there), ())
