"""Held-out images through several spaces: read at each size, freed of training images, extracted once."""

import hashlib
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evergallery.data.image_set import ImageSet, concatenate
from evergallery.data.images import Preprocessing
from evergallery.data.tasks import whole_classes
from evergallery.data.unpacking import read_npz
from evergallery.errors import BusyError, InputError
from evergallery.evaluation import Protocol, protocol
from evergallery.extraction.images import find_images
from evergallery.gallery.items import Filter, Item
from evergallery.generations.fingerprint import short_hashes
from evergallery.generations.generation import Generation
from evergallery.holdings.embedding import extract, known_embeddings
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.images import load_images
from evergallery.holdings.spaces import Space
from evergallery.upgrade.answers import PARQUET, Judged, judgements_of, parquet_arrays, parquet_columns, read_answers
from evergallery.upgrade.check import Measured, without
from evergallery.watching import Watcher

Vectors = NDArray[np.float32]
STORED, MARKED = "@gallery", "@marks"
MOST_STORED = 10_000


@dataclass(frozen=True)
class HeldOut:
    """N held-out images, and what each space makes of them.

    Attributes:
        protocol: what is searched for in what, and which answers are right.
        spaces: by name.
        excluded: images left out because a generation had learned from them.
        labelled: whether it is known which answers are right.
    """

    protocol: Protocol
    spaces: Mapping[str, Measured]
    excluded: int
    labelled: bool

    @property
    def conclusion(self) -> str:
        """What these images can conclude, in words."""
        if not self.labelled:
            return (
                "Nobody knows which answers are right, because neither labels nor answers are given: this can show that little "
                "would change, never that the change is good. It opens no gate; the gate needs labels, or --answers."
            )
        judgements = self.protocol.judgements
        if judgements is None:
            return "An answer is right where it has the query's label. This is evidence for the gate."
        if len(np.unique(judgements.grade)) > 1:
            return (
                "Answers are graded: nDCG@1 stands for recall@1 in every comparison, and what nobody has judged counts as wrong. "
                "This is evidence for the gate."
            )
        if len(np.unique(judgements.query)) == len(judgements.query):
            return (
                "One item is right for each query, and nothing else: recall@1 says how often that very item comes first. This is "
                "evidence for the gate, not for how good other answers are."
            )
        return "The items that are named are right, and nothing else. This is evidence for the gate."


@dataclass(frozen=True)
class _Part:
    """Images with their vectors (N, D) by generation, and judgements that came with them."""

    protocol: Protocol
    vectors: Mapping[str, Vectors]
    excluded: int
    judged: Sequence[Judged] = ()


def read_held_out(
    holdings: Holdings,
    data: str | Path | ImageSet,
    spaces: Sequence[Space],
    *,
    old_classes: Sequence[str] | None = None,
    answers: str | Path | None = None,
    queries: str | None = None,
    gallery: str | None = None,
    data_dir: Path | None = None,
    watcher: Watcher,
    exclude: bool = True,
) -> HeldOut:
    """Embed held-out images in every space, by whichever generation makes its vectors.

    Args:
        holdings: whose generations these are.
        data: images in any form that ``learn`` reads, an image set, a table of embeddings (see ``Workspace.check``), or
            ``@gallery`` for the stored items that have a label.
        spaces: to embed in, oldest first.
        old_classes: that count as old in every space, in place of those that its generation has learned.
        answers: a table of judgements, which say which answers are right in place of labels.
        queries: split of the queries.
        gallery: split of the gallery; ``@gallery`` for the stored items.
        data_dir: where named sets lie.
        watcher: hears of progress.
        exclude: leave out images that a generation has learned from.

    Raises:
        InputError: nothing is left to measure on, or a space has no vectors of these images.
    """
    judged = read_answers(Path(answers).expanduser()) if answers is not None else []
    beside = gallery == STORED
    if beside and data == STORED:
        raise InputError("The gallery cannot be asked for itself: leave out --gallery, or name other images as --data.")
    splits = (None, None) if beside else (queries, gallery)
    if data == MARKED:
        if beside or answers is not None:
            raise InputError("Marks name their queries, and what is right: leave out --gallery and --answers.")
        part = _marked(holdings, spaces, watcher, exclude)
    elif data == STORED:
        wanted = None if answers is None else {item for one in judged for item in (one.query, one.item)}
        part = _stored(holdings, spaces, watcher, exclude, wanted)
    elif not isinstance(data, ImageSet) and holds_embeddings(Path(data)):
        part = _read_embeddings(Path(data), spaces, *splits)
    else:
        part = _extract(holdings, data, spaces, *splits, data_dir, watcher, exclude)
    judged = judged or list(part.judged)
    if beside:
        part = _beside(holdings, part, queries, judged, spaces, watcher, exclude)
    chosen = part.protocol
    if judged:
        source = str(answers or data)
        chosen = replace(chosen, judgements=judgements_of(chosen, judged, source, watcher))
    used = np.union1d(chosen.query, chosen.gallery)
    measured = {
        space.name: _measured(holdings, space, space.map(part.vectors[space.maker.name]), old_classes)
        for space in spaces
    }
    labelled = chosen.judgements is not None or bool((chosen.images.labels[used] >= 0).all())
    return HeldOut(chosen, measured, part.excluded, labelled)


