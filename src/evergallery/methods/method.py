"""What every method shares: the task it begins with, the step it sees, and what it says about its needs."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal, NamedTuple, Self

from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from evergallery.errors import InputError
from evergallery.losses import batch_hard_triplet
from evergallery.memory import ClassMeans, Memory, Scatter, Trial
from evergallery.network import Head, HeadKind, Network, Outputs

Beginning = Literal["scratch", "pretrained", "parent"]
Need = Literal["never", "optional", "needed"]


@dataclass(frozen=True)
class Task:
    """What a method may see before its first step: the new images through the parent, and what the parent remembers.

    No old image is here, and no generation but the parent.
    """

    labels: Tensor
    """(N,) of the training images: rows of the head."""
    dimension: int
    """D of the network that learns."""
    classes: int
    """Rows of its head."""
    head: HeadKind = "cosine"
    """Its kind."""
    old_classes: int = 0
    """Rows that the parent's head has."""
    parent: Network | None = None
    """Frozen."""
    old: Outputs | None = None
    """The parent's outputs of the N images without augmentation; only for methods with ``needs_old_outputs``."""
    memory: Memory = field(default_factory=Memory)
    """The parent's."""
    another_network: Callable[[Beginning], Network] | None = None
    """Makes a network like the one that learns."""


@dataclass(frozen=True)
class Step:
    """What the networks made of one batch."""

    labels: Tensor
    """(B,) rows of the head: old classes first, in the order in which they came."""
    new: Outputs
    """Of the network that learns."""
    old: Outputs | None = None
    """Of the frozen parent, in evaluation mode and without a graph; ``None`` where the method does not read them."""
    head: Head | None = None
    """Of the network that learns."""
    old_head: Head | None = None
    """The frozen parent's; ``None`` where it has no classes."""
    state: nn.Module | None = None
    """What the method's ``begin`` made."""
    run: Callable[[Network], Outputs] | None = None
    """Runs another network on the same batch."""
    progress: float = 1.0
    """Share of the training that is done."""
    root: Outputs | None = None
    """Of the frozen first generation of a line that the method has carried on, where the parent is not that one itself."""

    @property
    def parent(self) -> Outputs:
        """``old``, for methods with ``needs_parent`` and ``runs_parent``."""
        assert self.old is not None, "only a method with needs_parent and runs_parent reads the parent's outputs"
        return self.old


class Solution(NamedTuple):
    """A linear map of unit features, in closed form."""

    weight: Tensor
    """(W, W)."""
    bias: Tensor
    """(W,)."""
    chosen: dict[str, Any]
    """What was chosen, and what it was chosen by: JSON, for the card and for the next generation."""


@dataclass(frozen=True)
class Method(ABC):
    """Hyper-parameters of a way to learn, and its losses.

    A subclass is a frozen dataclass with a ``name``; it knows neither the trainer, nor files, nor devices.
    """

    name: ClassVar[str]
    needs_parent: ClassVar[bool] = False
    """Learns from the frozen parent."""
    runs_parent: ClassVar[bool] = True
    """Where there is a parent to learn from: whether its outputs of every batch are read, not only those before it all."""
    reads_root: ClassVar[bool] = False
    """Reads what the root says of every batch: the generation whose space the parent inherited by this very method."""
    needs_old_outputs: ClassVar[bool] = False
    """Reads the parent's outputs of all training images before the first step, for instance for prototypes."""
    needs_old_images: ClassVar[bool] = False
    """Learns from images of the old classes too."""
    same_dimension: ClassVar[bool] = False
    """Compares coordinates with the parent's, so it cannot change the dimension of the embedding."""
    reads_old_head: ClassVar[Need] = "never"
    """Whether it learns from the scores of the parent's classes, which a model from elsewhere does not come with."""
    solves: ClassVar[bool] = False
    """Has a closed form for the neck of a frozen backbone, which needs no parent."""
    starts_from_parent: ClassVar[bool] = True
    """The network begins with the parent's weights, where it is of the same architecture, not from scratch."""
    head: ClassVar[HeadKind | None] = None
    """The only kind of head it works with; None for any."""

    @classmethod
    def with_options(cls, given: Mapping[str, Any]) -> Self:
        """The method with these hyper-parameters, as values or in words.

        Raises:
            InputError: an unknown name, or a value that does not fit.
        """
        known = [one.name for one in fields(cls)]
        for key in given:
            if key not in known:
                raise InputError(f"{cls.name!r} has no hyper-parameter {key!r}: it has {', '.join(known) or 'none'}.")
        try:
            # Checks and converts by the annotations of the dataclass.
            return TypeAdapter(cls).validate_python(given)
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(
                f"{first['loc'][0]}={first['input']} is not usable for {cls.name!r}: {first['msg']}."
            ) from error

    def begin(self, task: Task) -> nn.Module | None:
        """What is kept or trained beside the network, and thrown away with the run: prototypes, a second network.

        The same for the same task, since a run that is resumed calls it again before restoring its tensors.
        """
        return None

    @abstractmethod
    def losses(self, step: Step) -> dict[str, Tensor]:
        """Named scalar terms, already weighted; their sum is minimised."""

    def solve(
        self, scatter: Scatter, trials: Callable[[], Sequence[Trial]], earlier: Mapping[str, Any]
    ) -> Solution | None:
        """The neck of a frozen backbone in closed form.

        Asked only where the line's vectors are the backbone's own features, or a map of them that was solved likewise.

        Args:
            scatter: of the unit features of every image that the lineage has learned, the new ones among them.
            trials: new images held out of it, whole classes and parts of each class, to choose by.
            earlier: what the parent's solution chose; empty where the parent was not solved.

        Returns:
            ``None`` where the neck has to be trained.
        """
        return None

    def weight_share(self, *, carries_on: bool) -> float:
        """How far the finished embedder goes from the parent's weights to the trained ones, in (0, 1]; 1 is all the way.

        Asked only where it began with the parent's weights. ``carries_on``: the parent's space was inherited by this
        very method, so that the generation is not the first update of its line.
        """
        return 1.0

    def epoch_begins(self, state: nn.Module | None, task: Task, progress: float, now: Callable[[], Outputs]) -> None:
        """Called before each epoch; ``now()`` gives the network's outputs of the N training images as it stands.

        What it changes are tensors of ``state``, which a run that is resumed within an epoch finds in its checkpoint.
        """
        return

    def remember(
        self,
        name: str,
        parent: Memory,
        labels: Tensor,
        new: Outputs,
        old: Outputs | None,
        ancestors: Callable[[], Mapping[str, tuple[ClassMeans, Outputs]]],
    ) -> Memory:
        """The memory of the finished generation; see ``Memory.after``. ``ancestors()`` runs every generation before."""
        return parent.after(name, labels, new, old)

    def old_images(self) -> int | None:
        """How many images of each old class it learns from at most, where it learns from any; ``None`` for all."""
        return None

    def parameters(self) -> dict[str, Any]:
        """The hyper-parameters, for the card."""
        return asdict(self)


def classification_and_triplet(step: Step, margin: float) -> dict[str, Tensor]:
    """The loss of a network without a past (CSD's task 0): cross-entropy over all classes, and batch-hard triplets."""
    return {
        "classification": F.cross_entropy(step.new.logits, step.labels),
        "triplet": batch_hard_triplet(step.new.features, step.labels, margin),
    }
