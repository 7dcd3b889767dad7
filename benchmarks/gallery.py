"""The embedded gallery beside its bare engine: loading, searching exactly and approximately, filtering, deleting, reopening.

Bare is Qdrant Edge called directly, with the same points, the same payload and the same durability: a batch counts when it is
flushed, a result when its payload has been read. Searches of both go to the same shard of the same process in turn, so that
neither has other files, another graph or another moment than the other.
"""

import argparse
import gc
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as engine
from numpy.typing import NDArray

from common import record
from evergallery.gallery import Filter, Item
from evergallery.gallery.edge import EdgeStore, shard
from evergallery.gallery.edge.points import new_point
from evergallery.gallery.edge.shard import INDEXED

K, BATCH, DIMENSION, GENERATION = 10, 1000, 128, "a" * 64
LABELS = 100
# Loading is compared on so many items at most: the shard that the bare engine fills is thrown away.
COMPARED = 50_000
Vectors = NDArray[np.float32]


def clustered(count: int, seed: int) -> tuple[Vectors, NDArray[np.int64], Vectors]:
    """Unit vectors (count, D) around one centre per fifty, their clusters, and a batch of queries around the same centres."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(max(1, count // 50), DIMENSION)).astype(np.float32)

    def around(clusters: NDArray[np.int64]) -> Vectors:
        rows = centres[clusters] + 0.7 * draw.normal(size=(len(clusters), DIMENSION)).astype(np.float32)
        made: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return made

    clusters = draw.integers(len(centres), size=count)
    return around(clusters), clusters, around(draw.integers(len(centres), size=BATCH))


def item(number: int, vector: Vectors, cluster: int) -> Item:
    return Item(
        id=f"item {number}",
        embedding=vector,
        generation=GENERATION,
        label=f"class {cluster % LABELS}",
        uri=f"photos/{number}.jpg",
        content_hash=f"{number:064x}",
        added="2026-01-01T00:00:00+00:00",
        metadata={"shop": "north"},
    )


def in_turn(calls: Sequence[tuple[Callable[[], object], Callable[[], object]]], repeats: int) -> dict[str, float]:
    """Ours and bare, each call in turn: median milliseconds of a call, and by how much ours takes longer.

    By the clock, and by what the processors spent, which other work on the machine disturbs less.
    """
    clock: list[list[float]] = [[], []]
    spent: list[list[float]] = [[], []]
    for turn in range(-1, repeats):
        gc.collect()
        for number, pair in enumerate(calls):
            for who in (0, 1) if (turn + number) % 2 else (1, 0):
                start, start_spent = time.perf_counter(), time.process_time()
                pair[who]()
                if turn >= 0:
                    spent[who].append(time.process_time() - start_spent)
                    clock[who].append(time.perf_counter() - start)
    ours, bare = map(statistics.median, clock)
    ours_spent, bare_spent = map(statistics.median, spent)
    return {
        "ms": 1000 * ours,
        "bare_ms": 1000 * bare,
        "overhead": ours / bare - 1,
        "overhead_of_processor_time": ours_spent / bare_spent - 1,
    }


def load(store: EdgeStore, bare: engine.EdgeShard, vectors: Vectors, clusters: NDArray[np.int64]) -> dict[str, float]:
    """Put everything; the first items into the bare engine too, batch by batch in turn."""
    taken: dict[str, list[float]] = {"ours": [], "bare": []}
    spent: dict[str, list[float]] = {"ours": [], "bare": []}
    for first in range(0, len(vectors), BATCH):
        rows = range(first, min(first + BATCH, len(vectors)))
        items = [item(row, vectors[row], int(clusters[row])) for row in rows]

        def put_bare(items: list[Item] = items) -> None:
            points = list(map(new_point, items))
            bare.update(engine.UpdateOperation.upsert_points(points))
            bare.flush()

        runs: list[tuple[str, Callable[[], object]]] = [("ours", partial(store.put, items))]
        if first < COMPARED:
            runs.insert(first // BATCH % 2, ("bare", put_bare))
        for name, run in runs:
            start_spent = time.process_time()
            taken[name].append(seconds_of(run))
            spent[name].append(time.process_time() - start_spent)
    compared = len(taken["bare"])
    bare_median = statistics.median(taken["bare"])
    return {
        "items_per_s": len(vectors) / sum(taken["ours"]),
        "batch_ms": 1000 * statistics.median(taken["ours"][:compared]),
        "bare_batch_ms": 1000 * bare_median,
        "overhead": statistics.median(taken["ours"][:compared]) / bare_median - 1,
        "overhead_of_processor_time": sum(spent["ours"][:compared]) / sum(spent["bare"]) - 1,
    }


def condition_of(labels: list[str] | None) -> engine.Filter | None:
    """The quickest condition of the bare engine that asks for one of these labels."""
    if not labels:
        return None
    match = engine.MatchValue(labels[0]) if len(labels) == 1 else engine.MatchAny(labels)
    return engine.Filter(must=[engine.FieldCondition("label", match=match)])


def searches(store: EdgeStore, queries: Vectors, *, exact: bool, repeats: int, where: Filter, condition: Any) -> Any:
    """A single query, and a batch of a thousand, by ours and by the bare engine."""
    bare_shard = store._shards[GENERATION]._engine

    options: dict[str, Any] = {
        "with_payload": True,
        "filter": condition,
        "params": engine.SearchParams(exact=exact),
    }

    def bare(batch: Vectors) -> list[list[tuple[float, Any]]]:
        nearest = [engine.Query.Nearest(query.tolist()) for query in batch]
        # The quickest that it has for one query, and for several.
        if len(nearest) == 1:
            found = [bare_shard.search(engine.SearchRequest(nearest[0], K, **options))]
        else:
            requests = [engine.QueryRequest(K, query=query, **options) for query in nearest]
            found = bare_shard.query_batch(engine.QueryBatchRequest(requests))
        return [[(point.score, point.payload) for point in points] for points in found]

    def ours(batch: Vectors) -> object:
        return store.search(batch, K, exact=exact, where=where)

    single = [(partial(ours, query), partial(bare, query)) for query in queries[:100, None]]
    return {
        "single": in_turn(single, repeats),
        "batch": in_turn([(partial(ours, queries), partial(bare, queries))], repeats),
    }


def neighbours(vectors: Vectors, rows: NDArray[np.int64], queries: Vectors) -> list[set[str]]:
    """The true K nearest of some rows for each query, by a blocked product."""
    best_scores = np.full((len(queries), K), -2, np.float32)
    best = np.zeros((len(queries), K), np.int64)
    for first in range(0, len(rows), 50_000):
        block = rows[first : first + 50_000]
        scores = np.concatenate([best_scores, queries @ vectors[block].T], axis=1)
        names = np.concatenate([best, np.broadcast_to(block, (len(queries), len(block)))], axis=1)
        chosen = np.argpartition(-scores, K - 1, axis=1)[:, :K]
        best_scores, best = np.take_along_axis(scores, chosen, 1), np.take_along_axis(names, chosen, 1)
    return [{f"item {row}" for row in line} for line in best]


def recall(store: EdgeStore, truth: list[set[str]], queries: Vectors, where: Filter, *, exact: bool) -> float:
    found = store.search(queries, K, where=where, exact=exact)
    hits = [len({match.item.id for match in matches} & true) / K for matches, true in zip(found, truth, strict=True)]
    return float(np.mean(hits))


def bytes_on_disk(directory: Path) -> int:
    """Blocks in use, so that holes in files count for nothing."""
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file())


def by_product(vectors: Vectors, query: Vectors) -> object:
    return np.argpartition(-(vectors @ query), K)


def memory() -> dict[str, float]:
    """MiB of this process: of its own, and of files that it has mapped, which the system may drop."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(lines[key].split()[0]) / 1024 for name, key in (("own", "RssAnon"), ("mapped", "RssFile"))}


