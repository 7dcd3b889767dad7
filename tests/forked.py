"""Processes of their own that begin with what learning takes already loaded, which takes longer than what tests let them do."""

import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
"""One process that has loaded them for each run of the tests, and does nothing but fork."""
CONTEXT.set_forkserver_preload(
    ["evergallery.cli.app", "evergallery.learning.learning", "evergallery.training.trainer", "lightning_fabric"]
)


def forked(said: Path, target: Callable[..., object], *arguments: Any, **environment: Any) -> BaseProcess:
    """Call a function in a process of its own; all that it says goes into a file.

    Args:
        said: the file.
        target: a function of a module.
        arguments: of the function.
        environment: variables that the process has besides.
    """
    variables = {name: str(value) for name, value in environment.items()}
    process = CONTEXT.Process(target=_run, args=(said, variables, target, arguments), daemon=True)
    process.start()
    return process


def said_by(process: BaseProcess, said: Path, seconds: float = 60) -> str:
    """What a process has said until its end; one that hangs is ended, and fails the test."""
    process.join(seconds)
    hangs = process.exitcode is None
    if hangs:
        process.kill()
        process.join()
    text = said.read_text()
    assert not hangs, f"It hangs: {text[-4000:]}"
    return text


def killed_while(said: Path, target: Callable[..., object], *arguments: Any, lines: int, seconds: float) -> list[int]:
    """Kill a process some time after it has said so many numbers, a line each, or is at its end; all that it has said."""
    said.unlink(missing_ok=True)
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
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    target(*arguments)
