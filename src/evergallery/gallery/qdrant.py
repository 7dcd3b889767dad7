"""The engine of a Qdrant server or cluster: a collection in which each point is an item with all its versions.

The vectors of a point are named by their generations, and its payload describes each version. So whatever changes an item
changes one point, which the server does whole or not at all, and no move between generations can stop half way. Conditions are
on one version at a time, which Qdrant calls nested.

Nothing locks a collection: one process at a time may write, while others read.
"""

import json
import os
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from evergallery.errors import DamagedError, InputError, MissingExtraError, NotFoundError, RefusedError
from evergallery.gallery.items import (
    Filter,
    Item,
    Match,
    Precision,
    PutCounts,
    View,
    check_items,
    check_queries,
    metadata_terms,
)
from evergallery.gallery.places import without_password
from evergallery.gallery.points import point_id
from evergallery.gallery.recall import Index
from evergallery.gallery.store import EVERYTHING, NO_FILTER
from evergallery.gallery.versions import (
    awaited_by,
    best_of,
    changed_by,
    check_dimensions,
    check_versions,
    place,
    problem_of,
    rounded,
    seen_of,
)

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

FORMAT = 1
PORT = 6333
BATCH = 1000
SECONDS = 60
API_KEY = "QDRANT_API_KEY"
TYPES: tuple[Precision, ...] = ("float32", "float16")
INDEXED = ("generation", "label", "uri", "content_hash", "metadata_terms", "refresh", "superseded")
# What describes a version beside its vector; the metadata are text, so that numbers come back as they were.
DESCRIBED = ("generation", "label", "uri", "content_hash", "added", "refresh", "superseded")
# A question that has met so many moves waits for the writer instead.
HASTY_READS = 3

Answer = TypeVar("Answer")


