"""Which way to answer, and when: every way, while more and more of a gallery of real images is refreshed.

Pretrained networks make the vectors of both sides (``features.py``). One half of the queries calibrates, the other half is
answered; halves, the pairs that the adapter is fitted to, and the order of the refresh are drawn by each seed. recall@1 counts a
nearest item of the query's class. Queries are photographs that are neither in the gallery nor among the pairs.

Without the folder of images there is nothing to measure, and it says so.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from common import DOCS, apart, paired_on, record, recorded, table, wrapped, write_between
from evergallery import Workspace
from evergallery.adapters import fit_bilateral
from evergallery.data.image_set import ImageSet
from evergallery.evaluation import Protocol
from evergallery.holdings.answer import Answer
from evergallery.retrieval.calibrating import fit_calibration
from evergallery.retrieval.calibration import Calibration
from evergallery.retrieval.knn import nearest
from evergallery.retrieval.width import in_width_of
from evergallery.upgrade.evidence import Outcome, Setting
from evergallery.upgrade.ways import ComparedVectors, RefreshSimulation, RouteVectors, outcomes
from features import IMAGES, SIDE, Case, Part, image_case, image_sets

DATA = {"grocery": "groceries", "cifar100": "CIFAR-100"}
PAIRS = {
    "Lite0, 32-d → Lite1": (("lite0", 32), ("lite1", 256)),
    "Lite0 → Lite1": (("lite0", 256), ("lite1", 256)),
    "Lite1 → Lite0": (("lite1", 256), ("lite0", 256)),
}
"""An old model and a new one, with their dimensions: one that is clearly better, and two that are as good as each other."""
FITTED, DEPTH = 300, 20
SHARES = (0.0, 0.25, 0.5, 0.75)
LIVE = {"gallery": 1000, "query": 300, "background": 60}
"""Photographs of the searches that are timed: stored, held out for the check, and searched with."""
Vectors = NDArray[np.float32]

ROWS: dict[str, tuple[str, int | None, str | None]] = {
    "wait: the old model alone": ("wait", None, None),
    "new queries as they are": ("direct", None, None),
    "through an adapter": ("adapter", None, "adapter"),
    "dual query": ("dual", None, None),
    "re-score 10": ("rescore", 10, None),
    "re-score 20": ("rescore", 20, None),
    "re-score 50": ("rescore", 50, None),
    "re-score 100": ("rescore", 100, None),
    "re-score 100, found through the adapter": ("rescore", 100, "adapter"),
}


def main() -> None:
    """Measure, record, and write the tables of the README and of the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help=f"folder with {', '.join(IMAGES.values())}")
    parser.add_argument("--work", type=Path, help="folder for embeddings, which are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="only write the table, from the recorded result")
    options = parser.parse_args()
    if not options.table:
        if options.images is None or options.work is None:
            sys.exit("Skipped: name the folder of images and one for embeddings. See --help.")
        missing = [str(options.images / name) for name in IMAGES.values() if not (options.images / name).exists()]
        if missing:
            sys.exit(f"Skipped: {', '.join(missing)} is not there. See --help for what is needed.")
        torch.set_num_threads(options.threads)
        result = measured(options.images, options.work, options.seeds) | {"live": live(options.images)}
        record("answering", result, options.seeds[0])
    for page, write in PAGES.items():
        write_between(page, "answering", write(recorded("answering")))


def measured(images: Path, work: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """By data set and pair of models, every way at every share."""
    result: dict[str, Any] = {"seeds": list(seeds), "pairs that an adapter is fitted to": FITTED}
    for data in DATA:
        for pair, (old, new) in PAIRS.items():
            case = image_case(images, work, data, old, new)
            found = [by_setting(answered(case, seed)) for seed in seeds]
            result[f"{data}|{pair}"] = {
                "queries": len(case.query_labels) - len(case.query_labels) // 2,
                "gallery": len(case.gallery_labels),
                "everything refreshed": spread([outcomes[Setting(way="refresh", share=1.0)] for outcomes in found]),
                **{
                    name: {
                        f"{100 * share:.0f} %": spread([outcomes[key(row, share)] for outcomes in found])
                        for share in shares(row)
                    }
                    for name, row in ROWS.items()
                },
                "images a query, re-score 20, nothing kept": found[0][key(ROWS["re-score 20"], 0.0)].images,
                "images a query, re-score 20, kept": round(found[0][key(ROWS["re-score 20"], 0.0)].images_kept, 2),
            }
            print(data, pair, result[f"{data}|{pair}"], file=sys.stderr, flush=True)
    return result


def live(images: Path) -> dict[str, Any]:
    """Searches in a workspace of photographs on disk: milliseconds, and images that are embedded, query after query."""
    parts = image_sets(images)["grocery"]()
    with tempfile.TemporaryDirectory() as folder:
        places = {name: written_out(parts[name].few(most), Path(folder) / name) for name, most in LIVE.items()}
        queries = sorted(places["background"].rglob("*.png"))
        with Workspace.create(
            Path(folder) / "shop", backbone="tf_efficientnet_lite0", pretrained=True, size=SIDE
        ) as shop:
            shop.register("tf_efficientnet_lite1", size=SIDE)
            # What is timed is timed whatever the gate says.
            (shop.directory / "gate.toml").write_text("queries = 1\nself_test = false\n")
            shop.index(places["gallery"])
            shop.check("v2", places["query"])
            found: dict[str, Any] = {"gallery": LIVE["gallery"], "queries": len(queries)}
            found["v1 alone"] = timed(shop, queries)
            for name, answer in {"dual query": Answer.of("dual"), "re-score 20": Answer.of("rescore", 20)}.items():
                shop.promote("v2", answer=answer)
                found[name] = timed(shop, queries)
            found["re-score 20, the same queries again"] = timed(shop, queries)
    return found


def written_out(part: Part, folder: Path) -> Path:
    """Images as files, a folder a class."""
    for number, (read, label) in enumerate(zip(part.inputs, part.labels, strict=True)):
        path = folder / f"{label:03d}" / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(read())).save(path)
    return folder


def timed(shop: Workspace, queries: Sequence[Path]) -> dict[str, Any]:
    """Milliseconds of each search, and how many items it has given a new vector."""
    milliseconds, made = [], []
    for query in queries:
        before = new_vectors(shop)
        started = time.perf_counter()
        shop.search(query)
        milliseconds.append(1000 * (time.perf_counter() - started))
        made.append(new_vectors(shop) - before)
    tenth = max(1, len(queries) // 10)
    return {
        "median ms": round(statistics.median(milliseconds), 1),
        "largest ms": round(max(milliseconds), 1),
        "images a query, first tenth": round(statistics.mean(made[:tenth]), 1),
        "images a query, last tenth": round(statistics.mean(made[-tenth:]), 1),
    }


def new_vectors(shop: Workspace) -> int:
    """Items that have a vector of v2."""
    return shop.gallery.count_by_generation().get(shop.generation("v2").fingerprint, 0)


def shares(row: tuple[str, int | None, str | None]) -> Sequence[float]:
    """At which a way is told: waiting is the same at all of them."""
    return (0.0,) if row[0] == "wait" else SHARES


def key(row: tuple[str, int | None, str | None], share: float) -> Setting:
    """What the outcome of a row is found by."""
    return Setting.model_validate({"way": row[0], "candidates": row[1], "through": row[2], "share": share})


def by_setting(found: Sequence[Outcome]) -> dict[Setting, Outcome]:
    """Outcomes by what they are of."""
    return {
        Setting.model_validate({name: getattr(outcome, name) for name in Setting.model_fields}): outcome
        for outcome in found
    }


def spread(found: Sequence[Outcome]) -> dict[str, Any]:
    """recall@1 in %, mean and every seed, and points beside the old model alone."""
    return {
        "mean": round(100 * statistics.mean(outcome.score for outcome in found), 2),
        "seeds": [round(100 * outcome.score, 2) for outcome in found],
        "beside the old model": round(100 * statistics.mean(outcome.change.mean for outcome in found), 2),
        "lowest end": round(100 * min(outcome.change.low for outcome in found), 2),
    }


def answered(case: Case, seed: int) -> tuple[Outcome, ...]:
    """One seed of a case."""
    draw = np.random.default_rng(seed)
    queries, items = len(case.query_labels), len(case.gallery_labels)
    order = draw.permutation(queries)
    calibrating, asked = order[: queries // 2], order[queries // 2 :]
    pairs = torch.from_numpy(draw.permutation(items)[:FITTED])
    adapter = fit_bilateral(case.new_gallery[pairs], case.old_gallery[pairs])
    sides = {
        "old": (case.old_queries, case.old_gallery),
        "new": (case.new_queries, case.new_gallery),
        "direct": (torch.from_numpy(in_width_of(case.new_queries.numpy(), case.old_gallery.numpy())), case.old_gallery),
        "adapter": (adapter.query_side(case.new_queries), adapter.stored_side(case.old_gallery)),
    }
    compared = {
        name: RouteVectors(
            np.concatenate([query[asked].numpy(), np.zeros_like(gallery.numpy())]),
            np.concatenate([np.zeros_like(query[asked].numpy()), gallery.numpy()]),
            scale(query[calibrating], case.query_labels[calibrating], gallery, case.gallery_labels),
        )
        for name, (query, gallery) in sides.items()
    }
    labels = np.concatenate([case.query_labels[asked].numpy(), case.gallery_labels.numpy()])
    classes, numbers = np.unique(labels, return_inverse=True)
    count = len(labels)
    images = ImageSet(
        np.zeros((1, 1, 1, 3), np.uint8), np.zeros(count, np.int64), numbers.astype(np.int64),
        tuple(map(str, classes)), uris=("",) * count, hashes=tuple(f"{row:064x}" for row in range(count)),
    )  # fmt: skip
    protocol = Protocol(images, np.arange(len(asked)), np.arange(len(asked), count), "queries beside a gallery")
    routes = {name: compared[name] for name in ("direct", "adapter")}
    return outcomes(
        protocol,
        ComparedVectors(compared["old"], compared["new"], routes),
        confidence=0.95,
        simulation=RefreshSimulation(shares=SHARES, seed=seed),
    )


def scale(
    queries: torch.Tensor, query_labels: torch.Tensor, gallery: torch.Tensor, gallery_labels: torch.Tensor
) -> Calibration | None:
    """The scale of a route's scores, from the half of the queries that calibrates."""
    found = nearest(queries, gallery, DEPTH)
    return fit_calibration(found.scores.flatten(), (gallery_labels[found.indices] == query_labels[:, None]).flatten())


WHEN = {
    "wait: the old model alone": "the check does not show the new model to be better",
    "new queries as they are": "the check calls them compatible: it costs nothing",
    "through an adapter": "the check calls it compatible after an adapter: no image, no second look",
    "dual query": "no image can be read while a query waits: as before until a refresh begins, then between both models, at "
    "times below the old one",
    "re-score 20": "the new model is shown to be better and images are at hand: most of what it gains, at once",
    "re-score 100": "20 candidates of the old model do not hold the answer, and a query may wait",
    "everything refreshed": "there is time for it: the end of every way, and the cheapest query",
}
"""When to take a way, for the rows of the README."""
SHOWN = ("0 %", "50 %")


def recalls(found: dict[str, Any], name: str) -> str:
    """recall@1 of a row at the shares that are shown."""
    row = found[name]
    told = [row] if "mean" in row else [row[share] for share in SHOWN if share in row]
    return " / ".join(f"{figure['mean']:.1f}" for figure in told)


def short(result: dict[str, Any]) -> str:
    """The table of the README."""
    cases = [f"{data}|{pair}" for data in DATA for pair in (*PAIRS,)[::2]]
    heads = [f"{DATA[case.partition('|')[0]]}, {case.partition('|')[2]}" for case in cases]
    rows = [[name, when, *(recalls(result[case], name) for case in cases)] for name, when in WHEN.items()]
    # Words stand to the left.
    return table(["way of answering", "take it when", *heads], rows).replace("| --- | ---: |", "| --- | --- |", 1)


def latency(result: dict[str, Any]) -> str:
    """The table of the searches that were timed."""
    names = ("v1 alone", "dual query", "re-score 20", "re-score 20, the same queries again")
    columns = tuple(result["live"]["v1 alone"])
    rows = [[name, *(f"{result['live'][name][column]:.1f}" for column in columns)] for name in names]
    return table(["way of answering", *columns], rows)


APART = (
    ("everything refreshed", None, "wait: the old model alone"),
    ("re-score 20", "0 %", "wait: the old model alone"),
    *(("dual query", share, "wait: the old model alone") for share in ("25 %", "50 %", "75 %")),
    ("through an adapter", "0 %", "wait: the old model alone"),
    ("re-score 10", "0 %", "everything refreshed"),
)
"""A way at a share of the gallery, and what it is compared with before anything is refreshed, or after everything is."""


def at(found: dict[str, Any], way: str, share: str | None) -> dict[str, Any]:
    """What a way finds at a share of the gallery; ``None`` is the only one that it has."""
    figures: dict[str, Any] = found[way] if "seeds" in found[way] else found[way][share or "0 %"]
    return figures


def differences(result: dict[str, Any], cases: Sequence[str], heads: Sequence[str]) -> str:
    """The table of what the seeds show."""
    rows = [
        [
            f"{way}{'' if share is None else f', {share}'} − {other.partition(':')[2].strip() or other}",
            *(apart(at(result[case], way, share), at(result[case], other, None)).text() for case in cases),
        ]
        for way, share, other in APART
    ]
    return f"{paired_on('seed')}\n\n{table(['difference', *heads], rows)}"


def whole(result: dict[str, Any]) -> str:
    """The table of the page, at every share."""
    cases = [name for name in result if "|" in name]
    heads = [f"{DATA[case.partition('|')[0]]}, {case.partition('|')[2]}" for case in cases]
    rows = [
        [name, *(" / ".join(f"{figure['mean']:.1f}" for figure in result[case][name].values()) for case in cases)]
        for name in ROWS
    ]
    rows.append(["everything refreshed", *(f"{result[case]['everything refreshed']['mean']:.1f}" for case in cases)])
    kept = "images a query, re-score 20, kept"
    rows.append([kept, *(f"{result[case][kept]:.1f}" for case in cases)])
    timed_on = (
        f"Searches by photographs on disk, {result['live']['gallery']} stored, Lite0 to Lite1 at {SIDE} pixels, on the "
        f"processor of the result file with one thread while others used it too:"
    )
    told = table(["way of answering", *heads], rows)
    return wrapped(f"{told}\n\n{differences(result, cases, heads)}\n\n{timed_on}\n\n{latency(result)}")


PAGES = {DOCS.parent / "README.md": short, DOCS / "upgrades.md": whole}


if __name__ == "__main__":
    main()
