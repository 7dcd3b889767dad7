"""The embedded gallery beside what people would use instead, on the same vectors: building, searching, filtering, reopening.

Every contender gets the vectors in batches of a thousand, with an id and one label of a hundred. A batch of Evergallery, Qdrant
Edge, PostgreSQL, SQLite and LanceDB counts when it is durable; faiss and usearch keep their vectors in memory, and are written
to a file at the end. Questions go to all contenders in turn, eight in a row: the first ones after another contender find the
processor's caches cold. Evergallery answers with whole items, the others with ids. Then a second thread adds while questions are
asked, and memory is that of a process of its own, which opens what is stored and is asked.
"""

import argparse
import contextlib
import gc
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import faiss
import lancedb
import numpy as np
import psycopg
import pyarrow
import pysqlite3 as sqlite3  # Python's own may have been built without extensions.
import qdrant_edge as engine
import sqlite_vec
import usearch.index
from pgvector.psycopg import register_vector

from common import record
from evergallery.gallery import Filter
from evergallery.gallery.edge import EdgeStore, shard
from evergallery.gallery.edge.points import new_point
from evergallery.gallery.edge.shard import INDEXED
from gallery import GENERATION, LABELS, K, Vectors, bytes_on_disk, item, seconds_of

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from servers import postgres as postgres_server

BATCH = 1000
IN_A_ROW = 8
BATCHES = 6
"""In which all queries are asked together, of each contender; an even number, since every other time the order is reversed."""
MORE_BATCHES = 3
"""That are added while questions are asked."""
SOME_LABEL = 3
Ids = list[int]


class UnsupportedError(Exception):
    """A contender has no such search or index."""


class Peer:
    """A contender; what it cannot do raises ``UnsupportedError``."""

    title: str
    has_index = True

    def __init__(self, directory: Path, width: int) -> None:
        self.directory, self.width = directory, width
        directory.mkdir(parents=True, exist_ok=True)

    def add(self, ids: range, vectors: Vectors, labels: Any) -> None:
        """Store vectors (N, D) and their labels (N,)."""
        raise UnsupportedError

    def save(self) -> None:
        """Make durable what is not yet."""

    def index(self) -> None:
        """Build what approximate search needs."""

    def search(self, queries: Vectors, *, exact: bool, label: int | None = None) -> list[Ids]:
        """Ids of the nearest items of each query (Q, D)."""
        raise UnsupportedError

    def open(self) -> None:
        """Open what is stored."""
        raise UnsupportedError

    def adder(self) -> "Peer":
        """Who adds beside searches, in another thread."""
        raise UnsupportedError

    def disk(self) -> int:
        return bytes_on_disk(self.directory)

    def close(self) -> None:
        """Release what it holds."""


class Evergallery(Peer):
    title = "Evergallery"

    def __init__(self, directory: Path, width: int) -> None:
        super().__init__(directory, width)
        self.store = EdgeStore(directory / "gallery")

    def add(self, ids: range, vectors: Vectors, labels: Any) -> None:
        self.store.put(
            [
                item(identifier, vector, int(label))
                for identifier, vector, label in zip(ids, vectors, labels, strict=True)
            ]
        )

    def index(self) -> None:
        self.store.compact()

    def search(self, queries: Vectors, *, exact: bool, label: int | None = None) -> list[Ids]:
        where = Filter(labels=None if label is None else (f"class {label}",))
        found = self.store.search(queries, K, exact=exact, where=where)
        return [[int(match.item.id.split()[1]) for match in matches] for matches in found]

    def open(self) -> None:
        self.store = EdgeStore(self.directory / "gallery")

    def adder(self) -> Peer:
        return self

    def close(self) -> None:
        self.store.close()


