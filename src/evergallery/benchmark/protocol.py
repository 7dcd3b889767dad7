"""Protocols of a benchmark: which images, which tasks, which networks, for how long, and what may be otherwise."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from evergallery.benchmark.parts import ProtocolImages, parts_of
from evergallery.data.datasets import MADE, NAMED
from evergallery.data.images import Fit, Interpolation, Preprocessing
from evergallery.data.images.sizes import Size
from evergallery.data.sources import load
from evergallery.data.tasks import Tasks
from evergallery.errors import InputError, require_option
from evergallery.network import HeadKind, Neck
from evergallery.training import Settings
from evergallery.training.settings import TrainingPrecision
from evergallery.watching import Watcher

if TYPE_CHECKING:
    from evergallery.network.backbones import Backbone

Budget = Literal["quick", "standard", "paper"]
BACKBONES = ("backbone", "update_backbone")
"""The fields of a protocol that name one."""


@dataclass(frozen=True)
class TrainingPlan:
    """The settings that a budget buys: those of the first generation and of its updates."""

    first: Settings
    """Settings of the first generation, and of whoever starts from scratch."""
    update: Settings
    """Settings of every generation that begins with its parent's weights."""
    size: Size | None = 32
    """Size of the images; ``None`` is the backbone's own."""
    network: Mapping[str, Any] = field(default_factory=dict)
    """The fields of the protocol in which its networks differ."""
    update_epochs: tuple[int, ...] = ()
    """Epochs of each update, where they are not all those of ``update``."""
    warmup_steps: int | None = None
    """Steps in which the rate rises, in place of a share of the run."""
    by_backbone: Mapping[str, "TrainingPlan"] = field(default_factory=dict)
    """The plan for one of these backbones, by name without a tag: a paper has settings for each."""

    def update_settings(self, number: int) -> Settings:
        """The settings of generation ``number``, 2 or more, where it begins with its parent's weights."""
        own = self.update_epochs[number - 2 : number - 1]
        return self.update.model_copy(update={"epochs": own[0]}) if own else self.update

    def of_backbone(self, name: str | None) -> "TrainingPlan":
        """The plan where this backbone is asked for, of whichever library and with whichever weights."""
        return self.by_backbone.get((name or "").rpartition("/")[2].partition(".")[0], self)

    def published_name(self, backbone: str) -> str:
        """The name of a backbone with the tag of the weights that the plan has for it, where none is asked for."""
        own = (name for field in BACKBONES if (name := self.network.get(field)) is not None)
        return next((name for name in own if name.partition(".")[0] == backbone), backbone)


