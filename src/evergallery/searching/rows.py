"""Results of a search as JSON values: a row for each item."""

from collections.abc import Sequence
from typing import Any

from evergallery.holdings.comparing import space_of
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
