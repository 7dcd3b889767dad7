"""An embedder as an ONNX file that runs without this package, in float32 or in 8 bits.

The file takes normalised images and gives unit embeddings; how an image is scaled and normalised is written into it, as JSON
under ``evergallery.preprocessing``, where ``register`` finds it.
"""

import copy
import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from evergallery.data.augment import normalise
from evergallery.data.images import Preprocessing
from evergallery.errors import MissingExtraError, RefusedError
from evergallery.network.embedder import Embedder, Extractor
from evergallery.network.foreign import EXACT, NUMBERS, PREPROCESSING, SAME, onnx_model, probe, probe_images

OPSET = 18
Network = TypeVar("Network", bound=nn.Module)


class _PixelEmbedder(nn.Module):
    """The embedder with the normalisation of images before it."""

    def __init__(self, embedder: Extractor, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.embedder = embedder
        self.mean, self.std = preprocessing.mean, preprocessing.std

    def forward(self, pixels: Tensor) -> Tensor:
        return self.embedder.embed(normalise(pixels.permute(0, 3, 1, 2), self.mean, self.std))


class _PixelBackbone(nn.Module):
    """The backbone of an embedder with the normalisation of images before it."""

    def __init__(self, embedder: Embedder, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.backbone = embedder.backbone
        self.mean, self.std = preprocessing.mean, preprocessing.std

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.backbone(normalise(pixels.permute(0, 3, 1, 2), self.mean, self.std))
        return features


class _UnitNeck(nn.Module):
    """The neck of an embedder with its normalisation of embeddings."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.neck = embedder.neck

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(self.neck(features).float())


class _UnitEmbedder(nn.Module):
    """The embedder as it is served: with its normalisation of embeddings."""

    def __init__(self, embedder: Extractor) -> None:
        super().__init__()
        self.embedder = embedder

    def forward(self, images: Tensor) -> Tensor:
        return self.embedder.embed(images)


def export_onnx(embedder: Extractor, preprocessing: Preprocessing, path: Path, **description: str) -> float:
    """Write an embedder to one file: ``images`` (B, 3, H, W) float32, normalised, to ``embeddings`` (B, D), unit rows, any B.

    Args:
        embedder: to be written.
        preprocessing: of its input.
        path: of the file.
        **description: more that is written into it.

    Returns:
        The smallest cosine of the file's embedding of a probe picture with the embedder's.

    Raises:
        RefusedError: the file does not do what the embedder does.
        MissingExtraError: without onnx, onnxscript or onnxruntime.
    """
    onnx = _onnx()
    # Two images, because the exporter takes a batch of one for a constant.
    example = torch.zeros(2, 3, *preprocessing.shape)
    _write(_UnitEmbedder(_contiguous(embedder)), "images", example, path)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {**description, PREPROCESSING: json.dumps(preprocessing.to_dict())})
    onnx.save(model, path)
    cosine = probe_cosine(embedder, preprocessing, path)
    if not cosine >= EXACT:
        raise RefusedError(
            f"The ONNX file embeds fixed pictures at a cosine of {cosine:.5f} with the model itself, below {EXACT}: it is not "
            f"written, because its vectors would be others."
        )
    return cosine


def export_runnable(embedder: Extractor, preprocessing: Preprocessing, path: Path) -> None:
    """Write an embedder to one file for the runtimes: decoded ``pixels`` (B, H, W, 3) uint8 to ``embeddings`` (B, D), any B.

    Args:
        embedder: to be written.
        preprocessing: of its input.
        path: of the file.

    Raises:
        ImportError: without onnx or onnxscript.
    """
    _write_runnable(_PixelEmbedder(_contiguous(embedder), preprocessing), preprocessing, path)


def export_runnable_backbone(embedder: Embedder, preprocessing: Preprocessing, path: Path) -> None:
    """Write the backbone of an embedder to one file for the runtimes: ``pixels`` (B, H, W, 3) uint8 to its features (B, W).

    Args:
        embedder: whose backbone is written.
        preprocessing: of its input.
        path: of the file.

    Raises:
        ImportError: without onnx or onnxscript.
    """
    _write_runnable(_PixelBackbone(_contiguous(embedder), preprocessing), preprocessing, path)


def export_runnable_on(backbone: Path, embedder: Embedder, width: int, path: Path) -> None:
    """Write an embedder as ``export_runnable`` does, from the file of its backbone, which takes a twentieth of the time.

    Args:
        backbone: as ``export_runnable_backbone`` has written it.
        embedder: whose neck is put on it.
        width: W of the backbone's features.
        path: of the file.

    Raises:
        ImportError: without onnx or onnxscript.
    """
    import onnx

    # Of the names within both files, those of the backbone get a prefix, so that none is there twice.
    features = onnx.compose.add_prefix(onnx.load(backbone), "backbone/", rename_inputs=False)
    with TemporaryDirectory(dir=path.parent) as folder:
        neck = Path(folder) / "neck.onnx"
        _write(_UnitNeck(_contiguous(embedder)), "features", torch.zeros(2, width), neck)
        whole = onnx.compose.merge_models(features, onnx.load(neck), io_map=[("backbone/embeddings", "features")])
    onnx.save(whole, path)


def _write_runnable(module: nn.Module, preprocessing: Preprocessing, path: Path) -> None:
    _write(module, "pixels", torch.zeros(2, *preprocessing.shape, 3, dtype=torch.uint8), path)


def _contiguous(embedder: Network) -> Network:
    copied: Network = copy.deepcopy(embedder).to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return copied


def _write(module: nn.Module, name: str, example: Tensor, path: Path) -> None:
    with _quiet():
        torch.onnx.export(
            module.eval(),
            (example,),
            path,
            input_names=[name],
            output_names=["embeddings"],
            dynamic_shapes={name: {0: torch.export.Dim("batch")}},
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def probe_cosine(embedder: Extractor, preprocessing: Preprocessing, path: Path) -> float:
    """The smallest cosine of a file's embedding of a probe picture with the embedder's, alone and in a batch."""
    file = onnx_model(path, preprocessing.size)
    mine, together = probe(embedder, preprocessing), probe(file, preprocessing)
    with torch.inference_mode():
        images = probe_images(preprocessing.size)
        alone = torch.cat(
            [file.embed(_normalised(images[index : index + 1], preprocessing)) for index in range(len(images))]
        )
    return float(torch.minimum((mine * together).sum(1), (mine * alone).sum(1)).min())


def in_bfloat16(embedder: Extractor, preprocessing: Preprocessing, path: Path, target: Path) -> float:
    """Write the model of a float32 file as one that is run in bfloat16, and return the smallest cosine as ``export_onnx`` does.

    Raises:
        RefusedError: what comes out is too far from the embedder's vectors.
        MissingExtraError: without onnx or openvino.
    """
    onnx = _onnx()
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {**_properties(model), NUMBERS: "bfloat16"})
    onnx.save(model, target)
    cosine = probe_cosine(embedder, preprocessing, target)
    if not cosine >= SAME:
        raise RefusedError(
            f"In bfloat16 fixed pictures are embedded at a cosine of {cosine:.5f} with the model itself, below {SAME}: the file "
            f"is not written, because too little would be left of its vectors."
        )
    return cosine


def quantise(path: Path, target: Path, batches: Iterator[NDArray[np.float32]]) -> None:
    """Write the model of a float32 file with weights and activations of 8 bits.

    Weights keep to 7 bits, so that processors that add products of bytes in 16 bits give the same vectors as those that do
    not have to.

    Args:
        path: written by ``export_onnx``.
        target: of the new file.
        batches: normalised images (B, 3, H, W) like those to come; their range is what the activations are scaled to.

    Raises:
        MissingExtraError: without onnx or onnxruntime.
    """
    onnx = _onnx()
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            batch = next(batches, None)
            return None if batch is None else {"images": batch}

    with TemporaryDirectory(dir=target.parent) as folder, _quiet():
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            op_types_to_quantize=["Conv", "Gemm", "MatMul", "Add", "Relu", "MaxPool", "GlobalAveragePool"],
        )
    model = onnx.load(target)
    onnx.helper.set_model_props(model, {**_properties(onnx.load(path)), NUMBERS: "int8"})
    onnx.save(model, target)


def _normalised(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    return normalise(images, preprocessing.mean, preprocessing.std)


def _onnx() -> Any:
    try:
        import onnx
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("Writing an ONNX model", "onnx") from error
    return onnx


def _properties(model: Any) -> dict[str, str]:
    """Return what an ONNX model says of itself, by name."""
    return {entry.key: entry.value for entry in model.metadata_props}


@contextmanager
def _quiet() -> Iterator[None]:
    """Let nobody hear what the exporters tell their own developers."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