@dataclass(frozen=True)
class BenchmarkProtocol:
    """A protocol: everything but the method, the seed and the budget.

    Attributes:
        name: of the protocol.
        shows: what for, in a sentence.
        data: a named set, or ``None`` where the user brings images in any form that ``learn`` reads.
        tasks: classes and a seed to tasks.
        published_tasks: likewise of sets whose paper says them, by name, with the budget ``paper``.
        budgets: what each budget buys.
        backbone: of the first generation.
        update_backbone: of the later ones, where it is another.
        dim: D of the embedding; the backbone's own by default.
        neck: likewise.
        head: kind of classifier.
        overlapping: whether a task holds all classes so far, not only its own.
        test_split: name of the split that is tested on.
        unseen_split: name of a split whose classes are in no task: an open set.
        fit: how images of another shape are brought to that size.
        kept: share of the sides of a cropped image that is tested on, in its middle.
        interpolation: of resizing; that of the first backbone's published weights by default.
        pretrained: whether new networks begin with their published weights.
        weights: a file of the backbone's weights in place of the published ones.
        update_weights: likewise of the later generations' backbone, where it is another.
        report_classes: name of a set of which only the classes count that nothing was developed on, see ``is_reported``.
        ks: of recall@k, beside those that every table has.
        evaluate: evaluation sets that the first and the last generation are measured on too, see ``evaluation_set``.
        first_share: of each class's images that the first task has, where all tasks have the same classes.
        held_out: share of each class that is tested on, of sets that have no test part of their own.
        triplets: whether the first generation learns by triplets beside its classifier, and every method that may.
        method_options: parameters of some methods that belong to this protocol; those of fine-tuning are the first generation's.
    """

    name: str
    shows: str
    data: str | None
    tasks: Callable[[Sequence[str], int], Tasks]
    budgets: Mapping[Budget, TrainingPlan]
    backbone: str = "resnet32"
    update_backbone: str | None = None
    dim: int | None = None
    neck: Neck = "none"
    head: HeadKind = "cosine"
    overlapping: bool = False
    test_split: str = "test"
    unseen_split: str | None = None
    fit: Fit = "crop"
    kept: float = 1.0
    interpolation: Interpolation | None = None
    pretrained: bool = False
    weights: Path | None = None
    update_weights: Path | None = None
    report_classes: str | None = None
    ks: tuple[int, ...] = ()
    evaluate: tuple[str, ...] = ()
    first_share: float = 1.0
    published_tasks: Mapping[str, Callable[[Sequence[str], int], Tasks]] = field(default_factory=dict)
    held_out: float = 0.3
    triplets: bool = True
    method_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def later_weights(self) -> Path | None:
        """The file of the later generations' backbone."""
        return self.weights if self.update_backbone in (None, self.backbone) else self.update_weights

    def changed(self, budget: Budget, changes: "ProtocolChanges") -> "BenchmarkProtocol":
        """The protocol with the networks of a budget, and what somebody wants otherwise."""
        plan = self.budgets[budget].of_backbone(changes.backbone)
        wanted = {**plan.network, **changes.network()}
        for name, known in (("neck", get_args(Neck)), ("head", get_args(HeadKind))):
            require_option(name, wanted.get(name), known)
        if "backbone" in changes.network():
            # One backbone was asked for, and is that of every update.
            wanted["update_backbone"] = changes.update_backbone
        wanted |= {name: plan.published_name(wanted[name]) for name in BACKBONES if wanted.get(name) is not None}
        if changes.dim is not None and changes.neck is None:
            wanted["neck"] = with_dimension(wanted.get("neck", self.neck))
        if changes.neck is not None and changes.dim is None and not makes_dimension(changes.neck):
            wanted["dim"] = None  # The protocol's own needs a linear neck: behind this one it is the backbone's.
        if not wanted.get("pretrained", self.pretrained) and wanted.get("weights", self.weights) is None:
            # Without published weights nothing begins with them.
            options = wanted.get("method_options", self.method_options)
            wanted["method_options"] = {
                name: {parameter: value for parameter, value in own.items() if value != "pretrained"}
                for name, own in options.items()
            }
        if wanted.get("fit", self.fit) != "crop":
            wanted["kept"] = 1.0  # There are no margins.
        return replace(self, **wanted, budgets={**self.budgets, budget: changes.of(plan)})

    def tasks_of(self, budget: Budget, data: str | None) -> Callable[[Sequence[str], int], Tasks]:
        """Classes and a seed to tasks, of a set by its name."""
        return self.published_tasks.get(data or "", self.tasks) if budget == "paper" else self.tasks

    def plan(self, budget: Budget, seed: int) -> TrainingPlan:
        """The plan with the seeds of run ``seed``: of weights, of data order and of the validation part."""
        plan = self.budgets[budget]
        seeds = {"init_seed": seed, "data_seed": seed, "validation_seed": seed}
        return replace(plan, first=plan.first.model_copy(update=seeds), update=plan.update.model_copy(update=seeds))

    def parts(
        self, data: str | None, plan: TrainingPlan, cache: Path, watcher: Watcher, data_dir: Path | None = None
    ) -> ProtocolImages:
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
        named = self.runs_on_its_own(data)
        source = str(self.data if named else data)
        images = load(
            source,
            self.preprocessing(plan).with_margins,
            cache=cache,
            data_dir=Path(data) if named and data else data_dir,
            on_progress=lambda done, total: watcher.counted("reading images", done, total),
        )
        if images.skipped:
            first = images.skipped[0]
            watcher.said(
                f"{len(images.skipped)} of {len(images) + len(images.skipped)} images of {source} are left "
                f"out, the first is {first}"
            )
        if self.report_classes is not None:
            images = images.of_classes([name for name in images.classes if is_reported(self.report_classes, name)])
        return parts_of(
            images, source, test_split=self.test_split, unseen_split=self.unseen_split, held_out=self.held_out
        )

    def runs_on_its_own(self, data: str | None) -> bool:
        """Return whether the images are the set that the protocol brings, of which ``data`` says at most in which folder it lies.

        A set that is made on the spot lies nowhere: a folder is of other images.
        """
        is_place = self.data in NAMED and self.data not in MADE and data is not None and Path(data).is_dir()
        return self.data is not None and (data is None or is_place)

    def dimension(self, backbone: str) -> int:
        """D of the embedding with this backbone."""
        return described(backbone).width if self.dim is None else self.dim

    def preprocessing(self, plan: TrainingPlan) -> Preprocessing:
        """Return how an image becomes the input of the network."""
        built = described(self.backbone)
        return Preprocessing(
            size=plan.size or built.size,
            fit=self.fit,
            interpolation=self.interpolation or built.interpolation,
            kept=self.kept,
            mean=built.mean,
            std=built.std,
        )


