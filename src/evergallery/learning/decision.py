"""The decision how to learn: with which network, from whose weights, by which method and settings; made once, first of all."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from torch.nn.modules.batchnorm import _BatchNorm

from evergallery.data.images import Preprocessing
from evergallery.errors import InputError
from evergallery.generations.generation import Generation, directory_name, generation_directories
from evergallery.holdings.state import State
from evergallery.learning.conditions import check_batches, check_old_images, check_parent, check_space
from evergallery.learning.run import Run
from evergallery.methods import Beginning, Evergreen, Finetune, Method
from evergallery.network import Architecture, Embedder, HeadKind, Neck
from evergallery.network.backbones import Weights, build_backbone, read_weights
from evergallery.network.embedder import IDENTITIES
from evergallery.network.uninitialised import uninitialised
from evergallery.training import Recipe, Settings, TrainedPart


@dataclass(frozen=True)
class Request:
    """The request of whoever learns; all that is left out is decided.

    Attributes:
        method: by which to learn.
        settings: all of them, or those that are to differ from the usual ones.
        backbone: in place of the parent's.
        dim: D in place of the parent's.
        neck: in place of the parent's.
        head: kind of head in place of the parent's.
        train: what learns.
        pretrained: begin with the published weights.
        weights: begin with those of this file.
        from_scratch: begin with new weights.
        old_images: whether images of old classes are given.
        supporting_weights: of a second network, in this file.
    """

    method: Method | None = None
    settings: Settings | Mapping[str, Any] | None = None
    backbone: str | None = None
    dim: int | None = None
    neck: Neck | None = None
    head: HeadKind | None = None
    train: TrainedPart | None = None
    pretrained: bool = False
    weights: Path | None = None
    from_scratch: bool = False
    old_images: bool = False
    supporting_weights: Path | None = None

    @property
    def published(self) -> bool:
        """Return whether the backbone begins with weights from elsewhere."""
        return self.pretrained or self.weights is not None

    @property
    def part(self) -> TrainedPart | None:
        """Return what is to learn, as far as anybody said so; a default of the settings does not count."""
        if isinstance(self.settings, Settings):
            named = self.settings.train if "train" in self.settings.model_fields_set else None
        else:
            named = (self.settings or {}).get("train")
        return self.train or named


@dataclass(frozen=True)
class Ground:
    """The ground that a run begins on: its parent, or what the workspace was created with."""

    parent: Generation | None
    architecture: Architecture
    head: HeadKind
    preprocessing: Preprocessing

    @classmethod
    def of(cls, parent: Generation | None, state: State) -> "Ground":
        """The ground of a parent, or without one that of the workspace.

        Raises:
            InputError: nothing can learn from it.
        """
        if parent is None:
            return cls(None, state.architecture, state.head, Preprocessing.from_dict(state.preprocessing))
        return cls(parent, parent.architecture, parent.head_card.kind, parent.preprocessing)


def decide(request: Request, ground: Ground, number: int, directory: Path) -> Run:
    """Return how generation ``number`` is learned.

    A backbone that was trained elsewhere, and one that has been frozen so far, stay frozen unless something else is asked for.

    Args:
        request: what somebody asks for.
        ground: what the run begins on.
        number: of the generation.
        directory: of the workspace, where the generations before lie.

    Raises:
        InputError: the network cannot be built, weights cannot be read, nothing could learn, or the method lacks what it needs.
    """
    if request.head is not None and request.head not in get_args(HeadKind):
        raise InputError(f"--head {request.head!r} is not usable: it has to be one of {', '.join(get_args(HeadKind))}.")
    if request.from_scratch and request.published:
        raise InputError("--from-scratch begins with new weights: leave --pretrained and --weights out.")
    parent = ground.parent
    architecture = changed_architecture(ground.architecture, request.backbone, request.dim, request.neck)
    own = _own_backbone(request, ground, architecture)
    known = request.published or (own and parent is not None and parent.backbone_is_known)
    part = _part(request, own=own, known=known)
    method = request.method or (Evergreen() if parent or part == "neck" else Finetune())
    if part == "neck":
        architecture = _with_solvable_neck(request, architecture)
    beginning = _beginning(request, ground, architecture, method, own=own, part=part)
    run = Run(
        number=number,
        parent=parent,
        root=root_of(directory, parent, method) if parent and method.needs.root else None,
        method=method,
        architecture=architecture,
        preprocessing=ground.preprocessing,
        head=method.needs.head or request.head or ground.head,
        beginning=beginning,
        settings=_settings(request.settings, part, _recipe(architecture, part, beginning, known=known)),
        weights=_read(request.weights),
        supporting_weights=_read(request.supporting_weights),
    )
    check_old_images(run, given=request.old_images)
    check_batches(run)
    check_parent(run)
    check_space(run)
    return run


def _read(path: Path | None) -> Weights | None:
    return None if path is None else read_weights(path)


def _own_backbone(request: Request, ground: Ground, architecture: Architecture) -> bool:
    """Return whether the parent's own backbone goes on, with its weights."""
    if ground.parent is None or request.published or request.from_scratch:
        return False
    return architecture.backbone == ground.architecture.backbone


