"""Seconds of a processor that choosing an adapter takes, now and at an earlier commit (a checkout in ``--before``), in turn.

Both choose among all kinds for queries, in a process of its own, from the same drawn pairs: few of wide spaces, between widths,
and many. What each kind is judged by is recorded beside the seconds, so that a faster choice is seen to be the same one.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from common import record
from evergallery.adapters.selection import select_adapter

ROOT = Path(__file__).parents[1]
SHAPES = ((401, 1280, 1280), (401, 1280, 512), (5000, 1280, 512), (5000, 1280, 1280))
"""Pairs, and the widths of both spaces."""
LATENT, OF_A_CLASS, NOISE = 64, 8, 10.0


def drawn(pairs: int, source: int, target: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Unit rows of both spaces, bent from few directions in common and disturbed, and their classes."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(pairs) % (pairs // OF_A_CLASS)
    common = torch.randn(pairs // OF_A_CLASS, LATENT, generator=draw)[labels]
    common = common + torch.randn(pairs, LATENT, generator=draw)

    def seen(width: int) -> Tensor:
        bent = torch.relu(common @ torch.randn(LATENT, width, generator=draw))
        return F.normalize(bent + NOISE * torch.randn(pairs, width, generator=draw))

    return seen(source), seen(target), labels


def measure(pairs: int, source: int, target: int, seed: int) -> dict[str, Any]:
    """One choice, in this process."""
    torch.set_num_threads(1)
    both = drawn(pairs, source, target, seed)
    begun = of_a_processor()
    selection = select_adapter(*both)
    seconds = of_a_processor() - begun
    kinds = {
        trial.name: {
            "reciprocal rank": round(trial.worse.reciprocal_rank, 5),
            "recall": round(trial.worse.recall, 5),
            "cosine": round(trial.worse.cosine, 5),
        }
        for trial in selection.trials
    }
    return {"seconds": seconds, "chosen": selection.name, "kinds": kinds}


def of_a_processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def run(checkout: Path, *arguments: int) -> dict[str, Any]:
    """This file with the package of a checkout."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(checkout / "src"), str(Path(__file__).parent)])}
    command = [sys.executable, __file__, "--measure", *map(str, arguments)]
    told = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(told)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout of the commit to compare with")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--measure", type=int, nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure)))
        return
    checkouts = ({"before": options.before} if options.before else {}) | {"now": ROOT}
    result: dict[str, Any] = {}
    for shape in SHAPES:
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in checkouts}
        for _ in range(options.repeats):
            for name, checkout in checkouts.items():
                found[name].append(run(checkout, *shape, options.seed))
        told = {
            name: {**several[0], "seconds": round(statistics.median(one["seconds"] for one in several), 2)}
            for name, several in found.items()
        }
        if options.before:
            ratios = [before["seconds"] / now["seconds"] for before, now in zip(*found.values(), strict=True)]
            told["times as fast"] = {"median": round(statistics.median(ratios), 2), "least": round(min(ratios), 2)}
        result["{} pairs, {} to {}".format(*shape)] = told
    if options.before:
        commit = ["git", "-C", str(options.before), "rev-parse", "--short=12", "HEAD"]
        result["commit before"] = subprocess.run(commit, check=True, capture_output=True, text=True).stdout.strip()
    record("choosing", {"repeats": options.repeats, "seconds of a processor": result}, options.seed)


if __name__ == "__main__":
    main()
