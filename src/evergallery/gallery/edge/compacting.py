"""Compacting a shard's files in a process of its own: the engine lets no other thread run while it works."""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

import qdrant_edge as engine

from evergallery.errors import DamagedError

PR_SET_PDEATHSIG = 1


def compact_elsewhere(path: Path) -> None:
    """Drop what was deleted from the engine's files in a directory that nobody has open, and index what is large.

    Raises:
        DamagedError: the engine could not.
        OSError: the disk is full.
    """
    # As a script, because the packages around this module take several times as long to load as what it needs.
    done = subprocess.run(
        [sys.executable, "-P", __file__, path],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        if "No space left" in done.stderr:
            raise OSError(28, "No space left on device for the compacted gallery", path)
        raise DamagedError(f"The vectors in {path.parent} could not be compacted ({reason}): run  evergallery doctor")


def main() -> None:
    """Compact in the other process, whose argument is the path."""
    # Who searches goes first; and nobody is left to work for a process that is gone.
    os.nice(10)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    shard = engine.EdgeShard.load(sys.argv[1])
    shard.optimize()
    shard.flush()
    shard.close()


if __name__ == "__main__":
    main()
