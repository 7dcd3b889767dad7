"""The split into tasks: which classes arrive together, which images validate, which are queries."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evergallery.arguments.checking import check_fields
from evergallery.errors import InputError, require_seed

Tasks = tuple[tuple[str, ...], ...]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class ClassGroup:
    """One of several equal groups of all classes, see ``equal_groups``.

    Attributes:
        number: of the group, from 1.
        groups: how many there are.
        seed: of the order in which classes are dealt to them; ``None`` for their natural order.

    Raises:
        InputError: there is no such group, or the seed is below 0.
    """

    number: int
    groups: int
    seed: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if not 1 <= self.number <= self.groups:
            raise InputError(f"There is no group {self.number} of {self.groups}: the first one is 1.")
        require_seed(self.seed)

    def of(self, classes: Sequence[str]) -> tuple[str, ...]:
        """Return the classes of the group.

        Raises:
            InputError: there are fewer classes than groups.
        """
        return equal_groups(classes, self.groups, self.seed)[self.number - 1]


ClassChoice = Sequence[str] | ClassGroup
"""The classes that are learned, of all that the images have: by their names, or a group of them."""


def choose(classes: Sequence[str], choice: ClassChoice | None) -> tuple[str, ...]:
    """Return the classes that are chosen; all of them by default.

    Raises:
        InputError: one of them is not there, or is named twice; or there are fewer classes than groups.
    """
    if choice is None:
        return tuple(classes)
    if isinstance(choice, ClassGroup):
        return choice.of(classes)
    if isinstance(choice, str):
        raise InputError(f"{choice!r} is one name: give the classes as a list of names.")
    missing = [name for name in choice if name not in set(classes)]
    if missing:
        raise InputError(f"There is no class {missing[0]!r}: the images have {listed_names(classes)}.")
    if len(set(choice)) != len(choice):
        raise InputError(f"A class is named twice among {listed_names(choice)}.")
    return tuple(choice)


def listed_names(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def halves(classes: Sequence[str], seed: int | None = None) -> Tasks:
    """Two tasks of equal size (the first has one more where the number is odd)."""
    return equal_groups(classes, 2, seed)


def equal_groups(classes: Sequence[str], groups: int, seed: int | None = None) -> Tasks:
    """``groups`` tasks whose sizes differ by at most one, the larger ones first.

    Args:
        classes: names.
        groups: how many tasks.
        seed: of the class order alone; ``None`` keeps the order given.

    Raises:
        InputError: fewer classes than groups, or no group.
    """
    if not 1 <= groups <= len(classes):
        raise InputError(f"{len(classes)} classes cannot be split into {groups} tasks: each needs at least one class.")
    ordered = _ordered(classes, seed)
    sizes = [len(ordered) // groups + (index < len(ordered) % groups) for index in range(groups)]
    ends = np.cumsum([0, *sizes])
    return tuple(ordered[start:end] for start, end in itertools.pairwise(ends))


def first_then_groups(classes: Sequence[str], first: int, groups: int, seed: int | None = None) -> Tasks:
    """A first task of ``first`` classes, then ``groups`` equal ones of the rest.

    Raises:
        InputError: too few classes.
    """
    if first < 1 or groups < 1 or len(classes) < first + groups:
        raise InputError(
            f"{len(classes)} classes cannot be split into a first task of {first} and {groups} more: each needs a class."
        )
    ordered = _ordered(classes, seed)
    return (ordered[:first], *equal_groups(ordered[first:], groups))


def explicit(classes: Sequence[str], tasks: Sequence[Sequence[str]]) -> Tasks:
    """The tasks as listed, after checking that they name known classes, each at most once, and leave none empty.

    Raises:
        InputError: otherwise; the message names the class.
    """
    known = set(classes)
    seen: set[str] = set()
    for number, task in enumerate(tasks, 1):
        if not task:
            raise InputError(f"Task {number} names no class.")
        for name in task:
            if name not in known:
                raise InputError(f"Task {number} names the class {name!r}, which the images do not have.")
            if name in seen:
                raise InputError(f"The class {name!r} is named twice among the tasks: a class arrives once.")
            seen.add(name)
    return tuple(tuple(task) for task in tasks)


def stratified_validation(labels: Indices, fraction: float = 0.1, seed: int = 0) -> tuple[Indices, Indices]:
    """Cut a validation part from each class.

    A class gives ``round(fraction · size)`` images, but two where it has at least four, so that each validation image
    has a positive beside it; smaller classes give none.

    Args:
        labels: (N,) classes.
        fraction: in (0, 1).
        seed: of the cut alone.

    Returns:
        Indices of the training and of the validation part, each in ascending order.

    Raises:
        InputError: a fraction outside of (0, 1).
    """
    if not 0 < fraction < 1:
        raise InputError(f"A validation part of {fraction} of each class is not between 0 and 1.")
    draw = np.random.default_rng(seed)
    validation = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = draw.permutation(np.flatnonzero(labels == label))
        if len(members) >= 4:
            wanted = max(2, round(fraction * len(members)))
            validation[members[: min(wanted, len(members) - 2)]] = True
    return np.flatnonzero(~validation), np.flatnonzero(validation)


def query_gallery(labels: Indices, queries: float, seed: int = 0, at_least: int = 1) -> tuple[Indices, Indices]:
    """Split each class into queries and gallery; every class of two or more images has both.

    Args:
        labels: (N,) classes.
        queries: share of each class that queries, in (0, 1).
        seed: of the split alone.
        at_least: so many of each class query, as far as one is left for the gallery.

    Returns:
        Indices of the queries and of the gallery, each in ascending order; a class of one image is gallery.

    Raises:
        InputError: a share outside of (0, 1).
    """
    if not 0 < queries < 1:
        raise InputError(f"A share of {queries} of each class as queries is not between 0 and 1.")
    draw = np.random.default_rng(seed)
    is_query = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = draw.permutation(np.flatnonzero(labels == label))
        if len(members) >= 2:
            is_query[members[: min(max(at_least, round(queries * len(members))), len(members) - 1)]] = True
    return np.flatnonzero(is_query), np.flatnonzero(~is_query)


def train_and_test(labels: Indices, test: float, seed: int = 0, at_least: int = 1) -> NDArray[np.str_]:
    """``train`` or ``test`` for each image (N,); every class of two or more images has both.

    Args:
        labels: (N,) classes.
        test: share of each class that is held out, in (0, 1).
        seed: of the split alone.
        at_least: so many of each class are held out, as far as one is left to learn from.

    Raises:
        InputError: a share outside of (0, 1).
    """
    split = np.full(len(labels), "train", dtype="<U5")
    split[query_gallery(labels, test, seed, at_least)[0]] = "test"
    return split


def at_most_per_class(labels: Indices, most: int, seed: int = 0) -> Indices:
    """Indices of ``most`` images of each class, drawn by ``seed``, or of all where there are fewer.

    Which images of a class are drawn does not depend on what other classes there are.

    Args:
        labels: (N,) classes.
        most: at least 1.
        seed: of the draw.

    Raises:
        InputError: fewer than one image.
    """
    if most < 1:
        raise InputError(f"{most} images of each class are asked for: ask for at least 1.")
    kept = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        kept.append(np.random.default_rng([seed, len(members)]).permutation(members)[:most])
    return np.sort(np.concatenate(kept)) if kept else np.empty(0, dtype=np.int64)


def whole_classes(labels: Sequence[str | None], size: int, seed: int = 0) -> Indices:
    """Rows of about ``size`` items, classes drawn at random and whole, so that each item keeps the others of its class.

    Args:
        labels: of N items; those without one are left out.
        size: of the sample; a first class that is larger is taken all the same.
        seed: of the draw.

    Returns:
        (n,) rows, ascending.
    """
    by_label: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        if label is not None:
            by_label.setdefault(label, []).append(index)
    names = sorted(by_label)
    chosen: list[int] = []
    for position in np.random.default_rng(seed).permutation(len(names)):
        if chosen and len(chosen) + len(by_label[names[position]]) > size:
            continue
        chosen += by_label[names[position]]
    return np.sort(np.array(chosen, dtype=np.int64))


def _ordered(classes: Sequence[str], seed: int | None) -> tuple[str, ...]:
    if len(set(classes)) != len(classes):
        raise InputError("A class is named twice: give each class once.")
    if seed is None:
        return tuple(classes)
    return tuple(classes[index] for index in np.random.default_rng(seed).permutation(len(classes)))
