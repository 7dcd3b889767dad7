"""The whole upgrade on the command line, as a user meets it: words, JSON, exit statuses, wrong input."""

import errno
import shlex
from pathlib import Path

import numpy as np
import pytest

from conftest import as_json, evergallery, evergallery_any
from evergallery.cli.console import COMMAND
from evergallery.gallery.edge import EdgeStore
from evergallery.gallery.items import Item
from shops import learn_again, make_photos, make_shop


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    make_shop(folder).close()
    make_photos(folder / "held-out", each=30, seed=7)
    return folder


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nothing has been checked or refreshed here."""
    folder = tmp_path_factory.mktemp("fresh")
    make_shop(folder).close()
    return folder / "shop"


def test_an_upgrade_from_the_first_question_to_the_way_back(place: Path) -> None:
    here = ("-w", place / "shop")
    data = ("--data", place / "held-out")
    evergallery("promote", "v2", *here, expect=1)

    table = evergallery("check", "v2", *data, *here, "--against", "all", "--flips", 2, expect=1).stdout
    assert "queries of a row's generation in the vectors of a column's" in table
    assert "AC" in table
    assert "✓ negative flips" in table
    assert "Lost: " in table
    assert "Compatible: queries of v2 in vectors of v1" in table
    assert "Compatible after an adapter: queries of v2 in vectors of v3" in table or "vectors of v3" in table
    promoted = evergallery("promote", "v2", *here).stdout
    assert "✓ cross-test against v1: " in promoted
    assert (
        "v2 answers queries now. Judged: v2 alone against v1 alone and queries of v2 in vectors of v1 directly."
        in promoted.splitlines()
    ), "notes stand on lines of their own"

    assert f"would cost and give:  evergallery plan v2 -w {place / 'shop'}\n" in evergallery("status", *here).stdout
    plan = as_json("plan", "v2", *here)
    assert plan["items"] == {"v1": 200}
    told = evergallery("plan", "v2", *here).stdout
    assert "200 items to refresh (200 vectors of v1)" in told
    assert "No order is better than random beyond chance." in told
    assert "Next:  evergallery refresh v2" in told

    first = evergallery("refresh", "v2", "--fraction", 0.25, "--order", "uncertain", *here).stdout
    assert "r1: 50 refreshed" in first
    assert "stopped by the fraction" in first
    status = evergallery("status", *here).stdout
    assert ["v1", "compatible", "150"] in [line.split() for line in status.splitlines()]
    assert "r1, a refresh for v2: 50 done, 150 to go" in status
    assert as_json("refresh", "v2", *here)["remaining"] == 0
    assert evergallery("rollback", *here).stdout == "v1 answers queries again.\n"
    assert as_json("status", *here)["spaces"] == [{"name": "v1", "items": 200, "state": "current"}]
    evergallery("promote", "v2", *here)
    assert evergallery("refresh", "--commit", "--yes", *here).stdout == "200 earlier vectors deleted.\n"
    assert evergallery("doctor", *here).stdout.startswith("All is well")

    log = [entry["operation"] for entry in as_json("log", *here)]
    assert log[-5:] == ["refresh", "refresh", "rollback", "promote", "commit"]
    assert "commit  by " in evergallery("log", "--limit", 1, *here).stdout
    assert "  refresh: r1, generation: v2\n" in evergallery("log", "-n", 1, *here).stdout
    assert "models:better" in evergallery("diff", "v1", "v2", *here).stdout
    assert as_json("diff", "v1", "v4", *here)["dimension"] == {"v1": 8, "v4": 12}


def test_adapter_between_models_that_nobody_retrains(tmp_path: Path) -> None:
    make_shop(tmp_path).close()
    here = ("-w", tmp_path / "shop")
    pairs = make_photos(tmp_path / "pairs", each=15, seed=21)
    table = evergallery("adapt", "v4", "v1", "--pairs", pairs, *here).stdout
    assert "a1: v4 to v1, recall@1 in %" in table
    assert "(chosen)" in table
    assert "Next:  evergallery check v4 --against v1" in table
    held = make_photos(tmp_path / "held-out", each=30, seed=7)
    assert as_json("check", "v4", "--data", held, *here)["pairs"][0]["verdict"] == "compatible after an adapter"
    card = as_json("adapt", "v3", "v1", "--pairs", pairs, "--direction", "gallery", "--kind", "procrustes", *here)
    assert (card["name"], card["direction"], card["kind"]) == ("a2", "gallery", "procrustes")
    evergallery("check", "v3", "--data", held, "--against", "a2", *here)
    # In vectors of its own v3 is another matter than in those that a2 has mapped.
    evergallery("check", "v3", "--data", held, "--against", "v1", *here, expect=1)
    shadow = evergallery("refresh", "v3", "--with", "a2", *here).stdout
    assert "r1: 200 refreshed" in shadow
    assert "wait in the shadow until v3 is promoted" in shadow
    assert as_json("promote", "v3", *here)["promoted"] == "v3"
    assert as_json("status", *here)["spaces"] == [{"name": "a2", "items": 200, "state": "compatible"}]
    assert as_json("gallery", *here)["by_generation"] == {"a2": 200}
    assert len(as_json("gallery", "list", "--within", "a2", "--limit", 5, *here)) == 5
    assert as_json("search", tmp_path / "photos" / "class 3" / "060.png", *here)[0]["generation"] == "a2"


def commands(text: str) -> list[list[str]]:
    """What a message says to do next."""
    return [shlex.split(found[0])[1:] for found in COMMAND.finditer(text)]


@pytest.mark.parametrize(
    ("generation", "verbs"),
    [
        ("v2", ["check", "promote"]),
        ("v3", ["check", "adapt", "check", "promote"]),
    ],
)
def test_who_follows_what_is_said_gets_there(tmp_path: Path, generation: str, verbs: list[str]) -> None:
    make_shop(tmp_path).close()
    places = {
        "HELD_OUT": str(make_photos(tmp_path / "held-out", each=30, seed=7)),
        "IMAGES": str(make_photos(tmp_path / "pairs", each=15, seed=21)),
    }
    refused = evergallery("promote", generation, "-w", tmp_path / "shop", expect=1).stderr
    following = commands(refused)[0]
    done = []
    while following[0] != "promote":
        done.append(following[0])
        told = evergallery_any(*(places.get(word, word) for word in following))
        following = commands(told)[-1]
    assert [*done, "promote"] == verbs
    assert f"{generation} answers queries now" in evergallery(*following).stdout


def test_a_refresh_is_followed_by_the_check_and_the_promotion_that_it_needs(tmp_path: Path) -> None:
    make_shop(tmp_path).close()
    here = ("-w", tmp_path / "shop")
    held = make_photos(tmp_path / "held-out", each=30, seed=7)
    part = evergallery("refresh", "v3", "--fraction", 0.5, *here).stdout
    assert commands(part)[-1][:2] == ["refresh", "v3"]
    whole = evergallery(*commands(part)[-1]).stdout
    assert commands(whole)[-1][:2] == ["check", "v3"]
    told = evergallery_any("check", "v3", "--data", held, *here)
    assert commands(told)[-1][:2] == ["promote", "v3"], "its own vectors wait, so that those of v1 do not matter"
    evergallery(*commands(told)[-1])
    assert commands(evergallery("status", *here).stdout)[-1][:2] == ["refresh", "--commit"]


def test_what_is_said_of_two_generations_of_one_network_leads_to_the_commit(tmp_path: Path) -> None:
    shop = make_shop(tmp_path)
    again = learn_again(shop, "v3")
    shop.close()
    here = ("-w", tmp_path / "shop")
    held = make_photos(tmp_path / "held-out", each=30, seed=7)
    evergallery_any("check", again, "--data", held, *here)
    evergallery("refresh", "v3", *here)
    told = evergallery("refresh", again, *here).stdout
    assert f"wait in the shadow until {again} is promoted" in told
    assert commands(told)[-1][:2] == ["promote", again]
    assert "--min-score-of v1" in evergallery(*commands(told)[-1]).stdout
    status = evergallery("status", *here).stdout
    assert "searches use them" in status
    assert commands(status)[-1][:2] == ["refresh", "--commit"]
    assert "200 earlier vectors deleted" in evergallery("refresh", "--commit", "--yes", *here).stdout


def test_committing_asks_and_deletes_nothing_unasked(tmp_path: Path) -> None:
    shop = make_shop(tmp_path)
    shop.close()
    here = ("-w", tmp_path / "shop")
    evergallery("promote", "v3", "--force", "--why", "a rehearsal", *here)
    evergallery("refresh", "v3", *here)
    refused = evergallery("refresh", "--commit", *here, expect=2).stderr
    assert "Delete 200 earlier vectors for good?" in refused
    assert commands(refused)[0][:3] == ["refresh", "--commit", "--yes"]
    assert as_json("rollback", *here)["promoted"] == "v1", "the way back is there"
    evergallery("promote", "v3", "--force", "--why", "a rehearsal", *here)
    assert "promote against the gate  by" in evergallery("log", "--limit", 1, *here).stdout
    counted = evergallery(*commands(refused)[0])
    assert counted.stdout == "200 earlier vectors deleted.\n"
    assert "settling earlier and new versions: " in counted.stderr
    assert "--yes belongs to --commit" in evergallery("refresh", "v3", "--yes", *here, expect=2).stderr
    assert "No refresh is open" in evergallery("refresh", "--discard", "--yes", *here, expect=1).stderr, (
        "it asks nothing anyway"
    )
    unexplained = evergallery("promote", "v1", "--force", *here, expect=2).stderr
    assert commands(unexplained)[0][:5] == ["promote", "v1", "--force", "--why", "REASON"]


def test_the_report_says_by_what_right_a_generation_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What it finds is read, and no plot is looked at.
    monkeypatch.setattr("evergallery.report.page._svg", lambda *_: "<svg/>")
    make_shop(tmp_path).close()
    here = ("-w", tmp_path / "shop")
    held = ("--data", make_photos(tmp_path / "held-out", each=30, seed=7))
    report = ("report", "--generation", "v3", "--against", "v1", *held, *here)
    evergallery_any("check", "v3", *held, *here)
    assert any("The gate is not passed" in finding for finding in as_json(*report)["findings"])
    evergallery("refresh", "v3", *here)
    evergallery("promote", "v3", *here)
    evergallery("refresh", "--commit", "--yes", *here)
    findings = as_json(*report)["findings"]
    assert not any("not passed" in finding or "refused" in finding for finding in findings)
    assert any("the gate was passed then, judged on v3 alone against v1 alone" in finding for finding in findings)
    assert any("No vectors of v1 are searched" in finding for finding in findings)
    evergallery("promote", "v4", "--force", "--why", "a rehearsal", *here)
    marked = as_json("report", "--generation", "v4", "--against", "v1", *held, *here)["findings"]
    assert any(
        "v4 answers queries since" in finding and "against the gate: a rehearsal" in finding for finding in marked
    )
    assert "v4 (promoted against the gate)" in evergallery("generations", *here).stdout
    log = evergallery("log", "--limit", 1, *here).stdout
    assert "promote against the gate  by" in log
    assert "the gate said:" in log


def test_full_disk_in_the_middle_of_a_refresh_is_one_line_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_shop(tmp_path).close()
    here = ("-w", tmp_path / "shop")
    whole = EdgeStore.refresh
    calls = 0

    def full_at_the_third(store: EdgeStore, items: list[Item], refresh: str) -> int:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(errno.ENOSPC, f"No space left on device for the gallery in {store.directory}")
        return whole(store, items, refresh)

    with monkeypatch.context() as patched:
        patched.setattr(EdgeStore, "refresh", full_at_the_third)
        patched.setattr("evergallery.upgrade.refreshing.BATCH", 50)
        error = evergallery("refresh", "v3", *here, expect=5).stderr
    assert error.splitlines()[-1].startswith("evergallery: No space left on device for the gallery")
    assert "Traceback" not in error
    status = as_json("status", *here)
    assert status["refresh"]["refreshed"] == 100
    assert status["spaces"] == [{"name": "v1", "items": 200, "state": "current"}]
    assert as_json("refresh", "v3", *here)["refreshed"] == 100
    assert evergallery("doctor", *here).stdout.startswith("All is well")


def test_label_free_check_says_what_it_cannot_conclude(place: Path, tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    for index, path in enumerate(sorted((place / "held-out").rglob("*.png"))[:60]):
        (loose / f"{index}.png").write_bytes(path.read_bytes())
    told = evergallery("check", "v3", "--data", loose, "-w", place / "shop", "--against", "v1").stdout
    assert "% of the same 10 items among the vectors of v1" in told
    assert "Nobody knows which answers are right" in told
    assert "It opens no gate" in told


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["refresh"], 2, "exactly one of them"),
        (["refresh", "v2", "--commit"], 2, "exactly one of them"),
        (["refresh", "--commit"], 1, "No refresh is open"),
        (["refresh", "v2", "--budget", "soon"], 2, "--budget 'soon' is not a time"),
        (["refresh", "v2", "--until", "good"], 2, "--until 'good' is not a recall"),
        (["refresh", "v2", "--with", "a9"], 3, "no adapter 'a9'"),
        (["refresh", "v2", "--with", "v1"], 3, "no adapter 'v1'"),
        (["plan", "v2", "--with", "v1"], 3, "no adapter 'v1'"),
        (["plan", "v9"], 3, "no generation 'v9'"),
        (["adapt", "v2", "v1", "--pairs", "nowhere"], 2, "nowhere"),
        (
            ["adapt", "v2", "v1", "--pairs", ".", "--direction", "up"],
            2,
            "--direction 'up' is not usable: it is one of query, gallery. See",
        ),
        (["diff", "v1", "v9"], 3, "no generation 'v9'"),
        (["learn", ".", "--loss", "arcface"], 2, "name the method with --method"),
    ],
)
def test_wrong_input_is_one_line_and_a_status(fresh: Path, arguments: list[str], status: int, message: str) -> None:
    error = evergallery(*arguments, "-w", fresh, expect=status).stderr
    assert message in error
    assert error.count("\n") == 1
    assert "Traceback" not in error


def test_vectors_alone_can_be_upgraded(tmp_path: Path) -> None:
    """No image and no model at all: a team's old vectors, and new ones of the same items."""
    draw = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), 20)
    centres = draw.normal(size=(20, 16))
    rotation = np.linalg.qr(draw.normal(size=(16, 16)))[0]
    old = centres[labels] + 1.2 * draw.normal(size=(400, 16))
    new = (centres[labels] + 0.5 * draw.normal(size=(400, 16))) @ rotation
    evergallery("init", tmp_path / "shop")
    here = ("-w", tmp_path / "shop")
    for name, vectors, first in (("old", old, 0), ("new", new, 10)):
        ids = np.array([f"sku-{index + first}" for index in range(400)])
        np.savez(tmp_path / f"{name}.npz", embeddings=np.roll(vectors, -first, 0).astype(np.float32), ids=ids,
                 labels=np.roll(labels, -first).astype(str))  # fmt: skip
    evergallery("import", tmp_path / "old.npz", *here)
    assert "name the generation that made them" in evergallery("import", tmp_path / "new.npz", *here, expect=1).stderr
    done = as_json("import", tmp_path / "new.npz", "--refresh", *here)
    assert (done["generation"], done["replaced"], len(done["skipped"])) == ("v2", 390, 10)
    assert as_json("status", *here)["spaces"] == [{"name": "v1", "items": 400, "state": "current"}]
    found = as_json("check", "v2", "--data", "@gallery", *here, expect=1)["pairs"][0]
    assert found["verdict"] in ("compatible after an adapter", "needs refresh")
    assert found["evidence"]["queries"] == 390
    refused = evergallery("promote", "v2", *here, expect=1).stderr
    assert "NOT MET: cross-test" in refused, "ten items have no new vector and could not be searched"
    assert as_json("adapt", "v2", "v1", "--pairs", "@gallery", *here)["pairs"] == 390
    if as_json("check", "v2", "--data", "@gallery", *here, expect=0)["passed"]:
        evergallery("promote", "v2", *here)
        states = {space["name"]: space["items"] for space in as_json("status", *here)["spaces"]}
        assert states == {"v1": 10, "v2": 390}
        assert "already: nothing was changed" in evergallery("promote", "v2", *here).stdout
        assert as_json("promote", "v2", *here)["changed"] is False
    evergallery("export", tmp_path / "back.npz", "--generation", "v2", *here)
    with np.load(tmp_path / "back.npz") as back:
        assert len(back["ids"]) == 390


