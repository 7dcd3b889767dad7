"""The decision how to learn: with which network, from whose weights, by which method and settings; made once, first of all."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.nn.modules.batchnorm import _BatchNorm

from evergallery.data.images import Preprocessing
from evergallery.errors import InputError
from evergallery.generations.generation import Generation, directory_name, generation_directories
from evergallery.holdings.state import State
from evergallery.learning.conditions import (
    check_batches,
    check_old_images,
    check_parent,
    check_published,
    check_second_network,
    check_settings,
    check_shift,
    check_space,
)
from evergallery.learning.request import NetworkChanges, Request
from evergallery.learning.run import Run
from evergallery.methods import Beginning, Evergreen, Finetune, Method
from evergallery.network import Architecture, HeadKind
from evergallery.network.backbones import Weights, build_backbone, read_weights, require_size
from evergallery.network.embedder import IDENTITIES
from evergallery.network.uninitialised import uninitialised
from evergallery.training import Recipe, Settings, TrainedPart


@dataclass(frozen=True)
class StartingPoint:
    """The point that a run starts from: its parent, or what the workspace was created with."""

    parent: Generation | None
    architecture: Architecture
    head: HeadKind
    preprocessing: Preprocessing

    @classmethod
    def of(cls, parent: Generation | None, state: State) -> "StartingPoint":
        """The starting point of a parent, or without one that of the workspace.

        Raises:
            InputError: nothing can learn from it.
        """
        if parent is None:
            return cls(None, state.architecture, state.head, Preprocessing.from_dict(state.preprocessing))
        return cls(parent, parent.architecture, parent.head_card.kind, parent.preprocessing)


def decide(request: Request, start: StartingPoint, number: int, directory: Path) -> Run:
    """Return how generation ``number`` is learned.

    A backbone that was trained elsewhere, and one that has been frozen so far, stay frozen unless something else is asked for.

    Args:
        request: what somebody asks for.
        start: what the run starts from.
        number: of the generation.
        directory: of the workspace, where the generations before lie.

    Raises:
        InputError: the network cannot be built, weights cannot be read, nothing could learn, or the method lacks what it needs.
    """
    parent = start.parent
    architecture = request.network.of(start.architecture)
    if architecture.backbone != start.architecture.backbone:
        with uninitialised():
            built = build_backbone(architecture.backbone)
        require_size(architecture.backbone, built, start.preprocessing.size)
    own = _own_backbone(request, start, architecture)
    known = request.published or (own and parent is not None and parent.backbone_is_known)
    part = _part(request, own=own, known=known)
    method = request.method or (Evergreen() if parent or part == "neck" else Finetune())
    if part == "neck":
        architecture = _with_solvable_neck(request, architecture)
    goes_on = own and method.needs.parent_weights and _fits_parent(request, start, architecture, part)
    beginning: Beginning = "parent" if goes_on else "pretrained" if request.published else "scratch"
    run = Run(
        number=number,
        parent=parent,
        root=root_of(directory, parent, method) if parent and method.needs.root else None,
        method=method,
        architecture=architecture,
        preprocessing=start.preprocessing,
        head=method.needs.head or request.network.head or start.head,
        beginning=beginning,
        settings=_settings(request.settings, part, _recipe(architecture, part, beginning, known=known)),
        weights=_read(request.weights.file),
        supporting_weights=_read(request.weights.supporting_file),
    )
    check_old_images(run, given=request.old_images)
    check_batches(run)
    check_settings(run, () if isinstance(request.settings, Settings) else tuple(request.settings or ()))
    check_shift(run)
    check_second_network(run)
    check_published(run)
    check_parent(run)
    check_space(run)
    return run


def _read(path: Path | None) -> Weights | None:
    return None if path is None else read_weights(path)


def _own_backbone(request: Request, start: StartingPoint, architecture: Architecture) -> bool:
    """Return whether the parent's own backbone goes on, with its weights."""
    if start.parent is None or request.weights.beginning is not None:
        return False
    return architecture.backbone == start.architecture.backbone


def _part(request: Request, *, own: bool, known: bool) -> TrainedPart:
    if request.part == "neck" and not (request.published or own):
        raise InputError(
            "A backbone with new weights has to learn with its neck: begin with published ones (--pretrained), with a file "
            "(--weights FILE), or leave --train out."
        )
    return request.part or ("neck" if known else "all")


def _with_solvable_neck(request: Request, architecture: Architecture) -> Architecture:
    """A neck that can learn, where there is none or a dimension was asked for alone."""
    asked = request.network
    if architecture.neck == "none" or (asked.neck is None and asked.dimension is not None):
        return NetworkChanges(dimension=architecture.dimension, neck="unit-linear").of(architecture)
    return architecture


def _fits_parent(request: Request, start: StartingPoint, architecture: Architecture, part: TrainedPart) -> bool:
    """Return whether the parent's weights fit the architecture."""
    # A neck that begins as the identity goes on where a network without one was.
    keeps = architecture.neck in IDENTITIES and request.network.dimension is None
    identity = part == "neck" and start.architecture.neck == "none" and keeps
    return architecture == start.architecture or identity


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