class QdrantEdge(Peer):
    """Bare, with the same payload; it searches the shard that Evergallery has built, index and all."""

    title = "Qdrant Edge, bare"

    def __init__(self, directory: Path, width: int) -> None:
        super().__init__(directory, width)
        parameters = engine.EdgeVectorParams(size=width, distance=engine.Distance.Dot)
        self.own = engine.EdgeShard.create(str(directory), engine.EdgeConfig(vectors=parameters))
        for name in INDEXED:
            self.own.update(engine.UpdateOperation.create_field_index(name, engine.PayloadSchemaType.Keyword))
        self.searched: Any = self.own

    def add(self, ids: range, vectors: Vectors, labels: Any) -> None:
        items = [
            item(identifier, vector, int(label)) for identifier, vector, label in zip(ids, vectors, labels, strict=True)
        ]
        points = list(map(new_point, items))
        self.own.update(engine.UpdateOperation.upsert_points(points))
        self.own.flush()

    def index(self) -> None:
        raise UnsupportedError

    def search(self, queries: Vectors, *, exact: bool, label: int | None = None) -> list[Ids]:
        match = None if label is None else engine.MatchValue(f"class {label}")
        options: dict[str, Any] = {
            "with_payload": True,
            "filter": None if match is None else engine.Filter(must=[engine.FieldCondition("label", match=match)]),
            "params": engine.SearchParams(exact=exact),
        }
        nearest = [engine.Query.Nearest(query.tolist()) for query in queries]
        # The quickest that it has for one query, and for several.
        if len(nearest) == 1:
            found = [self.searched.search(engine.SearchRequest(nearest[0], K, **options))]
        else:
            requests = [engine.QueryRequest(K, query=query, **options) for query in nearest]
            found = self.searched.query_batch(engine.QueryBatchRequest(requests))
        return [[int(point.payload["id"].split()[1]) for point in points] for points in found]

    def open(self) -> None:
        self.own = self.searched = engine.EdgeShard.load(str(self.directory))

    def adder(self) -> Peer:
        return self

    def close(self) -> None:
        self.own.close()


class Faiss(Peer):
    def __init__(self, directory: Path, width: int) -> None:
        super().__init__(directory, width)
        self.labels = np.empty(0, np.int64)
        self.made: Any = self.new()

    def new(self) -> Any:
        """An empty index."""
        raise UnsupportedError

    def chosen(self, selector: Any) -> Any:
        """Parameters of a search among some items."""
        raise UnsupportedError

    def add(self, ids: range, vectors: Vectors, labels: Any) -> None:
        self.made.add(vectors)
        self.labels = np.concatenate([self.labels, labels])

    def save(self) -> None:
        faiss.write_index(self.made, str(self.directory / "index"))

    def search(self, queries: Vectors, *, exact: bool, label: int | None = None) -> list[Ids]:
        if label is None:
            found = self.made.search(queries, K)[1]
        else:
            # Its selector lives as long as the search: faiss keeps a bare pointer.
            selector = faiss.IDSelectorBatch(np.flatnonzero(self.labels % LABELS == label))
            found = self.made.search(queries, K, params=self.chosen(selector))[1]
        return [[place for place in row if place >= 0] for row in found.tolist()]

    def open(self) -> None:
        self.labels = np.empty(0, np.int64)
        self.made = faiss.read_index(str(self.directory / "index"))


class FaissFlat(Faiss):
    title = "faiss, flat"
    has_index = False

    def new(self) -> Any:
        return faiss.IndexFlatIP(self.width)

    def chosen(self, selector: Any) -> Any:
        return faiss.SearchParameters(sel=selector)


class FaissHnsw(Faiss):
    title = "faiss, HNSW"

    def new(self) -> Any:
        made = faiss.IndexHNSWFlat(self.width, 16, faiss.METRIC_INNER_PRODUCT)
        made.hnsw.efConstruction, made.hnsw.efSearch = 100, 100
        return made

    def chosen(self, selector: Any) -> Any:
        return faiss.SearchParametersHNSW(sel=selector, efSearch=100)

    def search(self, queries: Vectors, *, exact: bool, label: int | None = None) -> list[Ids]:
        if exact:
            raise UnsupportedError
        return super().search(queries, exact=exact, label=label)