def test_a_worse_model_is_refused_however_completely_it_was_refreshed(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), 15)
    good = draw.normal(size=(20, 16))[labels] + draw.normal(size=(300, 16))
    for name, vectors in (("v1", good), ("random", draw.normal(size=(300, 16)))):
        ids = np.array([f"sku-{index}" for index in range(300)])
        np.savez(tmp_path / f"{name}.npz", embeddings=vectors.astype(np.float32), ids=ids, labels=labels.astype(str))
    here = ("-w", tmp_path / "shop")
    evergallery("init", tmp_path / "shop")
    evergallery("import", tmp_path / "v1.npz", *here)
    evergallery("import", tmp_path / "random.npz", "--refresh", *here)
    refused = evergallery("promote", "v2", *here, expect=1).stderr
    assert f"run  evergallery check v2 --against v1 --data HELD_OUT -w {here[1]}  first" in refused
    assert as_json("check", "v2", "--data", "@gallery", *here, expect=1)["pairs"][0]["verdict"] == "worse"
    refused = evergallery("promote", "v2", *here, expect=1).stderr
    assert "NOT MET: self-test" in refused
    assert as_json("status", *here)["promoted"] == "v1"
    told = evergallery("promote", "v2", "--force", "--why", "a rehearsal", *here).stdout
    assert "against what was measured" in told
    assert "It was promoted against the gate: a rehearsal" in evergallery("status", *here).stdout
    assert as_json("rollback", *here)["promoted"] == "v1"
