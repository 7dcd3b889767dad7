"""What the routes share: the workspace, its model and gallery in threads, the pictures, the running job, the listeners.

The loop of the server never waits for a model, a disk or the gallery: whatever may, is done in a thread. Every answer is of
one state of the workspace from beginning to end, so that a promotion in the middle of a request changes nothing of it.
"""

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from evergallery._version import __version__
from evergallery.data.images import pixels
from evergallery.errors import EvergalleryError, InputError, NotFoundError, RefusedError
from evergallery.gallery.items import Filter, Item, PutCounts
from evergallery.generation import Generation
from evergallery.searching import Result
from evergallery.serving import schemas
from evergallery.serving.batching import Batcher
from evergallery.serving.events import Events
from evergallery.serving.jobs import Jobs
from evergallery.serving.limits import Limits
from evergallery.serving.pictures import GIVEN_URI, Pictures
from evergallery.state import State, now
from evergallery.upgrade.images import find_images
from evergallery.upgrade.spaces import Space
from evergallery.workspace import Workspace

Value = TypeVar("Value")
Vector = NDArray[np.float32]

BATCH = 32
"""Images that a model looks at together: beyond that, a batch on a CPU only makes its first image wait."""
TRIES = 3


@dataclass(frozen=True)
class Found:
    """What a search found, and by whom."""

    asker: Space
    state: State
    results: list[Result]
    searched: dict[str, int]


