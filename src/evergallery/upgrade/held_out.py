"""Held-out images through several spaces: read at each size, freed of training images, extracted once."""

import hashlib
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.errors import InputError
from evergallery.evaluation import Protocol, protocol
from evergallery.generation import Generation, short_hashes
from evergallery.upgrade.check import Measured, without
from evergallery.upgrade.images import find_images
from evergallery.upgrade.plan import sample_rows
from evergallery.upgrade.spaces import Space
from evergallery.watching import Watcher

if TYPE_CHECKING:
    from evergallery.workspace import Workspace

Vectors = NDArray[np.float32]
STORED = "@gallery"
MOST_STORED = 10_000


@dataclass(frozen=True)
class HeldOut:
    """N held-out images, and what each space makes of them.

    Attributes:
        protocol: what is searched for in what.
        spaces: by name.
        excluded: images left out because a generation had learned from them.
        labelled: whether every image has a label.
    """

    protocol: Protocol
    spaces: Mapping[str, Measured]
    excluded: int
    labelled: bool


def read_held_out(
    workspace: "Workspace",
    data: str | Path | ImageSet,
    spaces: Sequence[Space],
    *,
    queries: str | None = None,
    gallery: str | None = None,
    data_dir: Path | None = None,
    watcher: Watcher,
    exclude: bool = True,
) -> HeldOut:
    """Embed held-out images in every space, by whichever generation makes its vectors.

    Args:
        workspace: whose generations these are.
        data: images in any form that ``learn`` reads, an image set, an ``.npz`` with an array (N, D) for each
            generation under its name and ``labels`` (N,), or ``@gallery`` for the stored items that have a label.
        spaces: to embed in, oldest first.
        queries: split of the queries.
        gallery: split of the gallery.
        data_dir: where named sets lie.
        watcher: hears of progress.
        exclude: leave out images that a generation has learned from.

    Raises:
        InputError: nothing is left to measure on, or a space has no vectors of these images.
    """
    if data == STORED:
        images, embeddings, chosen, excluded = _stored(workspace, spaces, watcher, exclude)
    elif isinstance(data, str | Path) and holds_embeddings(Path(data)):
        images, embeddings = _read_embeddings(Path(data), spaces)
        chosen, excluded = protocol(images, queries, gallery), 0
    else:
        images, embeddings, chosen, excluded = _extract(
            workspace, data, spaces, queries, gallery, data_dir, watcher, exclude
        )
    measured = {
        space.name: Measured(space.name, space.fingerprint, embeddings[space.name], space.maker.card.classes)
        for space in spaces
    }
    return HeldOut(chosen, measured, excluded, bool((chosen.images.labels >= 0).all()))


def _extract(
    workspace: "Workspace",
    data: str | Path | ImageSet,
    spaces: Sequence[Space],
    queries: str | None,
    gallery: str | None,
    data_dir: Path | None,
    watcher: Watcher,
    exclude: bool,
) -> tuple[ImageSet, dict[str, Vectors], Protocol, int]:
    makers = {space.maker.name: space.maker for space in spaces}
    # Where nothing extracts, the images serve only to name items.
    usual = Preprocessing.from_dict(workspace.state.preprocessing)
    sizes = list(dict.fromkeys(maker.preprocessing for maker in makers.values() if maker.extracts)) or [usual]
    if len(sizes) > 1 and isinstance(data, ImageSet):
        raise InputError(
            f"{', '.join(makers)} read images of different sizes: give the held-out images as files, not decoded ones."
        )
    read = {
        size: workspace.load(data, size, data_dir=data_dir, require_labels=False, watcher=watcher) for size in sizes
    }
    images = read[sizes[-1]]
    if any(one.hashes != images.hashes for one in read.values()):
        raise InputError("The held-out images changed while they were read: try again.")
    chosen = protocol(images, queries, gallery)
    seen = _learned_from(workspace, makers.values(), images) if exclude else np.zeros(len(images), dtype=bool)
    vectors = {name: workspace.known_embeddings(maker, images) for name, maker in makers.items() if not maker.extracts}
    left_out = seen | np.any([missing for _, missing in vectors.values()] or [np.zeros_like(seen)], axis=0)
    if left_out.any():
        chosen = without(chosen, left_out)
    kept = np.flatnonzero(~left_out)
    if len(chosen.query) == 0 or len(chosen.gallery) < 2:
        raise InputError(
            f"Of the held-out images nothing is left to search with or in ({seen.sum()} were learned from): "
            f"give images that no generation has seen."
        )
    made = {
        name: workspace.extract(maker, read[maker.preprocessing].select(kept), watcher)
        if maker.extracts
        else vectors[name][0][kept]
        for name, maker in makers.items()
    }
    return images, {space.name: space.map(made[space.maker.name]) for space in spaces}, chosen, int(seen.sum())


