"""Named protocols: which classes form which task, which network learns, for how long."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from evergallery.benchmark.parts import Parts, parts_of
from evergallery.data.datasets import NAMED
from evergallery.data.images import Preprocessing
from evergallery.data.published import layout_of
from evergallery.data.sources import load
from evergallery.data.tasks import Tasks, equal_groups, first_then_groups, halves
from evergallery.errors import InputError
from evergallery.network import HeadKind, Neck
from evergallery.training import Settings
from evergallery.watching import Watcher

Budget = Literal["quick", "standard", "paper"]


@dataclass(frozen=True)
class Plan:
    """What a budget buys."""

    first: Settings
    """Of the first generation, and of whoever starts from scratch."""
    update: Settings
    """Of every generation that begins with its parent's weights."""
    size: int | None = 32
    """Side of the images in pixels; ``None`` is the backbone's own."""


@dataclass(frozen=True)
class BenchmarkProtocol:
    """A protocol: everything but the method, the seed and the budget.

    Attributes:
        name: of the protocol.
        shows: what for, in a sentence.
        data: a named set, or ``None`` where the user brings images in any form that ``learn`` reads.
        tasks: classes and a seed to tasks.
        budgets: what each budget buys.
        backbone: of the first generation.
        update_backbone: of the later ones, where it is another.
        dim: D of the embedding; the backbone's own by default.
        neck: likewise.
        head: kind of classifier.
        overlapping: whether a task holds all classes so far, not only its own.
        test_split: name of the split that is tested on.
        unseen_split: name of a split whose classes are in no task: an open set.
        update_options: parameters of some methods that belong to this protocol.
    """

    name: str
    shows: str
    data: str | None
    tasks: Callable[[Sequence[str], int], Tasks]
    budgets: Mapping[Budget, Plan]
    backbone: str = "resnet32"
    update_backbone: str | None = None
    dim: int | None = None
    neck: Neck = "none"
    head: HeadKind = "cosine"
    overlapping: bool = False
    test_split: str = "test"
    unseen_split: str | None = None
    update_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def plan(self, budget: Budget, seed: int) -> Plan:
        """The plan with the seeds of run ``seed``: of weights, of data order and of the validation part."""
        plan = self.budgets[budget]
        seeds = {"init_seed": seed, "data_seed": seed, "validation_seed": seed}
        return replace(plan, first=plan.first.model_copy(update=seeds), update=plan.update.model_copy(update=seeds))

    def parts(self, data: str | None, plan: Plan, cache: Path, watcher: Watcher, data_dir: Path | None = None) -> Parts:
        """The images, in the parts that they are learned from and tested on.

        Args:
            data: images, or a named set; where the protocol brings one, the directory where that lies will do.
            plan: for the size of the images.
            cache: where decoded images are kept.
            watcher: hears of progress.
            data_dir: where a named set lies.

        Raises:
            InputError: no data named for a protocol that needs it, or data without enough classes.
        """
        if self.data is None and data is None:
            raise InputError(f"The protocol {self.name!r} runs on images of your own: name them with --data.")
        named = self.data is not None and (data is None or (self.data in NAMED and Path(data).is_dir()))
        source = str(self.data if named else data)
        inside = None if named else layout_of(Path(source).absolute().parent)
        if inside is not None and Path(source).is_dir():
            raise InputError(
                f"{source} is a part of a set whose split is published: name all of it with  --data {inside} --data-dir "
                f"{Path(source).absolute().parent}"
            )
        images = load(
            source,
            self.preprocessing(plan),
            cache=cache,
            data_dir=Path(data) if named and data else data_dir,
            on_progress=lambda done, total: watcher.counted("reading images", done, total),
        )
        return parts_of(images, source, test_split=self.test_split, unseen_split=self.unseen_split)

    def dimension(self, backbone: str) -> int:
        """D of the embedding with this backbone."""
        from evergallery.network import build_backbone

        return self.dim or build_backbone(backbone).width

    def preprocessing(self, plan: Plan) -> Preprocessing:
        """From a file to the network's input."""
        from evergallery.network import build_backbone

        built = build_backbone(self.backbone)
        return Preprocessing(
            size=plan.size or built.size, interpolation=built.interpolation, mean=built.mean, std=built.std
        )


def natural_halves(classes: Sequence[str], seed: int) -> Tasks:
    """CSD's: the first half of the classes in their natural order, whatever the seed."""
    return halves(classes)


def seeded_halves(classes: Sequence[str], seed: int) -> Tasks:
    """Two halves of a seeded class order."""
    return halves(classes, seed)


def half_then_all(classes: Sequence[str], seed: int) -> Tasks:
    """Dual-Tuning's: the old model knows half of the classes, the new data cover all of them."""
    first, second = halves(classes, seed)
    return first, first + second


