"""Items with all their versions as points of Qdrant, and back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from evergallery.data.metadata import metadata_terms, term_forms, to_json
from evergallery.errors import DamagedError
from evergallery.gallery.items import Filter, Item, View, point_id
from evergallery.gallery.versions import problem_of

if TYPE_CHECKING:
    from qdrant_client import models

# What describes a version beside its vector; the metadata are text, so that numbers come back as they were.
DESCRIBED = ("generation", "label", "uri", "content_hash", "added", "refresh", "superseded")


def described(version: Item) -> dict[str, Any]:
    """Return what the payload of a point says of one version."""
    return {
        **{name: getattr(version, name) for name in DESCRIBED},
        "metadata": to_json(version.metadata),
        "metadata_terms": metadata_terms(version.metadata),
    }


def versions_of(point: "models.Record | models.ScoredPoint") -> list[Item]:
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
                embedding=np.asarray(vectors.get(description["generation"], ()), dtype=np.float32),
                metadata=json.loads(description["metadata"]),
                **{name: description[name] for name in DESCRIBED},
            )
            for description in payload["versions"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(
            f"The gallery holds only a part of {payload.get('id', point.id)!r} ({error!r}): delete it and index it again."
        ) from error


def condition(where: Filter, view: View) -> "models.Filter | None":
    """Return what a filter and a view ask of one version of an item."""
    from qdrant_client import models

    def one_of(name: str, values: Sequence[str]) -> models.FieldCondition:
        return models.FieldCondition(key=name, match=models.MatchAny(any=list(values)))

    wanted = {
        "label": where.labels,
        "generation": where.generations,
        "uri": where.uris,
        "content_hash": where.content_hashes,
    }
    must: list[Any] = [one_of(name, values) for name, values in wanted.items() if values is not None]
    must += [one_of("metadata_terms", terms) for terms in term_forms(where.metadata or {})]
    hiding = {"refresh": view.hidden, "superseded": view.shown}
    must_not: list[Any] = [one_of(name, sorted(marks)) for name, marks in hiding.items() if marks]
    return _of_a_version(models.Filter(must=must, must_not=must_not)) if must or must_not else None


def marked_by(refresh: str) -> "models.Filter":
    """The condition that an item has a version which a refresh has made, or superseded."""
    from qdrant_client import models

    match = models.MatchValue(value=refresh)
    return _of_a_version(
        models.Filter(should=[models.FieldCondition(key=name, match=match) for name in ("refresh", "superseded")])
    )


def _of_a_version(condition: "models.Filter") -> "models.Filter":
    from qdrant_client import models

    return models.Filter(must=[models.NestedCondition(nested=models.Nested(key="versions", filter=condition))])


def is_asked(version: Item, where: Filter, view: View) -> bool:
    """Return whether a version satisfies what its point does by one of them."""
    return (
        (where.labels is None or version.label in where.labels)
        and (where.generations is None or version.generation in where.generations)
        and (where.uris is None or version.uri in where.uris)
        and (where.content_hashes is None or version.content_hash in where.content_hashes)
        and all(set(terms) & set(metadata_terms(version.metadata)) for terms in term_forms(where.metadata or {}))
        and view.sees(version.refresh, version.superseded)
    )


def unmarked(version: Item, refresh: str) -> Item:
    """A version without the marks of a refresh."""
    marks = {name: None for name in ("refresh", "superseded") if getattr(version, name) == refresh}
    return replace(version, **marks)  # type: ignore[arg-type]


def problems_of(record: "models.Record", dimensions: Mapping[str, int], view: View) -> list[str]:
    """Return what is wrong with an item, a sentence each."""
    try:
        versions = versions_of(record)
    except DamagedError as error:
        return [str(error)]
    payload = record.payload or {}
    identifier = payload["id"]
    found = [
        problem_of(version, described.get("metadata_terms"), dimensions.get(version.generation))
        for version, described in zip(versions, payload["versions"], strict=True)
    ]
    if str(record.id) != str(point_id(identifier)):
        found.append(f"the item {identifier!r} lies under another id")
    problems = [f"In the gallery, {problem}: delete it and index it again." for problem in found if problem]
    if sum(view.sees(version.refresh, version.superseded) for version in versions) > 1:
        problems.append(f"In the gallery, {identifier!r} is in two generations: index it again.")
    return problems
