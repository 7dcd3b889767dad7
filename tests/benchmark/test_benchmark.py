"""Benchmark runs: shared, resumed, measured; tables from result files whose figures are known."""

import ast
import copy
import itertools
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import forked
from conftest import MessageRecorder, coloured_images, evergallery
from evaluation_toys import TOYS, make_toy
from evergallery import Workspace
from evergallery.benchmark import contenders, job, lineage, protocols, report, runner
from evergallery.benchmark.contenders import BASELINE, BOUND, OWN, Contender, baseline_of
from evergallery.benchmark.further_tables import evaluated_markdown
from evergallery.benchmark.job import Experiment
from evergallery.benchmark.known_data import described
from evergallery.benchmark.measures import LineageEmbeddings, measures_of
from evergallery.benchmark.parts import parts_of
from evergallery.benchmark.protocol import BenchmarkProtocol, Budget, ProtocolChanges, TrainingPlan, is_reported
from evergallery.benchmark.protocols import PROTOCOLS
from evergallery.benchmark.report import write_report
from evergallery.benchmark.runner import run_benchmark
from evergallery.benchmark.tables import COLUMNS, compare, read_runs, summary
from evergallery.data.evaluation_sets import EVALUATION_SETS, evaluation_set
from evergallery.data.images import Preprocessing
from evergallery.data.sources import load
from evergallery.data.tasks import Tasks, equal_groups
from evergallery.errors import InputError
from evergallery.evaluation import Protocol, measure
from evergallery.generations.generation import Generation
from evergallery.learning.networks import start_network
from evergallery.methods import CSD, METHODS, Mutual
from evergallery.network import HeadKind, Network, build_backbone, outputs_of
from evergallery.retrieval.refresh_curve import random_order
from evergallery.training import Settings
from evergallery.watching import Watcher
from published_toys import make_published
from shops import make_photos


def test_a_folder_of_images_takes_the_place_of_a_set_that_is_made_on_the_spot(tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "photos", each=4)
    glyphs = PROTOCOLS["glyphs"]
    found = glyphs.parts(str(folder), glyphs.budgets["quick"], tmp_path / "cache", Watcher()).images
    assert all(uri.startswith(str(folder)) for uri in found.uris)
    assert Experiment("glyphs", "quick", str(folder)).image_name == "photos"
    assert Experiment("glyphs", "quick").image_name == "glyphs"
    assert Experiment("cl2r-cifar100", "quick", str(tmp_path)).image_name == "cifar100"


@pytest.fixture
def plots() -> None:
    """For tests that look at the plots of a table, or at what they are drawn from."""


@pytest.fixture(autouse=True)
def _plots_take_longer_than_the_runs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are drawn for those who ask for them."""
    if "plots" not in request.fixturenames:
        monkeypatch.setattr(report, "write_plots", lambda runs, directory: [])


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A protocol of three tasks of two classes that runs in seconds, on images in a file."""
    images = coloured_images(classes=6, each=12)
    np.savez(tmp_path / "tiny.npz", images=images.pixels, labels=images.labels)
    common: dict[str, Any] = {"batch_size": 16, "padding": 1, "precision": "float32", "device": "cpu"}
    plan = TrainingPlan(Settings(epochs=2, **common), Settings.update(epochs=1, **common), 16)
    protocol = BenchmarkProtocol(
        name="tiny",
        shows="nothing but that it runs",
        data=None,
        tasks=lambda classes, seed: equal_groups(classes, 3, seed),
        budgets={"quick": plan, "standard": plan, "paper": plan},
        backbone="resnet8",
    )
    monkeypatch.setitem(PROTOCOLS, "tiny", protocol)
    job.read_parts.cache_clear()
    return str(tmp_path / "tiny.npz")


def halves_of_six(classes: Sequence[str], seed: int) -> Tasks:
    return equal_groups(classes, 2, seed)


def run(tiny: str, out: Path, methods: list[str], seeds: int = 1) -> Path:
    return run_benchmark(Experiment("tiny", data=tiny), methods, seeds=range(seeds), out=out, watcher=Watcher())


def results(directory: Path) -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in (directory / "runs").glob("*.json")}


def begin_the_second_seed_late(begun: job.BenchmarkJob) -> None:
    """Learn a first generation; that of the second seed when the first one has a result."""
    until = time.monotonic() + 60
    while begun.seed == 1 and not list((begun.directory / "runs").glob("*-seed0.json")):
        if time.monotonic() > until:
            raise TimeoutError("No run of the first seed was done before the second seed's first generation.")
        time.sleep(0.05)
    lineage.first_generation(begun, Watcher())


def count(path: Path) -> None:
    """Work for a long time, and say so again and again."""
    for number in range(2400):
        path.write_text(str(number))
        time.sleep(0.05)


def count_side_by_side(path: Path) -> None:
    with ProcessPoolExecutor(1, get_context("fork"), runner._work_with, (1,)) as pool:
        pool.submit(count, path).result()