class Usearch(Peer):
    title = "usearch"

    def __init__(self, directory: Path, width: int) -> None:
        super().__init__(directory, width)
        self.made = usearch.index.Index(
            ndim=width, metric="ip", dtype="f32", connectivity=16, expansion_add=100, expansion_search=100
        )

    def add(self, ids: range, vectors: Vectors, labels: Any) -> None:
        self.made.add(np.arange(ids.start, ids.stop), vectors, threads=1)

    def save(self) -> None:
        self.made.save(str(self.directory / "index"))

    def search(self, queries: Vectors, *, exact: bool, label: int | None = None) -> list[Ids]:
        if label is not None:
            raise UnsupportedError
        keys = self.made.search(queries, K, exact=exact, threads=1).keys
        return np.atleast_2d(keys).astype(np.int64).tolist()  # type: ignore[no-any-return]

    def adder(self) -> Peer:
        return self

    def open(self) -> None:
        self.made = usearch.index.Index.restore(str(self.directory / "index"), view=False)


class Lance(Peer):
    title = "LanceDB"

    def __init__(self, directory: Path, width: int) -> None:
        super().__init__(directory, width)
        vector = pyarrow.list_(pyarrow.float32(), width)
        fields = [("vector", vector), ("id", pyarrow.int64()), ("label", pyarrow.int64())]
        self.table = lancedb.connect(str(directory)).create_table("items", schema=pyarrow.schema(fields))

    def add(self, ids: range, vectors: Vectors, labels: Any) -> None:
        flat = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.ravel()), self.width)
        columns = {"vector": flat, "id": list(ids), "label": (labels % LABELS).tolist()}
        self.table.add(pyarrow.table(columns, schema=self.table.schema))

    def index(self) -> None:
        self.table.optimize()
        self.table.create_scalar_index("label")
        self.table.create_index(metric="dot", index_type="IVF_HNSW_SQ", num_partitions=1, m=16, ef_construction=100)

    def search(self, queries: Vectors, *, exact: bool, label: int | None = None) -> list[Ids]:
        answers = []
        for query in queries:
            asked = self.table.search(query).distance_type("dot").limit(K).select(["id"])
            asked = asked.bypass_vector_index() if exact else asked.ef(100)
            if label is not None:
                asked = asked.where(f"label = {label}", prefilter=True)
            answers.append(asked.to_arrow()["id"].to_pylist())
        return answers

    def adder(self) -> Peer:
        return self

    def open(self) -> None:
        self.table = lancedb.connect(str(self.directory)).open_table("items")


class Pgvector(Peer):
    title = "PostgreSQL, pgvector"

    def __init__(self, directory: Path, width: int, url: str) -> None:
        super().__init__(directory, width)
        self.url = url
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            connection.execute(f"CREATE TABLE items (id bigint PRIMARY KEY, label int, vector vector({width}))")
            connection.execute("CREATE INDEX ON items (label)")
        self.open()

    def open(self) -> None:
        self.connection = psycopg.connect(self.url, autocommit=True)
        register_vector(self.connection)
        self.connection.execute("SET max_parallel_workers_per_gather = 0")
        self.connection.execute("SET hnsw.ef_search = 100")
        self.connection.execute("SET hnsw.iterative_scan = strict_order")

    def add(self, ids: range, vectors: Vectors, labels: Any) -> None:
        copying = "COPY items FROM STDIN WITH (FORMAT BINARY)"
        with self.connection.transaction(), self.connection.cursor() as cursor, cursor.copy(copying) as copy:
            copy.set_types(["int8", "int4", "vector"])
            for identifier, vector, label in zip(ids, vectors, labels, strict=True):
                copy.write_row([identifier, int(label) % LABELS, vector])

    def index(self) -> None:
        self.connection.execute("SET maintenance_work_mem = '1GB'")
        self.connection.execute("SET max_parallel_maintenance_workers = 0")
        self.connection.execute(
            "CREATE INDEX ON items USING hnsw (vector vector_ip_ops) WITH (m = 16, ef_construction = 100)"
        )
        self.connection.execute("ANALYZE items")

    def search(self, queries: Vectors, *, exact: bool, label: int | None = None) -> list[Ids]:
        where = "" if label is None else f"WHERE label = {label}"
        with self.connection.transaction():
            if exact and label is None:
                self.connection.execute("SET LOCAL enable_indexscan = off")
            ask = f"SELECT id FROM items {where} ORDER BY vector <#> %s LIMIT {K}"
            return [[row[0] for row in self.connection.execute(ask, [query])] for query in queries]

    def disk(self) -> int:
        found = self.connection.execute("SELECT pg_total_relation_size('items')").fetchone()
        assert found is not None
        return int(found[0])

    def adder(self) -> Peer:
        return again(self)

    def close(self) -> None:
        self.connection.close()


