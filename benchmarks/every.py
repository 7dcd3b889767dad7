"""Every benchmark, one after another, each in a process of its own. All of them take a day; what is not there is skipped.

    python benchmarks/every.py --data FOLDER --before CHECKOUT --tools PYTHON
    python benchmarks/every.py --only gate.py metrics.py

Each benchmark by itself takes more options: ``python benchmarks/NAME.py --help``.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
FOLDERS = ("grocery-store-64.zip", "cifar100.zip", "omniglot.npz")
"""Of ``features.py``."""


@dataclass(frozen=True)
class Run:
    """A command.

    Attributes:
        script: its file.
        arguments: words, in which ``{data}``, ``{before}``, ``{tools}`` and ``{work}`` stand for what was given.
        wants: files and folders that must be there, written likewise.
    """

    script: str
    arguments: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()


RUNS = (
    Run("adapters.py"),
    Run("choosing.py", ("--before", "{before}"), ("{before}/src",)),
    Run("augmentation.py"),
    Run("training_step.py"),
    Run("methods.py"),
    Run("metrics.py"),
    Run("evaluation.py"),
    Run("frozen.py"),
    Run("refresh.py", ("--before", "{before}"), ("{before}/src",)),
    Run("update.py"),
    Run("extraction.py"),
    Run("extraction_memory.py"),
    Run("runtimes.py"),
    Run("cluster.py"),
    Run("gallery.py"),
    Run("gallery_precision.py"),
    Run("engines.py", ("--size", "10000")),
    Run("engines.py", ("--size", "100000")),
    Run("peers.py"),
    Run("search_path.py"),
    Run("command_line.py", ("--before", "{before}"), ("{before}/src",)),
    Run("serving.py"),
    Run("serving.py", ("--load", "600")),
    Run("soak.py"),
    Run("gate.py"),
    Run("intervals.py"),
    Run("drift.py"),
    Run("demo.py"),
    Run("gpu.py", wants=("/dev/nvidiactl",)),
    Run("training.py"),
    Run("mixed_gallery.py", wants=("{root}/results/glyphs-standard/work",)),
    Run("answering.py", ("--images", "{data}", "--work", "{work}"), tuple(f"{{data}}/{name}" for name in FOLDERS[:2])),
    Run(
        "rivals.py",
        ("--images", "{data}", "--work", "{work}", "--python", "{tools}"),
        ("{tools}", *(f"{{data}}/{name}" for name in FOLDERS)),
    ),
    Run("expansion.py", ("grocery", "{data}/grocery"), ("{data}/grocery/train",)),
    Run("expansion.py", ("grocery", "{data}/grocery", "--tasks", "4"), ("{data}/grocery/train",)),
    Run("expansion.py", ("cifar100", "{data}/cifar100.npz"), ("{data}/cifar100.npz",)),
    Run("photographs.py", ("grocery", "{data}/grocery"), ("{data}/grocery/train",)),
    Run("photographs.py", ("cifar100", "{data}/cifar100.npz"), ("{data}/cifar100.npz",)),
    Run("photographs.py", ("omniglot", "{data}/omniglot.npz"), ("{data}/omniglot.npz",)),
    Run("shortcuts.py", ("{data}/grocery",), ("{data}/grocery/train",)),
    Run("search.py", ("--work", "{work}/search")),
    # Those that write pages from what the others have measured come last.
    Run("growth.py"),
    Run("performance.py"),
    Run("upgrade_simulation.py"),
    Run("scale.py"),
    Run("results.py"),
)


def lacking(run: Run, given: dict[str, str]) -> str | None:
    """Why a benchmark cannot run here; ``None`` where it can."""
    for word in (*run.arguments, *run.wants):
        for name, option in (("data", "FOLDER"), ("before", "CHECKOUT"), ("tools", "PYTHON")):
            if f"{{{name}}}" in word and not given[name]:
                return f"it needs --{name} {option}"
    missing = [path for path in (word.format(**given) for word in run.wants) if not Path(path).exists()]
    return f"there is no {missing[0]}" if missing else None


def main(words: Sequence[str] | None = None) -> int:
    """Returns the exit status: 1 where a benchmark failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="", help=f"folder with {', '.join(FOLDERS)}, grocery/ and cifar100.npz")
    parser.add_argument("--before", default="", help="a checkout of an earlier commit")
    parser.add_argument("--tools", default="", help="an interpreter that has rebasis, isotrieve and embspec")
    parser.add_argument("--work", default="build/benchmarks", help="folder for what is kept from one call to the next")
    parser.add_argument("--only", nargs="+", choices=sorted({run.script for run in RUNS}), metavar="NAME.py")
    parser.add_argument("--list", action="store_true", help="say what would run, and what would be skipped")
    options = parser.parse_args(words)
    given = {name: str(getattr(options, name)) for name in ("data", "before", "tools", "work")}
    given["root"] = str(HERE.parent)
    failed, skipped = [], []
    for run in RUNS:
        if options.only and run.script not in options.only:
            continue
        line = " ".join((run.script, *run.arguments))
        if reason := lacking(run, given):
            skipped.append(f"{line}: {reason}")
            continue
        command = [sys.executable, str(HERE / run.script), *(word.format(**given) for word in run.arguments)]
        print(" ".join(command), flush=True)
        if not options.list and subprocess.run(command, check=False).returncode:
            failed.append(line)
    for name, lines in (("Skipped", skipped), ("Failed", failed)):
        for line in lines:
            print(f"{name}: {line}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
