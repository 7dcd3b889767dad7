"""Named protocols: which classes form which task, which network learns, for how long."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from evergallery.benchmark.parts import Parts, parts_of
from evergallery.data.datasets import NAMED
from evergallery.data.images import Preprocessing
from evergallery.data.published import layout_of
from evergallery.data.sources import load
from evergallery.data.tasks import Tasks, equal_groups, first_then_groups, halves
from evergallery.errors import InputError
from evergallery.network import HeadKind, Neck
from evergallery.training import Settings
from evergallery.training.settings import Precision
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
    network: Mapping[str, Any] = field(default_factory=dict)
    """What its networks are where the protocol's own are others: fields of it."""


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
        pretrained: whether new networks begin with their published weights.
        weights: a file of the backbone's weights in place of the published ones.
        report_classes: name of a set of which only the classes count that nothing was developed on, see ``is_reported``.
        ks: of recall@k, beside those that every table has.
        evaluate: evaluation sets that the first and the last generation are measured on too, see ``evaluation_set``.
        held_out: share of each class that is tested on, of sets that have no test part of their own.
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
    pretrained: bool = False
    weights: Path | None = None
    report_classes: str | None = None
    ks: tuple[int, ...] = ()
    evaluate: tuple[str, ...] = ()
    held_out: float = 0.3
    update_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def changed(self, budget: Budget, changes: "Changes") -> "BenchmarkProtocol":
        """With the networks of a budget, and what somebody wants otherwise."""
        wanted = {**self.budgets[budget].network, **changes.network()}
        for name, known in (("neck", get_args(Neck)), ("head", get_args(HeadKind))):
            if wanted.get(name) not in (None, *known):
                raise InputError(f"--{name} {wanted[name]!r} is not usable: it is one of {', '.join(known)}.")
        if "backbone" in changes.network():
            wanted["update_backbone"] = (
                changes.update_backbone
            )  # One backbone was asked for, and is that of every update.
        return replace(self, **wanted, budgets={**self.budgets, budget: changes.of(self.budgets[budget])})

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
        if self.report_classes is not None:
            images = images.of_classes([name for name in images.classes if is_reported(self.report_classes, name)])
        return parts_of(
            images, source, test_split=self.test_split, unseen_split=self.unseen_split, held_out=self.held_out
        )

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


@dataclass(frozen=True)
class Changes:
    """What is to be otherwise than a protocol has it; ``None`` leaves it as it is.

    Attributes:
        backbone: of all generations.
        update_backbone: of the later ones, where it is to be another.
        dim: D of the embedding.
        neck: between backbone and embedding.
        head: kind of classifier.
        pretrained: begin with published weights.
        weights: begin with the backbone's weights in this file.
        epochs: of every generation.
        precision: ``auto``, ``bf16`` or ``float32``.
        size: side of the images in pixels.
        ks: of recall@k.
        evaluate: evaluation sets.
    """

    backbone: str | None = None
    update_backbone: str | None = None
    dim: int | None = None
    neck: Neck | None = None
    head: HeadKind | None = None
    pretrained: bool | None = None
    weights: Path | None = None
    epochs: int | None = None
    precision: Precision | None = None
    size: int | None = None
    ks: tuple[int, ...] | None = None
    evaluate: tuple[str, ...] | None = None

    def given(self) -> dict[str, Any]:
        """What was asked for, by name."""
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name)) is not None}

    def network(self) -> dict[str, Any]:
        """Of that, what a protocol is made of."""
        given = {name: value for name, value in self.given().items() if name not in ("epochs", "precision", "size")}
        if "weights" in given:
            given["pretrained"] = False  # A file takes the place of the published weights.
        if "dim" in given and "neck" not in given:
            given["neck"] = "linear"
        return given

    def of(self, plan: Plan) -> Plan:
        """The plan with what is to be otherwise.

        Raises:
            InputError: a value that cannot be.
        """
        changes = {name: self.given()[name] for name in ("epochs", "precision") if name in self.given()}
        try:
            first, update = (
                Settings.model_validate({**one.model_dump(), **changes}) for one in (plan.first, plan.update)
            )
        except ValidationError as error:
            wrong = error.errors()[0]
            raise InputError(f"--{wrong['loc'][0]} {wrong['input']!r} is not usable: {wrong['msg']}.") from error
        return replace(plan, first=first, update=update, size=self.size or plan.size)


NO_CHANGES = Changes()


