"""An embedder as an ONNX file: the same vectors in float32, measured ones in 8 bits, and a generation of its own."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import as_json, coloured_images, evergallery
from evergallery import Workspace
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.errors import InputError, MissingExtraError, RefusedError
from evergallery.exchange import model_export
from evergallery.network import onnx_export
from evergallery.network.embedder import Extractor
from onnx_exporter import read_library_once

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def held_out() -> ImageSet:
    return coloured_images(classes=6, each=10, seed=5)


def write_arrays(path: Path, images: ImageSet) -> Path:
    np.savez(path, images=images.pixels[images.rows], labels=images.labels)
    return path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """v1 is a small network; its preprocessing is nobody's default."""
    read_library_once()
    space = Workspace.create(tmp_path_factory.mktemp("export") / "shop")
    space.register(
        "resnet8",
        pretrained=False,
        size=16,
        fit="pad",
        interpolation="lanczos",
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.3, 0.4),
    )
    return space


@dataclass(frozen=True)
class Written:
    """A file, and the weights of what was written to it, before and after."""

    path: Path
    before: dict[str, torch.Tensor]
    after: dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def written(shop: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """v1 as a file, which takes seconds."""
    path = tmp_path_factory.mktemp("files") / "model.onnx"
    weights: list[dict[str, torch.Tensor]] = []

    def watched(embedder: Extractor, *given: Any, **description: Any) -> float:
        weights.append({name: tensor.clone() for name, tensor in embedder.state_dict().items()})
        cosine = onnx_export.export_onnx(embedder, *given, **description)
        weights.append(embedder.state_dict())
        return cosine

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(model_export, "export_onnx", watched)
        done = shop.export_model(path, data=held_out())
    assert done.cosine >= 0.9999
    assert done.numbers == "float32"
    assert done.bytes == path.stat().st_size
    assert done.recall is not None
    assert done.recall.generation == pytest.approx(done.recall.file) == pytest.approx(done.recall.cross)
    assert done.recall.smallest_cosine >= 0.9999
    return Written(path, *weights)


@pytest.fixture(scope="module")
def exported(written: Written) -> Path:
    return written.path


@pytest.fixture
def written_before(shop: Workspace, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is in a file already, which takes seconds: only what is made of that file is looked at."""

    def copied(embedder: Extractor, preprocessing: Preprocessing, path: Path, **description: str) -> float:
        assert description["fingerprint"] == shop.generation("v1").fingerprint
        shutil.copyfile(exported, path)
        return onnx_export.probe_cosine(embedder, preprocessing, path)

    monkeypatch.setattr(model_export, "export_onnx", copied)


def test_a_registered_file_is_the_same_model(shop: Workspace, exported: Path) -> None:
    again = shop.register(exported)
    assert again.preprocessing == shop.generation("v1").preprocessing, "it says itself what it wants"
    images = held_out()
    mine, theirs = (shop.extract(shop.generation(name), images, keep=False) for name in ("v1", again.name))
    assert (mine * theirs).sum(1).min() >= 0.9999
    vector = shop.extract(again, images.select(np.arange(1)), keep=False)
    assert float(vector[0] @ theirs[0]) >= 0.9999, "of any batch"
    assert shop.register(exported, size=16, mean=(0.5, 0.5, 0.5)).preprocessing.mean == (0.5, 0.5, 0.5)


def test_the_file_says_where_it_comes_from(shop: Workspace, exported: Path) -> None:
    said = {prop.key: prop.value for prop in onnx.load(exported).metadata_props}
    assert said["generation"] == "v1"
    assert said["fingerprint"] == shop.generation("v1").fingerprint
    assert json.loads(said["evergallery.preprocessing"])["fit"] == "pad"


def test_a_file_that_does_something_else_is_not_written(
    shop: Workspace, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_weights(*given: Any) -> None:
        model = onnx.load(exported)
        kernel = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
        kernel.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(kernel), kernel.name))
        onnx.save(model, given[-1])

    monkeypatch.setattr(onnx_export, "_write", other_weights)
    with pytest.raises(RefusedError, match=r"cosine of \S+ with the model itself, below 0.9999"):
        shop.export_model(tmp_path / "model.onnx", generation="v1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("written_before")
def test_in_8_bits_it_is_smaller_and_measured_and_a_space_of_its_own(
    shop: Workspace, tmp_path: Path, exported: Path
) -> None:
    data = write_arrays(tmp_path / "held-out.npz", held_out())
    others = write_arrays(tmp_path / "others.npz", coloured_images(classes=6, each=10, seed=6))
    file = tmp_path / "small.onnx"
    done: dict[str, Any] = as_json(
        "export-model", "v1", file, "-w", shop.directory, "--int8", "--calibrate", others, "--data", data
    )
    assert done["numbers"] == "int8"
    assert done["bytes"] < 0.5 * exported.stat().st_size
    recall = done["recall"]
    assert recall["queries"] == 60
    assert recall["smallest_cosine"] < 0.99999
    generation = shop.register(file)
    assert generation.fingerprint != shop.generation("v1").fingerprint
    images = held_out()
    made, own = (shop.extract(shop.generation(name), images, keep=False) for name in (generation.name, "v1"))
    assert float((made * own).sum(1).min()) == pytest.approx(recall["smallest_cosine"], abs=1e-3)

    def recall_at_1(query: np.ndarray, gallery: np.ndarray) -> float:
        scores = query @ gallery.T
        np.fill_diagonal(scores, -1)
        return float((images.labels[scores.argmax(1)] == images.labels).mean())

    assert recall["file"] == pytest.approx(recall_at_1(made, made), abs=0.02)
    assert recall["cross"] == pytest.approx(recall_at_1(made, own), abs=0.02)
    assert recall["generation"] == pytest.approx(recall_at_1(own, own), abs=1e-6)


@pytest.mark.usefixtures("written_before")
def test_in_bfloat16_it_is_a_space_of_its_own_that_says_so(shop: Workspace, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    data = write_arrays(tmp_path / "held-out.npz", held_out())
    file = tmp_path / "quick.onnx"
    done: dict[str, Any] = as_json("export-model", "v1", file, "-w", shop.directory, "--bf16", "--data", data)
    assert done["numbers"] == "bfloat16"
    assert done["cosine"] >= 0.999
    assert done["recall"]["cross"] == pytest.approx(done["recall"]["generation"], abs=0.1)
    generation = shop.register(file)
    assert generation.fingerprint != shop.generation("v1").fingerprint
    assert generation.card.model["numbers"] == "bfloat16"
    made, own = (shop.extract(shop.generation(name), held_out(), keep=False) for name in (generation.name, "v1"))
    assert float((made * own).sum(1).min()) >= 0.999
    if "amx_bf16" in Path("/proc/cpuinfo").read_text():
        assert np.abs(made - own).max() > 1e-5, "it is run in the numbers that it asks for"


def test_bfloat16_wants_the_runtime_that_has_it(
    shop: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="not both"):
        shop.export_model(tmp_path / "model.onnx", bf16=True, int8=True, calibrate=held_out())
    monkeypatch.setattr(model_export, "is_installed", lambda _: False)
    with pytest.raises(MissingExtraError, match=r"evergallery\[fast\]"):
        shop.export_model(tmp_path / "model.onnx", bf16=True)


@pytest.mark.usefixtures("written_before")
def test_what_bfloat16_leaves_too_little_of_is_not_written(
    shop: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    right = onnx_export.probe_cosine
    monkeypatch.setattr(
        onnx_export, "probe_cosine", lambda *given: 0.998 if "bf16" in given[-1].name else right(*given)
    )
    with pytest.raises(RefusedError, match="In bfloat16 fixed pictures are embedded at a cosine of 0.99800"):
        shop.export_model(tmp_path / "model.onnx", generation="v1", bf16=True)
    assert list(tmp_path.iterdir()) == []


def test_arguments_that_do_not_fit_are_refused_before_any_work(shop: Workspace, tmp_path: Path) -> None:
    for arguments, message in (
        (("model.bin",), "end in .onnx"),
        (("none/model.onnx",), "cannot be written: there is no folder"),
        (("model.onnx", "--int8"), "--calibrate IMAGES"),
        (("model.onnx", "--calibrate", "glyphs"), "--int8"),
    ):
        file, *rest = arguments
        done = evergallery("export-model", "v1", tmp_path / file, "-w", shop.directory, *rest, expect=2)
        assert message in done.stderr
    shop.register(f"{__name__}:a_function", size=16)
    functions = [generation.name for generation in shop.generations() if generation.card.kind == "callable"]
    with pytest.raises(InputError, match="only those are exported"):
        shop.export_model(tmp_path / "model.onnx", generation=functions[0])


def a_function(images: np.ndarray) -> np.ndarray:
    made: np.ndarray = images.mean(axis=(2, 3)) + 2
    return made


def test_what_a_file_says_must_be_usable(shop: Workspace, exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported)
    onnx.helper.set_model_props(model, {"evergallery.preprocessing": '{"size": "large"}'})
    onnx.save(model, tmp_path / "bad.onnx")
    with pytest.raises(InputError, match="says under evergallery.preprocessing what cannot be used"):
        shop.register(tmp_path / "bad.onnx")


def test_exporting_leaves_the_model_as_it_was(written: Written) -> None:
    assert written.before
    assert all(torch.equal(tensor, written.after[name]) for name, tensor in written.before.items())
