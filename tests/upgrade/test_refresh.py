"""Refreshing a gallery: what is planned, what moves, what stays, and the way back; through kills and beside searches."""

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import models
from evergallery import Workspace
from evergallery.data.images import Preprocessing, read_pixels
from evergallery.data.listing import Entry, Listing
from evergallery.errors import InputError, RefusedError
from evergallery.extraction import images as item_images
from evergallery.files import sha256_of
from evergallery.holdings.answer import CHECKED, Answer
from evergallery.holdings.state import Refresh
from evergallery.upgrade import refreshing
from evergallery.upgrade.advice import next_step
from evergallery.upgrade.options import Recommendation
from evergallery.upgrade.orders import order_of
from evergallery.upgrade.pace import TimeBudget
from evergallery.upgrade.plan import share_for
from evergallery.watching import Watcher
from forked import first_line, forked
from shops import held_out, learn_again, make_photos, make_shop, spaces, vectors


@pytest.fixture
def shop(tmp_path: Path) -> Workspace:
    return make_shop(tmp_path)


@pytest.fixture
def switched(shop: Workspace) -> Workspace:
    """v2 is promoted over the vectors of v1."""
    shop.check("v2", held_out())
    shop.promote("v2")
    return shop


def photo(shop: Workspace, name: str = "class 3/060.png") -> Path:
    return shop.directory.parent / "photos" / name


def no_plan(*_: object) -> None:
    """Stands for the measuring of a plan, where none may be measured."""
    raise AssertionError("a plan is measured for what is refused anyway")


class TestPlan:
    def test_says_what_it_costs_and_what_each_share_gives(self, switched: Workspace) -> None:
        before = vectors(switched)
        plan = switched.plan("v2")
        assert plan.items == {"v1": 200}
        assert plan.shares == (0, 0.25, 0.5, 1)
        assert (plan.sample, plan.queries, plan.missing) == (200, 200, 0)
        assert plan.seconds > 0
        assert plan.bytes >= 200 * 4 * 8
        assert set(plan.recall) == {"random", "uncertain", "typical"}, (
            "nothing was searched for, nothing is popular; all came at once, nothing is older"
        )
        ends = {(curve[0], curve[-1]) for curve in plan.recall.values()}
        assert len(ends) == 1, "orders differ on the way only"
        first, last = ends.pop()
        assert last == 1.0 > first
        assert vectors(switched) == before
        assert switched.holdings.state.refresh is None, "a plan begins nothing"
        switched.search(str(photo(switched)))
        assert "popular" in switched.plan("v2").recall
        switched.index(make_photos(switched.directory.parent / "more", each=2, seed=5))
        assert "oldest" in switched.plan("v2").recall

    def test_calls_no_order_best_that_chance_may_have_made_so(self, switched: Workspace) -> None:
        plan = switched.plan("v2")
        lead = {"random": (0.5, 0.60, 0.70, 0.9), "typical": (0.5, 0.66, 0.75, 0.9)}
        assert replace(plan, recall=lead, queries=100).best_order() is None
        assert replace(plan, recall=lead, queries=10_000).best_order() == "typical"
        assert replace(plan, recall={"random": lead["random"]}, queries=10_000).best_order() is None
        assert replace(plan, recall=lead, queries=100, shares=(0.0, 1.0)).best_order() is None

    def test_is_what_a_refresh_then_reaches(self, switched: Workspace) -> None:
        plan = switched.plan("v2")
        for share, expected in zip(plan.shares[1:], plan.recall["random"][1:], strict=True):
            switched.refresh("v2", order="random", fraction=share)
            assert recall(switched) == pytest.approx(expected, abs=1e-9)

    def test_counts_images_that_are_gone(self, switched: Workspace) -> None:
        for path in sorted((switched.directory.parent / "photos" / "class 1").iterdir())[:10]:
            path.unlink()
        plan = switched.plan("v2")
        assert plan.missing == pytest.approx(10 / 200)
        assert plan.sample == 190

    def test_nothing_to_refresh(self, shop: Workspace) -> None:
        with pytest.raises(InputError, match="nothing but vectors of v1"):
            shop.plan("v1")


