"""Ways of answering while a gallery is old: what is searched, what is kept, what the gate says, and the way back to the bit."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import models
from conftest import as_json, evergallery
from evergallery import Workspace
from evergallery.errors import InputError, RefusedError
from evergallery.extraction.images import find_images
from evergallery.gallery.items import View
from evergallery.holdings.answer import Answer, Way
from evergallery.holdings.comparing import stored_spaces
from evergallery.holdings.embedding import embed
from evergallery.holdings.spaces import Space
from evergallery.searching import rescoring
from evergallery.searching.routes import Queries
from evergallery.searching.searching import answer_vectors
from evergallery.upgrade.promotion import judge
from shops import held_out, make_photos, make_shop, spaces, vectors


@pytest.fixture
def shop(tmp_path: Path) -> Workspace:
    """v1 sees worn, v3 better in other coordinates; v1's vectors of 200 photographs are stored, and v3 has been checked."""
    shop = make_shop(tmp_path)
    (shop.directory / "gate.toml").write_text("cross_test = -10.0\nnegative_flips = 20.0\nqueries = 200\n")
    shop.check("v3", held_out())
    return shop


def photos(shop: Workspace, count: int = 8) -> list[Path]:
    """New ones, of which the gallery has none."""
    return sorted(make_photos(shop.directory.parent / "queries", each=1, seed=5).rglob("*.png"))[:count]


def answers(shop: Workspace, path: Path, **options: Any) -> list[tuple[str, str, float]]:
    found = shop.search(path, **options)
    return [(match.item.id, match.item.generation, round(match.score, 5)) for match in found]


def right(shop: Workspace, paths: list[Path]) -> int:
    return sum(shop.search(path, k=1)[0].item.label == path.parent.name for path in paths)


class TestDual:
    def test_nothing_refreshed_answers_to_the_bit_as_before(self, shop: Workspace) -> None:
        before = [answers(shop, path) for path in photos(shop)]
        with pytest.raises(RefusedError, match="NOT MET: cross-test"):
            shop.promote("v3")
        done = shop.promote("v3", answer="dual")
        assert done.judged.endswith("by queries of v1 itself, at the worst share that is refreshed")
        assert [answers(shop, path) for path in photos(shop)] == before
        assert shop.status().answer == "older vectors are searched by the generation that made them (dual query)"

    def test_each_space_is_asked_by_its_own_model(self, shop: Workspace) -> None:
        shop.promote("v3", answer="dual")
        shop.refresh("v3", fraction=0.5)
        assert spaces(shop) == {"v1": 100, "v3": 100}
        path = photos(shop)[0]
        seen = {name: embed(shop.holdings, path, shop.generation(name)) for name in ("v1", "v3")}
        stored = {item.id: item for batch in shop.gallery.iterate() for item in batch}
        by_space = {shop.generation(name).fingerprint: vector for name, vector in seen.items()}
        for result in shop.search(path, k=20):
            item = stored[result.item.id]
            assert result.score == pytest.approx(float(by_space[item.generation] @ item.embedding), abs=1e-5)
        found = [result.probability for result in shop.search(path, k=20)]
        probabilities = [value for value in found if value is not None]
        assert len(probabilities) == len(found)
        assert probabilities == sorted(probabilities, reverse=True)
        assert right(shop, photos(shop, 10)) >= 9

    def test_vectors_of_both_models_ask_without_any_picture(self, shop: Workspace) -> None:
        shop.promote("v3", answer="dual")
        shop.refresh("v3", fraction=0.5)
        path = photos(shop)[0]
        seen = {name: embed(shop.holdings, path, shop.generation(name)) for name in ("v1", "v3")}
        expected = answers(shop, path)
        found = shop.search(seen)
        assert [(match.item.id, match.item.generation, round(match.score, 5)) for match in found] == expected
        with pytest.raises(
            RefusedError, match="Vectors of v1 are asked by v1 itself, which has not looked at this query"
        ):
            shop.search(seen["v3"])
        with pytest.raises(InputError, match="no vector of v3, which searches"):
            shop.search({"v1": seen["v1"]})

    def test_a_stored_item_asks_by_every_model(self, shop: Workspace) -> None:
        shop.promote("v3", answer="dual")
        shop.refresh("v3", fraction=0.5)
        for item in [next(iter(shop.gallery.iterate(batch_size=200)))[place] for place in (0, 150)]:
            found = shop.search(item=item.id, k=30)
            assert {match.item.generation for match in found} == {
                shop.generation(name).fingerprint for name in ("v1", "v3")
            }
            assert all(match.item.id != item.id for match in found)

    def test_new_items_lie_beside_vectors_that_nobody_compares_them_with(self, shop: Workspace) -> None:
        with pytest.raises(RefusedError):
            shop.index(photos(shop)[0].parents[1], generation="v3")
        shop.promote("v3", answer="dual")
        shop.index(photos(shop)[0].parents[1])
        assert spaces(shop) == {"v1": 200, "v3": 10}
        assert {space.state for space in shop.status().spaces or ()} == {"current", "compatible"}


