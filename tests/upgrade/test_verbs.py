"""Checking, promoting and looking back in a workspace: what is measured on, what is refused, and what others see meanwhile."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from conftest import coloured_images
from evergallery import Workspace
from evergallery.data.image_set import ImageSet
from evergallery.errors import BusyError, DamagedError, InputError, NotFoundError, RefusedError
from evergallery.files import LOOK_SECONDS, lock, read_json, write_json
from evergallery.generations.generation import Generation
from evergallery.holdings import embedding
from evergallery.holdings.comparing import require_compatible
from evergallery.holdings.holdings import Holdings
from evergallery.methods import Finetune
from evergallery.network import Extractor
from evergallery.searching import searching
from evergallery.training import Settings
from evergallery.upgrade import promotion
from evergallery.watching import Watcher
from shops import environment, held_out, make_photos, make_shop, vectors


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """For tests that change nothing that another could meet."""
    return make_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def shop(tmp_path: Path) -> Workspace:
    return make_shop(tmp_path)


def test_a_search_is_of_one_state(shop: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is promoted, shown and allowed while a search is under way changes nothing of it."""
    shop.check("v2", held_out())
    shop.refresh("v2")
    query = shop.embed(next((shop.directory.parent / "photos").rglob("*.png")), shop.generation("v1"))
    before = [(match.item.id, match.item.generation, match.score) for match in shop.search(query)]
    answering = searching.answering

    def promote_meanwhile(*arguments: Any) -> Generation:
        found = answering(*arguments)
        shop.promote("v2")
        return found

    monkeypatch.setattr(searching, "answering", promote_meanwhile)
    assert [(match.item.id, match.item.generation, match.score) for match in shop.search(query)] == before
    assert shop.holdings.state.promoted == "v2"
    monkeypatch.undo()
    assert {match.item.generation for match in shop.search(query)} == {shop.generation("v2").fingerprint}


