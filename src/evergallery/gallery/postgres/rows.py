"""Versions as rows of PostgreSQL, and back."""

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evergallery.data.metadata import term_forms
from evergallery.errors import InputError
from evergallery.gallery.items import Filter, Item, Precision, View, point_id
from evergallery.gallery.versions import problem_of as problem_of_version

ATTRIBUTES = tuple(field.name for field in fields(Item))
COLUMNS = ", ".join(ATTRIBUTES)
WITHOUT_EMBEDDING = COLUMNS.replace("embedding", "NULL")

Parameters = dict[str, Any]


def refuse_nul(items: Sequence[Item]) -> None:
    """Refuse text that PostgreSQL does not store.

    Raises:
        InputError: an item has such text.
    """
    for item in items:
        if "\0" in "".join(map(str, (item.id, item.label, item.uri, item.content_hash))):
            raise InputError(f"The item {item.id!r} has text with the character NUL, which PostgreSQL does not store.")


def condition(where: Filter, view: View) -> tuple[str, Parameters]:
    """Return what a filter and a view ask of rows, and the values in it."""
    conditions, values = ["true"], Parameters()
    if where.labels is not None:
        conditions.append("label = ANY(%(labels)s)")
        values["labels"] = list(where.labels)
    if where.generations is not None:
        conditions.append("generation = ANY(%(generations)s)")
        values["generations"] = list(where.generations)
    if where.uris is not None:
        conditions.append("uri = ANY(%(uris)s)")
        values["uris"] = list(where.uris)
    for number, terms in enumerate(term_forms(where.metadata or {})):
        conditions.append(f"metadata_terms && %(terms{number})s")
        values[f"terms{number}"] = terms
    if where.content_hashes is not None:
        conditions.append("content_hash = ANY(%(contents)s)")
        values["contents"] = list(where.content_hashes)
    if view.hidden:
        conditions.append("(refresh = ANY(%(hidden)s)) IS NOT TRUE")
        values["hidden"] = sorted(view.hidden)
    if view.shown:
        conditions.append("(superseded = ANY(%(shown)s)) IS NOT TRUE")
        values["shown"] = sorted(view.shown)
    return " AND ".join(conditions), values


def item_of(row: Sequence[Any]) -> Item:
    """The version that a row of ``COLUMNS`` holds, whatever stands behind them."""
    values = dict(zip(ATTRIBUTES, row, strict=False))
    embedding = np.empty(0, np.float32) if values["embedding"] is None else values["embedding"].to_numpy()
    described = {"embedding": embedding.astype(np.float32, copy=False), "metadata": json.loads(values["metadata"])}
    return Item(**(values | described))


def problem_of(row: Sequence[Any], dimensions: dict[str, int]) -> str | None:
    """Return what is wrong with a version, if anything."""
    point, terms = row[-2:]
    try:
        item = item_of(row)
    except (ValueError, AttributeError):
        return f"the metadata of {row[0]!r} are not what was stored"
    if point != point_id(item.id):
        return f"the item {item.id!r} lies under another id"
    return problem_of_version(item, terms, dimensions.get(item.generation))


def vector_of(embedding: NDArray[np.float32], precision: Precision) -> Any:
    """An embedding (D,) as pgvector takes it."""
    from pgvector import HalfVector, Vector

    return (HalfVector if precision == "float16" else Vector)(embedding)
