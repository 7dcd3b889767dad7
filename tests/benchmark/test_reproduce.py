"""Every command of docs/reproduce.md, on toy copies of the sets that it names: planned as it stands, and run at a toy's size."""

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import evaluation_toys
import published_toys
from conftest import evergallery
from evergallery import Workspace
from evergallery.benchmark import job, report, runner
from evergallery.benchmark.parts import PAIR, TRAIN
from evergallery.benchmark.tables import read_runs
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.data.published import LAYOUTS
from evergallery.data.sources import load
from evergallery.errors import InputError
from evergallery.learning import learner
from evergallery.network import backbones
from evergallery.training import TrainingData, train
from evergallery.watching import Watcher
from published_toys import TOYS, make_published

PAGE = (Path(__file__).parents[2] / "docs" / "reproduce.md").read_text()
COMMANDS = re.findall(r"^\|.*\| `(evergallery benchmark [^`]*)` \|", PAGE, re.MULTILINE)
LARGE = ("--budget", "--weights", "--backbone", "--update-backbone", "--dim", "--size", "--methods")
"""Options that a toy has no use for."""
DRAWN = ("cub200", "market1501", "omniglot")
"""Sets whose tables have their plots too, which take the longest: old and new classes, other classes, and both."""
SMALL = (
    "--budget", "quick", "--backbone", "resnet8", "--size", "16", "--epochs", "1", "--precision", "float32",
    "--methods", "initial,finetune", "--seeds", "1",
)  # fmt: skip


def option(command: str, name: str) -> str | None:
    words = shlex.split(command)
    return words[words.index(name) + 1] if name in words else None


def of_set(command: str) -> str:
    """The set that a command names, or its protocol's own."""
    data = option(command, "--data")
    return "cifar100" if data in (None, "DIR") else str(data)


def protocol_of(command: str) -> str:
    return shlex.split(command)[2]


def first_ones() -> list[str]:
    """Commands until each set and each protocol has been one's."""
    found, seen = [], set[str]()
    for command in COMMANDS:
        if not {of_set(command), protocol_of(command)} <= seen:
            found.append(command)
            seen |= {of_set(command), protocol_of(command)}
    return found


def by_hand(test: ImageSet, vectors: NDArray[np.float32]) -> dict[str, float]:
    """Recall, mAP and mINP of queries in the gallery, each without its own identity under its own camera."""
    assert test.split is not None
    queries, gallery = (np.flatnonzero(test.split == name) for name in ("query", "gallery"))
    sums: dict[str, list[float]] = {}
    for query in queries:
        order = gallery[np.argsort(-(vectors[gallery] @ vectors[query]), kind="stable")]
        hits = [
            bool(test.labels[item] == test.labels[query])
            for item in order
            if test.cameras is None
            or test.labels[item] != test.labels[query]
            or test.cameras[item] != test.cameras[query]
        ]
        ranks = [rank for rank, hit in enumerate(hits, 1) if hit]
        values = {f"recall@{k}": float(any(hits[:k])) for k in (1, 5, 10)}
        values |= {"mAP": float(np.mean([n / rank for n, rank in enumerate(ranks, 1)])), "mINP": len(ranks) / ranks[-1]}
        for name, value in values.items():
            sums.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in sums.items()}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a toy of everything."""
    directory = tmp_path_factory.mktemp("sets")
    for name in TOYS:
        make_published(name, directory, classes=12 if name == "cifar100" else published_toys.CLASSES)
    for name in evaluation_toys.TOYS:
        evaluation_toys.make_toy(name, directory)
    (directory / "bn_inception-239d2248.pth").touch()
    return directory


@pytest.fixture(autouse=True)
def _read_anew(sets: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(sets)
    job.read_parts.cache_clear()
    yield
    job.read_parts.cache_clear()


def test_the_page_has_a_command_for_every_set_that_is_read() -> None:
    assert {of_set(command) for command in COMMANDS} == {*LAYOUTS, "cifar100"} == set(TOYS)
    assert len(COMMANDS) == len(set(COMMANDS)) > 25


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_planned_as_it_stands(
    command: str, sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Networks are built without memory; images, tasks and methods are those of the run."""
    import timm

    planned: list[job.BenchmarkJob] = []

    def plan(jobs: list[job.BenchmarkJob], watcher: Watcher, processes: int) -> Any:
        for one in jobs:
            images = one.parts(watcher).images.of_split(TRAIN)
            for task in one.tasks(images):
                counts = np.bincount(images.of_classes(task).labels)
                assert counts.min() >= PAIR
        planned.extend(jobs)
        raise InputError("planned")

    create, built = timm.create_model, Counter[str]()

    def counted(name: str, pretrained: bool = False, **rest: Any) -> nn.Module:
        built[name] += 1
        return create(name, **rest)

    monkeypatch.setattr(timm, "create_model", counted)
    monkeypatch.setattr(backbones, "packaged", lambda name: None)
    monkeypatch.setattr(runner, "load_weights", lambda module, path: None)
    monkeypatch.setattr(runner, "_run_all", plan)
    words = shlex.split(command.replace("DIR", str(sets)))[1:]
    with torch.device("meta"):
        assert "planned" in evergallery(*words, "--out", tmp_path, expect=2).stderr
    assert all(times <= 4 for times in built.values()), "a network is built for each question, and not for each run"
    names = option(command, "--methods")
    assert len({one.seed for one in planned}) == 3
    if names is not None:
        assert [one.contender.base for one in planned[: len(names.split(","))]] == [
            "finetune" if name == "procrustes" else name.partition("@")[0] for name in names.split(",")
        ]