class Service:
    """One workspace, served.

    Args:
        workspace: with an absolute directory.
        limits: of what a request may ask for.
    """

    def __init__(self, workspace: Workspace, limits: Limits) -> None:
        self.workspace = workspace
        self.limits = limits
        self.pictures = Pictures(workspace.directory, limits.upload_pixels)
        self.events = Events(limits.streams)
        self.jobs = Jobs(self._job_changed, self.explain)
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="evergallery")
        self._model = ThreadPoolExecutor(1, thread_name_prefix="evergallery-model")
        self._embedding: Batcher[str, NDArray[np.uint8], Vector] = Batcher(
            self._embed, self._model, most=BATCH, waiting=limits.waiting
        )
        # Held while vectors by the promoted generation are stored, and while another one is promoted.
        self._who_answers = threading.RLock()
        self.ready = False

    # Life

    def open(self) -> None:
        """Open the gallery, and load the model that answers.

        Raises:
            BusyError: another process has the gallery.
        """
        _ = self.workspace.gallery
        promoted = self.workspace.state.promoted
        if promoted is not None:
            generation = self.workspace.generation(promoted)
            if generation.extracts:
                self.workspace.embedder(generation)
            self.ready = True

    def close(self) -> None:
        """Stop the running job where it can go on, and release the gallery."""
        self.ready = False
        self.events.close()
        self.jobs.close()
        self._threads.shutdown()
        self._model.shutdown()
        self.workspace.close()

    async def run(self, work: Callable[..., Value], *arguments: Any, **named: Any) -> Value:
        """What ``work`` returns, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *arguments, **named))

    def explain(self, error: Exception) -> str:
        """The sentence of an error, without the place of the workspace on this machine."""
        if not isinstance(error, EvergalleryError):
            return "Something went wrong in the server; its log says what."
        return self.told(str(error))

    def told(self, sentence: str) -> str:
        """A sentence without the place of the workspace on this machine."""
        return sentence.replace(str(self.workspace.directory), self.workspace.directory.name)

    def info(self, *, writes: bool) -> schemas.Info:
        """What this server is."""
        limits = self.limits
        return schemas.Info(
            name=self.workspace.directory.name,
            version=__version__,
            promoted=self.workspace.state.promoted,
            items=self.workspace.gallery.count(),
            generations=[one.name for one in self.workspace.generations()],
            limits=schemas.InfoLimits(
                upload_bytes=limits.upload_bytes, upload_pixels=limits.upload_pixels, k=limits.k, batch=limits.batch
            ),
            writes=writes,
        )

    # Searching

    async def search(self, body: schemas.Search, state: State | None = None) -> schemas.Answer:
        """Search by a vector or a stored item."""
        began = time.perf_counter()
        found = await self._retried(state, partial(self._search_stored, body))
        return self._answer(found, began)

    async def search_image(self, data: bytes, options: schemas.SearchOptions) -> schemas.Answer:
        """Search by a picture."""
        began = time.perf_counter()
        picture = await self.run(self.pictures.open, data)

        async def ask(state: State) -> Found:
            maker = self.workspace.answering(options.generation, state)
            array = await self.run(pixels, picture, maker.preprocessing)
            return await self._search(await self._embedding.ask(maker.name, array), Space(maker), options, state)

        return self._answer(await self._retried(None, ask), began)

    async def _search_stored(self, body: schemas.Search, state: State) -> Found:
        if body.vector is not None:
            asker = Space(self.workspace.answering(body.generation, state))
            return await self._search(_unit(body.vector), asker, body, state)
        item = await self.run(self._stored_item, body, state)
        asker = self.workspace.space_of(item.generation)
        vector = item.embedding
        if body.generation is not None and body.generation != asker.name:
            asker = Space(self.workspace.generation(body.generation))
            vector = await self._embed_stored(item, asker.maker)
        return await self._search(vector, asker, body, state, without=item.id)

    async def _search(
        self, vector: Vector, asker: Space, options: schemas.SearchOptions, state: State, without: str | None = None
    ) -> Found:
        return await self.run(self._search_now, vector, asker, options, state, without)

    def _search_now(
        self, vector: Vector, asker: Space, options: schemas.SearchOptions, state: State, without: str | None
    ) -> Found:
        where = self.where(options.labels, options.generations, options.metadata)
        results = self.workspace.search_vectors(
            vector[None], asker, k=options.k + (without is not None), where=where, state=state,
            minimum_score=options.min_score, minimum_probability=options.min_probability,
        )[0]  # fmt: skip
        results = [result for result in results if result.item.id != without][: options.k]
        self.workspace.notes.found(result.item.id for result in results)
        counts = self.workspace.gallery.count_by_generation(view=state.view())
        searched = {
            self.name_of(one): count
            for one, count in counts.items()
            if not where.generations or one in where.generations
        }
        return Found(asker, state, results, searched)

    async def _retried(self, state: State | None, ask: Callable[[State], Any]) -> Found:
        """Ask as of one state; again where vectors that it shows were given up meanwhile."""
        for _ in range(TRIES):
            asked = state or self.workspace.state
            found: Found = await ask(asked)
            current = self.workspace.state
            if asked.refresh is None or (current.refresh and current.refresh.id == asked.refresh.id):
                break
            state = None
        return found

    def _stored_item(self, body: schemas.Search, state: State) -> Item:
        if body.item is not None:
            item = self.workspace.gallery.get(body.item, view=state.view())
            if item is None:
                raise NotFoundError(f"The gallery has no item {body.item!r}.")
            return item
        for batch in self.workspace.gallery.iterate(view=state.view()):
            for item in batch:
                if body.uri in (item.uri, item.metadata.get(GIVEN_URI)):
                    return item
        raise NotFoundError(f"The gallery has no item whose URI is {body.uri!r}.")

    async def _embed_stored(self, item: Item, maker: Generation) -> Vector:
        """The embedding of a stored item's picture by another generation than the one that made its vector."""
        found = await self.run(find_images, [item], maker.preprocessing, None)
        if found.problems:
            raise NotFoundError(f"{maker.name} cannot look at {item.id!r}: {found.problems[0].reason}.")
        return await self._embedding.ask(maker.name, found.images.pixels[0])

    def _embed(self, name: str, images: Sequence[NDArray[np.uint8]]) -> list[Vector]:
        return list(self.workspace.embed_pixels(np.stack(images), self.workspace.generation(name)))

    def _answer(self, found: Found, began: float) -> schemas.Answer:
        return schemas.Answer(
            generation=found.asker.name,
            promoted=found.state.promoted,
            results=[
                schemas.Result(item=self.described(one.item), score=one.score, probability=one.probability)
                for one in found.results
            ],
            milliseconds=round(1000 * (time.perf_counter() - began), 3),
            exact=True,
            searched=found.searched,
        )

    # Items

    def where(
        self, labels: Sequence[str] | None, generations: Sequence[str] | None, metadata: dict[str, Any] | None
    ) -> Filter:
        """Which items; generations by name."""
        fingerprints = tuple(self.workspace.space(name).fingerprint for name in generations or ())
        return Filter(
            labels=None if labels is None else tuple(labels),
            generations=None if generations is None else fingerprints,
            metadata=metadata or None,
        )

    def name_of(self, fingerprint: str) -> str:
        """The name of a space, or the beginning of its fingerprint where nobody knows it."""
        try:
            return self.workspace.space_of(fingerprint).name
        except RefusedError:
            return fingerprint[:12]

    def described(self, item: Item) -> schemas.Item:
        """An item as clients see it."""
        from urllib.parse import quote

        metadata = dict(item.metadata)
        given = metadata.pop(GIVEN_URI, None)
        shown = self.pictures.shows(item)
        return schemas.Item(
            id=item.id,
            label=item.label,
            uri=item.uri if item.uri is not None else given if isinstance(given, str) else None,
            generation=self.name_of(item.generation),
            added=item.added,
            metadata=metadata,
            content_hash=item.content_hash,
            thumbnail=f"/api/v1/thumbnail?id={quote(item.id, safe='')}" if shown else None,
        )

    async def add_images(
        self, named: Sequence[tuple[str, bytes]], *, identifier: str | None, label: str | None, metadata: dict[str, Any]
    ) -> schemas.Added:
        """Keep pictures and their vectors by the generation that answers."""
        skipped: list[schemas.SkippedImage] = []
        pictures: dict[str, tuple[bytes, Any]] = {}
        for name, data in named:
            try:
                picture = await self.run(self.pictures.open, data)
            except InputError as error:
                skipped.append(schemas.SkippedImage(name=name, reason=str(error)))
                continue
            pictures[identifier or hashlib.sha256(data).hexdigest()] = data, picture
        if not pictures:
            return schemas.Added(added=0, replaced=0, unchanged=0, items=[], skipped=skipped)
        for _ in range(TRIES):
            maker = self.workspace.promoted
            arrays = [await self.run(pixels, picture, maker.preprocessing) for _, picture in pictures.values()]
            vectors = await asyncio.gather(*(self._embedding.ask(maker.name, array) for array in arrays))
            contents = {one: data for one, (data, _) in pictures.items()}
            kept = await self.run(self._keep, maker, contents, vectors, label, metadata)
            if kept is not None:
                counts, items = kept
                return schemas.Added(
                    added=counts.added, replaced=counts.replaced, unchanged=counts.unchanged,
                    items=[self.described(item) for item in items], skipped=skipped,
                )  # fmt: skip
        raise RefusedError("Another generation was promoted while the pictures were looked at: add them again.")

    def _keep(
        self, maker: Generation, contents: dict[str, bytes], vectors: Sequence[Vector], label: str | None,
        metadata: dict[str, Any],
    ) -> tuple[PutCounts, list[Item]] | None:  # fmt: skip
        """Store pictures and vectors; ``None`` where their maker does not answer any more."""
        with self._who_answers, self.pictures.changing():
            if self.workspace.state.promoted != maker.name:
                return None
            self.workspace.require_compatible(Space(maker), self.workspace.stored())
            items = [
                Item(
                    id=one, embedding=vector, generation=maker.fingerprint, label=label, uri=str(self.pictures.keep(data)),
                    content_hash=hashlib.sha256(data).hexdigest(), added=now(), metadata=metadata,
                )
                for (one, data), vector in zip(contents.items(), vectors, strict=True)
            ]  # fmt: skip
            counts = self.workspace.gallery.put(items)
        self.workspace.journal.record(
            "add", generation=maker.name, added=counts.added, replaced=counts.replaced, unchanged=counts.unchanged
        )
        self._status_changed()
        return counts, items

    def add_vectors(self, body: schemas.NewVectors) -> schemas.Added:
        """Keep vectors made elsewhere."""
        maker = self.workspace.generation(body.generation)
        items = [
            Item(
                id=one.id, embedding=np.asarray(one.embedding, np.float32), generation=maker.fingerprint, label=one.label,
                uri=None, content_hash=None, added=now(),
                metadata={**one.metadata, **({GIVEN_URI: one.uri} if one.uri is not None else {})},
            )
            for one in body.items
        ]  # fmt: skip
        with self._who_answers:
            counts = self.workspace.add(items)
        self._status_changed()
        return schemas.Added(
            added=counts.added, replaced=counts.replaced, unchanged=counts.unchanged,
            items=[self.described(item) for item in items], skipped=[],
        )  # fmt: skip

    def delete(self, identifiers: Sequence[str]) -> int:
        """Delete items, and the pictures that were kept for them alone."""
        gallery = self.workspace.gallery
        with self.pictures.changing():
            items = [item for one in dict.fromkeys(identifiers) if (item := gallery.get(one)) is not None]
            deleted = gallery.delete(list(dict.fromkeys(identifiers)))
            hashes = [item.content_hash for item in items if item.content_hash]
            needed = gallery.known_content(hashes) if hashes else set()
            for item in items:
                if item.content_hash not in needed:
                    self.pictures.forget(item)
        self.workspace.journal.record("delete", deleted=deleted)
        self._status_changed()
        return deleted

    # Switching

    def promote(self, generation: str, *, force: bool, why: str | None) -> None:
        """Let a generation answer; its model is loaded before anything changes."""
        candidate = self.workspace.generation(generation)
        if candidate.extracts:
            self.workspace.embedder(candidate)
        with self._who_answers:
            self.workspace.promote(generation, force=force, why=why)
        self._switched()

    def rollback(self) -> None:
        """Let the generation before answer again; its model is loaded before anything changes."""
        before = self.before()
        if before is not None and self.workspace.generation(before).extracts:
            self.workspace.embedder(self.workspace.generation(before))
        with self._who_answers:
            self.workspace.rollback()
        self._switched()

    def before(self) -> str | None:
        """The generation that a rollback would promote."""
        promotions = self.workspace.state.promotions
        name = promotions[-1].get("before") if promotions else None
        return name if isinstance(name, str) else None

    def _switched(self) -> None:
        self.ready = True
        self.events.publish("promoted", {"promoted": self.workspace.state.promoted})
        self._status_changed()

    def status(self) -> schemas.Status:
        """Where the workspace stands."""
        status = self.workspace.status()
        spaces = status.spaces or ()
        states = dict.fromkeys(("current", "compatible", "needs refresh", "image missing", "failed"), 0)
        for space in spaces:
            states[space.state] = states.get(space.state, 0) + space.items
        for kind, count in status.problems.items():
            states[kind] = states.get(kind, 0) + count
        before = self.before()
        job = self.jobs.last
        return schemas.Status(
            promoted=status.promoted,
            items=sum(space.items for space in spaces),
            states=states,
            by_generation={space.name: space.items for space in spaces},
            refresh=schemas.Refresh.model_validate(vars(status.refresh)) if status.refresh else None,
            job=schemas.Job.model_validate(job.to_dict()) if job else None,
            can_roll_back_to=before,
            would_roll_back=self._would_roll_back(before),
        )

    def _would_roll_back(self, before: str | None) -> str:
        state = self.workspace.state
        if before is None:
            return "No generation was promoted before this one: there is nothing to go back to."
        shown = bool(state.promotions[-1].get("refresh shown before", False))
        vectors = ""
        if state.refresh is not None and state.refresh.shown != shown:
            vectors = f" The vectors of the refresh {state.refresh.id} are {'shown' if shown else 'hidden'} again."
        return (
            f"{before} answers queries again in place of {state.promoted}, over the vectors that it searched.{vectors}"
        )

    def _job_changed(self, job: dict[str, Any]) -> None:
        self.events.publish("job", job)
        if job["state"] != "running":
            self._status_changed()

    def _status_changed(self) -> None:
        self.events.publish("status", self.status().model_dump())


def _unit(numbers: Sequence[float]) -> Vector:
    vector = np.asarray(numbers, np.float64)
    norm = float(np.linalg.norm(vector))
    if not np.isfinite(norm) or norm == 0:
        raise InputError("The vector is zero, or too long for its direction to be told: give a finite one.")
    return (vector / norm).astype(np.float32)
