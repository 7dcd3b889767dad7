"""Runs the suite as other machines would: other instruction sets, numbers of threads, orders of the tests, and a busy processor.

What a test says may depend on none of them. ``make stress`` runs everything, which takes hours; ``python tests/stress.py --help``
tells how to run a part. The file is its own plugin for pytest, which shuffles, repeats and counts.
"""

import argparse
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol
from rich.console import Console
from rich.markup import escape
from rich.table import Table

ROOT = Path(__file__).parents[1]

# What this process tells the plugin in the one that it starts.
ORDER, TIMES, OUTCOMES = "EVERGALLERY_STRESS_ORDER", "EVERGALLERY_STRESS_TIMES", "EVERGALLERY_STRESS_OUTCOMES"

KINDS = ("passed", "failed", "error", "skipped")

# Threads, processes and clients at once.
CONCURRENT = (
    "tests/data/test_cache.py",
    "tests/data/test_streaming.py",
    "tests/gallery/test_copying.py",
    "tests/gallery/test_edge_writes.py",
    "tests/gallery/test_kills.py",
    "tests/gallery/test_qdrant_store.py",
    "tests/gallery/test_versions.py",
    "tests/serving/test_batching.py",
    "tests/serving/test_guards.py",
    "tests/serving/test_jobs.py",
    "tests/serving/test_server.py",
    "tests/test_changing_images.py",
    "tests/files/test_files.py",
    "tests/upgrade/test_refresh.py",
    "tests/upgrade/test_verbs.py",
)


@dataclass(frozen=True)
class Setting:
    """A machine that is played: its environment, what runs there, and how."""

    environment: Mapping[str, str] = field(default_factory=dict)
    needs: str | None = None
    """A flag of the processor, as the kernel names it."""
    paths: tuple[str, ...] = ("tests",)
    workers: int = 2
    times: int = 1
    loaded: bool = False


def threads(number: int) -> dict[str, str]:
    return {f"{library}_NUM_THREADS": str(number) for library in ("OMP", "MKL", "OPENBLAS")}


def instructions(mkl: str, torch: str, onednn: str, openblas: str) -> dict[str, str]:
    return {
        "MKL_ENABLE_INSTRUCTIONS": mkl,
        "ATEN_CPU_CAPABILITY": torch,
        "ONEDNN_MAX_CPU_ISA": onednn,
        "OPENBLAS_CORETYPE": openblas,
    }


SETTINGS = {
    "this machine": Setting(),
    "SSE4.2": Setting(instructions("SSE4_2", "default", "SSE41", "Nehalem")),
    "AVX2": Setting(instructions("AVX2", "avx2", "AVX2", "Haswell"), needs="avx2"),
    "AVX-512": Setting(instructions("AVX512", "avx512", "AVX512_CORE", "SkylakeX"), needs="avx512f"),
    # Each library takes its own, and the products are the widest.
    "mixed": Setting(instructions("AVX512", "default", "AVX2", "Nehalem"), needs="avx512f"),
    "reproducible MKL": Setting({"MKL_CBWR": "COMPATIBLE"}),
    "1 thread": Setting(threads(1), workers=1),
    "2 threads": Setting(threads(2)),
    "4 threads": Setting(threads(4), workers=4),
    "load": Setting(paths=CONCURRENT, workers=1, times=50, loaded=True),
}


