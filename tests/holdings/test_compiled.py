"""A network that torch compiles: a runtime like the others, for many images, never chosen on a processor unasked."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import coloured_images
from copies import copied
from evergallery import Workspace
from evergallery.data.images import Preprocessing
from evergallery.data.streaming import batch_size
from evergallery.devices import choosing, compiling
from evergallery.devices.choosing import FEW
from evergallery.generations.generation import Generation
from evergallery.holdings import runtimes as kept
from evergallery.network import Extractor, compiled, trial
from evergallery.network.compiled import CompiledNetwork
from evergallery.network.extraction import in_torch
from evergallery.network.runtimes import COMPILED, Pixels, Runtime, RuntimeTrial, Vectors
from evergallery.watching import Watcher

SIDE = 16


class Listener(Watcher):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def said(self, message: str) -> None:
        self.heard.append(message)


def noise(count: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compiled") / "shop"
    with Workspace.create(folder, size=SIDE) as space:
        space.register("resnet8", pretrained=False, size=SIDE, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    return folder


@pytest.fixture
def shop(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A workspace whose network is compiled in no time, for nothing is written."""
    monkeypatch.setattr(compiled, "CompiledNetwork", partial(CompiledNetwork, backend="eager"))
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(trial, "SECONDS", 0.01)
    monkeypatch.setattr(choosing, "has_gpu", lambda: False)
    monkeypatch.setenv("EVERGALLERY_RUNTIME", COMPILED)
    copied(template, tmp_path / "shop")
    with Workspace(tmp_path / "shop") as space:
        yield space


def running(shop: Workspace, images: int = FEW, watcher: Watcher | None = None) -> kept.EmbeddingRun:
    return kept.running(shop.holdings, shop.promoted, images, watcher or Listener())


def records(shop: Workspace) -> list[Path]:
    return list((shop.directory / "cache" / "runtimes").glob("*.json"))


@pytest.mark.parametrize("count", [1, 7, 8, 9, 30])
def test_a_compiled_network_makes_the_vectors_of_torch(shop: Workspace, count: int) -> None:
    embedder = shop.promoted.embedder()
    embedder.train()
    network = CompiledNetwork(embedder, shop.promoted.preprocessing, 8, backend="eager")
    made = network(noise(count))
    assert made.dtype == np.float32
    assert embedder.training, "it is left in the mode that it was in"
    np.testing.assert_allclose(made, in_torch(embedder, shop.promoted.preprocessing)(noise(count)), atol=2e-5)


def test_one_program_serves_any_number_of_images(shop: Workspace) -> None:
    shapes: list[tuple[int, ...]] = []

    def backend(graph: Any, inputs: list[Any]) -> Any:
        shapes.extend(tuple(value.shape) for value in inputs if isinstance(value, torch.Tensor) and value.ndim == 4)
        return graph.forward

    network = CompiledNetwork(shop.promoted.embedder(), shop.promoted.preprocessing, 8, backend=backend)  # type: ignore[arg-type]
    for count in (8, 3, 17, 1):
        network(noise(count))
    assert shapes.count((8, 3, SIDE, SIDE)) == 1