def recall(shop: Workspace) -> float:
    """recall@1 of every stored image among the others, by searching."""
    hits = []
    for batch in list(shop.gallery.iterate()):
        for item in batch:
            others = [match for match in shop.search(item.uri, k=2) if match.item.id != item.id]
            hits.append(others[0].item.label == item.label)
    return float(np.mean(hits))


class TestRefresh:
    def test_part_by_part_and_the_same_call_goes_on(self, switched: Workspace) -> None:
        first = switched.refresh("v2", fraction=0.25)
        assert (first.refreshed, first.remaining, first.stopped_by, first.shown) == (50, 150, "fraction", True)
        assert spaces(switched) == {"v1": 150, "v2": 50}
        again = switched.refresh("v2", fraction=0.25)
        assert again.refreshed == 0
        rest = switched.refresh("v2")
        assert (rest.refreshed, rest.remaining, rest.stopped_by) == (150, 0, "done")
        assert spaces(switched) == {"v2": 200}
        assert switched.doctor() == []

    def test_new_vectors_are_what_indexing_would_have_made(self, switched: Workspace, tmp_path: Path) -> None:
        switched.refresh("v2")
        other = Workspace.create(tmp_path / "other", size=16)
        for model in ("models:worn", "models:better"):
            other.register(model, size=16)
        other.index(switched.directory.parent / "photos", generation="v2")
        made, expected = vectors(switched), vectors(other)
        assert made.keys() == expected.keys()
        for key, (generation, content) in made.items():
            assert generation == expected[key][0]
            assert np.allclose(
                np.frombuffer(content, np.float32), np.frombuffer(expected[key][1], np.float32), atol=1e-6
            )

    def test_keeps_what_else_is_known_of_an_item(self, switched: Workspace) -> None:
        before = {item.id: item for batch in switched.gallery.iterate() for item in batch}
        switched.refresh("v2")
        for batch in switched.gallery.iterate():
            for item in batch:
                old = before[item.id]
                assert (item.label, item.uri, item.content_hash, item.added) == (
                    old.label, old.uri, old.content_hash, old.added,
                )  # fmt: skip

    def test_popular_items_go_first(self, switched: Workspace) -> None:
        found = [match.item.id for match in switched.search(str(photo(switched)), k=10)]
        switched.refresh("v2", order="popular", fraction=0.05)
        moved = {
            key for key, (generation, _) in vectors(switched).items() if generation == switched.promoted.fingerprint
        }
        assert moved == set(found)

    def test_order_by_vectors_is_that_of_the_stored_ones(self, switched: Workspace) -> None:
        items = [item for batch in switched.gallery.iterate() for item in batch]
        first = {items[row].id for row in order_of("uncertain", items, {})[:10]}
        switched.refresh("v2", order="uncertain", fraction=0.05)
        new = switched.promoted.fingerprint
        assert {key for key, (generation, _) in vectors(switched).items() if generation == new} == first

    def test_rollback_restores_the_earlier_vectors_to_the_bit(self, switched: Workspace) -> None:
        before = vectors(switched)
        switched.refresh("v2", fraction=0.5)
        assert vectors(switched) != before
        assert switched.rollback() == "v1"
        assert vectors(switched) == before
        assert spaces(switched) == {"v1": 200}
        switched.promote("v2")
        assert spaces(switched) == {"v1": 100, "v2": 100}, "and promoting again shows the new ones again"

    def test_commit_gives_up_the_earlier_vectors(self, switched: Workspace) -> None:
        switched.refresh("v2")
        after = vectors(switched)
        assert switched.commit() == 200
        assert vectors(switched) == after
        assert (switched.holdings.state.refresh, switched.holdings.state.committed) == (None, [])
        # Compatible both ways: v1 may still search what is there now.
        assert switched.rollback() == "v1"
        assert spaces(switched) == {"v2": 200}

    def test_discard_gives_up_the_new_ones(self, switched: Workspace) -> None:
        before = vectors(switched)
        switched.refresh("v2", fraction=0.5)
        assert switched.discard() == 100
        assert vectors(switched) == before
        assert switched.refresh("v2").refreshed == 200, "and it can be begun anew"

    def test_image_that_is_gone_or_changed_keeps_its_vector_and_is_named(self, switched: Workspace) -> None:
        gone, changed = photo(switched), photo(switched, "class 4/080.png")
        gone.unlink()
        Image.new("RGB", (16, 16), "red").save(changed)
        done = switched.refresh("v2")
        assert (done.refreshed, done.remaining) == (198, 2)
        assert {problem.kind for problem in done.problems} == {"image missing", "failed"}
        status = switched.status()
        assert spaces(switched) == {"v1": 2, "v2": 198}
        assert status.problems == {"image missing": 1, "failed": 1}
        assert any("060.png" in reason for reason in status.reasons.values())
        assert any("is not the image that was stored" in reason for reason in status.reasons.values())
        assert len(switched.search(str(photo(switched, "class 5/100.png")), k=200)) == 200, "they are still found"

    def test_image_that_comes_back_is_refreshed_and_its_problem_solved(self, switched: Workspace) -> None:
        path = photo(switched)
        content = path.read_bytes()
        path.unlink()
        switched.refresh("v2")
        path.write_bytes(content)
        assert switched.refresh("v2").refreshed == 1
        assert switched.status().problems == {}

    def test_images_can_be_given_where_the_originals_have_moved(self, switched: Workspace, tmp_path: Path) -> None:
        (tmp_path / "photos").rename(tmp_path / "moved")
        assert len(switched.refresh("v2", fraction=0.1).problems) == 20
        done = switched.refresh("v2", images=tmp_path / "moved")
        assert (done.refreshed, done.remaining) == (200, 0)

    def test_of_images_that_are_given_those_that_are_wanted_are_decoded(
        self, switched: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "photos").rename(tmp_path / "given")
        make_photos(tmp_path / "given" / "others", each=3, seed=11)
        (tmp_path / "given" / "class 0" / "broken.png").write_bytes(b"no picture")
        decoded = []

        def counted(*given: Any, **more: Any) -> Any:
            decoded.append(given)
            return read_pixels(*given, **more)

        monkeypatch.setattr(item_images, "read_pixels", counted)
        assert switched.plan("v2", images=tmp_path / "given").missing == 0
        assert len(decoded) == 200
        assert switched.refresh("v2", images=tmp_path / "given").refreshed == 200
        assert len(decoded) == 400

    def test_budget_and_rate_hold(self, switched: Workspace) -> None:
        slept: list[float] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "sleep", slept.append)
            patch.setattr(time, "monotonic", lambda: sum(slept))
            # On this clock only sleeping takes time: 40 items a second.
            done = switched.refresh("v2", rate=40, budget=1.5)
        assert done.stopped_by == "budget"
        assert sum(slept) <= 1.5 * 1.25, "no batch is so large that it ends long after the time"
        assert 40 <= done.refreshed <= 75
        assert switched.refresh("v2").remaining == 0

    def test_batches_shrink_with_the_time_that_is_left(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = [100.0]
        monkeypatch.setattr(time, "monotonic", lambda: clock[0])
        budget = TimeBudget(100.0, 20.0)
        budget.begin()
        sizes = []
        while not budget.is_spent:
            sizes.append(budget.batch(256))
            clock[0] += sizes[-1] * 0.12
            budget.done += sizes[-1]
        assert sizes[0] == 16
        assert max(sizes) < 256
        assert clock[0] < 100 + 20 + 1, "the last batch ends within a second of the time"
        assert sum(sizes) > 0.9 * 20 / 0.12, "and little of the time is lost"
        assert TimeBudget(100.0, None).batch(256) == 256

    def test_until_stops_where_the_plan_expects_the_recall(self, switched: Workspace) -> None:
        done = switched.refresh("v2", until=0.9)
        assert 0 < done.refreshed < 200
        assert done.stopped_by == "until"
        assert recall(switched) >= 0.9

    def test_a_recall_that_nothing_reaches_is_refused(self, switched: Workspace) -> None:
        assert share_for(0.9, (0.0, 0.5, 1.0), (0.5, 0.9, 0.95)) == 0.5
        with pytest.raises(InputError, match=r"0\.96 is not expected at any share: .* 0\.950"):
            share_for(0.96, (0.0, 0.5, 1.0), (0.5, 0.9, 0.95))

    def test_nothing_to_refresh_begins_nothing(self, switched: Workspace) -> None:
        with pytest.raises(InputError, match="nothing but vectors of v1"):
            switched.refresh("v1")
        assert switched.holdings.state.refresh is None

    def test_items_that_the_generation_indexed_itself_are_not_counted(
        self, switched: Workspace, tmp_path: Path
    ) -> None:
        switched.index(make_photos(tmp_path / "more", each=2, seed=11))
        assert switched.refresh("v2", fraction=0.5).remaining == 100
        assert switched.refresh("v2").remaining == 0

    @pytest.mark.parametrize("until", [None, 0.5])
    def test_only_one_refresh_is_open_and_another_is_refused_before_anything_is_measured(
        self, switched: Workspace, monkeypatch: pytest.MonkeyPatch, until: float | None
    ) -> None:
        switched.refresh("v2", fraction=0.1)
        monkeypatch.setattr(refreshing, "measured_plan", no_plan)
        with pytest.raises(RefusedError, match=r"r1, a refresh for v2, is open: .*--commit"):
            switched.refresh("v3", until=until)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"fraction": 0.0}, "fraction of 0 is not usable"),
            ({"fraction": 1.5}, "fraction of 1.5 is not usable"),
            ({"budget": -1.0}, "budget of -1 is not usable"),
            ({"rate": 0.0}, "rate of 0 is not usable"),
            ({"rate": float("nan")}, "rate of nan is not usable: it must be a number above 0"),
            ({"budget": float("inf")}, "budget of inf is not usable"),
            ({"batch": 0}, "batch of 0 is not usable"),
            ({"order": "alphabetical"}, "No order is called 'alphabetical': choose one of random"),
            ({"until": 1.1}, "recall@1 of 1.1 is not usable: give a share of the queries"),
            ({"until": 0.5, "workers": 2}, "Workers are a cluster's"),
            ({"until": 0.5, "rate": -1.0}, "rate of -1 is not usable"),
        ],
    )
    def test_arguments_out_of_range(
        self, switched: Workspace, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, float], message: str
    ) -> None:
        monkeypatch.setattr(refreshing, "measured_plan", no_plan)
        with pytest.raises(InputError, match=message):
            switched.refresh("v2", **arguments)  # type: ignore[arg-type]

    def test_items_added_meanwhile_are_plain_and_stay_through_a_rollback(
        self, switched: Workspace, tmp_path: Path
    ) -> None:
        switched.refresh("v2", fraction=0.5)
        switched.index(make_photos(tmp_path / "more", each=2, seed=11))
        assert sum(spaces(switched).values()) == 220
        switched.rollback()
        assert spaces(switched) == {"v1": 200, "v2": 20}

    def test_deleted_items_do_not_come_back(self, switched: Workspace) -> None:
        switched.refresh("v2", fraction=0.5)
        ids = sorted(vectors(switched))[:40]
        assert switched.gallery.delete(ids) == 40
        switched.rollback()
        assert sum(spaces(switched).values()) == 160
        assert not set(ids) & set(vectors(switched))


