"""The engine of a Qdrant server or cluster: a collection in which each point is an item with all its versions.

The vectors of a point are named by their generations, and its payload describes each version. So whatever changes an item
changes one point, which the server does whole or not at all, and no move between generations can stop half way. Conditions are
on one version at a time, which Qdrant calls nested.

Nothing locks a collection: one process at a time may write, while others read.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from evergallery.errors import DamagedError, InputError, NotFoundError
from evergallery.gallery.engine import RefreshMark
from evergallery.gallery.items import (
    EVERYTHING,
    Filter,
    Item,
    Match,
    Precision,
    Search,
    View,
    point_id,
    require_precision,
)
from evergallery.gallery.places import without_password
from evergallery.gallery.qdrant.client import client_of, collection_of, explained
from evergallery.gallery.qdrant.points import (
    condition,
    described,
    is_asked,
    marked_by,
    problems_of,
    unmarked,
    versions_of,
)
from evergallery.gallery.store import BATCH, GalleryStore

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

FORMAT = 2
"""The newest that is read; a gallery has the oldest that can hold it."""
PLAIN = 1
ADOPTED = "adopted"
"""Under which the collection says what is adopted, where it is beside one of somebody else's."""
TYPES: tuple[Precision, ...] = ("float32", "float16")
INDEXED = ("generation", "label", "uri", "content_hash", "metadata_terms", "refresh", "superseded")
# A question that has met so many moves waits for the writer instead.
HASTY_READS = 3

Answer = TypeVar("Answer")


def create_collection(client: "QdrantClient", name: str, precision: Precision, adopted: str | None = None) -> None:
    """Make the collection of a gallery.

    Args:
        client: of its server.
        name: of the collection.
        precision: of the vectors.
        adopted: what the gallery is over, where it is beside a collection of somebody else's.

    Raises:
        InputError: the engine has no such precision.
    """
    from qdrant_client import models

    require_precision("Qdrant", precision, TYPES)
    about: dict[str, Any] = {"evergallery": PLAIN, "precision": precision}
    if adopted is not None:
        about |= {"evergallery": FORMAT, ADOPTED: adopted}
    client.create_collection(name, vectors_config={}, metadata=about)
    for field in INDEXED:
        client.create_payload_index(name, f"versions[].{field}", models.PayloadSchemaType.KEYWORD)


