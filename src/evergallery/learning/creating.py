"""The verb ``create``: a workspace, by what its first generation is to be made of."""

import os
import shutil
from contextlib import closing
from itertools import islice
from pathlib import Path
from shlex import quote

from evergallery.data.images import DECODING, REDUCED, SUFFIXES, Fit, Preprocessing
from evergallery.data.sizes import Size
from evergallery.errors import InputError, RefusedError
from evergallery.exchange.models import register
from evergallery.files import creation_of, new_directory
from evergallery.gallery.items import Precision, View
from evergallery.gallery.opening import open_store
from evergallery.gallery.places import is_url, without_password
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.state import State
from evergallery.learning.decision import changed_architecture
from evergallery.network import Architecture, HeadKind, Neck, build_backbone
from evergallery.upgrade.gate import DEFAULT, FILE
from evergallery.watching import Watcher

LOOKED_AT = 1000
"""Files among which pictures are looked for, where no workspace can be made."""


def create(
    directory: str | Path,
    *,
    backbone: str,
    dim: int | None,
    neck: Neck | None,
    size: Size | None,
    fit: Fit,
    head: HeadKind,
    store: str,
    precision: Precision,
    pretrained: bool,
    weights: str | Path | None,
    reduce_jpegs: bool,
    watcher: Watcher,
) -> None:
    """Create the directory of a workspace; see ``Workspace.create``."""
    path = Path(directory)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(_occupied(path))
    if (pretrained or weights is not None) and (dim is not None or neck is not None):
        raise InputError(
            f"The first generation is {backbone} as it was published: leave --dim and --neck out here, and give them to "
            f"the generation that learns from it, with  evergallery learn IMAGES --neck linear"
        )
    architecture = changed_architecture(Architecture(), backbone, dim, neck)
    preprocessing = _preprocessing(backbone, size, fit, reduce_jpegs)
    place = without_password(store)
    if is_url(place):
        _require_empty(place, precision)
    state = State(architecture=architecture, preprocessing=preprocessing.to_dict(), head=head, store=place)
    _write(path, state, precision)
    if pretrained or weights is not None:
        try:
            register(
                Holdings(path),
                backbone,
                weights=weights,
                pretrained=pretrained,
                size=size,
                fit=fit,
                reduce_jpegs=reduce_jpegs,
                watcher=watcher,
            )
        except BaseException:
            shutil.rmtree(path)
            raise


def _preprocessing(backbone: str, size: Size | None, fit: Fit, reduce_jpegs: bool) -> Preprocessing:
    """How images become the input of a backbone: as it was published, where nothing else is asked for."""
    built = build_backbone(backbone)
    return Preprocessing(
        size=built.size if size is None else size,
        fit=fit,
        interpolation=built.interpolation,
        mean=built.mean,
        std=built.std,
        decoding=REDUCED if reduce_jpegs else DECODING,
    )


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
    """Why no workspace is made in a place that is in use; somebody who stands among their pictures is told the way."""
    if path.is_dir() and any(file.suffix.lower() in SUFFIXES for file in islice(path.rglob("*"), LOOKED_AT)):
        shop = quote(os.path.relpath(path.resolve().parent / "shop"))
        return (
            f"{path} holds pictures, and a workspace is a directory of its own: make one beside them with  evergallery init "
            f"{shop}  and put the pictures into it with  evergallery index {quote(str(path))} -w {shop}"
        )
    return f"{path} exists and is not empty: name a new directory for the workspace."
