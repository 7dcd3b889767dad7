"""A run as it was decided: everything that makes it this one and no other, apart from its images."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.generations.card import MethodCard
from evergallery.generations.generation import Generation
from evergallery.methods import Beginning, Method
from evergallery.network import Architecture, HeadKind
from evergallery.network.backbones import Weights
from evergallery.strings.names import normal
from evergallery.training import Settings


@dataclass(frozen=True)
class Run:
    """The plan by which a generation is learned: decided once, see ``decide``.

    Attributes:
        number: of the new generation.
        parent: learned from, or ``None`` for a first generation.
        root: the first generation of the parent's line, where the method reads it and it is not the parent.
        method: by which it learns.
        architecture: of the new network.
        preprocessing: of its input.
        head: its kind of head.
        beginning: where its weights come from. Where only the neck learns, those of the neck; the backbone's are the
            parent's, or published ones.
        settings: of the training; ``train`` says what learns.
        weights: the backbone's, read from a file, in place of the published ones.
        supporting_weights: the same for a second network that begins with published weights.
    """

    number: int
    parent: Generation | None
    root: Generation | None
    method: Method
    architecture: Architecture
    preprocessing: Preprocessing
    head: HeadKind
    beginning: Beginning
    settings: Settings
    weights: Weights | None = None
    supporting_weights: Weights | None = None

    @property
    def name(self) -> str:
        """Name of the generation that the run makes."""
        return f"v{self.number}"

    @property
    def method_card(self) -> MethodCard:
        """The card of the method and its hyper-parameters."""
        return MethodCard(name=self.method.name, parameters=self.method.parameters())

    @property
    def frozen(self) -> bool:
        """Return whether the backbone stays as it is, so that features take the place of images."""
        return self.settings.train == "neck"

    @property
    def inherits(self) -> bool:
        """Return whether the network begins with the parent's weights."""
        return self.beginning == "parent"

    @property
    def solves(self) -> bool:
        """Return whether the neck is solved in closed form: the line's vectors are features, or a solved map of them."""
        if not (self.method.needs.closed_form and self.frozen and self.architecture.neck == "unit-linear"):
            return False
        if self.architecture.dimension is not None or (self.parent is not None and not self.inherits):
            return False
        return self.parent is None or self.parent.architecture.neck == "none" or "solved" in self.parent.card.training

    @property
    def old_classes(self) -> tuple[str, ...]:
        """The classes of the parent."""
        return self.parent.card.classes if self.parent else ()

    def new_classes(self, images: ImageSet) -> tuple[str, ...]:
        """The classes of the images that the parent does not know."""
        known = set(map(normal, self.old_classes))
        return tuple(name for name in images.classes if normal(name) not in known)

    def asked(self) -> dict[str, Any]:
        """Return what it was asked for, as JSON: the same call says the same, on whatever images."""
        return {
            "method": self.method_card.model_dump(),
            "settings": self.settings.identity(),
            "parent": self.parent.fingerprint if self.parent else None,
            "root": self.root.fingerprint if self.root else None,
            "architecture": self.architecture.model_dump(),
            "preprocessing": self.preprocessing.to_dict(),
            "head": self.head,
            "beginning": self.beginning,
            "weights": None if self.weights is None else self.weights.content,
            # Left out where there are none, so that a run which an earlier version began is known again.
            **({} if self.supporting_weights is None else {"supporting weights": self.supporting_weights.content}),
        }

    def identity(self, images: ImageSet, data: dict[str, Any]) -> str:
        """SHA-256 of what was asked for and of the images: an interrupted run is known again by it.

        Batches and the validation part are drawn by number, so the same images in another order are another run. The number of
        the generation is not in it: another one may have been written meanwhile.

        Args:
            images: labels are rows of the head.
            data: of the card.
        """
        order = digest([images.hashes, images.labels.tolist()])
        return digest(self.asked() | {"classes": images.classes, "data": data, "order": order})


def digest(value: Any) -> str:
    """SHA-256 of a value as JSON, its keys in order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