class TestRuns:
    @pytest.mark.usefixtures("plots")
    def test_every_kind_of_contender(self, tiny: str, tmp_path: Path) -> None:
        directory = run(
            tiny, tmp_path / "out", ["initial", "finetune", "csd", "evergreen", "joint", "procrustes", "csd+drift"]
        )
        found = results(directory)
        names = ("initial", "finetune", "csd", "evergreen", "joint", "finetune+procrustes", "csd+drift")
        assert set(found) == {f"{name}-seed0" for name in names}
        # One first generation for all: the first cell of the matrix is the same.
        assert len({run["measures"]["compatibility"]["all"]["recall@1"][0][0] for run in found.values()}) == 1
        for result in found.values():
            matrix = result["measures"]["compatibility"]["all"]["recall@1"]
            assert [[value is None for value in row] for row in matrix] == [[g > q for g in range(3)] for q in range(3)]
            assert result["phases"][0]["phase"] == "task 1 (shared)"
        fine, adapted = (found[name]["measures"]["compatibility"]["all"]["recall@1"] for name in
                         ("finetune-seed0", "finetune+procrustes-seed0"))  # fmt: skip
        # An adapter changes what one generation finds in another's vectors, and nothing else.
        assert [fine[i][i] for i in range(3)] == [adapted[i][i] for i in range(3)]
        assert fine[2][0] != adapted[2][0]
        assert found["joint-seed0"]["given"] == ["old images"]
        assert found["evergreen-seed0"]["given"] == ["parent's weights", "parent network", "first network"]
        assert found["joint-seed0"]["phases"][2]["images"] > found["csd-seed0"]["phases"][2]["images"]
        initial = found["initial-seed0"]["measures"]
        assert initial["derived"]["negative flips"] == 0
        assert initial["compatibility"]["all"]["recall@1"][2][0] == initial["compatibility"]["all"]["recall@1"][0][0]

    def test_virtual_features_are_compared_with_real_ones(self, tiny: str, tmp_path: Path) -> None:
        found = results(run(tiny, tmp_path / "out", ["mutual"]))["mutual-seed0"]["measures"]
        assert set(found["virtual"]) == {"v1", "v2"}
        first = found["virtual"]["v1"]["clamped"]
        matrix = found["compatibility"]["all"]["recall@1"]
        assert first["recall_real"] == pytest.approx(matrix[0][0], abs=1e-6)
        assert set(found["virtual"]["v1"]) == {"inner", "clamped", "gaussian"}
        assert -1 <= first["cosine"] <= 1

    def test_finished_runs_are_kept_and_an_interrupted_one_goes_on(
        self, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        learned: list[str] = []
        original = Workspace.learn

        def counting(self: Any, *arguments: Any, **options: Any) -> Generation:
            generation = original(self.holdings, *arguments, **options)
            learned.append(f"{self.directory.name}:{generation.name}")
            if learned[-1] == "finetune:v2" and len(learned) == 2:
                raise KeyboardInterrupt
            return generation

        monkeypatch.setattr(Workspace, "learn", counting)
        with pytest.raises(KeyboardInterrupt):
            run(tiny, tmp_path / "out", ["finetune", "csd"])
        assert learned == ["initial:v1", "finetune:v2"]
        run(tiny, tmp_path / "out", ["finetune", "csd"])
        assert learned == ["initial:v1", "finetune:v2", "finetune:v3", "csd:v2", "csd:v3"]
        run(tiny, tmp_path / "out", ["finetune", "csd"])
        assert len(learned) == 5

    @pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU adds up in another order each time")
    def test_a_seed_gives_the_same_figures_again(self, tiny: str, tmp_path: Path) -> None:
        first, second = (results(run(tiny, tmp_path / name, ["csd"]))["csd-seed0"] for name in ("a", "b"))
        assert first["measures"] == second["measures"]

    def test_every_generation_begins_with_new_weights_of_its_own(
        self, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Equal weights to begin with would leave spaces alike that have nothing else in common."""
        begun: dict[str, list[Network]] = {}
        method = ""

        def start(*arguments: Any, **options: Any) -> Network:
            network = start_network(*arguments, **options)
            begun.setdefault(method, []).append(copy.deepcopy(network))
            return network

        def rows(network: Network, name: str) -> set[bytes]:
            return {row.numpy().tobytes() for row in network.state_dict()[name].flatten(1)}

        monkeypatch.setattr("evergallery.learning.networks.start_network", start)
        for method in ("joint", "cores", "mutual", "finetune"):
            run(tiny, tmp_path / method, [method])
        # Mutual distillation trains a second network beside each of its two updates.
        _, _, peer, _, another = begun["mutual"]
        weights = [name for name, tensor in peer.named_parameters() if tensor.ndim > 1]
        assert len(weights) == 8
        for alone in (begun["joint"], [begun["mutual"][0], peer, another]):
            for left, right in itertools.combinations(alone, 2):
                assert not any(rows(left, name) & rows(right, name) for name in weights)
        for left, right in itertools.combinations(begun["cores"], 2):
            # Its corners are the same for ever; all else is not.
            assert not any(rows(left, name) & rows(right, name) for name in weights if name != "head.weight")
        first, second, third = (rows(network, "head.weight") for network in begun["finetune"])
        assert len(first | second | third) == 2 + 4 + 6, "trained rows go on changed, and new ones are new"

    @pytest.mark.parametrize(
        ("methods", "message"),
        [
            (["nothing"], "No method is called 'nothing': choose one of initial, finetune"),
            (["csd+nothing"], "No adapter is called 'nothing': choose one of"),
            (["csd+"], "No adapter is called '': choose one of"),
            (["initial+linear"], r"has nothing to map: .*leave \+linear out, or name finetune\+linear"),
            (["csd@logit_weight=1@logit_weight=2"], "gives a hyper-parameter twice"),
            (["mutual@supporting=pretrained"], "which no package has of resnet8: name a file of them with --weights"),
            ([], "Nothing is to be run: name a method"),
        ],
    )
    def test_unknown_names(self, tiny: str, tmp_path: Path, methods: list[str], message: str) -> None:
        with pytest.raises(InputError, match=message):
            run(tiny, tmp_path, methods)

    @pytest.mark.usefixtures("plots")
    @pytest.mark.parametrize("methods", [["initial"], ["procrustes"]])
    def test_a_table_of_few_methods_has_its_plots(self, tiny: str, tmp_path: Path, methods: list[str]) -> None:
        page = write_report(run(tiny, tmp_path, methods))
        assert len(list(page.parent.glob("*.svg"))) == 5

    def test_what_a_protocol_does_not_admit_is_refused_before_anything_is_trained(self, tmp_path: Path) -> None:
        for name, reason in (("csd", "compares coordinates"), ("finetune+drift", "maps between spaces")):
            with pytest.raises(InputError, match=f"{reason}.* from 512 dimensions to 2048: leave it out of --methods"):
                run_benchmark(Experiment("bct-imagenet"), ["initial", name], seeds=[0], out=tmp_path, watcher=Watcher())
        watcher = MessageRecorder()
        with pytest.raises(InputError, match="images of your own"):
            run_benchmark(Experiment("bct-imagenet"), seeds=[0], out=tmp_path, watcher=watcher)
        assert watcher.heard == ["csd is left out, as this protocol does not admit it"]
        assert Contender.named("cores").misfit(PROTOCOLS["bct-imagenet"]) is None
        assert Contender.named("csd").misfit(PROTOCOLS["dual-tuning"]) is None
        arcface = Contender.named("dual-tuning@loss=arcface")
        assert arcface.misfit(PROTOCOLS["glyphs"]) is None
        misfit = arcface.misfit(PROTOCOLS["glyphs"].changed("quick", ProtocolChanges(head="linear")))
        assert misfit is not None
        assert "learns with a head of kind 'cosine'" in misfit

    def test_a_second_network_begins_with_weights_that_are_to_be_had(self) -> None:
        mutual, photographs = Contender.named("mutual@supporting=pretrained"), PROTOCOLS["mutual-multi-task"]
        for changes in (ProtocolChanges(backbone="resnet18"), ProtocolChanges(weights=Path("a.pt"))):
            assert mutual.misfit(photographs.changed("standard", changes)) is None
        other = photographs.changed("standard", ProtocolChanges(backbone="resnet18", update_backbone="bn-inception"))
        assert "which no package has of bn-inception" in (mutual.misfit(other) or "")

    def test_a_simplex_keeps_batch_norm_where_the_protocol_has_it(
        self, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It sets the dimension, and needs a neck that makes it."""
        monkeypatch.setitem(PROTOCOLS, "tiny", replace(PROTOCOLS["tiny"], neck="bn"))
        for method, expected in (("cores", ("linear-bn", 5)), ("finetune", ("bn", None))):
            one = job.BenchmarkJob(Experiment("tiny", data=tiny), Contender(method), 0, tmp_path)
            built, _ = lineage.network_of(one, (("a", "b"), ("c", "d", "e", "f")))
            assert (built.neck, built.dimension) == expected

    def test_images_that_cannot_be_used_leave_no_results(self, tiny: str, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"There is no .*nowhere\.npz"):
            run(str(tmp_path / "nowhere.npz"), tmp_path / "out", ["initial"])
        few = coloured_images(classes=2, each=4)
        np.savez(tmp_path / "few.npz", images=few.pixels, labels=few.labels)
        with pytest.raises(InputError, match="2 classes cannot be split into 3 tasks"):
            run(str(tmp_path / "few.npz"), tmp_path / "out", ["initial"])
        assert not list((tmp_path / "out").glob("*/runs"))

    def test_images_that_cannot_be_read_are_counted_and_named(self, tiny: str, tmp_path: Path) -> None:
        photos = make_photos(tmp_path / "photos", each=4)
        lost = min(photos.glob("*/*"))
        lost.write_bytes(b"no picture")
        watcher = MessageRecorder()
        protocol = PROTOCOLS["tiny"]
        found = protocol.parts(str(photos), protocol.budgets["quick"], tmp_path / "cache", watcher)
        (said,) = watcher.heard
        assert f"images of {photos} are left out, the first is {lost}: " in said
        assert found.words.endswith(", images that are junk or cannot be read left out: 1")

    def test_data_of_ones_own_are_asked_for(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="'mutual-one-task' runs on images of your own: name them with --data"):
            run_benchmark(Experiment("mutual-one-task"), ["initial"], seeds=[0], out=tmp_path, watcher=Watcher())


def chain(tasks: int = 3, seed: int = 0) -> LineageEmbeddings:
    images = coloured_images(classes=6, each=5)
    draw = np.random.default_rng(seed)
    vectors = [draw.normal(size=(30, 8)).astype(np.float32) for _ in range(tasks)]
    return LineageEmbeddings(
        images, equal_groups(images.classes, tasks),
        [vector / np.linalg.norm(vector, axis=1, keepdims=True) for vector in vectors],
    )  # fmt: skip


class TestChanges:
    def test_networks_may_be_others_and_results_lie_apart(self, tiny: str, tmp_path: Path) -> None:
        weights = tmp_path / "weights.safetensors"
        save_file(build_backbone("resnet32", seed=7).module.state_dict(), weights)
        changes = ProtocolChanges(backbone="resnet32", dim=12, head="unit-rows", weights=weights, epochs=1, ks=(2, 4))
        directory = run_benchmark(
            Experiment("tiny", data=tiny, changes=changes),
            ["finetune", "joint"],
            seeds=[0],
            out=tmp_path / "out",
            watcher=Watcher(),
        )
        assert directory.name == (
            "tiny-standard@backbone=resnet32@dim=12@head=unit-rows@weights=weights.safetensors@epochs=1@ks=2,4"
        )
        found = results(directory)
        network = found["joint-seed0"]["network"]
        assert (network["backbone"], network["dim"], network["neck"]) == ("resnet32", 12, "linear")
        assert found["joint-seed0"]["settings"]["first"]["epochs"] == 1
        cross = found["joint-seed0"]["measures"]["cells"]["cross"]
        assert {"recall@1", "recall@2", "recall@4", "recall@5", "recall@10"} <= set(cross)
        generations = Workspace(directory / "work" / "seed0" / "joint").generations()
        assert {generation.architecture.backbone for generation in generations} == {"resnet32"}
        page = write_report(directory).read_text()
        assert "| method | self R@1 | self R@2 | self R@4 | self R@5 | self R@10 | self mAP@R | cross R@1 |" in page
        assert "R@k, share of queries with a positive among the k nearest items; mAP@R, mean average precision" in page
        assert "--backbone resnet32 --dim 12 --head unit-rows --weights" in page
        assert "--epochs 1 --ks 2,4" in page

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (ProtocolChanges(neck="thick"), "--neck 'thick' is not usable: it is one of none, linear"),  # type: ignore[arg-type]
            (ProtocolChanges(head="round"), "--head 'round' is not usable: it is one of linear"),  # type: ignore[arg-type]
            (ProtocolChanges(epochs=0), "--epochs 0 is not usable"),
            (ProtocolChanges(precision="int3"), "--precision 'int3' is not usable"),  # type: ignore[arg-type]
            (ProtocolChanges(backbone="resnet20", dim=12, neck="bn"), "use neck 'linear'"),
            (ProtocolChanges(backbone="bn-inception", pretrained=True, size=64), "--weights FILE"),
            (
                ProtocolChanges(backbone="resnet20", pretrained=True),
                "resnet20 has no published weights: .* --from-scratch",
            ),
            (ProtocolChanges(weights=Path("nowhere.safetensors")), "no file nowhere"),
            (
                ProtocolChanges(backbone="vit_tiny_patch16_224"),
                "vit_tiny_patch16_224 cannot take images of .* another --size",
            ),
            (ProtocolChanges(size=(32, 1)), "A random shift by 1 pixels leaves nothing .* 1 on their shorter side"),
            (ProtocolChanges(update_backbone="vit_tiny_patch16_224"), "vit_tiny_patch16_224 cannot take images of"),
            (
                ProtocolChanges(pretrained=False, weights=Path("a.pt")),
                "--from-scratch begins with new weights: leave --weights",
            ),
        ],
    )
    def test_what_cannot_be_had_is_refused_before_anything_is_read(
        self, tiny: str, tmp_path: Path, changes: ProtocolChanges, message: str
    ) -> None:
        with pytest.raises(InputError, match=message):
            run_benchmark(
                Experiment("tiny", data="nowhere", changes=changes),
                ["initial"],
                seeds=[0],
                out=tmp_path,
                watcher=Watcher(),
            )
        assert not list(tmp_path.glob("tiny-*"))

    @pytest.mark.parametrize("method", [name for name, kind in METHODS.items() if kind.needs.fixed])
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (ProtocolChanges(dim=12), "sets --dim itself: leave out --dim 12, or leave {} out of --methods"),
            (ProtocolChanges(head="cosine"), "sets --head itself: leave out --head cosine"),
            (ProtocolChanges(neck="none"), "sets the dimension itself, and --neck none makes no other one"),
            (ProtocolChanges(neck="mlp"), "sets the dimension itself, and --neck mlp makes no other one"),
        ],
    )
    def test_what_a_method_sets_itself_is_not_asked_for_in_vain(
        self, tiny: str, tmp_path: Path, method: str, changes: ProtocolChanges, message: str
    ) -> None:
        experiment = Experiment("tiny", data=tiny, changes=changes)
        with pytest.raises(InputError, match=message.format(method)):
            run_benchmark(experiment, ["initial", method], seeds=[0], out=tmp_path / "out", watcher=Watcher())
        assert not (tmp_path / "out").exists()

    def test_every_option_of_a_network_arrives_where_it_is_admitted(self, tiny: str, tmp_path: Path) -> None:
        """Of every method and generation: what learns has what was asked for, or nothing learns."""
        asked: dict[str, tuple[Any, ...]] = {
            "dim": (12,), "head": get_args(HeadKind), "neck": ("linear", "linear-bn"), "backbone": ("resnet20",),
        }  # fmt: skip
        for name, values in asked.items():
            for value in values:
                changes = ProtocolChanges(**{"backbone": "resnet8", name: value})
                experiment = Experiment("tiny", data=tiny, changes=changes)
                for method, kind in METHODS.items():
                    contender = Contender(method)
                    if contender.misfit(experiment.definition, changes) is not None:
                        assert name in kind.needs.fixed or kind.needs.head is None
                        continue
                    one = job.BenchmarkJob(experiment, contender, 0, tmp_path)
                    built, head = lineage.network_of(one, one.tasks(one.parts(Watcher()).images))
                    found = {"dim": built.dimension, "neck": built.neck, "head": head, "backbone": built.backbone}
                    assert found[name] == value, (method, name)

    def test_a_head_without_a_place_for_all_classes_is_refused_before_the_first_one_learns(
        self, tiny: str, tmp_path: Path
    ) -> None:
        changes = ProtocolChanges(head="simplex", dim=4)
        with pytest.raises(InputError, match="corners for 5 classes and not for 6"):
            run_benchmark(
                Experiment("tiny", data=tiny, changes=changes),
                ["finetune"],
                seeds=[0],
                out=tmp_path / "out",
                watcher=Watcher(),
            )
        assert not (tmp_path / "out").exists()

    def test_a_place_of_named_sets_is_not_given_in_vain(self, tiny: str, tmp_path: Path) -> None:
        for protocol, data in (("tiny", tiny), ("glyphs", None), ("csd-cifar100", str(tmp_path))):
            with pytest.raises(InputError, match="--data-dir says where named sets lie, and nothing that is read here"):
                run_benchmark(
                    Experiment(protocol, "quick", data, tmp_path),
                    ["initial"],
                    seeds=[0],
                    out=tmp_path / "out",
                    watcher=Watcher(),
                )
        assert Experiment("tiny", data="CUB200", data_dir=tmp_path).reads_data_dir
        assert Experiment("glyphs", data_dir=tmp_path, changes=ProtocolChanges(evaluate=("lfw",))).reads_data_dir
        assert Experiment("csd-cifar100", data_dir=tmp_path).reads_data_dir

    def test_results_of_other_images_are_not_taken_for_these(self, tiny: str, tmp_path: Path) -> None:
        run(tiny, tmp_path / "out", ["initial"])
        with pytest.raises(
            InputError, match=r"holds results of other images \(.*tiny.npz\): name another directory with --out"
        ):
            run("other.npz", tmp_path / "out", ["initial"])

    def test_runs_side_by_side_share_their_first_generations(
        self, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file for each run, a first generation for each seed and head, and one lineage with and without an adapter."""
        # Processes that share as little with this one, and have everything loaded.
        monkeypatch.setattr(runner, "get_context", {"spawn": forked.CONTEXT}.__getitem__)
        rows = ["initial", "finetune+procrustes", "finetune", "cores"]
        changes = ProtocolChanges(neck="linear", epochs=1, precision="float32")
        directory = run_benchmark(
            Experiment("glyphs", "quick", tiny, changes=changes),
            rows,
            seeds=[0, 1],
            out=tmp_path,
            processes=2,
            watcher=Watcher(),
        )
        runs = read_runs(directory)
        wanted = [(row, seed) for row in rows for seed in (0, 1)]
        assert sorted((run["method"], run["seed"]) for run in runs) == sorted(wanted)
        for seed in (0, 1):
            work = directory / "work" / f"seed{seed}"
            first = [Workspace(work / name).generation("v1").fingerprint for name in ("initial", "finetune")]
            assert len(set(first)) == 1
            assert Workspace(work / "cores").generation("v1").fingerprint not in first
        assert {run["threads"] for run in runs} == {max(1, torch.get_num_threads() // 2)}

    def test_runs_do_not_wait_for_the_first_generations_of_other_seeds(
        self, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(runner, "get_context", {"spawn": forked.CONTEXT}.__getitem__)
        monkeypatch.setattr(runner, "_begin", begin_the_second_seed_late)
        directory = run_benchmark(
            Experiment("glyphs", "quick", tiny, changes=ProtocolChanges(epochs=1, precision="float32")),
            ["initial"],
            seeds=[0, 1],
            out=tmp_path,
            processes=2,
            watcher=Watcher(),
        )
        assert sorted(run["seed"] for run in read_runs(directory)) == [0, 1]

    def test_nobody_works_for_a_benchmark_that_was_killed(self, tmp_path: Path) -> None:
        path = tmp_path / "count"
        benchmark = forked.CONTEXT.Process(target=count_side_by_side, args=(path,))
        benchmark.start()
        until = time.monotonic() + 60
        while not path.is_file() and time.monotonic() < until:
            time.sleep(0.05)
        assert path.is_file()
        benchmark.kill()
        benchmark.join()
        time.sleep(1)
        reached = path.read_text()
        time.sleep(1)
        assert path.read_text() == reached

    def test_unfinished_work_on_other_images_is_not_gone_on_with(
        self, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Killed before the first result: its first generation would be that of other images."""

        def killed(*given: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(runner, "lineage_embeddings", killed)
            with pytest.raises(KeyboardInterrupt):
                run(tiny, tmp_path / "out", ["initial"])
        (directory,) = (tmp_path / "out").iterdir()
        assert not list((directory / "runs").iterdir())
        images = load(tiny, Preprocessing(size=16))
        np.savez(tmp_path / "other.npz", images=255 - images.pixels[images.rows], labels=images.labels)
        with pytest.raises(InputError, match="holds the work on other images: name another directory with --out"):
            run(str(tmp_path / "other.npz"), tmp_path / "out", ["initial"])
        assert len(list((run(tiny, tmp_path / "out", ["initial"]) / "runs").iterdir())) == 1

    def test_what_a_paper_s_budget_asks_of_methods(self) -> None:
        mutual, dual, bct = (
            PROTOCOLS[name].changed("paper", ProtocolChanges())
            for name in ("mutual-one-task", "dual-tuning", "bct-imagenet")
        )
        # Classifiers alone, for rivals and for the old model too.
        for protocol in (dual, bct):
            assert not protocol.triplets
            assert Contender.named("joint").method(protocol).triplet_margin == -2  # type: ignore[union-attr]
        assert Contender.named("mutual").method(mutual).weighting == "inner"  # type: ignore[union-attr]
        assert Contender.named("relation").method(mutual).loss == "hard-mining"  # type: ignore[union-attr]
        for changes, begins in ((ProtocolChanges(), "pretrained"), (ProtocolChanges(pretrained=False), "scratch")):
            found = PROTOCOLS["mutual-one-task"].changed("paper", changes)
            assert Contender.named("mutual").method(found).supporting == begins  # type: ignore[union-attr]

    @pytest.mark.parametrize(("budget", "loss"), [("standard", None), ("paper", "hard-mining")])
    def test_where_the_first_generation_has_no_classifier_nobody_learns_from_its_scores(
        self, budget: Any, loss: str | None
    ) -> None:
        protocol = PROTOCOLS["mutual-one-task"].changed(budget, ProtocolChanges())
        assert baseline_of(protocol).loss == loss
        assert Contender.named("joint").method(protocol).loss == loss  # type: ignore[union-attr]
        for name, method in METHODS.items():
            reason = Contender.named(name).misfit(protocol)
            if method.needs.old_head == "never":
                assert reason is None
            else:
                assert (reason is not None) == (loss is not None)
                assert reason is None or "learns without a classifier" in reason

    def test_a_first_generation_by_metric_learning(self, tmp_path: Path) -> None:
        """Of the paper's budget on a toy, by its loss alone."""
        make_published("cub200", tmp_path, classes=4, each=4)
        run_benchmark(
            Experiment(
                "mutual-one-task",
                "paper",
                "cub200",
                tmp_path,
                ProtocolChanges(backbone="resnet8", dim=8, pretrained=False, epochs=2, size=16),
            ),
            ["initial", "finetune", "mutual", "joint"],
            seeds=[0],
            out=tmp_path / "out",
            watcher=Watcher(),
        )
        for row in ("initial", "finetune", "mutual", "joint"):
            (workspace,) = (tmp_path / "out").glob(f"mutual-one-task-paper@data=cub200@*/work/seed0/{row}")
            found = Workspace(workspace).generations()
            assert [one.card.method.parameters["loss"] for one in found] == ["hard-mining"] * len(found)
            # Where no classifier learns, the old rows of its head stay as they began, and so they do in whoever goes on.
            heads = [one.network().head.weight for one in found]
            assert row == "joint" or all(torch.equal(head[:2], heads[0]) for head in heads)

    def test_the_published_old_model_of_a_set_that_lies_in_its_folder(self, tmp_path: Path) -> None:
        root = make_published("market1501", tmp_path, classes=4, each=4)
        cases: list[tuple[str, Budget, int]] = [
            ("market1501", "paper", 3), (str(root), "paper", 3), ("market1501", "quick", 2),
        ]  # fmt: skip
        for data, budget, first in cases:
            one = job.BenchmarkJob(
                Experiment("dual-tuning", budget, data, tmp_path, ProtocolChanges(size=16)),
                Contender.named("initial"), seed=1, directory=tmp_path / "out",
            )  # fmt: skip
            tasks = one.tasks(one.parts(Watcher()).images)
            assert [len(task) for task in tasks] == [first, 4]
            if budget == "paper":
                assert tasks[0] == ("0001", "0201", "0401")
        with pytest.raises(InputError, match="below 600, which are 0 of 2 here: give the whole set"):
            PROTOCOLS["dual-tuning"].tasks_of("paper", "market1501")(("0701", "0801"), 0)
        images = PROTOCOLS["dual-tuning-images"]
        assert images.tasks_of("paper", "market1501") is images.tasks, "all identities, fewer images"

    @pytest.mark.usefixtures("plots")
    def test_an_old_model_of_all_identities_has_a_bound_too(self, tmp_path: Path) -> None:
        """Nothing is new in the second task but the network."""
        make_published("dukemtmc", tmp_path, classes=4, each=4)
        directory = run_benchmark(
            Experiment(
                "dual-tuning",
                budget="paper",
                data="dukemtmc",
                data_dir=tmp_path,
                changes=ProtocolChanges(
                    backbone="resnet20", update_backbone="resnet8", pretrained=False, epochs=1, size=16
                ),
            ),
            ["finetune", "joint"],
            seeds=[0],
            out=tmp_path / "out",
            watcher=Watcher(),
        )
        runs = read_runs(directory)
        assert {run["method"] for run in runs} == {"finetune", "joint"}
        for run in runs:
            assert run["data"]["tasks"] == [4, 4]
            assert (run["network"]["fit"], run["network"]["interpolation"]) == ("stretch", "bicubic")
            # The other backbone begins anew.
            assert run["given"] == (["old images"] if run["method"] == "joint" else [])

    def test_a_file_of_weights_serves_the_supporting_network_too(
        self, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "resnet8.safetensors"
        given = {name: tensor.clone() for name, tensor in build_backbone("resnet8", seed=5).module.state_dict().items()}
        save_file(given, path)
        begun: list[dict[str, torch.Tensor]] = []
        original = Mutual.begin

        def begin(self: Mutual, task: Any) -> Any:
            state = original(self, task)
            backbone = state.supporting.embedder.backbone
            begun.append({name: tensor.clone() for name, tensor in backbone.state_dict().items()})
            return state

        monkeypatch.setattr(Mutual, "begin", begin)
        run_benchmark(
            Experiment("tiny", data=tiny, changes=ProtocolChanges(weights=path)),
            ["mutual@supporting=pretrained"],
            seeds=[0],
            out=tmp_path / "out",
            watcher=Watcher(),
        )
        assert len(begun) == 2
        for found in begun:
            assert all(torch.equal(found[name], tensor) for name, tensor in given.items())

    def test_an_old_model_without_triplets_learns_by_its_classifier_alone(
        self, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(PROTOCOLS, "tiny", replace(PROTOCOLS["tiny"], triplets=False))
        directory = run(tiny, tmp_path / "out", ["l2"])
        for number in (1, 2):
            card = Workspace(directory / "work" / "seed0" / "l2").generation(f"v{number}").card
            assert card.method.parameters["triplet_margin"] == -2

    def test_another_backbone_has_weights_of_its_own_and_what_stands_behind_it(
        self, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(
            PROTOCOLS, "tiny",
            replace(PROTOCOLS["tiny"], update_backbone="resnet32", dim=12, neck="linear-bn", tasks=halves_of_six),
        )  # fmt: skip
        files = {name: tmp_path / f"{name}.safetensors" for name in ("resnet8", "resnet32")}
        given = {name: build_backbone(name, seed=5).module.state_dict() for name in files}
        for name, path in files.items():
            save_file(given[name], path)
        begun: list[Network] = []

        def start(*arguments: Any, **options: Any) -> Network:
            network = start_network(*arguments, **options)
            begun.append(copy.deepcopy(network))
            return network

        monkeypatch.setattr("evergallery.learning.networks.start_network", start)
        alone = ProtocolChanges(weights=files["resnet8"])
        both = ProtocolChanges(weights=files["resnet8"], update_weights=files["resnet32"])
        with pytest.raises(
            InputError, match="that of resnet8 with --weights and that of resnet32 with --update-weights"
        ):
            run_benchmark(
                Experiment("tiny", data=tiny, changes=alone), ["l2"], seeds=[0], out=tmp_path, watcher=Watcher()
            )
        assert not begun
        directory = run_benchmark(
            Experiment("tiny", data=tiny, changes=both),
            ["l2", "cores"],
            seeds=[0],
            out=tmp_path / "out",
            watcher=Watcher(),
        )
        assert len(begun) == 4
        for network, name in zip(begun, [*files] * 2, strict=True):
            found = network.embedder.backbone.state_dict()
            assert all(torch.equal(found[key], one) for key, one in given[name].items())
        for method, dimension in (("l2", 12), ("cores", 5)):
            for one in Workspace(directory / "work" / "seed0" / method).generations():
                assert (one.card.dimension, one.architecture.neck) == (dimension, "linear-bn")
            said = results(directory)[f"{method}-seed0"]["network"]
            assert (said["dim"], said["neck"]) == (dimension, "linear-bn")
            assert (said["head"] == "simplex") == (method == "cores")
        assert "update_weights=resnet32.safetensors" in directory.name

    def test_more_images_of_the_same_classes(self, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        twice = replace(PROTOCOLS["tiny"], tasks=protocols.all_twice, overlapping=True, first_share=0.5)
        monkeypatch.setitem(PROTOCOLS, "tiny", twice)
        directory = run(tiny, tmp_path / "out", ["initial", "finetune", "replay", "joint"])
        work = directory / "work" / "seed0"
        # Of 12 images of each of six classes 4 are tested on; half of the others come first.
        numbers = {
            method: [one.card.data["images"] for one in Workspace(work / method).generations()]
            for method in ("finetune", "replay", "joint")
        }
        assert numbers == {name: [24, 48] for name in numbers}
        first, last = (set(one.card.classes) for one in Workspace(work / "joint").generations())
        assert first == last
        found = results(directory)["joint-seed0"]["measures"]
        assert set(found["compatibility"]) == {"old", "all"}
        assert found["compatibility"]["old"] == found["compatibility"]["all"]
        assert "| joint |" in write_report(directory).read_text()

    def test_one_backbone_that_is_asked_for_is_that_of_all_updates(self) -> None:
        found = PROTOCOLS["bct-imagenet"].changed("quick", ProtocolChanges(backbone="resnet34"))
        assert (found.backbone, found.update_backbone) == ("resnet34", None)
        assert Contender.named("csd").misfit(found) is None

    def test_photographs_are_of_classes_that_nothing_was_developed_on(self) -> None:
        known = json.loads((Path(__file__).parents[2] / "benchmarks" / "photographs_classes.json").read_text())
        for name in ("grocery", "cifar100"):
            assert all(is_reported(name, label) for label in known[name]["report"])
            assert not any(is_reported(name, label) for label in known[name]["development"])
        assert PROTOCOLS["photos-grocery-reversed"].tasks(("a", "b", "c", "d"), 0) == (("d", "c"), ("b", "a"))


class TestSplits:
    """Published splits are kept: what is asked for is never learned from."""

    @pytest.fixture
    def shop(self, tmp_path: Path) -> Path:
        """Six identities to learn; four others asked for under camera 1 and found under 2, a distractor in the gallery."""
        images = coloured_images(classes=11, each=12)
        rows = ["path,label,split,camera"]
        for index, label in enumerate(images.labels.tolist()):
            Image.fromarray(images.pixels[index]).save(tmp_path / f"{index}.png")
            camera = 1 + index % 2
            split = "train" if label < 6 else "gallery" if label == 10 or camera == 2 else "query"
            rows.append(f"{index}.png,{images.classes[label]},{split},{camera}")
        (tmp_path / "shop.csv").write_text("\n".join(rows))
        return tmp_path / "shop.csv"

    def test_queries_and_gallery_are_not_learned_from(
        self, tiny: str, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Large enough to gain by old images, without which there is no P_comp.
        monkeypatch.setitem(PROTOCOLS, "tiny", replace(PROTOCOLS["tiny"], backbone="resnet20"))
        directory = run(str(shop), tmp_path / "out", ["initial", "finetune", "joint"])
        found = results(directory)["finetune-seed0"]
        assert (found["data"]["training"], found["data"]["test"]) == (72, 60)
        assert found["data"]["split"] == "learned from its split 'train', tested on 'query' in 'gallery'"
        assert found["data"]["tasks"] == [2, 2, 2]
        assert found["options"] == {"data": str(shop)}
        assert found["precision"] == "float32"
        cells = found["measures"]["cells"]
        assert cells["cross"]["queries"] == 24, "every query has its identity under the other camera"
        assert set(found["measures"]["compatibility"]) == {"unseen", "all"}
        assert found["measures"]["derived"]["average recall"] is None
        learned = Workspace(directory / "work" / "seed0" / "finetune").generations()[-1].card.classes
        assert set(learned) == {f"class {number}" for number in range(6)}
        page = write_report(directory).read_text()
        assert "queries in the gallery, without images of the query's own identity and camera" in page
        assert "--data" in page
        heads = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| method |")]
        main, _, ranks, rates = (set(head) for head in heads[:4])
        assert {"P_up", "P_comp", "old rate 50"} <= main
        assert {"self R@1", "self mAP", "self mINP", "cross mINP"} <= ranks
        assert {"old rate 100", "old rate 50"} <= rates

    def test_a_named_set_is_run_from_where_it_lies(self, tiny: str, tmp_path: Path) -> None:
        root = tmp_path / "Market-1501"
        images = coloured_images(classes=8, each=12)
        for index, label in enumerate(images.labels.tolist()):
            folder = "bounding_box_train" if label < 6 else "query" if index % 2 else "bounding_box_test"
            path = root / folder / f"{label:04d}_c{1 + index % 2}s1_{index:06d}_00.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images.pixels[index]).save(path)
        directory = run_benchmark(
            Experiment("tiny", data="market1501", data_dir=tmp_path),
            ["initial", "l2"],
            seeds=[0],
            out=tmp_path / "out",
            watcher=Watcher(),
        )
        found = results(directory)["l2-seed0"]
        assert found["data"]["set"] == "market1501"
        assert (found["data"]["training"], found["data"]["test"]) == (72, 24)
        assert f"--data market1501 --data-dir {tmp_path}" in write_report(directory).read_text()
        # Its own folder is known by what lies in it, and a part of it is not split again.
        alone = PROTOCOLS["tiny"].parts(str(root), PROTOCOLS["tiny"].budgets["quick"], tmp_path / "cache", Watcher())
        assert alone.images.fingerprint() == found["data"]["fingerprint"]
        for part in ("bounding_box_train", "query"):
            with pytest.raises(InputError, match="a part of the set 'market1501', whose split is published: name all"):
                run_benchmark(
                    Experiment("tiny", data=str(root / part)),
                    ["initial"],
                    seeds=[0],
                    out=tmp_path / part,
                    watcher=Watcher(),
                )

    @pytest.mark.usefixtures("plots")
    def test_pairs_templates_and_landmarks_are_measured_beside_the_test_part(self, tiny: str, tmp_path: Path) -> None:
        for name in TOYS:
            make_toy(name, tmp_path)
        directory = run_benchmark(
            Experiment("tiny", data=tiny, data_dir=tmp_path, changes=ProtocolChanges(evaluate=tuple(EVALUATION_SETS))),
            ["initial", "finetune", "procrustes", "joint"],
            seeds=[0],
            out=tmp_path / "out",
            watcher=Watcher(),
        )
        found = {name: run["measures"]["evaluated"] for name, run in results(directory).items()}
        assert all(set(figures) == set(EVALUATION_SETS) for figures in found.values())
        untouched = found["initial-seed0"]
        assert all(figures["old self"] == figures["new self"] == figures["cross"] for figures in untouched.values())
        fine, adapted = found["finetune-seed0"], found["finetune+procrustes-seed0"]
        assert [figures["new self"] for figures in fine.values()] == [
            figures["new self"] for figures in adapted.values()
        ]
        # The vectors of the files themselves, with no cache between.
        work = directory / "work" / "seed0"
        first, last = (Workspace(work / "finetune").generation(name) for name in ("v1", "v3"))
        for name in EVALUATION_SETS:
            chosen = evaluation_set(name, tmp_path)
            images = chosen.images(first.preprocessing, None)
            old, new = (
                torch.from_numpy(Workspace(work / "finetune").extract(generation, images, keep=False))
                for generation in (first, last)
            )
            if chosen.by_length:
                old, new = (
                    rows * outputs_of(one.network(), images, one.preprocessing).features.norm(dim=1, keepdim=True)
                    for rows, one in ((old, first), (new, last))
                )
            assert fine[name]["cross"] == pytest.approx(chosen.figures(new, old))
        page = write_report(directory).read_text()
        assert "lfw accuracy self" in page
        assert "--evaluate lfw,ijb-c,ijb-c-weighted,roxford5k,rparis6k,gldv2-retrieval" in page
        experiment = Experiment("tiny", data=tiny, data_dir=tmp_path, changes=ProtocolChanges(evaluate=("lfw",)))
        pairs, image = tmp_path / "lfw/pairs.txt", tmp_path / "lfw/lfw-deepfunneled/Bob_B/Bob_B_0003.jpg"
        for path, message in ((image, "1 of 6 images of lfw cannot be read"), (pairs, r"lacks pairs\.txt")):
            path.unlink()
            with pytest.raises(InputError, match=message):
                run_benchmark(experiment, ["l2"], seeds=[0], out=tmp_path / "other", watcher=Watcher())
        assert not any((tmp_path / "other").rglob("generations")), "nothing was trained"

    def test_cameras_and_gallery_are_those_of_the_set(self, shop: Path) -> None:
        images = load(shop, Preprocessing(size=16))
        parts = parts_of(images, "shop")
        test = parts.images.select(np.flatnonzero(parts.images.split != "train"))
        draw = np.random.default_rng(0).normal(size=(len(test), 4)).astype(np.float32)
        vectors = draw / np.linalg.norm(draw, axis=1, keepdims=True)
        found = measures_of(LineageEmbeddings(test, (("class 0", "class 1"), ("class 10",)), [vectors, vectors]))[
            "cells"
        ]["new self"]["recall@1"]
        assert test.cameras is not None
        hits = []
        for query in np.flatnonzero(test.split == "query"):
            among = np.flatnonzero(
                (test.split == "gallery")
                & ~((test.labels == test.labels[query]) & (test.cameras == test.cameras[query]))
            )
            nearest = among[np.argmax(vectors[among] @ vectors[query])]
            hits.append(test.labels[nearest] == test.labels[query])
        assert found == pytest.approx(np.mean(hits))

    def test_learning_takes_no_class_that_is_only_asked_for(self, shop: Path, tmp_path: Path) -> None:
        settings = {"epochs": 1, "batch_size": 16, "device": "cpu", "precision": "float32"}
        card = Workspace.create(tmp_path / "w", backbone="resnet8", size=16).learn(shop, settings=settings).card
        assert set(card.classes) == {f"class {number}" for number in range(6)}

    @pytest.mark.parametrize(
        ("splits", "message"),
        [
            (["query", "train"], "has a split 'query' alone"),
            (["test", "val"], "one of them must be 'train'"),
            (["a", "b", "test"], "has the splits a, b, test: one of them must be 'train'"),
        ],
    )
    def test_splits_that_say_half_are_refused(self, splits: list[str], message: str) -> None:
        images = replace(coloured_images(4, 12), split=np.resize(np.array(splits), 48))
        with pytest.raises(InputError, match=message):
            parts_of(images, "x.csv")

    def test_a_small_share_leaves_two_of_each_class_to_find_each_other(self) -> None:
        images = coloured_images(classes=5, each=12)
        found = parts_of(images, "five", held_out=0.1).images
        assert [int((found.labels[found.split == "test"] == label).sum()) for label in range(5)] == [2] * 5

    def test_classes_of_few_images_are_learned_from_and_not_tested_on(self) -> None:
        """A set of many thousand classes has some of one, two or three images."""
        images = coloured_images(classes=4, each=5)
        few = images.select(np.array([*range(5), 5, 6, 7, 10, 11, 15]))
        parts = parts_of(few, "few", held_out=0.3)
        found = {
            name: np.bincount(parts.images.of_split(name).labels, minlength=4).tolist() for name in ("train", "test")
        }
        assert found == {"train": [3, 3, 2, 0], "test": [2, 0, 0, 0]}
        assert parts.words.endswith(
            "held out here, classes of fewer than 4 images not tested on: 2, images that are alone in their class left out: 1"
        )
        with pytest.raises(
            InputError, match="few has no class of 4 readable images: 2 are learned from and 2 are held out"
        ):
            parts_of(few.select(np.arange(5, 11)), "few")

    def test_what_is_tested_on(self) -> None:
        images = coloured_images(4, 12)
        for splits, tested in ((["train", "val"], "val"), (["train", "val", "test"], "test"), (["train"], None)):
            parts = parts_of(replace(images, split=np.resize(np.array(splits), 48)), "x.csv")
            if tested is None:
                assert "30 % of each class held out here" in parts.words
            else:
                assert f"tested on {tested!r}" in parts.words
                assert parts.images.split is not None
                assert np.count_nonzero(parts.images.split == "test") == 48 // len(splits)
        assert (
            "'val' left out"
            in parts_of(replace(images, split=np.resize(np.array(["train", "val", "test"]), 48)), "").words
        )


class TestMeasures:
    def test_matrices_hold_what_a_direct_measurement_gives(self) -> None:
        run = chain()
        found = measures_of(run)
        everything = np.arange(30)
        cell = measure(
            Protocol(run.test, everything, everything, ""), run.embeddings[2], run.embeddings[1], run.tasks[0]
        )
        for group in ("old", "new", "all"):
            assert found["compatibility"][group]["recall@1"][2][1] == pytest.approx(cell[group].recall[1], abs=1e-6)
            assert found["compatibility"][group]["mAP@R"][2][1] == pytest.approx(cell[group].map_at_r, abs=1e-6)
        flips = found["derived"]
        old, cross = (found["cells"][name]["recall@1"] for name in ("old self", "cross"))
        assert flips["positive flips"] - flips["negative flips"] == pytest.approx(cross - old)

    def test_own_and_pooled_galleries(self) -> None:
        run = chain(tasks=2)
        # Each class at a place of its own: nothing is confused. Then the second task's classes move onto the first's.
        centres = np.eye(8, dtype=np.float32)[run.test.labels]
        onto = np.eye(8, dtype=np.float32)[run.test.labels % 3]
        found = measures_of(replace(run, embeddings=[centres, onto]))["continual"]
        assert found["own gallery"]["recall@1"] == [[1.0, None], [1.0, 1.0]]
        assert found["pooled gallery"]["recall@1"][1][0] < 1 or found["pooled gallery"]["recall@1"][1][1] < 1

    def test_refresh_curve_ends_at_the_cross_test_and_the_self_test(self) -> None:
        found = measures_of(chain(tasks=2))
        assert found["refresh"]["recall@1"][0] == pytest.approx(found["cells"]["cross"]["recall@1"])
        assert found["refresh"]["recall@1"][-1] == pytest.approx(found["cells"]["new self"]["recall@1"])

    def test_vectors_of_another_width_are_refreshed_too(self) -> None:
        """Half of the old vectors replaced: each beside the query in its own width, by hand."""
        one = chain(tasks=2)
        old, wider = one.embeddings[0], chain(tasks=2, seed=5).embeddings[1]
        wider = (np.concatenate([wider, old[::-1]], axis=1) / np.sqrt(2)).astype(np.float32)
        narrow = wider[:, :8] / np.linalg.norm(wider[:, :8], axis=1, keepdims=True)
        found = measures_of(replace(one, embeddings=[old, wider]))
        curve = found["refresh"]["recall@1"]
        assert curve[0] == pytest.approx(found["cells"]["cross"]["recall@1"])
        assert curve[-1] == pytest.approx(found["cells"]["new self"]["recall@1"])
        replaced = np.isin(np.arange(30), random_order(30, seed=0)[:15].numpy())
        scores = np.where(replaced, wider @ wider.T, narrow @ old.T)
        np.fill_diagonal(scores, -np.inf)
        labels = one.test.labels
        assert curve[2] == pytest.approx(np.mean(labels[scores.argmax(axis=1)] == labels))

    def test_classes_of_no_task_are_a_group_of_their_own(self) -> None:
        run = chain(tasks=3)
        closed = measures_of(replace(run, tasks=run.tasks[:2], embeddings=run.embeddings[:2]))["compatibility"]
        assert set(closed) == {"old", "new", "all", "unseen"}
        seen = run.test.of_classes([name for task in run.tasks[:2] for name in task])
        rows = np.flatnonzero(run.test.labels < 4)
        assert len(seen) == len(rows) == 20
        alone = measures_of(LineageEmbeddings(seen, run.tasks[:2], [vectors[rows] for vectors in run.embeddings[:2]]))
        # Images of classes that no task has are in nobody else's gallery.
        assert alone["compatibility"] == {group: closed[group] for group in ("old", "new", "all")}
        others = np.flatnonzero(run.test.labels >= 4)
        cell = measure(Protocol(run.test, others, others, ""), run.embeddings[1], run.embeddings[0], ())["all"]
        assert closed["unseen"]["recall@1"][1][0] == pytest.approx(cell.recall[1], abs=1e-6)

    def test_another_width_is_cut_or_padded(self) -> None:
        run = chain(tasks=2)
        wider = np.concatenate([run.embeddings[0], np.ones((30, 4), np.float32)], 1)
        found = measures_of(replace(run, embeddings=[run.embeddings[0], wider]))
        assert found["cells"]["cross"]["recall@1"] == found["cells"]["old self"]["recall@1"]


def fake(method: str, seed: int, cross: float, self_: float = 0.8, commit: str = "abc") -> dict[str, Any]:
    matrix = {"recall@1": [[0.6, None], [cross, self_]], "mAP@R": [[0.1, None], [0.1, 0.1]]}
    derived = {"average recall": 0.5, "forgetting": -0.01, "AM": 0.5, "AC": 0.0, "negative flips": 0.1}
    hardware = {"processor": "P", "cores": 2, "device": "cpu"}
    phase = {"phase": "task", "seconds": 10.0, "memory_mib": {"host": 100.0}}
    return {
        "format": 2, "protocol": "tiny", "budget": "quick", "shows": "x", "method": method, "seed": seed, "given": [],
        "commit": commit, "hardware": hardware, "data": {"classes": 4, "tasks": [2, 2], "training": 10, "test": 10},
        "phases": [phase, phase, phase],
        "measures": {
            "compatibility": dict.fromkeys(("old", "new", "all"), matrix), "derived": derived,
            "refresh": {"shares": [0, 1], "recall@1": [cross, self_], "area": 0.5},
            "continual": {"pooled gallery": {"recall@1": [[0.6, None], [0.5, 0.5]]}},
        },
    }  # fmt: skip


def long_life(method: str, seed: int, more: float) -> dict[str, Any]:
    """Three tasks, with the same figures for every cell but ``more``."""
    known: list[list[float | None]] = [[0.7, None, None], [0.6, 0.9, None], [0.5, 0.9, 0.9]]
    everything: list[list[float | None]] = [[0.6, None, None], [0.55, 0.7, None], [0.4, 0.65, 0.8]]

    def matrix(cells: list[list[float | None]]) -> dict[str, Any]:
        return {"recall@1": [[None if cell is None else cell + more for cell in row] for row in cells]}

    run = fake(method, seed, 0.5)
    run["data"]["tasks"] = [2, 1, 1]
    run["measures"]["compatibility"] = {"old": matrix(known), "new": matrix(everything), "all": matrix(everything)}
    run["measures"]["continual"] = {"pooled gallery": matrix(everything)}
    return run


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, runs: list[dict[str, Any]]) -> Path:
        (tmp_path / name / "runs").mkdir(parents=True)
        for run in runs:
            (tmp_path / name / "runs" / f"{run['method']}-seed{run['seed']}.json").write_text(json.dumps(run))
        return tmp_path / name

    return write


class TestTables:
    @pytest.mark.usefixtures("plots")
    def test_means_spreads_gain_and_price(self, written: Callable[..., Path]) -> None:
        directory = written("a", [fake("csd", 0, 0.5), fake("csd", 1, 0.7), fake("joint", 0, 0.01, 0.9)])
        runs = read_runs(directory)
        column = {column.title: column for column in COLUMNS}
        csd = [run for run in runs if run["method"] == "csd"]
        assert summary(csd, column["all cross"]) == pytest.approx((60, 14.1421356))
        # Only seed 0 has a joint run: (0.5 - 0.6) / (0.9 - 0.6), and 0.9 - 0.8.
        gain, price = summary(csd, column["update gain"]), summary(csd, column["price"])
        assert gain is not None
        assert price is not None
        assert [gain[0], price[0]] == pytest.approx([-1 / 3, 10])
        page = write_report(directory).read_text()
        assert "| csd |" in page
        assert "60.0 ± 14.1" in page
        assert "at commit abc" in page
        assert {path.name for path in directory.glob("*.svg")} == {"self-cross.svg", "old-new.svg", "refresh.svg"}
        lines = (directory / "table.csv").read_text().splitlines()
        assert len(lines) == 4
        assert r"60.0 $\pm$ 14.1" in (directory / "table.tex").read_text()

    @pytest.mark.usefixtures("plots")
    def test_of_several_machines_the_foot_says_which_seeds_ran_on_each(self, written: Callable[..., Path]) -> None:
        def at(run: dict[str, Any], processor: str, precision: str) -> dict[str, Any]:
            return {**run, "precision": precision, "hardware": {"processor": processor, "cores": 2, "device": "cpu"}}

        runs = [at(fake("csd", seed, 0.5), "Xeon", "bf16") for seed in (0, 1)]
        one = write_report(written("one", runs)).read_text()
        assert "at commit abc on Xeon, 2 cores, cpu, bf16." in one
        two = write_report(written("two", [at(fake("csd", 4, 0.5), "EPYC", "float32"), *runs])).read_text()
        assert "at commit abc: seeds 0, 1 on Xeon, 2 cores, cpu, bf16; seed 4 on EPYC, 2 cores, cpu, float32." in two

    def test_old_rates_run_from_the_cross_test_to_the_self_test(self, written: Callable[..., Path]) -> None:
        adapted = fake("csd+procrustes", 0, 0.55)
        adapted["measures"]["refresh"] = None
        runs = [fake("csd", 0, 0.5), fake("csd", 1, 0.7), adapted, {**fake("joint", 0, 0.5), "format": 1}]
        page = write_report(written("a", runs)).read_text().partition("Old rates:")[2]
        assert "| method | old rate 100 | old rate 0 |" in page
        assert "| csd | 60.0 | 80.0 |" in page
        assert "| csd+procrustes (one seed) | – | – |" in page
        assert "| joint (one seed) | n. m. | 80.0 |" in page, (
            "what it finds in old vectors comes from its initial weights"
        )

    def test_differences_are_shown_only_as_far_as_the_seeds_carry_them(self, written: Callable[..., Path]) -> None:
        runs = [fake("finetune", seed, 0.3 + 0.1 * seed) for seed in range(3)]
        # Always 20 points better, seed by seed; sometimes better and sometimes worse; and one seed alone.
        runs += [fake("csd", seed, 0.5 + 0.1 * seed) for seed in range(3)]
        runs += [fake("lwf", seed, 0.3 + 0.1 * seed + (-1) ** seed * 0.05) for seed in range(3)]
        page = write_report(written("a", [*runs, fake("bct", 1, 0.5)])).read_text().partition("Old rates:")[0]
        rows = {line.split(" | ")[0].strip("| "): line for line in page.splitlines() if line.startswith("| ")}
        assert rows["csd"].endswith("(+0.0 ± 0.0) | +20.0 ± 0.0 |")
        # Student's t of two degrees of freedom: 4.303 * 5.77 / sqrt(3).
        assert rows["lwf"].endswith("(+1.7 ± 14.3) |")
        assert rows["bct"].endswith("(+10.0, one seed) |")
        assert "One seed alone: bct." in page
        assert "Not run: initial, joint, finetune+procrustes." in page

    def test_runs_that_began_like_the_first_generation_have_no_cross_test(self, written: Callable[..., Path]) -> None:
        old = [{**run, "format": 1} for run in (fake("joint", 0, 0.5), fake("csd", 0, 0.45), fake("initial", 0, 0.6))]
        page = write_report(written("old", old)).read_text().partition("Old rates:")[0]
        rows = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in page.splitlines() if "|" in line}
        table = page.partition("Differences")[0]
        cells = next(line for line in table.splitlines() if line.startswith("| joint |")).split(" | ")
        # Self-tests stand, and what they say of other methods: the price of CSD is what joint has more.
        assert cells[1:7] == ["80.0", "n. m.", "80.0", "n. m.", "80.0", "n. m."]
        assert "began each generation with the first one's initial weights" in table
        assert "| csd | 80.0 | 45.0 |" in table
        assert rows["joint"][-1] == "– |"
        new = write_report(written("new", [{**run, "format": 2} for run in old])).read_text()
        assert "n. m." not in new
        long = write_report(written("long", [{**long_life("joint", 0, 0.0), "format": 1}])).read_text()
        assert "| joint (one seed) | 70.0 | – | – |" in long

    def test_runs_of_an_earlier_version_of_a_method_are_named(self, written: Callable[..., Path]) -> None:
        now = CSD().parameters()
        old = {name: value for name, value in now.items() if name != "teacher_only"}
        pages = [
            write_report(written(name, [{**fake("csd", 0, 0.5), "parameters": parameters}])).read_text()
            for name, parameters in (("now", now), ("old", old))
        ]
        remark = "so that the command gives other figures by now: csd (without teacher_only)."
        assert [remark in page for page in pages] == [False, True]
        # What came later and changes nothing where nobody asks for it is no other version.
        plain = fake("finetune", 0, 0.5)
        page = write_report(written("plain", [{**plain, "parameters": {"triplet_margin": 1.0}}])).read_text()
        assert "earlier version" not in page

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            ({"set": "x.csv", "split": "as it says", "fingerprint": "abc", "fingerprints": {"test": "d"}},
             "Data: x.csv, as it says, digest `abc`"),
            ({"set": "c.npz", "split": "", "fingerprint": "abc",
              "fingerprints": {"test": "42d9afdbe2d9503a8abba4f688df36869d708cc5d66cfdcaeeac8e1e4d145a3d"}},
             "CIFAR-100 pooled and split again, .*not the published split"),
            # The digest of all images is that of the published set too: with another test part it is not the same split.
            ({"set": "cifar100", "split": "published", "fingerprints": {"test": "other"},
              "fingerprint": "f38a312d08694ca066f8da55b162b5996291cf7a041a9a57b226cac51c32e847"},
             "Data: cifar100, published, digest `f38a312d0869`"),
        ],
    )  # fmt: skip
    def test_data_are_named_by_their_test_part(self, data: dict[str, Any], words: str) -> None:
        assert re.search(words, described(data))

    def test_comparison_is_paired_on_the_seed(self, written: Callable[..., Path]) -> None:
        three = read_runs(written("a", [fake("csd", seed, 0.5 + 0.1 * seed) for seed in range(3)]))
        two = read_runs(
            written("b", [fake("csd", seed, 0.52 + 0.1 * seed) for seed in range(3)] + [fake("lwf", 0, 0.1)])
        )
        rows = {row[1]: row for row in compare(three, two)}
        method, _, first, second, half = rows["all cross"]
        assert method == "csd"
        assert [first, second] == pytest.approx([60, 62])
        # The spread over seeds is large and that of the differences is none.
        assert half == pytest.approx(0, abs=1e-9)
        with pytest.raises(InputError, match="share no run"):
            compare(three, [run for run in two if run["method"] == "lwf"])

    def test_a_comparison_shows_a_share_as_tables_do_and_says_what_differs(self, written: Callable[..., Path]) -> None:
        first, second = fake("csd", 0, 0.5), fake("csd", 0, 0.5)
        first["measures"]["derived"]["AC"], second["measures"]["derived"]["AC"] = 0.22, 0.24
        second |= {"budget": "paper", "options": {"data": "x", "epochs": 3}}
        second["data"] = {**second["data"], "fingerprint": "abcdefghijklmn"}
        places = [str(written(name, [run])) for name, run in (("a", first), ("b", second))]
        shown = evergallery("benchmark", "compare", *places)
        found = " ".join((shown.stdout + shown.stderr).split())
        assert re.search(r"AC\W+0\.22\W+0\.24\W+0\.02 \(one seed\)", found)
        assert (
            "The two differ in budget (quick, paper), --epochs (not given, 3), images (not recorded, abcdefghijkl)."
            in found
        )
        alike = evergallery("benchmark", "compare", places[0], places[0])
        assert "differ in" not in alike.stdout + alike.stderr

    @pytest.mark.parametrize(
        ("seeds", "quantile"), [(2, 12.7062), (5, 2.7764), (11, 2.2281), (12, 2.2010), (41, 2.0211)]
    )
    def test_an_interval_is_that_of_as_many_seeds(
        self, written: Callable[..., Path], seeds: int, quantile: float
    ) -> None:
        """By Student's t with one degree of freedom less, also of more seeds than a table has."""
        levels = np.random.default_rng(seeds).random(seeds) / 4
        ones = read_runs(written("a", [fake("csd", seed, 0.5) for seed in range(seeds)]))
        others = read_runs(written("b", [fake("csd", seed, 0.5 + level) for seed, level in enumerate(levels)]))
        *_, half = next(row for row in compare(ones, others) if row[1] == "all cross")
        assert half == pytest.approx(100 * quantile * levels.std(ddof=1) / seeds**0.5, rel=1e-3)

    def test_page_of_all_results(self, written: Callable[..., Path], tmp_path: Path) -> None:
        fidelity = {
            "cosine": 0.912,
            "cosine_untouched": 0.5,
            "recall_real": 0.7,
            "recall_virtual": 0.65,
            "recall_untouched": 0.1,
        }
        mutual = fake("mutual", 0, 0.55)
        mutual["measures"]["virtual"] = {"v1": {"clamped": fidelity}}
        plain = [{**run, "protocol": "glyphs"} for run in (fake("initial", 0, 0.6, 0.6), fake("csd", 0, 0.7), mutual)]
        written("results/glyphs-standard", plain)
        written(
            "results/ablation/glyphs-standard", [{**fake("evergreen@anchor_weight=0", 0, 0.3), "protocol": "glyphs"}]
        )
        page = tmp_path / "docs" / "results.md"
        page.parent.mkdir()
        script = Path(__file__).parents[2] / "benchmarks" / "results.py"
        said = tmp_path / "said"
        process = forked.forked(said, forked.script, script, "--results", tmp_path / "results", "--page", page)
        text = forked.said_by(process, said, 540)
        assert process.exitcode == 0, text
        text = page.read_text()
        assert "| csd | 80.0 | 70.0 |" in text
        assert "| v1 | clamped | 0.912 | 0.500 | 70.0 | 65.0 | 10.0 |" in text
        assert text.index("evergreen@anchor_weight=0") > text.index("What each part of evergreen contributes")
        pictures = re.findall(r"!\[[^]]*\]\(([^)]*)\)", text)
        assert len(pictures) == 6
        assert "| csd | 1 |" in text
        # The page says of which commits the tables are and what they lack, as the files do.
        assert "All runs of a table are of one commit for [glyphs-standard](#glyphs-standard)." in text
        assert not any(words in text for words in ("several commits", "are missing for", "until they are run again"))

    def test_the_page_says_what_its_tables_lack(
        self, written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
        import results

        whole = [fake(name, 0, 0.5) for name in ("initial", "evergreen", "finetune+procrustes")]
        whole[2]["measures"]["refresh"] = None
        served, old = fake("evergreen", 0, 0.6, commit="other"), {**fake("joint", 0, 0.2), "format": 1}
        served["measures"]["refresh"] = None
        directories = [
            written("glyphs-standard", whole),
            written("glyphs-5-standard", [fake("csd", 0, 0.5), served, old]),
        ]
        told = " ".join(results.standing(directories).split())
        assert told == (
            "All runs of a table are of one commit for [glyphs-standard](#glyphs-standard). The runs of another table are of "
            "several commits, which its foot names. The refresh curve and *old rate 50* are missing for evergreen in "
            "[glyphs-5-standard](#glyphs-5-standard), because the commits of these runs did not measure them between vectors of "
            "one part and of two: see [mixed galleries](upgrades.md#mixed-galleries). Rows of `joint` have no cross-test "
            "(*n. m.*) until they are run again in [glyphs-5-standard](#glyphs-5-standard)."
        )
        seeds = results.covered(directories).splitlines()
        assert seeds[0] == "| method | [glyphs](#glyphs-standard) | [glyphs-5](#glyphs-5-standard) |"
        assert "| evergreen | 1 | 1 |" in seeds
        assert "| csd | – | 1 |" in seeds
        drawn = [
            written(name, [{**one, "data": {**one["data"], "set": "glyphs", "fingerprint": digest}}])
            for name, digest in (("a", "1"), ("b", "2"), ("c", "1"))
            for one in [fake("initial", 0, 0.5)]
        ]
        (told,) = results.other_images(drawn)
        assert told.startswith(
            "The images of `glyphs` are others in [b](#b) than in [a](#a), [c](#c), as their digests say"
        )
        for name in ("results", "claims", "common"):
            sys.modules.pop(name, None)

    @pytest.mark.usefixtures("plots")
    def test_a_long_life_is_told_update_by_update(self, written: Callable[..., Path]) -> None:
        directory = written("long", [long_life("csd", 0, 0.0), long_life("csd", 1, 0.1), long_life("lwf", 0, 0.2)])
        page = write_report(directory).read_text()
        # v1's vectors by v1, v2 and v3, mean of both seeds, on its own classes and on all of them.
        assert "| csd | 75.0 | 65.0 | 55.0 |" in page
        assert "| csd | 65.0 | 60.0 | 45.0 |" in page
        # 0.6; (0.6 + 0.55 + 0.7) / 3; (… + 0.4 + 0.65 + 0.8) / 6; each seed's and their mean.
        assert "| csd | 65.0 | 66.7 | 66.7 |" in page
        # 0.55 and 0.4 are below 0.6, 0.65 below 0.7, whatever is added to all.
        assert "| lwf (one seed) | – | 0.00 | 0.00 |" in page
        assert (directory / "updates.svg").is_file()
        # What is of one seed is told wherever it stands.
        for plot in directory.glob("*.svg"):
            shown = set(re.findall(r">([^<>]+)</text>", plot.read_text()))
            assert {"csd", "lwf (one seed)"} <= shown
            assert "lwf" not in shown
        table = (directory / "table.tex").read_text().splitlines()
        assert table[2].endswith(r"& seeds \\")
        assert {row.split()[0]: row.split()[-2] for row in table[4:6]} == {"csd": "2", "lwf": "1"}
        # A picture begins a paragraph of its own, not a last row of the table.
        assert "|\n\n![self-cross]" in page

    def test_composites_of_advbct_are_means_over_the_sets(self, written: Callable[..., Path]) -> None:
        """The published row of BCT, more data, R18 → R18: 48.02, 54.71, 51.13 from its three sets (Pan et al. 2023)."""
        sets = {
            "rparis6k": (75.45, 80.58, 77.37, 81.15),
            "roxford5k": (49.15, 56.34, 49.66, 63.85),
            "gldv2": (10.03, 14.61, 11.30, 16.48),
        }
        runs = [fake("bct", 0, 0.5), fake("joint", 0, 0.5)]
        for run, best in zip(runs, (False, True), strict=True):
            run["measures"]["evaluated"] = {
                name: {cell: {"mAP": (upper if best else value) / 100} for cell, value in
                       zip(("old self", "new self", "cross"), values, strict=True)}
                for name, (*values, upper) in sets.items()
            }  # fmt: skip
        row = next(line for line in evaluated_markdown(runs).splitlines() if line.startswith("| bct"))
        assert [cell.strip() for cell in row.split("|")][-4:-1] == ["48.0", "54.7", "51.1"]

    @pytest.mark.usefixtures("plots")
    def test_one_update_is_no_way(self, written: Callable[..., Path]) -> None:
        directory = written("short", [fake("csd", 0, 0.5)])
        assert "Update by update" not in write_report(directory).read_text()
        assert not (directory / "updates.svg").exists()

    def test_no_results(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="holds no results of a benchmark"):
            read_runs(tmp_path)


def test_names_of_contenders() -> None:
    assert Contender.named("procrustes") == Contender("finetune+procrustes")
    assert (Contender("csd+linear").base, Contender("csd+linear").adapter) == ("csd", "linear")
    assert Contender("joint").adapter is None
    tuned = Contender.named("csd@logit_weight=0@contrastive_weight=4+linear")
    assert (tuned.base, tuned.adapter) == ("csd", "linear")
    assert tuned.method(PROTOCOLS["glyphs"]) == CSD(logit_weight=0, contrastive_weight=4)
    with pytest.raises(InputError, match="'csd' has no hyper-parameter 'weight'"):
        Contender.named("csd@weight=1")
    with pytest.raises(InputError, match="logit_weight=heavy is not usable for 'csd'"):
        Contender.named("csd@logit_weight=heavy")
    with pytest.raises(InputError, match="No method is called 'initial'"):
        Contender.named("initial@weight=1")


def test_what_a_method_is_for_is_read_where_it_says_it() -> None:
    assert [BASELINE, BOUND, OWN] == ["finetune", "joint", "evergreen"]
    assert {method.adds_to for method in METHODS.values()} <= {None, *METHODS}
    for path in Path(contenders.__file__).parent.glob("*.py"):
        # A protocol of a paper may be called like its method, and its budgets have options for it.
        if path.name not in ("protocols.py", "budgets.py"):
            texts = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
            # A processor has cores, too.
            assert not texts & (set(METHODS) - {"cores"}), f"{path.name} knows a method by its name"


def test_open_set_protocol(tmp_path: Path) -> None:
    names = [f"Alphabet{index // 3}/character{index % 3}" for index in range(36)]
    images = coloured_images(classes=36, each=4)
    split = np.where(images.labels < 30, "background", "evaluation")
    np.savez(tmp_path / "o.npz", images=images.pixels, labels=images.labels, names=names, split=split)
    omniglot = PROTOCOLS["omniglot"]
    plan = replace(omniglot.budgets["quick"], size=16)
    found = omniglot.parts(str(tmp_path / "o.npz"), plan, tmp_path / "cache", Watcher()).images
    assert found.split is not None
    assert set(found.split[found.labels >= 30]) == {"unseen"}
    assert set(found.split[found.labels < 30]) == {"train", "test"}
    tasks = omniglot.tasks(names[:30], 1)
    assert len(tasks) == 4
    assert sum(map(len, tasks)) == 30
    alphabets = [{name.partition("/")[0] for name in task} for task in tasks]
    assert sum(map(len, alphabets)) == 10 == len(set.union(*alphabets)), "an alphabet is learned as a whole"
    np.savez(tmp_path / "closed.npz", images=images.pixels, labels=images.labels, names=names)
    with pytest.raises(InputError, match="need a split 'evaluation' of such classes"):
        omniglot.parts(str(tmp_path / "closed.npz"), plan, tmp_path / "cache", Watcher())


def test_ten_tasks_of_drawn_characters() -> None:
    tasks = PROTOCOLS["glyphs-10"].tasks([f"c{index}" for index in range(200)], 7)
    assert [len(task) for task in tasks] == [20] * 10
    assert tasks != PROTOCOLS["glyphs-10"].tasks([f"c{index}" for index in range(200)], 8), "the order has a seed"


def test_fashion_comes_in_five_groups() -> None:
    classes = [f"c{index}" for index in range(5 * 4238)]
    tasks = PROTOCOLS["mutual-fashion"].tasks(classes, 3)
    assert [len(task) for task in tasks] == [4238] * 5
    assert tasks[0] == tuple(classes[:4238]), "in natural order"


def test_landmarks_begin_with_three_of_ten() -> None:
    first, everything = PROTOCOLS["landmarks"].tasks([f"c{index}" for index in range(50)], 1)
    assert (len(first), len(everything)) == (15, 50)
    assert first != PROTOCOLS["landmarks"].tasks([f"c{index}" for index in range(50)], 2)[0]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_protocols_split_all_classes(name: str) -> None:
    classes = [f"alphabet{index // 10}/c{index}" for index in range(100)]
    protocol = PROTOCOLS[name]
    tasks = protocol.tasks(classes, 3)
    assert {name for task in tasks for name in task} == set(classes)
    if not protocol.overlapping:
        assert sum(map(len, tasks)) == 100
    assert protocol.plan("standard", 5).first.init_seed == 5
    assert protocols.PROTOCOLS[name] is protocol
