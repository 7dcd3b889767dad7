"""The gate's conditions, its policy file, and the verdict in each of its five words."""

from pathlib import Path
from typing import Any

import pytest

from evergallery.errors import InputError
from evergallery.retrieval.bootstrap import Interval
from evergallery.upgrade.evidence import Evidence
from evergallery.upgrade.gate import DEFAULT, Gate
from evergallery.upgrade.verdict import verdict


def evidence(
    old: float = 0.60,
    new: float = 0.70,
    cross: float = 0.61,
    *,
    half: float = 0.01,
    forgetting: float | None = 0.0,
    negative: float = 0.05,
    queries: int = 2000,
    **changes: Any,
) -> Evidence:
    def figures(recall: float) -> dict[str, Any]:
        return {"all": {"recall": {1: recall}, "mAP@R": recall / 2, "queries": queries, "dropped": 0}}

    return Evidence.model_validate(
        {
            "new": "v2",
            "old": "v1",
            "fingerprints": ("b" * 64, "a" * 64),
            "protocol": "every image among the others",
            "data": "d" * 64,
            "queries": queries,
            "figures": {"old self": figures(old), "new self": figures(new), "cross": figures(cross)},
            "cross_change": Interval(cross - old, cross - old - half, cross - old + half),
            "self_change": Interval(new - old, new - old - half, new - old + half),
            "forgetting": forgetting,
            "negative_flips": negative,
            "positive_flips": negative + cross - old,
            "calibrations": {"old self": None, "new self": None, "cross": None},
            "time": "2026-01-01T00:00:00+00:00",
            **changes,
        }
    )


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate.read(tmp_path / "none.toml")


def met(gate: Gate, found: Evidence) -> dict[str, bool | None]:
    return {condition.name: condition.met for condition in gate.conditions(found)}


def test_default_policy_is_what_init_writes(gate: Gate, tmp_path: Path) -> None:
    (tmp_path / "gate.toml").write_text(DEFAULT)
    assert Gate.read(tmp_path / "gate.toml") == gate
    assert gate.self_test == -1.0
    assert (gate.cross_test, gate.forgetting, gate.negative_flips, gate.queries) == (-2.0, 1.0, 15.0, 200)


def test_every_condition_is_met_by_a_good_update(gate: Gate) -> None:
    assert met(gate, evidence()) == dict.fromkeys(
        ("queries", "self-test", "cross-test", "negative flips", "forgetting"), True
    )


@pytest.mark.parametrize(
    ("changes", "failing"),
    [
        ({"queries": 199}, "queries"),
        # The mean is fine; its interval reaches too far down.
        ({"cross": 0.60, "half": 0.021}, "cross-test"),
        ({"new": 0.6, "half": 0.0101}, "self-test"),
        ({"negative": 0.1501}, "negative flips"),
        ({"forgetting": 0.0101}, "forgetting"),
    ],
)
def test_each_condition_fails_alone(gate: Gate, changes: dict[str, Any], failing: str) -> None:
    assert [name for name, is_met in met(gate, evidence(**changes)).items() if not is_met] == [failing]


def test_a_better_generation_need_not_be_shown_to_be_no_worse_at_all(gate: Gate) -> None:
    """Some 500 queries: better by 2.3 points, with an interval of nearly three to each side."""
    change = Interval(0.023, -0.004, 0.05)
    assert all(met(gate, evidence(self_change=change, queries=500)).values())
    assert not met(gate, evidence(self_change=Interval(0.015, -0.012, 0.042), queries=500))["self-test"]


def test_figures_on_the_limit_pass(gate: Gate) -> None:
    found = evidence(cross=0.60, half=0.02 - 1e-12, negative=0.15, forgetting=0.01, queries=200)
    assert all(met(gate, found).values())


def test_conditions_say_what_was_measured_and_required(gate: Gate) -> None:
    words = [str(condition) for condition in gate.conditions(evidence(negative=0.2))]
    assert "met: cross-test: +1.0 (+0.0 to +2.0) against v1 alone, required lower end at least -2.0 points" in words
    assert "NOT MET: negative flips: 20.0 %, required at most 15 %" in words


def test_removed_lines_drop_their_conditions(tmp_path: Path) -> None:
    path = tmp_path / "gate.toml"
    path.write_text("queries = 5\nself_test = false\n")
    assert set(met(Gate.read(path), evidence(negative=0.9, forgetting=0.5))) == {"queries"}


def test_policy_of_an_older_workspace_asks_for_the_self_test_too(tmp_path: Path) -> None:
    path = tmp_path / "gate.toml"
    path.write_text("queries = 5\n")
    assert met(Gate.read(path), evidence(new=0.5)) == {"queries": True, "self-test": False}


