"""What every benchmark shares: interleaved timing, and a result file that says where its figures come from."""

import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def interleaved(runs: dict[str, Callable[[], object]], repeats: int = 5) -> dict[str, dict[str, float]]:
    """Time each callable ``repeats`` times in turn, after one warm-up each, so that a noisy machine hits all alike.

    Returns seconds per callable: median, minimum and maximum.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {
        name: {"median_s": statistics.median(values), "min_s": min(values), "max_s": max(values)}
        for name, values in seconds.items()
    }


def processor() -> str:
    """The processor's name, or its architecture where the system does not tell."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def provenance(seed: int | None = None) -> dict[str, Any]:
    """Command, commit, hardware, versions, load and threads of this run."""
    import torch

    git = ["git", "-C", str(Path(__file__).parent)]
    commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=False)
    script = Path(sys.argv[0]).resolve()
    return {
        "command": shlex.join(["python", f"benchmarks/{script.name}", *sys.argv[1:]]),
        "commit": commit.stdout.strip() + ("+changes" if changed.stdout.strip() else ""),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "hardware": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "load_average_1m": round(os.getloadavg()[0], 2),
        },
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "pillow", "qdrant-edge-py")},
        },
    }


def record(name: str, result: dict[str, Any], seed: int | None = None) -> None:
    """Print the result and write it to ``benchmarks/results/NAME.json``."""
    content = json.dumps({"benchmark": name, **provenance(seed), "result": result}, indent=2)
    print(content)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(content + "\n")
