"""How a run begins: with which network, from whose weights, and what of it learns. Decided once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError
from torch.nn.modules.batchnorm import _BatchNorm

from evergallery.data.images import Preprocessing
from evergallery.errors import InputError
from evergallery.generations.generation import Generation
from evergallery.memory import Memory
from evergallery.methods import Beginning, Method
from evergallery.network import Architecture, Embedder, Head, HeadKind, Neck, Network
from evergallery.network.backbones import build_backbone, load_weights
from evergallery.training import Settings, TrainedPart

Recipe = Literal["cifar", "finetune", "transformer"]


@dataclass(frozen=True)
class Start:
    """How a run begins: decided once, from what was asked and from the parent.

    Attributes:
        architecture: of the new network.
        head: its kind of head.
        beginning: where its weights come from. Where only the neck learns, those of the neck; the backbone's are the
            parent's, or published ones.
        train: what learns.
        weights: a file with the backbone's weights, in place of the published ones.
        recipe: whose usual settings fit: ``cifar`` for a small network that begins with new weights or goes on from such a
            one, ``finetune`` and ``transformer`` for one that was trained elsewhere.
    """

    architecture: Architecture
    head: HeadKind
    beginning: Beginning
    train: TrainedPart
    weights: Path | None = None
    recipe: Recipe = "cifar"

    @property
    def frozen(self) -> bool:
        """Whether the backbone stays as it is, so that features take the place of images."""
        return self.train == "neck"

    def settings(self, given: Settings | Mapping[str, Any] | None) -> Settings:
        """The settings of the run: those given, or the usual ones with some of them changed.

        Raises:
            InputError: a change cannot be.
        """
        if isinstance(given, Settings):
            return given.model_copy(update={"train": self.train})
        changes = {**(given or {}), "train": self.train}
        try:
            if self.frozen:
                return Settings.neck(**changes)
            if self.recipe != "cifar":
                return Settings.transformer(**changes) if self.recipe == "transformer" else Settings.finetune(**changes)
            return Settings.update(**changes) if self.beginning == "parent" else Settings.model_validate(changes)
        except ValidationError as error:
            first = error.errors()[0]
            option = "--" + str(first["loc"][0]).replace("_", "-")
            raise InputError(f"{option} {first.get('input')!r} is not usable: {first['msg']}.") from error


def said_train(settings: Settings | Mapping[str, Any] | None) -> TrainedPart | None:
    """What is to learn, as far as settings say so; a default does not count."""
    if isinstance(settings, Settings):
        return settings.train if "train" in settings.model_fields_set else None
    return (settings or {}).get("train")


def decide_start(
    default: Architecture,
    default_head: HeadKind,
    parent: Generation | None,
    method: Method | None,
    *,
    backbone: str | None,
    dim: int | None,
    neck: Neck | None,
    head: HeadKind | None,
    pretrained: bool,
    weights: Path | None,
    from_scratch: bool,
    train: TrainedPart | None,
) -> Start:
    """Where a new generation begins.

    A backbone that was trained elsewhere, and one that has been frozen so far, stay frozen unless ``train`` says otherwise.

    Args:
        default: architecture of a first generation.
        default_head: likewise.
        parent: of the new generation.
        method: by which it learns; ``None`` for the usual one.
        backbone: asked for in place of the parent's.
        dim: likewise.
        neck: likewise.
        head: likewise.
        pretrained: whether the published weights were asked for.
        weights: a file of weights that was asked for.
        from_scratch: whether new weights were asked for.
        train: what is to learn, where somebody said so.

    Raises:
        InputError: the network cannot be built, or nothing could learn.
    """
    if from_scratch and (pretrained or weights is not None):
        raise InputError("--from-scratch begins with new weights: leave --pretrained and --weights out.")
    before = parent.architecture if parent else default
    architecture = changed_architecture(before, backbone, dim, neck)
    published = pretrained or weights is not None
    same_backbone = parent is not None and architecture.backbone == before.backbone and not (published or from_scratch)
    known = published or (same_backbone and parent is not None and parent.backbone_is_known)
    if train == "neck" and not (published or same_backbone):
        raise InputError(
            "A backbone with new weights has to learn with its neck: begin with published ones (--pretrained), with a file "
            "(--weights FILE), or leave --train out."
        )
    part: TrainedPart = train or ("neck" if known else "all")
    if part == "neck" and (architecture.neck == "none" or (neck is None and dim is not None)):
        architecture = changed_architecture(architecture, None, architecture.dimension, "unit-linear")
    kind = (method.needs.head if method else None) or head or (parent.head_card.kind if parent else default_head)
    # A neck that begins as the identity goes on where a network without one was.
    goes_on = architecture == before or (part == "neck" and same_backbone and before.neck == "none" and dim is None)
    inherits = parent is not None and same_backbone and goes_on and (method is None or method.needs.parent_weights)
    beginning: Beginning = "parent" if inherits else "pretrained" if published else "scratch"
    recipe: Recipe = "cifar"
    if known and part != "neck":
        layers = build_backbone(architecture.backbone, seed=0).module.modules()
        # What has no statistics to keep, as transformers and ConvNeXt, wants rates by depth.
        recipe = "finetune" if any(isinstance(layer, _BatchNorm) for layer in layers) else "transformer"
    return Start(architecture, kind, beginning, part, weights, recipe)


def weights_seed(init_seed: int, number: int) -> int:
    """The seed of what is new in the network of generation ``number``.

    Each generation has its own: where two began with the same weights, the one would find more in the other's vectors than
    networks with nothing in common do. The first generation's is ``init_seed`` itself.
    """
    return init_seed if number == 1 else int(np.random.SeedSequence([init_seed, number]).generate_state(1)[0])


def start_network(
    start: Start,
    classes: int,
    parent: Generation | None,
    *,
    seed: int,
    beginning: Beginning | None = None,
) -> Network:
    """The network before training: the parent's with a head that grew, or a new one.

    A parent whose head is of another kind gives its embedder only.

    Args:
        start: how the run begins.
        classes: rows of the head.
        parent: of the new generation.
        seed: of new weights.
        beginning: another one than the run's.

    Raises:
        InputError: weights that cannot be had, or are of another model.
    """
    beginning = beginning or start.beginning
    before = parent.network() if parent is not None and parent.can_be_parent else None
    if beginning == "parent":
        assert before is not None
        network = with_neck(before, start.architecture)
        head = network.head if network.head.kind == start.head else Head(network.embedder.dimension, 0, start.head)
        return Network(network.embedder, head.grow(classes, seed))
    published = beginning == "pretrained" or (start.frozen and start.beginning == "pretrained")
    embedder = Embedder(start.architecture, pretrained=published and start.weights is None, seed=seed)
    if published and start.weights is not None:
        load_weights(embedder.backbone, start.weights)
    elif start.frozen and not published:
        assert before is not None
        embedder = embedder.with_backbone(before.embedder.backbone)
    return Network(embedder, Head(embedder.dimension, 0, start.head).grow(classes, seed))


def with_neck(network: Network, architecture: Architecture) -> Network:
    """A network under the architecture of one that goes on from it: with the identity for a neck where it had none."""
    if network.embedder.architecture == architecture:
        return network
    return Network(Embedder(architecture).with_backbone(network.embedder.backbone), network.head).eval()


def teacher_of(parent: Generation, start: Start) -> Network:
    """The parent as the run learns from it: what learns on where the run goes on from it.

    Another network cannot go on from the two parts of an expanded parent. It learns from the first, the root, with which its
    vectors will be compared.
    """
    if start.beginning == "parent":
        return with_neck(parent.network(), start.architecture)
    root = parent.root()
    return parent.network() if root is None else Network(root, Head(root.dimension, 0, start.head)).eval()


def memory_of(parent: Generation | None, start: Start) -> Memory:
    """What the parent remembers in the space of ``teacher_of``."""
    if parent is None or (parent.is_expanded and start.beginning != "parent"):
        return Memory()
    return parent.memory()


def root_beside(
    parent: Generation | None, start: Start, preprocessing: Preprocessing, method: Method
) -> Embedder | None:
    """The network whose embeddings are served before those of the finished one, in one vector; ``None`` for these alone.

    What goes on from an expanded parent keeps its root, by whatever method: its vectors are compared with the parent's.

    Args:
        parent: of the new generation.
        start: how the run began.
        preprocessing: of its input.
        method: by which it learned.
    """
    if parent is None or start.beginning != "parent" or preprocessing != parent.preprocessing:
        return None
    if parent.is_expanded:
        return parent.root()
    return parent.network().embedder if method.expands and not start.frozen else None


def solves(method: Method, start: Start, parent: Generation | None) -> bool:
    """Whether the neck is solved in closed form: the line's vectors are features, or a map of them that was solved too."""
    if not (method.needs.closed_form and start.frozen and start.architecture.neck == "unit-linear"):
        return False
    if start.architecture.dimension is not None or (parent is not None and start.beginning != "parent"):
        return False
    return parent is None or parent.architecture.neck == "none" or "solved" in parent.card.training


