"""The loop: it learns, it resumes bit for bit, it leaves the parent alone, it stops on NaN."""

import json
import resource
import shutil
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import coloured_images
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.errors import DamagedError, InputError, StoppedError, TrainingError
from evergallery.memory import Memory, TrainingOutputs
from evergallery.methods import CSD, METHODS, Finetune, Method, Step
from evergallery.network import Architecture, Embedder, Head, Network, extract
from evergallery.training import (
    Lineage,
    Progress,
    Settings,
    TrainingData,
    TrainingResult,
    check_compiler,
    resolve_device,
    train,
    trainer,
    validation,
)
from evergallery.training.batches import resident
from evergallery.training.settings import SCHEDULES
from evergallery.watching import TrainingListener
from forked import forked, said_by, until

PREPROCESSING = Preprocessing(size=16)
Quick = Callable[..., Settings]


def new_network(classes: int = 6, seed: int = 0) -> Network:
    embedder = Embedder(Architecture(backbone="resnet8"), seed=seed)
    return Network(embedder, Head(embedder.dimension, 0).grow(classes, seed))


def run(network: Network, images: ImageSet, settings: Settings, directory: Path, **arguments: Any) -> TrainingResult:
    directory.mkdir(parents=True, exist_ok=True)
    method = arguments.pop("method", Finetune())
    validation = arguments.pop("validation", None)
    return train(
        network,
        method,
        TrainingData(images, validation, PREPROCESSING),
        settings,
        directory,
        watcher=TrainingListener(arguments.pop("on_progress", None)),
        **arguments,
    )


def weights(network: Network) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


class Stop(Exception):
    pass


def stop_in(epoch: int, step: int) -> Callable[[Progress], None]:
    def stop(progress: Progress) -> None:
        if (progress.epoch, progress.step) == (epoch, step) or progress.epoch > epoch:
            raise Stop

    return stop


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_interrupted_run_ends_with_the_same_weights(
    optimizer: str, images: ImageSet, quick: Quick, tmp_path: Path
) -> None:
    settings = quick(epochs=3, optimizer=optimizer, erase=0.5)
    whole, parts = new_network(), new_network()
    run(whole, images, settings, tmp_path / "whole", validation=images)
    with pytest.raises(Stop):
        run(parts, images, settings, tmp_path / "parts", validation=images, on_progress=stop_in(1, 4))
    resumed = new_network(seed=77)  # Whatever it holds is replaced by the checkpoint.
    trained = run(resumed, images, settings, tmp_path / "parts", validation=images)
    assert equal(weights(whole), weights(resumed))
    assert trained.images_seen == 3 * 64
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "parts")]
    assert logs[0] == logs[1]
    assert [json.loads(line)["epoch"] for line in logs[0].splitlines()] == [1, 2, 3]


@pytest.mark.parametrize("method", ["csd", "unibct", "mutual", "advbct"])
def test_run_interrupted_within_an_epoch_goes_on_from_that_step(
    method: str, quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evergallery.training.trainer.CHECKPOINT_EVERY_SECONDS", 0)
    images = coloured_images(classes=4)

    def arguments() -> dict[str, Any]:
        parent = new_network(4, seed=3).eval()
        return {
            "method": METHODS[method](), "validation": images,
            "lineage": Lineage(
                parent, another_network=lambda _: new_network(4, seed=5),
                memory=Memory().after("v1", TrainingOutputs(torch.arange(4), parent(torch.rand(4, 3, 16, 16)))),
            ),
        }  # fmt: skip

    settings = quick(epochs=3, erase=0.5)
    whole, parts, resumed = new_network(4), new_network(4), new_network(4, seed=77)
    torch.manual_seed(1)
    run(whole, images, settings, tmp_path / "whole", **arguments())
    torch.manual_seed(1)
    with pytest.raises(Stop):
        run(parts, images, settings, tmp_path / "parts", **arguments(), on_progress=stop_in(1, 3))
    assert json.loads((tmp_path / "parts/state.json").read_text())["step"] == 2
    seen: list[tuple[int, int]] = []
    torch.manual_seed(1)
    trained = run(
        resumed, images, settings, tmp_path / "parts", **arguments(),
        on_progress=lambda progress: seen.append((progress.epoch, progress.step)),
    )  # fmt: skip
    assert min(seen) >= (1, 3)
    assert equal(weights(whole), weights(resumed))
    assert trained.images_seen == 3 * 48
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "parts")]
    assert logs[0] == logs[1]