def half_then_four(classes: Sequence[str], seed: int) -> Tasks:
    """Mutual distillation's multi-task form: half of the classes, then four groups, in natural order."""
    return first_then_groups(classes, len(classes) // 2, 4)


def by_alphabets(classes: Sequence[str], seed: int) -> Tasks:
    """Characters named ``ALPHABET/CHARACTER``: half of the alphabets, then the others in three groups, in seeded order."""
    alphabets = tuple(dict.fromkeys(name.partition("/")[0] for name in classes))
    groups = first_then_groups(alphabets, len(alphabets) // 2, 3, seed)
    return tuple(tuple(name for name in classes if name.partition("/")[0] in set(group)) for group in groups)


def _glyphs(epochs: int, update_epochs: int) -> Plan:
    common: dict[str, Any] = {"batch_size": 64, "images_per_class": 4, "padding": 3, "flip": False}
    return Plan(Settings(epochs=epochs, **common), Settings.update(epochs=update_epochs, **common))


def _cifar(size: int, epochs: int, update_epochs: int, **common: Any) -> Plan:
    return Plan(Settings(epochs=epochs, **common), Settings.update(epochs=update_epochs, **common), size)


def _photographs(epochs: int, update_epochs: int, size: int | None = 32) -> Plan:
    common: dict[str, Any] = {"batch_size": 80, "images_per_class": 5}
    return Plan(Settings(epochs=epochs, **common), Settings.update(epochs=update_epochs, **common), size)


GLYPHS: dict[Budget, Plan] = {"quick": _glyphs(4, 2), "standard": _glyphs(12, 6), "paper": _glyphs(40, 20)}
# A tenth of the characters is seen ten times as often: otherwise a first generation would have no time to learn anything.
GLYPHS_10: dict[Budget, Plan] = {"quick": _glyphs(12, 3), "standard": _glyphs(40, 12), "paper": _glyphs(120, 40)}
CIFAR: dict[Budget, Plan] = {
    "quick": _cifar(16, 4, 2),
    "standard": _cifar(24, 12, 5),
    "paper": Plan(
        Settings(epochs=800, learning_rate=1e-3, schedule="multi-step", clip_norm=None),
        Settings(epochs=800, learning_rate=1e-5, schedule="multi-step", clip_norm=None),
        32,
    ),
}
PHOTOGRAPHS: dict[Budget, Plan] = {
    "quick": _photographs(6, 3),
    "standard": _photographs(30, 15),
    "paper": Plan(
        Settings(epochs=1500, batch_size=80, images_per_class=5, learning_rate=1e-5, schedule="constant"),
        Settings(epochs=1000, batch_size=80, images_per_class=5, learning_rate=1e-5, schedule="constant"),
        None,
    ),
}

OMNIGLOT: dict[Budget, Plan] = {
    "quick": replace(_glyphs(2, 1), size=28),
    "standard": replace(_glyphs(12, 6), size=28),
    "paper": replace(_glyphs(60, 30), size=28),
}


def _imagenet(epochs: int, size: int) -> Plan:
    # openBCT's: every 30 of 90 epochs a tenth of the rate, which begins at 0.1.
    settings = Settings(
        epochs=epochs, batch_size=256, learning_rate=0.1, schedule="multi-step", optimizer="sgd", weight_decay=1e-4
    )
    return Plan(settings, settings, size)


IMAGENET: dict[Budget, Plan] = {"quick": _imagenet(2, 64), "standard": _imagenet(20, 128), "paper": _imagenet(90, 224)}

PROTOCOLS: dict[str, BenchmarkProtocol] = {
    protocol.name: protocol
    for protocol in (
        BenchmarkProtocol(
            name="glyphs",
            shows="the whole story in minutes on a CPU: 200 characters, half and half",
            data="glyphs",
            tasks=seeded_halves,
            budgets=GLYPHS,
            backbone="resnet20",
        ),
        BenchmarkProtocol(
            name="glyphs-5",
            shows="five tasks of 40 characters: what four updates do",
            data="glyphs",
            tasks=lambda classes, seed: equal_groups(classes, 5, seed),
            budgets=GLYPHS,
            backbone="resnet20",
        ),
        BenchmarkProtocol(
            name="glyphs-10",
            shows="a long life: ten tasks of 20 characters, nine updates over vectors that are never refreshed",
            data="glyphs",
            tasks=lambda classes, seed: equal_groups(classes, 10, seed),
            budgets=GLYPHS_10,
            backbone="resnet20",
        ),
        BenchmarkProtocol(
            name="csd-cifar100",
            shows="CSD's protocol: CIFAR-100, 50 + 50 classes in natural order",
            data="cifar100",
            tasks=natural_halves,
            budgets=CIFAR,
        ),
        BenchmarkProtocol(
            name="cifar100-10",
            shows="ten tasks of ten classes: forgetting and compatibility after nine updates",
            data="cifar100",
            tasks=lambda classes, seed: equal_groups(classes, 10, seed),
            budgets=CIFAR,
        ),
        BenchmarkProtocol(
            name="mutual-one-task",
            shows="mutual distillation's one-task form: half of the classes, then the other half",
            data=None,
            tasks=natural_halves,
            budgets=PHOTOGRAPHS,
        ),
        BenchmarkProtocol(
            name="mutual-multi-task",
            shows="mutual distillation's multi-task form: half of the classes, then four groups",
            data=None,
            tasks=half_then_four,
            budgets=PHOTOGRAPHS,
        ),
        BenchmarkProtocol(
            name="dual-tuning",
            shows="Dual-Tuning's: old model on half of the classes, a larger new one with ArcFace on all",
            data=None,
            tasks=half_then_all,
            budgets=CIFAR,
            backbone="resnet20",
            update_backbone="resnet32",
            overlapping=True,
            update_options={"dual-tuning": {"loss": "arcface"}},
        ),
        BenchmarkProtocol(
            name="bct-imagenet",
            shows="openBCT's: ImageNet-1k, 500 classes with ResNet-18, then all 1 000 with ResNet-50",
            data=None,
            tasks=lambda classes, seed: (tuple(classes[: len(classes) // 2]), tuple(classes)),
            budgets=IMAGENET,
            backbone="resnet18",
            update_backbone="resnet50",
            head="linear",
            overlapping=True,
            test_split="val",
        ),
        BenchmarkProtocol(
            name="omniglot",
            shows="characters of alphabets that no generation has seen; four tasks of the other alphabets",
            data=None,
            tasks=by_alphabets,
            budgets=OMNIGLOT,
            backbone="resnet20",
            unseen_split="evaluation",
        ),
    )
}
"""Every protocol by name."""
