"""Models and vectors of other systems through the workspace: registered, imported, searched, learned from, exported."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import save_file

from conftest import MessageRecorder, coloured_images
from evergallery import Workspace
from evergallery.data.image_set import ImageSet
from evergallery.data.vectors import open_vectors
from evergallery.errors import DamagedError, InputError, MissingExtraError, NotFoundError, RefusedError
from evergallery.gallery.items import Filter
from evergallery.generations.card import CARD
from evergallery.generations.generation import Generation
from evergallery.methods import BCT, CSD, DualTuning, Evergreen, Finetune, LwF
from evergallery.network import Embedder, build_backbone
from evergallery.training import Settings
from evergallery.watching import Watcher

Quick = Callable[..., Settings]
SIZE = 16
TINY = "test_resnet.r160_in1k"
"""A timm model that was made for tests."""


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "shop", backbone="resnet8", size=SIZE)


def shelf(each: int = 3) -> ImageSet:
    return coloured_images(classes=4, each=each)


def picture(path: Path, images: ImageSet, index: int = 0) -> str:
    Image.fromarray(images.pixels[images.rows[index]]).save(path)
    return str(path)


def projection(dimension: int = 5, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(3, dimension)).astype(np.float32)


def write_onnx(
    path: Path,
    weight: NDArray[np.float32],
    *,
    batch: int | str = "B",
    side: int | str = SIZE,
    also: bool = False,
    scale: float = 1.0,
) -> Path:
    """Mean over the pixels, times a matrix: ``images (B, 3, H, W) → vectors (B, D)``, with the means beside it."""
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weight"], ["vectors"]),
    ]
    outputs = [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, [batch, weight.shape[1]])]
    if also:
        outputs.append(helper.make_tensor_value_info("means", TensorProto.FLOAT, [batch, 3]))
    constants = [
        numpy_helper.from_array(np.array([2, 3]), "axes"),
        numpy_helper.from_array((scale * weight).astype(np.float32), "weight"),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, side, side])
    graph = helper.make_graph(nodes, "tiny", [images], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def expected(
    images: ImageSet, weight: NDArray[np.floating[Any]], mean: float = 0.5, std: float = 0.5
) -> NDArray[np.float64]:
    """What that model makes of images, in float64."""
    pixels = images.pixels[images.rows].astype(np.float64) / 255
    vectors = ((pixels - mean) / std).mean(axis=(1, 2)) @ weight.astype(np.float64)
    made: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return made


PLAIN: dict[str, Any] = {"size": SIZE, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


class TestOnnx:
    def test_indexed_and_searched(self, space: Workspace, tmp_path: Path) -> None:
        weight = projection()
        path = write_onnx(tmp_path / "tiny.onnx", weight)
        made = space.register(path, **PLAIN)
        assert (made.name, made.card.kind, made.card.dimension, made.card.parent) == ("v1", "onnx", 5, None)
        assert space.promoted == made
        path.unlink()  # The generation has its own copy.
        images = shelf()
        assert space.index(images).added == len(images)
        stored = {item.content_hash: item.embedding for batch in space.gallery.iterate() for item in batch}
        want = expected(images, weight)
        np.testing.assert_allclose([stored[content] for content in images.hashes], want, atol=1e-5)
        best = space.search(picture(tmp_path / "query.png", images, 4), k=1)[0]
        assert (best.item.content_hash, best.item.label) == (images.hashes[4], "class 1")
        assert best.score == pytest.approx(1, abs=1e-5)
        assert space.doctor() == []

    @pytest.mark.parametrize("batch", [1, 4])
    def test_fixed_batch_is_worked_around(self, space: Workspace, tmp_path: Path, batch: int) -> None:
        weight = projection()
        made = space.register(write_onnx(tmp_path / "tiny.onnx", weight, batch=batch), **PLAIN)
        images = shelf()
        np.testing.assert_allclose(space.extract(made, images), expected(images, weight), atol=1e-5)

    def test_registered_twice_is_one_generation(self, space: Workspace, tmp_path: Path) -> None:
        path = write_onnx(tmp_path / "tiny.onnx", projection())
        first = space.register(path, **PLAIN)
        assert space.register(path, **PLAIN) == first
        other = space.register(path, **{**PLAIN, "std": (0.3, 0.3, 0.3)})
        assert (other.name, space.promoted.name) == ("v2", "v1")
        assert other.fingerprint != first.fingerprint
        write_onnx(path, projection(seed=1))
        assert space.register(path, **PLAIN).fingerprint not in (first.fingerprint, other.fingerprint)

    def test_what_cannot_be_run_is_one_sentence(self, space: Workspace, tmp_path: Path) -> None:
        path = write_onnx(tmp_path / "tiny.onnx", projection(), also=True)
        with pytest.raises(InputError, match=r"vectors \(2, 5\), means \(2, 3\): exactly one output"):
            space.register(path, **PLAIN)
        write_onnx(path, projection(), side=20)
        with pytest.raises(InputError, match=r"images \['B', 3, 20, 20\].*\(B, 3, 16, 16\); name its size with --size"):
            space.register(path, **PLAIN)
        write_onnx(path, projection(), scale=np.nan)
        with pytest.raises(InputError, match="zero or not finite"):
            space.register(path, **PLAIN)
        path.write_bytes(path.read_bytes()[:50])
        with pytest.raises(InputError, match=r"tiny\.onnx cannot be run as an ONNX model"):
            space.register(path, **PLAIN)
        with pytest.raises(InputError, match=r"There is no file none\.onnx"):
            space.register("none.onnx")
        with pytest.raises(InputError, match="its weights inside"):
            space.register(path, weights=path)
        assert space.generations() == []

    def test_altered_file(self, space: Workspace, tmp_path: Path) -> None:
        made = space.register(write_onnx(tmp_path / "tiny.onnx", projection()), **PLAIN)
        write_onnx(made.directory / "model.onnx", projection(seed=1))
        with pytest.raises(DamagedError, match=r"model\.onnx is not the file that was written"):
            made.embedder()
        assert any("model.onnx is not the file" in problem for problem in space.doctor())

    def test_without_its_extra(self, space: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        made = space.register(write_onnx(tmp_path / "tiny.onnx", projection()), **PLAIN)
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(MissingExtraError, match=r"evergallery\[onnx\]"):
            made.embedder()
        assert any("evergallery[onnx]" in problem for problem in space.doctor())


CODE = """
import numpy as np

