"""The verbs of the product, in Python: the main job, refusals, damage and kills."""

import inspect
import pydoc
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from conftest import coloured_images, short
from evergallery import Workspace
from evergallery.data.image_set import ImageSet
from evergallery.errors import BusyError, DamagedError, InputError, NotFoundError, RefusedError
from evergallery.files import lock, read_json, write_json
from evergallery.gallery.items import Filter, Item
from evergallery.generations.generation import Generation
from evergallery.holdings.verb import Creation, Verb
from evergallery.methods import CSD, CoReS, DualTuning, Finetune, Joint, Mutual, Replay
from evergallery.training import Progress, Settings
from evergallery.watching import Watcher
from forked import forked, until

Quick = Callable[..., Settings]


EASY, HARD = "queries = 1\nself_test = false\n", "queries = 1\ncross_test = 100\n"
"""Gates that let everything pass, and nothing."""


def gate(space: Workspace, policy: str) -> None:
    (space.directory / "gate.toml").write_text(policy)


def old_images() -> ImageSet:
    return coloured_images(classes=5, each=14, first=0)


def new_images() -> ImageSet:
    return coloured_images(classes=5, each=14, first=5, seed=1)


def held_out() -> ImageSet:
    return coloured_images(classes=10, each=6, seed=2)


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "shop", backbone="resnet8", size=16)


@pytest.fixture(scope="module")
def learned_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with Workspace.create(tmp_path_factory.mktemp("learned") / "shop", backbone="resnet8", size=16) as space:
        space.learn(old_images(), settings=short(epochs=3))
        space.index(held_out())
        space.learn(new_images(), method=Finetune(), settings=short(epochs=1, learning_rate=1e-2))
        return space.directory


@pytest.fixture
def learned(learned_once: Path, tmp_path: Path) -> Workspace:
    """v1 on five classes, its gallery, and v2 from the other five by fine-tuning: a copy for each test."""
    return Workspace(shutil.copytree(learned_once, tmp_path / "shop"))


def test_the_main_job(space: Workspace, quick: Quick) -> None:
    first = space.learn(old_images(), settings=quick(epochs=4))
    assert (first.name, first.card.method.name, space.promoted.name) == ("v1", "finetune", "v1")
    assert space.index(held_out()).added == 60
    stored = {item.id: item.embedding.copy() for batch in space.gallery.iterate() for item in batch}

    second = space.learn(new_images(), settings=quick(epochs=2, learning_rate=1e-4))
    assert (second.card.parent, second.card.method.name) == ("v1", "evergreen"), "what a parent is followed by"
    assert second.card.classes[:5] == first.card.classes
    assert space.promoted.name == "v1", "learning promotes nothing but the first generation"

    result = space.check("v2", held_out())
    assert next((condition.name, condition.met) for condition in result.pairs[0].conditions) == ("queries", False)
    with pytest.raises(RefusedError, match="The gate refuses v2. v1: NOT MET: queries: 60, required at least 200"):
        space.promote("v2")
    gate(space, "queries = 50\ncross_test = -50\nself_test = -50\n")
    result = space.check("v2", held_out())
    assert result.passed, result.verdict
    assert all(condition.met for _, condition in space.promote("v2"))
    query = held_out()
    matches = space.search(query_file(space.directory / "query.png", query, 0), k=5)
    assert len(matches) == 5
    assert matches[0].item.label == "class 0"
    assert {match.item.generation for match in matches} == {first.fingerprint}, "the old vectors answer"
    after = {item.id: item.embedding for batch in space.gallery.iterate() for item in batch}
    assert all(np.array_equal(after[key], stored[key]) for key in stored), "and nobody touched them"

    assert space.rollback() == "v1"
    assert space.doctor() == []


def query_file(path: Path, images: ImageSet, index: int) -> str:
    Image.fromarray(images.pixels[images.rows[index]]).save(path)
    return str(path)