def _stored(
    workspace: "Workspace", spaces: Sequence[Space], watcher: Watcher, exclude: bool
) -> tuple[ImageSet, dict[str, Vectors], Protocol, int]:
    """The gallery's own labelled items, or a sample of whole classes: stored vectors, or their images extracted."""
    state = workspace.state
    view = state.view().before(state.refresh.id) if state.refresh else state.view()
    items = [item for batch in workspace.gallery.iterate(view=view) for item in batch if item.label is not None]
    items = [items[row] for row in sample_rows([item.label for item in items], MOST_STORED)]
    names, numbers = np.unique([str(item.label) for item in items], return_inverse=True)
    images = _without_pixels(
        numbers.astype(np.int64),
        tuple(names.tolist()),
        tuple(item.uri or item.id for item in items),
        tuple(item.content_hash or hashlib.sha256(item.id.encode()).hexdigest() for item in items),
        tuple(item.id for item in items),
    )
    makers = {space.maker.name: space.maker for space in spaces}
    seen = _learned_from(workspace, makers.values(), images) if exclude else np.zeros(len(images), dtype=bool)
    made: dict[str, Vectors] = {}
    left_out = seen.copy()
    for name, maker in makers.items():
        vectors, missing = workspace.known_embeddings(maker, images)
        if maker.extracts and missing.any():
            rows = np.flatnonzero(missing)
            found = find_images([items[row] for row in rows], maker.preprocessing, workspace.roots)
            there = {item.id for item in found.items}
            rows = np.array([row for row in rows if items[row].id in there], dtype=np.int64)
            if len(rows):
                vectors[rows] = workspace.extract(maker, found.images, watcher, keep=False)
                missing[rows] = False
        made[name], left_out = vectors, left_out | missing
    chosen = protocol(images)
    if left_out.any():
        chosen = without(chosen, left_out)
    if len(chosen.query) < 2:
        raise InputError(
            f"No stored item has a label and a vector, or an image, for each of {', '.join(makers)} ({seen.sum()} were "
            f"learned from): check on held-out images."
        )
    kept = np.flatnonzero(~left_out)
    return images, {space.name: space.map(made[space.maker.name][kept]) for space in spaces}, chosen, int(seen.sum())


def _learned_from(workspace: "Workspace", generations: Iterable[Generation], images: ImageSet) -> NDArray[np.bool_]:
    """(N,) which images a generation, or one that it descends from, has learned from."""
    by_name = {generation.name: generation for generation in workspace.generations()}
    seen: set[int] = set()
    pending = [generation.name for generation in generations]
    done: set[str] = set()
    while pending:
        name = pending.pop()
        if name in done or name not in by_name:
            continue
        done.add(name)
        seen.update(by_name[name].learned_from().tolist())
        parent = by_name[name].card.parent
        if parent:
            pending.append(parent)
    return np.array([int(short_hashes([one])[0]) in seen for one in images.hashes], dtype=bool)


def holds_embeddings(path: Path) -> bool:
    """Whether a file is an ``.npz`` of embeddings, rather than of images or anything else.

    Raises:
        InputError: it is a damaged ``.npz``.
    """
    if path.suffix != ".npz" or not path.is_file():
        return False
    try:
        # NumPy leaves a file open that is no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return "images" not in arrays.files
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as arrays ({error}): it is damaged, or no .npz file.") from error


def _read_embeddings(path: Path, spaces: Sequence[Space]) -> tuple[ImageSet, dict[str, Vectors]]:
    """Vectors made elsewhere, in place of images."""
    with np.load(path, allow_pickle=False) as arrays:
        content = {name: arrays[name] for name in arrays.files}
    makers = {space.maker.name: space.maker for space in spaces}
    missing = [name for name in (*makers, "labels") if name not in content]
    if missing:
        raise InputError(
            f"{path} has no array {missing[0]!r}: it needs labels (N,) and an array (N, D) for each of {', '.join(makers)}."
        )
    labels = content["labels"]
    names, numbers = np.unique(labels.astype(str), return_inverse=True)
    made: dict[str, Vectors] = {}
    for name, maker in makers.items():
        vectors = content[name]
        if vectors.shape != (len(labels), maker.card.dimension):
            raise InputError(
                f"The array {name!r} of {path} has shape {vectors.shape} and must have "
                f"{(len(labels), maker.card.dimension)}: one embedding for each label."
            )
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
        wrong = np.flatnonzero(~((norms > 0) & np.isfinite(norms)))
        if len(wrong):
            raise InputError(f"Row {wrong[0]} of the array {name!r} of {path} is not finite or has no length.")
        made[name] = (vectors / norms[:, None]).astype(np.float32)
    images = _without_pixels(
        numbers.astype(np.int64),
        tuple(names.tolist()),
        tuple(f"{path}#{index}" for index in range(len(labels))),
        _hashes_of(made, len(labels)),
    )
    return images, {space.name: space.map(made[space.maker.name]) for space in spaces}


def _without_pixels(
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    uris: tuple[str, ...],
    hashes: tuple[str, ...],
    item_ids: tuple[str, ...] | None = None,
) -> ImageSet:
    """Images of which there is nothing to see: one pixel stands for all."""
    return ImageSet(
        pixels=np.zeros((1, 1, 1, 3), np.uint8),
        rows=np.zeros(len(labels), np.int64),
        labels=labels,
        classes=classes,
        uris=uris,
        hashes=hashes,
        item_ids=item_ids,
    )


def _hashes_of(made: Mapping[str, Vectors], count: int) -> tuple[str, ...]:
    """A content hash for each row, since there is no image to have one."""
    rows = np.concatenate(list(made.values()), axis=1)
    return tuple(hashlib.sha256(rows[index].tobytes()).hexdigest() for index in range(count))
