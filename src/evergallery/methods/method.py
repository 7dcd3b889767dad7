"""The common part of all methods: the task, the step, and values that are checked however a method is made."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field, fields
from functools import cache
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Self, cast, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import TypeVar

from evergallery.arguments.checking import number_meant
from evergallery.errors import InputError, fault_of
from evergallery.losses import batch_hard_triplet
from evergallery.memory import ClassMeans, Memory, Scatter, ScatterTrial, TrainingOutputs
from evergallery.methods.needs import Needs
from evergallery.network import Head, HeadKind, Network, Outputs

Beginning = Literal["scratch", "pretrained", "parent"]
"""The source of a network's weights before it learns: drawn, published (or of a file), or the parent's."""
Role = Literal["baseline", "bound", "own", "central", "other"]
"""The role of a method in a comparison; ``METHODS`` has one ``baseline``, one ``bound`` and one of this project's ``own``.

``baseline`` holds nothing, ``bound`` has every image and reaches the most, ``central`` ones are compared unless others are named.
"""
State = TypeVar("State", bound=nn.Module | None, default=Any)
"""The state that a method keeps beside the network while it learns; ``None`` for most."""
Value = TypeVar("Value")


def _declared(value: Value | None, need: str) -> Value:
    """Return what a method reads, which is there because its ``needs`` say so."""
    if value is None:
        raise RuntimeError(f"A method reads what it has not asked for: its needs have to say {need}.")
    return value


@dataclass(frozen=True)
class Task:
    """The task of a method before its first step: the new images through the parent, and what the parent remembers.

    No old image is here, and no generation but the parent.
    """

    labels: Tensor
    """Labels (N,) of the training images: rows of the head."""
    dimension: int
    """D of the network that learns."""
    classes: int
    """Rows of the head of the network that learns."""
    head: HeadKind = "cosine"
    """The kind of that head."""
    old_classes: int = 0
    """Rows that the parent's head has."""
    parent: Network | None = None
    """The frozen parent; ``None`` for a first generation."""
    old: Outputs | None = None
    """The parent's outputs of the N images without augmentation; only for methods that need them."""
    memory: Memory = field(default_factory=Memory)
    """The parent's memory."""
    another_network: Callable[[Beginning], Network] | None = None
    """Makes a network like the one that learns."""

    @property
    def parent_network(self) -> Network:
        """``parent``, for methods that learn from one."""
        return _declared(self.parent, "old_batches or old_outputs")

    @property
    def old_outputs(self) -> Outputs:
        """``old``, for methods that need ``old_outputs``."""
        return _declared(self.old, "old_outputs")

    def second_network(self, beginning: Beginning) -> Network:
        """A network like the one that learns, for methods that train it beside."""
        return _declared(self.another_network, "beside")(beginning)


@dataclass(frozen=True)
class Step(Generic[State]):
    """The outputs of the networks for one batch."""

    labels: Tensor
    """Labels (B,) as rows of the head: old classes first, in the order in which they came."""
    new: Outputs
    """Outputs of the network that learns."""
    old: Outputs | None = None
    """Outputs of the frozen parent, in evaluation mode and without a graph; ``None`` where the method does not read them."""
    _: KW_ONLY
    head: Head
    """Head of the network that learns."""
    state: State
    """The state that the method's ``begin`` made."""
    old_head: Head | None = None
    """The head of the frozen parent; ``None`` where it has no classes."""
    root: Outputs | None = None
    """Outputs of the frozen first generation of a line that the method carries on, where the parent is another one."""
    run: Callable[[Network], Outputs] | None = None
    """Runs another network on the same batch."""
    progress: float = 1.0
    """Share of the training that is done."""
    label_smoothing: float = 0.0
    """ε of the classification."""

    def classification(self, logits: Tensor | None = None) -> Tensor:
        """Cross-entropy of logits (B, rows) with the settings' label smoothing; of the network that learns by default."""
        return F.cross_entropy(
            self.new.logits if logits is None else logits, self.labels, label_smoothing=self.label_smoothing
        )

    @property
    def parent(self) -> Outputs:
        """``old``, for methods that need ``old_batches``."""
        return _declared(self.old, "old_batches")

    @property
    def parent_head(self) -> Head:
        """``old_head``, for methods that need it."""
        return _declared(self.old_head, 'old_head="needed"')

    def through(self, network: Network) -> Outputs:
        """Return what a network that is trained beside makes of the same batch."""
        return _declared(self.run, "beside")(network)


class Solution(NamedTuple):
    """A linear map of unit features, in closed form."""

    weight: Tensor
    """The matrix (W, W)."""
    bias: Tensor
    """The offset (W,)."""
    chosen: dict[str, Any]
    """The chosen values, and what they were chosen by: JSON, for the card and for the next generation."""