class TestRefusals:
    def test_search_across_spaces_that_nobody_has_compared(self, learned: Workspace) -> None:
        with pytest.raises(RefusedError, match=r"vectors of v1, and v2 has not .*evergallery check v2 --against v1"):
            learned.search(np.eye(64, dtype=np.float32)[0], generation="v2")

    def test_adding_across_spaces(self, learned: Workspace) -> None:
        with pytest.raises(RefusedError, match=r"vectors of v1, and v2 has not been shown"):
            learned.index(held_out(), generation="v2")

    def test_promoting_across_spaces_needs_a_reason_that_is_kept(self, learned: Workspace) -> None:
        with pytest.raises(
            RefusedError,
            match="v2 has not been checked against v1, which answers queries now: run  evergallery check v2 ",
        ):
            learned.promote("v2")
        with pytest.raises(InputError, match="reason: give it with  evergallery promote v2 --force --why REASON"):
            learned.promote("v2", force=True, why=" ")
        learned.promote("v2", force=True, why="the old vectors are a week old")
        pair = learned.holdings.state.compatible[0]
        assert (pair.shown_by, pair.evidence) == ("force", "the old vectors are a week old")
        assert learned.search(np.eye(64, dtype=np.float32)[0])
        entry = learned.log()[-1]
        assert (entry["operation"], entry["forced"], entry["why"]) == (
            "promote",
            True,
            "the old vectors are a week old",
        )
        assert "has not been checked" in entry["refused"]

    def test_vectors_of_an_unknown_space(self, learned: Workspace) -> None:
        item = Item(
            id="x", embedding=np.eye(64, dtype=np.float32)[0], generation="f" * 64, label=None, uri=None,
            content_hash=None, added="2026-01-01T00:00:00+00:00", metadata={},
        )  # fmt: skip
        with pytest.raises(RefusedError, match="No generation of .* has the fingerprint ffffffffffff"):
            learned.add([item])

    def test_vector_of_another_dimension(self, learned: Workspace) -> None:
        with pytest.raises(InputError, match=r"shape \(32,\) and v1 makes vectors of \(64,\)"):
            learned.search(np.ones(32, dtype=np.float32))

    def test_failed_check_withdraws_what_an_earlier_one_had_shown(self, learned: Workspace) -> None:
        gate(learned, EASY)
        learned.check("v2", held_out())
        learned.promote("v2")
        learned.rollback()
        gate(learned, HARD)
        learned.check("v2", held_out())
        with pytest.raises(RefusedError, match="NOT MET: cross-test"):
            learned.promote("v2")
        with pytest.raises(RefusedError, match="has not been shown to be compatible"):
            learned.search(np.eye(64, dtype=np.float32)[0], generation="v2")

    def test_joint_without_old_images(self, learned: Workspace) -> None:
        with pytest.raises(InputError, match=r"'joint' learns from the old images too: .*--old-data"):
            learned.learn(new_images(), method=Joint())

    def test_old_images_for_a_method_that_does_not_read_them(self, learned: Workspace) -> None:
        with pytest.raises(InputError, match="'csd' does not read old images"):
            learned.learn(new_images(), method=CSD(), old_data=old_images())

    def test_csd_without_a_parent(self, space: Workspace) -> None:
        with pytest.raises(InputError, match="'csd' learns from a parent and there is no generation yet"):
            space.learn(new_images(), method=CSD())

    def test_rolling_back_the_first_generation(self, learned: Workspace) -> None:
        with pytest.raises(RefusedError, match="nothing to go back to"):
            learned.rollback()


