"""The request of whoever learns: what is asked for of the network, its weights and the training; the rest is decided."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

from evergallery.errors import InputError, require_option
from evergallery.methods import Beginning, Method
from evergallery.network import Architecture, Embedder, HeadKind, Neck
from evergallery.network.uninitialised import uninitialised
from evergallery.training import Settings, TrainedPart


@dataclass(frozen=True)
class NetworkChanges:
    """The parts of a network that take the place of those it has; ``None`` keeps a part.

    Attributes:
        backbone: by name.
        dimension: D of the embedding.
        neck: under the backbone.
        head: kind of classifier in training.
    """

    backbone: str | None = None
    dimension: int | None = None
    neck: Neck | None = None
    head: HeadKind | None = None

    def __post_init__(self) -> None:
        require_option("head", self.head, get_args(HeadKind))

    def of(self, architecture: Architecture) -> Architecture:
        """An architecture with these parts; a dimension brings a linear neck where it needs one.

        Raises:
            InputError: it cannot be built.
        """
        if self.backbone is None and self.dimension is None and self.neck is None:
            return architecture
        same = self.backbone in (None, architecture.backbone)
        own_neck = "linear" if self.dimension is not None else architecture.neck if same else "none"
        values = {
            "backbone": architecture.backbone if self.backbone is None else self.backbone,
            "dimension": self.dimension if self.dimension is not None or not same else architecture.dimension,
            "neck": self.neck if self.neck is not None else own_neck,
        }
        changed = Architecture.of(**values)
        _require_buildable(changed)
        return changed


@cache
def _require_buildable(architecture: Architecture) -> None:
    """Build an architecture, so that it is known that it can be; what could be built once can be again.

    Raises:
        InputError: it cannot.
    """
    with uninitialised():
        Embedder(architecture)


@dataclass(frozen=True)
class InitialWeights:
    """The weights that networks begin with, as far as somebody says so.

    Attributes:
        beginning: ``pretrained`` or ``scratch``; ``None`` where it is decided.
        file: of the backbone's weights, in place of the published ones.
        supporting_file: the same for a second network that a method trains.
    """

    beginning: Beginning | None = None
    file: Path | None = None
    supporting_file: Path | None = None

    @classmethod
    def of(
        cls,
        *,
        pretrained: bool,
        from_scratch: bool,
        file: str | Path | None,
        supporting_file: str | Path | None,
    ) -> "InitialWeights":
        """The weights that somebody asks for.

        Raises:
            InputError: new weights and published ones at once.
        """
        published = pretrained or file is not None
        if from_scratch and published:
            raise InputError("--from-scratch begins with new weights: leave --pretrained and --weights out.")
        return cls(
            "pretrained" if published else "scratch" if from_scratch else None, _path(file), _path(supporting_file)
        )


@dataclass(frozen=True)
class Request:
    """The request of whoever learns; all that is left out is decided.

    Attributes:
        method: by which to learn.
        settings: all of them, or those that are to differ from the usual ones.
        train: what learns.
        network: what differs from the parent's.
        weights: that the network begins with.
        old_images: whether images of old classes are given.
    """

    method: Method | None = None
    settings: Settings | Mapping[str, Any] | None = None
    train: TrainedPart | None = None
    network: NetworkChanges = NetworkChanges()
    weights: InitialWeights = InitialWeights()
    old_images: bool = False

    @property
    def published(self) -> bool:
        """Return whether the backbone begins with weights from elsewhere."""
        return self.weights.beginning == "pretrained"

    @property
    def part(self) -> TrainedPart | None:
        """Return what is to learn, as far as anybody said so; a default of the settings does not count."""
        if isinstance(self.settings, Settings):
            named = self.settings.train if "train" in self.settings.model_fields_set else None
        else:
            named = (self.settings or {}).get("train")
        return self.train or named


def _path(file: str | Path | None) -> Path | None:
    return None if file is None else Path(file).expanduser()
