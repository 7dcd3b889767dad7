"""Items, and results of a search, as JSON values: a row for each, as commands tell them."""

from collections.abc import Mapping, Sequence
from typing import Any

from evergallery.errors import NotFoundError
from evergallery.gallery.items import Filter, Item
from evergallery.holdings.comparing import space_names, space_of
from evergallery.holdings.holdings import Holdings
from evergallery.searching.routes import Result


def result_rows(holdings: Holdings, results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row for each result, the best first: rank from 1, score, probability, label, id, address, name of the space."""
    fingerprints = {result.item.generation for result in results}
    names = {fingerprint: space_of(holdings, fingerprint).name for fingerprint in fingerprints}
    return [
        {
            "rank": rank,
            "score": round(result.score, 4),
            "probability": None if result.probability is None else round(result.probability, 4),
            "label": result.item.label,
            "id": result.item.id,
            "uri": result.item.uri,
            "generation": names.get(result.item.generation),
        }
        for rank, result in enumerate(results, 1)
    ]


def item_row(names: Mapping[str, str], item: Item) -> dict[str, Any]:
    """All that is known of an item but its vector; its space by name, or by fingerprint where nobody knows it.

    Args:
        names: of the spaces, by fingerprint.
        item: as stored.
    """
    return {
        "id": item.id,
        "label": item.label,
        "generation": names.get(item.generation, item.generation),
        "uri": item.uri,
        "content_hash": item.content_hash,
        "added": item.added,
        "metadata": dict(item.metadata),
    }


def listed(holdings: Holdings, where: Filter, limit: int) -> list[dict[str, Any]]:
    """The rows of the first items that a filter admits, at most so many."""
    rows: list[dict[str, Any]] = []
    names = space_names(holdings)
    for batch in holdings.gallery.iterate(where, with_embeddings=False):
        rows += [item_row(names, item) for item in batch[: limit - len(rows)]]
        if len(rows) == limit:
            break
    return rows


def shown(holdings: Holdings, name: str) -> dict[str, Any]:
    """The row of an item, and its vector.

    Raises:
        NotFoundError: there is none of that id.
    """
    item = holdings.gallery.get(name)
    if item is None:
        raise NotFoundError(f"The gallery has no item {name!r}: list them with  evergallery gallery list")
    return {**item_row(space_names(holdings), item), "embedding": item.embedding.tolist()}