WRONG_CALLS: list[tuple[Callable[[Any], object], str]] = [
    (lambda shop: shop.learn([str(shop.directory)]), r"data = \[.*\] is not usable: it has to be a path or an ImageSet"),
    (lambda shop: shop.learn(np.zeros((2, 16, 16, 3), np.uint8)), r"make one with ImageSet.from_arrays\(...\)"),
    (lambda shop: shop.learn("x", method="csd"), r"method = 'csd' is not usable: it has to be a Method: write CSD\(\)"),
    (lambda shop: shop.learn("x", method=CSD), r"it has to be a Method: write CSD\(\)"),
    (lambda shop: shop.learn("x", train="head"), "train = 'head' is not usable: it is one of neck, last-stage, all"),
    (lambda shop: shop.learn("x", from_scratch="false"), "from_scratch = 'false' is not usable: it has to be True or"),
    (lambda shop: shop.learn(new_images(), classes=[]), "No class is chosen: name one at least"),
    (lambda shop: shop.read("glyphs", data_dir=3), "data_dir = 3 is not usable: it has to be a path"),
    (lambda shop: shop.index("x", workers=True), "workers = True is not usable: it has to be a whole number"),
    (lambda shop: shop.index("x", metadata="price"), r"it has to be a list of strings: write \['price'\]"),
    (lambda shop: shop.index("x", generation=""), "generation = '' is not usable: it is empty; give a value, or leave it"),
    (lambda shop: shop.embed("x", "v1"), "generation = 'v1' is not usable: it has to be a Generation"),
    (lambda shop: shop.check(shop.generation("v2"), "x"), "it has to be a string: give its name, 'v2'"),
    (lambda shop: shop.check("v2", "x", price_per_hour=float("nan")), "price_per_hour = nan is not usable: it has to be a fin"),
    (lambda shop: shop.check("v2", "x", price_per_hour=-1), "price_per_hour = -1 is not usable: it has to be a fin"),
    (lambda shop: shop.check("v2", "x", old_classes=[]), "No class is named as old"),
    (lambda shop: shop.check("v2", "x", answer="dul"), "answer = 'dul' is not usable: it has to be an Answer or one of che"),
    (lambda shop: shop.compare(["v1", "v2"], "x", price_per_hour="1"), "price_per_hour = '1' is not usable"),
    (lambda shop: shop.plan("v2", price_per_hour=-1), "price_per_hour = -1 is not usable: it has to be a fin"),
    (lambda shop: shop.ways("v2", -1), "price_per_hour = -1 is not usable: it has to be a fin"),
    (lambda shop: shop.refresh("v2", fraction="half"), "fraction = 'half' is not usable: it has to be a number"),
    (lambda shop: shop.promote("v2", force=1), "force = 1 is not usable: it has to be True or False"),
    (lambda shop: shop.search(torch.ones(64)), "give its .numpy"),
    (lambda shop: shop.search(["a.png"]), r"query = \['a.png'\] is not usable: it has to be a path, bytes, an array of num"),
    (lambda shop: shop.search({"v1": eye(0), "v2": eye(0)[:3]}), r"shape \(3,\) and v2 makes vectors of \(64,\)"),
    (lambda shop: shop.search(eye(0), where={"labels": ["a"]}), "where = .* is not usable: it has to be a Filter"),
    (lambda shop: shop.search(eye(0), where=Filter(labels=cast("Any", "a"))), r"labels = 'a' is not usable.*write \['a'\]"),
    (lambda shop: shop.search(item=3), "item = 3 is not usable: it has to be a string"),
    (lambda shop: shop.near_duplicates(most=0), "most = 0 is not usable: it has to be a whole number from 1"),
    (lambda shop: shop.image_files(-1), "most = -1 is not usable: it has to be a whole number from 1"),
    (lambda shop: shop.doctor(embed=-1), "embed = -1 is not usable: it has to be a finite number, at least 0"),
    (lambda shop: shop.register("resnet18", seed=-1), "A seed of -1 is not usable"),
    (lambda shop: shop.allow_images("a", 3), "places = 3 is not usable: it has to be a path"),
    (lambda shop: Workspace(cast("Any", None)), "directory = None is not usable: it has to be a path"),
    (lambda shop: Workspace.create(shop.directory / "new", head=cast("Any", "foo")), "head = 'foo' is not usable: it"),
    (lambda shop: Workspace.create(shop.directory / "new", store=""), "store = '' is not usable: it is empty"),
]  # fmt: skip


