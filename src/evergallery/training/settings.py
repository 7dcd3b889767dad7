"""How long and how fast to learn; the same for every method, so that comparisons are fair."""

import os
import re
import shutil
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
from numpy import cos, pi
from pydantic import BaseModel, ConfigDict, Field

from evergallery.errors import InputError

Precision = Literal["auto", "bf16", "float32"]
DEVICE = r"auto|cpu|cuda(:\d+)?"
TrainedPart = Literal["neck", "last-stage", "all"]
"""What of a network learns: the neck, on features that its frozen backbone made once; also the last stage; or all of it."""


class Settings(BaseModel):
    """Settings of one training run.

    Attributes:
        train: what learns: ``neck``, on cached features of a frozen backbone; ``last-stage`` of the backbone too; or ``all``.
        views: augmented views of an image whose features are kept beside its own, where the neck learns.
        epochs: passes over the training part.
        batch_size: images a step.
        images_per_class: K of P×K balanced batches (P = batch_size / K); ``None`` shuffles plainly, as CSD does.
        epoch: what an epoch of balanced batches goes through: all ``images``, or all ``classes`` once with K images of each, as
            is usual in deep metric learning, so that it is a few steps.
        last_batch: keep the last batch of an epoch where it is smaller than the others.
        learning_rate: peak of the schedule.
        schedule: ``one-cycle`` (Smith 2018: warm-up over the first quarter, then cosine to zero), ``cosine``,
            ``multi-step`` (× 0.1 at each of ``steps``) or ``constant``.
        steps: shares of the run, rising; by default 25, 50 and 75 %: CSD's 200/400/600 of 800 epochs.
        optimizer: ``adam`` (L2 weight decay, as in the papers' code), ``adamw`` (decoupled) or ``sgd`` (momentum 0.9).
        weight_decay: L2 coefficient, or the decoupled one's.
        clip_norm: largest gradient norm; ``None`` does not clip.
        precision: ``auto`` is bf16 autocast where the hardware has it, else float32.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        backbone_rate: learning rate of a backbone that comes with weights, as a share of that of new layers.
        layer_decay: factor by which the rate falls from each group of the backbone's layers to the one below it.
        warmup: share of the run in which the rate rises linearly, for schedules that begin at their peak.
        normalisation: what batch normalisation learns its statistics from: the ``batch``, or nothing, so that they stay
            ``fixed`` at those that the network began with.
        compile: run steps through ``torch.compile``: faster after some thousand images, and it needs a C++ compiler.
        crop: smallest share of the area that a random crop keeps before it is scaled to the whole (Szegedy et al. 2015);
            ``None`` shifts by ``padding`` instead.
        colour: brightness, contrast and saturation change by up to this share.
        padding: pixels of padding before the random crop.
        border: what the padding holds: the ``reflect``-ed image, or ``zero``, which is black.
        flip: mirror half of the images; wrong for characters and text.
        erase: probability of random erasing.
        start_size: first size in pixels of progressive resizing; ``None`` trains at full size throughout. It grows
            linearly and reaches full size for the last 30 % of the epochs.
        validation_fraction: share of each class cut from the training images to choose the epoch by.
        select: keep the ``best`` epoch by recall@1 on the validation part, or the ``last``.
        init_seed: of new weights, from which each generation has a seed of its own.
        data_seed: of the order of images and of augmentation.
        validation_seed: of the validation part.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: TrainedPart = "all"
    views: int = Field(default=3, ge=0, le=64)
    epochs: int = Field(default=12, ge=1)
    batch_size: int = Field(default=128, ge=2)
    images_per_class: int | None = Field(default=None, ge=2)
    epoch: Literal["images", "classes"] = "images"
    last_batch: bool = False
    learning_rate: float = Field(default=3e-3, gt=0)
    schedule: Literal["one-cycle", "cosine", "multi-step", "constant"] = "one-cycle"
    steps: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.25, 0.5, 0.75)
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    weight_decay: float = Field(default=5e-4, ge=0)
    clip_norm: float | None = Field(default=5.0, gt=0)
    backbone_rate: float = Field(default=1.0, gt=0, le=1)
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    warmup: float = Field(default=0.0, ge=0, lt=1)
    normalisation: Literal["batch", "fixed"] = "batch"
    precision: Precision = "auto"
    device: str = Field(default="auto", pattern=f"^({DEVICE})$")
    compile: bool = False
    crop: float | None = Field(default=None, gt=0, le=1)
    colour: float = Field(default=0.0, ge=0, lt=1)
    padding: int = Field(default=4, ge=0)
    border: Literal["reflect", "zero"] = "reflect"
    flip: bool = True
    erase: float = Field(default=0.0, ge=0, le=1)
    start_size: int | None = Field(default=None, ge=8)
    validation_fraction: float = Field(default=0.1, ge=0, lt=1)
    select: Literal["best", "last"] = "best"
    init_seed: int = 0
    data_seed: int = 0
    validation_seed: int = 0

    @classmethod
    def update(cls, **changes: object) -> "Settings":
        """Defaults for a generation that has a parent: fewer epochs, a lower rate, no warm-up."""
        return cls.model_validate({"epochs": 6, "learning_rate": 1e-3, "schedule": "cosine", **changes})

    @classmethod
    def neck(cls, **changes: object) -> "Settings":
        """Defaults for a neck on cached features: epochs cost seconds, and the backbone is not at risk."""
        usual = {"train": "neck", "epochs": 20, "learning_rate": 3e-4, "optimizer": "adamw", "weight_decay": 1e-4}
        return cls.model_validate({**usual, **changes})

    @classmethod
    def finetune(cls, **changes: object) -> "Settings":
        """Defaults for a pretrained convolutional network that learns as a whole: gently, its statistics as they were."""
        usual = {
            "epochs": 10, "batch_size": 64, "learning_rate": 1e-3, "backbone_rate": 0.1, "schedule": "cosine",
            "warmup": 0.1, "optimizer": "adamw", "weight_decay": 1e-4, "normalisation": "fixed", "crop": 0.4, "colour": 0.2,
        }  # fmt: skip
        return cls.model_validate({**usual, **changes})

    @classmethod
    def transformer(cls, **changes: object) -> "Settings":
        """The same for a pretrained transformer, whose lower layers learn less (Bao et al. 2022)."""
        usual = {"backbone_rate": 0.05, "layer_decay": 0.75, "weight_decay": 0.05, "clip_norm": 1.0}
        return cls.finetune(**{**usual, **changes})

    def rate(self, progress: float) -> float:
        """Learning rate at ``progress`` in [0, 1] of the run, of new layers."""
        rising = min(1.0, progress / self.warmup) if self.warmup else 1.0
        if self.schedule == "multi-step":
            return self.learning_rate * rising * multi_step(progress, self.steps)
        return self.learning_rate * rising * SCHEDULES[self.schedule](progress)

    def size(self, epoch: int, full_size: int) -> int:
        """Training size in pixels at ``epoch``: a multiple of 4 up to ``full_size``."""
        if self.start_size is None or self.start_size >= full_size:
            return full_size
        share = min(1.0, epoch / max(1.0, 0.7 * self.epochs))
        return min(full_size, round((self.start_size + share * (full_size - self.start_size)) / 4) * 4)


def multi_step(progress: float, steps: Sequence[float] = (0.25, 0.5, 0.75)) -> float:
    """A tenth after each of the steps that lie behind."""
    return float(0.1 ** sum(progress >= step for step in steps))


SCHEDULES: dict[str, Callable[[float], float]] = {
    "one-cycle": lambda p: 0.04 + 0.96 * p / 0.25 if p < 0.25 else 0.5 * (1 + float(cos(pi * (p - 0.25) / 0.75))),
    "cosine": lambda p: 0.5 * (1 + float(cos(pi * p))),
    "multi-step": multi_step,
    "constant": lambda p: 1.0,
}
"""Multiplier of the learning rate by progress in [0, 1]: functions without state, so resuming needs none."""


def resolve_device(device: str) -> torch.device:
    """``auto`` to CUDA where there is one, else CPU.

    Raises:
        InputError: a GPU is named and is not there, or the name is of no device.
    """
    if not re.fullmatch(DEVICE, device):
        raise InputError(f"--device {device!r} is not usable: it is auto, cpu, cuda or cuda:N.")
    count = torch.cuda.device_count()
    if device == "auto":
        return torch.device("cuda" if count else "cpu")
    named = torch.device(device)
    if named.type == "cuda" and (named.index or 0) >= count:
        seen = f"torch sees {count}, counted from 0" if count else "torch sees no GPU here"
        raise InputError(f"There is no device {device!r} ({seen}): leave --device out to use what there is.")
    return named


def check_compiler(settings: Settings) -> None:
    """See that ``settings.compile`` can be had.

    Raises:
        InputError: there is no C++ compiler.
    """
    if settings.compile and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        raise InputError("--compile needs a C++ compiler, and there is none: install g++, or leave the option out.")


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 is faster than float32 there, not merely emulated."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Private in torch, so its absence means no.
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())
