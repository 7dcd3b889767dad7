"""What all tests share: small random images, quick settings, places for galleries, and real images where there are some.

The process that shares the tests out among others loads this file, too, and runs none: nothing heavy is imported above.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib.metadata
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

# One thread unless said otherwise, here and in the processes that tests start, which must round as this one does.
os.environ.setdefault("OMP_NUM_THREADS", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    # A process that has run its tests, told of them and cleaned up would take seconds to take apart all that it has loaded.
    atexit.register(os._exit, 0)

import numpy as np
import pytest
import typer.main

from evergallery.cli import main
from evergallery.watching import Watcher
from servers import collection, directory, postgres, schema

if TYPE_CHECKING:
    from torch import Tensor

    from evergallery.data.image_set import ImageSet
    from evergallery.gallery import GalleryStore, Item
    from evergallery.training import Settings

MEMORY = "/dev/shm"
"""Where files lie in memory, in Linux."""


def room_in_memory() -> int:
    """Bytes that files may take there; none where there is no such place."""
    try:
        memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return min(shutil.disk_usage(MEMORY).free, int(memory["MemAvailable"].split()[0]) << 10)
    except (OSError, KeyError):
        return 0


# The commands are built from the verbs once for all tests, and not once for each call; no test installs a package, whose
# entry points each run of a trainer looks for in all that is installed.
typer.main.get_command = functools.cache(typer.main.get_command)
importlib.metadata.entry_points = functools.cache(importlib.metadata.entry_points)  # type: ignore[assignment]
if "TMPDIR" not in os.environ and room_in_memory() > 6 << 30:
    # What torch compiles is loaded as a program, which files in memory may not be, and serves the next run too.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(tempfile.gettempdir()) / "torchinductor-evergallery"))
    # Tests write and sync many small files, for which a disk lets them wait.
    os.environ["TMPDIR"] = tempfile.tempdir = MEMORY
# pytest imports readline, which gives this process, and each one that it starts, the width of a terminal that may not be there.
for _variable in ("COLUMNS", "LINES"):
    os.environ.pop(_variable, None)
    os.unsetenv(_variable)


def pytest_configure() -> None:
    """What is loaded and collected stays to the end: to look through it for garbage took a tenth of the time of all tests."""
    gc.disable()


def pytest_collection_finish() -> None:
    """What is made from now on is looked through, but not each time that some hundred objects more are there."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


@pytest.fixture(autouse=True)
def _runtime_is_asked_for_by_one_test_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The option ``--runtime`` of a command that runs in this process stays in its environment."""
    monkeypatch.setenv("EVERGALLERY_RUNTIME", "auto")
    monkeypatch.delenv("EVERGALLERY_RUNTIME")


def short(**changes: Any) -> Settings:
    """Settings of a run of seconds, in float32 on the CPU."""
    from evergallery.training import Settings

    return Settings.model_validate(
        {"epochs": 2, "batch_size": 16, "precision": "float32", "device": "cpu", "padding": 1, **changes}
    )


@pytest.fixture
def quick() -> Callable[..., Settings]:
    """``short``, for tests that ask for it."""
    return short


def gradient_of(tensor: Tensor) -> Tensor:
    """What has been propagated back to a tensor, which must be something."""
    assert tensor.grad is not None
    return tensor.grad


def known(store: GalleryStore, name: str) -> Item:
    """An item that the gallery must have."""
    found = store.get(name)
    assert found is not None, f"the gallery has no item {name!r}"
    return found


class MessageRecorder(Watcher):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def said(self, message: str) -> None:
        self.heard.append(message)


def coloured_images(classes: int = 6, each: int = 12, size: int = 16, seed: int = 0, first: int = 0) -> ImageSet:
    """Images that are easy to tell apart: a colour and a bar for each class, with noise."""
    from evergallery.data.image_set import ImageSet

    draw = np.random.default_rng(seed)
    colours = np.random.default_rng(99).integers(40, 215, (first + classes, 3))[first:]
    labels = np.repeat(np.arange(classes), each)
    pixels = colours[labels][:, None, None, :] + draw.normal(0, 20, (len(labels), size, size, 3))
    for index, label in enumerate(labels):
        row = (first + label) * 2 % size
        pixels[index, row : row + 2] = 255 - colours[label]
    return ImageSet.from_arrays(
        np.clip(pixels, 0, 255).astype(np.uint8), labels, [f"class {first + number}" for number in range(classes)]
    )


@pytest.fixture
def images() -> ImageSet:
    """Six easy classes of twelve images of 16 × 16."""
    return coloured_images()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """A folder of real image sets, named by EVERGALLERY_SHARED; tests that want it are skipped without it."""
    folder = os.environ.get("EVERGALLERY_SHARED")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set EVERGALLERY_SHARED to a folder of real image sets to run this test")
    return Path(folder)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A database with pgvector, or the reason why there is none."""
    with postgres() as url:
        yield url


ENGINES_HERE = ("edge", "postgres", "qdrant")
"""Rooms of the engines that hold the contract; ``new_place`` makes a place for each."""


@pytest.fixture(params=ENGINES_HERE)
def new_place(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], AbstractContextManager[str]]:
    """Makes places for galleries of one engine; another joins the contract by ``ENGINES_HERE``."""
    if request.param == "edge":
        return directory
    if request.param == "qdrant":
        return lambda: collection(monkeypatch)
    url = request.getfixturevalue("postgres_url")
    return lambda: schema(url)


@pytest.fixture
def place(new_place: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """A directory or URL for a gallery that is not there yet."""
    with new_place() as place:
        yield place


@pytest.fixture
def shared_place(place: str) -> str:
    """A place that other processes reach too."""
    if place.startswith("qdrant://stand-in"):
        pytest.skip("the stand-in for Qdrant lives in one process: set EVERGALLERY_QDRANT_URL to a server")
    return place


BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
"""The one without windows takes a quarter less of a processor than one that hides them."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium without a window; tests that want it are skipped without it.

    It keeps an event loop running, so that it must end before tests of another module start one.
    """
    if CHROMIUM is None:
        pytest.skip("no Chromium: install the package chromium-headless-shell or chromium to run the browser tests")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
        )
        yield instance
        instance.close()


@dataclass
class CommandResult:
    """What a command wrote."""

    stdout: str
    stderr: str


def evergallery_any(*arguments: Any) -> str:
    """Run a command whose gate may or may not be passed; returns what it wrote."""
    return _run(arguments, (0, 1)).stdout


def evergallery(*arguments: Any, expect: int = 0) -> CommandResult:
    """Run a command in this process, which has everything loaded."""
    return _run(arguments, (expect,))


def _run(arguments: Sequence[object], expected: Sequence[int]) -> CommandResult:
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["evergallery", *map(str, arguments)]
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as stopped:
            main()
            sys.exit(0)
    finally:
        sys.argv = before
    assert (stopped.value.code or 0) in expected, f"{arguments}: {out.getvalue()}\n{err.getvalue()}"
    return CommandResult(out.getvalue(), err.getvalue())


def as_json(*arguments: Any, expect: int = 0) -> Any:
    return json.loads(evergallery(*arguments, "--json", expect=expect).stdout)


@pytest.fixture(scope="session")
def served_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace for the tests of the server, which copy it before they change it."""
    from served import make_served

    return make_served(tmp_path_factory.mktemp("served"))