def test_models_stay_loaded_and_load_once(shop: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    # One that has not indexed, and so has loaded nothing yet.
    shop = Workspace(shop.directory)
    loaded: list[str] = []
    load = Generation.embedder

    def noting(generation: Generation, device: str) -> Extractor:
        loaded.append(generation.name)
        return load(generation, device)

    monkeypatch.setattr(Generation, "embedder", noting)
    with ThreadPoolExecutor(4) as threads:
        names = ["v1", "v2", "v3"] * 20
        found = list(threads.map(lambda name: shop.holdings.loaded.embedder(shop.generation(name)), names))
    assert sorted(loaded) == ["v1", "v2", "v3"]
    assert len({id(embedder) for embedder in found}) == 3


class TestCheck:
    def test_whole_lineage(self, made: Workspace) -> None:
        found = made.check("v4", held_out(), against="all")
        assert found.generations == ("v1", "v2", "v3", "v4")
        assert len(found.matrix) == 10
        assert {pair.evidence.old: pair.verdict for pair in found.pairs}["v1"] == "compatible after an adapter"
        assert found.values()[1, 0] > 0.5 > found.values()[2, 0]

    def test_no_image_is_extracted_twice(self, made: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        images = coloured_images(classes=10, each=25, seed=31)
        first = made.check("v2", images, against="all").to_dict()
        extract = embedding._extract

        def few(holdings: Holdings, generation: Generation, asked: ImageSet, *more: Watcher) -> NDArray[np.float32]:
            assert not any(asked.hashes), "only grey pictures are looked at, to time it"
            return extract(holdings, generation, asked, *more)

        monkeypatch.setattr(embedding, "_extract", few)
        again = made.check("v2", images, against="all").to_dict()
        for result in (first, again):
            for pair in result["pairs"]:
                pair["evidence"]["time"] = ""
                for option in pair["options"]:
                    option["milliseconds"] = option["seconds"] = None
                for evidence in (*pair["routes"], *([pair["adapted"]] if pair["adapted"] else [])):
                    evidence["time"] = ""
        assert again == first

    def test_in_its_own_space_a_generation_is_measured_and_nothing_else(self, made: Workspace) -> None:
        found = made.check("v1", held_out())
        assert (list(found.matrix), found.pairs, found.passed) == ([("v1", "v1")], (), False)

    def test_without_labels_only_agreement_is_measured(self, shop: Workspace) -> None:
        images = held_out()
        unlabelled = replace(images, labels=np.full(len(images), -1), classes=())
        found = shop.check("v2", unlabelled)
        assert found.pairs == ()
        assert "without labels nobody knows" in found.verdict
        assert 0 < found.agreements[0].overlap < 1
        with pytest.raises(RefusedError, match="v2 has not been checked"):
            shop.promote("v2")

    def test_embeddings_in_place_of_images(self, shop: Workspace, tmp_path: Path) -> None:
        images = held_out()
        made = {name: shop.extract(shop.generation(name), images) for name in ("v1", "v2")}
        path = tmp_path / "held-out.npz"
        np.savez(path, labels=images.labels, v1=3 * made["v1"], v2=made["v2"])
        by_vectors, by_images = shop.check("v2", path), shop.check("v2", images)
        assert by_vectors.pairs[0].evidence.cross_change == by_images.pairs[0].evidence.cross_change
        assert shop.promote("v2")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"v2": None}, "has no array 'v2'"),
            ({"labels": np.arange(299)}, "has 300 vectors and 299 values of 'labels'"),
            ({"split": np.arange(3)}, "has 300 vectors and 3 values of 'split'"),
            ({"answers": np.full(300, "nobody")}, "None of the answers .* for instance not nobody"),
            ({"v1": np.zeros((300, 5), np.float32)}, r"'v1' of .* has shape \(300, 5\) and must have \(300, 8\)"),
            ({"v1": np.full((300, 8), np.nan, np.float32)}, "Row 0 of the array 'v1'"),
            ({"v2": np.zeros((300, 8), np.float32)}, "Row 0 of the array 'v2'"),
        ],
    )
    def test_embeddings_that_do_not_fit(
        self, made: Workspace, tmp_path: Path, change: dict[str, Any], message: str
    ) -> None:
        vectors = np.eye(8, dtype=np.float32)[np.arange(300) % 8]
        arrays: dict[str, Any] = {"labels": np.arange(300) % 10, "v1": vectors, "v2": vectors, **change}
        np.savez(tmp_path / "x.npz", **{name: array for name, array in arrays.items() if array is not None})
        with pytest.raises(InputError, match=message):
            made.check("v2", tmp_path / "x.npz")

    def test_imported_vectors_are_held_out_by_id(self, tmp_path: Path) -> None:
        """A team's own vectors: v1 is what they are, v2 a model that they would like to use."""
        photos = make_photos(tmp_path / "photos", each=25)
        files = sorted(photos.rglob("*.png"))
        space = Workspace.create(tmp_path / "shop", backbone="resnet8", size=16)
        space.register("models:worn", size=16)
        stored = np.stack([space.embed(path, space.promoted) for path in files])
        team = Workspace.create(tmp_path / "team", backbone="resnet8", size=16)
        (team.directory / "gate.toml").write_text("queries = 200\ncross_test = -40\n")
        np.savez(tmp_path / "vectors.npz", embeddings=stored, ids=np.array([f"sku-{path.stem}" for path in files]))
        assert team.import_vectors(tmp_path / "vectors.npz").added == 250
        team.register("models:better", size=16)
        rows = "\n".join(f"{path},{path.parent.name},sku-{path.stem}" for path in files[:240])
        (tmp_path / "held-out.csv").write_text(f"path,label,item_id\n{rows}\n{files[240]},class 9,never-stored\n")
        found = team.check("v2", tmp_path / "held-out.csv")
        assert found.pairs[0].evidence.queries == 240, "what has no vector cannot be measured"
        assert found.verdict.startswith("compatible")
        assert team.promote("v2")
        assert len(team.search(str(files[0]), k=300)) == 250

    @pytest.mark.parametrize("content", [b"PK\x03\x04 cut short", b"no archive at all", b""])
    def test_damaged_file_of_embeddings(self, made: Workspace, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(
            InputError, match=r"x.npz cannot be read as an .npz file of plain arrays \(File is not a zip"
        ):
            made.check("v2", tmp_path / "x.npz")

    def test_unknown_generation(self, made: Workspace) -> None:
        with pytest.raises(NotFoundError, match="no generation 'v9'; there is v1, v2, v3, v4"):
            made.check("v9", held_out())
        with pytest.raises(NotFoundError, match="no adapter 'a9'"):
            made.check("v2", held_out(), against="a9")

    def test_images_of_other_sizes_must_be_files(self, shop: Workspace) -> None:
        shop.register("models:better", size=8)
        with pytest.raises(InputError, match="images of different sizes: give the held-out images as files"):
            shop.check("v5", held_out(), against="v1")
        photos = make_photos(shop.directory.parent / "held-out", each=25, seed=5)
        assert shop.check("v5", photos, against="v1").pairs[0].evidence.queries == 250


class TestTrainingImages:
    """Images that a generation has learned from say nothing of it."""

    @pytest.fixture
    def learned(self, tmp_path: Path) -> Workspace:
        space = Workspace.create(tmp_path / "shop", backbone="resnet8", size=16)
        settings = Settings(epochs=1, batch_size=16, precision="float32", device="cpu", validation_fraction=0)
        space.learn(coloured_images(classes=5, each=4), settings=settings)
        space.learn(coloured_images(classes=5, each=4, first=5), method=Finetune(), settings=settings)
        return space

    def test_are_left_out_and_counted(self, learned: Workspace) -> None:
        from evergallery.data.image_set import concatenate

        seen = [coloured_images(classes=5, each=4), coloured_images(classes=5, each=4, first=5)]
        fresh = coloured_images(classes=10, each=6, seed=3)
        both = learned.check("v2", concatenate([*seen, fresh]), against="v1")
        assert both.excluded == 40
        assert both.pairs[0].evidence.excluded == 40
        alone = learned.check("v2", fresh, against="v1")
        assert alone.excluded == 0
        np.testing.assert_allclose(both.values(), alone.values())

    def test_alone_are_refused(self, learned: Workspace) -> None:
        with pytest.raises(InputError, match=r"nothing is left to search .* \(20 were learned from\)"):
            learned.check("v2", coloured_images(classes=5, each=4), against="v1")


class TestPromotion:
    def test_evidence_of_another_model_of_the_same_name_is_none(self, shop: Workspace) -> None:
        shop.check("v2", held_out())
        path = shop.directory / "checks" / "v2-in-v1.json"
        content = read_json(path)
        content["direct"]["fingerprints"][0] = "f" * 64
        write_json(path, content)
        with pytest.raises(RefusedError, match="v2 has not been checked"):
            shop.promote("v2")

    def test_gate_is_asked_again_when_its_policy_changes(self, shop: Workspace) -> None:
        shop.check("v2", held_out())
        (shop.directory / "gate.toml").write_text("queries = 100000\n")
        with pytest.raises(RefusedError, match="NOT MET: queries: 300, required at least 100000"):
            shop.promote("v2")

    def test_force_is_recorded_with_what_had_refused_it(self, shop: Workspace) -> None:
        shop.check("v3", held_out())
        shop.promote("v3", force=True, why="the shop is closed anyway")
        entry = shop.log()[-1]
        assert (entry["operation"], entry["forced"], entry["why"]) == ("promote", True, "the shop is closed anyway")
        assert "NOT MET: cross-test" in entry["refused"]
        assert shop.holdings.state.promotions[-1]["why"] == "the shop is closed anyway"

    def test_empty_gallery_asks_for_nothing(self, tmp_path: Path) -> None:
        space = Workspace.create(tmp_path / "shop", backbone="resnet8", size=16)
        space.register("models:worn", size=16)
        space.register("models:turned", size=16)
        done = space.promote("v2")
        assert list(done) == []
        assert done.judged == "nothing, because the gallery is empty, so that no answer can become worse"
        assert space.holdings.state.promotions[-1]["judged"] == space.log()[-1]["judged"] == done.judged

    def test_a_check_counts_even_while_the_gallery_is_empty(self, tmp_path: Path) -> None:
        space = Workspace.create(tmp_path / "shop", backbone="resnet8", size=16)
        space.register("models:better", size=16)
        space.register("models:worn", size=16)
        space.check("v2", held_out())
        with pytest.raises(RefusedError, match="NOT MET: self-test"):
            space.promote("v2")

    def test_alone_against_what_answers_however_much_was_refreshed(self, shop: Workspace) -> None:
        """A search would need no pair of spaces any more, and the generation is worse."""
        shop.check("v2", held_out())
        shop.promote("v2")
        shop.refresh("v2")
        shop.commit()
        shop.refresh("v1")
        with pytest.raises(RefusedError, match="v1 has not been checked against v2, which answers .* --against v2"):
            shop.promote("v1")
        shop.check("v1", held_out())
        with pytest.raises(RefusedError, match="NOT MET: self-test: .* alone, against v2 alone"):
            shop.promote("v1")
        assert shop.promoted.name == "v2"
        done = shop.promote("v1", force=True, why="v2 is withdrawn")
        assert done.refused
        assert "NOT MET: self-test" in done.refused
        assert shop.status().forced == "v2 is withdrawn"
        assert shop.rollback() == "v2"
        assert shop.status().forced is None

    def test_alone_and_every_route_are_judged_and_recorded(self, shop: Workspace) -> None:
        shop.check("v3", held_out())
        shop.refresh("v3", fraction=0.5)
        with pytest.raises(RefusedError, match="NOT MET: cross-test"):
            shop.promote("v3")
        shop.refresh("v3")
        done = shop.promote("v3")
        assert {condition.name for _, condition in done} == {"queries", "self-test"}
        assert done.judged == "v3 alone against v1 alone"
        assert shop.holdings.state.promotions[-1]["judged"] == shop.log()[-1]["judged"] == done.judged
        assert "v3 alone against v1 alone" in str(shop.holdings.state.promotions[-1]["why"])

    def test_a_check_passes_where_the_promotion_passes(self, shop: Workspace) -> None:
        """One rule: what a refresh in the shadow has made unnecessary is asked for by neither."""
        for share in (None, 0.5, 1.0):
            if share is not None:
                shop.refresh("v3", fraction=share)
            found = shop.check("v3", held_out())
            assert found.passed is not bool(shop.judge("v3").failed)
            assert found.passed is (share == 1.0)
            asked = {condition.name for condition in found.pairs[0].conditions}
            assert ("cross-test" in asked) is (share != 1.0)
        shop.promote("v3")

    def test_a_check_of_spaces_that_no_promotion_compares_asks_for_everything(self, shop: Workspace) -> None:
        conditions = shop.check("v3", held_out(), against="v2").pairs[0].conditions
        assert {condition.name for condition in conditions} == {"queries", "self-test", "cross-test", "negative flips"}

    def test_a_refusal_names_the_next_command(self, shop: Workspace) -> None:
        shop.check("v3", held_out())
        with pytest.raises(RefusedError, match="Alone it passes: run  evergallery refresh v3  , whose vectors wait"):
            shop.promote("v3")
        shop.check("v3", coloured_images(classes=10, each=10, seed=7))
        with pytest.raises(
            RefusedError, match="run  evergallery check v3 --data HELD_OUT  again with more held-out images"
        ):
            shop.promote("v3")

    def test_a_newer_check_that_fails_withdraws_the_evidence(self, shop: Workspace) -> None:
        shop.refresh("v3")
        shop.check("v3", held_out())
        assert not shop.judge("v3").failed
        images = held_out()
        made = shop.extract(shop.generation("v1"), images)
        noise = np.random.default_rng(0).normal(size=made.shape).astype(np.float32)
        np.savez(shop.directory.parent / "bad.npz", labels=images.labels, v1=made, v3=noise)
        shop.check("v3", shop.directory.parent / "bad.npz")
        with pytest.raises(RefusedError, match="NOT MET: self-test"):
            shop.promote("v3")

    def test_promoting_what_answers_already_changes_nothing(self, shop: Workspace) -> None:
        shop.check("v2", held_out())
        shop.promote("v2")
        before, entries = shop.holdings.state.model_dump(), len(shop.log())
        for force in (False, True):
            done = shop.promote("v2", force=force, why="to be sure" if force else None)
            assert (done.changed, str(done)) == (False, "v2 answers queries already: nothing was changed.")
        assert (shop.holdings.state.model_dump(), len(shop.log())) == (before, entries)
        assert shop.rollback() == "v1"

    def test_the_way_back_past_promotions_that_changed_nothing(self, shop: Workspace) -> None:
        """As older versions recorded them."""
        shop.check("v2", held_out())
        shop.promote("v2")
        path = shop.directory / "workspace.json"
        content = read_json(path)
        content["promotions"] += 2 * [{**content["promotions"][-1], "before": "v2"}]
        write_json(path, content)
        assert shop.rollback() == "v1"
        assert len(shop.holdings.state.promotions) == 1

    def test_what_changes_while_it_is_judged_is_not_promoted(
        self, shop: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shop.check("v2", held_out())
        shop.check("v3", held_out())
        allowed = require_compatible

        def meanwhile(*arguments: Any) -> None:
            monkeypatch.undo()
            shop.promote("v3", force=True, why="came between")
            allowed(*arguments)

        monkeypatch.setattr(promotion, "require_compatible", meanwhile)
        with pytest.raises(BusyError, match="changed while v2 was judged"):
            shop.promote("v2")
        assert shop.promoted.name == "v3"

    def test_state_is_kept_for_one_at_a_time_and_the_holder_is_named(
        self, shop: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shop.check("v2", held_out())
        monkeypatch.setattr("evergallery.holdings.holdings.WAIT", 0.1)
        with lock(shop.directory / ".lock", "another promotion"):
            with pytest.raises(BusyError, match=rf"in use: process {os.getpid()} \(another promotion\)"):
                shop.promote("v2")
            assert shop.promoted.name == "v1", "readers are not blocked"
        assert shop.promote("v2")


SWITCHING = """
import sys, time
from pathlib import Path
from evergallery.files import lock
from evergallery.holdings.state import PromotionReason, State

path = Path(sys.argv[1]) / "workspace.json"
go = path.with_name("go")
print("ready", flush=True)
while not go.exists():
    time.sleep(0.01)
count = 0
while not path.with_name("enough").exists():
    with lock(path.with_name(".lock"), "switching", wait=120):
        state = State.read(path)
        if state.promoted == "v1":
            state.promote("v3", PromotionReason("test"), fingerprint=state.refresh.fingerprint)
        else:
            state.roll_back()
        state.write(path)
    count += 1
print(count)
"""
READING = """
import sys, time
from pathlib import Path
from evergallery.holdings.state import State

path = Path(sys.argv[1]) / "workspace.json"
go = path.with_name("go")
print("ready", flush=True)
while not go.exists():
    time.sleep(0.01)
seen = {"v1": 0, "v3": 0}
while min(seen.values()) < 20:
    state = State.read(path)
    # The vectors that are shown are those that the promoted generation can search: never one without the other.
    assert state.refresh.shown == (state.promoted == "v3"), state
    assert ("r1" in state.view().shown) == (state.promoted == "v3"), state
    assert len(state.promotions) == (2 if state.promoted == "v3" else 1), state
    seen[state.promoted] += 1
print(min(seen.values()))
"""


def test_readers_see_the_old_state_or_the_new_one_and_never_a_blend(shop: Workspace) -> None:
    """Two processes switch to and fro as fast as they can, two read: model and vectors change together."""
    shop.refresh("v3")
    shop.close()
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(shop.directory)], stdout=subprocess.PIPE, env=environment())
        for code in (SWITCHING, SWITCHING, READING, READING)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    (shop.directory / "go").touch()
    try:
        read = [int(process.communicate(timeout=120)[0]) for process in processes[2:]]
    finally:
        (shop.directory / "enough").touch()
    switched = [int(process.communicate(timeout=120)[0]) for process in processes[:2]]
    assert all(process.returncode == 0 for process in processes)
    assert min(read) >= 20, "readers saw both states"
    assert sum(switched) > 0
    assert shop.doctor() == []


HOLDING = """
import sys
from pathlib import Path
from evergallery import Workspace

shop = Workspace(Path(sys.argv[1]))
shop.gallery
print("open", flush=True)
sys.stdin.read()
"""


def test_status_waits_for_nobody_and_names_who_runs(shop: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.close()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(shop.directory)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(),
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    slept: list[float] = []
    sleep = time.sleep
    with monkeypatch.context() as patched:

        def noting(seconds: float) -> None:
            slept.append(seconds)
            sleep(seconds)

        patched.setattr(time, "sleep", noting)
        status = shop.status()
    assert sum(slept) < 2 * LOOK_SECONDS
    assert status.spaces is None
    assert status.running == (f"process {process.pid} (using the gallery)",)
    with pytest.raises(BusyError, match=rf"process {process.pid} \(using the gallery\)"):
        shop.index(shop.directory.parent / "photos")
    # What needs no gallery goes on: the check says that it compares with the promoted one alone.
    assert shop.check("v2", held_out()).passed
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()
    assert shop.status().running == ()
    assert len(vectors(shop)) == 200


class TestLooking:
    def test_log_tells_everything_that_was_done(self, shop: Workspace) -> None:
        shop.check("v2", held_out())
        shop.promote("v2")
        shop.refresh("v2", fraction=0.1)
        shop.rollback()
        entries = shop.log()
        assert [entry["operation"] for entry in entries] == [
            *["register"] * 4, "index", "check", "promote", "refresh", "rollback",
        ]  # fmt: skip
        assert all("@" in entry["who"] and entry["time"] for entry in entries)
        assert entries[5]["verdict"] == "compatible"
        assert entries[7]["refreshed"] == 20

    def test_diff_names_what_differs(self, made: Workspace) -> None:
        found = made.diff("v1", "v4")
        assert found["dimension"] == (8, 12)
        assert found["method.parameters.model"] == ("models:worn", "models:wide")
        assert "created" not in found
        assert made.diff("v1", "v1") == {}

    def test_card_edited_by_hand_is_refused_with_its_path(self, shop: Workspace) -> None:
        path = shop.directory / "generations" / "v0002" / "card.json"
        path.write_text(path.read_text().replace('"dimension": 8', '"dimension": 9'))
        with pytest.raises(DamagedError, match=r"v0002/card.json was altered"):
            shop.check("v2", held_out())
        assert any("card.json was altered" in problem for problem in shop.doctor())

    def test_older_state_is_read_and_a_copy_is_kept(self, shop: Workspace) -> None:
        path = shop.directory / "workspace.json"
        content = read_json(path)
        for name in ("scales", "refresh", "refreshes", "committed", "discarded"):
            del content[name]
        write_json(path, {**content, "format": 1})
        shop.check("v2", held_out())
        shop.promote("v2")
        assert json.loads(path.read_text())["format"] == 2
        assert json.loads((shop.directory / "workspace.format-1.json").read_text())["promoted"] == "v1"


class TestCalibration:
    def test_probability_is_kept_by_pair_and_filters(self, shop: Workspace) -> None:
        query = str(shop.directory.parent / "photos" / "class 3" / "060.png")
        assert all(match.probability is None for match in shop.search(query))
        with pytest.raises(RefusedError, match="No check has measured how probable a match in the vectors of v1 is"):
            shop.search(query, minimum_probability=0.5)
        shop.check("v2", held_out())
        shop.promote("v2")
        found = shop.search(query, k=200)
        probabilities = [match.probability for match in found if match.probability is not None]
        assert len(probabilities) == len(found)
        assert probabilities == sorted(probabilities, reverse=True)
        likely = shop.search(query, k=200, minimum_probability=0.3)
        assert [match.item.id for match in likely] == [
            match.item.id for match in found if (match.probability or 0) >= 0.3
        ]
        assert 0 < len(likely) < 200
        with pytest.raises(InputError, match="between 0 and 1"):
            shop.search(query, minimum_probability=1.0)

    def test_one_ranking_over_two_spaces_goes_by_probability(self, shop: Workspace) -> None:
        shop.check("v2", held_out())
        shop.promote("v2")
        shop.refresh("v2", fraction=0.5)
        query = str(shop.directory.parent / "photos" / "class 3" / "060.png")
        found = shop.search(query, k=200)
        assert len({match.item.generation for match in found}) == 2
        probabilities = [match.probability or 0 for match in found]
        assert probabilities == sorted(probabilities, reverse=True)
        scores = [match.score for match in found]
        assert scores != sorted(scores, reverse=True), "cosines of two pairs have no common scale"