class TestShadow:
    """A generation that cannot search the old vectors: refreshed unseen, then switched to in one change."""

    def test_vectors_wait_for_the_promotion(self, shop: Workspace) -> None:
        before = vectors(shop)
        done = shop.refresh("v3", fraction=0.5)
        assert (done.refreshed, done.shown) == (100, False)
        assert vectors(shop) == before
        shop.check("v3", held_out())
        with pytest.raises(RefusedError, match="NOT MET: cross-test"):
            shop.promote("v3")
        shop.refresh("v3")
        assert vectors(shop) == before
        shop.promote("v3")
        assert spaces(shop) == {"v3": 200}
        assert recall(shop) == 1.0
        assert shop.rollback() == "v1"
        assert vectors(shop) == before

    def test_what_comes_next_is_said_of_the_generation_whose_vectors_wait(self, shop: Workspace) -> None:
        assert "evergallery plan" not in str(next_step(shop.holdings, "v1"))
        shop.refresh("v3")
        assert next_step(shop.holdings, "v1") == next_step(shop.holdings, "v3")
        assert "v3" in str(next_step(shop.holdings, "v1"))

    def test_what_a_check_advises_is_not_talked_over(self, shop: Workspace) -> None:
        check = shop.check("v2", held_out())

        def after(advice: Recommendation) -> str | None:
            pairs = tuple(replace(pair, advice=advice) for pair in check.pairs)
            return next_step(shop.holdings, "v2", replace(check, pairs=pairs))

        promote = "evergallery promote v2"
        assert after(Recommendation("Answer so at once.", Answer.of("direct"))) == f"Next:  {promote}"
        assert after(Recommendation("Refresh.", CHECKED, refresh=True)) == (
            f"Next: what is advised above, or at once  {promote}"
        )
        assert (
            after(Recommendation("Keep v1.", None)) == f"Nothing has to be done. The gate would let  {promote}  pass."
        )

    def test_commit_before_the_promotion_is_refused(self, shop: Workspace) -> None:
        shop.refresh("v3")
        with pytest.raises(RefusedError, match="v3, which is not promoted"):
            shop.commit()
        assert shop.discard() == 200

    def test_discard_is_refused_where_nothing_could_be_searched(self, shop: Workspace) -> None:
        shop.refresh("v3")
        shop.check("v3", held_out())
        shop.promote("v3")
        with pytest.raises(RefusedError, match="vectors of v1, and v3 has not been shown"):
            shop.discard()

    def test_rollback_after_the_commit_is_refused(self, shop: Workspace) -> None:
        shop.refresh("v3")
        shop.check("v3", held_out())
        shop.promote("v3")
        shop.commit()
        with pytest.raises(RefusedError, match="vectors of v3 that v1 has not been shown"):
            shop.rollback()
        assert shop.promoted.name == "v3"