def _part(request: Request, *, own: bool, known: bool) -> TrainedPart:
    if request.part == "neck" and not (request.published or own):
        raise InputError(
            "A backbone with new weights has to learn with its neck: begin with published ones (--pretrained), with a file "
            "(--weights FILE), or leave --train out."
        )
    return request.part or ("neck" if known else "all")


def _with_solvable_neck(request: Request, architecture: Architecture) -> Architecture:
    """A neck that can learn, where there is none or a dimension was asked for alone."""
    if architecture.neck == "none" or (request.neck is None and request.dim is not None):
        return changed_architecture(architecture, None, architecture.dimension, "unit-linear")
    return architecture


def _beginning(
    request: Request, ground: Ground, architecture: Architecture, method: Method, *, own: bool, part: TrainedPart
) -> Beginning:
    # A neck that begins as the identity goes on where a network without one was.
    keeps = architecture.neck in IDENTITIES and request.dim is None
    identity = part == "neck" and ground.architecture.neck == "none" and keeps
    if own and method.needs.parent_weights and (architecture == ground.architecture or identity):
        return "parent"
    return "pretrained" if request.published else "scratch"


def _recipe(architecture: Architecture, part: TrainedPart, beginning: Beginning, *, known: bool) -> Recipe:
    """The recipe whose usual settings fit."""
    if part == "neck":
        return "neck"
    if not known:
        return "update" if beginning == "parent" else "scratch"
    with uninitialised():
        layers = build_backbone(architecture.backbone).module.modules()
    # What has no statistics to keep, as transformers and ConvNeXt, wants rates by depth.
    return "finetune" if any(isinstance(layer, _BatchNorm) for layer in layers) else "transformer"


def _settings(given: Settings | Mapping[str, Any] | None, part: TrainedPart, recipe: Recipe) -> Settings:
    """The settings that are given, or the usual ones of a recipe with some of them changed."""
    if isinstance(given, Settings):
        return given.model_copy(update={"train": part})
    return Settings.of(recipe, **{**(given or {}), "train": part})


def root_of(directory: Path, parent: Generation, method: Method) -> Generation | None:
    """The first generation of the parent's line: as far up as each one learned from the one before by this same method.

    A generation learned otherwise began a space of its own, which nothing holds to those before it. If a generation was
    deleted from disk, the line begins after it.

    Args:
        directory: of the workspace.
        parent: of the generation that is about to learn.
        method: by which it will.

    Returns:
        ``None`` where that is the parent itself.
    """
    kept = {path.name: path for path in generation_directories(directory / "generations")}
    root = parent
    while root.card.method.name == method.name and root.card.parent is not None:
        path = kept.get(directory_name(int(root.card.parent.removeprefix("v"))))
        if path is None:
            break
        root = Generation.load(path)
    return None if root is parent else root


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
    own_neck = "linear" if dim is not None else architecture.neck if same else "none"
    values = {
        "backbone": architecture.backbone if backbone is None else backbone,
        "dimension": dim if dim is not None or not same else architecture.dimension,
        "neck": neck if neck is not None else own_neck,
    }
    changed = Architecture.of(**values)
    with uninitialised():
        Embedder(changed)
    return changed
