"""Processes that learn together: a batch that is split over them gives what one process gives, by every method."""

import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from evergallery.errors import InputError
from evergallery.methods import METHODS
from evergallery.network.batch_norm import normalise_together
from evergallery.network.ranks import Ranks, launched, together
from evergallery.workspace import Workspace
from forked import command, forked, forked_parent, said_by, until

sys.path.insert(0, str(Path(__file__).parent))
import ranks_worker


def by_ranks(size: int, directory: Path, target: Callable[..., object], *arguments: Any) -> list[str]:
    """Call a function in so many processes that are told of each other as torchrun tells them; what each has said."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    world = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    files = [directory / f"said-{rank}" for rank in range(size)]
    ranks = [forked(file, target, *arguments, **world, RANK=rank, LOCAL_RANK=rank) for rank, file in enumerate(files)]
    said = [said_by(rank, file, 540) for rank, file in zip(ranks, files, strict=True)]
    assert all(rank.exitcode == 0 for rank in ranks), "\n".join(text[-2000:] for text in said)
    return said


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("two")
    by_ranks(2, directory, ranks_worker.work, directory, list(METHODS))
    return directory


@pytest.fixture(scope="module")
def by_three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("three")
    by_ranks(3, directory, ranks_worker.work, directory, ["csd"], True)
    return directory


def ranks_of(directory: Path, name: str, size: int) -> list[dict[str, Tensor]]:
    return [load_file(directory / f"{name}-{rank}.safetensors") for rank in range(size)]


def check_same_step(found: dict[str, Tensor], expected: dict[str, Tensor], start: dict[str, Tensor]) -> None:
    for name, value in expected.items():
        if name.startswith("loss/"):
            # A relation is a small difference of large numbers: other instruction sets move it by some millionths.
            assert found[name].item() == pytest.approx(value.item(), rel=1e-4, abs=1e-5), name
    moved = {name: expected[name] - start[name] for name in start if start[name].is_floating_point()}
    length = torch.cat([tensor.flatten() for tensor in moved.values()]).norm()
    apart = torch.cat([(found[name] - expected[name]).flatten() for name in moved]).norm()
    assert length > 1e-4
    assert apart < 2e-3 * length


@pytest.mark.parametrize("method", METHODS)
def test_two_ranks_take_the_step_of_one(method: str, by_two: Path, tmp_path: Path) -> None:
    first, second = ranks_of(by_two, method, 2)
    assert all(torch.equal(first[name], second[name]) for name in first)
    expected = ranks_worker.step_of(method, tmp_path / "alone")
    start = ranks_worker.start_of(method)
    check_same_step(first, expected, start)


def test_three_ranks_take_the_step_of_one(by_three: Path, tmp_path: Path) -> None:
    found = ranks_of(by_three, "csd", 3)
    expected = ranks_worker.step_of("csd", tmp_path / "alone")
    check_same_step(found[2], expected, ranks_worker.start_of("csd"))


def test_batch_with_fewer_images_than_ranks(by_three: Path, tmp_path: Path) -> None:
    found = ranks_of(by_three, "tiny", 3)
    expected = ranks_worker.step_of("finetune", tmp_path / "alone", count=2)
    check_same_step(found[0], expected, ranks_worker.start_of("finetune"))


def test_embeddings_and_figures_do_not_depend_on_the_number_of_ranks(by_two: Path, by_three: Path) -> None:
    alone = ranks_worker.embeddings()
    for directory, size in ((by_two, 2), (by_three, 3)):
        for found in ranks_of(directory, "embeddings", size):
            assert all(torch.equal(found[name], alone[name]) for name in alone)


def test_frozen_features_are_made_by_all_ranks_and_are_those_of_one(tmp_path: Path) -> None:
    by_ranks(2, tmp_path, ranks_worker.frozen_features, tmp_path / "two")
    ranks_worker.frozen_features(tmp_path / "one", Ranks())
    (alone,) = (load_file(path) for path in (tmp_path / "one").glob("features-*"))
    first, second = (load_file(tmp_path / "two" / f"features-{rank}-of-2.safetensors") for rank in range(2))
    looked = [made.pop("looked at").item() for made in (first, second)]
    assert sum(looked) == alone.pop("looked at").item(), "each batch was looked at once"
    assert min(looked) > sum(looked) / 3
    for made in (first, second):
        assert made.keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(made[name], value, atol=2e-3, rtol=2e-3)


def test_shares_are_a_partition() -> None:
    for size in (1, 2, 3, 7):
        for count in (0, 1, 2, 6, 25):
            parts = [Ranks(rank, size).share(count) for rank in range(size)]
            assert [index for part in parts for index in range(count)[part]] == list(range(count))
            lengths = [part.stop - part.start for part in parts]
            assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("shape", [(6, 5), (4, 5, 3, 3)])
def test_normalisation_by_one_rank_is_that_of_torch(shape: tuple[int, ...], momentum: float | None) -> None:
    kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    torch.manual_seed(0)
    ours, theirs = (kind(5, momentum=momentum, dtype=torch.float64) for _ in range(2))
    for layer in (ours, theirs):
        nn.init.constant_(layer.weight, 1.7)
        nn.init.constant_(layer.bias, -0.3)
    for _ in range(3):
        inputs = [torch.randn(shape).double().requires_grad_() for _ in range(1)] * 2
        mine = normalise_together(inputs[0], ours, Ranks())
        weight = torch.randn(shape)
        (gradient,) = torch.autograd.grad((mine * weight).sum(), inputs[0])
        reference = theirs(inputs[1])
        (expected,) = torch.autograd.grad((reference * weight).sum(), inputs[1])
        torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-5, atol=1e-6)


def test_what_the_launcher_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)
    assert launched() is None
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "4")
    assert launched() == (3, 8, 2)
    # A shell of an interactive job is one process with the job's variables.
    monkeypatch.setenv("SLURM_JOB_NAME", "bash")
    assert launched() is None
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launched() is None
    monkeypatch.delenv("SLURM_JOB_NAME")
    assert launched() == (1, 2, 1)
    with pytest.raises(InputError, match="leave the number out"):
        together(torch.device("cuda:1"))


def test_killed_rank_is_started_again_and_the_generation_is_the_same(tmp_path: Path) -> None:
    images = tmp_path / "images.npz"
    ranks_worker.write_images(images)

    def learning(shop: Path) -> tuple[Any, ...]:
        Workspace.create(shop, backbone="resnet8", size=16).close()
        settings = ("--epochs", 8, "--batch-size", 24, "--device", "cpu")
        return ("learn", images, "-w", shop, *settings, "--json")

    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    said = by_ranks(2, tmp_path, command, *learning(undisturbed))
    assert [text.count('"name": "v1"') for text in said] == [1, 0], "one rank speaks"
    process = forked_parent(tmp_path / "said", ranks_worker.torchrun, 2, 1, *learning(killed))
    until(lambda: process.exitcode is not None or list(killed.glob("runs/*/state.json")), 120)
    os.kill(a_child_of(process.pid), signal.SIGKILL)
    told = said_by(process, tmp_path / "said", 300)
    assert process.exitcode == 0, told[-3000:]
    assert told.count('"name": "v1"') == 1, "one rank speaks"
    weights = []
    for shop in (undisturbed, killed):
        assert Workspace(shop).generation("v1").card.training["processes"] == 2
        assert [path.name for path in (shop / "generations").iterdir() if path.is_dir()] == ["v0001"]
        weights.append(load_file(shop / "generations/v0001/embedder.safetensors"))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def a_child_of(parent: int | None) -> int:
    """The last of the processes that another has started."""
    started = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            started.append(int(path.parent.name))
    return max(started)
