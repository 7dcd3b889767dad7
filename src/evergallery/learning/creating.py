"""The verb ``create``: a workspace, by what its first generation is to be made of."""

import os
import shutil
from contextlib import closing
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
        size: side of the input in pixels, or height and width; the backbone's own by default.
        fit: how an image of another shape is brought to that of the input.
        kept: share of the sides of what ``fit="crop"`` keeps that is seen, in its middle: 224 / 256 for the usual "shorter side
            to 256, then the middle 224". Random crops of learning are cut from all of it.
        interpolation: of resizing; the backbone's own by default.
        head: kind of classifier used in training. ``unit-rows`` is CSD's, and ``projected-rows`` as its code learns it; next
            to a batch-hard triplet loss they may collapse to one point in its first epochs, which ``cosine`` with its larger
            gradients does not.
        store: where the gallery is: a directory inside the workspace, or the URL of an empty or new gallery in another
            engine. A password in it is not written down: give it to the engine as its documentation says.
        precision: that the gallery keeps vectors in: ``float16`` takes half of their bytes, ``int8`` searches large
            galleries by a quarter of them; see docs/storage.md for what each costs.
        pretrained: register the backbone with its published weights as the first generation.
        weights: the same with the weights in a file: safetensors, or a plain state dict.
        reduce_jpegs: decode a JPEG at an eighth, a quarter or half of its size where that is still not smaller than the
            input.
        watcher: hears of a host that is asked for weights.

    Raises:
        InputError: the directory is not empty, the weights cannot be had, the network cannot be built, or the URL cannot be
            used.
        NotFoundError: the gallery's server does not answer.
        RefusedError: the gallery is not empty.
    """
    path = Path(directory)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(_occupied(path))
    if (pretrained or weights is not None) and (dim is not None or neck is not None):
        raise InputError(
            f"The first generation is {backbone} as it was published: leave --dim and --neck out here, and give them to "
            f"the generation that learns from it, with  evergallery learn IMAGES --neck linear"
        )
    architecture = NetworkChanges(backbone, dim, neck).of(Architecture())
    asked: dict[str, Any] = {"size": size, "fit": fit, "kept": kept, "interpolation": interpolation}
    preprocessing = _preprocessing(backbone, **asked, decoding=REDUCED if reduce_jpegs else DECODING)
    place = without_password(store)
    if is_url(place):
        _require_empty(place, precision)
    state = State(architecture=architecture, preprocessing=preprocessing.to_dict(), head=head, store=place)
    _write(path, state, precision)
    holdings = Holdings(path)
    if pretrained or weights is not None:
        try:
            published: dict[str, Any] = {"weights": weights, "pretrained": pretrained, "reduce_jpegs": reduce_jpegs}
            register(holdings, backbone, **published, **asked, watcher=watcher)
        except BaseException:
            shutil.rmtree(path)
            raise
    return holdings


def _preprocessing(backbone: str, **given: Any) -> Preprocessing:
    """Return how images become the input of a backbone: as it was published, where nothing else is asked for."""
    with uninitialised():
        built = build_backbone(backbone)
    own = {"size": built.size, "interpolation": built.interpolation, "mean": built.mean, "std": built.std}
    found = Preprocessing(**{**own, **{name: value for name, value in given.items() if value is not None}})
    require_size(backbone, built, found.size)
    return found


def _require_empty(place: str, precision: Precision) -> None:
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
