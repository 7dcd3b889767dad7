"""Every metric that was measured of every search, not only the one that the gate goes by."""

from typing import Any

from evergallery.report.measurements import Measurements
from evergallery.retrieval.metrics import METRICS, metric_named


def every_metric(found: Measurements) -> dict[str, Any]:
    """A table with a row for each search and group of classes, and a column for each metric, in %.

    The pair that is in question comes first, then every other search of the matrix.
    """
    subject = [(found.candidate, found.candidate)]
    if found.base is not None:
        subject = [(found.candidate, found.base), *subject, (found.base, found.base)]
    searches = {pair: found.check.matrix[pair] for pair in (*subject, *found.check.matrix)}
    names = list(dict.fromkeys(name for groups in searches.values() for name in groups["all"].values))
    rows = [
        (
            f"{query} in {gallery}",
            group,
            [f"{100 * groups[group].values[name]:.1f}" for name in names],
            groups[group].queries,
        )
        for (query, gallery), groups in searches.items()
        for group in found.groups
        if group in groups and groups[group].queries
    ]
    measured = [metric_named(name) for name in names]
    return {
        "names": names,
        "rows": rows,
        "explained": {name: metric.explained for name, metric in METRICS.items() if metric in measured},
    }
