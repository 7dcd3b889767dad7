"""Held-out images through several spaces: read at each size, freed of training images, extracted once."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evergallery.data.image_set import ImageSet, concatenate
from evergallery.data.images import Preprocessing
from evergallery.data.listing import Entry
from evergallery.data.tasks import listed_names, whole_classes
from evergallery.errors import BusyError, InputError
from evergallery.evaluation import Protocol, protocol, ranks_with, require_both
from evergallery.extraction.images import find_images
from evergallery.gallery.items import Filter, Item
from evergallery.generations.fingerprint import short_hashes
from evergallery.generations.generation import Generation
from evergallery.holdings.embedding import extract, known_embeddings
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.images import ImageReader
from evergallery.holdings.spaces import Space
from evergallery.upgrade.answers import (
    RightAnswer,
    judgements_of,
    read_answers,
    require_some_named,
)
from evergallery.upgrade.check import without
from evergallery.upgrade.embedding_table import holds_embeddings, read_embeddings, without_pixels
from evergallery.upgrade.pairing import EmbeddedSpace
from evergallery.watching import Watcher

Vectors = NDArray[np.float32]
STORED, MARKED = "@gallery", "@marks"
MOST_STORED = 10_000


@dataclass(frozen=True)
class HeldOutImages:
    """N held-out images, and what each space makes of them.

    Attributes:
        protocol: what is searched for in what, and which answers are right.
        spaces: by name.
        excluded: images left out because a generation had learned from them.
        labelled: whether it is known which answers are right.
    """

    protocol: Protocol
    spaces: Mapping[str, EmbeddedSpace]
    excluded: int
    labelled: bool

    @property
    def conclusion(self) -> str:
        """Return what these images can conclude, in words."""
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
class HeldOutSource:
    """The source of held-out images, and what is said of them.

    Attributes:
        data: images in any form that ``learn`` reads, or an image set; see ``evergallery.evaluation.protocol`` for which of them
            are queries. Where nothing can be extracted, a table of embeddings will do: an ``.npz`` with an array (N, D) for each
            generation under its name, or Parquet with such columns of lists; and (N,) ``labels`` (``label`` in Parquet),
            ``split``, ``ids`` (``id``) and ``answers`` (``answer``), each optional.
            ``@gallery`` stands for the stored items that have a label, ``@marks`` for the queries of which somebody has marked
            right results, among the stored items.
        old_classes: that count as old in every space, in place of those that its generation has learned.
        answers: a ``.csv`` or Parquet table ``query,item[,grade]`` that says which items of the gallery are right for which
            queries: one row for one right answer, several rows for several, with grades above 0 for better and worse ones.
            Queries and items are named by item id, address, or file name. In place of labels.
        queries: split of the queries.
        gallery: split of the gallery; ``@gallery`` for the stored items, with all other images as queries.
        ks: of recall@k and precision@k, beside 1, 5 and 10.
        full_ranking: measure mAP and mINP, too, where labels say what is right: they sort the whole gallery for every query.
        data_dir: where named sets lie.
        enough: refuses so few images that nothing can be made of them, before one is looked at.
    """

    data: str | Path | ImageSet
    old_classes: Sequence[str] | None = None
    answers: str | Path | None = None
    queries: str | None = None
    gallery: str | None = None
    ks: Sequence[int] = ()
    full_ranking: bool = False
    data_dir: Path | None = None
    enough: Callable[[int], None] = lambda _: None

    @property
    def is_in_gallery(self) -> bool:
        """Return whether the images are queries that search the stored items."""
        return self.gallery == STORED

    @property
    def splits(self) -> tuple[str | None, str | None]:
        """The splits of the queries and of the gallery, where both are among the images."""
        return (None, None) if self.is_in_gallery else (self.queries, self.gallery)

    @property
    def named_splits(self) -> tuple[str, ...]:
        """The splits that the images are to have."""
        return tuple(name for name in (self.queries, None if self.is_in_gallery else self.gallery) if name is not None)

    def require_consistent(self) -> None:
        """Refuse what cannot be asked, or not together, before anything is read.

        Raises:
            InputError: the gallery would be asked for itself, marks are given a gallery or answers, only one of two splits is
                named, or a rank is below 1.
        """
        require_both(*self.splits)
        ranks_with(self.ks)
        if self.old_classes is not None and not self.old_classes:
            raise InputError(
                "No class is named as old: name one, or leave the old classes out for those that were learned."
            )
        if self.is_in_gallery and self.data == STORED:
            raise InputError(
                "The gallery cannot be asked for itself: leave out --gallery, or name other images as --data."
            )
        if self.data == MARKED and (self.is_in_gallery or self.answers is not None):
            raise InputError("Marks name their queries, and what is right: leave out --gallery and --answers.")


@dataclass(frozen=True)
class _Part:
    """Images with their vectors (N, D) by generation, and judgements that came with them."""

    protocol: Protocol
    vectors: Mapping[str, Vectors]
    excluded: int
    judged: Sequence[RightAnswer] = ()


def read_held_out(
    holdings: Holdings, source: HeldOutSource, spaces: Sequence[Space], *, watcher: Watcher, exclude: bool = True
) -> HeldOutImages:
    """Embed held-out images in every space, by whichever generation makes its vectors.

    Args:
        holdings: whose generations these are.
        source: which images.
        spaces: to embed in, oldest first.
        watcher: hears of progress.
        exclude: leave out images that a generation has learned from.

    Raises:
        InputError: nothing is left to measure on, or a space has no vectors of these images.
    """
    source.require_consistent()
    judged = read_answers(Path(source.answers).expanduser()) if source.answers is not None else []
    reader = _Reader(holdings, spaces, watcher, exclude)
    part = reader.read(source, judged)
    judged = judged or list(part.judged)
    if source.is_in_gallery:
        part = reader.in_gallery(part, source.queries, judged)
    chosen = replace(part.protocol, ks=ranks_with(source.ks), full_ranking=source.full_ranking)
    unknown = [name for name in source.old_classes or () if name not in chosen.images.classes]
    if unknown:
        watcher.said(
            f"of these classes there is no image, so that nothing is measured on them: {listed_names(unknown)}"
        )
    if judged:
        judgements = judgements_of(chosen, judged, str(source.answers or source.data), watcher)
        chosen = replace(chosen, judgements=judgements)
    used = np.union1d(chosen.query, chosen.gallery)
    embedded = {
        space.name: _embedded(holdings, space, space.map(part.vectors[space.maker.name]), source.old_classes)
        for space in spaces
    }
    labelled = chosen.judgements is not None or bool((chosen.images.labels[used] >= 0).all())
    return HeldOutImages(chosen, embedded, part.excluded, labelled)


@dataclass(frozen=True)
class _Reader:
    """Images from wherever they come, embedded by whichever generations some spaces need.

    Attributes:
        holdings: whose generations these are.
        spaces: to embed in, oldest first.
        watcher: hears of progress.
        exclude: leave out images that a generation has learned from.
    """

    holdings: Holdings
    spaces: Sequence[Space]
    watcher: Watcher
    exclude: bool

    @property
    def makers(self) -> dict[str, Generation]:
        """The generations that make the vectors, by name."""
        return {space.maker.name: space.maker for space in self.spaces}

    def read(self, source: HeldOutSource, judged: Sequence[RightAnswer]) -> _Part:
        """The images of a source; of stored items, those that answers name among them."""
        if source.data == MARKED:
            return self.marked()
        if source.data == STORED:
            return self.stored(None if source.answers is None else _names_in(judged))
        if not isinstance(source.data, ImageSet) and holds_embeddings(Path(source.data)):
            table = read_embeddings(Path(source.data), self.makers)
            return _Part(protocol(table.images, *source.splits), table.vectors, 0, table.answers)
        return self.extracted(source, judged)

    def in_gallery(self, asked: _Part, queries: str | None, judged: Sequence[RightAnswer]) -> _Part:
        """Images as queries of the stored items; those that are stored themselves would find themselves, and are left out."""
        images = asked.protocol.images
        rows = np.arange(len(images)) if queries is None else protocol(images, queries, queries).query
        labelled = not judged and bool((images.labels[rows] >= 0).all())
        stored = self.stored(None if labelled else {answer.item for answer in judged})
        items = stored.protocol.images
        known = np.isin(np.asarray(images.hashes)[rows], np.asarray(items.hashes))
        if known.any():
            self.watcher.said(f"{known.sum()} queries are stored themselves, and are left out")
        rows = rows[~known]
        if len(rows) == 0:
            raise InputError(
                "Every query is stored itself and would find itself: give images that are not in the gallery."
            )
        both = concatenate([_only_names(images.select(rows)), _only_names(items)])
        count = len(rows)
        return _Part(
            Protocol(
                both, np.arange(count), np.arange(count, len(both)), f"{count} queries in {len(items)} stored items"
            ),
            {name: np.concatenate([asked.vectors[name][rows], stored.vectors[name]]) for name in asked.vectors},
            asked.excluded + stored.excluded,
        )

    def marked(self) -> _Part:
        """Queries of which somebody has said what is right, in the stored items: stored ones, and pictures that were kept."""
        right = [mark for mark in self.holdings.marks.all() if mark.right]
        if not right:
            raise InputError("Nobody has marked a result as right yet: mark some on the page, and check then.")
        answers = [RightAnswer(mark.query, mark.item, 1.0) for mark in right]
        names = {mark.query for mark in right}
        stored = self.stored(_names_in(answers))
        items = stored.protocol.images
        pictures, vectors = self._kept_pictures(names, set(items.hashes))
        both = concatenate([_only_names(items), *([] if pictures is None else [pictures])])
        ids = items.item_ids or ()
        queries = [row for row, name in enumerate(ids) if name in names] + list(range(len(items), len(both)))
        return _Part(
            Protocol(both, np.array(queries, dtype=np.int64), np.arange(len(items)), f"{len(queries)} marked queries"),
            {name: np.concatenate([rows, *vectors.get(name, [])]) for name, rows in stored.vectors.items()},
            stored.excluded,
            answers,
        )

    def _kept_pictures(self, names: set[str], stored: set[str]) -> tuple[ImageSet | None, dict[str, list[Vectors]]]:
        """Pictures that were searched with, marked and not stored: without their pixels, and their vectors by generation.

        Args:
            names: content hashes of the marked ones.
            stored: content hashes of the stored items.
        """
        folder = self.holdings.marks.pictures
        if not (folder.is_dir() and any(path.stem in names for path in folder.iterdir())):
            return None, {}
        if not all(space.maker.extracts for space in self.spaces):
            self.watcher.said(
                "pictures that were searched with are left out, because not every generation can look at them"
            )
            return None, {}
        pictures: ImageSet | None = None
        vectors: dict[str, list[Vectors]] = {}
        for name, maker in self.makers.items():
            reader = ImageReader(self.holdings, watcher=self.watcher)
            read = reader.read(folder, maker.preprocessing, minimum_per_class=0)
            asked = read.select(np.flatnonzero([content in names and content not in stored for content in read.hashes]))
            if len(asked):
                pictures = _only_names(asked)
                vectors[name] = [extract(self.holdings, maker, asked, self.watcher)]
        return pictures, vectors

    def extracted(self, source: HeldOutSource, judged: Sequence[RightAnswer] = ()) -> _Part:
        """Images that the generations look at; vectors without a model are those of the stored items of the same content."""
        makers, holdings, watcher = self.makers, self.holdings, self.watcher
        # Where nothing extracts, the images serve only to name items.
        usual = Preprocessing.from_dict(holdings.state.preprocessing)
        sizes = list(dict.fromkeys(maker.preprocessing for maker in makers.values() if maker.extracts)) or [usual]
        if len(sizes) > 1 and isinstance(source.data, ImageSet):
            raise InputError(
                f"{', '.join(makers)} read images of different sizes: give the held-out images as files, not decoded ones."
            )
        reader, splits = ImageReader(holdings, source.data_dir, watcher), source.named_splits
        old = source.old_classes or ()

        def check(entries: Sequence[Entry]) -> None:
            source.enough(len(entries))
            require_some_named(judged, entries, str(source.answers), items=not source.is_in_gallery)

        read = {
            size: reader.read(source.data, size, minimum_per_class=0, splits=splits, any_of=old, check_entries=check)
            for size in sizes
        }
        images = read[sizes[-1]]
        source.enough(len(images))
        if any(version.hashes != images.hashes for version in read.values()):
            raise InputError("The held-out images changed while they were read: try again.")
        chosen = protocol(images, *source.splits)
        seen = _learned_from(holdings, makers.values(), images) if self.exclude else np.zeros(len(images), dtype=bool)
        vectors = {
            name: known_embeddings(holdings, maker, images) for name, maker in makers.items() if not maker.extracts
        }
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

    def stored(self, wanted: set[str] | None) -> _Part:
        """Items of the gallery: stored vectors, or their images extracted.

        Args:
            wanted: ids or addresses of items that must be among them, which labelled or not are then taken at random; ``None``
                for labelled ones, whole classes at a time.
        """
        holdings, makers = self.holdings, self.makers
        state = holdings.state
        view = state.view().before(state.refresh.id) if state.refresh else state.view()
        every = (item for batch in holdings.gallery.iterate(view=view) for item in batch)
        items = _sample([item for item in every if wanted is not None or item.label is not None], wanted)
        images = _images_of(items)
        seen = _learned_from(holdings, makers.values(), images) if self.exclude else np.zeros(len(images), dtype=bool)
        made: dict[str, Vectors] = {}
        left_out = seen.copy()
        for name, maker in makers.items():
            made[name], missing = _known_or_extracted(holdings, maker, items, images, self.watcher)
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


def _names_in(answers: Sequence[RightAnswer]) -> set[str]:
    return {name for answer in answers for name in (answer.query, answer.item)}


def _embedded(
    holdings: Holdings, space: Space, embeddings: Vectors, old_classes: Sequence[str] | None
) -> EmbeddedSpace:
    """A space with the classes that count as old in it: those given, those it learned, or its items' in the gallery."""
    learned = space.maker.card.classes
    if old_classes is not None or learned:
        given = old_classes is not None
        classes = learned if old_classes is None else tuple(old_classes)
        return EmbeddedSpace(space.name, space.fingerprint, embeddings, classes, "given" if given else "learned")
    state = holdings.state
    why = "no item of it in the gallery has a label"
    labels: dict[str, int] = {}
    try:
        view = state.view().before(state.refresh.id) if state.refresh else state.view()
        labels = holdings.gallery.count_by_label(Filter(generations=(space.fingerprint,)), view=view)
    except BusyError:
        why = "the gallery is in use"
    why = f"{space.name} knows no class, and {why}: name the old classes with --old-classes"
    return EmbeddedSpace(space.name, space.fingerprint, embeddings, tuple(labels), "gallery", why)


def _sample(items: list[Item], wanted: set[str] | None) -> list[Item]:
    """The stored items that are checked: whole classes, or, where some are wanted, these and others at random."""
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
    return np.array([int(short_hashes([content])[0]) in seen for content in images.hashes], dtype=bool)


def _only_names(images: ImageSet) -> ImageSet:
    """Images without their pixels."""
    return replace(
        images, pixels=np.zeros((1, 1, 1, 3), np.uint8), rows=np.zeros(len(images), np.int64), split=None, cameras=None
    )