def test_process_that_is_asked_to_stop_keeps_what_it_did(quick: Quick, tmp_path: Path) -> None:
    settings = quick(epochs=1, batch_size=2)
    directory = tmp_path / "stopped"
    said = tmp_path / "said"
    process = forked(said, learn_until, 0, 5, settings, directory)
    until(lambda: said.exists() and "waiting" in said.read_text())
    process.terminate()
    (directory / "go").touch()
    assert "StoppedError: The process was asked to stop, in epoch 1 after step" in said_by(process, said)
    assert process.exitcode == 1, "it ends by itself"
    state = json.loads((directory / "state.json").read_text())
    assert (state["epoch"], len(state["history"])) == (0, 0)
    assert state["step"] == 5
    whole, resumed = new_network(), new_network(seed=77)
    run(whole, coloured_images(), settings, tmp_path / "whole")
    run(resumed, coloured_images(), settings, directory)
    assert equal(weights(whole), weights(resumed))


def test_run_that_is_stopped_while_it_validates_goes_on_there(
    images: ImageSet, quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, asked = quick(epochs=3), threading.Event()
    validated: list[int] = []
    whole, resumed = new_network(), new_network(seed=77)
    run(whole, images, settings, tmp_path / "whole", validation=images)

    def stopped_in_the_second(*arguments: Any, **options: Any) -> object:
        validated.append(1)
        if len(validated) == 2:
            asked.set()
        return extract(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(trainer, "termination", lambda: nullcontext(asked))
        patched.setattr(validation, "extract", stopped_in_the_second)
        with pytest.raises(StoppedError, match="in epoch 2 after step 4"):
            run(new_network(), images, settings, tmp_path / "parts", validation=images)
    state = json.loads((tmp_path / "parts" / "state.json").read_text())
    assert (state["epoch"], state["step"]) == (1, 4), "the second epoch is learned, and not validated"
    run(resumed, images, settings, tmp_path / "parts", validation=images)
    assert equal(weights(whole), weights(resumed))
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "parts")]
    assert logs[0] == logs[1]


def learn_until(epoch: int, step: int, settings: Settings, directory: Path) -> None:
    """Learn, and go on from this step only when somebody says so."""

    def wait(progress: Progress) -> None:
        if (progress.epoch, progress.step) == (epoch, step):
            print("waiting", flush=True)
            until((directory / "go").exists)

    trainer.REPORT_EVERY_SECONDS = 0
    run(new_network(), coloured_images(), settings, directory, on_progress=wait)


def test_killed_process_leaves_a_checkpoint_to_go_on_from(quick: Quick, tmp_path: Path) -> None:
    settings = quick(epochs=6)
    directory = tmp_path / "killed"
    process = forked(tmp_path / "said", learn_until, 4, 1, settings, directory)
    until((directory / "state.json").exists)
    process.kill()
    process.join()
    assert 1 <= json.loads((directory / "state.json").read_text())["epoch"] <= 4
    whole, resumed = new_network(), new_network(seed=77)
    run(whole, coloured_images(), settings, tmp_path / "whole")
    run(resumed, coloured_images(), settings, directory)
    assert equal(weights(whole), weights(resumed))