def check_images(method: Method, has_old_data: bool, parent: Generation | None, start: Start) -> None:
    """Refuse images or a parent that the method does not take, or the lack of those it needs, before anything is read.

    Args:
        method: by which a generation is to learn.
        has_old_data: whether images of old classes are given.
        parent: of the new generation.
        start: how it begins.

    Raises:
        InputError: one sentence.
    """
    if method.needs.old_images and parent is not None and not has_old_data:
        raise InputError(
            f"The method {method.name!r} learns from the old images too: name them with --old-data, "
            f"or choose a method that does not need them, such as evergreen."
        )
    if has_old_data and not method.needs.old_images:
        raise InputError(f"The method {method.name!r} does not read old images: leave --old-data out, or use joint.")
    other = parent is not None and parent.is_expanded and start.beginning != "parent"
    if method.needs.old_head == "needed" and parent is not None and (parent.head_card.classes == 0 or other):
        raise InputError(
            f"The method {method.name!r} learns from the scores of its parent's classes and {parent.name} has none: choose "
            f"a method that learns from its embeddings, such as evergreen or dual-tuning."
        )
    if method.needs.parent and parent is None and not solves(method, start, parent):
        raise InputError(
            f"The method {method.name!r} learns from a parent and there is no generation yet: "
            f"learn the first one with  --method finetune."
        )