class QdrantStore:
    """A gallery in a collection of a Qdrant server; see ``GalleryStore`` for what its methods promise.

    One process at a time may write to it, others may read meanwhile: an answer that took them several requests, for instance
    a search in several generations, may miss an item, or count it twice, that moves at that moment. How much of what was
    acknowledged survives a loss of power is up to the server's settings and its replicas.

    Args:
        url: ``qdrant://host:6333/COLLECTION``, or ``qdrant+https://…``; a key comes from ``QDRANT_API_KEY``.
        view: asked by every reading method at its start which versions are seen.
        precision: of the vectors of a new gallery, ``float32`` by default, or ``float16``; an older one must have it.
        create: whether the gallery is made where it is missing.

    Raises:
        MissingExtraError: the extra ``qdrant`` is not installed.
        InputError: the URL cannot be used, or the gallery has another precision.
        NotFoundError: the server does not answer, or has no such gallery.
        DamagedError: the collection is of a newer format, or is no gallery.
    """

    def __init__(
        self,
        url: str,
        view: Callable[[], View] = lambda: EVERYTHING,
        *,
        precision: Precision | None = None,
        create: bool = True,
    ) -> None:
        self.url = without_password(url)
        self._view = view
        self._collection = _collection_of(self.url)
        self._one_writer = threading.RLock()
        # Odd while a batch is being written.
        self._writes = 0
        self._client = client_of(self.url)
        try:
            self._precision = self._prepare(precision, create)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    @property
    def precision(self) -> Precision:
        """How the vectors are kept."""
        return self._precision

    def __enter__(self) -> "QdrantStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self, precision: Precision | None, create: bool) -> Precision:
        """Make the collection where it is missing; returns the precision of the gallery."""
        with self._explained():
            if not self._client.collection_exists(self._collection):
                if not create:
                    raise NotFoundError(
                        f"There is no gallery {self.url}: make one with  evergallery init --store  or  evergallery gallery copy"
                    )
                self._create(precision or "float32")
            about = self._client.get_collection(self._collection).config.metadata or {}
        if about.get("evergallery", FORMAT + 1) > FORMAT:
            raise DamagedError(
                f"The collection {self.url} is no gallery that this version of Evergallery reads: name another one, or install "
                f"a newer Evergallery."
            )
        held: Precision = about["precision"]
        if precision not in (None, held):
            raise InputError(
                f"The gallery {self.url} keeps vectors as {held}, not as {precision}: copy it into another one with  "
                f"evergallery gallery copy"
            )
        return held

    def _create(self, precision: Precision) -> None:
        from qdrant_client import models

        if precision not in TYPES:
            raise InputError(
                f"A gallery in Qdrant keeps vectors as {' or '.join(TYPES)}, not as {precision}: choose one of these."
            )
        self._client.create_collection(
            self._collection, vectors_config={}, metadata={"evergallery": FORMAT, "precision": precision}
        )
        for name in INDEXED:
            self._client.create_payload_index(self._collection, f"versions[].{name}", models.PayloadSchemaType.KEYWORD)

    # Writing

    def put(self, items: Sequence[Item], *, relabel: bool = False) -> PutCounts:
        """Add or replace items; see ``GalleryStore.put``."""
        check_items(items)
        with self._writing():
            self._admit(items)
            changed, counts = changed_by(
                rounded(items, self.precision), self._held([item.id for item in items]), self._view(), relabel
            )
            self._store([[item] for item in changed])
        return counts

    def refresh(self, items: Sequence[Item], refresh: str) -> int:
        """Store newer versions beside the ones that are there; see ``GalleryStore.refresh``."""
        check_items(items)
        with self._writing():
            self._admit(items)
            versions = self._held([item.id for item in items])
            awaited = awaited_by(refresh, items, versions, self._view())
            self._store([[*(replace(one, superseded=refresh) for one in versions[item.id]), item] for item in awaited])
        return len(awaited)

    def settle(
        self,
        refresh: str,
        keep: Literal["new", "old"],
        *,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Delete one of the two versions of every item of a refresh for good; see ``GalleryStore.settle``."""
        losing = "superseded" if keep == "new" else "refresh"
        marked = _marked_by(refresh)
        with self._explained():
            total = self._client.count(self._collection, marked).count
        deleted = done = 0
        while True:
            with self._writing():
                records, _ = self._client.scroll(self._collection, marked, limit=BATCH, with_vectors=True)
                settled = []
                for versions in map(_versions, records):
                    kept = [one for one in versions if getattr(one, losing) != refresh] or versions
                    deleted += len(versions) - len(kept)
                    settled.append([_unmarked(one, refresh) for one in kept])
                self._store(settled)
            if not records:
                return deleted
            done += len(records)
            if on_progress is not None:
                on_progress(done, max(done, total))

    def delete(self, identifiers: Sequence[str]) -> int:
        """Delete items with all their versions; returns how many items were seen."""
        with self._writing():
            held = self._held(identifiers, with_embeddings=False)
            if held:
                self._client.delete(self._collection, [str(point_id(identifier)) for identifier in held])
        return sum(seen_of(versions, self._view()) is not None for versions in held.values())

    def put_versions(self, versions: Sequence[Item]) -> None:
        """Store versions as they are; see ``GalleryStore.put_versions``."""
        check_versions(versions)
        with self._writing():
            self._admit(versions)
            held = {
                identifier: {one.generation: one for one in stored}
                for identifier, stored in self._held(list({one.id for one in versions})).items()
            }
            for one in versions:
                held.setdefault(one.id, {})[one.generation] = one
            self._store([list(made.values()) for made in held.values()])

    def compact(self) -> None:
        """Nothing: the server gives back room and builds indexes by itself."""

    def indexes(self) -> dict[str, Index]:
        """None: the server says nothing of what its indexes find."""
        return {}

    def _admit(self, items: Sequence[Item]) -> None:
        """Refuse vectors of a wrong dimension, and make room for those of new generations."""
        from qdrant_client import models

        known = self._dimensions()
        for generation, dimension in sorted(check_dimensions(items, known).items() - known.items()):
            space = models.DenseVectorConfig(
                size=dimension, distance=models.Distance.DOT, datatype=models.VectorStorageDatatype(self.precision)
            )
            self._client.create_vector_name(self._collection, generation, models.DenseVectorNameConfig(dense=space))

    def _store(self, items: Sequence[Sequence[Item]]) -> None:
        """Write items, each with all its versions, in place of what they were."""
        from qdrant_client import models

        points = [
            models.PointStruct(
                id=str(point_id(versions[0].id)),
                vector={one.generation: one.embedding.tolist() for one in versions},
                payload={"id": versions[0].id, "versions": [_described(one) for one in versions]},
            )
            for versions in items
        ]
        if points:
            self._client.upsert(self._collection, points)

    # Reading

    def get(self, identifier: str, *, view: View | None = None) -> Item | None:
        """The item of this id, or ``None``."""
        view = view or self._view()
        with self._explained():
            return seen_of(self._held([identifier]).get(identifier, ()), view)

    def get_many(
        self, identifiers: Sequence[str], *, with_embeddings: bool = True, view: View | None = None
    ) -> dict[str, Item]:
        """The items of these ids that are there, by id."""
        view = view or self._view()
        with self._explained():
            versions = self._held(identifiers, with_embeddings)
        return {name: one for name, held in versions.items() if (one := seen_of(held, view))}

    def contains(self, identifiers: Sequence[str], *, view: View | None = None) -> set[str]:
        """Which of these ids are there."""
        view = view or self._view()
        with self._explained():
            held = self._held(identifiers, with_embeddings=False)
        return {identifier for identifier, versions in held.items() if seen_of(versions, view)}

    def known_content(
        self, content_hashes: Sequence[str], where: Filter = NO_FILTER, *, view: View | None = None
    ) -> set[str]:
        """Which of these hashes are the content of an item."""
        asked = set(content_hashes)
        pages = self._pages(where, view or self._view(), None, BATCH, contents=content_hashes)
        return {one.content_hash for page in pages for held in page for one in held if one.content_hash in asked}

    def count(self, where: Filter = NO_FILTER, *, view: View | None = None) -> int:
        """How many items there are."""
        return sum(self._counts(where, view).values())

    def generations(self, *, view: View | None = None) -> set[str]:
        """Which generations have made an item that is seen."""
        view = view or self._view()

        def ask() -> set[str]:
            conditions = {name: _condition(Filter(generations=(name,)), view) for name in self._admitted(NO_FILTER)}
            return {
                name for name, condition in conditions.items()
                if self._client.scroll(self._collection, condition, limit=1, with_payload=False)[0]
            }  # fmt: skip

        return self._read(ask)

    def count_by_generation(self, *, view: View | None = None) -> dict[str, int]:
        """How many items each generation has made, by fingerprint."""
        return {generation: count for generation, count in self._counts(NO_FILTER, view).items() if count}

    def _counts(self, where: Filter, view: View | None) -> dict[str, int]:
        view = view or self._view()

        def ask() -> dict[str, int]:
            conditions = {name: _condition(replace(where, generations=(name,)), view) for name in self._admitted(where)}
            return {
                name: self._client.count(self._collection, condition).count for name, condition in conditions.items()
            }

        return self._read(ask)

    def count_by_label(self, where: Filter = NO_FILTER, *, view: View | None = None) -> dict[str, int]:
        """How many items each label has; reads them all, because a label is of a version and not of its point."""
        pages = self._pages(where, view or self._view(), None, BATCH)
        return dict(Counter(one.label for page in pages for held in page for one in held if one.label is not None))

    def iterate(
        self,
        where: Filter = NO_FILTER,
        *,
        batch_size: int = 1000,
        with_embeddings: bool = True,
        after: str | None = None,
        view: View | None = None,
    ) -> Iterator[list[Item]]:
        """All items, in batches, in the order of their points."""
        view = view or self._view()
        for page in self._pages(where, view, after, batch_size, with_embeddings=with_embeddings):
            yield [one for held in page if (one := seen_of(held, view))]

    def identifiers(
        self,
        where: Filter = NO_FILTER,
        *,
        batch_size: int = 10_000,
        after: str | None = None,
        view: View | None = None,
    ) -> Iterator[list[str]]:
        """The ids of all items, in batches, in the order of ``iterate``."""
        for page in self._pages(where, view or self._view(), after, batch_size):
            yield [held[0].id for held in page]

    def versions(self, *, batch_size: int = 1000, after: str | None = None) -> Iterator[list[Item]]:
        """Every version of every item; see ``GalleryStore.versions``."""
        for page in self._pages(NO_FILTER, EVERYTHING, after, batch_size, with_embeddings=True):
            yield [one for held in page for one in sorted(held, key=place)]

    def _pages(
        self,
        where: Filter,
        view: View,
        after: str | None,
        size: int,
        *,
        contents: Sequence[str] | None = None,
        with_embeddings: bool = False,
    ) -> Iterator[list[list[Item]]]:
        """For each item its versions that are asked for, in the order of points."""
        start = None if after is None else str(uuid.UUID(int=point_id(after).int + 1))
        condition = _condition(where, view, contents)
        while True:
            with self._explained():
                records, following = self._client.scroll(
                    self._collection, condition, limit=size, offset=start, with_vectors=with_embeddings
                )
            page = [[one for one in _versions(record) if _is_asked(one, where, view)] for record in records]
            if records:
                yield page
            if following is None:
                return
            start = str(following)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        where: Filter = NO_FILTER,
        minimum_score: float | None = None,
        exact: bool | None = True,
        with_embeddings: bool = False,
        view: View | None = None,
    ) -> list[list[Match]]:
        """The k items with the largest cosine for each query, exactly unless asked otherwise; see ``GalleryStore.search``."""
        check_queries(queries, k)
        view, least = view or self._view(), -np.inf if minimum_score is None else minimum_score

        def ask() -> list[list[Match]]:
            found: list[list[Match]] = [[] for _ in queries]
            for generation, dimension in self._admitted(where).items():
                condition = _condition(replace(where, generations=(generation,)), view)
                if dimension == queries.shape[1]:
                    more = self._nearest(generation, queries, k, condition, exact is not False, with_embeddings)
                    found = [[*matches, *others] for matches, others in zip(found, more, strict=True)]
                elif self._client.count(self._collection, _condition(Filter(generations=(generation,)), view)).count:
                    raise InputError(
                        f"The queries have {queries.shape[1]} dimensions and the vectors of {generation[:12]} have "
                        f"{dimension}: they come from different embedding spaces."
                    )
            return [[match for match in best_of(matches)[:k] if match.score >= least] for matches in found]

        return self._read(ask)

    def _nearest(
        self,
        generation: str,
        queries: NDArray[np.float32],
        k: int,
        condition: "models.Filter | None",
        exact: bool,
        with_embeddings: bool,
    ) -> list[list[Match]]:
        from qdrant_client import models

        def request(query: NDArray[np.float32], limit: int) -> models.QueryRequest:
            return models.QueryRequest(
                query=query.tolist(),
                using=generation,
                filter=condition,
                limit=limit,
                params=models.SearchParams(exact=exact),
                with_payload=True,
                with_vector=[generation] if with_embeddings else False,
            )

        def ask(requests: list[models.QueryRequest]) -> list[list[models.ScoredPoint]]:
            return [one.points for one in self._client.query_batch_points(self._collection, requests)]

        # One more than asked for tells whether equal scores were cut apart.
        answers = ask([request(query, k + 1) for query in queries]) if len(queries) else []
        found = []
        for query, points in zip(queries, answers, strict=True):
            limit = k + 1
            while exact and len(points) == limit and points[k - 1].score == points[-1].score:
                limit *= 2
                (points,) = ask([request(query, limit)])
            found.append(
                [
                    Match(one, point.score)
                    for point in points
                    for one in _versions(point)
                    if one.generation == generation
                ]
            )
        return found

    def at_one_moment(self, ask: Callable[[], Answer]) -> Answer:
        """Several questions as of one moment of this process's writes; see ``GalleryStore.at_one_moment``."""
        return self._read(ask)

    def verify(self) -> list[str]:
        """Read every version and say what is wrong, a sentence each."""
        view, dimensions = self._view(), self._dimensions()
        problems: list[str] = []
        start: Any = None
        while True:
            with self._explained():
                records, start = self._client.scroll(self._collection, limit=BATCH, offset=start, with_vectors=True)
            for record in records:
                problems += _problems_of(record, dimensions, view)
            if start is None:
                return problems

    # Inside

    def _held(self, identifiers: Sequence[str], with_embeddings: bool = True) -> dict[str, list[Item]]:
        """Every version of these items, by id."""
        points = [str(point_id(identifier)) for identifier in identifiers]
        records = self._client.retrieve(self._collection, points, with_vectors=with_embeddings) if points else []
        return {versions[0].id: versions for versions in map(_versions, records)}

    def _dimensions(self) -> dict[str, int]:
        """The dimension of every generation."""
        with self._explained():
            vectors = self._client.get_collection(self._collection).config.params.vectors
        return {name: space.size for name, space in sorted(vectors.items())} if isinstance(vectors, dict) else {}

    def _admitted(self, where: Filter) -> dict[str, int]:
        dimensions = self._dimensions()
        return {name: dimensions[name] for name in dimensions if where.generations is None or name in where.generations}

    def _read(self, ask: Callable[[], Answer]) -> Answer:
        """Ask several times between two writes of this process."""
        with self._explained():
            for _ in range(HASTY_READS):
                writes = self._writes
                answer = ask()
                if writes == self._writes and writes % 2 == 0:
                    return answer
            with self._one_writer:
                return ask()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._one_writer, self._explained():
            self._writes += 1
            try:
                yield
            finally:
                self._writes += 1

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say in a sentence what the server has refused."""
        from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

        try:
            yield
        except ResponseHandlingException as error:
            raise NotFoundError(
                f"The gallery {self.url} does not answer ({error}): start its server, or see whether the URL is right."
            ) from error
        except UnexpectedResponse as error:
            if error.status_code in (401, 403):
                raise RefusedError(
                    f"Qdrant does not allow it in the gallery {self.url}: set {API_KEY} to a key that may do it."
                ) from error
            raise DamagedError(
                f"The gallery {self.url} cannot do that (status {error.status_code}: {error.reason_phrase}): see the server's "
                f"log, or restore the collection from a snapshot."
            ) from error


def client_of(url: str) -> "QdrantClient":
    """A client of the server that a URL names.

    Raises:
        MissingExtraError: the extra ``qdrant`` is not installed.
    """
    try:
        from qdrant_client import QdrantClient
    except ImportError:
        raise MissingExtraError("A gallery in Qdrant", "qdrant") from None
    parts = urlsplit(url)
    return QdrantClient(
        host=parts.hostname,
        port=parts.port or PORT,
        https=parts.scheme == "qdrant+https",
        api_key=os.environ.get(API_KEY),
        timeout=SECONDS,
        check_compatibility=False,
    )


def _collection_of(url: str) -> str:
    try:
        parts = urlsplit(url)
        name, _ = parts.path.strip("/"), parts.port
    except ValueError:
        name = ""
    if not name or "/" in name or not parts.hostname:
        raise InputError(f"{url} names no collection of Qdrant: write qdrant://host:{PORT}/COLLECTION.")
    return name


def _described(version: Item) -> dict[str, Any]:
    return {
        **{name: getattr(version, name) for name in DESCRIBED},
        "metadata": json.dumps(dict(version.metadata), ensure_ascii=False),
        "metadata_terms": metadata_terms(version.metadata),
    }


def _versions(point: "models.Record | models.ScoredPoint") -> list[Item]:
    """The versions of an item; without vectors their embeddings are empty.

    Raises:
        DamagedError: a part of it is missing.
    """
    payload = point.payload or {}
    vectors: Mapping[str, Any] = point.vector if isinstance(point.vector, dict) else {}
    try:
        return [
            Item(
                id=payload["id"],
                embedding=np.asarray(vectors.get(one["generation"], ()), dtype=np.float32),
                metadata=json.loads(one["metadata"]),
                **{name: one[name] for name in DESCRIBED},
            )
            for one in payload["versions"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(
            f"The gallery holds only a part of {payload.get('id', point.id)!r} ({error!r}): delete it and index it again."
        ) from error


def _condition(where: Filter, view: View, contents: Sequence[str] | None = None) -> "models.Filter | None":
    """What a filter and a view ask of one version of an item."""
    from qdrant_client import models

    def one_of(name: str, values: Sequence[str]) -> models.FieldCondition:
        return models.FieldCondition(key=name, match=models.MatchAny(any=list(values)))

    wanted = {"label": where.labels, "generation": where.generations, "uri": where.uris, "content_hash": contents}
    must: list[Any] = [one_of(name, values) for name, values in wanted.items() if values is not None]
    must += [one_of("metadata_terms", [term]) for term in metadata_terms(where.metadata or {})]
    hiding = {"refresh": view.hidden, "superseded": view.shown}
    must_not: list[Any] = [one_of(name, sorted(marks)) for name, marks in hiding.items() if marks]
    return _of_a_version(models.Filter(must=must, must_not=must_not)) if must or must_not else None


def _marked_by(refresh: str) -> "models.Filter":
    from qdrant_client import models

    match = models.MatchValue(value=refresh)
    return _of_a_version(
        models.Filter(should=[models.FieldCondition(key=name, match=match) for name in ("refresh", "superseded")])
    )


def _of_a_version(condition: "models.Filter") -> "models.Filter":
    from qdrant_client import models

    return models.Filter(must=[models.NestedCondition(nested=models.Nested(key="versions", filter=condition))])


def _is_asked(version: Item, where: Filter, view: View) -> bool:
    """Whether a version satisfies what its point does by one of them."""
    return (
        (where.labels is None or version.label in where.labels)
        and (where.generations is None or version.generation in where.generations)
        and (where.uris is None or version.uri in where.uris)
        and set(metadata_terms(where.metadata or {})) <= set(metadata_terms(version.metadata))
        and view.sees(version.refresh, version.superseded)
    )


def _unmarked(version: Item, refresh: str) -> Item:
    marks = {name: None for name in ("refresh", "superseded") if getattr(version, name) == refresh}
    return replace(version, **marks)  # type: ignore[arg-type]


def _problems_of(record: "models.Record", dimensions: Mapping[str, int], view: View) -> list[str]:
    """What is wrong with an item, a sentence each."""
    try:
        versions = _versions(record)
    except DamagedError as error:
        return [str(error)]
    payload = record.payload or {}
    identifier = payload["id"]
    found = [
        problem_of(one, described.get("metadata_terms"), dimensions.get(one.generation))
        for one, described in zip(versions, payload["versions"], strict=True)
    ]
    if str(record.id) != str(point_id(identifier)):
        found.append(f"the item {identifier!r} lies under another id")
    problems = [f"In the gallery, {problem}: delete it and index it again." for problem in found if problem]
    if sum(view.sees(one.refresh, one.superseded) for one in versions) > 1:
        problems.append(f"In the gallery, {identifier!r} is in two generations: index it again.")
    return problems