WEIGHT = np.random.default_rng({seed}).normal(size=(3, 5))

def embed(images):
    assert images.dtype == np.float32 and images.flags.c_contiguous
    return images.mean(axis=(2, 3)) @ WEIGHT + {noise}

def flat(images):
    return images.mean(axis=(1, 2, 3))

def failing(images):
    raise RuntimeError("no memory on the card")

number = 3
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Writes the module ``my_model`` anew, as an edit would."""
    folder = tmp_path / "code"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(seed: int = 0, noise: float = 0.0) -> None:
        (folder / "my_model.py").write_text(CODE.format(seed=seed, noise=noise))
        sys.modules.pop("my_model", None)

    write()
    return write


class TestCallable:
    def test_indexed_and_searched(self, space: Workspace, code: Callable[..., None], tmp_path: Path) -> None:
        made = space.register("my_model:embed", **PLAIN)
        assert (made.card.kind, made.card.model) == ("callable", {"function": "my_model:embed"})
        images = shelf()
        space.index(images)
        weight = np.random.default_rng(0).normal(size=(3, 5))
        np.testing.assert_allclose(space.extract(made, images), expected(images, weight), atol=1e-5)
        assert space.search(picture(tmp_path / "query.png", images), k=1)[0].item.label == "class 0"
        assert space.doctor() == []

    def test_code_that_changed_afterwards(self, space: Workspace, code: Callable[..., None]) -> None:
        made = space.register("my_model:embed", **PLAIN)
        code(noise=1e-6)
        made.embedder()
        code(seed=1)
        with pytest.raises(DamagedError, match=r"The model behind v1 has changed .*register it as a new generation"):
            made.embedder()
        with pytest.raises(DamagedError, match="The model behind v1 has changed"):
            space.index(shelf())
        assert any("The model behind v1 has changed" in problem for problem in space.doctor())
        assert space.register("my_model:embed", **PLAIN).name == "v2"
        assert [generation.name for generation in space.generations() if generation.problems()] == ["v1"]

    def test_function_itself_or_its_name(self, space: Workspace, code: Callable[..., None]) -> None:
        import my_model  # type: ignore[import-not-found]

        assert space.register(my_model.embed, **PLAIN) == space.register("my_model:embed", **PLAIN)
        with pytest.raises(InputError, match=r"<lambda> cannot be imported again: move it"):
            space.register(lambda images: images, **PLAIN)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("my_model:flat", r"shape \(2,\) of 2 images: it must make vectors \(B, D\)"),
            ("my_model:failing", r"my_model:failing fails .*no memory on the card"),
            ("my_model:number", "is not a function"),
            ("my_model:none", "cannot be imported .*PYTHONPATH"),
            ("no_such_module:embed", "cannot be imported .*No module named 'no_such_module'"),
            ("my_model:", "name it as package.module:function"),
        ],
    )
    def test_what_cannot_be_run(self, space: Workspace, code: Callable[..., None], name: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            space.register(name, **PLAIN)
        assert space.generations() == []


class TestModel:
    @pytest.mark.parametrize(("name", "mean"), [(TINY, 0.5), ("torchvision/mobilenet_v3_small", 0.485)])
    def test_registered_and_searched(self, space: Workspace, tmp_path: Path, name: str, mean: float) -> None:
        made = space.register(name, pretrained=False, size=32)
        assert made.card.kind == "model"
        assert made.card.dimension == made.embedder().embed(torch.rand(2, 3, 32, 32)).shape[1]
        assert made.preprocessing.mean[0] == mean
        images = coloured_images(classes=4, each=3, size=32)
        assert space.index(images).added == 12
        assert space.search(picture(tmp_path / "query.png", images, 5), k=1)[0].score == pytest.approx(1, abs=1e-4)
        assert Generation.load(made.directory).network().head.classes == 0
        assert space.doctor() == []
        assert space.register(name, pretrained=False, size=32) == made
        assert space.register(name, pretrained=False, size=32, seed=1).name == "v2"

    def test_weights_of_a_file(self, space: Workspace, tmp_path: Path) -> None:
        """With a classifier that is left out, and the wrapping that training scripts leave."""
        import timm

        torch.manual_seed(3)
        whole: Any = timm.create_model(TINY, pretrained=False, num_classes=7).eval()
        save_file(whole.state_dict(), tmp_path / "w.safetensors")
        torch.save(
            {"state_dict": {f"module.{name}": tensor for name, tensor in whole.state_dict().items()}}, tmp_path / "w.pt"
        )
        first, second = (space.register(TINY, weights=tmp_path / name, size=32) for name in ("w.safetensors", "w.pt"))
        assert first == second
        images = torch.rand(2, 3, 32, 32)
        want = torch.nn.functional.normalize(whole.forward_head(whole.forward_features(images), pre_logits=True))
        torch.testing.assert_close(first.embedder().embed(images), want, rtol=1e-4, atol=1e-5)

    def test_weights_that_do_not_fit(self, space: Workspace, tmp_path: Path) -> None:
        weights = build_backbone(TINY, seed=0).module.state_dict()
        path, first = tmp_path / "w.safetensors", next(iter(weights))
        for changed, message in (
            ({name: weight for name, weight in weights.items() if name != first}, f"it lacks {first}"),
            ({**weights, "extra.weight": torch.ones(1)}, r"has extra\.weight, which the model has not"),
            ({**weights, first: torch.ones(1)}, f"size mismatch for {first}"),
        ):
            save_file(changed, path)
            with pytest.raises(InputError, match=message):
                space.register(TINY, weights=path, size=32)
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(InputError, match="cannot be read as weights"):
            space.register(TINY, weights=path, size=32)
        torch.save({"model": Embedder}, tmp_path / "w.pt")
        with pytest.raises(InputError, match=r"holds more than tensors.*state_dict\(\)"):
            space.register(TINY, weights=tmp_path / "w.pt", size=32)
        with pytest.raises(InputError, match="There is no file"):
            space.register(TINY, weights=tmp_path / "none.pt", size=32)

    def test_unknown_models(self, space: Workspace) -> None:
        with pytest.raises(InputError, match="No model of torchvision is called 'resnet19'.*resnet18"):
            space.register("torchvision/resnet19")
        with pytest.raises(InputError, match="No backbone is called 'resnet19'"):
            space.register("resnet19")

    def test_learning_from_it(self, space: Workspace, quick: Quick) -> None:
        space.register(TINY, pretrained=False, size=32)
        images = coloured_images(classes=4, each=6, size=32)
        watcher = MessageRecorder()
        tuned = space.learn(images, parent="v1", method=DualTuning(), settings=quick(epochs=1), watcher=watcher)
        assert (tuned.card.kind, tuned.card.parent, tuned.card.classes) == ("trained", "v1", images.classes)
        assert "v1 has no classifier: dual-tuning leaves out what it would read from it" in watcher.heard
        log = (space.directory / "runs" / "v0002" / "log.jsonl").read_text()
        assert "old in new head" in log
        assert "new in old head" not in log
        for refused in (CSD(), LwF()):
            with pytest.raises(
                InputError, match=rf"'{refused.name}' learns from the scores of its parent's classes and v1"
            ):
                space.learn(images, parent="v1", method=refused, settings=quick(epochs=1))
        for taken in (Evergreen(), BCT()):
            assert space.learn(images, parent="v1", method=taken, settings=quick(epochs=1)).card.parent == "v1"
        fresh = coloured_images(classes=4, each=5, size=32, seed=9)
        assert space.check("v2", fresh, against="v1").pairs[0].evidence.queries == 20


def table(path: Path, count: int = 6, dimension: int = 4, seed: int = 0, first: int = 0) -> NDArray[np.float32]:
    """Writes vectors that are not of unit length, and returns them as they will be."""
    rows = np.random.default_rng(seed).normal(size=(count, dimension))
    np.savez(
        path,
        embeddings=rows,
        ids=np.array([f"item {first + row}" for row in range(count)]),
        labels=np.array([f"class {row % 2}" for row in range(count)]),
    )
    made: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return made


class TestVectors:
    def test_gallery_without_a_model(self, space: Workspace, tmp_path: Path) -> None:
        vectors = table(tmp_path / "v.npz")
        done = space.import_vectors(tmp_path / "v.npz")
        assert (done.generation, done.is_new, done.added, done.normalised) == ("v1", True, 6, 6)
        made = space.promoted
        assert (made.card.kind, made.card.dimension) == ("vectors", 4)

        scores = vectors @ vectors[2]
        order = np.argsort(-scores)
        matches = space.search(vectors[2], k=6)
        assert [match.item.id for match in matches] == [f"item {row}" for row in order]
        np.testing.assert_allclose([match.score for match in matches], scores[order], atol=1e-6)
        by_item = space.search(item="item 2", k=5)
        assert [match.item.id for match in by_item] == [f"item {row}" for row in order[1:]]
        assert {match.item.label for match in space.search(item="item 2", where=Filter(labels=("class 1",)))} == {
            "class 1"
        }

        only = r"v1 has vectors only: nothing can be extracted with it"
        with pytest.raises(InputError, match=only):
            space.search(picture(tmp_path / "query.png", shelf()))
        with pytest.raises(InputError, match=only):
            space.index(shelf())
        with pytest.raises(InputError, match=only):
            made.embedder()
        assert space.doctor() == []

    def test_same_table_again_changes_nothing(self, space: Workspace, tmp_path: Path) -> None:
        table(tmp_path / "v.npz")
        space.import_vectors(tmp_path / "v.npz")
        (tmp_path / "v.npz").rename(tmp_path / "renamed.npz")
        again = space.import_vectors(tmp_path / "renamed.npz")
        assert (again.generation, again.is_new) == ("v1", False)
        assert (again.added, again.replaced, again.unchanged) == (0, 0, 6)
        assert len(space.generations()) == 1

    def test_a_row_that_says_nothing_erases_nothing(self, space: Workspace, tmp_path: Path) -> None:
        rows = table(tmp_path / "v.npz")
        space.import_vectors(tmp_path / "v.npz")
        before = {item.id: item for batch in space.gallery.iterate() for item in batch}
        with np.load(tmp_path / "v.npz") as file:
            arrays = {name: file[name] for name in ("ids", "embeddings")}
        np.savez(tmp_path / "bare.npz", **arrays)
        done = space.import_vectors(tmp_path / "bare.npz", into="v1")
        assert (done.added, done.replaced, done.unchanged, done.conflict_count) == (0, 0, 6, 0)
        np.savez(tmp_path / "other.npz", **arrays, labels=np.array(["other", *[""] * 5]))
        done = space.import_vectors(tmp_path / "other.npz", into="v1")
        assert (done.unchanged, done.conflict_count, done.conflicts[0].item) == (6, 1, "item 0")
        after = {item.id: item for batch in space.gallery.iterate() for item in batch}
        assert all(after[name].same_but_for_time(item) for name, item in before.items())
        assert space.import_vectors(tmp_path / "other.npz", into="v1", relabel=True).replaced == 1
        assert [item.label for item in space.gallery.get_many(["item 0"]).values()] == ["other"]
        assert len(rows) == 6

    def test_interrupted_import_goes_on(
        self, space: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("evergallery.exchange.vectors.BATCH", 2)
        table(tmp_path / "v.npz")

        class Interrupter(Watcher):
            def counted(self, activity: str, done: int, total: int) -> None:
                if done >= 4:
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            space.import_vectors(tmp_path / "v.npz", watcher=Interrupter())
        assert space.gallery.count() == 4
        rest = space.import_vectors(tmp_path / "v.npz")
        assert (rest.generation, rest.added, rest.unchanged) == ("v1", 2, 4)
        assert len(space.generations()) == 1

    def test_more_vectors_into_a_generation(self, space: Workspace, tmp_path: Path) -> None:
        table(tmp_path / "v.npz")
        space.import_vectors(tmp_path / "v.npz")
        table(tmp_path / "more.npz", seed=1, first=6)
        with pytest.raises(RefusedError, match=r"holds vectors already, .*--into"):
            space.import_vectors(tmp_path / "more.npz")
        assert len(space.generations()) == 1
        assert space.import_vectors(tmp_path / "more.npz", into="v1").added == 6
        table(tmp_path / "wide.npz", dimension=5)
        with pytest.raises(InputError, match="vectors of 5 dimensions and v1 makes vectors of 4"):
            space.import_vectors(tmp_path / "wide.npz", into="v1")
        with pytest.raises(NotFoundError, match="no generation 'v9'"):
            space.import_vectors(tmp_path / "more.npz", into="v9")

    def test_into_the_model_that_made_them(self, space: Workspace, tmp_path: Path) -> None:
        weight = projection()
        space.register(write_onnx(tmp_path / "tiny.onnx", weight), **PLAIN)
        images = shelf()
        ids = np.array([f"item {row}" for row in range(len(images))])
        np.savez(tmp_path / "v.npz", embeddings=expected(images, weight), ids=ids)
        assert space.import_vectors(tmp_path / "v.npz", into="v1").added == len(images)
        best = space.search(picture(tmp_path / "query.png", images, 7), k=1)[0]
        assert best.item.id == "item 7"

    def test_into_a_space_that_nobody_has_compared(self, space: Workspace, tmp_path: Path) -> None:
        table(tmp_path / "v.npz", dimension=5)
        space.import_vectors(tmp_path / "v.npz")
        space.register(write_onnx(tmp_path / "tiny.onnx", projection()), **PLAIN)
        with pytest.raises(RefusedError, match="vectors of v1, and v2 has not been shown"):
            space.import_vectors(tmp_path / "v.npz", into="v2")
        assert space.gallery.count_by_generation() == {space.generation("v1").fingerprint: 6}

    def test_bad_table_leaves_no_trace(self, space: Workspace, tmp_path: Path) -> None:
        rows = np.ones((3, 2))
        rows[1] = np.nan
        np.savez(tmp_path / "v.npz", embeddings=rows, ids=np.array(["a", "b", "c"]))
        with pytest.raises(InputError, match=r"row 1 \(id 'b'\) has a vector with NaN"):
            space.import_vectors(tmp_path / "v.npz")
        assert space.generations() == []
        done = space.import_vectors(tmp_path / "v.npz", skip_bad=True)
        assert (done.added, [skip.uri for skip in done.skipped]) == (2, ["row 1 (id 'b')"])

    def test_nothing_learns_from_them_but_beside_them(self, space: Workspace, tmp_path: Path, quick: Quick) -> None:
        table(tmp_path / "v.npz")
        space.import_vectors(tmp_path / "v.npz")
        with pytest.raises(InputError, match=r"v1 is vectors only, which nothing can learn from: .*evergallery adapt"):
            space.learn(shelf(), settings=quick(epochs=1))
        with pytest.raises(InputError, match="which nothing can learn from"):
            space.generation("v1").network()
        made = space.learn(shelf(), method=Finetune(), settings=quick(epochs=1))
        assert (made.name, made.card.parent, space.promoted.name) == ("v2", None, "v1")


class TestExport:
    @pytest.mark.parametrize("suffix", [".npz", ".parquet"])
    def test_and_back_is_exact(self, space: Workspace, tmp_path: Path, suffix: str) -> None:
        made = space.register(write_onnx(tmp_path / "tiny.onnx", projection()), **PLAIN)
        space.index(shelf())
        path = tmp_path / f"out{suffix}"
        done = space.export_vectors(path)
        assert (done.generation, done.items, done.files) == ("v1", 12, (path,))
        assert open_vectors(path).space == made.fingerprint
        again = space.import_vectors(path)
        assert (again.generation, again.unchanged, again.added + again.replaced) == ("v1", 12, 0)

        other = Workspace.create(tmp_path / "other")
        assert other.import_vectors(path).is_new
        before, after = (
            {item.id: (item.embedding.tobytes(), item.label, item.uri, item.content_hash) for item in batch}
            for workspace in (space, other)
            for batch in workspace.gallery.iterate()
        )
        assert before == after

    def test_plain_arrays(self, space: Workspace, tmp_path: Path) -> None:
        vectors = table(tmp_path / "v.npz")
        space.import_vectors(tmp_path / "v.npz")
        done = space.export_vectors(tmp_path / "out.npy")
        names = done.files[1].read_text().splitlines()
        written = dict(zip(names, np.load(done.files[0]), strict=True))
        for row, vector in enumerate(vectors):
            np.testing.assert_array_equal(written[f"item {row}"], vector)

    def test_nothing_or_too_much(self, space: Workspace, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match="holds no vectors: there is nothing to export"):
            space.export_vectors(tmp_path / "out.npz")
        table(tmp_path / "v.npz", dimension=5)
        space.import_vectors(tmp_path / "v.npz")
        space.register(write_onnx(tmp_path / "tiny.onnx", projection()), **PLAIN)
        with pytest.raises(NotFoundError, match="holds no vectors of v2"):
            space.export_vectors(tmp_path / "out.npz", generation="v2")
        space.promote("v2", force=True, why="for the test")
        space.index(shelf())
        with pytest.raises(InputError, match="holds vectors of v1, v2: name one of them with --generation"):
            space.export_vectors(tmp_path / "out.npz")
        assert space.export_vectors(tmp_path / "out.npz", generation="v1").items == 6


def test_card_of_a_trained_generation_is_still_read_by_older_versions(space: Workspace, quick: Quick) -> None:
    import json

    made = space.learn(shelf(6), settings=quick(epochs=1))
    card = json.loads((made.directory / CARD).read_text())["card"]
    assert card["format"] == 1
    assert not {"kind", "model"} & set(card)
    assert Generation.load(made.directory).card == made.card
