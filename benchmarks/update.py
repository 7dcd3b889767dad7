"""An update from files to its verdict, as one run: a folder of new photographs is learned, and the result is checked.

The workspace begins with EfficientNet-Lite0 as it was published, and so without a cache: photographs are decoded, looked at by
the frozen backbone, themselves and their augmented views, the neck is solved, and held-out photographs are decoded, embedded
and searched. Photographs are generated, JPEGs of 640 × 480, which are as dear as real ones; or folders of classes are taken.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from common import record
from evergallery import Workspace
from evergallery.data.streaming import processors
from evergallery.watching import Watcher
from extraction import files_of, photographs

ROOT = Path(__file__).parents[1]
BACKBONE, SIDE = "tf_efficientnet_lite0", 224
SECONDS = ("seconds", "processor seconds")


class Parts(Watcher):
    """Adds up what passes between one thing that is told and the next."""

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = {}
        self.said_of_runtimes: list[str] = []
        self._activity, self._last = "reading images", self._now()

    def counted(self, activity: str, done: int, total: int) -> None:
        """What passes until another activity is heard of belongs to this one."""
        looks = activity.startswith(("looking at", "extracting with", "class means by"))
        self._begin("looking at images" if looks else activity)

    def said(self, message: str) -> None:
        """A line stands for what follows it: after a trial images go through the runtime that was found."""
        if "images a second" in message:
            self.said_of_runtimes.append(message)
            self._begin("looking at images")
        else:
            self._begin("trying the runtimes" if message.startswith("finding the fastest runtime") else message)

    def end(self) -> dict[str, dict[str, float]]:
        """Return what each part took."""
        self._begin("")
        return {
            name: dict(zip(SECONDS, (round(value, 1) for value in values), strict=True))
            for name, values in self.taken.items()
            if max(values) >= 0.1
        }

    def _begin(self, activity: str) -> None:
        now = self._now()
        taken = self.taken.setdefault(self._activity, [0.0, 0.0])
        for index in range(len(now)):
            taken[index] += now[index] - self._last[index]
        self._activity, self._last = activity, now

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()


def generated(scratch: Path, classes: int, each: int, held_out_each: int) -> tuple[Path, Path]:
    """Photographs in folders of classes, to be learned and held out; their content says nothing of the classes."""
    together = each + held_out_each
    folders = scratch / "new", scratch / "held out"
    for number, path in enumerate(files_of(photographs(scratch / "made", classes * together, (640, 480), ".jpg"))):
        place = folders[number % together >= each] / f"class {number // together:03d}"
        place.mkdir(parents=True, exist_ok=True)
        path.rename(place / path.name)
    return folders


def measure(new: Path, held_out: Path, size: int, threads: int) -> dict[str, Any]:
    """One update of a new workspace, in this process."""
    torch.set_num_threads(threads)
    with (
        tempfile.TemporaryDirectory() as name,
        Workspace.create(Path(name) / "shop", backbone=BACKBONE, size=size, pretrained=True) as shop,
    ):
        parts = Parts()
        shop.learn(new, watcher=parts)
        evidence = shop.check("v2", held_out, against="v1", watcher=parts)
        taken = parts.end()
    sums: dict[str, Any] = {unit: round(sum(of_part[unit] for of_part in taken.values()), 1) for unit in SECONDS}
    return {"verdict": evidence.verdict, **sums, "parts": taken, "runtimes": parts.said_of_runtimes}


def run(checkout: Path, given: Sequence[object]) -> dict[str, Any]:
    """The same by this file with the package of a checkout, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(checkout / "src"), str(Path(__file__).parent)])}
    command = [sys.executable, __file__, "--measure", *map(str, given)]
    told = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(told)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--each", type=int, default=100, help="photographs of a class that are learned")
    parser.add_argument("--held-out-each", type=int, default=20, help="photographs of a class that are held out")
    parser.add_argument("--new", type=Path, help="a folder of classes that is learned, in place of generated ones")
    parser.add_argument("--held-out", type=Path, help="a folder of the same classes that is held out, beside --new")
    parser.add_argument("--size", type=int, default=SIDE)
    parser.add_argument("--threads", type=int, default=processors(), help="of the network")
    parser.add_argument("--before", type=Path, help="a checkout of the commit to compare with, which goes first")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if bool(options.new) != bool(options.held_out):
        parser.error("--new and --held-out are given together")
    if options.measure:
        print(json.dumps(measure(options.new, options.held_out, options.size, options.threads)))
        return
    with tempfile.TemporaryDirectory() as name:
        new, held_out = options.new, options.held_out
        if new is None:
            new, held_out = generated(Path(name), options.classes, options.each, options.held_out_each)
        given = ("--new", new, "--held-out", held_out, "--size", options.size, "--threads", options.threads)
        checkouts = ({"before": options.before} if options.before else {}) | {"now": ROOT}
        found: dict[str, Any] = {which: run(checkout, given) for which, checkout in checkouts.items()}
        if options.before:
            ratio = found["before"]["processor seconds"] / found["now"]["processor seconds"]
            found["times less of a processor"] = round(ratio, 2)
            commit = ["git", "-C", str(options.before), "rev-parse", "--short=12", "HEAD"]
            found["commit before"] = subprocess.run(commit, check=True, capture_output=True, text=True).stdout.strip()
        record(
            "update",
            {
                "network": f"EfficientNet-Lite0 at {options.size} pixels", "threads": options.threads,
                "photographs learned": len(files_of(new)), "photographs held out": len(files_of(held_out)), **found,
            },
            seed=0,
        )  # fmt: skip


if __name__ == "__main__":
    main()