def _beside(
    holdings: Holdings,
    asked: _Part,
    queries: str | None,
    judged: Sequence[Judged],
    spaces: Sequence[Space],
    watcher: Watcher,
    exclude: bool,
) -> _Part:
    """Images as queries of the stored items; those that are stored themselves would find themselves, and are left out."""
    images = asked.protocol.images
    rows = np.arange(len(images)) if queries is None else protocol(images, queries, queries).query
    labelled = not judged and bool((images.labels[rows] >= 0).all())
    stored = _stored(holdings, spaces, watcher, exclude, None if labelled else {one.item for one in judged})
    items = stored.protocol.images
    known = np.isin(np.asarray(images.hashes)[rows], np.asarray(items.hashes))
    if known.any():
        watcher.said(f"{known.sum()} queries are stored themselves, and are left out")
    rows = rows[~known]
    if len(rows) == 0:
        raise InputError("Every query is stored itself and would find itself: give images that are not in the gallery.")
    both = concatenate([_only_names(images.select(rows)), _only_names(items)])
    count = len(rows)
    return _Part(
        Protocol(both, np.arange(count), np.arange(count, len(both)), f"{count} queries in {len(items)} stored items"),
        {name: np.concatenate([asked.vectors[name][rows], stored.vectors[name]]) for name in asked.vectors},
        asked.excluded + stored.excluded,
    )


def _marked(holdings: Holdings, spaces: Sequence[Space], watcher: Watcher, exclude: bool) -> _Part:
    """Queries of which somebody has said what is right, among the stored items: stored ones, and pictures that were kept."""
    right = [one for one in holdings.marks.all() if one.right]
    if not right:
        raise InputError("Nobody has marked a result as right yet: mark some on the page, and check then.")
    names = {one.query for one in right}
    stored = _stored(holdings, spaces, watcher, exclude, names | {one.item for one in right})
    items, parts = stored.protocol.images, []
    vectors = {name: [rows] for name, rows in stored.vectors.items()}
    folder = holdings.marks.pictures
    kept = folder.is_dir() and any(path.stem in names for path in folder.iterdir())
    if kept and all(space.maker.extracts for space in spaces):
        for name, maker in {space.maker.name: space.maker for space in spaces}.items():
            read = load_images(holdings, folder, maker.preprocessing, require_labels=False, watcher=watcher)
            asked = read.select(np.flatnonzero([one in names and one not in items.hashes for one in read.hashes]))
            parts = [_only_names(asked)] if len(asked) else []
            vectors[name] += [extract(holdings, maker, asked, watcher)] if len(asked) else []
    elif kept:
        watcher.said("pictures that were searched with are left out, because not every generation can look at them")
    both = concatenate([_only_names(items), *parts])
    ids = items.item_ids or ()
    queries = [row for row, name in enumerate(ids) if name in names] + list(range(len(items), len(both)))
    return _Part(
        Protocol(both, np.array(queries, dtype=np.int64), np.arange(len(items)), f"{len(queries)} marked queries"),
        {name: np.concatenate(some) for name, some in vectors.items()},
        stored.excluded,
        [Judged(one.query, one.item, 1.0) for one in right],
    )


def _measured(holdings: Holdings, space: Space, embeddings: Vectors, old_classes: Sequence[str] | None) -> Measured:
    """A space with the classes that count as old in it: those given, those it learned, or its items' in the gallery."""
    learned = space.maker.card.classes
    if old_classes is not None or learned:
        given = old_classes is not None
        classes = learned if old_classes is None else tuple(old_classes)
        return Measured(space.name, space.fingerprint, embeddings, classes, "given" if given else "learned")
    state = holdings.state
    why = "no item of it in the gallery has a label"
    labels: dict[str, int] = {}
    try:
        view = state.view().before(state.refresh.id) if state.refresh else state.view()
        labels = holdings.gallery.count_by_label(Filter(generations=(space.fingerprint,)), view=view)
    except BusyError:
        why = "the gallery is in use"
    why = f"{space.name} knows no class, and {why}: name the old classes with --old-classes"
    return Measured(space.name, space.fingerprint, embeddings, tuple(labels), "gallery", why)


