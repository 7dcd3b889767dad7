"""Processes of their own that begin with what takes long to load: longer than what tests let them do."""

import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from evergallery.cli import main

CONTEXT = multiprocessing.get_context("forkserver")
"""One process for each run of the tests: it has loaded what learning and tests need, and does nothing but fork."""
CONTEXT.set_forkserver_preload(
    [
        "evergallery.cli.app", "evergallery.learning.learning", "evergallery.training.trainer", "lightning_fabric",
        "hypothesis.strategies", "pytest",
    ]
)  # fmt: skip


def forked(said: Path, target: Callable[..., object], *arguments: Any, **environment: Any) -> BaseProcess:
    """Call a function in a process of its own; all that it says goes into a file.

    Args:
        said: the file.
        target: a function of a module.
        arguments: of the function.
        environment: variables that the process has besides.
    """
    said.unlink(missing_ok=True)
    variables = {name: str(value) for name, value in environment.items()}
    process = CONTEXT.Process(target=_run, args=(said, variables, target, arguments), daemon=True)
    process.start()
    return process


def forked_parent(said: Path, target: Callable[..., object], *arguments: Any) -> BaseProcess:
    """Call a function that starts processes by ``multiprocessing``, in one of its own, which ends them when it is ended."""
    said.unlink(missing_ok=True)
    process = CONTEXT.Process(target=_run, args=(said, {}, target, arguments))
    process.start()
    return process


def script(path: Path, *arguments: Any) -> None:
    """Run a script as Python does; the target of a process of its own."""
    sys.argv = [str(path), *map(str, arguments)]
    sys.path.insert(0, str(path.parent))
    runpy.run_path(str(path), run_name="__main__")


def command(*words: Any) -> None:
    """Run a command as the shell does; the target of a process of its own."""
    # A suite that runs in the background of a shell has inherited that Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["evergallery", *map(str, words)]
    main()


def first_line(process: BaseProcess, said: Path) -> str:
    """What a process says first, once it has said it."""
    until(lambda: process.exitcode is not None or (said.exists() and "\n" in said.read_text()))
    line, ended, _ = said.read_text().partition("\n")
    assert ended, f"It has ended: {line}"
    return line


def said_by(process: BaseProcess, said: Path, seconds: float = 60) -> str:
    """What a process has said until its end; one that hangs is ended, and fails the test."""
    process.join(seconds)
    hangs = process.exitcode is None
    if hangs:
        # What has started others ends them first.
        process.terminate()
        process.join(30)
        process.kill()
        process.join()
    text = said.read_text()
    assert not hangs, f"It hangs: {text[-4000:]}"
    return text


def killed_while(said: Path, target: Callable[..., object], *arguments: Any, lines: int, seconds: float) -> list[int]:
    """Kill a process some time after it has said so many numbers, a line each, or is at its end; all that it has said."""
    process = forked(said, target, *arguments)
    until(lambda: process.exitcode is not None or (said.exists() and said.read_text().count("\n") >= lines))
    time.sleep(seconds)
    process.kill()
    process.join()
    return [int(line) for line in said.read_text().split()]


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never holds"
        time.sleep(0.005)


def _run(said: Path, variables: dict[str, str], target: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    os.environ.update(variables)
    tempfile.tempdir = None
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    target(*arguments)
