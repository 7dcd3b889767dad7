"""What each way of answering costs, and which of them is recommended."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import as_json, evergallery
from evergallery import Workspace
from evergallery.cli.printing import print_plan
from evergallery.errors import InputError
from evergallery.holdings.answer import Answer
from evergallery.retrieval.bootstrap import Interval
from evergallery.upgrade.evidence import Evidence, Outcome
from evergallery.upgrade.gate import Gate, Scope
from evergallery.upgrade.options import Cost, Option, Recommendation, options_of, recommend
from shops import held_out, make_shop

GATE = Gate(cross_test=-2.0, negative_flips=15.0, queries=200)
COST = Cost(old=0.010, new=0.020, each=0.004, items=1000, bytes_each=400, price=3.6)


def outcome(way: str, score: float, share: float = 0.0, candidates: int | None = None, images: float = 0.0) -> Outcome:
    change = Interval(score - 0.6, score - 0.61, score - 0.59)
    return Outcome.model_validate(
        {"way": way, "share": share, "candidates": candidates, "score": score, "change": change,
         "negative_flips": 0.3 if score < 0.5 else 0.02, "images": images, "images_kept": images / 10}
    )  # fmt: skip


def measured(new: float = 0.7, direct: float = 0.4, few: float = 0.65, many: float = 0.7) -> Evidence:
    def figures(recall: float) -> dict[str, Any]:
        return {"all": {"recall": {1: recall}, "mAP@R": 0.3, "queries": 2000, "dropped": 0}}

    return Evidence.model_validate(
        {
            "new": "v2", "old": "v1", "fingerprints": ("b" * 64, "a" * 64), "protocol": "", "data": "d" * 64,
            "queries": 2000,
            "figures": {"old self": figures(0.6), "new self": figures(new), "cross": figures(direct)},
            "cross_change": Interval(direct - 0.6, direct - 0.61, direct - 0.59),
            "self_change": Interval(new - 0.6, new - 0.61, new - 0.59),
            "forgetting": None, "negative_flips": 0.3, "positive_flips": 0.1,
            "calibrations": {"old self": None, "new self": None, "cross": None}, "time": "2026-01-01T00:00:00+00:00",
            "outcomes": [
                outcome("wait", 0.6), outcome("direct", direct), outcome("dual", 0.6), outcome("dual", 0.64, 0.25),
                outcome("rescore", few, candidates=10, images=10), outcome("rescore", many, candidates=50, images=50),
                outcome("refresh", new, 1.0),
            ],
        }
    )  # fmt: skip


def advised(evidence: Evidence, cost: Cost = COST) -> Recommendation:
    return recommend(evidence, options_of(evidence, GATE, cost), GATE, cost)


def by_name(evidence: Evidence, cost: Cost = COST) -> dict[str, Option]:
    return {option.name: option for option in options_of(evidence, GATE, cost)}


def test_what_each_way_costs() -> None:
    found = by_name(measured())
    assert list(found) == [
        "wait: v1 answers alone", "directly", "dual query", "dual query, 25 % refreshed", "re-score 10", "re-score 50",
        "everything refreshed",
    ]  # fmt: skip
    milliseconds = {name: option.milliseconds for name, option in found.items()}
    assert milliseconds["wait: v1 answers alone"] == pytest.approx(10)
    assert milliseconds["directly"] == pytest.approx(20)
    assert milliseconds["dual query"] == pytest.approx(30)
    assert milliseconds["re-score 10"] == pytest.approx(30 + 10 * 4)
    assert milliseconds["everything refreshed"] == pytest.approx(20)
    everything, part = found["everything refreshed"], found["dual query, 25 % refreshed"]
    assert (everything.seconds, everything.bytes, everything.money) == pytest.approx((4.0, 400_000, 0.004))
    assert (part.seconds, part.bytes, part.money) == pytest.approx((1.0, 100_000, 0.001))
    assert (found["re-score 10"].seconds, found["re-score 10"].images) == (0.0, 10)
    assert [name for name, option in found.items() if not option.passes] == ["directly"]


def test_what_nobody_knows_is_not_invented() -> None:
    found = by_name(measured(), Cost())
    assert found["everything refreshed"].seconds is None
    assert found["everything refreshed"].bytes is None
    assert found["re-score 10"].milliseconds is None


def test_vectors_that_follow_from_one_another_cost_nothing() -> None:
    found = by_name(measured(), Cost(old=0.01, new=0.02, each=0.004, items=1000, bytes_each=400, follows=True))
    assert found["everything refreshed"].seconds == 0
    assert found["dual query"].milliseconds == pytest.approx(20)
    assert found["re-score 50"].images == 0


@pytest.mark.parametrize(
    ("evidence", "cost", "answer", "refresh", "words"),
    [
        (measured(new=0.6), COST, None, False, "You do not need this upgrade: v2 alone is not shown to be better"),
        (measured(new=0.5), COST, None, False, "is shown to be worse than v1 alone"),
        (measured(direct=0.695), COST, Answer.of("direct"), False, "evergallery promote v2 --answer direct"),
        (measured(few=0.695), COST, Answer.of("rescore", 10), False, "--answer rescore --candidates 10"),
        (measured(), COST, Answer.of("rescore", 50), False, "at 50 images a query at first"),
        # 50 images of 100 ms do not fit into the time of a search.
        (measured(), Cost(0.01, 0.1, 0.1, 1000, 400), Answer(), True, "Refresh first: everything refreshed gives 70.0 %"),
        (measured(many=0.66), COST, Answer(), True, "evergallery refresh v2"),
        (measured(), Cost(0.01, 0.02, 0.004, 1000, 400, follows=True), Answer(), True, "no image is read"),
        (measured().model_copy(update={"queries": 150}), COST, None, False, "You do not need this upgrade"),
    ],
)  # fmt: skip
def test_what_is_recommended(evidence: Evidence, cost: Cost, answer: Answer | None, refresh: bool, words: str) -> None:
    found = advised(evidence, cost)
    assert (found.answer, found.refresh) == (answer, refresh)
    assert words in found.text


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_shop(tmp_path_factory.mktemp("shop"))


def test_check_and_plan_recommend_what_works(shop: Workspace) -> None:
    """What is recommended is a command that the gate lets pass."""
    advice = shop.check("v3", held_out(), price_per_hour=2.0).pairs[0].advice
    assert advice.answer is not None
    assert shop.promote("v3", answer=advice.answer).changed
    assert shop.rollback() == "v1"
    planned = shop.plan("v3", price_per_hour=2.0)
    assert planned.advice is not None
    names = [option.name for option in planned.options]
    assert names[0] == "wait: v1 answers alone"
    assert names[-1] == "everything refreshed"
    assert all(option.money is not None for option in planned.options)
    shop.discard()


@pytest.mark.parametrize(
    ("advice", "shown"),
    [
        (("keep", "answer"), ["keep"]),
        (("answer", "keep"), ["answer"]),
        (("answer", "refresh"), ["answer", "refresh"]),
        (("answer", "answer"), ["answer"]),
        (("keep", "keep"), ["keep"]),
    ],
)
def test_advice_on_older_vectors_does_not_contradict_that_of_the_generation_that_answers(
    shop: Workspace, advice: tuple[str, str], shown: list[str]
) -> None:
    """The first pair is with the generation that answers, the second with another one whose vectors are searched."""
    check = shop.check("v3", held_out())
    told = {
        "keep": Recommendation("keep", None),
        "answer": Recommendation("answer", Answer()),
        "refresh": Recommendation("refresh", Answer(), refresh=True),
    }
    pairs = tuple(
        replace(check.pairs[0], advice=told[text], scope=Scope(alone=alone))
        for text, alone in zip(advice, (True, False), strict=True)
    )
    found = replace(check, pairs=pairs)
    assert [recommendation.text for recommendation in found.advice] == found.to_dict()["advice"] == shown


@pytest.mark.parametrize(
    ("answer", "last"),
    [
        (None, "To refresh all the same:  evergallery refresh v3"),
        (Answer(), "Next:  evergallery refresh v3"),
    ],
)
def test_a_plan_whose_advice_is_to_keep_the_old_generation_does_not_go_on_to_a_refresh(
    shop: Workspace, answer: Answer | None, last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = replace(shop.plan("v3"), advice=Recommendation("Advice.", answer))
    print_plan(replace(plan, recall={"random": tuple(0.5 for _ in plan.shares)}))
    told = capsys.readouterr().out.splitlines()
    assert "Advice." in told
    assert told[-1].startswith(last)


def test_on_the_command_line(shop: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Wide enough for every column.
    monkeypatch.setenv("COLUMNS", "200")
    images = held_out()
    vectors: dict[str, Any] = {name: shop.extract(shop.generation(name), images) for name in ("v1", "v3")}
    np.savez(tmp_path / "held-out.npz", labels=images.labels, **vectors)
    shop.close()
    here, data = ("-w", shop.directory), ("--data", tmp_path / "held-out.npz")
    told = evergallery("check", "v3", *data, "--price-per-hour", 2, *here, expect=1).stdout
    for words in (
        "Ways of answering",
        "dual query",
        "re-score 20",
        "everything refreshed",
        "money",
        "--answer rescore",
    ):
        assert words in told
    found = as_json("check", "v3", *data, *here, expect=1)["pairs"][0]
    assert {option["outcome"]["way"] for option in found["options"]} >= {"wait", "direct", "dual", "rescore", "refresh"}
    assert "--answer rescore" in found["advice"]
    assert "re-score 20" in evergallery("plan", "v3", *here).stdout
    done = as_json("promote", "v3", "--answer", "rescore", "--candidates", 50, *here)
    assert done["answer"] == {"way": "rescore", "candidates": 50, "seconds": 2.0}
    assert "50 candidates from older vectors are scored again" in evergallery("status", *here).stdout
    assert (
        "--answer 'some' is not usable: it is one of"
        in evergallery("promote", "v3", "--answer", "some", *here, expect=2).stderr
    )
    assert as_json("rollback", *here)["promoted"] == "v1"


def test_several_candidates_have_wider_intervals(shop: Workspace, tmp_path: Path) -> None:
    alone = shop.check("v2", held_out()).pairs[0].evidence
    found = shop.compare(["v2", "v3", "v4"], held_out(), against="v1")
    assert {check.candidate for check in found} == {"v2", "v3", "v4"}
    scores = [check.pairs[0].evidence.score("new self") for check in found]
    assert scores == sorted(scores, reverse=True)
    wide = next(check.pairs[0].evidence for check in found if check.candidate == "v2")
    for change, wider in ((alone.self_change, wide.self_change), (alone.cross_change, wide.cross_change)):
        assert change.mean == wider.mean
        assert wider.low < change.low < change.high < wider.high
    # 98.33 % in place of 95 %: 2.39 in place of 1.96 standard errors.
    ratio = (wide.self_change.high - wide.self_change.low) / (alone.self_change.high - alone.self_change.low)
    assert ratio == pytest.approx(2.394 / 1.960, rel=0.08)
    for wrong in (["v2"], ["v2", "v2"]):
        with pytest.raises(InputError, match="two candidates or more"):
            shop.compare(wrong, held_out())
    images = held_out()
    vectors: dict[str, Any] = {name: shop.extract(shop.generation(name), images) for name in ("v1", "v2", "v3")}
    np.savez(tmp_path / "held-out.npz", labels=images.labels, **vectors)
    shop.close()
    data, here = ("--data", tmp_path / "held-out.npz"), ("-w", shop.directory)
    told = evergallery("check", "--candidates", "v2,v3", *data, *here).stdout
    assert "2 candidates, the best alone first" in told
    assert len(as_json("check", "--candidates", "v2,v3", *data, *here)["candidates"]) == 2
    assert "exactly one of both" in evergallery("check", "v2", "--candidates", "v2,v3", *data, *here, expect=2).stderr
