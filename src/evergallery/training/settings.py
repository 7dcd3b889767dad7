"""The length and speed of learning; the same for every method, so that comparisons are fair.

The command line makes its options of the fields, so nothing heavy is imported here.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from math import pi
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo

from evergallery.arguments.checking import number_meant
from evergallery.data.images.sizes import Size, sides, size_of
from evergallery.errors import InputError, fault_of, require_known

TrainingPrecision = Literal["auto", "bf16", "float32"]
TrainedPart = Literal["neck", "last-stage", "all"]
"""The part of a network that learns: the ``neck``, on features that its frozen backbone makes of each image once; the
``last-stage`` of the backbone as well; or ``all``."""
Group = Literal["What learns", "Length and rate", "Augmentation", "Choice of the epoch", "Machine", "Seeds"]
"""The groups of settings that belong together."""
GROUPS_OF_STEPS: tuple[Group, ...] = ("Length and rate", "Choice of the epoch")
"""The groups that say how a network learns step by step."""


def _setting(group: Group, says: str, default: Any, **limits: Any) -> Any:
    """A field, with what the help says of it."""
    return Field(default=default, description=says, json_schema_extra={"group": group}, **limits)


def group_of(field: FieldInfo) -> Group:
    """The group of a field of ``Settings``."""
    extra = field.json_schema_extra
    assert isinstance(extra, dict), "every field is made by _setting"
    return cast(Group, extra["group"])


def _device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ValueError("it is auto, cpu, cuda or cuda:N")
    return name


def _colour(values: tuple[int, ...]) -> tuple[int, ...]:
    if len(values) not in (0, 3):
        raise ValueError("it is three values: red, green and blue")
    return values


class Settings(BaseModel):
    """Settings of one training run; the description of each field says what it does.

    The usual ones are ``Settings()`` for a network from scratch, ``Settings.update()`` for one that begins with its parent's
    weights, and ``Settings.neck()`` where only the neck learns.

    Raises:
        InputError: a value that cannot be.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    train: TrainedPart = _setting(
        "What learns",
        "What learns: neck (on cached features of a frozen backbone; the default where the backbone was trained elsewhere), "
        "last-stage of the backbone too, or all.",
        "all",
    )
    views: int = _setting(
        "What learns", "Augmented views of an image whose features are kept, where the neck learns.", 3, ge=0, le=64
    )
    normalisation: Literal["batch", "fixed"] = _setting(
        "What learns", "Statistics of batch normalisation: of each batch, or fixed as they were.", "batch"
    )
    epochs: int = _setting("Length and rate", "Passes over the training part.", 12, ge=1)
    steps: int | None = _setting(
        "Length and rate",
        "Batches to learn from, in place of epochs: a budget, whatever the number of images.",
        None,
        ge=1,
    )
    batch_size: int = _setting("Length and rate", "Images a step.", 128, ge=2)
    accumulate: int = _setting(
        "Length and rate",
        "Parts that a batch goes through the network in, so that a large one fits into memory; pairs of images are formed "
        "within a part.",
        1,
        ge=1,
    )
    images_per_class: int | None = _setting(
        "Length and rate", "K of P×K balanced batches; plainly shuffled ones by default.", None, ge=2
    )
    epoch: Literal["images", "classes"] = _setting(
        "Length and rate",
        "What an epoch of balanced batches goes through: all images, or all classes once with K images of each, as is usual in "
        "deep metric learning.",
        "images",
    )
    last_batch: bool = _setting(
        "Length and rate", "Keep the last batch of an epoch where it is smaller than the others.", False
    )
    learning_rate: float = _setting("Length and rate", "Peak of the schedule.", 3e-3, gt=0)
    schedule: Literal["one-cycle", "cosine", "multi-step", "constant"] = _setting(
        "Length and rate",
        "one-cycle (Smith 2018: warm-up over the first quarter, then cosine to zero), cosine, multi-step (a tenth at each "
        "milestone), or constant.",
        "one-cycle",
    )
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = _setting(
        "Length and rate",
        "Shares of the run after which multi-step goes on at a tenth; by default 0.25, 0.5 and 0.75: CSD's 200, 400 and 600 of "
        "800 epochs.",
        (0.25, 0.5, 0.75),
    )
    warmup: float = _setting(
        "Length and rate",
        "Share of the run in which the rate rises, for schedules that begin at their peak.",
        0.0,
        ge=0,
        lt=1,
    )
    warmup_start: float = _setting("Length and rate", "Share of the rate at which it begins to rise.", 0.0, ge=0, le=1)
    backbone_rate: float = _setting(
        "Length and rate", "Learning rate of a pretrained backbone, as a share of that of new layers.", 1.0, gt=0, le=1
    )
    bias_rate: float = _setting(
        "Length and rate", "Learning rate of biases, times that of the weights beside them.", 1.0, gt=0, le=10
    )
    layer_decay: float = _setting(
        "Length and rate",
        "Factor of the rate from each group of the backbone's layers to the one below it.",
        1.0,
        gt=0,
        le=1,
    )
    optimizer: Literal["adam", "adamw", "sgd"] = _setting(
        "Length and rate",
        "adam (L2 weight decay, as in the papers' code), adamw (decoupled), or sgd (momentum 0.9).",
        "adam",
    )
    weight_decay: float = _setting("Length and rate", "L2 coefficient, or the decoupled one's.", 5e-4, ge=0)
    label_smoothing: float = _setting(
        "Length and rate",
        "ε of the classification: so much of each target is spread over all classes (Szegedy et al. 2016).",
        0.0,
        ge=0,
        lt=1,
    )
    clip_norm: float | None = _setting("Length and rate", "Largest norm of the gradient.", 5.0, gt=0)
    ema: float | None = _setting(
        "Length and rate",
        "Decay of a moving average of the weights, such as 0.999: the average is validated and kept in place of the weights.",
        None,
        ge=0,
        lt=1,
    )
    crop: float | None = _setting(
        "Augmentation",
        "Smallest share of the area that a random crop keeps before it is scaled to the whole (Szegedy et al. 2015); by "
        "default images are shifted by the padding instead.",
        None,
        gt=0,
        le=1,
    )
    padding: int = _setting("Augmentation", "Pixels of random shift.", 4, ge=0)
    border: Literal["reflect", "zero"] = _setting(
        "Augmentation", "What comes in at the border of a shifted image: itself, mirrored, or black.", "reflect"
    )
    colour: float = _setting(
        "Augmentation", "Brightness, contrast and saturation change by up to this share.", 0.0, ge=0, lt=1
    )
    flip: bool = _setting("Augmentation", "Mirror half of the images; wrong for characters and text.", True)
    erase: float = _setting("Augmentation", "Probability of random erasing.", 0.0, ge=0, le=1)
    erase_colour: Annotated[tuple[Annotated[int, Field(ge=0, le=255)], ...], AfterValidator(_colour)] = _setting(
        "Augmentation",
        "Red, green and blue of what is erased, in 0 to 255; by default a random colour for each image.",
        (),
    )
    start_size: int | None = _setting(
        "Augmentation",
        "First size in pixels of progressive resizing, which reaches full size for the last 30 % of the run.",
        None,
        ge=8,
    )
    validation_fraction: float = _setting(
        "Choice of the epoch",
        "Share of each class cut from the training images to choose the epoch by.",
        0.1,
        ge=0,
        lt=1,
    )
    select: Literal["best", "balanced", "last"] = _setting(
        "Choice of the epoch",
        "Keep the best epoch by recall@1 on the validation part, by a balanced figure that sees the parent's class means and "
        "neighbours too, or the last one.",
        "best",
    )
    precision: TrainingPrecision = _setting(
        "Machine", "bf16 where the hardware has it, by default, or float32.", "auto"
    )
    device: Annotated[str, AfterValidator(_device)] = _setting("Machine", "auto, cpu, cuda or cuda:N.", "auto")
    compile: bool = _setting(
        "Machine", "Run steps through torch.compile: pays in runs of minutes, and needs a C++ compiler.", False
    )
    init_seed: int = _setting("Seeds", "Seed of new weights.", 0, ge=0, le=2**63 - 1)
    data_seed: int = _setting("Seeds", "Seed of the order of images and of augmentation.", 0, ge=0, le=2**63 - 1)
    validation_seed: int = _setting("Seeds", "Seed of the validation part.", 0, ge=0, le=2**63 - 1)

    @model_validator(mode="wrap")
    @classmethod
    def _refused(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        known = cls.model_fields
        for name, value in given.items() if isinstance(given, Mapping) else ():
            meant = number_meant(value, known[name].annotation) if name in known else None
            if meant is not None:
                raise InputError(f"--{name.replace('_', '-')} {value} is not usable: it has to be {meant}.")
        try:
            return handler(given)
        except ValidationError as error:
            first = error.errors()[0]
            option = "--" + str((first["loc"] or ("settings",))[0]).replace("_", "-")
            raise InputError(f"{option} {first['input']!r} is not usable: {fault_of(error)}.") from error

    def __setattr__(self, name: str, value: Any) -> None:
        raise InputError(f"Settings are not changed: make new ones, such as Settings({name}={value!r}).")

    @classmethod
    def of(cls, recipe: "Recipe", **changes: object) -> "Settings":
        """The usual settings of a recipe, with some of them changed.

        Raises:
            InputError: there is no such recipe, or a value that cannot be.
        """
        require_known("recipe", recipe, RECIPES)
        return cls.model_validate({**RECIPES[recipe], **changes})

    @classmethod
    def update(cls, **changes: object) -> "Settings":
        """The usual settings of a generation that begins with its parent's weights."""
        return cls.of("update", **changes)

    @classmethod
    def neck(cls, **changes: object) -> "Settings":
        """The usual settings of a neck on cached features."""
        return cls.of("neck", **changes)

    def identity(self) -> dict[str, Any]:
        """Return what makes a run this one: not where it runs, for it may go on elsewhere.

        A setting that came later is left out at the value that says what was done before it, so that runs which an earlier
        version began are known again.
        """
        values = self.model_dump(exclude={"device", "compile"})
        later = {name for name, before in LATER.items() if values[name] == before}
        return {name: value for name, value in values.items() if name not in later}

    def rate(self, progress: float) -> float:
        """Learning rate at ``progress`` in [0, 1] of the run, of new layers."""
        risen = min(1.0, progress / self.warmup) if self.warmup else 1.0
        rising = self.warmup_start + (1 - self.warmup_start) * risen
        if self.schedule == "multi-step":
            return self.learning_rate * rising * multi_step(progress, self.milestones)
        return self.learning_rate * rising * SCHEDULES[self.schedule](progress)

    def size(self, epoch: int, full_size: Size, epochs: int | None = None) -> Size:
        """Training size at ``epoch`` of ``epochs``: multiples of 4 pixels up to ``full_size``; of a rectangle the height rises
        from ``start_size``, and the width with it.
        """
        height, width = sides(full_size)
        if self.start_size is None or self.start_size >= height:
            return full_size
        share = min(1.0, epoch / max(1.0, 0.7 * (epochs or self.epochs)))
        wanted = self.start_size + share * (height - self.start_size)
        return size_of([min(side, max(4, round(wanted * side / height / 4) * 4)) for side in (height, width)])

    def require_shift_within(self, full_size: Size) -> None:
        """Refuse a random shift by as much as an image has pixels: nothing of it would be left.

        Raises:
            InputError: the padding is not smaller than a side of the smallest images that are learned from.
        """
        shortest = min(sides(self.size(0, full_size)))
        if self.crop is None and self.padding >= shortest:
            raise InputError(
                f"A random shift by {self.padding} pixels leaves nothing of images that have {shortest} on their shorter side: "
                f"give a larger --size, or learn with a smaller --padding."
            )


LATER: dict[str, Any] = {
    "steps": None, "accumulate": 1, "ema": None, "epoch": "images", "last_batch": False, "border": "reflect",
    "milestones": (0.25, 0.5, 0.75), "warmup_start": 0.0, "label_smoothing": 0.0,
    "bias_rate": 1.0, "erase_colour": (),
}  # fmt: skip
"""Settings that came later, and the value at which they change nothing."""

Recipe = Literal["scratch", "update", "neck", "finetune", "transformer"]
"""The recipes, each with its usual settings."""
_FINETUNE: dict[str, Any] = {
    "epochs": 10, "batch_size": 64, "learning_rate": 1e-3, "backbone_rate": 0.1, "schedule": "cosine", "warmup": 0.1,
    "optimizer": "adamw", "weight_decay": 1e-4, "normalisation": "fixed", "crop": 0.4, "colour": 0.2,
}  # fmt: skip
RECIPES: dict[Recipe, dict[str, Any]] = {
    # A network that begins with new weights.
    "scratch": {},
    # One that goes on from such a one: fewer epochs, a lower rate, no warm-up.
    "update": {"epochs": 6, "learning_rate": 1e-3, "schedule": "cosine"},
    # A neck on cached features: epochs cost seconds, and the backbone is not at risk.
    "neck": {"train": "neck", "epochs": 20, "learning_rate": 3e-4, "optimizer": "adamw", "weight_decay": 1e-4},
    # A pretrained convolutional network that learns as a whole: gently, its statistics as they were.
    "finetune": _FINETUNE,
    # A pretrained transformer, whose lower layers learn less (Bao et al. 2022).
    "transformer": {**_FINETUNE, "backbone_rate": 0.05, "layer_decay": 0.75, "weight_decay": 0.05, "clip_norm": 1.0},
}
"""The values of each recipe that differ from the defaults of ``Settings``."""


def multi_step(progress: float, milestones: Sequence[float] = (0.25, 0.5, 0.75)) -> float:
    """The factor of a rate that falls to a tenth at each milestone."""
    return float(0.1 ** sum(progress >= milestone for milestone in milestones))


def _falling(angle: float) -> float:
    """A cosine that falls from 1 at 0 to 0 at π."""
    # Of numpy, whose last bit decides whether a run ends with the weights of an earlier version; loaded when it is needed.
    from numpy import cos

    return 0.5 * (1 + float(cos(angle)))


SCHEDULES: dict[str, Callable[[float], float]] = {
    "one-cycle": lambda p: 0.04 + 0.96 * p / 0.25 if p < 0.25 else _falling(pi * (p - 0.25) / 0.75),
    "cosine": lambda p: _falling(pi * p),
    "multi-step": multi_step,
    "constant": lambda p: 1.0,
}
"""Multiplier of the learning rate by progress in [0, 1]: functions without state, so resuming needs none."""
