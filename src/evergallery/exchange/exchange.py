"""What other systems have made: their models become generations, their vectors items, and items tables again."""

import time as clock
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evergallery.data.images import Preprocessing, Skipped
from evergallery.data.vectors import VectorBatch, VectorTable, write_vectors
from evergallery.errors import InputError, NotFoundError, RefusedError
from evergallery.gallery.items import Filter, Item, LabelConflict, PutCounts
from evergallery.gallery.store import GalleryStore
from evergallery.generations.generation import (
    Generation,
    MethodCard,
    directory_name,
    fingerprint_of,
    vectors_fingerprint,
)
from evergallery.holdings.state import now
from evergallery.indexing.copies import at_known_addresses
from evergallery.network import Architecture, Embedder, Head, HeadKind, Network, build_backbone
from evergallery.network.backbones import load_weights
from evergallery.network.foreign import (
    PROBE_CELLS,
    function_model,
    function_name,
    onnx_model,
    onnx_preprocessing,
    probe,
    probe_batch,
    vectors_of,
)
from evergallery.redaction import redacted
from evergallery.watching import Watcher

# Of models that do not say what they expect: what most networks were trained with.
USUAL = {"size": 224, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
BATCH = 1000


@dataclass(frozen=True)
class Imported:
    """What ``import_vectors`` did.

    Attributes:
        generation: name of the one that the vectors belong to.
        is_new: whether it was made for them.
        added: items.
        replaced: items of the same id that said something else.
        unchanged: items that were there already.
        conflicts: items that have another label than the table says, and keep it; the first 100.
        conflict_count: how many those are in all.
        normalised: vectors that were not of unit length, and are now.
        skipped: bad rows.
        seconds: without the check of the table.
    """

    generation: str
    is_new: bool
    added: int
    replaced: int
    unchanged: int
    normalised: int
    skipped: tuple[Skipped, ...]
    seconds: float
    conflicts: tuple[LabelConflict, ...] = ()
    conflict_count: int = 0


@dataclass(frozen=True)
class Exported:
    """What ``export_vectors`` did."""

    generation: str
    items: int
    files: tuple[Path, ...]


def register(
    existing: Sequence[Generation],
    directory: Path,
    model: str | Path | Callable[..., Any],
    *,
    weights: str | Path | None,
    pretrained: bool,
    seed: int,
    head: HeadKind,
    **preprocessing: Any,
) -> Generation:
    """Write the generation of a foreign model, or return the one there is; see ``Workspace.register``.

    Args:
        existing: the generations there are.
        directory: where they lie.
        model: what to register.
        weights: file of weights, or ``None``.
        pretrained: whether published weights are loaded.
        seed: of initial weights.
        head: kind of the empty head that a network gets.
        **preprocessing: values of ``Preprocessing`` that are not the model's own.
    """
    name, place = _next(existing, directory)
    is_onnx = isinstance(model, str | Path) and str(model).lower().endswith(".onnx")
    if is_onnx or callable(model) or ":" in str(model):
        if weights is not None:
            raise InputError(f"{model} has its weights inside: leave --weights out.")
        return _register_foreign(existing, place, name, model, preprocessing, is_onnx)
    return _register_network(existing, place, name, str(model), weights, pretrained, seed, head, preprocessing)


def _register_network(
    existing: Sequence[Generation],
    place: Path,
    name: str,
    model: str,
    weights: str | Path | None,
    pretrained: bool,
    seed: int,
    head: HeadKind,
    given: dict[str, Any],
) -> Generation:
    own = build_backbone(model, seed=seed)
    usual = {"size": own.size, "interpolation": own.interpolation, "mean": own.mean, "std": own.std}
    preprocessing = Preprocessing(**{**usual, **given})
    embedder = Embedder(Architecture(backbone=model), pretrained=pretrained and weights is None, seed=seed)
    if weights is not None:
        load_weights(embedder.backbone, Path(weights).expanduser())
    network = Network(embedder, Head(embedder.dimension, 0, head)).eval()
    _check_on_probe(model, embedder, preprocessing)
    known = _known(existing, fingerprint_of(embedder, preprocessing))
    if known:
        return known
    origin = str(weights) if weights is not None else "pretrained" if pretrained else f"seed {seed}"
    method = MethodCard(name="register", parameters={"model": model, "weights": origin})
    return Generation.write(place, network, preprocessing, name=name, kind="model", parent=None, method=method)


def _register_foreign(
    existing: Sequence[Generation], place: Path, name: str, model: Any, given: dict[str, Any], is_onnx: bool
) -> Generation:
    path = Path(model).expanduser() if is_onnx else None
    if path is not None and not path.is_file():
        raise InputError(f"There is no file {path}: name an .onnx file.")
    own = {} if path is None else onnx_preprocessing(path)
    preprocessing = Preprocessing(**{**USUAL, **own, **given})
    found = (
        function_model(function_name(model), preprocessing.size)
        if path is None
        else onnx_model(path, preprocessing.size)
    )
    method = MethodCard(name="register", parameters={"model": found.name})
    known = _known(existing, fingerprint_of(found, preprocessing))
    return known or Generation.write_foreign(place, found, preprocessing, name=name, method=method)


def _check_on_probe(model: str, embedder: Embedder, preprocessing: Preprocessing) -> None:
    def run(_: object) -> object:
        return probe(embedder, preprocessing).numpy()

    vectors = vectors_of(model, run, probe_batch(len(PROBE_CELLS), preprocessing.size))
    if vectors.shape[1] != embedder.dimension:
        raise InputError(
            f"{model} makes vectors of {vectors.shape[1]} dimensions and says {embedder.dimension}: choose another model."
        )


def generation_of(
    table: VectorTable,
    existing: Sequence[Generation],
    directory: Path,
    into: Generation | None,
    *,
    occupied: bool,
) -> tuple[Generation, bool]:
    """The generation that a table's vectors belong to, and whether it was made for them.

    Args:
        table: the vectors.
        existing: the generations there are.
        directory: where they lie.
        into: the one that the user named, if any.
        occupied: whether the gallery holds vectors, which those of a new space cannot be compared with.

    Raises:
        InputError: another dimension than that of ``into``.
        RefusedError: the space is new and the gallery is not empty.
    """
    if into is not None:
        if table.dimension != into.card.dimension:
            raise InputError(
                f"{table.path} has vectors of {table.dimension} dimensions and {into.name} makes vectors of "
                f"{into.card.dimension}: name the generation that made them with --into."
            )
        return into, False
    fingerprint = vectors_fingerprint(table.content, table.dimension)
    known = (_known(existing, table.space) if table.space else None) or _known(existing, fingerprint)
    if known:
        return known, False
    if occupied:
        raise RefusedError(
            f"The gallery holds vectors already, and nothing says that those of {table.path} can be compared with them: "
            f"name the generation that made them with --into, or import them into another workspace."
        )
    name, place = _next(existing, directory)
    method = MethodCard(name="import", parameters={"table": table.path.name})
    made = Generation.write_vectors(place, name=name, dimension=table.dimension, content=table.content, method=method)
    return made, True


def import_vectors(
    store: GalleryStore, table: VectorTable, maker: Generation, is_new: bool, watcher: Watcher, *, relabel: bool = False
) -> Imported:
    """Put the vectors of a table into the gallery as those of ``maker``, each batch durable before the next."""
    started, time, done = clock.perf_counter(), now(), 0
    counts = PutCounts(0, 0, 0)
    for batch in table.batches(BATCH):
        items = list(_items(batch, maker.fingerprint, time))
        if not relabel:
            items = at_known_addresses(items, store.get_many(batch.ids, with_embeddings=False))
        counts += store.put(items, relabel=relabel)
        done += len(batch)
        watcher.counted("importing", done, table.rows)
    return Imported(
        maker.name,
        is_new,
        counts.added,
        counts.replaced,
        counts.unchanged,
        table.normalised,
        table.skipped,
        clock.perf_counter() - started,
        counts.conflicts,
        counts.conflict_count,
    )


def export_vectors(store: GalleryStore, makers: Sequence[Generation], path: Path, watcher: Watcher) -> Exported:
    """Write the vectors of one generation to a table, batch by batch.

    Args:
        store: the gallery.
        makers: the generation, or those that the gallery holds vectors of where none was named.
        path: its suffix is the format.
        watcher: hears of progress.

    Raises:
        NotFoundError: there is nothing to write.
        InputError: several generations, or a file that cannot be written.
    """
    if len(makers) > 1:
        names = ", ".join(maker.name for maker in makers)
        raise InputError(f"The gallery holds vectors of {names}: name one of them with --generation, each in its file.")
    where = Filter(generations=tuple(maker.fingerprint for maker in makers))
    rows = store.count(where)
    if not rows:
        whose = f" of {makers[0].name}" if makers else ""
        raise NotFoundError(f"The gallery holds no vectors{whose}: there is nothing to export.")
    maker = makers[0]

    def batches() -> Iterator[VectorBatch]:
        done = 0
        for items in store.iterate(where, batch_size=BATCH):
            yield _batch(items)
            done += len(items)
            watcher.counted("exporting", done, rows)

    files = write_vectors(path, batches(), rows=rows, dimension=maker.card.dimension, space=maker.fingerprint)
    return Exported(maker.name, rows, tuple(files))


def _items(batch: VectorBatch, fingerprint: str, time: str) -> Iterator[Item]:
    columns = (batch.ids, batch.embeddings, batch.labels, batch.uris, batch.content_hashes, batch.metadata)
    for identifier, embedding, label, uri, content, metadata in zip(*columns, strict=True):
        yield Item(identifier, embedding, fingerprint, label, uri, content, time, metadata)


def _batch(items: Sequence[Item]) -> VectorBatch:
    return VectorBatch(
        ids=tuple(item.id for item in items),
        embeddings=np.stack([item.embedding for item in items]),
        labels=tuple(item.label for item in items),
        uris=tuple(None if item.uri is None else redacted(item.uri) for item in items),
        content_hashes=tuple(item.content_hash for item in items),
        metadata=tuple(item.metadata for item in items),
    )


def _known(existing: Sequence[Generation], fingerprint: str) -> Generation | None:
    return next((generation for generation in existing if generation.fingerprint == fingerprint), None)


def _next(existing: Sequence[Generation], directory: Path) -> tuple[str, Path]:
    number = max((generation.number for generation in existing), default=0) + 1
    return f"v{number}", directory / directory_name(number)