def eye(row: int) -> NDArray[np.float32]:
    made: NDArray[np.float32] = np.eye(64, dtype=np.float32)[row]
    return made


@pytest.mark.parametrize(("call", "says"), WRONG_CALLS, ids=[says[:40] for _, says in WRONG_CALLS])
def test_a_wrong_call_is_refused_in_a_sentence_before_anything_is_done(
    learned_once: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[[Any], object], says: str
) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("an image is opened"))
    monkeypatch.setattr(Generation, "embedder", lambda *_, **__: pytest.fail("a network is loaded"))
    before = sorted(learned_once.rglob("*"))
    with Workspace(learned_once) as shop, pytest.raises(InputError, match=says):
        call(shop)
    assert [path for path in sorted(learned_once.rglob("*")) if path not in before and path.name != ".lock"] == []


def test_what_names_of_files_tell_is_refused_before_one_is_opened(learned_once: Path, tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / "photos" / "rose").mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / "rose" / f"{number}.png").write_bytes(b"no picture")
    (tmp_path / "answers.csv").write_text("query,item\n0.png,tulip.png\nlily.png,1.png\n")
    with Workspace(learned_once) as shop:
        with pytest.raises(InputError, match="Choosing an adapter needs at least 20 pairs, .* and got 4: give more"):
            shop.adapt("v2", "v1", tmp_path / "photos")
        with pytest.raises(
            InputError, match="None of the answers of .*answers.csv .* not tulip.png, lily.png: names are"
        ):
            shop.check("v2", tmp_path / "photos", answers=tmp_path / "answers.csv")
        (tmp_path / "answers.csv").write_text("query,item\n0.png,1.png\n")
        with pytest.raises(InputError, match="None of the 4 images of .* can be read"):
            shop.check("v2", tmp_path / "photos", answers=tmp_path / "answers.csv")


def test_a_filter_by_a_name_in_place_of_a_fingerprint_is_refused(learned_once: Path) -> None:
    with (
        Workspace(learned_once) as shop,
        pytest.raises(RefusedError, match="No generation of .* has the fingerprint v1"),
    ):
        shop.search(eye(0), where=Filter(generations=("v1",)))


def test_a_workspace_goes_on_after_it_was_closed_and_its_closed_gallery_does_not(learned_once: Path) -> None:
    shop = Workspace(learned_once)
    gallery = shop.gallery
    shop.close()
    with pytest.raises(RefusedError, match="was closed here: open it, or its workspace, again"):
        gallery.count()
    gallery.close()
    assert shop.gallery.count() == 60
    shop.close()


def test_a_workspace_that_is_gone_is_told(learned: Workspace) -> None:
    shutil.rmtree(learned.directory)
    with pytest.raises(NotFoundError, match="is not there any more: bring it back"):
        learned.rollback()
    with pytest.raises(DamagedError, match=r"workspace.json is missing: restore it"):
        learned.search(eye(0))


def test_learning_takes_the_number_of_a_generation_that_somebody_has_deleted(learned: Workspace, quick: Quick) -> None:
    shutil.rmtree(learned.directory / "generations" / "v0002")
    again = learned.learn(new_images(), method=Finetune(), settings=quick(epochs=1))
    assert (again.name, learned.log()[-1]["operation"]) == ("v2", "learn")
    assert (learned.directory / "runs" / "v0002" / "log.jsonl").is_file()
    assert not [path for path in (learned.directory / "runs").iterdir() if path.name not in ("v0001", "v0002")]