def _extract(
    holdings: Holdings,
    data: str | Path | ImageSet,
    spaces: Sequence[Space],
    queries: str | None,
    gallery: str | None,
    data_dir: Path | None,
    watcher: Watcher,
    exclude: bool,
) -> _Part:
    makers = {space.maker.name: space.maker for space in spaces}
    # Where nothing extracts, the images serve only to name items.
    usual = Preprocessing.from_dict(holdings.state.preprocessing)
    sizes = list(dict.fromkeys(maker.preprocessing for maker in makers.values() if maker.extracts)) or [usual]
    if len(sizes) > 1 and isinstance(data, ImageSet):
        raise InputError(
            f"{', '.join(makers)} read images of different sizes: give the held-out images as files, not decoded ones."
        )
    read = {
        size: load_images(holdings, data, size, data_dir=data_dir, require_labels=False, watcher=watcher)
        for size in sizes
    }
    images = read[sizes[-1]]
    if any(one.hashes != images.hashes for one in read.values()):
        raise InputError("The held-out images changed while they were read: try again.")
    chosen = protocol(images, queries, gallery)
    seen = _learned_from(holdings, makers.values(), images) if exclude else np.zeros(len(images), dtype=bool)
    vectors = {name: known_embeddings(holdings, maker, images) for name, maker in makers.items() if not maker.extracts}
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
        name: extract(holdings, maker, read[maker.preprocessing].select(kept), watcher)
        if maker.extracts
        else vectors[name][0][kept]
        for name, maker in makers.items()
    }
    return _Part(chosen, made, int(seen.sum()))


def _stored(
    holdings: Holdings, spaces: Sequence[Space], watcher: Watcher, exclude: bool, wanted: set[str] | None
) -> _Part:
    """Items of the gallery: stored vectors, or their images extracted.

    Args:
        holdings: whose gallery.
        spaces: that they are embedded in.
        watcher: hears of progress.
        exclude: leave out images that a generation has learned from.
        wanted: ids or addresses of items that must be among them, which labelled or not are then taken at random; ``None``
            for labelled ones, whole classes at a time.
    """
    state = holdings.state
    view = state.view().before(state.refresh.id) if state.refresh else state.view()
    every = (item for batch in holdings.gallery.iterate(view=view) for item in batch)
    items = _sample([item for item in every if wanted is not None or item.label is not None], wanted)
    images = _images_of(items)
    makers = {space.maker.name: space.maker for space in spaces}
    seen = _learned_from(holdings, makers.values(), images) if exclude else np.zeros(len(images), dtype=bool)
    made: dict[str, Vectors] = {}
    left_out = seen.copy()
    for name, maker in makers.items():
        made[name], missing = _known_or_extracted(holdings, maker, items, images, watcher)
        left_out |= missing
    chosen = protocol(images)
    if left_out.any():
        chosen = without(chosen, left_out)
    if len(chosen.query) < 2:
        raise InputError(
            f"No stored item has {'a label and ' if wanted is None else ''}a vector, or an image, for each of "
            f"{', '.join(makers)} ({seen.sum()} were learned from): check on held-out images."
        )
    kept = np.flatnonzero(~left_out)
    return _Part(chosen, {name: vectors[kept] for name, vectors in made.items()}, int(seen.sum()))


def _sample(items: list[Item], wanted: set[str] | None) -> list[Item]:
    """As many as are checked: whole classes, or, where some are wanted, these and others at random."""
    if wanted is None:
        return [items[row] for row in whole_classes([item.label for item in items], MOST_STORED)]
    if len(items) <= MOST_STORED:
        return items
    order = np.random.default_rng(0).permutation(len(items))
    first = [row for row in order if items[row].id in wanted or items[row].uri in wanted]
    chosen = set(first)
    taken = [*first, *(row for row in order if row not in chosen)][:MOST_STORED]
    return [items[row] for row in sorted(taken)]


def _images_of(items: Sequence[Item]) -> ImageSet:
    """Stored items as images without pixels; a label of -1 for those without one."""
    names, numbers = np.unique([item.label or "" for item in items], return_inverse=True)
    unlabelled = np.array([item.label is None for item in items], dtype=bool)
    return without_pixels(
        np.where(unlabelled, -1, numbers).astype(np.int64),
        tuple(names.tolist()),
        tuple(item.uri or item.id for item in items),
        tuple(item.content_hash or hashlib.sha256(item.id.encode()).hexdigest() for item in items),
        tuple(item.id for item in items),
    )


