"""Runtimes behind the extractor: the vectors of torch, found by a trial that is kept, and never silently something else."""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import coloured_images, evergallery
from copies import copied
from evergallery import Workspace
from evergallery.data.images import Preprocessing
from evergallery.data.streaming import processors
from evergallery.devices import choosing
from evergallery.devices.choosing import FEW
from evergallery.devices.gpu import gpu_trouble
from evergallery.errors import InputError, MissingExtraError
from evergallery.generations.generation import Generation
from evergallery.holdings import runtimes as kept
from evergallery.holdings.embedding import embed_pixels
from evergallery.holdings.loaded import EMBEDDERS
from evergallery.network import Embedder, Extractor, onnx_export, runtimes, trial
from evergallery.network.features import AugmentedViews, FeatureCache
from evergallery.network.ranks import Ranks
from evergallery.network.runtimes import OF_FILES, Embed, Pixels, Runtime, Vectors, at_once, part_size
from evergallery.watching import Watcher
from loading import HEAVY, loaded
from onnx_exporter import read_library_once

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")


class Listener(Watcher):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def said(self, message: str) -> None:
        self.heard.append(message)


def noise(count: int, side: int = 16, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def embedded(shop: Workspace, pixels: Pixels) -> Vectors:
    return embed_pixels(shop.holdings, pixels, shop.generation("v1"))


def again(shop: Workspace) -> Workspace:
    """The same workspace as another process would open it."""
    shop.close()
    return Workspace(shop.directory)


@dataclass(frozen=True)
class Template:
    """What takes seconds to write, and is copied for each test.

    Attributes:
        shop: a workspace whose v1 is a small network, with a preprocessing that is nobody's default.
        runnable: that network as the file that a runtime opens.
        model: that network as a file that may be registered.
    """

    shop: Path
    runnable: Path
    model: Path


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    read_library_once()
    folder = tmp_path_factory.mktemp("runtimes")
    made = Template(folder / "shop", folder / "network.onnx", folder / "model.onnx")
    with Workspace.create(made.shop, size=16) as space:
        network = space.register("resnet8", pretrained=False, size=16, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
        onnx_export.export_runnable(network.embedder(), network.preprocessing, made.runnable)
        space.export_model(made.model)
    return made


@pytest.fixture(scope="module")
def backbone(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The backbone of that network as the file that a runtime opens."""
    path = tmp_path_factory.mktemp("backbone") / "backbone.onnx"
    with Workspace(template.shop) as space:
        network = space.generation("v1")
        embedder = network.embedder()
        assert isinstance(embedder, Embedder)
        onnx_export.export_runnable_backbone(embedder, network.preprocessing, path)
    return path


@pytest.fixture
def shop(template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A copy of it, whose network is written in no time."""
    monkeypatch.setenv("EVERGALLERY_RUNTIME", "auto")
    monkeypatch.setattr(trial, "SECONDS", 0.01)
    monkeypatch.setattr(choosing, "has_gpu", lambda: False)
    monkeypatch.setattr(onnx_export, "export_runnable", lambda *given: shutil.copyfile(template.runnable, given[-1]))
    copied(template.shop, tmp_path / "shop")
    with Workspace(tmp_path / "shop") as space:
        yield space


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda name: monkeypatch.setenv("EVERGALLERY_RUNTIME", name)


def trials_of(shop: Workspace) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((shop.directory / "cache" / "runtimes").glob("*.json"))]


@pytest.mark.parametrize("name", OF_FILES)
def test_a_runtime_makes_the_vectors_of_torch(shop: Workspace, use: Callable[[str], None], name: Runtime) -> None:
    pytest.importorskip(name)
    for count in (1, 2, part_size(16), part_size(16) + 3):
        pixels = noise(count, seed=count)
        use("torch")
        expected = embedded(shop, pixels)
        use(name)
        made = embedded(shop, pixels)
        assert made.dtype == np.float32
        assert made.shape == expected.shape
        # Numbers of 16 bits, which some runtimes take by themselves, would be a hundred times as far away.
        np.testing.assert_allclose(made, expected, atol=2e-5)
    assert kept.running(shop.holdings, shop.generation("v1"), 1).how == {"runtime": name, "numbers": "float32"}


@pytest.mark.parametrize(
    ("asked", "images", "device"),
    [
        ("auto", FEW, "cuda"), ("torch", FEW, "cuda"), ("auto", FEW - 1, "cpu"), ("torch", 1, "cpu"), ("onnxruntime", FEW, None),
    ],
)  # fmt: skip
def test_many_images_go_to_a_gpu(
    shop: Workspace, use: Callable[[str], None], monkeypatch: pytest.MonkeyPatch,
    asked: str, images: int, device: str | None,
) -> None:  # fmt: skip
    network, opened = shop.generation("v1").embedder(), []

    def embedder(self: Generation, device: str = "cpu") -> Extractor:
        opened.append(device)
        return network

    monkeypatch.setattr(choosing, "has_gpu", lambda: True)
    monkeypatch.setattr(Generation, "embedder", embedder)
    use(asked)
    embed = kept.running(shop.holdings, shop.generation("v1"), images)
    assert embed(noise(2)).shape == (2, network.dimension)
    assert embed.how.get("device", "cpu") == (device or "cpu")
    assert embed.how["runtime"] == ("torch" if device else asked)
    if device is not None:
        assert opened == [device]
    else:
        assert "cuda" not in opened


def gpu_of(monkeypatch: pytest.MonkeyPatch, shop: Workspace, *, is_full: bool = False) -> list[str]:
    """Let there be a GPU, which the processor stands for; returns where networks were opened since."""
    network, opened = shop.generation("v1").embedder(), []

    def embedder(self: Generation, device: str = "cpu") -> Extractor:
        opened.append(device)
        with gpu_trouble("the network"):
            if is_full and device == "cuda":
                raise torch.OutOfMemoryError("full")
        return network

    monkeypatch.setattr(choosing, "has_gpu", lambda: True)
    monkeypatch.setattr(Generation, "embedder", embedder)
    return opened


def test_the_journal_says_of_each_index_where_it_ran(shop: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = gpu_of(monkeypatch, shop)
    shop.index(coloured_images(10, FEW // 10))
    shop.index(coloured_images(2, 2, seed=1))
    many, few = shop.holdings.journal.entries()[-2:]
    assert (many["runtime"], many["device"], many["numbers"]) == ("torch", "cuda", "float32")
    assert few["runtime"] == "torch"
    assert "device" not in few
    assert "cuda" in opened


def test_a_gpu_is_used_where_another_runtime_was_found_before_it_came(
    shop: Workspace, use: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_speeds", lambda running, _: dict.fromkeys(running, 10.0) | {"onnxruntime": 20.0})
    use("onnxruntime")
    embedded(shop, noise(1))
    use("auto")
    gpu_of(monkeypatch, shop)
    shop.index(coloured_images(10, FEW // 10))
    shop.index(coloured_images(2, 2, seed=1))
    assert [entry["runtime"] for entry in shop.holdings.journal.entries()[-2:]] == ["torch", "onnxruntime"]


def test_a_gpu_without_room_for_the_network_leaves_the_images_to_the_processor(
    shop: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu_of(monkeypatch, shop, is_full=True)
    listener = Listener()
    assert shop.index(coloured_images(10, FEW // 10), watcher=listener).added == FEW
    (line,) = [line for line in listener.heard if "on the processor" in line]
    assert "no memory for the network" in line
    assert "device" not in shop.holdings.journal.entries()[-1]


def test_a_search_opens_no_gpu_however_many_pictures_it_looks_at(
    shop: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = gpu_of(monkeypatch, shop)
    assert len(embedded(shop, noise(FEW + 1))) == FEW + 1
    assert len(embedded(shop, noise(0))) == 0
    assert opened == ["cpu"]


def test_what_looks_at_many_images_on_a_gpu_takes_no_model_from_a_search(
    shop: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = gpu_of(monkeypatch, shop)
    loaded, generation = shop.holdings.loaded, shop.generation("v1")
    monkeypatch.setattr(Generation, "fingerprint", property(lambda self: str(len(opened))))
    loaded.embedder(generation)
    for _ in range(EMBEDDERS + 1):
        loaded.embedder(generation, "cuda")
    monkeypatch.setattr(Generation, "fingerprint", property(lambda self: "0"))
    loaded.embedder(generation)
    assert opened == ["cpu", *["cuda"] * (EMBEDDERS + 1)]


def test_a_gpu_is_left_to_others_and_the_models_of_searches_stay(
    shop: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, emptied = gpu_of(monkeypatch, shop), []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))
    loaded, generation = shop.holdings.loaded, shop.generation("v1")
    loaded.embedder(generation)
    loaded.leave_gpu()
    assert emptied == []
    loaded.embedder(generation, "cuda")
    loaded.leave_gpu()
    assert emptied == [1]
    loaded.embedder(generation)
    loaded.embedder(generation, "cuda")
    assert opened == ["cpu", "cuda", "cuda"]


def test_threads_may_share_a_runtime(shop: Workspace, use: Callable[[str], None]) -> None:
    use(next(name for name in reversed(OF_FILES) if runtimes.is_installed(name)))
    pixels = noise(3)
    expected = embedded(shop, pixels)
    failures: list[Exception] = []

    def look() -> None:
        try:
            for _ in range(20):
                np.testing.assert_allclose(embedded(shop, pixels), expected, atol=1e-6)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_threads_that_need_openvino_together_open_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    openvino = pytest.importorskip("openvino")

    def slowly() -> object:
        time.sleep(0.05)
        return object()

    monkeypatch.setattr(openvino, "Core", slowly)
    # The one that other tests have opened stays open.
    monkeypatch.setattr(runtimes, "_only_core", cache(runtimes._only_core.__wrapped__))
    with ThreadPoolExecutor(3) as pool:
        cores = [pool.submit(runtimes._core) for _ in range(3)]
    assert len({id(core.result()) for core in cores}) == 1


@pytest.mark.skipif(processors() < 2, reason="a single processor")
def test_openvino_may_run_on_any_processor(template: Template) -> None:
    """Not on the first one alone, which other processes may keep busy."""
    pytest.importorskip("openvino")
    run, pixels, seen = runtimes.of_file("openvino", template.runnable, 16), noise(part_size(16)), set()
    with ThreadPoolExecutor(1) as pool:
        thread = pool.submit(threading.get_native_id).result()
        looking = pool.submit(lambda: [run(pixels) for _ in range(20)])
        while not looking.done():
            seen.add(frozenset(os.sched_getaffinity(thread)))
    assert seen == {frozenset(os.sched_getaffinity(0))}


def test_what_a_trial_found_is_kept(
    shop: Workspace, use: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    use("onnxruntime")
    listener = Listener()
    shop.index(coloured_images(3, 4), watcher=listener)
    assert any("finding the fastest runtime" in line for line in listener.heard)
    assert shop.holdings.journal.entries()[-1]["runtime"] == "onnxruntime"
    assert shop.holdings.journal.entries()[-1]["numbers"] == "float32"
    (found,) = trials_of(shop)
    assert found["smallest_cosine"]["onnxruntime"] >= 0.9999
    assert set(found["images_per_second"]) >= {"torch", "onnxruntime"}

    def never(*_: object) -> None:
        raise AssertionError("it was tried again")

    monkeypatch.setattr(trial, "tried", never)
    monkeypatch.setattr("evergallery.generations.generation.Generation.embedder", never)
    # No network is built either.
    assert len(embedded(again(shop), noise(2))) == 2


def test_a_file_that_was_altered_is_written_anew(shop: Workspace, use: Callable[[str], None]) -> None:
    use("onnxruntime")
    expected = embedded(shop, noise(2))
    (file,) = (shop.directory / "cache" / "runtimes").glob("*.onnx")
    before = file.read_bytes()
    file.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    np.testing.assert_allclose(embedded(again(shop), noise(2)), expected, atol=1e-6)
    assert trials_of(shop)[0]["file"] is not None
    assert len(file.read_bytes()) == len(before)


def test_other_libraries_or_another_processor_want_a_trial_of_their_own(
    shop: Workspace, use: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    use("onnxruntime")
    embedded(shop, noise(1))
    monkeypatch.setattr(kept, "_processor", lambda: "another one")
    embedded(again(shop), noise(1))
    assert len(trials_of(shop)) == 2


def test_a_runtime_that_makes_other_vectors_is_not_used(
    shop: Workspace, use: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    use("torch")
    expected = embedded(shop, noise(2))
    use("onnxruntime")
    right = runtimes.of_file

    def wrong(name: Runtime, path: Path, side: int) -> Callable[[Pixels], Vectors]:
        embed = right(name, path, side)

        def off(pixels: Pixels) -> Vectors:
            made = embed(pixels) + np.eye(1, 64, dtype=np.float32) * 0.05
            return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)

        return off

    monkeypatch.setattr(kept, "of_file", wrong)
    listener = Listener()
    shop.index(coloured_images(2, 2), watcher=listener)
    (line,) = [line for line in listener.heard if "runs in torch, not in onnxruntime" in line]
    assert "below 0.9999" in line
    assert shop.holdings.journal.entries()[-1]["runtime"] == "torch"
    np.testing.assert_allclose(embedded(shop, noise(2)), expected, atol=1e-6)


def test_a_network_that_cannot_be_written_runs_in_torch_and_is_tried_once(
    shop: Workspace, use: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fails(*_: object) -> None:
        calls.append(1)
        raise ValueError("no such operator")

    monkeypatch.setattr(onnx_export, "export_runnable", fails)
    use("onnxruntime")
    for _ in range(2):
        listener = Listener()
        with again(shop) as space:
            space.index(coloured_images(2, 2), watcher=listener)
            assert [line for line in listener.heard if "runs in torch, not in onnxruntime" in line]
            assert len(embedded(space, noise(1))) == 1
    assert len(calls) == 1
    assert not list((shop.directory / "cache" / "runtimes").glob("*.onnx"))


def test_a_runtime_that_fails_later_gives_way_to_torch(
    shop: Workspace, use: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    use("onnxruntime")
    expected = embedded(shop, noise(2))

    def fails(*_: object) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(runtimes, "of_file", fails)
    listener = Listener()
    with again(shop) as space:
        space.index(coloured_images(2, 2), watcher=listener)
        assert any("not in onnxruntime" in line and "no memory" in line for line in listener.heard)
        assert space.holdings.journal.entries()[-1]["runtime"] == "torch"
        np.testing.assert_allclose(embedded(space, noise(2)), expected, atol=2e-5)


def test_features_of_a_frozen_backbone_are_made_by_a_runtime(
    shop: Workspace, backbone: Path, use: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "export_runnable_backbone", lambda *given: shutil.copyfile(backbone, given[-1]))
    made = shop.generation("v1")
    embedder, images, views = made.embedder(), coloured_images(2, 5), AugmentedViews(2)
    assert isinstance(embedder, Embedder)
    expected = FeatureCache(tmp_path / "torch", embedder, made.preprocessing).part(images, views)
    listener, asked = Listener(), []

    def runtime(count: int) -> Embed | None:
        asked.append(count)
        return kept.running_backbone(shop.directory, embedder, made.preprocessing, count, listener)

    use("auto")
    assert runtime(FEW - 1) is None
    use("onnxruntime")
    assert runtime(1) is not None
    # Of what was found there is a file, and the backbone runs in torch no more.
    monkeypatch.setattr(embedder.backbone, "forward", None)
    found = FeatureCache(tmp_path / "file", embedder, made.preprocessing, runtime=runtime).part(images, views)
    assert asked[2:] == [len(images), 2 * len(images)]
    assert not np.allclose(np.linalg.norm(expected.plain, axis=-1), 1, atol=0.01)
    np.testing.assert_allclose(found.plain, expected.plain, rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(found.views, expected.views, rtol=2e-3, atol=1e-4)
    (line,) = [line for line in listener.heard if "finding the fastest runtime" in line]
    assert f"the backbone {embedder.architecture.backbone}" in line
    use("torch")
    assert runtime(FEW) is None


def test_processes_that_share_images_look_at_them_in_torch(tmp_path: Path, shop: Workspace) -> None:
    made = shop.generation("v1")
    embedder = made.embedder()
    assert isinstance(embedder, Embedder)

    def never(_: int) -> Embed | None:
        raise AssertionError("two processes may have found different runtimes")

    class Two(Ranks):
        def agreed(self, value: Any) -> Any:
            return value

        def total(self, tensor: torch.Tensor) -> torch.Tensor:
            return tensor

        def wait(self) -> None:
            pass

    cache = FeatureCache(tmp_path, embedder, made.preprocessing, Two(size=2), never)
    assert len(cache.plain(coloured_images(1, 2))[0]) == 2


def test_a_runtime_that_makes_rows_of_another_length_is_refused() -> None:
    def longer(factor: float) -> Embed:
        return lambda pixels: factor * pixels.reshape(len(pixels), -1).astype(np.float32)

    found = trial.tried(longer(1), {"onnxruntime": lambda: longer(1.1)}, Preprocessing(size=8), 2)
    assert "below 0.9999" in found.refused["onnxruntime"]


def test_one_image_goes_to_the_runtime_that_is_fastest_with_one(
    shop: Workspace, use: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def speeds(running: dict[Runtime, Embed], images: Pixels) -> dict[Runtime, float]:
        return dict.fromkeys(running, 10.0) | {"onnxruntime": 20.0 if len(images) > 1 else 10.5}

    monkeypatch.setattr(trial, "_speeds", speeds)
    use("onnxruntime")
    embedded(shop, noise(1))
    use("auto")
    part = at_once(16)
    with again(shop) as space:
        for count, runtime in ((1, "torch"), (part - 1, "torch"), (part, "onnxruntime")):
            assert kept.running(space.holdings, space.generation("v1"), count).how["runtime"] == runtime
    # As earlier versions have written it down.
    (path,) = (shop.directory / "cache" / "runtimes").glob("*.json")
    record = json.loads(path.read_text())
    del record["runtime_of_one"], record["images_per_second_one_by_one"]
    path.write_text(json.dumps(record))
    with again(shop) as space:
        assert kept.running(space.holdings, space.generation("v1"), 1).how["runtime"] == "onnxruntime"


def test_onnxruntime_keeps_no_processor_busy_until_the_next_picture_comes() -> None:
    pytest.importorskip("onnxruntime")
    assert runtimes.onnxruntime_options(2).get_session_config_entry("session.force_spinning_stop") == "1"


@pytest.mark.parametrize("runtime", OF_FILES)
def test_each_thread_takes_a_part_by_itself(
    template: Template, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(runtime)
    monkeypatch.setattr(runtimes, "threads", lambda: 1)
    part = part_size(16)
    pixels = noise(2 * part + 3)
    expected = runtimes.of_file(runtime, template.runnable, 16)(pixels)
    monkeypatch.setattr(runtimes, "threads", lambda: 2)
    assert at_once(16) == 2 * part
    run = runtimes.of_file(runtime, template.runnable, 16)
    both, side_by_side = threading.Barrier(2), runtimes._side_by_side

    def together(made: Callable[[Any], Vectors], parts: list[Any]) -> list[Vectors]:
        def wait(some: Any) -> Vectors:
            if len(some) == part:
                both.wait(60)
            return made(some)

        return side_by_side(wait, parts)

    monkeypatch.setattr(runtimes, "_side_by_side", together)
    for count in (len(pixels), 2 * part):
        np.testing.assert_allclose(run(pixels[:count]), expected[:count], atol=2e-5)
    np.testing.assert_allclose(run(pixels[:1]), expected[:1], atol=2e-5)


def test_threads_of_onnxruntime_do_not_share_a_part(template: Template, monkeypatch: pytest.MonkeyPatch) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    real, used = onnxruntime.InferenceSession, []

    class Session:
        def __init__(self, path: str, options: Any, **more: Any) -> None:
            self.threads, self.real = options.intra_op_num_threads, real(path, options, **more)

        def run(self, *given: Any) -> Any:
            used.append((self.threads, len(given[1]["pixels"])))
            return self.real.run(*given)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(runtimes, "threads", lambda: 2)
    run = runtimes.of_file("onnxruntime", template.runnable, 16)
    run(noise(1))
    run(noise(6))
    assert used == [(2, 1), (1, 3), (1, 3)]


def test_few_images_are_worth_no_trial_and_many_are(shop: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.index(coloured_images(10, 12))
    assert trials_of(shop) == []
    monkeypatch.setattr(kept, "LONG_SECONDS", 0)
    monkeypatch.setattr(trial, "_speeds", lambda running, _: dict.fromkeys(running, 10.0) | {"onnxruntime": 20.0})
    shop.index(coloured_images(10, 12, seed=1))
    assert trials_of(shop)[0]["runtime"] == "onnxruntime"
    assert shop.holdings.journal.entries()[-1]["runtime"] == "onnxruntime"


def test_what_serves_single_pictures_asks_for_no_version_again(
    shop: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded(shop, noise(1))

    def never(_: str) -> str:
        raise AssertionError("it was asked for again")

    monkeypatch.setattr(runtimes, "version", never)
    embedded(shop, noise(1))
    assert trials_of(shop) == []


def test_torch_stays_where_another_runtime_is_hardly_faster(shop: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "LONG_SECONDS", 0)
    monkeypatch.setattr(trial, "_speeds", lambda running, _: dict.fromkeys(running, 10.5) | {"torch": 10.0})
    shop.index(coloured_images(10, 12))
    assert trials_of(shop)[0]["runtime"] == "torch"


def test_a_workspace_that_cannot_be_written_to_runs_in_torch_and_says_so(
    shop: Workspace, use: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "is_writable", lambda _: False)
    use("onnxruntime")
    listener = Listener()
    kept.running(shop.holdings, shop.generation("v1"), 1, listener)
    assert "cannot be written to" in listener.heard[0]
    assert not (shop.directory / "cache" / "runtimes").exists()


def test_a_picture_searches_without_torch_where_a_runtime_was_found(shop: Workspace, tmp_path: Path) -> None:
    shop.index(coloured_images(2, 2))
    shop.close()
    Image.fromarray(noise(1)[0]).save(tmp_path / "picture.png")
    search = ("search", tmp_path / "picture.png", "-w", shop.directory, "--runtime", "onnxruntime")
    # The first one tries the runtimes, which is done here, where torch is loaded.
    evergallery(*search)
    (found,) = loaded((0, search))
    assert found & HEAVY == {"onnxruntime"}


def test_runtimes_are_not_for_a_foreign_model(shop: Workspace, use: Callable[[str], None], template: Template) -> None:
    foreign = shop.register(template.model)
    use("openvino" if runtimes.is_installed("openvino") else "onnxruntime")
    expected = embedded(shop, noise(2))
    np.testing.assert_allclose(embed_pixels(shop.holdings, noise(2), foreign), expected, atol=2e-5)
    assert kept.running(shop.holdings, foreign, FEW).how == {"runtime": "onnxruntime"}


class CudaSession:
    """ONNX Runtime with a GPU, for which the processor stands.

    Attributes:
        opened: the providers of each session.
        sizes: images of each call on the GPU.
        loads: whether CUDA can be loaded.
        room: images that fit into its memory at once.
        turned: how far its vectors are off.
    """

    opened: list[list[str]]
    sizes: list[int]
    loads, room, turned = True, 10**6, 0.0
    real: Any

    def __init__(self, model: bytes, options: Any, providers: list[Any]) -> None:
        names = [provider if isinstance(provider, str) else provider[0] for provider in providers]
        self.providers = names if self.loads else ["CPUExecutionProvider"]
        self.opened.append(self.providers)
        self.session = self.real(model, options, providers=["CPUExecutionProvider"])

    def get_providers(self) -> list[str]:
        return self.providers

    def run(self, outputs: list[str], feed: dict[str, Any]) -> Any:
        made = self.session.run(outputs, feed)
        if "CUDAExecutionProvider" not in self.providers:
            return made
        count = len(next(iter(feed.values())))
        if count > self.room:
            raise RuntimeError(
                "BFCArena::AllocateRawInternal: Failed to allocate memory for requested buffer of size 9"
            )
        self.sizes.append(count)
        return [vectors + self.turned * np.eye(1, vectors.shape[1], dtype=np.float32) for vectors in made]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> type[CudaSession]:
    onnxruntime = pytest.importorskip("onnxruntime")
    made = type("Session", (CudaSession,), {"real": onnxruntime.InferenceSession, "opened": [], "sizes": []})
    monkeypatch.setattr(onnxruntime, "InferenceSession", made)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(choosing, "has_gpu", lambda: True)
    return made


@pytest.fixture
def shop_of_a_file(template: Template, tmp_path: Path) -> Workspace:
    """A workspace in which an ONNX file answers."""
    made = Workspace.create(tmp_path / "foreign")
    made.register(template.model)
    return made


def test_many_images_of_an_onnx_file_go_to_a_gpu(shop_of_a_file: Workspace, cuda: type[CudaSession]) -> None:
    pixels, few = noise(FEW), noise(FEW - 1)
    found = kept.running(shop_of_a_file.holdings, shop_of_a_file.promoted, FEW)
    assert cuda.opened == [["CUDAExecutionProvider", "CPUExecutionProvider"]]
    made = found(pixels)
    assert cuda.sizes[-1] == FEW, "a GPU takes whole batches"
    np.testing.assert_allclose(made, embedded(shop_of_a_file, pixels), atol=1e-6)
    cuda.opened.clear()
    assert len(embedded(again(shop_of_a_file), few)) == FEW - 1
    assert cuda.opened == [["CPUExecutionProvider"]], "a search opens none"


def test_the_journal_says_that_an_onnx_file_ran_on_a_gpu(shop_of_a_file: Workspace, cuda: type[CudaSession]) -> None:
    shop_of_a_file.index(coloured_images(10, FEW // 10))
    shop_of_a_file.index(coloured_images(2, 2, seed=1))
    many, few = shop_of_a_file.holdings.journal.entries()[-2:]
    assert (many["runtime"], many["device"]) == ("onnxruntime", "cuda")
    assert few["runtime"] == "onnxruntime"
    assert "device" not in few


def test_a_batch_of_an_onnx_file_that_does_not_fit_goes_in_halves(
    shop_of_a_file: Workspace, cuda: type[CudaSession]
) -> None:
    cuda.room = FEW // 3
    found = kept.running(shop_of_a_file.holdings, shop_of_a_file.promoted, FEW)
    np.testing.assert_allclose(found(noise(FEW)), embedded(shop_of_a_file, noise(FEW)), atol=1e-6)
    assert sum(size for size in cuda.sizes if size > 4) == FEW
    assert max(cuda.sizes) <= FEW // 3


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"loads": False}, "cannot load CUDA"),
        ({"turned": 0.5}, "below 0.9999"),
        ({"room": 0}, "no memory"),
        (None, "has no CUDA"),
    ],
)
def test_the_processor_runs_an_onnx_file_that_a_gpu_cannot(
    shop_of_a_file: Workspace,
    cuda: type[CudaSession],
    monkeypatch: pytest.MonkeyPatch,
    fault: dict[str, Any] | None,
    told: str,
) -> None:
    for name, value in (fault or {}).items():
        setattr(cuda, name, value)
    if fault is None:
        monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    listener = Listener()
    assert shop_of_a_file.index(coloured_images(10, FEW // 10), watcher=listener).added == FEW
    (line,) = [line for line in listener.heard if "on the processor" in line]
    assert told in line
    entry = shop_of_a_file.holdings.journal.entries()[-1]
    assert entry["runtime"] == "onnxruntime"
    assert "device" not in entry


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_an_onnx_file_makes_the_same_vectors_on_a_gpu(shop_of_a_file: Workspace) -> None:
    if "CUDAExecutionProvider" not in pytest.importorskip("onnxruntime").get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDA")
    found = kept.running(shop_of_a_file.holdings, shop_of_a_file.promoted, FEW)
    assert found.how["device"] == "cuda"
    np.testing.assert_allclose(found(noise(FEW)), embedded(shop_of_a_file, noise(FEW)), atol=1e-5)


def test_a_runtime_that_is_unknown_or_not_installed_is_refused(
    shop: Workspace, use: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    use("openvin")
    with pytest.raises(InputError, match="openvino"):
        embedded(shop, noise(1))
    use("openvino")
    monkeypatch.setattr(runtimes, "is_installed", lambda name: name == "torch")
    with pytest.raises(MissingExtraError, match=r"evergallery\[fast\]"):
        embedded(shop, noise(1))


def test_the_command_line_names_it_before_anything_is_done(
    shop: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGALLERY_RUNTIME", "auto")
    np.savez(tmp_path / "pictures.npz", images=noise(4))
    shop.close()
    told = evergallery("index", tmp_path / "pictures.npz", "-w", shop.directory, "--runtime", "tensor", expect=2)
    assert "auto, torch, torch.compile, onnxruntime, openvino" in told.stderr
    evergallery("index", tmp_path / "pictures.npz", "-w", shop.directory, "--runtime", "onnxruntime")
    assert shop.holdings.journal.entries()[-1]["runtime"] == "onnxruntime"


def test_generations_of_a_frozen_backbone_share_the_file_of_it(
    shop: Workspace, backbone: Path, use: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    def write_backbone(*given: Any) -> None:
        written.append("backbone")
        shutil.copyfile(backbone, given[-1])

    monkeypatch.setattr(onnx_export, "export_runnable_backbone", write_backbone)
    monkeypatch.setattr(onnx_export, "export_runnable", lambda *given: written.append("network"))
    first = shop.generation("v1")
    use("onnxruntime")
    second = shop.learn(coloured_images(3, 4, size=16), parent="v1", train="neck")
    made = [embed_pixels(shop.holdings, noise(3), generation) for generation in (first, second)]
    assert written == ["backbone"]
    assert [kept.running(shop.holdings, g, FEW).how["runtime"] for g in (first, second)] == ["onnxruntime"] * 2
    use("torch")
    for vectors, generation in zip(made, (first, second), strict=True):
        np.testing.assert_allclose(vectors, embed_pixels(shop.holdings, noise(3), generation), atol=2e-5)