class TestNotFound:
    def test_workspace(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match="is not a workspace: create one with  evergallery init"):
            Workspace(tmp_path)

    def test_generation(self, learned: Workspace) -> None:
        with pytest.raises(NotFoundError, match=r"no generation 'v9'; there is v1, v2"):
            learned.generation("v9")

    def test_generation_in_an_empty_workspace(self, space: Workspace) -> None:
        with pytest.raises(NotFoundError, match="no generation yet: make one with  evergallery learn IMAGES"):
            _ = space.promoted

    def test_image_and_item(self, learned: Workspace) -> None:
        with pytest.raises(InputError, match=r"There is no image none\.png"):
            learned.search("none.png")
        with pytest.raises(NotFoundError, match="The gallery has no item 'none'"):
            learned.search(item="none")


def test_directory_in_use_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="exists and is not empty"):
        Workspace.create(tmp_path)
    with pytest.raises(InputError, match="--dim 1 is not usable: it has to be at least 2"):
        Workspace.create(tmp_path / "shop", dim=1)


def test_indexing_the_same_content_twice_changes_nothing(learned: Workspace) -> None:
    before = {item.id: item for batch in learned.gallery.iterate() for item in batch}
    again = learned.index(held_out())
    assert (again.added, again.replaced, again.unchanged) == (0, 0, 60)
    after = {item.id: item for batch in learned.gallery.iterate() for item in batch}
    assert {key: item.added for key, item in before.items()} == {key: item.added for key, item in after.items()}


def test_search_by_item_leaves_it_out_and_filters_by_label(learned: Workspace) -> None:
    item = next(item for batch in learned.gallery.iterate() for item in batch)
    matches = learned.search(item=item.id, k=3)
    assert item.id not in [match.item.id for match in matches]
    assert len(matches) == 3
    assert [match.score for match in matches] == sorted((match.score for match in matches), reverse=True)
    only = learned.search(item=item.id, k=50, where=Filter(labels=("class 9",)))
    assert {match.item.label for match in only} == {"class 9"}
    assert all(match.score >= 0.9 for match in learned.search(item=item.id, k=50, minimum_score=0.9))


def test_joint_learns_all_classes_from_scratch(learned: Workspace, quick: Quick) -> None:
    joint = learned.learn(new_images(), method=Joint(), parent="v1", old_data=old_images(), settings=quick(epochs=1))
    assert joint.card.data["images"] == 140
    assert joint.card.classes == learned.generation("v2").card.classes, "rows of the head stay where they were"


def test_learning_ignores_held_out_splits_and_validates_on_val(space: Workspace, quick: Quick) -> None:
    split = np.array(["train"] * 8 + ["val"] * 3 + ["test"] * 3)
    images = replace(old_images(), split=np.tile(split, 5))
    card = space.learn(images, settings=quick(epochs=1)).card
    assert (card.data["training"], card.data["validation"]) == (40, 15)


def test_card_records_what_is_needed_to_do_it_again(learned: Workspace) -> None:
    card = learned.generation("v2").card
    assert card.settings["data_seed"] == 0
    assert card.settings["learning_rate"] == 1e-2
    assert card.data["fingerprint"] == new_images().fingerprint()
    assert {"torch", "timm", "evergallery", "python"} <= set(card.versions)
    log = learned.directory / "runs" / "v0002" / "log.jsonl"
    assert "classification" in log.read_text()
    assert not list((learned.directory / "runs").glob("*/*.safetensors")), "a finished run keeps no checkpoint"


