"""One search through the workspace, now and at an earlier commit, beside the bare search of its gallery.

The earlier commit read the workspace's state and every card from disk several times for each search, and counted all vectors.
Both versions search the same galleries in turn, each in a process of its own.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from common import record

ROOT = Path(__file__).parents[1]
WIDTH = 128
SEARCHES = 40


def unit(count: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)
    made: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return made


def make(directory: Path, count: int) -> None:
    from evergallery import Workspace

    with Workspace.create(directory, size=16) as shop:
        table = directory / "vectors.npz"
        np.savez(table, embeddings=unit(count, 0), ids=np.array([f"item {number}" for number in range(count)]))
        shop.import_vectors(table)
        table.unlink()


def measure(directory: Path) -> dict[str, float]:
    """Milliseconds of a search, the median of several: through the workspace and in its gallery, in turn."""
    from evergallery import Workspace

    queries = unit(SEARCHES, 1)
    seconds: dict[str, list[float]] = {"workspace": [], "gallery": []}
    with Workspace(directory) as shop:
        shop.search(queries[0])
        for query in queries:
            for name, ask in (
                ("workspace", lambda query=query: shop.search(query)),
                ("gallery", lambda query=query: shop.gallery.search(query[None], 10)),
            ):
                began = time.perf_counter()
                ask()
                seconds[name].append(time.perf_counter() - began)
    return {name: 1000 * statistics.median(values) for name, values in seconds.items()}


def run(source: Path, *arguments: Any) -> str:
    """This file with the package of another source tree."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(source), str(ROOT / "src"), str(Path(__file__).parent)]),
    }
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default="e54b2b6", help="the earlier commit")
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make(options.make, options.counts[0])
        return
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    result: dict[str, Any] = {"width": WIDTH, "before": options.before}
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "archive", options.before, "src"], cwd=ROOT, check=True, capture_output=True
        ).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
            packed.extractall(folder, filter="data")
        sources = {"before": Path(folder) / "src", "now": ROOT / "src"}
        for count in options.counts:
            directory = Path(folder) / str(count)
            run(sources["before"], "--make", directory, "--counts", count)
            found: dict[str, dict[str, list[float]]] = {name: {} for name in sources}
            for _ in range(options.repeats):
                for name, source in sources.items():
                    for what, value in json.loads(run(source, "--measure", directory)).items():
                        found[name].setdefault(what, []).append(value)
            medians = {
                name: {what: statistics.median(values) for what, values in timings.items()}
                for name, timings in found.items()
            }
            result[f"{count} items"] = {
                "milliseconds": medians,
                "times_faster": medians["before"]["workspace"] / medians["now"]["workspace"],
                "over_the_gallery_alone": medians["now"]["workspace"] / medians["now"]["gallery"],
            }
    record("search_path", result)


if __name__ == "__main__":
    main()
