"""The origin of a figure: command, commit, hardware, versions, memory."""

import os
import platform
import resource
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "pytorch-metric-learning",
    "lightning-fabric",
    "numpy",
    "pillow",
    "qdrant-edge-py",
)
DRAWING = "matplotlib"
"""The library whose fonts the set ``glyphs`` is drawn in, which is there where somebody wants reports."""


def provenance(*scripts: str) -> dict[str, Any]:
    """Commit, time, hardware, threads, load and versions of this process.

    Args:
        scripts: what measures beside the package, see ``commit``.
    """
    return {
        "commit": commit(*scripts),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "load_average_1m": round(os.getloadavg()[0], 2),
        },
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that shape a figure."""
    found = {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}
    with suppress(PackageNotFoundError):
        found[DRAWING] = version(DRAWING)
    return found


def commit(*scripts: str) -> str | None:
    """The commit of the source tree, with ``+changes`` where it has not these files; ``None`` for an installed package.

    Args:
        scripts: files of the tree that count beside the package, as pathspecs of git; one that git does not know is a change.
    """
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", ":/src", *scripts], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")


def processor() -> str:
    """The processor's name, or its architecture where the system does not tell."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def reset_peak_memory() -> None:
    """Begin to measure the peak anew, where the system allows it."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> dict[str, float]:
    """Peak of this process in MiB since ``reset_peak_memory``: ``host``, and ``device`` where there is a GPU."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    high = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)
    peak = {"host": (high or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024}
    if torch.cuda.is_available():
        peak["device"] = torch.cuda.max_memory_allocated() / 2**20
    return {name: round(value, 1) for name, value in peak.items()}
