"""Who has a result can make it again: its command is whole, and work on other images or weights is not taken for it."""

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from conftest import coloured_images, evergallery
from evergallery.benchmark import job, report, runner
from evergallery.benchmark.contenders import Contender
from evergallery.benchmark.job import Experiment
from evergallery.benchmark.protocol import ProtocolChanges
from evergallery.benchmark.protocols import PROTOCOLS
from evergallery.benchmark.runner import run_benchmark
from evergallery.benchmark.tables import _command, read_runs
from evergallery.errors import InputError
from evergallery.network import Neck, build_backbone
from evergallery.watching import Watcher

RESULTS = Path(__file__).parents[2] / "results"
TABLES = sorted(path.parent for path in RESULTS.rglob("runs"))
CHANGES: tuple[dict[str, Any], ...] = (
    {}, {"pretrained": True}, {"pretrained": False}, {"size": 64}, {"size": (256, 128)}, {"ks": (1, 10)}, {"epochs": 3},
    {"evaluate": ("lfw", "a/pairs.csv")}, {"backbone": "last-stride-1/resnet18", "update_backbone": "torchvision/resnet34"},
    {"weights": Path("a/b.pt"), "update_weights": Path("c.pt")}, {"dim": 12, "neck": "linear-bn", "head": "linear"},
    {"precision": "bf16", "fit": "stretch"},
)  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Experiment, list[str], list[int]]]:
    """What the command line asks of the benchmark, which runs nothing."""
    found: list[tuple[Experiment, list[str], list[int]]] = []

    def take(experiment: Experiment, methods: list[str] | None, *, seeds: Any, **_: Any) -> Path:
        found.append((experiment, [Contender.named(name).name for name in methods or ()], [*seeds]))
        raise InputError("asked")

    monkeypatch.setattr(runner, "run_benchmark", take)
    return found


def typed(command: str) -> None:
    program, *words = shlex.split(command)
    assert program == "evergallery"
    assert "asked" in evergallery(*words, expect=2).stderr


@pytest.mark.parametrize("given", CHANGES, ids=str)
def test_the_command_of_a_table_asks_for_what_its_runs_were_asked_for(
    given: dict[str, Any], asked: list[tuple[Experiment, list[str], list[int]]]
) -> None:
    experiment = Experiment("glyphs", "quick", "photos", Path("sets"), ProtocolChanges(**given))
    run = {
        "protocol": "glyphs", "budget": "quick", "options": json.loads(json.dumps(experiment.options)), "seed": 1,
        "method": "csd@logit_weight=0+linear", "measures": {"compatibility": {}},
    }  # fmt: skip
    typed(_command([run], [1]))
    assert asked == [(experiment, ["csd@logit_weight=0+linear"], [0, 1])]


@pytest.mark.parametrize("table", TABLES, ids=lambda path: str(path.relative_to(RESULTS)))
def test_every_result_file_has_a_command_that_makes_it(
    table: Path, asked: list[tuple[Experiment, list[str], list[int]]]
) -> None:
    runs = read_runs(table)
    by_command: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        by_command.setdefault(run["command"], []).append(run)
    for command, made in [*by_command.items(), (_command(runs, sorted({run["seed"] for run in runs})), runs)]:
        typed(command)
        experiment, methods, seeds = asked[-1]
        for run in made:
            assert (experiment.protocol, experiment.budget) == (run["protocol"], run["budget"]), command
            assert run["method"] in methods, command
            assert run["seed"] in seeds, command
            assert run.get("options") in (None, experiment.options), command
    # One table is of one set of images, whose digest each file has; a seed may draw other tasks.
    assert len({json.dumps({**run["data"], "tasks": None}, sort_keys=True) for run in runs}) == 1
    page = (table / "table.md").read_text()
    assert all(", ".join(map(str, run["data"]["tasks"])) in page for run in runs)
    for run in runs:
        assert len(run["data"]["fingerprint"]) == 64
        if run["format"] > 1:
            assert run["data"]["split"]
            assert set(run["data"]["fingerprints"]) == {"training", "test"}


SMALL: dict[str, Any] = {"backbone": "resnet8", "epochs": 1, "size": 16, "precision": "float32"}