class TestRescoring:
    def test_the_upgrade_before_anything_was_refreshed(self, shop: Workspace) -> None:
        queries = photos(shop, 10)
        before = right(shop, queries)
        shop.promote("v3", answer=Answer.of("rescore", 50))
        assert spaces(shop) == {"v1": 200}
        assert right(shop, queries) > before
        assert right(shop, queries) >= 9

    def test_what_is_made_is_kept_and_nothing_is_made_twice(
        self, shop: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shop.promote("v3", answer=Answer.of("rescore", 20))
        path = photos(shop)[0]
        asker = Space(shop.generation("v3"))
        seen = {shop.generation("v1").fingerprint: embed(shop.holdings, path, shop.generation("v1"))[None]}
        query = embed(shop.holdings, path, shop.generation("v3"))[None]
        first, again = (answer_vectors(shop.holdings, asker, Queries(query, seen)) for _ in range(2))
        assert first.rescored is not None
        assert again.rescored is not None
        how, then = first.rescored[0], again.rescored[0]
        assert (how.candidates, how.kept, how.embedded, how.gone, how.late) == (20, 0, 20, 0, 0)
        assert spaces(shop) == {"v1": 180, "v3": 20}
        assert (then.candidates, then.kept, then.embedded) == (20, 20, 0)
        names = [match.item.id for match in first.results[0]]
        assert [match.item.id for match in again.results[0]] == names
        stored = shop.gallery.get_many(names)
        for result in first.results[0]:
            assert result.item.generation == asker.fingerprint
            assert result.score == pytest.approx(float(query[0] @ stored[result.item.id].embedding), abs=1e-5)

    def test_a_rollback_answers_to_the_bit_as_before(self, shop: Workspace) -> None:
        queries, held = photos(shop), vectors(shop)
        before = [answers(shop, path) for path in queries]
        shop.promote("v3", answer="rescore")
        for path in queries:
            shop.search(path)
        assert vectors(shop) != held
        assert shop.rollback() == "v1"
        assert (vectors(shop), shop.holdings.state.answer) == (held, Answer())
        assert [answers(shop, path) for path in queries] == before
        shop.discard()
        assert vectors(shop) == held

    def test_images_that_are_gone_keep_their_score_and_are_counted(self, shop: Workspace) -> None:
        for path in (shop.directory.parent / "photos").rglob("*.png"):
            path.unlink()
        path = photos(shop)[0]
        before = answers(shop, path)
        shop.promote("v3", answer="rescore")
        assert answers(shop, path) == before
        query = embed(shop.holdings, path, shop.generation("v3"))[None]
        seen = {shop.generation("v1").fingerprint: embed(shop.holdings, path, shop.generation("v1"))[None]}
        found = answer_vectors(shop.holdings, Space(shop.generation("v3")), Queries(query, seen))
        assert found.rescored is not None
        assert (found.rescored[0].gone, found.rescored[0].embedded) == (20, 0)
        assert shop.status().problems == {"image missing": len({*shop.status().reasons})}

    def test_the_time_on_images_is_bounded(self, tmp_path: Path) -> None:
        shop = Workspace.create(tmp_path / "slow", size=16)
        shop.register(models.worn, size=16)
        shop.register(models.slow, size=16)
        shop.index(make_photos(tmp_path / "photos"))
        shop.promote("v2", answer=Answer.of("rescore", 100, 0.3), force=True, why="a rehearsal")
        path = photos(shop)[0]
        query = embed(shop.holdings, path, shop.generation("v2"))[None]
        seen = {shop.generation("v1").fingerprint: embed(shop.holdings, path, shop.generation("v1"))[None]}
        found = answer_vectors(shop.holdings, Space(shop.generation("v2")), Queries(query, seen))
        assert found.rescored is not None
        how = found.rescored[0]
        # 20 ms an image: some 15 fit, and what is late keeps its older score.
        assert 0 < how.embedded < 60
        assert how.late == 100 - how.embedded
        assert len(found.results[0]) == 10

    def test_a_commit_in_the_middle_of_a_search_leaves_no_item_twice(
        self, shop: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shop.promote("v3", answer="rescore")
        first, second = photos(shop, 2)
        shop.search(first)
        looked: Any = find_images

        def commit_meanwhile(*arguments: Any, **named: Any) -> object:
            monkeypatch.undo()
            shop.commit()
            return looked(*arguments, **named)

        monkeypatch.setattr(rescoring, "find_images", commit_meanwhile)
        shop.search(second)
        assert sum(spaces(shop).values()) == 200
        assert shop.doctor() == []
        assert shop.holdings.state.refresh is not None
        assert (shop.holdings.state.refresh.id, shop.holdings.state.refresh.shown) == ("r2", True), (
            "what was made is kept in another one"
        )
        found = shop.search(second)
        assert len({match.item.id for match in found}) == len(found)

    def test_after_a_commit_searches_keep_what_they_make(self, shop: Workspace) -> None:
        first, second = photos(shop, 2)
        shop.promote("v3", answer="rescore")
        shop.search(first)
        shop.commit()
        committed = spaces(shop)["v3"]
        assert shop.holdings.state.refresh is None
        told = shop.search(second)
        assert spaces(shop)["v3"] > committed
        again = shop.search(second)
        assert [match.item.id for match in again] == [match.item.id for match in told]
        assert [match.score for match in again] == pytest.approx([match.score for match in told])
        shop.promote("v3", answer="dual")
        shop.commit()
        settled = spaces(shop)["v3"]
        shop.search(first)
        assert (shop.holdings.state.refresh, spaces(shop)["v3"]) == (None, settled), (
            "who answers otherwise keeps nothing"
        )
        assert shop.doctor() == []

    def test_filters_and_limits_hold(self, shop: Workspace) -> None:
        from evergallery.gallery.items import Filter

        shop.promote("v3", answer="rescore")
        path = photos(shop)[0]
        label = path.parent.name
        found = shop.search(path, k=5, where=Filter(labels=(label,)))
        assert {match.item.label for match in found} == {label}
        least = found[2].score
        assert all(match.score >= least for match in shop.search(path, minimum_score=least))
        assert all(
            match.probability >= 0.9 for match in shop.search(path, minimum_probability=0.9) if match.probability
        )

    def test_another_generation_is_asked_as_itself(self, shop: Workspace) -> None:
        path = photos(shop)[0]
        before = answers(shop, path)
        shop.promote("v3", answer="rescore")
        assert answers(shop, path, generation="v1") == before
        assert spaces(shop) == {"v1": 200}

    def test_a_model_that_cannot_look_cannot_score_again(self, tmp_path: Path) -> None:
        shop = Workspace.create(tmp_path / "shop", size=16)
        draw = np.random.default_rng(0)
        for name in ("v1", "v2"):
            table = draw.normal(size=(300, 8)).astype(np.float32)
            labels = (np.arange(300) % 10).astype(str)
            np.savez(tmp_path / f"{name}.npz", embeddings=table, ids=np.arange(300).astype(str), labels=labels)
            shop.import_vectors(tmp_path / f"{name}.npz", refresh=name == "v2")
        shop.discard()
        with pytest.raises(InputError, match="v2 has vectors only and cannot look at images"):
            shop.promote("v2", answer="rescore", force=True, why="a rehearsal")


class TestChoosing:
    def test_the_way_is_changed_judged_and_taken_back(self, shop: Workspace) -> None:
        shop.promote("v3", answer="dual")
        assert not shop.promote("v3").changed
        assert shop.promote("v3", answer=Answer.of("rescore", 50)).changed
        assert shop.holdings.state.answer == Answer.of("rescore", 50)
        assert shop.log()[-1]["answer"].startswith("50 candidates")
        assert shop.rollback() == "v3"
        assert shop.holdings.state.answer == Answer.of("dual")
        assert shop.rollback() == "v1"
        assert shop.holdings.state.answer == Answer()

    def test_a_way_that_does_not_pass_is_refused(self, shop: Workspace) -> None:
        with pytest.raises(RefusedError, match="choose a way of answering with --answer"):
            shop.promote("v3", answer="direct")
        with pytest.raises(RefusedError, match="v3 has not been checked in the way adapter against v1"):
            shop.promote("v3", answer="adapter")
        (shop.directory / "gate.toml").write_text("cross_test = 99.0\nqueries = 200\n")
        ways: tuple[Way, ...] = ("dual", "rescore")
        for way in ways:
            with pytest.raises(RefusedError, match="NOT MET: cross-test"):
                shop.promote("v3", answer=way)

    def test_another_way_does_not_hide_what_was_forced(self, shop: Workspace) -> None:
        shop.promote("v3", force=True, why="a rehearsal")
        shop.promote("v3", answer="dual")
        assert (shop.status().forced or "").startswith("a rehearsal")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("some",), "No way of answering is called 'some'"),
            (("dual", 10), "Candidates belong to re-scoring"),
            (("rescore", 0), "candidates = 0"),
            (("rescore", None, -1.0), "seconds"),
        ],
    )
    def test_what_is_no_way(self, arguments: tuple[Any, ...], message: str) -> None:
        with pytest.raises(InputError, match=message):
            Answer.of(*arguments)

    def test_an_older_workspace_answers_as_it_did(self, shop: Workspace) -> None:
        from evergallery.files import read_json, write_json

        path = shop.directory / "workspace.json"
        content = read_json(path)
        del content["answer"]
        write_json(path, content)
        assert Workspace(shop.directory).holdings.state.answer == Answer()

    def test_scores_move_and_are_translated(self, shop: Workspace) -> None:
        query = photos(shop)[0]
        own = shop.generation("v1").fingerprint
        scale = shop.holdings.state.scale(own, own, None)
        assert scale is not None
        score = -scale.intercept / scale.slope
        before = len(shop.search(query, k=200, minimum_score=score))
        done = shop.promote("v3", answer="dual")
        assert "Scores of v3 are not those of v1" in str(done)
        assert f"had a score of {score:.2f} and has " in str(done)
        assert str(done.scores) == done.lines[-1], "the note stands on a line of its own"
        assert len(shop.search(query, k=200, minimum_score=score, score_of="v1")) == before
        shop.refresh("v3")
        found = shop.search(query, k=200, minimum_score=score, score_of="v1")
        assert found
        assert min(match.probability or 0.0 for match in found) >= 0.5 - 1e-9
        with pytest.raises(InputError, match="give --min-score with it"):
            shop.search(query, score_of="v1")