class QdrantStore(GalleryStore):
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
        super().__init__(view)
        self.url = without_password(url)
        self._collection = collection_of(self.url)
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
        """Return how the vectors are kept."""
        return self._precision

    def _prepare(self, precision: Precision | None, create: bool) -> Precision:
        """Make the collection where it is missing; returns the precision of the gallery."""
        with explained(self.url):
            if not self._client.collection_exists(self._collection):
                if not create:
                    raise NotFoundError(
                        f"There is no gallery {self.url}: make one with  evergallery init DIRECTORY --store {self.url}  or "
                        f" evergallery gallery copy FROM {self.url}"
                    )
                create_collection(self._client, self._collection, precision or "float32")
            about = self._client.get_collection(self._collection).config.metadata or {}
        if about.get("evergallery", FORMAT + 1) > FORMAT:
            raise DamagedError(
                f"The collection {self.url} is no gallery that this version of Evergallery reads: name another one, or install "
                f"a newer Evergallery."
            )
        self.is_adopted = ADOPTED in about
        held: Precision = about["precision"]
        if precision not in (None, held):
            raise InputError(
                f"The gallery {self.url} keeps vectors as {held}, not as {precision}: copy it into another one with  "
                f"evergallery gallery copy {self.url} TO --precision {precision}"
            )
        return held

    # The whole

    def at_one_moment(self, ask: Callable[[], Answer], view: View = EVERYTHING) -> Answer:
        """Ask several times between two writes of this process."""
        with explained(self.url):
            for _ in range(HASTY_READS):
                writes = self._writes
                answer = ask()
                if writes == self._writes and writes % 2 == 0:
                    return answer
            with self._one_writer:
                return ask()

    def verify(self) -> list[str]:
        """Read every version and say what is wrong, a sentence each."""
        view, dimensions = self._view(), self._dimensions()
        problems: list[str] = []
        start: Any = None
        while True:
            with explained(self.url):
                records, start = self._client.scroll(self._collection, limit=BATCH, offset=start, with_vectors=True)
            for record in records:
                problems += problems_of(record, dimensions, view)
            if start is None:
                return problems

    def compact(self) -> None:
        """Do nothing: the server gives back room and builds indexes by itself."""

    # Writing

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._one_writer, explained(self.url):
            self._writes += 1
            try:
                yield
            finally:
                self._writes += 1

    def _admit(self, dimensions: Mapping[str, int]) -> None:
        from qdrant_client import models

        for generation, dimension in sorted(dimensions.items()):
            space = models.DenseVectorConfig(
                size=dimension, distance=models.Distance.DOT, datatype=models.VectorStorageDatatype(self.precision)
            )
            self._client.create_vector_name(self._collection, generation, models.DenseVectorNameConfig(dense=space))

    def _replace(self, items: Sequence[Item], held: Mapping[str, Sequence[Item]]) -> None:
        self._store([[item] for item in items])

    def _supersede(self, items: Sequence[Item], refresh: str) -> None:
        held = self._held([item.id for item in items])
        self._store([[*(replace(old, superseded=refresh) for old in held[item.id]), item] for item in items])

    def _add(self, versions: Sequence[Item]) -> None:
        made = {
            identifier: {version.generation: version for version in stored}
            for identifier, stored in self._held(list({version.id for version in versions})).items()
        }
        for version in versions:
            made.setdefault(version.id, {})[version.generation] = version
        self._store([list(of_one.values()) for of_one in made.values()])

    def _delete(self, held: Mapping[str, Sequence[Item]]) -> None:
        self._client.delete(self._collection, [str(point_id(identifier)) for identifier in held])

    def _count_marked(self, refresh: str) -> int:
        with explained(self.url):
            return int(self._client.count(self._collection, marked_by(refresh)).count)

    def _settle_some(self, refresh: str, losing: RefreshMark) -> tuple[int, int]:
        records, _ = self._client.scroll(self._collection, marked_by(refresh), limit=BATCH, with_vectors=True)
        gone, settled = 0, []
        for versions in map(versions_of, records):
            kept = [version for version in versions if getattr(version, losing) != refresh] or versions
            gone += len(versions) - len(kept)
            settled.append([unmarked(version, refresh) for version in kept])
        self._store(settled)
        return len(records), gone

    def _store(self, items: Sequence[Sequence[Item]]) -> None:
        """Write items, each with all its versions, in place of what they were."""
        from qdrant_client import models

        points = [
            models.PointStruct(
                id=str(point_id(versions[0].id)),
                vector={version.generation: version.embedding.tolist() for version in versions},
                payload={"id": versions[0].id, "versions": [described(version) for version in versions]},
            )
            for versions in items
        ]
        if points:
            self._client.upsert(self._collection, points)

    # Reading

    def _dimensions(self) -> dict[str, int]:
        with explained(self.url):
            vectors = self._client.get_collection(self._collection).config.params.vectors
        return {name: space.size for name, space in sorted(vectors.items())} if isinstance(vectors, dict) else {}

    def _held(
        self, identifiers: Sequence[str], with_embeddings: bool = True, view: View = EVERYTHING
    ) -> dict[str, list[Item]]:
        points = [str(point_id(identifier)) for identifier in identifiers]
        with explained(self.url):
            records = self._client.retrieve(self._collection, points, with_vectors=with_embeddings) if points else []
            found = self._present(records, with_embeddings)
        return {versions[0].id: versions for versions in found}

    def _pages(
        self, where: Filter, view: View, after: str | None, size: int, *, with_embeddings: bool
    ) -> Iterator[list[list[Item]]]:
        start = None if after is None else str(UUID(int=point_id(after).int + 1))
        having = condition(where, view)
        while True:
            with explained(self.url):
                records, following = self._client.scroll(
                    self._collection, having, limit=size, offset=start, with_vectors=with_embeddings
                )
                found = self._present(records, with_embeddings)
            asked = ([version for version in versions if is_asked(version, where, view)] for versions in found)
            page = [versions for versions in asked if versions]
            if page:
                yield page
            if following is None:
                return
            start = str(following)

    def _present(self, records: Sequence[Any], with_embeddings: bool) -> list[list[Item]]:
        """The versions of the items of these records, each item's together."""
        return [versions_of(record) for record in records]

    def _counts(self, where: Filter, view: View) -> dict[str, int]:
        def ask() -> dict[str, int]:
            admitted = [name for name in self._dimensions() if where.generations is None or name in where.generations]
            conditions = {name: condition(replace(where, generations=(name,)), view) for name in admitted}
            return {name: self._client.count(self._collection, having).count for name, having in conditions.items()}

        return self.at_one_moment(ask)

    def _holds(self, generation: str, view: View) -> bool:
        having = condition(Filter(generations=(generation,)), view)
        with explained(self.url):
            return bool(self._client.scroll(self._collection, having, limit=1, with_payload=False)[0])

    def _served_by_index(self, *, asked: bool, narrows: bool) -> set[str]:
        # The server builds indexes by itself, and does not say what they find: none answers unasked.
        return set(self._dimensions()) if asked else set()

    def _nearest(self, generation: str, queries: NDArray[np.float32], search: Search) -> list[list[Match]]:
        from qdrant_client import models

        having = condition(replace(search.where, generations=(generation,)), search.view)

        def request(query: NDArray[np.float32], limit: int) -> models.QueryRequest:
            return models.QueryRequest(
                query=query.tolist(),
                using=generation,
                filter=having,
                limit=limit,
                params=models.SearchParams(exact=search.exact),
                with_payload=True,
                with_vector=[generation] if search.with_embeddings else False,
            )

        def ask(requests: list[models.QueryRequest]) -> list[list[models.ScoredPoint]]:
            return [answer.points for answer in self._client.query_batch_points(self._collection, requests)]

        # One more than asked for tells whether equal scores were cut apart.
        k = search.k
        answers = ask([request(query, k + 1) for query in queries]) if len(queries) else []
        found = []
        for query, points in zip(queries, answers, strict=True):
            limit = k + 1
            while search.exact and len(points) == limit and points[k - 1].score == points[-1].score:
                limit *= 2
                (points,) = ask([request(query, limit)])
            found.append(
                [
                    Match(version, point.score)
                    for point in points
                    for version in versions_of(point)
                    if version.generation == generation
                ]
            )
        return found
