"""Queries whose first answer changed, as pictures."""

from typing import Any

import numpy as np

from evergallery.report.measurements import Measurements
from evergallery.report.page import pictured, shown_image
from evergallery.upgrade.figures import interval_in_percent
from evergallery.upgrade.pairing import Flip

SHOWN = 6


def flips(found: Measurements) -> dict[str, Any]:
    """Some of the queries that the update lost and won, drawn at random."""
    pair = found.updates[found.candidate]
    images = found.check.images.images

    def image(index: int, query: int) -> dict[str, Any]:
        return shown_image(images, index, int(images.labels[query]))

    def drawn(changed: tuple[Flip, ...]) -> list[dict[str, Any]]:
        chosen = np.sort(np.random.default_rng(0).permutation(len(changed))[:SHOWN])
        return [
            {
                "query": image(flip.query, flip.query),
                "before": image(flip.before, flip.query),
                "after": image(flip.after, flip.query),
            }
            for flip in (changed[place] for place in chosen)
        ]

    through = pair.serves
    lost, won = (
        interval_in_percent(found.interval(share, through.queries))
        for share in (through.negative_flips, through.positive_flips)
    )
    balance = "more than" if through.positive_flips > through.negative_flips else "not more than"
    return {
        "sentence": (
            f"Searching the vectors of {found.base}, {found.candidate} answers {won} % of the queries rightly that {found.base} "
            f"answered wrongly, and loses {lost} % that {found.base} answered rightly: it wins {balance} it loses."
        ),
        "pictured": pictured(images),
        "kinds": [
            (
                "Lost",
                f"{found.base} found the class, {found.candidate} does not",
                len(pair.negative),
                drawn(pair.negative),
            ),
            (
                "Won",
                f"{found.base} missed the class, {found.candidate} finds it",
                len(pair.positive),
                drawn(pair.positive),
            ),
        ],
    }