def test_altered_checkpoint_is_refused(images: ImageSet, quick: Quick, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run(new_network(), images, quick(), tmp_path, on_progress=stop_in(1, 4))
    path = next(tmp_path.glob("epoch-*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DamagedError, match=r"checksum differs.*delete .* to start this run anew"):
        run(new_network(), images, quick(), tmp_path)


@dataclass(frozen=True)
class NaNLoss(Method):
    """Its loss is NaN from the third step on."""

    name: ClassVar[str] = "exploding"

    def losses(self, step: Step) -> dict[str, Tensor]:
        calls.append(1)
        factor = float("nan") if len(calls) > 2 else 1.0
        return {"fine": step.new.features.mean(), "broken": step.new.features.mean() * factor}


calls: list[int] = []


def test_stops_on_a_loss_that_is_not_finite(images: ImageSet, quick: Quick, tmp_path: Path) -> None:
    calls.clear()
    with pytest.raises(TrainingError, match=r"'broken' became nan in epoch 1, step 3, .*lower the learning rate"):
        run(new_network(), images, quick(), tmp_path, method=NaNLoss())


STEPS = 2 * 4
"""Of two epochs of the images in batches of 16."""


@dataclass(frozen=True)
class InfiniteGradient(Method):
    """Its loss is finite in the last step of the second epoch, and its gradient, that of a root at zero, is not."""

    name: ClassVar[str] = "rooted"

    def losses(self, step: Step) -> dict[str, Tensor]:
        calls.append(1)
        mean = step.new.features.mean()
        return {"fine": mean, "rooted": (0 * mean).sqrt() if len(calls) == STEPS else 0 * mean}


@pytest.mark.parametrize("clip_norm", [5.0, None])
def test_weights_that_are_not_finite_are_not_kept(
    clip_norm: float | None, images: ImageSet, quick: Quick, tmp_path: Path
) -> None:
    calls.clear()
    settings = quick(epochs=2, clip_norm=clip_norm, select="last")
    with pytest.raises(TrainingError, match=r"weights became not finite in epoch 2, .*lower the learning rate"):
        run(new_network(), images, settings, tmp_path, method=InfiniteGradient())
    assert len(calls) == STEPS, "the losses have said nothing"
    assert json.loads((tmp_path / "state.json").read_text())["epoch"] == 1
    calls.clear()
    calls.extend([1] * STEPS)
    assert run(new_network(), images, settings, tmp_path, method=InfiniteGradient()).epochs == 2


def test_full_disk_leaves_the_checkpoint_before(images: ImageSet, quick: Quick, tmp_path: Path) -> None:
    settings = quick(epochs=3)
    whole, resumed = new_network(), new_network(seed=77)
    run(whole, images, settings, tmp_path / "whole")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(progress: Progress) -> None:
        # What a full disk is to a file, without one: nothing is written beyond so many bytes.
        if progress.epoch == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))

    try:
        with pytest.raises(OSError, match="File too large for .*safetensors"):
            run(new_network(), images, settings, tmp_path / "parts", on_progress=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert json.loads((tmp_path / "parts" / "state.json").read_text())["epoch"] == 1
    assert not list((tmp_path / "parts").glob(".*")), "nothing is left over that takes room"
    run(resumed, images, settings, tmp_path / "parts")
    assert equal(weights(whole), weights(resumed))


@dataclass(frozen=True)
class DeviceFailure(Method):
    """Its device fails in the second epoch."""

    name: ClassVar[str] = "failing"
    memory: bool = False

    def losses(self, step: Step) -> dict[str, Tensor]:
        if step.progress >= 0.5:
            raise torch.OutOfMemoryError("CUDA out of memory") if self.memory else torch.AcceleratorError("gone\nmore")
        return {"fine": step.new.features.mean()}


@pytest.mark.parametrize(
    ("memory", "says"),
    [(True, "does not fit .* in epoch 2: choose a smaller"), (False, r"epoch 2 \(gone\): what was done")],
)
def test_device_that_fails_is_named_and_what_was_done_is_kept(
    memory: bool, says: str, images: ImageSet, quick: Quick, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=says):
        run(new_network(), images, quick(), tmp_path, method=DeviceFailure(memory))
    assert json.loads((tmp_path / "state.json").read_text())["epoch"] == 1


def test_method_without_its_parent_is_refused(images: ImageSet, quick: Quick, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="'csd' learns from a parent"):
        run(new_network(), images, quick(), tmp_path, method=CSD())


def test_best_epoch_is_chosen_on_the_validation_part(images: ImageSet, quick: Quick, tmp_path: Path) -> None:
    # A learning rate that wrecks the network late: the best epoch is not the last.
    network = new_network()
    settings = quick(epochs=5, schedule="constant", learning_rate=5e-3)
    trained = run(network, images, settings, tmp_path / "best", validation=images)
    recalls = [record["recall@1"] for record in trained.history]
    assert trained.validation["recall@1"] == max(recalls)
    assert trained.best_epoch == max(i + 1 for i, value in enumerate(recalls) if value == max(recalls))
    last = run(
        new_network(), images, settings.model_copy(update={"select": "last"}), tmp_path / "last", validation=images
    )
    assert last.best_epoch == 5


def test_balanced_batches_and_progressive_sizes(images: ImageSet, quick: Quick, tmp_path: Path) -> None:
    settings = quick(epochs=4, images_per_class=4, start_size=8)
    trained = run(new_network(), images, settings, tmp_path)
    sizes = [record["size"] for record in trained.history]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (8, 16)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_stay_within_the_learning_rate(name: str) -> None:
    rates = [SCHEDULES[name](progress) for progress in np.linspace(0, 1, 201)]
    assert max(rates) == pytest.approx(1)
    assert min(rates) >= 0
    assert rates[-1] <= rates[100] <= 1


def test_multi_step_is_that_of_csd() -> None:
    settings = Settings(schedule="multi-step", learning_rate=1e-3)
    rates = [settings.rate(epoch / 800) for epoch in (0, 199, 200, 400, 600, 799)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5, 1e-6, 1e-6])


def test_bf16_runs_and_is_recorded(images: ImageSet, quick: Quick, tmp_path: Path) -> None:
    trained = run(new_network(), images, quick(epochs=1, precision="bf16"), tmp_path)
    assert trained.precision == "bf16"
    assert all(np.isfinite(value) for value in trained.history[0]["losses"].values())


def test_compiled_steps_learn_what_others_learn(
    images: ImageSet, quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[object] = []

    def traced(module: nn.Module, **_: Any) -> object:
        # All of the compiler but the generation of C++ code, which takes half a minute.
        compiled.append(module)
        return really(module, backend="aot_eager")

    really = torch.compile
    monkeypatch.setattr(torch, "compile", traced)
    learned = []
    for compile in (False, True):
        network, parent = new_network(), new_network(3, seed=1)
        run(
            network,
            images,
            quick(epochs=1, compile=compile),
            tmp_path / str(compile),
            method=CSD(),
            lineage=Lineage(parent),
        )
        learned.append(weights(network))
    assert network in compiled
    assert parent in compiled, "the teacher too"
    assert learned[0].keys() == learned[1].keys()
    for name, weight in learned[0].items():
        assert torch.allclose(weight.float(), learned[1][name].float(), atol=1e-3), name


def test_without_a_compiler_compiling_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_compiler(Settings(compile=True))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    check_compiler(Settings())
    with pytest.raises(InputError, match="install g"):
        check_compiler(Settings(compile=True))


def test_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert resolve_device("auto") == torch.device("cpu")
    with pytest.raises(InputError, match="no GPU here"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto").type == "cuda"
    assert resolve_device("cuda:1").index == 1
    with pytest.raises(InputError, match="sees 2"):
        resolve_device("cuda:2")


def test_images_that_stay_on_the_device_are_those_of_the_set(images: ImageSet) -> None:
    chosen = images.select(np.arange(len(images))[::-2].copy())
    indices = np.array([3, 0, 3, 5])
    found, expected = resident(chosen, torch.device("cpu"))(indices), chosen.batch(indices)
    assert torch.equal(found, expected)
    assert found.stride() == expected.stride()