class SqliteVec(Peer):
    title = "SQLite, sqlite-vec"
    has_index = False

    def __init__(self, directory: Path, width: int) -> None:
        super().__init__(directory, width)
        self.open()
        self.database.execute(
            f"CREATE VIRTUAL TABLE items USING vec0(vector float[{width}] distance_metric=cosine, label integer)"
        )

    def open(self) -> None:
        # It is used by one thread at a time.
        self.database = sqlite3.connect(self.directory / "items.sqlite", timeout=60, check_same_thread=False)
        self.database.enable_load_extension(True)
        sqlite_vec.load(self.database)

    def add(self, ids: range, vectors: Vectors, labels: Any) -> None:
        rows = [
            (identifier, v.tobytes(), int(n) % LABELS) for identifier, v, n in zip(ids, vectors, labels, strict=True)
        ]
        with self.database:
            self.database.executemany("INSERT INTO items(rowid, vector, label) VALUES (?, ?, ?)", rows)

    def search(self, queries: Vectors, *, exact: bool, label: int | None = None) -> list[Ids]:
        where = "" if label is None else f"AND label = {label}"
        ask = f"SELECT rowid FROM items WHERE vector MATCH ? AND k = {K} {where} ORDER BY distance"
        return [[row[0] for row in self.database.execute(ask, [query.tobytes()])] for query in queries]

    def adder(self) -> Peer:
        return again(self)

    def close(self) -> None:
        self.database.close()


KINDS: tuple[type[Peer], ...] = (Evergallery, QdrantEdge, FaissFlat, FaissHnsw, Usearch, Lance, Pgvector, SqliteVec)
PEERS = {kind.title: kind for kind in KINDS}


def again(peer: Peer, **known: Any) -> Peer:
    """Another of the same kind that has opened what a contender has stored."""
    made = type(peer).__new__(type(peer))
    made.__dict__.update(
        {name: getattr(peer, name) for name in ("directory", "width", "url") if hasattr(peer, name)}, **known
    )
    made.open()
    return made


