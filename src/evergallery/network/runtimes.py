"""Runtimes of a network: torch, torch with the network compiled, or ONNX Runtime or OpenVINO with it in a file. All in float32.

A file takes pixels as they were decoded, and normalises them itself: who has one needs no torch.
"""

import importlib.util
import math
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from evergallery.data.images.sizes import Size, sides
from evergallery.data.streaming import processors
from evergallery.errors import MissingExtraError, require_known
from evergallery.strings.environment import RUNTIME

Runtime = Literal["torch", "torch.compile", "onnxruntime", "openvino"]
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
COMPILED: Runtime = "torch.compile"
OF_FILES: tuple[Runtime, ...] = ("onnxruntime", "openvino")
"""The runtimes that run a network in a file, on a processor."""

CPU_IMAGES = 64
CPU_PIXELS = 2**18
"""The images or pixels that go through a network on a CPU at once, at most. The maps of larger batches leave the caches,
and are memory that the system takes back and fills with zeros for every layer."""

Pixels = NDArray[np.uint8]
Vectors = NDArray[np.float32]
Embed = Callable[[Pixels], Vectors]
"""Decoded images (B, H, W, 3) uint8 to unit embeddings (B, D)."""


def part_size(size: Size) -> int:
    """Images of a size that a network on a CPU takes best at once."""
    return min(CPU_IMAGES, max(1, CPU_PIXELS // math.prod(sides(size))))


def at_once(size: Size) -> int:
    """Images of a size that a runtime of files takes best at once: a part for each of its threads."""
    return threads() * part_size(size)


def threads() -> int:
    """Threads of a network: those that torch was told to use, or ``OMP_NUM_THREADS``, or one a processor."""
    if "torch" in sys.modules:
        import torch

        return torch.get_num_threads()
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(said) if said.isdecimal() and int(said) else processors()


def asked_for() -> Runtime | None:
    """The runtime that ``--runtime`` or the environment names; ``None`` where the fastest is to be found.

    Raises:
        InputError: there is none of that name.
        MissingExtraError: it is not installed.
    """
    said = os.environ.get(RUNTIME) or "auto"
    require_known("runtime", said, ("auto", *RUNTIMES), f", as --runtime or {RUNTIME} says")
    named = next((name for name in RUNTIMES if name == said), None)
    if named is not None and not is_installed(named):
        raise MissingExtraError(f"The runtime {named}", "fast")
    return named


@cache
def is_installed(runtime: Runtime) -> bool:
    """Return whether a runtime can be used: those that run a file need what writes it, too."""
    needed = [runtime, "onnx", "onnxscript"] if runtime in OF_FILES else ["torch"]
    return all(importlib.util.find_spec(name) is not None for name in needed)


@cache
def version_of(runtime: Runtime) -> str | None:
    """The version that is installed."""
    try:
        return version(runtime)
    except PackageNotFoundError:
        return None


@dataclass(frozen=True)
class RuntimeTrial:
    """The results of trying the runtimes of a network.

    Attributes:
        runtime: the fastest of those that make the network's vectors.
        speed: images a second of each that runs it.
        cosine: the smallest one of a fixed picture's vector with torch's, of each that runs it.
        refused: why the others are not used.
        seconds: until the network was open in each of the others and had made its first vectors: what compiling takes.
        speed_of_one: images a second of each, one after the other, as searches have them; empty where that was not tried.
        runtime_of_one: the one that is fastest so.
    """

    runtime: Runtime
    speed: Mapping[Runtime, float]
    cosine: Mapping[Runtime, float]
    refused: Mapping[Runtime, str]
    seconds: Mapping[Runtime, float] = field(default_factory=dict)
    speed_of_one: Mapping[Runtime, float] = field(default_factory=dict)
    runtime_of_one: Runtime | None = None

    def for_images(self, count: int, part: int) -> Runtime:
        """The fastest runtime for so many images, of which it takes ``part`` best at once."""
        return self.runtime if count >= part or self.runtime_of_one is None else self.runtime_of_one

    def to_dict(self) -> dict[str, Any]:
        """The trial as JSON values."""
        return {
            "runtime": self.runtime,
            "images_per_second": {name: round(rate, 1) for name, rate in self.speed.items()},
            "smallest_cosine": dict(self.cosine),
            "refused": dict(self.refused),
            "seconds_to_begin": {name: round(seconds, 1) for name, seconds in self.seconds.items()},
            "images_per_second_one_by_one": {name: round(rate, 1) for name, rate in self.speed_of_one.items()},
            "runtime_of_one": self.runtime_of_one,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read a trial from what ``to_dict`` gave."""
        return cls(
            values["runtime"],
            values["images_per_second"],
            values["smallest_cosine"],
            values["refused"],
            values.get("seconds_to_begin", {}),
            values.get("images_per_second_one_by_one", {}),
            values.get("runtime_of_one"),
        )

    def saved(self, images: int, runtime: Runtime) -> float:
        """Seconds that a runtime saves torch with so many images, what it takes to begin aside; below 0 where it is slower."""
        return images * (1 / self.speed["torch"] - 1 / self.speed[runtime])

    def told(self, name: str) -> str:
        """The trial in one sentence."""
        speeds = ", ".join(f"{runtime} {speed:.0f}" for runtime, speed in self.speed.items())
        others = "".join(f"; not {runtime}: {why}" for runtime, why in self.refused.items())
        begun = f"; {self.seconds[COMPILED]:.0f} seconds to compile" if COMPILED in self.speed else ""
        single = "" if self.runtime_of_one in (None, self.runtime) else f", and in {self.runtime_of_one} one by one,"
        return f"{name} runs in {self.runtime}{single} on this machine (images a second: {speeds}{begun}{others})"


class TriedNetwork:
    """A network for which the runtimes were tried, with its file, which each of them opens once.

    Args:
        trial: what was found.
        file: as ``onnx_export.export_runnable`` writes it; ``None`` where it could not be written.
        side: size of the images.
    """

    def __init__(self, trial: RuntimeTrial, file: Path | None, side: Size) -> None:
        self.trial = trial
        self.refused = dict(trial.refused)
        self.file = file
        self.side = side
        self._opened: dict[Runtime, Embed] = {}
        self._one_opener = threading.Lock()

    def in_runtime(self, runtime: Runtime) -> Embed | None:
        """Return what embeds pixels in a runtime; ``None`` for torch, and where it is refused, as ``refused`` then says."""
        with self._one_opener:
            is_left = runtime != "torch" and runtime not in self._opened and runtime not in self.refused
            if is_left and self.file is not None:
                try:
                    self._opened[runtime] = of_file(runtime, self.file, self.side)
                # Runtimes have errors of their own without a common base.
                except Exception as error:
                    self.refused[runtime] = reason_of(error)
            return self._opened.get(runtime)


def reason_of(error: Exception) -> str:
    """Return why a runtime that fails is not used."""
    return f"it cannot run the network ({(str(error).strip() or type(error).__name__).splitlines()[0]})"


def of_file(runtime: Runtime, path: Path, side: Size) -> Embed:
    """Return what embeds pixels by a network that ``onnx_export.export_runnable`` has written.

    Args:
        runtime: that runs the file.
        path: of the file.
        side: size of the images.
    """
    return _onnxruntime(path, side) if runtime == "onnxruntime" else _openvino(path, side)


def _onnxruntime(path: Path, side: Size) -> Embed:
    import onnxruntime

    @cache
    def session(count: int) -> Any:
        return onnxruntime.InferenceSession(str(path), onnxruntime_options(count), providers=["CPUExecutionProvider"])

    def made(session: Any, pixels: Pixels) -> Vectors:
        vectors: Vectors = session.run(None, {"pixels": pixels})[0]
        return vectors

    def embed(pixels: Pixels) -> Vectors:
        if len(pixels) == 1:
            return made(session(threads()), pixels)
        # Threads that share a part wait busily for one another. With a part each, they need not wait.
        size = min(part_size(side), math.ceil(len(pixels) / threads()))
        parts = [pixels[start : start + size] for start in range(0, len(pixels), size)]
        return np.concatenate(_side_by_side(partial(made, session(1)), parts))

    session(threads())
    return embed


def _side_by_side(run: Callable[[NDArray[Any]], Vectors], parts: Sequence[NDArray[Any]]) -> list[Vectors]:
    """Return what is made of each part, by as many threads as a network has."""
    count = min(threads(), len(parts))
    if count <= 1:
        return [run(part) for part in parts]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, parts))


def onnxruntime_options(count: int) -> Any:
    """The options of a session of ONNX Runtime in so many threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = count
    options.log_severity_level = 4
    # Its threads wait busily for one another, which is as it should be; but not for the next picture that somebody searches with.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _openvino(path: Path, side: Size) -> Embed:
    return openvino_model(path, "pixels", (*sides(side), 3), part_size(side))


_openvino_opens = threading.Lock()


def _core() -> Any:
    """OpenVINO, opened once for the process and never closed: a model that outlives its core can bring the process down."""
    # Threads that ask for the first one together would each make their own, and all but one of these would be closed.
    with _openvino_opens:
        return _only_core()


@cache
def _only_core() -> Any:
    import openvino

    return openvino.Core()


def openvino_model(
    path: Path, name: str, shape: tuple[int, ...], size: int, precision: Literal["f32", "bf16"] = "f32"
) -> Callable[[NDArray[Any]], Vectors]:
    """A model of an ONNX file in OpenVINO, with fixed shapes for whole parts and for one image, which are faster than any shape.

    As many parts as there are threads go through it side by side; one image has all threads.

    Args:
        path: of the file.
        name: of its input.
        shape: of one image.
        size: images of a whole part.
        precision: in which it computes; by itself OpenVINO takes bfloat16 where the processor has it.
    """
    core = _core()
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "EXECUTION_MODE_HINT": "ACCURACY" if precision == "f32" else "PERFORMANCE",
        "INFERENCE_NUM_THREADS": threads(),
        "PERFORMANCE_HINT": "LATENCY",
        # By itself it ties its threads to the first processors, and so does every other process: they would share these.
        "ENABLE_CPU_PINNING": False,
    }

    def compiled(count: int, streams: int) -> Callable[[NDArray[Any]], Vectors]:
        model = core.read_model(path)
        model.reshape({name: [count, *shape]})
        program = core.compile_model(model, "CPU", {**settings, "NUM_STREAMS": streams})
        # A request has memory of its own for one call at a time.
        requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(streams):
            requests.put(program.create_infer_request())

        def infer(images: NDArray[Any]) -> Vectors:
            request = requests.get()
            try:
                # The program lives as long as its requests; vectors are copied, because the next call writes over them.
                return np.array(request.infer({name: images})[program.output(0)], dtype=np.float32)
            finally:
                requests.put(request)

        return infer

    single = compiled(1, 1)
    # A thread takes a part by itself: those that shared one would wait for one another.
    whole = compiled(size, threads()) if size > 1 else single

    def infer(part: NDArray[Any]) -> Vectors:
        return whole(part) if len(part) == size else single(part)

    def run(images: NDArray[Any]) -> Vectors:
        full = len(images) - len(images) % size
        parts = [images[start : start + size] for start in range(0, full, size)]
        parts += [images[start : start + 1] for start in range(full, len(images))]
        return np.concatenate(_side_by_side(infer, parts))

    return run