def test_a_network_is_compiled_by_the_default_compiler(shop: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    if compiling.missing_compiler():
        pytest.skip("there is no C++ compiler")
    embedder, preprocessing = shop.promoted.embedder(), shop.promoted.preprocessing
    # Each layer takes the compiler seconds; that there are more of them changes nothing here.
    backbone: Any = embedder.backbone
    backbone.blocks = backbone.blocks[:1]
    made = CompiledNetwork(embedder, preprocessing, 8)(noise(9))
    np.testing.assert_allclose(made, in_torch(embedder, preprocessing)(noise(9)), atol=2e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_network_compiled_for_a_gpu_makes_the_vectors_of_the_processor(
    shop: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    if compiling.missing_compiler("cuda"):
        pytest.skip("there is no Triton, or no C compiler")
    preprocessing = shop.promoted.preprocessing
    made = CompiledNetwork(shop.promoted.embedder("cuda"), preprocessing, 64)(noise(100))
    np.testing.assert_allclose(made, in_torch(shop.promoted.embedder(), preprocessing)(noise(100)), atol=1e-5)


def test_a_batch_without_room_goes_to_the_network_as_it_is(shop: Workspace) -> None:
    embedder, preprocessing = shop.promoted.embedder(), shop.promoted.preprocessing
    network = CompiledNetwork(embedder, preprocessing, 8, backend="eager")

    def full(images: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("full")

    network._program = full
    np.testing.assert_allclose(network(noise(9)), in_torch(embedder, preprocessing)(noise(9)), atol=2e-5)


def test_many_images_are_compiled_for_where_it_is_asked_for_and_the_trial_is_kept(
    shop: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener()
    shop.index(coloured_images(10, FEW // 10), watcher=listener)
    entry = shop.holdings.journal.entries()[-1]
    assert (entry["runtime"], entry["numbers"]) == (COMPILED, "float32")
    assert "device" not in entry
    assert any("compiling v1" in line for line in listener.heard)
    assert any("seconds to compile" in line for line in listener.heard)
    (record,) = records(shop)
    found = RuntimeTrial.from_dict(json.loads(record.read_text()))
    assert found.cosine[COMPILED] >= 0.9999
    assert found.seconds[COMPILED] >= 0

    def never(*_: Any) -> None:
        raise AssertionError("it was tried again")

    monkeypatch.setattr(trial, "tried", never)
    shop.close()
    with Workspace(shop.directory) as again:
        assert running(again).how["runtime"] == COMPILED


def test_a_search_waits_for_no_compiler(shop: Workspace) -> None:
    assert running(shop, FEW - 1).how == {"runtime": "torch", "numbers": "float32"}
    assert records(shop) == []


def test_it_is_never_chosen_on_a_processor_unasked(shop: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    running(shop)
    monkeypatch.setenv("EVERGALLERY_RUNTIME", "auto")
    monkeypatch.setattr(kept, "_others", lambda: [])
    assert running(shop, 10**9).how["runtime"] == "torch"


def test_torch_runs_it_where_there_is_no_compiler_and_says_why(
    shop: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    listener = Listener()
    assert running(shop, watcher=listener).how["runtime"] == "torch"
    (line,) = listener.heard
    assert "runs in torch, not in torch.compile: there is no C++ compiler" in line
    assert "install g++" in line


@pytest.mark.parametrize("fault", ["raises", "turns"])
def test_torch_runs_it_where_what_was_compiled_is_wrong(
    shop: Workspace, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def faulty(embedder: Extractor, preprocessing: Preprocessing, size: int) -> Callable[[Pixels], Vectors]:
        right = CompiledNetwork(embedder, preprocessing, size, backend="eager")

        def embed(pixels: Pixels) -> Vectors:
            if fault == "raises":
                raise RuntimeError("no such operator\nmore")
            made = right(pixels)
            made[:, 0] += 0.05
            return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)

        return embed

    monkeypatch.setattr(compiled, "CompiledNetwork", faulty)
    # Of a trial that was kept, too.
    for _ in range(2):
        listener = Listener()
        assert running(shop, watcher=listener).how["runtime"] == "torch"
        assert ("no such operator" if fault == "raises" else "below 0.9999") in listener.heard[-1]


def trial_of(speed: float, seconds: float) -> Callable[..., RuntimeTrial]:
    speeds: dict[Runtime, float] = {"torch": 1000.0, COMPILED: speed}
    return lambda *_: RuntimeTrial(COMPILED if speed >= 1100 else "torch", speeds, {}, {}, {COMPILED: seconds})


@pytest.mark.parametrize(
    ("speed", "seconds", "images", "asked", "expected"),
    [
        (2000.0, 40.0, 100_000, "auto", COMPILED),
        (2000.0, 40.0, 70_000, "auto", "torch"),
        (1050.0, 1.0, 10**7, "auto", "torch"),
        (2000.0, 40.0, 70_000, COMPILED, COMPILED),
        (2000.0, 40.0, 10**6, "torch", "torch"),
    ],
)
def test_on_a_gpu_it_is_chosen_where_it_saves_more_than_compiling_takes(
    shop: Workspace, monkeypatch: pytest.MonkeyPatch,
    speed: float, seconds: float, images: int, asked: str, expected: str,
) -> None:  # fmt: skip
    network = shop.promoted.embedder()
    devices: list[str] = []

    def embedder(self: Generation, device: str = "cpu") -> Extractor:
        devices.append(device)
        return network

    monkeypatch.setattr(Generation, "embedder", embedder)
    monkeypatch.setattr(choosing, "has_gpu", lambda: True)
    monkeypatch.setattr(kept, "missing_compiler", lambda device: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(trial, "torch_seconds", lambda *_: 0.001)
    monkeypatch.setattr(trial, "tried", trial_of(speed, seconds))
    monkeypatch.setenv("EVERGALLERY_RUNTIME", asked)
    assert images > kept.FEW_BATCHES * batch_size(SIDE)
    # As another process goes by the trial that this one keeps.
    running(shop, images)
    shop.close()
    with Workspace(shop.directory) as again:
        found = running(again, images)
        assert found.how == {"runtime": expected, "device": "cuda", "numbers": "float32"}
        assert found.part is None
        again.holdings.loaded.leave_gpu()
        assert again.holdings.loaded.compiled(again.promoted, "cuda") is None
    assert set(devices) == {"cuda"}


def test_few_images_on_a_gpu_are_worth_no_trial(shop: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    network = shop.promoted.embedder()
    monkeypatch.setattr(Generation, "embedder", lambda self, device="cpu": network)
    monkeypatch.setattr(choosing, "has_gpu", lambda: True)
    monkeypatch.setattr(kept, "missing_compiler", lambda device: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setenv("EVERGALLERY_RUNTIME", "auto")
    assert running(shop, FEW).how["runtime"] == "torch"
    monkeypatch.setattr(trial, "torch_seconds", lambda *_: 0.001)
    assert running(shop, 29_000).how["runtime"] == "torch"
    assert records(shop) == []