@dataclass(frozen=True)
class Method(ABC, Generic[State]):
    """Hyper-parameters of a way to learn, and its losses.

    A subclass is a frozen dataclass with a ``name``, what it ``needs``, and annotations that say which values it takes; it
    knows neither the trainer, nor files, nor devices.

    Raises:
        InputError: a value does not fit.
    """

    name: ClassVar[str]
    needs: ClassVar[Needs] = Needs()
    role: ClassVar[Role] = "other"
    adds_to: ClassVar[str | None] = None
    """Name of the method without what its paper adds, where that is a method of its own: their difference is what it is about."""
    later: ClassVar[Mapping[str, Any]] = {}
    """Hyper-parameters that came later, and the value of each that changes nothing."""

    def __post_init__(self) -> None:
        """Check the values by their annotations; words become what they say, and ``2`` becomes ``2.0``."""
        hints = get_type_hints(type(self))
        for name, adapter in _adapters(type(self)).items():
            given = getattr(self, name)
            if (meant := number_meant(given, hints[name])) is not None:
                raise InputError(f"{name}={given} is not usable for {self.name!r}: it has to be {meant}.")
            try:
                object.__setattr__(self, name, adapter.validate_python(given))
            except ValidationError as error:
                raise InputError(f"{name}={given} is not usable for {self.name!r}: {fault_of(error)}.") from error

    @classmethod
    def with_options(cls, given: Mapping[str, Any]) -> Self:
        """The method with these hyper-parameters, as values or in words.

        Raises:
            InputError: an unknown name, or a value that does not fit.
        """
        known = [field.name for field in fields(cls)]
        for key in given:
            if key not in known:
                raise InputError(f"{cls.name!r} has no hyper-parameter {key!r}: it has {', '.join(known) or 'none'}.")
        return cls(**given)

    @property
    def head_kind(self) -> HeadKind | None:
        """The kind of head that it learns with, by what it needs or by its hyper-parameters; ``None`` for any."""
        return self.needs.head

    @property
    def second_beginning(self) -> Beginning | None:
        """The source of the weights of a second network that it trains beside; ``None`` where it trains none."""
        return None

    def begin(self, task: Task) -> State:
        """Return what is kept or trained beside the network, and thrown away with the run: prototypes, a second network.

        The same for the same task, since a run that is resumed calls it again before restoring its tensors.
        """
        return cast(State, None)

    @abstractmethod
    def losses(self, step: Step[State]) -> dict[str, Tensor]:
        """Named scalar terms, already weighted; their sum is minimised."""

    def solve(
        self, scatter: Scatter, trials: Callable[[], Sequence[ScatterTrial]], earlier: Mapping[str, Any]
    ) -> Solution | None:
        """The neck of a frozen backbone in closed form.

        Asked only where the line's vectors are the backbone's own features, or a map of them that was solved so, too.

        Args:
            scatter: of the unit features of every image that the lineage has learned, the new ones among them.
            trials: new images held out of it, whole classes and parts of each class, to choose by.
            earlier: what the parent's solution chose; empty where the parent was not solved.

        Returns:
            ``None`` where the neck has to be trained.
        """
        return None

    def weight_share(self, *, carries_on: bool) -> float:
        """Return how far the finished embedder goes from the parent's weights to the trained ones, in (0, 1]; 1 is all the way.

        Asked only where it began with the parent's weights. ``carries_on``: the parent's space was inherited by this
        very method, so that the generation is not the first update of its line.
        """
        return 1.0

    @property
    def expansion(self) -> bool:
        """Return whether a network that began with the parent's weights is served beside the parent's, in one vector.

        Its first part never changes from then on, so nothing is lost in the vectors of the generation that the line began with.
        """
        return False

    def epoch_begins(self, state: State, task: Task, progress: float, now: Callable[[], Outputs]) -> None:
        """Called before each epoch; ``now()`` gives the network's outputs of the N training images as it stands.

        What it changes are tensors of ``state``, which a run that is resumed within an epoch finds in its checkpoint.
        """
        return

    def remember(
        self,
        name: str,
        parent: Memory,
        outputs: TrainingOutputs,
        ancestors: Callable[[], Mapping[str, tuple[ClassMeans, Outputs]]],
    ) -> Memory:
        """The memory of the finished generation; see ``Memory.after``. ``ancestors()`` runs every generation before."""
        return parent.after(name, outputs)

    def old_images(self) -> int | None:
        """Return how many images of each old class it learns from at most, where it learns from any; ``None`` for all."""
        return None

    def share_of_old_images(self) -> float | None:
        """Part of each batch that is old images, in (0, 1); ``None`` for as many as there are among all."""
        return None

    def parameters(self) -> dict[str, Any]:
        """The hyper-parameters, for the card.

        One that came later is left out at the value that changes nothing, so that a run which an earlier version began is known
        again.
        """
        return {
            name: value for name, value in asdict(self).items() if name not in self.later or value != self.later[name]
        }


@cache
def _adapters(kind: type[Method]) -> dict[str, TypeAdapter[Any]]:
    """Return what checks each hyper-parameter."""
    hints = get_type_hints(kind, include_extras=True)
    finite = ConfigDict(allow_inf_nan=False)
    return {field.name: TypeAdapter(hints[field.name], config=finite) for field in fields(kind)}


NO_TRIPLETS = -2.0
"""A margin of triplets that no two cosines exceed: it turns them off."""


def classification_and_triplet(step: Step, margin: float) -> dict[str, Tensor]:
    """The loss of a network without a past (CSD's task 0): cross-entropy over all classes, and batch-hard triplets."""
    return {
        "classification": step.classification(),
        "triplet": batch_hard_triplet(step.new.features, step.labels, margin),
    }