class TestChangingTheModel:
    def test_dimension_with_a_method_that_bridges_it(self, learned: Workspace, quick: Quick) -> None:
        wider = learned.learn(
            new_images(), method=DualTuning(), dim=96, parent="v1", head="cosine", settings=quick(epochs=1)
        )
        assert (wider.card.dimension, wider.architecture.neck) == (96, "linear")
        assert list(wider.memory().means) == ["v3"], "there is no drift between spaces of different dimensions"

    def test_dimension_with_a_method_that_compares_coordinates(self, learned: Workspace) -> None:
        with pytest.raises(InputError, match=r"'csd' compares coordinates with those of v1, which have 64 dimensions"):
            learned.learn(new_images(), method=CSD(), dim=96, parent="v1")

    def test_backbone(self, learned: Workspace, quick: Quick) -> None:
        other = learned.learn(
            new_images(), method=DualTuning(), backbone="resnet20", parent="v1", settings=quick(epochs=1)
        )
        assert other.architecture.backbone == "resnet20"
        assert other.card.classes == tuple(f"class {number}" for number in range(10))

    def test_backbone_that_does_not_exist(self, learned: Workspace) -> None:
        with pytest.raises(InputError, match="nonsense50"):
            learned.learn(new_images(), backbone="nonsense50")

    def test_simplex_is_full(self, tmp_path: Path, quick: Quick) -> None:
        space = Workspace.create(tmp_path / "simplex", backbone="resnet8", size=16, dim=4, neck="linear")
        space.learn(old_images(), method=CoReS(), settings=quick(epochs=1))
        with pytest.raises(InputError, match="has corners for 5 classes and not for 10"):
            space.learn(new_images(), method=CoReS(), old_data=old_images(), settings=quick(epochs=1))


def test_replay_keeps_a_few_images_of_each_old_class(learned: Workspace, quick: Quick) -> None:
    card = learned.learn(
        new_images(), method=Replay(old_images_per_class=3), parent="v1", old_data=old_images(),
        settings=quick(epochs=1, validation_fraction=0.0),
    ).card  # fmt: skip
    assert card.data["training"] == 5 * 3 + 5 * 14


def test_drift_is_chained_or_in_one_jump(learned: Workspace, quick: Quick, tmp_path: Path) -> None:
    third = coloured_images(classes=2, each=8, first=10, seed=3)
    drift = {}
    for kind in ("chained", "one-jump"):
        # A copy each, so that both are the third generation and begin alike.
        shutil.copytree(learned.directory, tmp_path / kind)
        generation = Workspace(tmp_path / kind).learn(
            third, method=Mutual(drift=kind), parent="v2", settings=quick(epochs=1)
        )
        means = generation.memory().means
        assert list(means)[:2] == ["v1", "v2"]
        drift[kind] = means
    # The networks are equal and so is what they saw of v2; of v1 one asked v1 itself, the other only v2.
    assert torch.equal(drift["chained"]["v2"].drift, drift["one-jump"]["v2"].drift)
    assert not torch.equal(drift["chained"]["v1"].drift, drift["one-jump"]["v1"].drift)


def test_virtual_features_beside_real_ones(learned: Workspace) -> None:
    found = learned.virtual_features("v2", held_out())
    assert list(found) == ["v1"]
    fidelity = found["v1"]
    assert fidelity.cosine > fidelity.cosine_untouched, (
        "a rate of 1e-2 moves the space, and estimating beats doing nothing"
    )
    assert fidelity.recall_real == pytest.approx(learned.check("v2", held_out()).pairs[0].evidence.recall("old self"))
    with pytest.raises(InputError, match="v1 remembers no generation before it"):
        learned.virtual_features("v1", held_out())


class TestDoctor:
    def test_names_altered_weights_and_left_over_files(self, learned: Workspace) -> None:
        path = learned.directory / "generations" / "v0001" / "embedder.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
        (learned.directory / "generations" / ".writing-abc").mkdir()
        problems = learned.doctor()
        assert any("v0001/embedder.safetensors is not the file that was written" in problem for problem in problems)
        assert any(".writing-abc was left by a process that was killed" in problem for problem in problems)

    def test_names_a_promoted_generation_that_is_gone(self, learned: Workspace) -> None:
        state = read_json(learned.directory / "workspace.json")
        write_json(learned.directory / "workspace.json", {**state, "promoted": "v7"})
        assert any("The promoted generation v7 is missing" in problem for problem in learned.doctor())