def test_in_every_engine(tmp_path: Path, new_place: Callable[[], AbstractContextManager[str]]) -> None:
    with new_place() as place:
        shop = Workspace.create(tmp_path / "shop", size=16, store=place)
        (shop.directory / "gate.toml").write_text("cross_test = -10.0\nnegative_flips = 20.0\nqueries = 200\n")
        shop.register(models.worn, size=16)
        shop.register(models.turned, size=16)
        shop.index(make_photos(tmp_path / "photos", each=6))
        shop.check("v2", held_out())
        queries, held = photos(shop, 3), vectors(shop)
        before = [answers(shop, path) for path in queries]
        shop.promote("v2", answer="dual")
        assert [answers(shop, path) for path in queries] == before
        shop.promote("v2", answer=Answer.of("rescore", 30))
        assert right(shop, queries) == 3
        assert {space.name for space in stored_spaces(shop.holdings)} == {"v1", "v2"}
        shop.rollback()
        shop.rollback()
        assert vectors(shop) == held
        assert [answers(shop, path) for path in queries] == before
        shop.close()


class TestWhileARefreshIsCommitted:
    """Old vectors are given up between the moments in which a search reads the state, its item, and the gallery."""

    def test_a_search_by_an_item_answers_from_what_is_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shop = Workspace.create(tmp_path / "shop", size=16)
        draw = np.random.default_rng(0)
        for name in ("v1", "v2"):
            table = draw.normal(size=(50, 8)).astype(np.float32)
            table /= np.linalg.norm(table, axis=1, keepdims=True)
            np.savez(tmp_path / f"{name}.npz", embeddings=table, ids=np.arange(50).astype(str))
            shop.import_vectors(tmp_path / f"{name}.npz", refresh=name == "v2")
        gallery = shop.gallery
        committed: list[int] = []
        before = gallery.at_one_moment

        def late(ask: Callable[[], object], view: View) -> object:
            if not committed:
                committed.append(True)
                other = Workspace(shop.directory)
                other.holdings.__dict__["gallery"] = gallery
                other.promote("v2", force=True, why="a rehearsal")
                other.commit()
            return before(ask, view)

        monkeypatch.setattr(gallery, "at_one_moment", late)
        found = shop.search(item="7", k=5)
        assert committed
        assert len(found) == 5