# The plugin


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Shuffle the files, and the tests within each, so that what a file shares is still made once."""
    seed = os.environ.get(ORDER)
    if seed is None:
        return
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    groups, draw = list(files.values()), random.Random(seed)
    draw.shuffle(groups)
    for group in groups:
        draw.shuffle(group)
    items[:] = [item for group in groups for item in group]


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Run a test as often as asked."""
    for _ in range(int(os.environ.get(TIMES, "1"))):
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        runtestprotocol(item, nextitem=nextitem)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write down which tests ended how."""
    found = {kind: [report.nodeid for report in terminalreporter.getreports(kind)] for kind in KINDS}
    Path(os.environ[OUTCOMES]).write_text(json.dumps(found))


# The runner


@dataclass
class Result:
    """How the tests ended in a setting; ``problem`` says why pytest did not come to its end."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    seconds: float = 0.0
    problem: str | None = None

    def count(self, kind: str) -> int:
        return self.outcomes.get(kind, Counter()).total()

    def wrong(self) -> Counter[str]:
        """How often each test went wrong."""
        return self.outcomes.get("failed", Counter()) + self.outcomes.get("error", Counter())


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Processes that compute beside the block, and end with it or with this one."""
    program = f"import os\nwhile os.getppid() == {os.getpid()}:\n    sum(range(10_000))"
    started = [subprocess.Popen([sys.executable, "-S", "-c", program]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def run(setting: Setting, paths: Sequence[str], arguments: argparse.Namespace, log: Path) -> Result:
    """Run pytest in a setting, all it says going to ``log``."""
    times, workers = arguments.times or setting.times, arguments.workers or setting.workers
    outcomes = log.with_suffix(".json")
    command = [sys.executable, "-m", "pytest", "-p", "stress", "-p", "no:cacheprovider", "-q", "--tb=short"]
    command += ["-n", str(workers), "--dist", "loadfile"] if workers > 1 else []
    command += ["-k", arguments.keyword] if arguments.keyword else []
    environment = {
        **os.environ,
        **setting.environment,
        # This file, and the sources beside it wherever the package is installed.
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")]),
        TIMES: str(times),
        OUTCOMES: str(outcomes),
    }
    if not arguments.in_order:
        environment[ORDER] = str(arguments.seed)
    result, started = Result(), time.monotonic()
    with busy(arguments.load if setting.loaded else 0), log.open("w") as said:
        process = subprocess.Popen(
            [*command, *(paths or setting.paths)],
            cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait(arguments.minutes * 60)
        except subprocess.TimeoutExpired:
            result.problem = f"not done after {arguments.minutes:g} minutes"
        else:
            if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
                result.problem = f"pytest ended with status {status}"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    result.seconds = time.monotonic() - started
    if outcomes.exists():
        result.outcomes = {kind: Counter(names) for kind, names in json.loads(outcomes.read_text()).items()}
    return result


def lacks(setting: Setting) -> bool:
    """Whether this processor cannot play the setting."""
    if setting.needs is None:
        return False
    try:
        return setting.needs not in Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return True


def table(results: Mapping[str, Result]) -> Table:
    made = Table("Setting", *(kind.capitalize() for kind in KINDS), "Seconds", "")
    for column in made.columns[1:-1]:
        column.justify = "right"
    for name, result in results.items():
        counts = [str(result.count(kind)) for kind in KINDS]
        made.add_row(name, *counts, f"{result.seconds:.0f}", result.problem or "")
    return made


def arguments_of(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", help="files, folders or tests; all that a setting is for unless given")
    parser.add_argument(
        "--only", action="append", choices=SETTINGS, metavar="SETTING", default=[],
        help=f"one setting of: {', '.join(SETTINGS)}; may be given several times",
    )  # fmt: skip
    parser.add_argument("-k", dest="keyword", help="tests whose names match, as pytest understands it")
    parser.add_argument("--times", type=int, help="how often each test runs; 50 under load and else once")
    parser.add_argument("--workers", type=int, help="processes that share the tests; those of the setting unless given")
    parser.add_argument("--load", type=int, default=os.cpu_count(), help="busy processes beside the setting 'load'")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="the order of the tests follows it")
    parser.add_argument("--in-order", action="store_true", help="do not shuffle the tests")
    parser.add_argument("--minutes", type=float, default=240, help="how long a setting may take")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Run the settings that are asked for; 1 where anything went wrong."""
    arguments, console = arguments_of(given), Console()
    logs = Path(tempfile.mkdtemp(prefix="evergallery-stress-"))
    order = "the usual order" if arguments.in_order else f"the order of --seed {arguments.seed}"
    console.print(
        f"{platform.machine()}, {os.cpu_count()} cores, {order}; what pytest says is in {logs}", soft_wrap=True
    )
    results: dict[str, Result] = {}
    for name in arguments.only or SETTINGS:
        setting = SETTINGS[name]
        if lacks(setting):
            console.print(f"{name}: left out, as this processor has no {setting.needs}")
            continue
        results[name] = run(setting, arguments.paths, arguments, logs / f"{name.replace(' ', '-')}.log")
        wrong = results[name].wrong().total()
        console.print(f"{name}: {results[name].problem or f'{wrong} went wrong'}, {results[name].seconds:.0f} seconds")
    console.print(table(results))
    for name, result in results.items():
        for test, count in sorted(result.wrong().items()):
            console.print(f"{name}: {escape(test)}" + (f", {count} times" if count > 1 else ""), soft_wrap=True)
    return int(any(result.problem or result.wrong() for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