def is_reported(name: str, label: str) -> bool:
    """Whether a class of a set is for reports: the SHA-256 of ``SET/NAME`` is odd. On the others methods were developed.

    A number that stands before the name, as in ``000_Golden-Delicious``, does not count.
    """
    known = re.sub(r"^\d+_", "", label)
    return hashlib.sha256(f"{name}/{known}".encode()).digest()[-1] % 2 == 1


def natural_halves(classes: Sequence[str], seed: int) -> Tasks:
    """CSD's: the first half of the classes in their natural order, whatever the seed."""
    return halves(classes)


def reversed_halves(classes: Sequence[str], seed: int) -> Tasks:
    """The last half of the classes first."""
    return halves(tuple(classes)[::-1])


def seeded_halves(classes: Sequence[str], seed: int) -> Tasks:
    """Two halves of a seeded class order."""
    return halves(classes, seed)


def half_then_all(classes: Sequence[str], seed: int) -> Tasks:
    """Dual-Tuning's: the old model knows half of the classes, the new data cover all of them."""
    first, second = halves(classes, seed)
    return first, first + second


def less_than_a_third_then_all(classes: Sequence[str], seed: int) -> Tasks:
    """AdvBCT's: the old model knows three of ten classes, the new data cover all of them."""
    first, second = first_then_groups(classes, max(1, len(classes) * 3 // 10), 1, seed)
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
CIFAR: dict[Budget, Plan] = {"quick": _cifar(16, 4, 2), "standard": _cifar(24, 12, 5)}


def _csd(rate: float) -> Settings:
    # All 500 images of a class, all 196 steps of an epoch, black borders, no autocast; the last epoch, where the published code
    # chooses the best one on the test images.
    return Settings(
        epochs=800, learning_rate=rate, schedule="multi-step", clip_norm=None, border="zero", last_batch=True,
        precision="float32", validation_fraction=0, select="last",
    )  # fmt: skip


CSD: dict[Budget, Plan] = {**CIFAR, "paper": Plan(_csd(1e-3), _csd(1e-5), 32, {"head": "unit-rows"})}


def _mutual(epochs: int) -> Settings:
    # BN-Inception's: an epoch is each class once, batch normalisation keeps its statistics.
    return Settings(
        epochs=epochs, batch_size=80, images_per_class=5, epoch="classes", learning_rate=1e-5, schedule="constant",
        clip_norm=None, crop=0.16, normalisation="fixed", validation_fraction=0, select="last",
    )  # fmt: skip


PHOTOGRAPHS: dict[Budget, Plan] = {
    "quick": _photographs(6, 3),
    "standard": _photographs(30, 15),
    "paper": Plan(
        _mutual(1500),
        _mutual(1000),
        224,
        {"backbone": "bn-inception", "dim": 512, "neck": "linear", "pretrained": True},
    ),
}


def _dual_tuning() -> Settings:
    # fast-reid's bag of tricks: × 0.1 at 40 and 90 of 120 epochs, a rising rate before.
    return Settings(
        epochs=120, batch_size=64, images_per_class=4, learning_rate=3.5e-4,
        schedule="multi-step", milestones=(40 / 120, 90 / 120), warmup=10 / 120,
        clip_norm=None, padding=10, border="zero", erase=0.5, validation_fraction=0, select="last",
    )  # fmt: skip


DUAL_TUNING: dict[Budget, Plan] = {
    **CIFAR,
    "paper": Plan(
        _dual_tuning(),
        _dual_tuning(),
        256,
        {
            "backbone": "resnet18", "update_backbone": "resnet50", "neck": "bn", "head": "linear", "pretrained": True,
            "update_options": {"dual-tuning": {"loss": "cross-entropy"}},
        },
    ),
}  # fmt: skip

OMNIGLOT: dict[Budget, Plan] = {
    "quick": replace(_glyphs(2, 1), size=28),
    "standard": replace(_glyphs(12, 6), size=28),
    "paper": replace(_glyphs(60, 30), size=28),
}


def _imagenet(epochs: int, size: int) -> Plan:
    # openBCT's: every 30 of 90 epochs a tenth of the rate, which begins at 0.1; nothing clipped.
    settings = Settings(
        epochs=epochs, batch_size=256, learning_rate=0.1, schedule="multi-step", milestones=(1 / 3, 2 / 3), optimizer="sgd",
        weight_decay=1e-4, clip_norm=None, crop=0.08,
    )  # fmt: skip
    return Plan(settings, settings, size)


IMAGENET: dict[Budget, Plan] = {"quick": _imagenet(2, 64), "standard": _imagenet(20, 128), "paper": _imagenet(90, 224)}


def _faces(epochs: int, size: int) -> Plan:
    settings = Settings(
        epochs=epochs, batch_size=256, learning_rate=0.1, schedule="multi-step", milestones=(0.4, 0.7, 0.9),
        optimizer="sgd", weight_decay=5e-4, border="zero", padding=size // 16,
    )  # fmt: skip
    return Plan(settings, settings, size)


FACES: dict[Budget, Plan] = {"quick": _faces(2, 32), "standard": _faces(10, 64), "paper": _faces(20, 112)}


def _landmarks(epochs: int, size: int) -> Plan:
    # AdvBCT's published command: × 0.1 at 5, 10 and 20 of 30 epochs.
    settings = Settings(
        epochs=epochs, batch_size=256, learning_rate=0.1, schedule="multi-step", milestones=(1 / 6, 1 / 3, 2 / 3),
        optimizer="sgd", weight_decay=1e-4, clip_norm=None, crop=0.2,
    )  # fmt: skip
    return Plan(settings, settings, size)


LANDMARKS: dict[Budget, Plan] = {
    "quick": _landmarks(2, 64),
    "standard": _landmarks(10, 128),
    "paper": replace(_landmarks(30, 224), network={"pretrained": True}),
}
METRIC_LEARNING = (1, 2, 4, 8, 16, 32)
"""k of recall@k in papers on CUB-200, Cars-196 and their like."""

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
            budgets=CSD,
        ),
        BenchmarkProtocol(
            name="cifar100-10",
            shows="ten tasks of ten classes: forgetting and compatibility after nine updates",
            data="cifar100",
            tasks=lambda classes, seed: equal_groups(classes, 10, seed),
            budgets=CSD,
        ),
        BenchmarkProtocol(
            name="mutual-one-task",
            shows="mutual distillation's one-task form: half of the classes, then the other half",
            data=None,
            tasks=natural_halves,
            budgets=PHOTOGRAPHS,
            ks=METRIC_LEARNING,
        ),
        BenchmarkProtocol(
            name="mutual-multi-task",
            shows="mutual distillation's multi-task form: half of the classes, then four groups",
            data=None,
            tasks=half_then_four,
            budgets=PHOTOGRAPHS,
            ks=METRIC_LEARNING,
        ),
        *(
            BenchmarkProtocol(
                name=f"photos-grocery-{order}",
                shows=f"Grocery Store photographs, the classes that nothing was developed on, in halves: {words}",
                data=None,
                tasks=tasks,
                budgets=PHOTOGRAPHS,
                report_classes="grocery",
            )
            for order, words, tasks in (
                ("natural", "natural order", natural_halves),
                ("reversed", "reversed order", reversed_halves),
                ("random", "an order for each seed", seeded_halves),
            )
        ),
        BenchmarkProtocol(
            name="photos-cifar100-2",
            shows="CIFAR-100, the classes that nothing was developed on, in halves of a seeded order",
            data="cifar100",
            tasks=seeded_halves,
            budgets=CSD,
            report_classes="cifar100",
        ),
        BenchmarkProtocol(
            name="photos-cifar100-10",
            shows="the same in ten tasks",
            data="cifar100",
            tasks=lambda classes, seed: equal_groups(classes, 10, seed),
            budgets=CSD,
            report_classes="cifar100",
        ),
        BenchmarkProtocol(
            name="photos-omniglot",
            shows="characters of alphabets that no generation has seen, for a pretrained network too",
            data=None,
            tasks=by_alphabets,
            budgets=PHOTOGRAPHS,
            unseen_split="evaluation",
        ),
        BenchmarkProtocol(
            name="dual-tuning",
            shows="Dual-Tuning's: old model on half of the classes, a larger new one with ArcFace on all",
            data=None,
            tasks=half_then_all,
            budgets=DUAL_TUNING,
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
            name="faces",
            shows="an old model on half of the identities, a larger new one on all; pairs and templates of other people",
            data=None,
            tasks=half_then_all,
            budgets=FACES,
            backbone="resnet18",
            update_backbone="resnet50",
            dim=512,
            neck="linear-bn",
            overlapping=True,
            evaluate=("lfw", "ijb-c"),
            held_out=0.1,
        ),
        BenchmarkProtocol(
            name="landmarks",
            shows="AdvBCT's, more classes: three of ten landmarks, then all; revisited Oxford and Paris",
            data=None,
            tasks=less_than_a_third_then_all,
            budgets=LANDMARKS,
            backbone="resnet18",
            dim=256,
            neck="linear-bn",
            overlapping=True,
            evaluate=("roxford5k", "rparis6k"),
            held_out=0.1,
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