class TestTwins:
    """Two generations that are the same network have one space: whichever of them answers, it answers from its vectors."""

    @pytest.fixture
    def twins(self, shop: Workspace) -> Workspace:
        """v5 is v3 again; new vectors for v3 wait in the shadow, while v1 answers."""
        assert learn_again(shop, "v3") == "v5"
        shop.refresh("v3")
        shop.check("v3", held_out())
        shop.check("v5", held_out())
        return shop

    @pytest.mark.parametrize("name", ["v3", "v5"])
    def test_the_promotion_of_either_shows_the_vectors(self, twins: Workspace, name: str) -> None:
        before = vectors(twins)
        assert twins.refresh(name).refreshed == 0
        promotion = twins.promote(name)
        assert {space for space, _ in vectors(twins).values()} == {twins.promoted.fingerprint}
        assert recall(twins) == 1.0
        assert promotion.scores is not None
        assert "refresh --commit" in str(next_step(twins.holdings, name))
        assert twins.rollback() == "v1"
        assert vectors(twins) == before
        twins.promote(name)
        after = vectors(twins)
        assert twins.commit() == 200
        assert vectors(twins) == after

    def test_discard_gives_up_the_new_vectors(self, twins: Workspace) -> None:
        before = vectors(twins)
        twins.promote("v5")
        twins.rollback()
        assert twins.discard() == 200
        assert vectors(twins) == before

    def test_one_after_the_other_changes_nothing_that_is_searched(self, twins: Workspace) -> None:
        twins.promote("v3")
        after = vectors(twins)
        assert twins.promote("v5").scores is None, "scores of one network do not move"
        assert vectors(twins) == after
        assert twins.rollback() == "v3"
        assert vectors(twins) == after

    def test_a_refresh_for_one_is_seen_at_once_where_the_other_answers(self, switched: Workspace) -> None:
        before = vectors(switched)
        learn_again(switched, "v2")
        done = switched.refresh("v5", fraction=0.5)
        assert (done.refreshed, done.shown) == (100, True)
        assert switched.refresh("v2").refreshed == 100
        assert switched.rollback() == "v1"
        assert vectors(switched) == before

    def test_hidden_vectors_of_the_generation_that_answers_are_shown_by_its_refresh(self, switched: Workspace) -> None:
        """A rollback to a twin hides what was refreshed meanwhile."""
        before = vectors(switched)
        learn_again(switched, "v2")
        switched.check("v5", held_out())
        switched.promote("v5")
        switched.refresh("v5")
        switched.rollback()
        assert vectors(switched) == before
        command = "evergallery refresh v5"
        assert command in str(next_step(switched.holdings, "v2"))
        status = switched.status().refresh
        assert status is not None
        assert status.waiting == "refresh v5"
        with pytest.raises(RefusedError, match=command):
            switched.commit()
        assert switched.refresh("v5").shown
        assert spaces(switched) == {"v2": 200}
        assert switched.commit() == 200

    def test_a_refresh_of_an_earlier_version_is_for_both(self, twins: Workspace) -> None:
        twins.close()
        state = json.loads((twins.directory / "workspace.json").read_text())
        assert state["refresh"].pop("asker") == twins.generation("v3").fingerprint
        (twins.directory / "workspace.json").write_text(json.dumps(state))
        shop = Workspace(twins.directory)
        shop.promote("v5")
        assert {space for space, _ in vectors(shop).values()} == {shop.promoted.fingerprint}

    def test_mapped_vectors_are_not_for_another_network_of_their_space(self) -> None:
        mapped = Refresh(id="r1", generation="v3", fingerprint="mapped", adapter="a1", shown=False, started="")
        assert mapped.is_for("v3", "turned")
        assert not mapped.is_for("v5", "turned"), "an earlier version did not say of which network v3 is"
        told = mapped.model_copy(update={"asker": "turned"})
        assert told.is_for("v5", "turned")
        assert not told.is_for("v4", "mapped")


