"""Items that clients add and delete, with the pictures that are kept for them."""

import asyncio
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evergallery.data.images import Preprocessing
from evergallery.data.metadata import Scalar
from evergallery.errors import InputError, RefusedError
from evergallery.gallery.items import Item, PutCounts
from evergallery.generations.generation import Generation
from evergallery.holdings.comparing import require_compatible, stored_spaces
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.spaces import Space
from evergallery.holdings.state import now
from evergallery.indexing.copies import at_known_addresses
from evergallery.indexing.indexing import add
from evergallery.serving import schemas
from evergallery.serving.blending import Vector
from evergallery.serving.describing import described
from evergallery.serving.pictures import GIVEN_URI, Pictures
from evergallery.serving.searches import TRIES, Image, Searches
from evergallery.strings.names import normal


class ItemEditor:
    """Changes the items of a workspace.

    Args:
        holdings: of the workspace, with its gallery open.
        pictures: keeps those that are added.
        searches: has the model, and the threads where everything is done that takes time.
        who_answers: held while vectors of the promoted generation are stored, and by whoever promotes another one: a vector
            that came late could lie in a space that nobody may search any more.
        changed: called after each change.
    """

    def __init__(
        self,
        holdings: Holdings,
        pictures: Pictures,
        searches: Searches,
        who_answers: threading.Lock,
        changed: Callable[[], None],
    ) -> None:
        self._holdings = holdings
        self._pictures = pictures
        self._searches = searches
        self._threads = searches.threads
        self._who_answers = who_answers
        self._changed = changed

    async def add_pictures(
        self,
        named: Sequence[tuple[str, bytes]],
        *,
        identifier: str | None,
        label: str | None,
        metadata: Mapping[str, Scalar],
        relabel: bool = False,
    ) -> schemas.AdditionResult:
        """Keep pictures, and their vectors by the generation that answers.

        Args:
            named: file names for messages, and contents.
            identifier: of the item, for one picture; its SHA-256 by default.
            label: of all of them.
            metadata: of all of them.
            relabel: whether the label takes the place of another one that is known.

        Raises:
            RefusedError: the gallery holds vectors that this generation has not been shown to be compatible with.
        """
        _refuse_own_names(metadata)
        for _ in range(TRIES):
            maker = self._holdings.promoted
            looked = await asyncio.gather(*(self._look(data, maker) for _, data in named))
            skipped = [
                schemas.SkippedImage(name=name, reason=reason)
                for (name, _), reason in zip(named, looked, strict=True)
                if isinstance(reason, str)
            ]
            new = {identifier or picture.content_hash: picture for picture in looked if not isinstance(picture, str)}
            kept = await self._threads.run(self._keep, maker, new, label, metadata, relabel)
            if kept is not None:
                return kept.model_copy(update={"skipped": skipped})
        raise RefusedError("Another generation was promoted while the pictures were looked at: add them again.")

    def add_vectors(self, body: schemas.NewVectors) -> schemas.AdditionResult:
        """Keep vectors made elsewhere.

        Raises:
            NotFoundError: no such generation.
            RefusedError: its space has not been shown compatible with the gallery's.
        """
        maker = self._holdings.generation(body.generation)
        items = []
        for row in body.items:
            _refuse_own_names(row.metadata)
            given: Mapping[str, Scalar] = {} if row.uri is None else {GIVEN_URI: row.uri}
            # A number that float32 does not hold becomes infinite, and is refused as such.
            with np.errstate(over="ignore"):
                embedding = np.asarray(row.embedding, np.float32)
            items.append(
                Item(
                    id=row.id,
                    embedding=embedding,
                    generation=maker.fingerprint,
                    label=row.label and normal(row.label),
                    uri=None,
                    content_hash=None,
                    added=now(),
                    metadata={**row.metadata, **given},
                )
            )
        with self._who_answers:
            counts = add(self._holdings, items, relabel=body.relabel)
        self._changed()
        return self._told(counts, items)

    def delete(self, identifiers: Sequence[str]) -> int:
        """Delete items, and the pictures that were kept for them alone; returns how many items there were."""
        gallery = self._holdings.gallery
        names = list(dict.fromkeys(identifiers))
        with self._pictures.changing():
            items = [item for name in names if (item := gallery.get(name)) is not None]
            deleted = gallery.delete(names)
            self._forget_pictures(items)
        self._holdings.journal.record("delete", deleted=deleted)
        self._changed()
        return deleted

    async def _look(self, data: bytes, maker: Generation) -> "_NewPicture | str":
        """A picture with its embedding, or why there is none."""
        try:
            content_hash, image = await self._threads.decode(self._prepared, data, maker.preprocessing)
        except InputError as error:
            return str(error)
        return _NewPicture(data, content_hash, await self._searches.embed(image, maker))

    def _prepared(self, data: bytes, preprocessing: Preprocessing) -> tuple[str, Image]:
        return hashlib.sha256(data).hexdigest(), self._pictures.pixels(data, preprocessing)

    def _keep(
        self,
        maker: Generation,
        new: "Mapping[str, _NewPicture]",
        label: str | None,
        metadata: Mapping[str, Scalar],
        relabel: bool,
    ) -> schemas.AdditionResult | None:
        """Store pictures and vectors; ``None`` where their maker does not answer any more."""
        if not new:
            return self._told(PutCounts(0, 0, 0), [])
        with self._who_answers, self._pictures.changing():
            if self._holdings.state.promoted != maker.name:
                return None
            require_compatible(self._holdings, Space(maker), stored_spaces(self._holdings))
            items = [
                Item(
                    id=identifier,
                    embedding=picture.vector,
                    generation=maker.fingerprint,
                    label=label and normal(label),
                    uri=str(self._pictures.place(picture.data, picture.content_hash)),
                    content_hash=picture.content_hash,
                    added=now(),
                    metadata=metadata,
                )
                for identifier, picture in new.items()
            ]
            before = self._holdings.gallery.get_many(list(new), with_embeddings=False)
            placed = at_known_addresses(items, before)
            for item, there in zip(items, placed, strict=True):
                if there.uri == item.uri:
                    self._pictures.keep(new[item.id].data, Path(str(item.uri)))
            counts = self._holdings.gallery.put(placed, relabel=relabel)
            self._forget_pictures(list(before.values()))
        self._holdings.journal.record(
            "add",
            generation=maker.name,
            added=counts.added,
            replaced=counts.replaced,
            unchanged=counts.unchanged,
            conflicts=counts.conflict_count,
        )
        self._changed()
        return self._told(counts, items)

    def _forget_pictures(self, items: Sequence[Item]) -> None:
        """Delete the pictures that were kept for items, as far as no stored item has them."""
        hashes = [item.content_hash for item in items if item.content_hash]
        needed = self._holdings.gallery.known_content(hashes) if hashes else set()
        for item in items:
            if item.content_hash not in needed:
                self._pictures.forget(item)

    def _told(self, counts: PutCounts, items: Sequence[Item]) -> schemas.AdditionResult:
        stored = self._holdings.gallery.get_many([item.id for item in items], with_embeddings=False)
        return schemas.AdditionResult(
            added=counts.added,
            replaced=counts.replaced,
            unchanged=counts.unchanged,
            conflicts=[
                schemas.LabelConflict(item=conflict.item, known=conflict.known, said=conflict.said)
                for conflict in counts.conflicts
            ],
            conflict_count=counts.conflict_count,
            items=described(self._holdings, [stored.get(item.id, item) for item in items]),
            skipped=[],
        )


@dataclass(frozen=True)
class _NewPicture:
    """A picture to be kept, looked at."""

    data: bytes
    content_hash: str
    vector: Vector


def _refuse_own_names(metadata: Mapping[str, Scalar]) -> None:
    if GIVEN_URI in metadata:
        raise InputError(f"The metadata {GIVEN_URI} are the server's own: give the URI as  uri")
