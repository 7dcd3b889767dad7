"""PostgreSQL beside the embedded engine: loading, copying, exact and approximate search, room, at one size.

The server is the one that the tests start, or that of EVERGALLERY_POSTGRES_URL; what it acknowledges it has synced to disk, as
the embedded engine has. Queries go to all galleries in turn. Where exact search and the index cross says from which size on
``compact`` should build one.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from common import record
from evergallery.gallery import Filter, GalleryStore, Item, open_store
from evergallery.gallery.copying import copy_gallery
from evergallery.gallery.postgres import store as postgres
from evergallery.watching import Watcher

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from servers import postgres as postgres_server
from servers import schema

K, BATCH, DIMENSION, GENERATION, LABELS = 10, 1000, 128, "a" * 64, 100


def clustered(count: int, draw: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Unit vectors (count, D) around one centre per fifty."""
    centres = draw.normal(size=(max(1, count // 50), DIMENSION)).astype(np.float32)
    rows = centres[draw.integers(len(centres), size=count)]
    rows += 0.7 * draw.normal(size=rows.shape).astype(np.float32)
    made: np.ndarray[Any, np.dtype[np.float32]] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return made


def item(number: int, vector: np.ndarray[Any, np.dtype[np.float32]]) -> Item:
    return Item(
        id=f"item {number}",
        embedding=vector,
        generation=GENERATION,
        label=f"class {number % LABELS}",
        uri=f"photos/{number}.jpg",
        content_hash=f"{number:064x}",
        added="2026-01-01T00:00:00+00:00",
        metadata={"shop": "north"},
    )


def in_turn(
    stores: dict[str, GalleryStore], ask: Callable[[GalleryStore, int], object], rounds: int
) -> dict[str, float]:
    """Median milliseconds of a question to each gallery."""
    taken: dict[str, list[float]] = {name: [] for name in stores}
    for number in range(-2, rounds):
        for name, store in stores.items():
            start = time.perf_counter()
            ask(store, number)
            if number >= 0:
                taken[name].append(1000 * (time.perf_counter() - start))
    return {name: round(statistics.median(values), 3) for name, values in taken.items()}


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def room(name: str, place: str, store: Any) -> int:
    """Bytes that a gallery takes."""
    if name == "edge":
        return sum(path.stat().st_blocks * 512 for path in Path(place).rglob("*") if path.is_file())
    with store._database.connection() as connection:
        table = f"{store._database.schema}.versions"
        return int(connection.execute("SELECT pg_total_relation_size(%s::regclass)", [table]).fetchone()[0])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--size", type=int, default=100_000)
    arguments.add_argument("--rounds", type=int, default=50)
    size, rounds = (given := arguments.parse_args()).size, given.rounds
    draw = np.random.default_rng(0)
    vectors = clustered(size + 200, draw)
    queries, vectors = vectors[size:], vectors[:size]
    result: dict[str, Any] = {"items": size, "dimension": DIMENSION}
    postgres.INDEXED_FROM = 1
    with ExitStack() as stack:
        url = stack.enter_context(postgres_server(sync=True))
        places = {
            "edge": str(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "gallery"),
            "postgres float32": stack.enter_context(schema(url)),
            "postgres float16": stack.enter_context(schema(url)),
            "postgres copy": stack.enter_context(schema(url)),
        }
        stores = {
            name: stack.enter_context(closing(open_store(place, precision="float16" if "float16" in name else None)))
            for name, place in places.items()
        }
        copied = stores.pop("postgres copy")
        loading = dict.fromkeys(stores, 0.0)
        for start in range(0, size, BATCH):
            items = [item(number, vectors[number]) for number in range(start, min(size, start + BATCH))]
            for name, store in stores.items():
                loading[name] += seconds(partial(store.put, items))
        result["puts_per_second"] = {name: round(size / taken) for name, taken in loading.items()}
        taken = seconds(lambda: copy_gallery(stores["edge"], copied, Watcher()))
        result["copied_and_compared_per_second"] = round(size / taken)
        result["exact_ms"] = in_turn(stores, lambda store, n: store.search(queries[n][None], K), rounds)
        rare = Filter(labels=("class 7",))
        result["exact_of_one_label_ms"] = in_turn(
            stores, lambda store, n: store.search(queries[n][None], K, where=rare), rounds
        )
        result["compact_s"] = {name: round(seconds(store.compact), 1) for name, store in stores.items()}
        result["recall_of_the_index"] = {
            name: round(index.recall, 4) for name, store in stores.items() for index in store.indexes().values()
        }
        result["approximate_ms"] = in_turn(
            stores, lambda store, n: store.search(queries[n][None], K, exact=False), rounds
        )
        truth = [{match.item.id for match in found} for found in stores["edge"].search(queries, K)]
        result["recall_of_exact_search"] = {
            name: float(np.mean([len({m.item.id for m in found} & best) / K for found, best in
                                 zip(store.search(queries, K), truth, strict=True)]))
            for name, store in stores.items()
        }  # fmt: skip
        result["bytes_per_item"] = {
            name: round(room(name, places[name], store) / size) for name, store in stores.items()
        }
    record(f"engines-{size}", result, seed=0)


if __name__ == "__main__":
    main()
