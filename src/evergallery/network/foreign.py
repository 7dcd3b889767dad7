"""Models that somebody else has made and that are only run: ONNX files, and Python functions.

Neither can be trained here, and neither has weights to take a fingerprint of that tells the whole truth: code can change
underneath. So a few fixed pictures are embedded when a model is registered, and whoever loads it embeds them again.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from evergallery.data.augment import normalise
from evergallery.data.images import Preprocessing
from evergallery.data.images.sizes import Size, sides
from evergallery.errors import EvergalleryError, InputError, MissingExtraError, UnavailableError
from evergallery.network.embedder import Extractor
from evergallery.network.runtimes import is_installed, onnxruntime_options, openvino_model, part_size, threads

PROBE_CELLS = (2, 4, 8, 16)
"""Coloured cells along the side of each probe picture: coarse to fine, as networks look at either."""
SAME = 0.999
"""Least cosine of a probe's embedding with what it was: far above what another machine's arithmetic changes."""

EXACT = 0.9999
"""Least cosine of a fixed picture's embedding by another runtime, or on a GPU, that computes in as many bits."""

PREPROCESSING = "evergallery.preprocessing"
"""Under which name an ONNX file says, as JSON, what its input went through."""

NUMBERS = "evergallery.numbers"
"""Under which name an ONNX file says in which numbers it is to be run, ``float32`` where it says nothing."""

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}
"""Full float32; no search for the fastest convolution, which would begin anew for a last batch of another size; and no more
memory than is asked for."""

NO_MEMORY = ("allocate memory", "out of memory", "smaller than requested")
"""Parts of what ONNX Runtime says where a GPU is full."""

ONE_CELL = np.zeros((1, 3, 1, 1), np.float32)
Run = Callable[[NDArray[np.float32]], Any]


@dataclass(frozen=True)
class Computation:
    """The way in which a model computes.

    Attributes:
        numbers: in which it computes.
        on_gpu: whether it computes on one.
    """

    numbers: str = "float32"
    on_gpu: bool = False


USUAL = Computation()


class ForeignModel(Extractor):
    """A model that turns a float32 batch (B, 3, H, W), normalised, into vectors (B, D).

    Args:
        name: for messages.
        run: the model.
        dimension: D.
        file: what it is read from; ``None`` for a Python function, whose name is ``package.module:function``.
        computation: how it computes.
    """

    def __init__(
        self, name: str, run: Run, dimension: int, file: Path | None = None, computation: Computation = USUAL
    ) -> None:
        super().__init__()
        self.on_gpu = self.whole_batches = computation.on_gpu
        self.name = name
        self.file = file
        self.run = run
        self.dimension = dimension
        self.numbers = computation.numbers

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to embeddings (B, D), at the length that the model gives them.

        Raises:
            InputError: the model fails, or returns something else than B finite vectors of D numbers.
        """
        vectors = vectors_of(self.name, self.run, images.cpu().numpy())
        if vectors.shape[1] != self.dimension:
            raise InputError(
                f"{self.name} returned vectors of {vectors.shape[1]} dimensions and had {self.dimension} when it was "
                f"registered: register it as a new generation."
            )
        return torch.from_numpy(vectors)


def vectors_of(name: str, run: Run, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what a model makes of images (B, 3, H, W): vectors (B, D), finite and none of them zero.

    Raises:
        InputError: it makes something else, or fails.
    """
    try:
        made = run(np.ascontiguousarray(images))
        vectors = np.array(made.detach().cpu().numpy() if isinstance(made, Tensor) else made, dtype=np.float32)
    except (EvergalleryError, torch.OutOfMemoryError):
        # Whoever gave a GPU too much gives it less.
        raise
    # It is somebody else's code: anything may come out of it.
    except Exception as error:
        raise InputError(
            f"{name} fails on images of shape {images.shape} ({_reason(error)}): mend it and try again."
        ) from error
    if vectors.ndim != 2 or len(vectors) != len(images) or vectors.shape[1] < 1:
        raise InputError(
            f"{name} makes an array of shape {vectors.shape} of {len(images)} images: it must make vectors (B, D), one for "
            f"each image."
        )
    if not np.isfinite(vectors).all() or not vectors.any(axis=1).all():
        raise InputError(f"{name} makes vectors that are zero or not finite: check the preprocessing it was made for.")
    return vectors