def makes_dimension(neck: Neck) -> bool:
    """Return whether a neck makes any dimension; behind the others it is the backbone's."""
    return "linear" in neck


def with_dimension(neck: Neck) -> Neck:
    """A neck that makes any dimension, and does to the features what this one does."""
    if makes_dimension(neck):
        return neck
    return "linear-bn" if neck == "bn" else "linear"


@cache
def described(backbone: str) -> "Backbone":
    """Return a backbone of which the width and the input are wanted: it has no layers."""
    from torch import nn

    from evergallery.network import build_backbone
    from evergallery.network.uninitialised import uninitialised

    with uninitialised():
        return replace(build_backbone(backbone), module=nn.Identity())


@dataclass(frozen=True)
class ProtocolChanges:
    """The changes that are made to a protocol; ``None`` leaves a value as it is.

    Attributes:
        backbone: of all generations.
        update_backbone: of the later ones, where it is to be another.
        dim: D of the embedding.
        neck: between backbone and embedding.
        head: kind of classifier.
        pretrained: begin with published weights.
        weights: begin with the backbone's weights in this file.
        update_weights: of the later generations' backbone, where it is another.
        epochs: of every generation.
        precision: ``auto``, ``bf16`` or ``float32``.
        size: side of the images in pixels, or height and width.
        fit: how images of another shape are brought to that size.
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
    update_weights: Path | None = None
    epochs: int | None = None
    precision: TrainingPrecision | None = None
    size: Size | None = None
    fit: Fit | None = None
    ks: tuple[int, ...] | None = None
    evaluate: tuple[str, ...] | None = None

    def given(self) -> dict[str, Any]:
        """Return what was asked for, by name."""
        return {change.name: value for change in fields(self) if (value := getattr(self, change.name)) is not None}

    def network(self) -> dict[str, Any]:
        """Return what was asked for of the fields of a protocol, by name.

        Raises:
            InputError: two things that exclude each other.
        """
        given = {name: value for name, value in self.given().items() if name not in ("epochs", "precision", "size")}
        if "weights" in given:
            if self.pretrained is False:
                raise InputError("--from-scratch begins with new weights: leave --weights out.")
            given["pretrained"] = False  # A file takes the place of the published weights.
        return given

    def of(self, plan: TrainingPlan) -> TrainingPlan:
        """The plan with what is to be otherwise.

        Raises:
            InputError: a value that cannot be.
        """
        changes = {name: self.given()[name] for name in ("epochs", "precision") if name in self.given()}
        first, update = (
            Settings.model_validate({**settings.model_dump(), **changes}) for settings in (plan.first, plan.update)
        )
        own_epochs = () if "epochs" in changes else plan.update_epochs
        return replace(plan, first=first, update=update, update_epochs=own_epochs, size=self.size or plan.size)


NO_CHANGES = ProtocolChanges()


def is_reported(name: str, label: str) -> bool:
    """Return whether a class of a set is for reports: the SHA-256 of ``SET/NAME`` is odd. On the others methods were developed.

    A number that stands before the name, as in ``000_Golden-Delicious``, does not count.
    """
    known = re.sub(r"^\d+_", "", label)
    return hashlib.sha256(f"{name}/{known}".encode()).digest()[-1] % 2 == 1
