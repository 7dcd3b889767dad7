"""The search for the runtime that is fastest with a network on this machine, among those that make its vectors."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evergallery.data.images import Preprocessing
from evergallery.data.images.sizes import Size
from evergallery.errors import UnavailableError
from evergallery.network.foreign import EXACT, probe_images
from evergallery.network.runtimes import COMPILED, Embed, Pixels, Runtime, RuntimeTrial, reason_of

SECONDS = 0.3
"""The time for which each runtime is timed at least, in turns."""
TURNS = 3
WORTH = 1.1
"""Another runtime is taken where it is so many times as fast as torch, whose vectors need no comparison."""


def pictures(side: Size, size: int) -> Pixels:
    """The fixed pictures (P, H, W, 3) that runtimes are compared on, as many as go through a network at once, and one."""
    probes = probe_images(side).permute(0, 2, 3, 1).numpy()
    count = max(size, len(probes)) + 1
    return np.ascontiguousarray(probes[np.arange(count) % len(probes)])


def torch_seconds(torch: Embed, side: Size, size: int) -> float:
    """Seconds that torch takes for an image, of so many at once."""
    images = pictures(side, size)[:size]
    torch(images)
    started = time.perf_counter()
    torch(images)
    return (time.perf_counter() - started) / len(images)


def tried(
    torch: Embed, others: Mapping[Runtime, Callable[[], Embed]], preprocessing: Preprocessing, size: int
) -> RuntimeTrial:
    """Run the network in each runtime, compare what it makes with what torch makes, and time it.

    Args:
        torch: the network in torch, or a part of it, whose rows may have any length.
        others: the runtimes beside torch, and what opens the network in each.
        preprocessing: of its input.
        size: images that go through it at once.
    """
    images = pictures(preprocessing.size, size)
    expected = torch(images).astype(np.float64)
    running: dict[Runtime, Embed] = {"torch": torch}
    cosine: dict[Runtime, float] = {"torch": 1.0}
    refused: dict[Runtime, str] = {}
    seconds: dict[Runtime, float] = {}
    for name, opened in others.items():
        started = time.perf_counter()
        try:
            run = opened()
            made = run(images)
        except UnavailableError:
            # A GPU that is full, or gone, says nothing of the runtime.
            raise
        # Runtimes have errors of their own without a common base, and a network that one cannot run is not the user's mistake.
        except Exception as error:
            refused[name] = reason_of(error)
            continue
        seconds[name] = time.perf_counter() - started
        least = _least_cosine(made, expected) if made.shape == expected.shape else 0.0
        if not least >= EXACT:
            refused[name] = f"it embeds fixed pictures at a cosine of {least:.5f} with torch, below {EXACT}"
            continue
        running[name], cosine[name] = run, round(least, 7)
    speed = _speeds(running, images[:size])
    if COMPILED in others:
        # It is for many images alone.
        return RuntimeTrial(_fastest(speed), speed, cosine, refused, seconds)
    of_one = _speeds(running, images[:1])
    return RuntimeTrial(_fastest(speed), speed, cosine, refused, seconds, of_one, _fastest(of_one))


def _fastest(speed: Mapping[Runtime, float]) -> Runtime:
    fastest = max(speed, key=lambda name: speed[name])
    return fastest if speed[fastest] >= WORTH * speed["torch"] else "torch"


def _least_cosine(made: NDArray[np.floating[Any]], expected: NDArray[np.floating[Any]]) -> float:
    """The smallest cosine of rows (B, D) with others; less where they differ in length, too."""
    return float((1 - np.square(made - expected).sum(1) / (2 * np.square(expected).sum(1))).min())


def _speeds(running: Mapping[Runtime, Embed], images: Pixels) -> dict[Runtime, float]:
    """Images a second of each, timed in turn so that other work hits all alike; the best of its turns."""
    best: dict[Runtime, float] = {}
    for _ in range(TURNS):
        for name, run in running.items():
            started, calls = time.perf_counter(), 0
            while (taken := time.perf_counter() - started) < SECONDS / TURNS or not calls:
                run(images)
                calls += 1
            best[name] = max(best.get(name, 0.0), calls * len(images) / taken)
    return best