class Telling(Watcher):
    """Says how many items are refreshed, but for the first number that is heard, which is where it begins."""

    begun = False

    def counted(self, activity: str, done: int, total: int) -> None:
        if activity.startswith("refreshing") and self.begun:
            print(done, flush=True)
        self.begun = self.begun or activity.startswith("refreshing")


def go_on_refreshing(directory: Path) -> None:
    """Refresh in a process of its own."""
    Workspace(directory).refresh("v5", rate=20, watcher=Telling())


def test_killed_refresh_loses_nothing_and_goes_on(
    shop: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only the processes that are killed take their time.
    monkeypatch.setenv(models.SECONDS, "0")
    shop.register("models:slow", size=16)
    before = vectors(shop)
    acknowledged = 0
    for _ in range(3):
        shop.close()
        said = tmp_path / f"said after {acknowledged}"
        process = forked(said, go_on_refreshing, shop.directory, **{models.SECONDS: "0.02"})
        acknowledged = int(first_line(process, said))
        process.kill()
        process.join()
        assert shop.doctor() == []
        assert vectors(shop) == before, "nothing is seen before the promotion"
        refresh = shop.status().refresh
        assert refresh is not None
        assert acknowledged <= refresh.refreshed <= acknowledged + 20
    assert acknowledged > 20, "each went on from where the one before had been killed"
    shop.refresh("v5")
    shop.check("v5", held_out())
    shop.promote("v5")
    assert spaces(shop) == {"v5": 200}
    assert vectors(shop).keys() == before.keys()


def test_searches_beside_a_refresh_never_miss_an_item_or_see_it_twice(switched: Workspace) -> None:
    query = switched.embed(photo(switched), switched.promoted)
    wrong: list[int] = []
    stop = threading.Event()

    def search() -> None:
        while not stop.is_set():
            found = [match.item.id for match in switched.search(query, k=300)]
            if len(found) != 200 or len(set(found)) != 200:
                wrong.append(len(found))

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    switched.refresh("v2", rate=100)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


class TestAdapters:
    def test_queries_go_through_the_adapter_by_themselves(self, shop: Workspace) -> None:
        assert shop.check("v4", held_out()).pairs[0].verdict == "compatible after an adapter"
        with pytest.raises(RefusedError, match="NOT MET"):
            shop.promote("v4")
        made = shop.adapt("v4", "v1", make_photos(shop.directory.parent / "pairs", each=30, seed=21))
        assert (made.adapter.name, made.adapter.card.direction, made.adapter.card.dimension) == ("a1", "query", 8)
        checked = shop.check("v4", held_out())
        assert checked.passed, checked.verdict
        assert "through a1" in checked.pairs[0].reason
        shop.promote("v4")
        before = recall(shop)
        assert before > 0.4, "a tenth would be chance"
        found = shop.search(str(photo(shop)), k=5)
        assert {match.item.generation for match in found} == {shop.generation("v1").fingerprint}
        assert all(match.probability is not None for match in found)
        # Some items refreshed: each is compared in its own space, 12 dimensions beside 8, in one ranking.
        shop.refresh("v4", fraction=0.5)
        assert spaces(shop) == {"v1": 100, "v4": 100}
        assert len(shop.search(str(photo(shop)), k=300)) == 200
        assert recall(shop) > before

    def test_adapter_serves_one_way_only(self, shop: Workspace) -> None:
        shop.adapt("v4", "v1", held_out())
        shop.check("v4", held_out())
        state = shop.holdings.state
        new, old = shop.generation("v4").fingerprint, shop.generation("v1").fingerprint
        assert state.may_compare(new, old)
        assert not state.may_compare(old, new)

    def test_stored_vectors_are_mapped_without_an_image(self, shop: Workspace, tmp_path: Path) -> None:
        shop.adapt("v3", "v1", held_out(), direction="gallery", kind="procrustes")
        plan = shop.plan("v3", adapter="a1")
        assert plan.seconds == 0
        with pytest.raises(RefusedError, match="not been checked"):
            shop.refresh("v3", adapter="a1")
            shop.promote("v3")
        assert shop.check("v3", held_out(), against="a1").passed
        shop.check("v3", held_out(), against="v1")
        (tmp_path / "photos").rename(tmp_path / "lost")
        for unused in ({"images": tmp_path}, {"cluster": "local"}):
            with pytest.raises(InputError, match=f"looks at no image: leave the {next(iter(unused))} out"):
                shop.refresh("v3", adapter="a1", **unused)
        done = shop.refresh("v3", adapter="a1")
        assert (done.refreshed, done.problems) == (0, ())
        shop.promote("v3")
        assert spaces(shop) == {"a1": 200}
        (tmp_path / "lost").rename(tmp_path / "photos")
        assert shop.doctor() == []
        assert recall(shop) > 0.4, "a tenth would be chance"
        assert shop.rollback() == "v1"

    def test_doctor_names_an_altered_adapter(self, shop: Workspace) -> None:
        shop.adapt("v3", "v1", held_out(), kind="procrustes")
        path = shop.directory / "adapters" / "a0001" / "adapter.safetensors"
        path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
        assert ["adapter.safetensors" in problem for problem in shop.doctor()] == [True]

    def test_kinds_that_do_not_fit_are_refused(self, shop: Workspace) -> None:
        with pytest.raises(InputError, match="No adapter is called 'magic'"):
            shop.adapt("v4", "v1", held_out(), kind="magic")
        with pytest.raises(InputError, match="does not map 12 to 8 dimensions"):
            shop.adapt("v4", "v1", held_out(), direction="query", kind="drift")
        with pytest.raises(InputError, match="needs no adapter to itself"):
            shop.adapt("v1", "v1", held_out())


def test_a_picture_that_changes_after_it_was_found_is_none(tmp_path: Path) -> None:
    first, second = sorted(make_photos(tmp_path / "photos", each=1).rglob("*.png"))[:2]
    wanted = {sha256_of(first): first.read_bytes(), sha256_of(second): second.read_bytes()}
    entries = [Entry(str(tmp_path / "gone.png")), Entry(str(first)), Entry(str(second))]
    look = item_images.by_content(Listing(entries), wanted, Preprocessing(size=16), Watcher())
    assert {content: look(content) for content in wanted} == wanted
    first.write_bytes(second.read_bytes())
    second.unlink()
    assert [look(content) for content in (*wanted, "0" * 64)] == [None, None, None]
