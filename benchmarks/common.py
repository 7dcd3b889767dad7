"""What every benchmark shares: interleaved timing, a result file that says where its figures come from, tables in the docs."""

import json
import shlex
import statistics
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from evergallery.benchmark.differences import Difference
from evergallery.benchmark.provenance import provenance

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parents[1] / "docs"
SCRIPTS = ":/benchmarks/*.py"
"""They measure as much as the package does: a figure names the commit that has both."""


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


def timed(call: Callable[[], object]) -> dict[str, float]:
    """Seconds of a call, by the clock and of this process's processors."""
    started, computed = time.perf_counter(), time.process_time()
    call()
    return {
        "seconds": round(time.perf_counter() - started, 2),
        "processor seconds": round(time.process_time() - computed, 2),
    }


def record(name: str, result: dict[str, Any], seed: int | None = None) -> None:
    """Print the result and write it to ``benchmarks/results/NAME.json``."""
    # A folder of one machine says nothing on another: its last name does.
    given = [Path(argument).name if Path(argument).is_absolute() else argument for argument in sys.argv[1:]]
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *given])
    content = json.dumps(
        {"benchmark": name, "command": command, "seed": seed, **provenance(SCRIPTS), "result": result}, indent=2
    )
    print(content)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(content + "\n")


def recorded(name: str) -> dict[str, Any]:
    """The result that ``record`` has written under this name."""
    return cast(dict[str, Any], recorded_whole(name)["result"])


def recorded_whole(name: str) -> dict[str, Any]:
    """The same with where it comes from."""
    return cast(dict[str, Any], json.loads((RESULTS / f"{name}.json").read_text()))


def apart(one: dict[str, Any], other: dict[str, Any]) -> Difference:
    """What lies between two rows of a result with their ``seeds``, paired on these."""
    return Difference.of([a - b for a, b in zip(one["seeds"], other["seeds"], strict=True)])


def paired_on(what: str) -> str:
    """What a table of ``apart`` shows, above it: differences paired on a ``"seed"``, for instance."""
    return (
        f"Differences in points, paired on the {what}: mean ± half of the 95 % interval by Student's t. In parentheses where the "
        f"interval holds 0, so that no order is shown."
    )


def write_between(page: Path, name: str, text: str) -> None:
    """Put ``text`` between the marks ``<!-- name -->`` and ``<!-- end of name -->`` of a page, in place of what is there."""
    whole = page.read_text()
    before, begin, rest = whole.partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- end of {name} -->")
    if not (begin and end):
        raise ValueError(f"{page} has no marks <!-- {name} --> and <!-- end of {name} -->.")
    page.write_text(f"{before}{begin}\n{text.strip()}\n\n{end}{after}")


def wrapped(text: str) -> str:
    """Markdown whose sentences are in lines of at most 128 characters; tables and pictures stay as they are."""
    lines = textwrap.TextWrapper(128, break_long_words=False, break_on_hyphens=False)
    blocks = [
        block if block.startswith(("|", "!", "#", "<")) else lines.fill(block) for block in text.strip().split("\n\n")
    ]
    return "\n\n".join(blocks)


def spaced(count: float) -> str:
    """A whole number with its thousands apart."""
    return f"{count:,.0f}".replace(",", " ")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, all others to the right."""
    ruler = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ruler, *rows])