@pytest.mark.parametrize("command", first_ones())
def test_a_command_runs_and_nothing_that_is_asked_for_is_learned(
    command: str, sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: set[str] = set()

    def listening(network: nn.Module, method: Any, data: TrainingData, *rest: Any, **more: Any) -> Any:
        for part in (data.images, data.validation):
            learned.update(part.uris if isinstance(part, ImageSet) else ())
        return train(network, method, data, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(learner, "train", listening)
    if of_set(command) not in DRAWN:
        monkeypatch.setattr(report, "write_plots", lambda runs, directory: [])
    words = shlex.split(command.replace("DIR", str(sets)))[1:]
    for name in LARGE:
        if name in words:
            del words[words.index(name) : words.index(name) + 2]
    words = [word for word in words if word != "--pretrained"]
    evergallery(*words, *SMALL, "--out", tmp_path)
    (directory,) = tmp_path.iterdir()
    runs = read_runs(directory)
    assert {run["method"] for run in runs} == {"initial", "finetune"}
    data, cells = runs[0]["data"], runs[0]["measures"]["cells"]
    assert data["set"] == of_set(command)
    assert re.fullmatch("[0-9a-f]{64}", data["fingerprints"]["test"])
    assert runs[0]["precision"] == "float32"
    assert "Data: " in (directory / "table.md").read_text()
    images = load(of_set(command), Preprocessing(size=8), data_dir=sets)
    assert images.split is not None
    may = images.split == "train"
    assert learned <= {uri for uri, allowed in zip(images.uris, may, strict=True) if allowed}
    assert len(learned) == data["training"]
    last = Workspace(directory / "work" / "seed0" / "finetune").generations()[-1]
    classes = last.card.classes
    assert set(classes) <= {images.classes[label] for label in images.labels[may]}
    if {"query", "gallery"} <= set(images.split.tolist()):
        asked = {images.classes[label] for label in images.labels[~may]}
        assert asked
        assert not asked & set(classes)
        assert {"mAP", "mINP", "recall@1", "recall@5", "recall@10"} <= set(cells["cross"])
        (found,) = (directory / "work" / "seed0" / "embeddings").glob(f"{last.fingerprint[:16]}-test.npy")
        wanted = by_hand(images.select(np.flatnonzero(~may)), np.load(found))
        measured = next(run for run in runs if run["method"] == "finetune")["measures"]["cells"]["new self"]
        assert {name: measured[name] for name in wanted} == pytest.approx(wanted)
        # Whoever is asked for is found under another camera.
        assert cells["new self"]["queries"] == np.count_nonzero(images.split == "query") == 6
    else:
        assert not set(images.classes) - {images.classes[label] for label in images.labels}
    for k in (option(command, "--ks") or "1").split(","):
        assert f"recall@{k}" in cells["cross"]
    if "faces" in command or "landmarks" in command:
        assert len(runs[0]["measures"]["evaluated"]) == (2 if "faces" in command else 3)


@pytest.mark.parametrize(
    "name", ["market1501", "dukemtmc", "veri776", "msmt17", "inshop", "deepfashion2", "omniglot", "imagenet"]
)
def test_learning_a_set_by_its_name_takes_nobody_who_is_asked_for(name: str, sets: Path, tmp_path: Path) -> None:
    """Junk and distractors are no classes either."""
    settings = {"epochs": 1, "batch_size": 16, "device": "cpu", "precision": "float32", "validation_fraction": 0.0}
    with Workspace.create(tmp_path / "shop", backbone="resnet8", size=16) as shop:
        card = shop.learn(name, data_dir=sets, settings=settings).card
    images = load(name, Preprocessing(size=8), data_dir=sets)
    learned = images.of_split("train")
    assert (card.data["images"], len(card.classes)) == (len(learned), published_toys.CLASSES)
    assert set(card.classes) == {images.classes[label] for label in learned.labels}
    assert not {"-1", "0000"} & set(card.classes)