def test_forgetting_that_could_not_be_measured_is_told_and_refuses_nothing(gate: Gate) -> None:
    found = evidence(forgetting=None, forgetting_not_measured="v1 knows no class")
    condition = next(condition for condition in gate.conditions(found) if condition.name == "forgetting")
    assert (condition.met, condition.failed) == (None, False)
    assert str(condition).startswith("not measured: forgetting: v1 knows no class, required at most 1 point")
    assert verdict(gate, found)[1].endswith("Forgetting was not measured: v1 knows no class.")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("queries = ", "is not TOML"),
        ("# Für alle\nqueries = 5", "is not TOML .*utf-8"),
        ("querys = 5", "querys is not usable"),
        ("self_test = true", "self_test"),
        ("queries = 0", "queries is not usable"),
        ("confidence = 95", "confidence is not usable"),
        ('negative_flips = "few"', "negative_flips is not usable"),
    ],
)
def test_policy_that_cannot_be_used_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "gate.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=message):
        Gate.read(path)


class TestVerdict:
    def test_compatible(self, gate: Gate) -> None:
        word, reason = verdict(gate, evidence())
        assert word == "compatible"
        assert "reach recall@1 61.0 % directly (+1.0, 95 % interval +0.0 to +2.0), v1 alone 60.0 %" in reason
        assert "in vectors of its own v2 reaches 70.0 % (+10.0" in reason

    def test_compatible_after_an_adapter_that_is_there(self, gate: Gate) -> None:
        word, reason = verdict(gate, evidence(cross=0.1, negative=0.5), evidence(adapter="a1"))
        assert word == "compatible after an adapter"
        assert "61.0 % through a1" in reason
        assert "evergallery adapt" not in reason

    def test_compatible_after_an_adapter_that_could_be_made(self, gate: Gate) -> None:
        word, reason = verdict(gate, evidence(cross=0.1), evidence(adapter="procrustes", estimated=True))
        assert word == "compatible after an adapter"
        assert "evergallery adapt v2 v1" in reason

    def test_needs_refresh(self, gate: Gate) -> None:
        word, reason = verdict(gate, evidence(cross=0.1), evidence(cross=0.3, adapter="a1"))
        assert word == "needs refresh"
        assert "in vectors of its own v2 reaches 70.0 %" in reason

    def test_every_route_that_was_measured_is_named(self, gate: Gate) -> None:
        routes = [evidence(cross=cross, adapter=name) for cross, name in ((0.558, "a1"), (0.3, "a2"))]
        for self_test in (0.7, 0.6, 0.5):
            reason = verdict(gate, evidence(cross=0.013, new=self_test), *routes)[1]
            assert "1.3 % directly" in reason
            assert "55.8 % through a1" in reason
            assert "30.0 % through a2" in reason

    def test_worse(self, gate: Gate) -> None:
        word, reason = verdict(gate, evidence(new=0.55, cross=0.1))
        assert word == "worse"
        assert "would not pay" in reason

    @pytest.mark.parametrize("change", [-0.009, -0.001, 0.0, 0.001, 0.009])
    def test_an_interval_that_holds_zero_shows_neither_worse_nor_better(self, gate: Gate, change: float) -> None:
        word, reason = verdict(gate, evidence(new=0.6 + change, cross=0.1))
        assert word == "not shown"
        assert ("no number of queries would decide" if change == 0 else "more queries would decide") in reason

    def test_a_route_that_may_yet_serve_is_not_given_up(self, gate: Gate) -> None:
        """The interval of the cross-test reaches to both sides of what is asked for."""
        word, reason = verdict(gate, evidence(new=0.7, cross=0.585, half=0.01))
        assert word == "not shown"
        assert ": compatible, with a power of 80 %" in reason
        assert verdict(gate, evidence(new=0.7, cross=0.585, half=0.004))[0] == "compatible"
        assert verdict(gate, evidence(new=0.7, cross=0.565, half=0.01))[0] == "needs refresh"

    def test_flips_are_no_reason_for_a_refresh_until_their_interval_says_so(self, gate: Gate) -> None:
        assert verdict(gate, evidence(negative=0.16, queries=300))[0] == "not shown"
        assert verdict(gate, evidence(negative=0.16, queries=30_000))[0] == "needs refresh"

    def test_below_the_least_number_of_queries_nothing_is_concluded(self, gate: Gate) -> None:
        word, reason = verdict(gate, evidence(queries=150))
        assert word == "not shown"
        assert reason.startswith("50 more queries would decide, 200 in all")

    def test_the_power_is_that_of_the_paired_differences(self, gate: Gate) -> None:
        change = Interval(0.01, -0.02, 0.04, deviation=0.3)
        word, reason = verdict(gate, evidence(cross=0.1, queries=400, self_change=change))
        # (1.96 + 0.84)² · 0.3² / 0.01²
        assert word == "not shown"
        assert reason.startswith("6664 more queries would decide, 7064 in all")
        assert "needs refresh, with a power of 80 %" in reason
