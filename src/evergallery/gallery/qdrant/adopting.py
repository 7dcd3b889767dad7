"""Looking at a collection of Qdrant that is to be adopted, and making the one beside it that is ours."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from evergallery.data.metadata import is_name
from evergallery.data.unit_vectors import is_unit
from evergallery.errors import InputError, NotFoundError, RefusedError
from evergallery.gallery.adopted import Adoptable
from evergallery.gallery.places import options_of, without_password
from evergallery.gallery.qdrant.client import client_of, collection_of, explained
from evergallery.gallery.qdrant.collection import Source
from evergallery.gallery.qdrant.store import ADOPTED, create_collection
from evergallery.gallery.store import BATCH

TEXTS = ("label", "uri", "content_hash")
OPTIONS = ("vector", "metadata", "base", "gallery", *TEXTS)


class AdoptableQdrantCollection(Adoptable):
    """A collection that a URL names, looked at.

    Args:
        url: ``qdrant://host:6333/COLLECTION?vector=NAME``, without ``vector`` for the unnamed one, with the keys of the payload
            that are read: ``label``, ``uri``, ``content_hash``, ``metadata=KEY,KEY``; and ``gallery=NAME``, the collection
            that is made for what is ours, ``evergallery_COLLECTION`` by default.

    Raises:
        MissingExtraError: the extra ``qdrant`` is not installed.
        InputError: the URL cannot be used, or the collection has no such vector, or compares otherwise than by cosine.
        NotFoundError: the server does not answer, or has no such collection.
    """

    def __init__(self, url: str) -> None:
        url = without_password(url)
        named = _options(url)
        self._name = collection_of(url)
        self._gallery = named.pop("gallery", f"evergallery_{self._name}")
        parts = urlsplit(url)
        self.place = f"{parts.scheme}://{parts.netloc}/{self._gallery}"
        collection_of(self.place)
        self._client = client_of(url)
        try:
            with explained(url):
                self._source = self._look(url, named)
        except BaseException:
            self._client.close()
            raise
        self.collection, self.dimension = str(self._source), self._source.dimension
        place = [parts.netloc, self._name, self._source.vector]
        self.space = hashlib.sha256(json.dumps(place).encode()).hexdigest()

    def _look(self, url: str, named: Mapping[str, str]) -> Source:
        from qdrant_client import models

        if not self._client.collection_exists(self._name):
            raise NotFoundError(f"The server has no collection {self._name!r}: see the name in {url}.")
        if self._gallery == self._name:
            raise InputError(f"gallery={self._gallery} is the collection itself: name another one for what is ours.")
        config = self._client.get_collection(self._name).config
        if "evergallery" in (config.metadata or {}):
            raise InputError(f"{self._name} is a gallery of Evergallery: use it with  evergallery gallery use {url}")
        vectors = config.params.vectors
        spaces: dict[str | None, Any] = vectors if isinstance(vectors, dict) else {None: vectors}  # type: ignore[assignment]
        spaces = {name: space for name, space in spaces.items() if space is not None}
        vector = named.get("vector") or (next(iter(spaces)) if len(spaces) == 1 else None)
        if vector not in spaces:
            known = ", ".join(str(name) for name in spaces if name) or (
                "the unnamed one" if spaces else "none of numbers"
            )
            raise InputError(
                f"The collection {self._name} has no vector {vector!r}; it has {known}: name one with vector=NAME."
            )
        space = spaces[vector]
        if space.multivector_config is not None:
            raise InputError(
                f"The vector {vector!r} of {self._name} is several a point, which no gallery holds: name another."
            )
        for name in named.get("metadata", "").split(","):
            if name and not is_name(name):
                raise InputError(f"The key {name!r} cannot be metadata: names are letters, digits, _ and -.")
        source = Source(
            name=self._name,
            vector=vector,
            texts={name: named[name] for name in TEXTS if named.get(name)},
            metadata=tuple(name for name in named.get("metadata", "").split(",") if name),
            base=named.get("base", ""),
            dimension=int(space.size),
        )
        self._require_cosine(source, space.distance, models.Distance)
        return source

    def _require_cosine(self, source: Source, distance: Any, distances: Any) -> None:
        """Refuse a collection that ranks otherwise than a gallery does."""
        records, _ = self._client.scroll(source.name, limit=BATCH, with_payload=False, with_vectors=source.selected)
        vectors = [vector for record in records if (vector := source.vector_of(record)) is not None and vector.any()]
        if not vectors:
            raise InputError(f"The collection {source.name} has no vector that can be used: adopt it once it has some.")
        if distance == distances.COSINE or (distance == distances.DOT and is_unit(np.stack(vectors)).all()):
            return
        raise InputError(
            f"The collection {source.name} ranks by {distance.value}, and a gallery by the cosine: copy its vectors into a "
            f"gallery instead, as docs/moving.md shows."
        )

    @property
    def described(self) -> str:
        """Return what would be read, exactly."""
        return self._source.described

    def make(self, generation: str, owner: str) -> None:
        """Make the collection that is ours, where it is missing; see ``Adoptable``."""
        wanted = json.dumps(asdict(replace(self._source, generation=generation, owner=owner)), sort_keys=True)
        with explained(self.place):
            if not self._client.collection_exists(self._gallery):
                create_collection(self._client, self._gallery, "float32", adopted=wanted)
            found = (self._client.get_collection(self._gallery).config.metadata or {}).get(ADOPTED)
        self._client.close()
        if found is None:
            raise RefusedError(f"{self.place} is a collection already: name another one, with gallery=NAME in the URL.")
        if found != wanted:
            known = json.loads(found)
            whose = "with other keys" if known["owner"] == owner else f"by the workspace {known['owner']}"
            raise RefusedError(
                f"{self.collection} was adopted {whose} as {self.place}: release it there first, with  evergallery release"
                f"  or name another gallery for what is ours, with gallery=NAME in the URL."
            )


def _options(url: str) -> dict[str, str]:
    named: dict[str, str] = {}
    for option in options_of(url):
        name, _, value = option.partition("=")
        if name not in OPTIONS or name in named:
            raise InputError(
                f"{url} says {name}=, which is not known there, or twice: say {', '.join(OPTIONS)} once each."
            )
        named[name] = unquote(value)
    return named
