"""The directories of runs in a workspace: what an interrupted one goes on from, and what stays of a finished one."""

import json
import shutil
from pathlib import Path

from evergallery.files import read_json, write_json
from evergallery.generations.generation import Generation, generation_directories
from evergallery.learning.run import Run

ASKED = "run.json"
"""The file of a run's request, apart from its images."""
LOGS_KEPT = ("log.jsonl", "tensorboard")


def run_directory(directory: Path, identity: str) -> Path:
    """The directory of a run in a workspace, by the digest that it is known by."""
    return directory / "runs" / identity[:12]


def begin(directory: Path, run: Run) -> None:
    """Write down what a run was asked for."""
    write_json(directory / ASKED, run.asked())


def finished(directory: Path, identity: str) -> Path | None:
    """The generation of a run that was killed after writing it and before tidying up."""
    for path in generation_directories(directory / "generations"):
        if Generation.load(path).card.run == identity and run_directory(directory, identity).is_dir():
            return path
    return None


def on_other_images(directory: Path, identity: str, run: Run) -> list[Path]:
    """Unfinished runs that were asked for in the same way, on other images."""
    wanted = json.loads(json.dumps(run.asked()))
    others = (path.parent for path in sorted((directory / "runs").glob(f"*/{ASKED}")))
    return [path for path in others if path != run_directory(directory, identity) and read_json(path / ASKED) == wanted]


def tidy_up(directory: Path, generation: Generation) -> None:
    """Keep the logs of a finished run under its generation's name, and drop its checkpoints."""
    run = run_directory(directory, generation.card.run)
    kept = directory / "runs" / generation.directory.name
    kept.mkdir(exist_ok=True)
    for name in LOGS_KEPT:
        if (run / name).exists():
            # Those of a generation that somebody has deleted make room for those of the one that has its name now.
            if (kept / name).is_dir():
                shutil.rmtree(kept / name)
            (run / name).rename(kept / name)
    shutil.rmtree(run)
