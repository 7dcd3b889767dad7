"""The same search for every method: a few values of its one main weight, on characters that no table of results shows.

What is chosen is the value with the highest mean of recall@1 of all classes in vectors of its own and in the first generation's,
over the seeds. The characters, and those of the reports, are listed in ``glyphs_characters.json``. The file names the commit that
writes it, and beside that those which made the runs.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import record
from evergallery.benchmark.contenders import INITIAL
from evergallery.benchmark.protocol import ProtocolChanges
from evergallery.benchmark.runner import run_benchmark
from evergallery.benchmark.tables import Run, by_method, read_runs
from evergallery.data.glyphs import generate
from evergallery.methods import METHODS
from evergallery.watching import Watcher

CHARACTERS = Path(__file__).with_name("glyphs_characters.json")
MAIN: dict[str, str] = {
    "lwf": "logit_weight", "csd": "contrastive_weight", "relation": "weight", "mutual": "old_weight",
    "dual-tuning": "prototype_weight", "bct": "weight", "l2": "weight", "feature-distillation": "weight",
    "contrastive": "weight", "triplet-new-to-old": "weight", "ract": "weight", "lce": "alignment_weight",
    "mmd": "mmd_weight", "advbct": "boundary_weight", "unibct": "weight", "evergreen": "anchor_weight",
}  # fmt: skip
"""The weight of each method that says how much its past counts."""
FACTORS = (0.25, 1, 4, 16)
"""Of the default, which is the published value where there is one."""
SIZE, SEEDS = 16, (0, 1)


def contender(method: str, factor: float) -> str:
    """The method with its main weight times a factor, as a row of a benchmark."""
    return method if factor == 1 else f"{method}@{MAIN[method]}={factor * default(method):g}"


def default(method: str) -> float:
    """Its main weight as it is without a word."""
    return float(getattr(METHODS[method](), MAIN[method]))


def development_images(path: Path) -> None:
    """The development characters as an array file with their training and test parts."""
    known = json.loads(CHARACTERS.read_text())
    images = generate(classes=len(known["report"]) + len(known["development"])).of_classes(known["development"])
    assert images.split is not None
    names = np.array([images.classes[label] for label in images.labels])
    np.savez(path, images=images.pixels[images.rows], labels=names, split=images.split)


def both(run: Run) -> float:
    """Mean of recall@1 of all classes in vectors of its own and in the first generation's."""
    last = run["measures"]["compatibility"]["all"]["recall@1"][-1]
    return float(last[0] + last[-1]) / 2


def origins(runs: Sequence[Run]) -> dict[str, Any]:
    """Where and when the runs were made, which may be long before the file is written: they resume."""
    times = sorted(run["time"] for run in runs)
    return {
        "count": len(runs),
        "commits": sorted({str(run["commit"]) for run in runs}),
        "processors": sorted({run["hardware"]["processor"] for run in runs}),
        "precisions": sorted({run["precision"] for run in runs}),
        "first": times[0],
        "last": times[-1],
    }


def found(runs: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    """By method: what each value gave, seed by seed, and which is best.

    Args:
        runs: of every contender.
    """
    told: dict[str, Any] = {}
    for method in MAIN:
        values = {}
        for factor in FACTORS:
            of = sorted(runs[contender(method, factor)], key=lambda run: run["seed"])
            values[f"{factor * default(method):g}"] = {
                "both": [round(both(run), 4) for run in of],
                "self": [round(run["measures"]["compatibility"]["all"]["recall@1"][-1][-1], 4) for run in of],
                "cross": [round(run["measures"]["compatibility"]["all"]["recall@1"][-1][0], 4) for run in of],
            }
        best = max(values, key=lambda value: statistics.fmean(values[value]["both"]))
        told[method] = {
            "weight": MAIN[method], "default": f"{default(method):g}", "best": best, "values": values,
        }  # fmt: skip
    return told


def main() -> None:
    """Search, and record what was found once every method has been searched for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("search"), help="where the runs go; they resume")
    parser.add_argument("--methods", default=",".join(MAIN), help="search for these alone")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    images = options.work / "development.npz"
    if not images.is_file():
        development_images(images)
    for seed in SEEDS:
        names = [INITIAL, *(contender(method, factor) for method in options.methods.split(",") for factor in FACTORS)]
        directory = run_benchmark(
            "glyphs",
            names,
            seeds=[seed],
            data=str(images),
            changes=ProtocolChanges(size=SIZE),
            out=options.work,
            watcher=Watcher(),
        )
    finished = read_runs(directory)
    runs = by_method(finished)
    if {contender(method, factor) for method in MAIN for factor in FACTORS} <= runs.keys():
        untouched = [run["measures"]["compatibility"]["all"]["recall@1"][0][0] for run in runs[INITIAL]]
        record(
            "search",
            {
                "size": SIZE,
                "initial": statistics.fmean(untouched),
                "seeds": list(SEEDS),
                "factors": list(FACTORS),
                "runs": origins(finished),
                "methods": found(runs),
            },
        )


if __name__ == "__main__":
    main()