class TestJudgedInAWay:
    def test_check_judges_what_promote_would(self, shop: Workspace) -> None:
        usual = shop.check("v3", held_out())
        assert not usual.passed
        assert usual.pairs[0].answer is None
        for way in ("dual", Answer.of("rescore", 50), "direct"):
            found = shop.check("v3", held_out(), answer=way)
            try:
                promoted = list(judge(shop.holdings, "v3", found.pairs[0].answer).conditions)
            except RefusedError:
                promoted = []
            assert [("v1", condition) for condition in found.pairs[0].conditions] == promoted
            assert found.passed == (way != "direct")
            assert found.verdict == usual.verdict, "what was measured stays what it is"
        with pytest.raises(InputError, match="^No adapter maps queries of v3 into vectors of v1: make one with "):
            shop.check("v3", "no images", answer="adapter")
        assert shop.promote("v3", answer="dual").changed

    def test_on_the_command_line(self, shop: Workspace, tmp_path: Path) -> None:
        made = make_photos(tmp_path / "held", each=25, seed=3)
        shop.close()
        common = ("check", "v3", "--data", made, "-w", shop.directory)
        evergallery(*common, expect=1)
        said = " ".join(evergallery(*common, "--answer", "dual").stdout.split())
        assert "Judged is the way dual" in said
        assert "evergallery promote v3 --answer dual" in said
        told = as_json(*common, "--answer", "rescore", "--answer-candidates", "50")
        assert told["pairs"][0]["answer"]["candidates"] == 50
        assert told["passed"]
        evergallery(*common, "--answer", "direct", expect=1)
        assert (
            "--answer 'both' is not usable: it is one of" in evergallery(*common, "--answer", "both", expect=2).stderr
        )