def _known_or_extracted(
    holdings: Holdings, maker: Generation, items: list[Item], images: ImageSet, watcher: Watcher
) -> tuple[Vectors, NDArray[np.bool_]]:
    """Vectors (N, D) of stored items by a generation, and (N,) which of them it has none of: no vector, and no image either."""
    vectors, missing = known_embeddings(holdings, maker, images)
    if not maker.extracts or not missing.any():
        return vectors, missing
    rows = np.flatnonzero(missing)
    found = find_images([items[row] for row in rows], maker.preprocessing, holdings.roots)
    there = {item.id for item in found.items}
    rows = np.array([row for row in rows if items[row].id in there], dtype=np.int64)
    if len(rows):
        vectors[rows] = extract(holdings, maker, found.images, watcher, keep=False)
        missing[rows] = False
    return vectors, missing


def _learned_from(holdings: Holdings, generations: Iterable[Generation], images: ImageSet) -> NDArray[np.bool_]:
    """(N,) which images a generation, or one that it descends from, has learned from."""
    by_name = {generation.name: generation for generation in holdings.generations()}
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
    """Whether a file is a table of embeddings, rather than of images or anything else.

    Raises:
        InputError: it is a damaged ``.npz``.
    """
    if path.suffix.lower() in PARQUET and path.is_file():
        return "path" not in parquet_columns(path)
    if path.suffix != ".npz" or not path.is_file():
        return False
    try:
        # NumPy leaves a file open that is no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return "images" not in arrays.files
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as arrays ({error}): it is damaged, or no .npz file.") from error


def _read_embeddings(path: Path, spaces: Sequence[Space], queries: str | None, gallery: str | None) -> _Part:
    """Vectors made elsewhere, in place of images."""
    makers = {space.maker.name: space.maker for space in spaces}
    if path.suffix.lower() in PARQUET:
        content = parquet_arrays(
            path, tuple(makers), {"label": "labels", "split": "split", "id": "ids", "answer": "answers"}
        )
    else:
        content, _ = read_npz(path)
    missing = [name for name in makers if name not in content]
    if missing:
        raise InputError(
            f"{path} has no {'column' if path.suffix.lower() in PARQUET else 'array'} {missing[0]!r}: it needs vectors of each "
            f"of {', '.join(makers)} under its name, and labels or answers where the gate is to be opened."
        )
    count = max(len(content[name]) if content[name].ndim else 0 for name in makers)
    made: dict[str, Vectors] = {}
    for name, maker in makers.items():
        vectors = content[name]
        if vectors.shape != (count, maker.card.dimension):
            raise InputError(
                f"The array {name!r} of {path} has shape {vectors.shape} and must have {(count, maker.card.dimension)}: one "
                f"embedding by {name} for each row."
            )
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
        wrong = np.flatnonzero(~((norms > 0) & np.isfinite(norms)))
        if len(wrong):
            raise InputError(f"Row {wrong[0]} of the array {name!r} of {path} is not finite or has no length.")
        made[name] = (vectors / norms[:, None]).astype(np.float32)
    texts = {
        name: _texts(path, content[name], count, name)
        for name in ("labels", "split", "ids", "answers")
        if name in content
    }
    labels = np.array(texts.get("labels", [""] * count), dtype=np.str_)
    names, numbers = np.unique(labels, return_inverse=True)
    numbers = np.where(labels == "", -1, numbers)
    # Names of classes begin at 0 where the name of no class was the first.
    if len(names) and names[0] == "":
        names, numbers = names[1:], np.where(numbers < 0, -1, numbers - 1)
    images = replace(
        without_pixels(
            numbers.astype(np.int64),
            tuple(names.tolist()),
            tuple(f"{path}#{index}" for index in range(count)),
            _hashes_of(made, count),
            tuple(one if one else None for one in texts["ids"]) if "ids" in texts else None,
        ),
        split=np.array(texts["split"], dtype=np.str_) if "split" in texts else None,
    )
    rows = enumerate(texts.get("answers", ()))
    judged = [Judged(f"{path}#{index}", item, 1.0) for index, item in rows if item]
    return _Part(protocol(images, queries, gallery), made, 0, judged)


def _texts(path: Path, column: NDArray[Any], count: int, name: str) -> list[str]:
    """A column of text, of which the empty text, and a negative label, say nothing."""
    if column.shape != (count,):
        raise InputError(f"{path} has {count} vectors and {name} of shape {column.shape}: one for each.")
    if name == "labels" and column.dtype.kind == "i":
        return ["" if one < 0 else str(one) for one in column.tolist()]
    return ["" if one is None else str(one) for one in column.tolist()]


def _only_names(images: ImageSet) -> ImageSet:
    """The same images without their pixels."""
    return replace(
        images, pixels=np.zeros((1, 1, 1, 3), np.uint8), rows=np.zeros(len(images), np.int64), split=None, cameras=None
    )


def without_pixels(
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    uris: tuple[str, ...],
    hashes: tuple[str, ...],
    item_ids: tuple[str | None, ...] | None = None,
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