def probe_images(size: Size) -> Tensor:
    """Fixed pictures (P, 3, H, W) uint8: random colours in cells, the same bytes for ever and everywhere."""
    pictures = []
    for cells in PROBE_CELLS:
        # Raw output of the bit generator, which unlike numpy's distributions is promised never to change.
        numbers = np.random.PCG64(cells).random_raw(cells * cells * 3)
        colours = (numbers % 256).astype(np.uint8).reshape(3, cells, cells)
        down, across = (np.arange(side) * cells // side for side in sides(size))
        pictures.append(colours[:, down][:, :, across])
    return torch.from_numpy(np.stack(pictures))


@torch.inference_mode()
def probe(model: Extractor, preprocessing: Preprocessing) -> Tensor:
    """Unit embeddings (P, D) of the probe pictures.

    Raises:
        InputError: the model fails on them.
    """
    images = normalise(probe_images(preprocessing.size), preprocessing.mean, preprocessing.std)
    return model.eval().embed(images.to(model.device)).cpu().clone()


def least_cosine(probes: Tensor, kept: Tensor) -> float:
    """The least cosine of unit rows (P, D) of the probe pictures with those that the model made before; 0 where D differs."""
    return float((probes * kept).sum(1).min()) if probes.shape == kept.shape else 0.0


def function_name(function: Callable[..., Any] | str) -> str:
    """``package.module:function``, by which a Python function can be found again.

    Raises:
        InputError: it cannot be found by a name.
    """
    if isinstance(function, str):
        return function
    name = f"{getattr(function, '__module__', None)}:{getattr(function, '__qualname__', None)}"
    if name.startswith("__main__:") or "<" in name or "None" in name.split(":"):
        raise InputError(f"{name} cannot be imported again: move it to the top of a module of its own.")
    if _import(name) is not function:
        raise InputError(f"{name} is another object than the one given: give one that can be imported by that name.")
    return name


def text_tower(name: str) -> Callable[[str], Any] | None:
    """Return what turns words into vectors beside the Python function ``package.module:function``; ``None`` without it.

    It is called ``embed_text`` and stands at the function itself, or in its module. Nothing is imported for it: whoever
    searches with a model has loaded it.
    """
    module = sys.modules.get(name.partition(":")[0])
    if module is None:
        return None
    beside = getattr(module, "embed_text", None)
    own = getattr(getattr(module, name.partition(":")[2], None), "embed_text", beside)
    return own if callable(own) else None


def text_vector(name: str, tower: Callable[[str], Any], words: str, dimension: int) -> NDArray[np.float32]:
    """Return what a text tower makes of words: a unit vector (D,).

    Raises:
        InputError: it fails, or makes something else.
    """
    vectors = vectors_of(f"{name}, asked with words", lambda _: np.reshape(_as_array(tower(words)), (1, -1)), ONE_CELL)
    if vectors.shape[1] != dimension:
        raise InputError(
            f"The text tower beside {name} makes vectors of {vectors.shape[1]} dimensions, and {name} of {dimension}: both must "
            f"lie in one space."
        )
    unit: NDArray[np.float32] = F.normalize(torch.from_numpy(vectors))[0].numpy()
    return unit


def _as_array(made: Any) -> NDArray[Any]:
    return made.detach().cpu().numpy() if isinstance(made, Tensor) else np.asarray(made)


def function_model(name: str, size: Size, dimension: int | None = None) -> ForeignModel:
    """The model that is the Python function ``package.module:function``.

    Args:
        name: the function takes a float32 array (B, 3, H, W), normalised, and returns (B, D).
        size: H and W of its input.
        dimension: D, where it is known; otherwise it is asked with two probe pictures.

    Raises:
        InputError: there is no such function, or it fails.
    """
    function = _import(name)
    return ForeignModel(name, function, dimension or _dimension(name, function, size))


def onnx_model(path: Path, size: Size, dimension: int | None = None, *, on_gpu: bool = False) -> ForeignModel:
    """The model of an ONNX file, run on the CPU: by ONNX Runtime, or by OpenVINO where the file asks for bfloat16.

    On a GPU ONNX Runtime runs it through CUDA, in full float32. TensorRT is not asked: it builds an engine for minutes, and
    rounds products to TF32 unless the whole process is told otherwise.

    Its one input is ``(B, 3, H, W)`` float; a fixed B is worked around. Of its outputs the one with B vectors is taken.

    Args:
        path: the file, with its weights inside.
        size: H and W of its input.
        dimension: D, where it is known; otherwise it is asked with two probe pictures.
        on_gpu: whether it runs on one; not a file that asks for bfloat16.

    Raises:
        MissingExtraError: without onnxruntime, or without openvino.
        InputError: the file cannot be read, or has other inputs and outputs.
        UnavailableError: ONNX Runtime cannot run it on a GPU.
    """
    name = str(path)
    session = _session_on_gpu(path) if on_gpu else _session(path)
    pictures = _input_of_pictures(name, session, size)
    number_type = np.float32 if pictures.type == "tensor(float)" else np.float16
    fixed = pictures.shape[0] if isinstance(pictures.shape[0], int) else None

    def answer(images: NDArray[np.float32], outputs: list[str]) -> list[Any]:
        try:
            return list(session.run(outputs, {pictures.name: images.astype(number_type)}))
        # The runtime's errors have no common base.
        except Exception as error:
            if on_gpu and any(words in str(error) for words in NO_MEMORY):
                raise torch.OutOfMemoryError(str(error)) from error
            raise

    output = _output_of_vectors(name, session, answer, probe_batch(fixed or 2, size))

    def run(images: NDArray[np.float32]) -> NDArray[Any]:
        if fixed is None:
            return np.asarray(answer(images, [output])[0])
        parts = []
        for start in range(0, len(images), fixed):
            part = images[start : start + fixed]
            missing = np.zeros((fixed - len(part), *part.shape[1:]), np.float32)
            parts.append(answer(np.concatenate([part, missing]), [output])[0][: len(part)])
        return np.concatenate(parts)

    numbers = session.get_modelmeta().custom_metadata_map.get(NUMBERS, "float32")
    running: Run = run
    if numbers == "bfloat16":
        if not is_installed("openvino"):
            raise MissingExtraError("A model in bfloat16", "fast")
        running = openvino_model(path, pictures.name, (3, *sides(size)), part_size(size), "bf16")
    return ForeignModel(name, running, dimension or _dimension(name, running, size), path, Computation(numbers, on_gpu))


def _input_of_pictures(name: str, session: Any, size: Size) -> Any:
    """The one input of a model in ONNX Runtime, for floats (B, 3, H, W) of a size.

    Raises:
        InputError: it has other inputs.
    """
    inputs = session.get_inputs()
    expected = (3, *sides(size))
    shape = list(inputs[0].shape) if len(inputs) == 1 else []
    fits = len(shape) == 4 and all(
        not isinstance(have, int) or have == want for have, want in zip(shape[1:], expected, strict=True)
    )
    if not fits or inputs[0].type not in ("tensor(float)", "tensor(float16)"):
        found = ", ".join(f"{entry.name} {entry.shape} {entry.type}" for entry in inputs) or "none"
        raise InputError(
            f"{name} has the inputs {found}: it must have one, a float tensor (B, {', '.join(map(str, expected))}); name its "
            f"size with --size, or export it anew."
        )
    return inputs[0]


def onnx_preprocessing(path: Path) -> dict[str, Any]:
    """Return what an ONNX file itself says of the preprocessing it wants; empty where it says nothing.

    Raises:
        MissingExtraError: without onnxruntime.
        InputError: the file cannot be read, or says what cannot be.
    """
    said = _session(path).get_modelmeta().custom_metadata_map.get(PREPROCESSING)
    if said is None:
        return {}
    try:
        found = Preprocessing.from_dict(json.loads(said))
        return {**found.to_dict(), "decoding": found.decoding}
    except (ValueError, TypeError, AttributeError, InputError) as error:
        raise InputError(f"{path} says under {PREPROCESSING} what cannot be used ({error}): export it anew.") from error


def _output_of_vectors(
    name: str, session: Any, answer: Callable[[NDArray[np.float32], list[str]], list[Any]], images: NDArray[np.float32]
) -> str:
    outputs: list[str] = [output.name for output in session.get_outputs()]
    try:
        shapes = {output: np.shape(array) for output, array in zip(outputs, answer(images, outputs), strict=True)}
    except torch.OutOfMemoryError:
        raise
    # The runtime's errors have no common base.
    except Exception as error:
        raise InputError(
            f"{name} fails on images of shape {images.shape} ({_reason(error)}): export it anew."
        ) from error
    vectors = [output for output, shape in shapes.items() if len(shape) == 2 and shape[0] == len(images)]
    if len(vectors) != 1:
        found = ", ".join(f"{output} {shape}" for output, shape in shapes.items())
        raise InputError(
            f"{name} makes of {len(images)} images {found}: exactly one output must be vectors (B, D); export it so."
        )
    return vectors[0]


def _session_on_gpu(path: Path) -> Any:
    """The file in ONNX Runtime on a GPU.

    Raises:
        UnavailableError: this ONNX Runtime was built without CUDA, or cannot load it.
    """
    runtime = _onnxruntime()
    if CUDA not in runtime.get_available_providers():
        raise UnavailableError(
            "This ONNX Runtime has no CUDA, so that an ONNX file cannot be run on the GPU: install onnxruntime-gpu in place of "
            "onnxruntime."
        )
    session = _session(path, [(CUDA, CUDA_OPTIONS), CPU])
    # It says nothing where CUDA cannot be loaded, and runs the file on the processor.
    if CUDA not in session.get_providers():
        raise UnavailableError(
            "ONNX Runtime cannot load CUDA, so that an ONNX file cannot be run on the GPU: install the CUDA and cuDNN that this "
            "onnxruntime-gpu was built for."
        )
    return session


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("An ONNX model", "onnx") from error
    return onnxruntime


def _session(path: Path, providers: Sequence[Any] = (CPU,)) -> Any:
    runtime = _onnxruntime()
    try:
        # From bytes, so that weights in files beside it, which a generation would not keep, are missed at once.
        return runtime.InferenceSession(path.read_bytes(), onnxruntime_options(threads()), providers=list(providers))
    # The runtime's errors have no common base.
    except Exception as error:
        raise InputError(
            f"{path} cannot be run as an ONNX model ({_reason(error)}): export it as one file, with its weights inside."
        ) from error


def _import(name: str) -> Callable[..., Any]:
    module, _, path = name.partition(":")
    if not module or not path:
        raise InputError(f"{name!r} is no function: name it as package.module:function.")
    try:
        found: Any = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    # Importing runs somebody else's code: anything may come out of it.
    except Exception as error:
        raise InputError(
            f"{name} cannot be imported ({_reason(error)}): install its package, or put its folder on PYTHONPATH."
        ) from error
    if not callable(found):
        raise InputError(f"{name} is not a function: name one that takes a batch of images.")
    function: Callable[..., Any] = found
    return function


def _dimension(name: str, run: Run, size: Size) -> int:
    return int(vectors_of(name, run, probe_batch(2, size)).shape[1])


def probe_batch(count: int, size: Size) -> NDArray[np.float32]:
    """A batch (count, 3, H, W) of probe pictures in [0, 1], to see what a model makes of it."""
    images = probe_images(size).numpy().astype(np.float32) / np.float32(255)
    return images[np.arange(count) % len(images)]


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