def changed_architecture(
    architecture: Architecture, backbone: str | None, dim: int | None, neck: Neck | None
) -> Architecture:
    """An architecture with what was asked for in place of its own; a dimension brings a linear neck where it needs one.

    Raises:
        InputError: it cannot be built.
    """
    if backbone is None and dim is None and neck is None:
        return architecture
    same = backbone in (None, architecture.backbone)
    values = {
        "backbone": backbone or architecture.backbone,
        "dimension": dim or (architecture.dimension if same else None),
        "neck": neck or (architecture.neck if same and not dim else "linear" if dim else "none"),
    }
    try:
        changed = Architecture.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{first['loc'][0]} is not usable: {first['msg']}.") from error
    Embedder(changed)
    return changed


def check_space(method: Method, architecture: Architecture, parent: Generation | None) -> None:
    """Refuse a change of dimension that the method cannot bridge.

    Raises:
        InputError: one sentence.
    """
    # What goes on from an expanded parent learns beside its root, and counts as the evolving part alone.
    if not (method.needs.same_dimension and parent) or architecture == parent.architecture:
        return
    dimension = Embedder(architecture).dimension
    if dimension != parent.card.dimension:
        raise InputError(
            f"The method {method.name!r} compares coordinates with those of {parent.name}, which have "
            f"{parent.card.dimension} dimensions and not {dimension}: keep the dimension with --dim "
            f"{parent.card.dimension}, or choose a method that changes it, such as dual-tuning."
        )
