"""A generation's embedder as an ONNX file, and what its vectors are worth beside the generation's own."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from evergallery.data.augment import normalise
from evergallery.data.image_set import ImageSet
from evergallery.errors import InputError, MissingExtraError
from evergallery.evaluation import measure, protocol
from evergallery.files import new_file, require_place
from evergallery.generations.generation import Generation
from evergallery.holdings.embedding import extract
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.images import ImageReader
from evergallery.network import Embedder, ExpandedEmbedder
from evergallery.network import extract as extract_images
from evergallery.network.foreign import onnx_model
from evergallery.network.onnx_export import export_onnx, in_bfloat16, probe_cosine, quantise
from evergallery.network.runtimes import is_installed
from evergallery.watching import SILENT, Watcher

CALIBRATION_IMAGES = 256
CALIBRATION_BATCH = 32


@dataclass(frozen=True)
class Recall:
    """Recall@1 of an exported file on held-out images, in [0, 1].

    Attributes:
        queries: how many.
        generation: queries and gallery by the generation itself.
        file: queries and gallery by the file.
        cross: queries by the file, in vectors of the generation.
        smallest_cosine: of an image's vectors by the file and by the generation, the smallest over all images.
        protocol: what was searched for in what.
    """

    queries: int
    generation: float
    file: float
    cross: float
    smallest_cosine: float
    protocol: str


@dataclass(frozen=True)
class ModelExport:
    """The result of ``export_model``.

    Attributes:
        generation: whose embedder it is.
        file: that was written.
        bytes: its size.
        numbers: ``float32``, ``bfloat16`` or ``int8``.
        cosine: of a probe picture's vectors by the file and by the generation, the smallest over all pictures.
        recall: on held-out images, where some were given.
    """

    generation: str
    file: Path
    bytes: int
    numbers: str
    cosine: float
    recall: Recall | None


def export_model(
    holdings: Holdings,
    path: str | Path,
    *,
    generation: str | None = None,
    int8: bool = False,
    bf16: bool = False,
    calibrate: str | Path | ImageSet | None = None,
    data: str | Path | ImageSet | None = None,
    data_dir: Path | None = None,
    watcher: Watcher = SILENT,
) -> ModelExport:
    """Write a generation's embedder to an ONNX file, which ``register`` and other programs read.

    It takes normalised images (B, 3, S, S) and gives unit embeddings (B, D); the preprocessing is written into it. In
    float32 its vectors are the generation's, which is made sure of on fixed pictures. In fewer bits they are others: registered,
    the file is a generation of its own, which ``check`` may show to be compatible with the vectors of this one.

    Args:
        path: ends in ``.onnx``.
        generation: the promoted one by default.
        int8: write weights and activations in 8 bits.
        bf16: have it computed in bfloat16, by OpenVINO; several times as fast on processors that have it.
        calibrate: for that, images like those to come, not those it is measured on; 256 of them are used.
        data: held-out images with labels, on which recall@1 of the file is measured beside the generation's.
        data_dir: where named sets lie.
        watcher: hears of progress.

    Raises:
        RefusedError: the file does not do what the generation does.
        InputError: the generation is no network, or the arguments do not fit together.
        MissingExtraError: without onnx, onnxscript or onnxruntime.
    """
    path = Path(path)
    maker = holdings.generation(generation) if generation else holdings.promoted
    _check_arguments(path, maker, calibrates=calibrate is not None, int8=int8, bf16=bf16)
    reader = ImageReader(holdings, data_dir, watcher)
    held_out = None if data is None else reader.read(data, maker.preprocessing)
    sample = None if calibrate is None else _sample(reader, calibrate, maker)
    with new_file(path) as temporary, TemporaryDirectory(dir=path.parent) as folder:
        written, cosine = _write(maker, Path(folder), sample, bf16, watcher)
        recall = None if held_out is None else _recall(holdings, maker, written, held_out, watcher)
        written.replace(temporary)
    numbers = "int8" if int8 else "bfloat16" if bf16 else "float32"
    figures = {} if recall is None else {"recall": recall.file, "cross": recall.cross, "own": recall.generation}
    holdings.journal.record(
        "export-model", generation=maker.name, file=str(path), numbers=numbers, cosine=round(cosine, 6), **figures
    )
    return ModelExport(maker.name, path, path.stat().st_size, numbers, cosine, recall)


def _check_arguments(path: Path, maker: Generation, *, calibrates: bool, int8: bool, bf16: bool) -> None:
    if path.suffix.lower() != ".onnx":
        raise InputError(f"{path} is no name of an ONNX file: let it end in .onnx.")
    require_place(path)
    if int8 != calibrates:
        raise InputError("Images to calibrate with and int8 go together: give --int8 --calibrate IMAGES, or neither.")
    if int8 and bf16:
        raise InputError("A file is written for 8 bits or for bfloat16: give --int8 or --bf16, not both.")
    if bf16 and not is_installed("openvino"):
        raise MissingExtraError("A model in bfloat16", "fast")
    if not maker.can_be_parent:
        raise InputError(f"{maker.name} is no network of this workspace: only those are exported.")


def _write(
    maker: Generation, folder: Path, sample: ImageSet | None, bf16: bool, watcher: Watcher
) -> tuple[Path, float]:
    """The file in the numbers that are asked for, and its smallest cosine with the generation on the probe pictures.

    Args:
        maker: whose embedder it is.
        folder: a temporary one.
        sample: images to calibrate 8 bits with; ``None`` for other numbers.
        bf16: have it computed in bfloat16.
        watcher: hears of progress.
    """
    embedder, preprocessing = maker.embedder(), maker.preprocessing
    assert isinstance(embedder, Embedder | ExpandedEmbedder), "a generation that is a network is one of both"
    # The runtime knows a model by its suffix.
    exact = folder / "exact.onnx"
    watcher.said(f"exporting {maker.name}")
    cosine = export_onnx(embedder, preprocessing, exact, generation=maker.name, fingerprint=maker.fingerprint)
    if sample is not None:
        quantised = folder / "int8.onnx"
        watcher.said(f"calibrating on {len(sample)} images")
        quantise(exact, quantised, _batches(sample, maker))
        return quantised, probe_cosine(embedder, preprocessing, quantised)
    if bf16:
        rounded = folder / "bf16.onnx"
        return rounded, in_bfloat16(embedder, preprocessing, exact, rounded)
    return exact, cosine


def _sample(reader: ImageReader, data: str | Path | ImageSet, maker: Generation) -> ImageSet:
    """A random part of the images to calibrate with, the same at each call."""
    images = reader.read(data, maker.preprocessing, minimum_per_class=0)
    order = np.random.default_rng(0).permutation(len(images))
    return images.select(np.sort(order[:CALIBRATION_IMAGES]))


def _batches(images: ImageSet, maker: Generation) -> Iterator[NDArray[np.float32]]:
    """The images as the network takes them: normalised (B, 3, H, W)."""
    preprocessing = maker.preprocessing
    for start in range(0, len(images), CALIBRATION_BATCH):
        batch = images.batch(np.arange(start, min(start + CALIBRATION_BATCH, len(images))))
        yield normalise(batch, preprocessing.mean, preprocessing.std).contiguous().numpy()


def _recall(holdings: Holdings, maker: Generation, file: Path, images: ImageSet, watcher: Watcher) -> Recall:
    """Recall@1 of the file beside the generation's own, and across the two."""
    chosen = protocol(images)
    own = extract(holdings, maker, images, watcher)
    model = onnx_model(file, maker.preprocessing.size, maker.card.dimension)
    made = extract_images(
        model,
        images,
        maker.preprocessing,
        on_progress=lambda done, total: watcher.counted("extracting with the file", done, total),
    )

    def recall(query: NDArray[np.float32], gallery: NDArray[np.float32]) -> float:
        return float(measure(chosen, query, gallery, ())["all"].recall[1])

    return Recall(
        len(chosen.query),
        recall(own, own),
        recall(made, made),
        recall(made, own),
        float((own * made).sum(1).min()),
        chosen.searched,
    )