def test_state_of_a_newer_format_is_refused(space: Workspace) -> None:
    path = space.directory / "workspace.json"
    write_json(path, {**read_json(path), "format": 9})
    with pytest.raises(DamagedError, match="has format 9 .*install a newer Evergallery"):
        Workspace(space.directory)


def test_two_processes_do_not_learn_at_once(space: Workspace, quick: Quick) -> None:
    with lock(space.directory / "generations" / ".lock", "learn"), pytest.raises(BusyError, match=r"\(learn\)"):
        space.learn(old_images(), settings=quick())


class PausingWatcher(Watcher):
    """It does not go on after the eighth epoch."""

    def trained(self, progress: Progress) -> None:
        if progress.epoch == 8:
            signal.pause()


def learn_and_wait(directory: Path, settings: Settings) -> None:
    Workspace(directory).learn(old_images(), settings=settings, watcher=PausingWatcher())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Generation:
    """What is learned where nobody is killed."""
    return Workspace.create(tmp_path_factory.mktemp("undisturbed") / "shop", backbone="resnet8", size=16).learn(
        old_images(), settings=short(epochs=12)
    )


@pytest.mark.parametrize("epoch", [1, 3, 5])
def test_killed_learning_goes_on_and_ends_the_same(tmp_path: Path, undisturbed: Generation, epoch: int) -> None:
    settings = short(epochs=12)
    space = Workspace.create(tmp_path / "killed", backbone="resnet8", size=16)
    process = forked(tmp_path / "said", learn_and_wait, space.directory, settings)
    until(lambda: any(read_json(path)["epoch"] >= epoch for path in space.directory.glob("runs/*/state.json")))
    process.kill()
    process.join()
    assert not space.generations()
    finished: Generation = space.learn(old_images(), settings=settings)
    assert finished.fingerprint == undisturbed.fingerprint, "the same weights, bit for bit"
    assert [generation.name for generation in space.generations()] == ["v1"]
    assert space.promoted.name == "v1"
    assert not [path for path in (space.directory / "runs").iterdir() if path.name != "v0001"]


class TestListOfVerbs:
    NOUNS = frozenset({"holdings", "directory", "gallery", "promoted", "gate"})
    USED = frozenset(
        {"learn", "index", "search", "check", "promote", "rollback", "plan", "refresh", "commit", "report", "doctor"}
    )

    def test_a_verb_is_written_and_documented_once_where_its_code_is(self) -> None:
        for name, listed in vars(Workspace).items():
            if isinstance(listed, Verb | Creation):
                verb = getattr(Workspace, name)
                assert not verb.__module__.startswith(Workspace.__module__), f"{name} is written in the list"
                assert verb.__doc__, name
                assert verb.__doc__.split("\n")[0] in pydoc.plain(pydoc.render_doc(verb))
            else:
                assert name.startswith("_") or name in self.NOUNS, f"{name} is no verb: it belongs to the holdings"

    def test_plumbing_does_not_stand_beside_the_verbs(self, tmp_path: Path) -> None:
        with Workspace.create(tmp_path / "shop") as shop:
            public = {name for name in dir(shop) if not name.startswith("_")}
            inside = {name for name in dir(shop.holdings) if not name.startswith("_")}
        assert public >= self.USED | self.NOUNS
        listed = {name for name, verb in vars(Workspace).items() if isinstance(verb, Verb | Creation)}
        assert public == listed | self.NOUNS
        assert inside - public == {"state", "journal", "notes", "marks", "roots", "space", "loaded", "unreadable"}

    def test_creating_gives_the_class_that_was_asked_for(self, tmp_path: Path) -> None:
        class Shop(Workspace):
            """Somebody's own."""

        assert isinstance(Shop.create(tmp_path / "shop", backbone="resnet32"), Shop)
        signature = inspect.signature(Shop.create)
        assert (next(iter(signature.parameters)), signature.return_annotation) == ("directory", Shop)
        assert Shop(tmp_path / "shop").holdings.state.architecture.backbone == "resnet32"
