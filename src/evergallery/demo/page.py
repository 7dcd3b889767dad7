"""The demo's page: the table as a plot, and queries with their results before and after."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from evergallery.demo.result import DemoResult, DemoRow
from evergallery.evaluation import Protocol
from evergallery.report.page import COLOURS, picture, plot, write_page
from evergallery.retrieval.knn import nearest
from evergallery.retrieval.width import in_width_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RESULTS_SHOWN = 5
QUERIES_SHOWN = 4


def write_demo_page(
    result: DemoResult,
    held_out: Protocol,
    stored: NDArray[np.float32],
    embeddings: Mapping[str, NDArray[np.float32]],
    old_classes: Sequence[str],
) -> None:
    """Write the page to ``result.page``.

    Args:
        result: the figures.
        held_out: the N images that were searched for and in.
        stored: the gallery's vectors (N, D).
        embeddings: by name of generation, its embeddings (N, D).
        old_classes: names of the classes that v1 learned.
    """
    images = held_out.images
    lists = {name: _results(vectors, stored) for name, vectors in embeddings.items()}
    hit = {name: images.labels[found[:, 0]] == images.labels for name, found in lists.items()}
    is_old = np.isin(np.asarray(images.classes, dtype=object), np.asarray(old_classes, dtype=object))[images.labels]
    before, tuned, after = hit["v1"], hit["v2"], hit["v4"]
    sections = [
        (
            "Learned",
            "New categories that v1 missed and v4 (evergreen) finds, in the same old vectors.",
            ~is_old & ~before & after,
        ),
        ("Kept", "Old categories that fine-tuning forgot and evergreen kept.", is_old & before & ~tuned & after),
        (
            "Forgotten",
            "Old categories that v1 found and evergreen no longer finds: the price.",
            is_old & before & ~after,
        ),
        ("As they come", "Queries drawn at random, good or bad.", np.ones_like(before)),
    ]
    draw = np.random.default_rng(0)
    shown = []
    for title, text, member in sections:
        candidates = np.flatnonzero(member)
        chosen = draw.permutation(candidates)[:QUERIES_SHOWN]
        share = f"{len(candidates)} of {len(images)} queries" if not member.all() else ""
        shown.append(
            {"title": title, "text": text, "share": share, "queries": [_query(held_out, lists, int(i)) for i in chosen]}
        )
    counts = [
        (
            group,
            *(int((member & mask).sum()) for mask in (before & after, ~before & after, before & ~after)),
        )
        for group, member in (("old", is_old), ("new", ~is_old))
    ]
    write_page(
        result.page,
        "demo.html",
        result=result,
        plot=plot(lambda axes: _bars(axes, result.contenders), _words(result.contenders)),
        sections=shown,
        counts=counts,
    )


def _results(queries: NDArray[np.float32], stored: NDArray[np.float32]) -> NDArray[np.int64]:
    """(N, 5) the nearest stored images of each, itself left out."""
    asked = torch.from_numpy(in_width_of(queries, stored))
    found = nearest(asked, torch.from_numpy(stored), RESULTS_SHOWN + 1).indices.numpy()
    itself = found == np.arange(len(found))[:, None]
    # Where an image is not among its own nearest (possible across generations), the last one goes.
    itself[:, -1] |= ~itself.any(1)
    kept: NDArray[np.int64] = found[~itself].reshape(len(found), -1)
    return kept


def _query(held_out: Protocol, lists: Mapping[str, NDArray[np.int64]], index: int) -> dict[str, Any]:
    images = held_out.images

    def shown(i: int) -> dict[str, Any]:
        right = bool(images.labels[i] == images.labels[index])
        return {
            "src": picture(images.pixels[images.rows[i]]),
            "label": images.classes[images.labels[i]],
            "right": right,
        }

    titles = {
        "v1": "before: v1",
        "v4": "after: v4, evergreen",
        "v3": "after: v3, CSD",
        "v2": "after: v2, fine-tuned",
    }
    rows = [(title, [shown(int(i)) for i in lists[name][index]]) for name, title in titles.items()]
    return {**shown(index), "rows": rows}


def _bars(axes: "Axes", contenders: "Sequence[DemoRow]") -> None:
    groups = [(test, group) for group in ("old", "new", "all") for test in ("self", "cross")]
    width = 0.8 / len(contenders)
    for number, (contender, colour) in enumerate(zip(contenders, COLOURS, strict=False)):
        places = np.arange(len(groups)) + (number - (len(contenders) - 1) / 2) * width
        heights = [contender.recall(test, group) for test, group in groups]
        axes.bar(places, heights, width * 0.92, color=colour, label=contender.title)
    axes.set_xticks(range(len(groups)), [f"{group} classes\n{test}-test" for test, group in groups])
    axes.set_ylabel("recall@1 (%)")
    axes.set_ylim(0, 100)
    axes.grid(axis="y", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(ncols=len(contenders), loc="upper center", bbox_to_anchor=(0.5, 1.16), frameon=False, fontsize=9)


def _words(contenders: "Sequence[DemoRow]") -> str:
    parts = [
        f"{contender.title}: {contender.recall('self', 'all'):.0f} % self-test, {contender.recall('cross', 'all'):.0f} % "
        f"cross-test on all classes"
        for contender in contenders
    ]
    return "Recall@1 by generation. " + "; ".join(parts) + "."
