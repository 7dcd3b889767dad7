"""The verb ``create``: a workspace, by what its first generation is to be made of."""

import os
import shutil
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import Any

from evergallery.data.images import DECODING, REDUCED, SUFFIXES, Fit, Interpolation, Preprocessing
from evergallery.data.images.sizes import Size
from evergallery.errors import InputError, RefusedError
from evergallery.exchange.models import register
from evergallery.files import creation_of, new_directory
from evergallery.gallery.items import Precision, View
from evergallery.gallery.opening import open_store
from evergallery.gallery.places import is_url, without_password
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.state import State
from evergallery.learning.request import NetworkChanges
from evergallery.network import Architecture, HeadKind, Neck, build_backbone
from evergallery.network.backbones import require_size
from evergallery.network.uninitialised import uninitialised
from evergallery.upgrade.gate import DEFAULT, FILE
from evergallery.watching import SILENT, Watcher

LOOKED_AT = 1000
"""Files among which pictures are looked for, where no workspace can be made."""


def create(
    directory: str | Path,
    *,
    backbone: str = "resnet20",
    dim: int | None = None,
    neck: Neck | None = None,
    size: Size | None = None,
    fit: Fit = "crop",
    kept: float = 1.0,
    interpolation: Interpolation | None = None,
    head: HeadKind = "cosine",
    store: str = "gallery",
    precision: Precision = "float32",
    pretrained: bool = False,
    weights: str | Path | None = None,
    reduce_jpegs: bool = False,
    watcher: Watcher = SILENT,
) -> Holdings:
    """Create a workspace; the arguments are what its first generation is made of.

    It is empty, or where weights are named it has the pretrained network as its first generation, as ``register`` would
    make it, which indexes and answers at once.

    Args:
        directory: must not exist, or be empty.
        backbone: ``resnet8``, ``resnet20``, ``resnet32``, ``resnet44``, ``resnet56``, any timm model, or ``torchvision/NAME``.
        dim: D of the embedding; the backbone's own width by default.
        neck: ``linear`` where a dimension is asked for, else ``none``.
        size: side of the input in pixels, or height and width; the backbone's own by default. See ``Preprocessing``.
        fit: how an image of another shape is brought to that of the input.
        kept: share in (0, 1] of the sides of what ``fit="crop"`` keeps that is seen, in its middle.
        interpolation: of resizing; the backbone's own by default.
        head: kind of classifier used in training; see ``evergallery.network.heads.Head``.
        store: where the gallery is: a directory inside the workspace, or the URL of an empty or new gallery in another
            engine. A password in it is not written down.
        precision: that the gallery keeps vectors in; see ``evergallery.gallery.items.Precision``.
        pretrained: register the backbone with its published weights as the first generation.
        weights: the same with the weights in a file: safetensors, or a plain state dict.
        reduce_jpegs: decode a JPEG at a part of its size where that is not smaller than the input: ``decoding=3`` there.
        watcher: hears of a host that is asked for weights.

    Raises:
        InputError: the directory is not empty, or the weights, the network or the URL cannot be used.
        NotFoundError: the gallery's server does not answer.
        RefusedError: the gallery is not empty.
    """
    path = _free(Path(directory))
    network = NetworkChanges(backbone, dim, neck)
    published = _Published(backbone, weights, pretrained)
    published.require_unchanged(network)
    architecture = network.of(Architecture())
    asked: dict[str, Any] = {"size": size, "fit": fit, "kept": kept, "interpolation": interpolation}
    pixels = _preprocessing(backbone, **asked, decoding=REDUCED if reduce_jpegs else DECODING).to_dict()
    place = without_password(store)
    state = State(architecture=architecture, preprocessing=pixels, head=head, store=place)
    _require_empty(place, precision)
    _write(path, state, precision)
    return published.registered(Holdings(path), **asked, reduce_jpegs=reduce_jpegs, watcher=watcher)


@dataclass(frozen=True)
class _Published:
    """The weights of a backbone as somebody else has trained it, which make it the first generation.

    Attributes:
        backbone: by name.
        weights: a file of them.
        pretrained: whether they are those that were published.
    """

    backbone: str
    weights: str | Path | None
    pretrained: bool

    @property
    def asked_for(self) -> bool:
        """Return whether there is to be such a generation."""
        return self.pretrained or self.weights is not None

    def require_unchanged(self, network: NetworkChanges) -> None:
        """Refuse another neck or dimension than the backbone has: no weights were published for them.

        Raises:
            InputError: one is asked for.
        """
        if self.asked_for and (network.dimension is not None or network.neck is not None):
            raise InputError(
                f"The first generation is {self.backbone} as it was published: leave --dim and --neck out here, and give them "
                f"to the generation that learns from it, with  evergallery learn IMAGES --neck linear"
            )

    def registered(self, holdings: Holdings, **given: Any) -> Holdings:
        """A new workspace with it as the first generation, where that is asked for; without a workspace where it cannot be."""
        if self.asked_for:
            try:
                register(holdings, self.backbone, weights=self.weights, pretrained=self.pretrained, **given)
            except BaseException:
                shutil.rmtree(holdings.directory)
                raise
        return holdings


def _free(path: Path) -> Path:
    """Return a place that nobody uses; refuse one that is in use."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(_occupied(path))
    return path


def _preprocessing(backbone: str, **given: Any) -> Preprocessing:
    """Return how images become the input of a backbone: as it was published, where nothing else is asked for."""
    with uninitialised():
        built = build_backbone(backbone)
    own = {"size": built.size, "interpolation": built.interpolation, "mean": built.mean, "std": built.std}
    found = Preprocessing(**{**own, **{name: value for name, value in given.items() if value is not None}})
    require_size(backbone, built, found.size)
    return found


def _require_empty(place: str, precision: Precision) -> None:
    """Refuse another engine's gallery that holds items; one inside the workspace is not there yet."""
    if not is_url(place):
        return
    with closing(open_store(place, precision=precision)) as gallery:
        if gallery.count(view=View()):
            raise RefusedError(f"The gallery {place} is not empty: name another one, or another name in the URL.")


def _write(path: Path, state: State, precision: Precision) -> None:
    """Make the directory, whole or not at all; a gallery in it is made where it does not keep vectors as they are."""
    if path.exists():
        path.rmdir()
    with creation_of(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with new_directory(path, private=True) as temporary:
        for name in ("generations", "runs", "cache"):
            (temporary / name).mkdir()
        (temporary / FILE).write_text(DEFAULT)
        if not is_url(state.store) and precision != "float32":
            open_store(temporary / state.store, precision=precision).close()
        state.write(temporary / "workspace.json")


def _occupied(path: Path) -> str:
    """Return why no workspace is made in a place that is in use; somebody who stands among their pictures is told the way."""
    if path.is_dir() and any(file.suffix.lower() in SUFFIXES for file in islice(path.rglob("*"), LOOKED_AT)):
        shop = quote(os.path.relpath(path.resolve().parent / "shop"))
        return (
            f"{path} holds pictures, and a workspace is a directory of its own: make one beside them with  evergallery init "
            f"{shop}  and put the pictures into it with  evergallery index {quote(str(path))} -w {shop}"
        )
    return f"{path} exists and is not empty: name a new directory for the workspace."
