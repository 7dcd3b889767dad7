"""The same search for every method: values of its one main weight, on characters that no table of results shows.

Every method begins with the same factors of its default. While the best of them is the first or the last, the next one beyond it
is tried, too, up to the same number of values for each. What is chosen is the value with the highest mean of recall@1 of all
classes in vectors of its own and in the first generation's, over the seeds. The characters, and those of the reports, are listed
in ``glyphs_characters.json``. The file names the commit that writes it, and beside that those which made the runs.

Methods may be searched for side by side: each process names its own with ``--methods``, and all have one ``--work``, where what
is finished is kept. Without ``--methods`` what is missing is run, ``--processes`` at a time, and the file is written.
"""

import argparse
import fcntl
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common import record
from evergallery.benchmark.contenders import INITIAL
from evergallery.benchmark.job import Experiment
from evergallery.benchmark.protocol import Budget, ProtocolChanges
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
FACTORS: tuple[float, ...] = (0.25, 1, 4, 16)
"""Of the default, which is the published value where there is one."""
STEP, MOST = 4, 8
"""How much farther each further value lies, and how many values a method may have in all."""
SIZE = 16


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


def tried(value: Callable[[float], float]) -> list[float]:
    """The factors that the rule tries, ascending.

    Args:
        value: what a factor gives; asked as the search goes along.
    """
    factors = list(FACTORS)
    while len(factors) < MOST:
        best = max(factors, key=value)
        if best == factors[0]:
            factors.insert(0, best / STEP)
        elif best == factors[-1]:
            factors.append(best * STEP)
        else:
            break
    return factors


@dataclass(frozen=True)
class Search:
    """Where and how long is searched.

    Attributes:
        work: the directory of the runs, which resume.
        budget: of each run.
        seeds: of each value.
    """

    work: Path
    budget: Budget
    seeds: tuple[int, ...]

    def begin(self) -> None:
        """The images and the first generations, made by one process while the others wait."""
        self.work.mkdir(parents=True, exist_ok=True)
        with (self.work / "begin.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            images = self.work / "development.npz"
            if not images.is_file():
                unfinished = self.work / "unfinished.npz"
                development_images(unfinished)
                unfinished.rename(images)
            self.run(INITIAL)

    def run(self, name: str) -> Path:
        """The runs of a contender at each seed that are not there yet; the directory of the results."""
        return run_benchmark(
            Experiment(
                "glyphs",
                self.budget,
                str(self.work / "development.npz"),
                changes=ProtocolChanges(size=SIZE),
            ),
            [name],
            seeds=self.seeds,
            out=self.work,
            watcher=Watcher(),
        )

    def search(self, method: str) -> None:
        """Run what the rule asks for."""

        def value(factor: float) -> float:
            name = contender(method, factor)
            return mean_of_both(runs_at(by_method(read_runs(self.run(name)))[name], self.seeds))

        for factor in tried(value):
            value(factor)

    def finished(self) -> dict[str, list[Run]]:
        """The finished runs of its seeds, by contender."""
        runs = by_method(read_runs(self.run(INITIAL)))
        return {name: runs_at(of, self.seeds) for name, of in runs.items()}


def runs_at(runs: Sequence[Run], seeds: Sequence[int]) -> list[Run]:
    """The runs of these seeds, in their order."""
    return sorted((run for run in runs if run["seed"] in seeds), key=lambda run: run["seed"])


def mean_of_both(runs: Sequence[Run]) -> float:
    """Mean of ``both`` over the seeds, as the file has it: rounded."""
    return statistics.fmean(round(both(run), 4) for run in runs)


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
        runs: of every contender that the rule asks for; others are left out.
    """
    told: dict[str, Any] = {}
    for method in MAIN:
        of = {factor: runs[contender(method, factor)] for factor in tried(value_in(runs, method))}
        values = {
            f"{factor * default(method):g}": {
                "both": [round(both(run), 4) for run in of[factor]],
                "self": [round(run["measures"]["compatibility"]["all"]["recall@1"][-1][-1], 4) for run in of[factor]],
                "cross": [round(run["measures"]["compatibility"]["all"]["recall@1"][-1][0], 4) for run in of[factor]],
            }
            for factor in of
        }
        best = max(of, key=value_in(runs, method))
        told[method] = {
            "weight": MAIN[method], "default": f"{default(method):g}", "best": f"{best * default(method):g}", "values": values,
        }  # fmt: skip
    return told


def value_in(runs: Mapping[str, Sequence[Run]], method: str) -> Callable[[float], float]:
    """What a factor of a method gave, from its finished runs."""
    return lambda factor: mean_of_both(runs[contender(method, factor)])


def is_complete(runs: Mapping[str, Sequence[Run]], method: str, seeds: int) -> bool:
    """Whether everything that the rule asks for is there."""
    try:
        return all(len(runs[contender(method, factor)]) == seeds for factor in tried(value_in(runs, method)))
    except KeyError:
        return False


def rows(methods: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The rows that tables have beside the published settings: chosen values that are not the defaults."""
    return [
        f"{name}@{method['weight']}={method['best']}"
        for name, method in methods.items()
        if method["best"] != method["default"]
    ]


def main() -> None:
    """Search for the methods that are named; or for all of them, and record what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("search"), help="where the runs go; they resume")
    parser.add_argument("--methods", help="search for these alone, and write no file")
    parser.add_argument("--processes", type=int, default=1, help="methods at a time, of one thread each")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each value")
    parser.add_argument("--rehearse", action="store_true", help="a few epochs; the file goes into --work")
    options = parser.parse_args()
    search = Search(options.work, "quick" if options.rehearse else "standard", tuple(range(options.seeds)))
    search.begin()
    if options.methods is not None:
        for method in options.methods.split(","):
            search.search(method)
        return

    def alone(method: str) -> None:
        words = [
            sys.executable,
            __file__,
            "--work",
            str(options.work),
            "--seeds",
            str(options.seeds),
            "--methods",
            method,
        ]
        threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        subprocess.run([*words, *["--rehearse"] * options.rehearse], check=True, env={**os.environ, **threads})

    runs = search.finished()
    with ThreadPoolExecutor(options.processes) as pool:
        list(pool.map(alone, [method for method in MAIN if not is_complete(runs, method, len(search.seeds))]))
    runs = search.finished()
    methods = found(runs)
    asked = [
        run for method in methods for factor in tried(value_in(runs, method)) for run in runs[contender(method, factor)]
    ]
    result = {
        "size": SIZE,
        "initial": statistics.fmean(run["measures"]["compatibility"]["all"]["recall@1"][0][0] for run in runs[INITIAL]),
        "seeds": list(search.seeds),
        "factors": list(FACTORS),
        "step": STEP,
        "most": MOST,
        "runs": origins([*runs[INITIAL], *asked]),
        "methods": methods,
    }
    if options.rehearse:
        (options.work / "search.json").write_text(json.dumps(result, indent=2))
    else:
        record("search", result)
    print("Rows for the tables:", ",".join(rows(methods)))


if __name__ == "__main__":
    main()