class TestOfOneBeginning:
    @pytest.fixture(autouse=True)
    def _read_anew(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setattr(report, "write_plots", lambda runs, directory: [])
        job.read_parts.cache_clear()
        yield
        job.read_parts.cache_clear()

    @pytest.fixture
    def photos(self, tmp_path: Path) -> Path:
        images = coloured_images(classes=4, each=6)
        np.savez(tmp_path / "photos.npz", images=images.pixels, labels=images.labels)
        return tmp_path / "photos.npz"

    def run(self, photos: Path, out: Path, method: str = "initial", **changes: Any) -> Path:
        experiment = Experiment("glyphs", "quick", str(photos), changes=ProtocolChanges(**{**SMALL, **changes}))
        return run_benchmark(experiment, [method], seeds=[0], out=out, watcher=Watcher())

    def test_other_images_of_the_same_name(self, photos: Path, tmp_path: Path) -> None:
        """The results alone were kept, and the file became another."""
        directory = self.run(photos, tmp_path / "out")
        shutil.rmtree(directory / "work")
        with np.load(photos) as images:
            np.savez(photos, images=255 - images["images"], labels=images["labels"])
        job.read_parts.cache_clear()
        with pytest.raises(InputError, match="holds the work on other images: name another directory with --out"):
            self.run(photos, tmp_path / "out", "finetune")

    def test_other_weights_of_the_same_name(self, photos: Path, tmp_path: Path) -> None:
        files = [tmp_path / name / "weights.safetensors" for name in ("a", "b")]
        for seed, file in enumerate(files):
            file.parent.mkdir()
            save_file(build_backbone("resnet8", seed=seed).module.state_dict(), file)
        directory = self.run(photos, tmp_path / "out", weights=files[0])
        (run,) = read_runs(directory)
        assert list(run["network"]["weights"]) == ["weights"]
        with pytest.raises(InputError, match=r"other weights than .*b/weights\.safetensors: name another directory"):
            self.run(photos, tmp_path / "out", weights=files[1])
        shutil.rmtree(directory / "runs")
        with pytest.raises(InputError, match=r"work that began with other weights than .*b/weights\.safetensors"):
            self.run(photos, tmp_path / "out", weights=files[1])
        assert self.run(photos, tmp_path / "out", weights=files[0]) == directory


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("backbone", "last-stride-1/resnet18", "last-stride-1-resnet18"),
        ("evaluate", ("lfw", "a/pairs.csv"), "lfw,pairs.csv"),
        ("weights", Path("/a/b.pt"), "b.pt"),
        ("size", (256, 128), "256x128"),
    ],
)
def test_a_directory_is_one_whatever_is_in_its_name(name: str, value: Any, expected: str) -> None:
    assert runner._short(name, value) == expected


def test_a_long_name_of_a_directory_is_cut_and_stays_its_own() -> None:
    first, second = ("landmarks-paper@weights=" + "ü" * 150 + end for end in "ab")
    cut = runner._within(first)
    assert len(cut.encode()) <= runner.LONGEST_NAME
    assert cut.startswith("landmarks-paper@weights=ü")
    assert cut != runner._within(second)
    assert runner._within("landmarks-paper@dim=12") == "landmarks-paper@dim=12"


@pytest.mark.parametrize(
    ("protocol", "neck", "dim"),
    [
        ("landmarks", "none", None),
        ("faces", "bn", None),
        ("mutual-multi-task", "mlp", None),
        ("landmarks", "unit-linear", 256),
    ],
)
def test_a_neck_that_makes_no_dimension_leaves_that_of_the_backbone(protocol: str, neck: Neck, dim: int | None) -> None:
    found = PROTOCOLS[protocol].changed("paper", ProtocolChanges(neck=neck))
    assert (found.neck, found.dim) == (neck, dim)
    assert PROTOCOLS[protocol].changed("paper", ProtocolChanges(neck=neck, dim=12)).dim == 12, "asked for, and refused"


@pytest.mark.parametrize(
    ("protocol", "dim", "neck"),
    [("landmarks", 12, "linear-bn"), ("dual-tuning", 12, "linear-bn"), ("csd-cifar100", 12, "linear")],
)
def test_another_dimension_leaves_what_stands_beside_it(protocol: str, dim: int, neck: str) -> None:
    found = PROTOCOLS[protocol].changed("paper", ProtocolChanges(dim=dim))
    assert (found.dim, found.neck) == (dim, neck)


@pytest.mark.parametrize(
    ("protocol", "asked", "found"),
    [
        ("mutual-one-task", "resnet50", "resnet50.tv_in1k"),
        ("mutual-one-task", "resnet50.a1_in1k", "resnet50.a1_in1k"),
        ("dual-tuning", "last-stride-1/resnet50", "last-stride-1/resnet50.tv_in1k"),
        ("bct-imagenet", "resnet34", "resnet34"),
    ],
)
def test_a_backbone_of_a_paper_has_its_weights(protocol: str, asked: str, found: str) -> None:
    changed = PROTOCOLS[protocol].changed("paper", ProtocolChanges(backbone=asked, update_backbone=asked))
    assert (changed.backbone, changed.update_backbone) == (found, found)


def test_a_head_is_not_asked_for_in_vain(tmp_path: Path) -> None:
    """The papers' mutual distillation has no classifier."""
    with pytest.raises(
        InputError, match="without a classifier with --budget paper, so that nothing would come of --head"
    ):
        run_benchmark(
            Experiment("mutual-one-task", "paper", "cub200", changes=ProtocolChanges(head="linear")),
            ["mutual"],
            seeds=[0],
            out=tmp_path,
            watcher=Watcher(),
        )
