"""Tables beside the main one: every metric of the test images, and sets that are only tested on."""

import statistics
from collections.abc import Mapping, Sequence

from evergallery.benchmark.contenders import BOUND
from evergallery.benchmark.tables import NOT_MEANT, Run, begins_alike, by_method, row_name
from evergallery.evaluation import KS
from evergallery.retrieval.continual import advbct_both, advbct_compatibility, advbct_update
from evergallery.retrieval.metrics import metric_named


def ranks_markdown(runs: Sequence[Run]) -> str:
    """Every metric that tables show, of all classes, where runs have other ones than every run has; empty elsewhere."""
    methods = {name: [run["measures"].get("cells") or {} for run in found] for name, found in by_method(runs).items()}
    first: Mapping[str, float] = next(
        (cells["new self"] for found in methods.values() for cells in found if "new self" in cells), {}
    )
    metrics = {name: metric for name in first if (metric := metric_named(name)) is not None and metric.shown}
    if set(metrics) <= {*(f"recall@{k}" for k in KS), "mAP@R"}:
        return ""
    tests = {"self": "new self", "cross": "cross"}
    ranks = {name: name.rpartition("@")[2] for name in metrics}
    heads = [
        f"{test} {metric.heading.replace('@k', '@' + ranks[n])}" for test in tests for n, metric in metrics.items()
    ]
    explained = {metric.heading: metric.explained for metric in metrics.values()}
    lines = [
        "More metrics, all classes pooled, in %, mean over the seeds: "
        + "; ".join(f"{heading}, {words}" for heading, words in explained.items())
        + ".",
        "",
        "| method | " + " | ".join(heads) + " |",
        "|---" + "|---:" * len(heads) + "|",
    ]
    groups = by_method(runs)
    for name, found in methods.items():
        texts = []
        for test, cell in tests.items():
            if test == "cross" and any(map(begins_alike, groups[name])):
                texts += [NOT_MEANT] * len(metrics)
                continue
            for figure in metrics:
                values = [cells[cell][figure] for cells in found if figure in cells.get(cell, {})]
                texts.append(f"{100 * statistics.fmean(values):.1f}" if values else "–")
        lines.append(f"| {row_name(name, groups[name])} | " + " | ".join(texts) + " |")
    return "\n".join([*lines, "", ""])


def old_rates_markdown(runs: Sequence[Run]) -> str:
    """Dual-Tuning's table of old rates: recall@1 while less and less of the first generation's vectors is left.

    Empty where no run measured a gallery that is refreshed bit by bit.
    """
    curves = {
        name: [curve for run in found if (curve := run["measures"].get("refresh"))]
        for name, found in by_method(runs).items()
    }
    shares: Sequence[float] = next((curve["shares"] for found in curves.values() for curve in found), [])
    if not shares:
        return ""
    heads = [f"old rate {100 * (1 - share):.0f}" for share in shares]
    lines = [
        "Old rates: recall@1 in % of the last generation's queries, all classes pooled, when so many percent of the first one's "
        "vectors are left and the others are refreshed in random order; mean over the seeds.",
        "",
        "| method | " + " | ".join(heads) + " |",
        "|---" + "|---:" * len(heads) + "|",
    ]
    groups = by_method(runs)
    for name, found in curves.items():
        alike = any(map(begins_alike, groups[name]))
        texts = [
            NOT_MEANT
            if alike and share < 1
            else f"{100 * statistics.fmean(curve['recall@1'][place] for curve in found):.1f}"
            for place, share in enumerate(shares)
            if found
        ]
        lines.append(f"| {row_name(name, groups[name])} | " + " | ".join(texts or ["–"] * len(shares)) + " |")
    return "\n".join([*lines, "", ""])


def evaluated_markdown(runs: Sequence[Run]) -> str:
    """Pairs, templates and landmarks, where runs were measured on them, with AdvBCT's composites; empty elsewhere."""
    measured = [run for run in runs if run["measures"].get("evaluated")]
    if not measured:
        return ""
    names = [
        (name, figure) for name, tests in measured[0]["measures"]["evaluated"].items() for figure in tests["new self"]
    ]
    heads = [f"{name} {figure} {test}" for name, figure in names for test in ("self", "cross")]
    lines = [
        "On sets that are only tested on, in %, mean over the seeds. P_up, P_comp and their harmonic mean P_1 are AdvBCT's, mean "
        "over the sets of the first figure of each, M* of joint; 50 is neutral.",
        "",
        "| method | " + " | ".join([*heads, "P_up", "P_comp", "P_1"]) + " |",
        "|---" + "|---:" * (len(heads) + 3) + "|",
    ]
    best = {run["seed"]: run for run in measured if run["method"] == BOUND}
    for method, found in by_method(measured).items():
        columns = [
            [run["measures"]["evaluated"][name][cell][figure] for run in found]
            for name, figure in names
            for cell in ("new self", "cross")
        ]
        told = [values for run in found if run["seed"] in best if (values := _composites(run, best[run["seed"]]))]
        columns += [[values[index] for values in told] for index in range(3)]
        texts = [f"{100 * statistics.fmean(values):.1f}" if values else "–" for values in columns]
        lines.append(f"| {row_name(method, found)} | " + " | ".join(texts) + " |")
    return "\n".join([*lines, "", ""])


def _composites(run: Run, best: Run) -> tuple[float, float, float] | None:
    """P_up, P_comp and P_1 of a run, mean over its sets; ``None`` where one of them has none."""
    found = []
    for name, tests in run["measures"]["evaluated"].items():
        figure = next(iter(tests["new self"]))
        unconstrained = best["measures"]["evaluated"][name]["new self"][figure]
        update = advbct_update(tests["new self"][figure], unconstrained) if unconstrained > 0 else None
        kept = advbct_compatibility(tests["cross"][figure], tests["old self"][figure], unconstrained)
        if update is None or kept is None:
            return None
        found.append((update, kept, advbct_both(update, kept)))
    update, kept, both = (statistics.fmean(values) for values in zip(*found, strict=True))
    return update, kept, both