def clustered(count: int, width: int) -> tuple[Vectors, Any, Vectors]:
    """Unit vectors (count, width) around one centre per fifty, their clusters, and 200 queries around the same centres."""
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(max(1, count // 50), width)).astype(np.float32)

    def around(clusters: Any) -> Vectors:
        rows = centres[clusters] + 0.7 * draw.normal(size=(len(clusters), width)).astype(np.float32)
        made: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return made

    clusters = draw.integers(len(centres), size=count)
    return around(clusters), clusters, around(draw.integers(len(centres), size=200))


def truth(vectors: Vectors, rows: Any, queries: Vectors) -> list[set[int]]:
    scores = queries @ vectors[rows].T
    return [set(rows[np.argpartition(-line, K - 1)[:K]].tolist()) for line in scores]


def recall(found: list[Ids], best: list[set[int]]) -> float:
    return float(np.mean([len(set(ids) & right) / len(right) for ids, right in zip(found, best, strict=True)]))


class Taken(NamedTuple):
    """Milliseconds of a query, by the clock and of this process's processors, which other work disturbs less."""

    clock: float
    processor: float


def time_of(run: Callable[[], object], queries: int) -> Taken:
    """What a call takes that asks so many queries."""
    clock, processor = time.perf_counter(), time.process_time()
    run()
    spent = time.process_time() - processor
    return Taken(1000 * (time.perf_counter() - clock) / queries, 1000 * spent / queries)


def median(times: Sequence[Taken], what: Literal["clock", "processor"]) -> float:
    return round(float(statistics.median(getattr(one, what) for one in times)), 3)


def asked(
    peers: list[Peer], queries: Vectors, best: list[set[int]], rounds: int, *, exact: bool, label: int | None
) -> dict[str, dict[str, float]]:
    """Milliseconds of a question, one at a time and as a batch, to each contender in turn, and recall."""

    def ask(peer: Peer, some: Vectors) -> Callable[[], list[Ids]]:
        return partial(peer.search, some, exact=exact, label=label)

    able, told = [], {}
    for peer in peers:
        if not exact and not peer.has_index:
            continue
        with contextlib.suppress(UnsupportedError):
            told[peer.title] = {"recall@10": round(recall(ask(peer, queries)(), best), 4)}
            able.append(peer)
    single: dict[str, list[Taken]] = {peer.title: [] for peer in able}
    batch: dict[str, list[Taken]] = {peer.title: [] for peer in able}
    for turn in range(rounds):
        gc.collect()
        for peer in able if turn % 2 else reversed(able):
            for number in range(IN_A_ROW):
                query = queries[(IN_A_ROW * turn + number) % len(queries)][None]
                single[peer.title].append(time_of(ask(peer, query), 1))
    for turn in range(BATCHES):
        for peer in able if turn % 2 else reversed(able):
            batch[peer.title].append(time_of(ask(peer, queries), len(queries)))
    for peer in able:
        told[peer.title] |= {
            "one, ms": median(single[peer.title], "clock"),
            "one at best, ms": round(min(one.clock for one in single[peer.title]), 3),
            "one, ms of a processor": median(single[peer.title], "processor"),
            "in a batch, ms": median(batch[peer.title], "clock"),
            "in a batch, ms of a processor": median(batch[peer.title], "processor"),
        }
    return told


def adding_beside(peers: list[Peer], start: int, width: int, queries: Vectors) -> dict[str, dict[str, float]]:
    """Milliseconds of a question by index, or an exact one without, while another thread adds; and vectors added a second."""
    vectors, clusters, _ = clustered(MORE_BATCHES * BATCH, width)
    told: dict[str, dict[str, float]] = {}
    for peer in peers:
        with contextlib.suppress(UnsupportedError):
            adder, taken, asked_for = peer.adder(), 0.0, list[float]()

            def add(adder: Peer = adder) -> None:
                nonlocal taken
                for first in range(0, len(vectors), BATCH):
                    ids, rows = range(start + first, start + first + BATCH), slice(first, first + BATCH)
                    taken += seconds_of(partial(adder.add, ids, vectors[rows], clusters[rows]))

            thread = threading.Thread(target=add)
            thread.start()
            while thread.is_alive():
                query = queries[len(asked_for) % len(queries)][None]
                asked_for.append(1000 * seconds_of(partial(peer.search, query, exact=not peer.has_index)))
            thread.join()
            if adder is not peer:
                adder.close()
            told[peer.title] = {
                "one, ms": round(statistics.median(asked_for), 3),
                "slowest of a hundred, ms": round(float(np.percentile(asked_for, 99)), 3),
                "vectors added a second": round(len(vectors) / taken),
            }
    return told


def resident() -> int:
    """Bytes of this process that are in memory, files that it has mapped among them."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def memory(title: str, directory: Path, width: int, queries: Vectors) -> float:
    """MiB by which a process grows that opens what a contender has stored, and asks it."""
    kind = PEERS[title]
    before = resident()
    empty = kind.__new__(kind)
    peer = again(empty, directory=directory, width=width)
    peer.search(queries, exact=not peer.has_index)
    found = (resident() - before) / 2**20
    peer.close()
    return found


def memory_of(peer: Peer) -> float:
    """The same, asked of a process of its own."""
    stored = ["--width", str(peer.width), "--memory", peer.title, "--stored", str(peer.directory)]
    command = [sys.executable, __file__, *stored]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return round(float(done.stdout.splitlines()[-1]), 1)


@contextlib.contextmanager
def contenders(directory: Path, width: int, titles: Sequence[str]) -> Iterator[list[Peer]]:
    with ExitStack() as stack:
        peers: list[Peer] = []
        for title in titles:
            kind, place = PEERS[title], directory / str(len(peers))
            if issubclass(kind, Pgvector):
                peers.append(kind(place, width, stack.enter_context(postgres_server(sync=True))))
            else:
                peers.append(kind(place, width))
        for peer in peers:
            stack.enter_context(closing(peer))
        yield peers


def measured(
    count: int,
    width: int,
    rounds: int,
    titles: Sequence[str],
    directory: Path,
    keep: Callable[[dict[str, Any]], None],
) -> None:
    vectors, clusters, queries = clustered(count, width)
    one_label = np.flatnonzero(clusters % LABELS == SOME_LABEL)
    best = {"all": truth(vectors, np.arange(count), queries), "one label": truth(vectors, one_label, queries)}
    result: dict[str, Any] = {"vectors": count, "dimensions": width, "queries": len(queries), "rounds": rounds}
    shard.INDEX_FROM = 1  # The product builds an index from more vectors on; here always.
    with contenders(directory, width, titles) as peers:
        adding = {peer.title: 0.0 for peer in peers}
        for start in range(0, count, BATCH):
            ids = range(start, min(start + BATCH, count))
            for peer in peers:
                adding[peer.title] += seconds_of(
                    partial(peer.add, ids, vectors[start : ids.stop], clusters[start : ids.stop])
                )
        for peer in peers:
            adding[peer.title] += seconds_of(peer.save)
        result["adding, s"] = {name: round(taken, 2) for name, taken in adding.items()}
        keep(result)
        ours, bare = peers[0], peers[1]
        assert isinstance(ours, Evergallery)
        assert isinstance(bare, QdrantEdge)
        bare.searched = ours.store._shards[GENERATION]._engine
        for what, label in (("exact", None), ("exact, one label in a hundred", SOME_LABEL)):
            result[what] = asked(
                peers, queries, best["all" if label is None else "one label"], rounds, exact=True, label=label
            )
            keep(result)
        result["indexing, s"] = {}
        for peer in peers:
            if peer.has_index:
                with contextlib.suppress(UnsupportedError):
                    result["indexing, s"][peer.title] = round(seconds_of(peer.index), 2)
        # Compacting has put another shard in the place of the one before.
        bare.searched = ours.store._shards[GENERATION]._engine
        for what, label in (("index", None), ("index, one label in a hundred", SOME_LABEL)):
            result[what] = asked(
                peers, queries, best["all" if label is None else "one label"], rounds, exact=False, label=label
            )
            keep(result)
        for peer in peers:
            peer.save()
        result["bytes a vector"] = {peer.title: round(peer.disk() / count) for peer in peers}
        bare.searched = bare.own
        result["reopening to the first answer, s"] = {}
        for peer in peers:
            with contextlib.suppress(UnsupportedError):
                peer.close()
                if not isinstance(peer, Pgvector):
                    result.setdefault("memory, MiB", {})[peer.title] = memory_of(peer)
                started = time.perf_counter()
                peer.open()
                peer.search(queries[:1], exact=not peer.has_index)
                result["reopening to the first answer, s"][peer.title] = round(time.perf_counter() - started, 3)
        keep(result)
        result["adding beside questions"] = adding_beside(peers, count, width, queries)
        keep(result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument(
        "--threads", type=int, default=1, help="of faiss; the others are asked for one, or take what they take"
    )
    parser.add_argument(
        "--peers", nargs="+", choices=list(PEERS), default=list(PEERS), help="the first two are always measured"
    )
    parser.add_argument(
        "--memory", metavar="TITLE", help="say how much memory what a contender has stored takes, and end"
    )
    parser.add_argument("--stored", type=Path, help="its directory")
    options = parser.parse_args()
    options.peers = [title for number, title in enumerate(PEERS) if number < 2 or title in options.peers]
    if options.memory:
        print(memory(options.memory, options.stored, options.width, clustered(200, options.width)[2]))
        return
    faiss.omp_set_num_threads(options.threads)
    packages = ("qdrant-edge-py", "faiss-cpu", "usearch", "lancedb", "pgvector", "sqlite-vec")
    head = {"threads": options.threads, "versions": {name: version(name) for name in packages}}
    name = "peers" if len(options.peers) == len(PEERS) else "peers_some"
    directory = Path(tempfile.mkdtemp())
    try:
        measured(
            options.size, options.width, options.rounds, options.peers, directory,
            lambda found: record(f"{name}-{options.size}-{options.width}", {**head, **found}, seed=0),
        )  # fmt: skip
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