def seconds_of(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(count: int, directory: Path, options: argparse.Namespace, save: Callable[[dict[str, Any]], None]) -> None:
    """Everything about a gallery of so many items; what is known is saved after each step, since a large one takes long."""
    vectors, clusters, queries = clustered(count, options.seed)
    queries = queries[: options.batch]
    # The product builds an index from INDEX_FROM vectors on; here always, so that one can see where it begins to win.
    shard.INDEX_FROM = 1
    result: dict[str, Any] = {"batch": len(queries)}
    before = memory()
    store = EdgeStore(directory / "ours")
    if store.count() < count:
        (directory / "bare").mkdir()
        parameters = engine.EdgeVectorParams(size=DIMENSION, distance=engine.Distance.Dot)
        bare = engine.EdgeShard.create(str(directory / "bare"), engine.EdgeConfig(vectors=parameters))
        for name in INDEXED:
            bare.update(engine.UpdateOperation.create_field_index(name, engine.PayloadSchemaType.Keyword))
        result["load"] = load(store, bare, vectors, clusters)
        bare.close()
        save(result)
    store = reopened(store, directory, result, "loaded", count, queries)
    save(result)

    half = [f"class {number}" for number in range(LABELS // 2)]
    filters: dict[str, list[str] | None] = {"no filter": None, "half of the labels": half, "one label": ["class 3"]}
    admitted = {
        name: np.flatnonzero(np.isin(clusters % LABELS, [int(label.split()[1]) for label in labels]))
        if labels
        else np.arange(count)
        for name, labels in filters.items()
    }
    truth = {name: neighbours(vectors, rows, queries) for name, rows in admitted.items()}
    for way, exact in (("exact", True), ("index", False)):
        if not exact:
            result["compact_s"] = seconds_of(store.compact)
            result["index_as_compact_measured_it"] = vars(store.indexes()[GENERATION])
            save(result)
        result[way] = {}
        for name, labels in filters.items():
            where = Filter(labels=tuple(labels) if labels else None)
            condition = condition_of(labels)
            measured = searches(store, queries, exact=exact, repeats=options.repeats, where=where, condition=condition)
            measured["recall@10"] = recall(store, truth[name], queries, where, exact=exact)
            result[way][name] = measured
            save(result)
    matmul = [seconds_of(partial(by_product, vectors, query)) for query in queries[:20]]
    result["numpy_exact_single_ms"] = 1000 * statistics.median(matmul)
    result["memory_mib"] = {name: value - before[name] for name, value in memory().items()}

    gone = [f"item {number}" for number in range(0, count, 10)]
    took = seconds_of(lambda: [store.delete(gone[first : first + BATCH]) for first in range(0, len(gone), BATCH)])
    result["delete_items_per_s"] = len(gone) / took
    left = neighbours(vectors, np.setdiff1d(np.arange(count), np.arange(0, count, 10)), queries)
    result["recall@10_after_deleting_a_tenth"] = {
        way: recall(store, left, queries, Filter(), exact=exact) for way, exact in (("exact", True), ("index", False))
    }
    reopened(store, directory, result, "compacted", count - len(gone), queries).close()
    save(result)


def reopened(
    store: EdgeStore, directory: Path, result: dict[str, Any], when: str, count: int, queries: Vectors
) -> EdgeStore:
    """Close and open it again: seconds, bytes, and whether everything is there."""
    close_s = seconds_of(store.close)
    opened: list[EdgeStore] = []
    open_s = seconds_of(lambda: opened.append(EdgeStore(directory / "ours")))
    assert opened[0].count() == count
    result[when] = {
        "close_s": close_s,
        "open_s": open_s,
        "first_search_s": seconds_of(lambda: opened[0].search(queries[:1], K, exact=None)),
        "disk_bytes_per_item": bytes_on_disk(directory / "ours") / count,
    }
    return opened[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 50_000, 100_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=BATCH, help="queries in a batch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--directory", type=Path, help="where the galleries are made; a temporary one by default")
    parser.add_argument("--keep", action="store_true", help="a gallery that is loaded, for the next run to go on with")
    parser.add_argument("--name", default="gallery", help="of the result file")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for count in options.sizes:
        at_first = os.getloadavg()

        def save(result: dict[str, Any], count: int = count, at_first: tuple[float, ...] = at_first) -> None:
            results[str(count)] = result | {"load_average": {"before": at_first, "after": os.getloadavg()}}
            results["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            record(options.name, results, options.seed)

        with tempfile.TemporaryDirectory(dir=options.directory) as temporary:
            directory = options.directory / str(count) if options.keep else Path(temporary)
            directory.mkdir(parents=True, exist_ok=True)
            measure(count, directory, options, save)


if __name__ == "__main__":
    main()
