"""From a verdict to a promotion over HTTP: held-out pictures that are sent, a check, an adapter, the ways, the matrix."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from served import client, copy_of, finished

from evergallery import Workspace
from evergallery.errors import InputError
from shops import make_photos


@pytest.fixture
def writable(served_workspace: Path, tmp_path: Path) -> Iterator[TestClient]:
    with client(copy_of(served_workspace, tmp_path), anonymous="admin") as asking:
        yield asking


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs that nobody has indexed, a folder a class."""
    return make_photos(tmp_path_factory.mktemp("fresh"), each=24, seed=11)


def shop(asking: TestClient) -> Workspace:
    workspace: Workspace = asking.app.state.service.workspace  # type: ignore[attr-defined]
    return workspace


def send(asking: TestClient, paths: list[Path], labels: list[str]) -> Any:
    files = [("image", (path.name, path.read_bytes())) for path in paths]
    return asking.post("/api/v1/held-out", files=files, data={"label": labels})


def send_all(asking: TestClient, folder: Path) -> None:
    paths = sorted(folder.rglob("*.png"))
    for start in range(0, len(paths), 50):
        part = paths[start : start + 50]
        assert send(asking, part, [path.parent.name for path in part]).status_code == 200


def test_held_out_pictures_are_kept_once_each_with_its_label(writable: TestClient, fresh: Path, tmp_path: Path) -> None:
    paths = sorted((fresh / "class 0").iterdir())[:3]
    assert send(writable, paths, ["class 0"]).json()["labels"] == {"class 0": 3}
    assert send(writable, paths, ["class 0"] * 3).json()["pictures"] == 3
    other = send(writable, paths[:1], ["class 1"]).json()
    assert (other["labels"], other["skipped"][0]["name"]) == ({"class 0": 3}, paths[0].name)
    broken = tmp_path / "broken.png"
    broken.write_bytes(paths[0].read_bytes()[:50])
    assert [skip["name"] for skip in send(writable, [broken], ["class 0"]).json()["skipped"]] == ["broken.png"]
    assert writable.get("/api/v1/held-out").json()["pictures"] == 3
    kept = shop(writable).directory / "held-out" / "class 0"
    assert sorted(path.read_bytes() for path in kept.iterdir()) == sorted(path.read_bytes() for path in paths)
    assert writable.delete("/api/v1/held-out").json()["labels"] == {}
    assert paths[0].is_file()


@pytest.mark.parametrize("label", ["../up", "a/b", ".hidden", " ", "x" * 300, "a\\b"])
def test_a_label_is_no_way_out_of_the_folder(writable: TestClient, fresh: Path, label: str) -> None:
    before = sorted(shop(writable).directory.parent.rglob("*"))
    assert send(writable, sorted(fresh.rglob("*.png"))[:1], [label]).status_code == 422
    assert [
        path for path in sorted(shop(writable).directory.parent.rglob("*")) if path not in before and path.is_file()
    ] == []


def test_labels_are_as_many_as_pictures_or_one(writable: TestClient, fresh: Path) -> None:
    assert send(writable, sorted(fresh.rglob("*.png"))[:3], ["a", "b"]).status_code == 422


def test_from_a_verdict_to_an_adapter_to_a_promotion(writable: TestClient, fresh: Path) -> None:
    told = writable.get("/api/v1/gate/v3").json()
    assert (told["verdict"], told["next"], told["against"]) == ("compatible after an adapter", "adapt", "v1")
    assert writable.post("/api/v1/check", json={"generation": "v3", "data": "held-out"}).status_code == 422, (
        "none was sent"
    )
    assert writable.post("/api/v1/adapt", json={"generation": "v3", "against": "v1"}).status_code == 202
    made = finished(writable)
    assert (made["kind"], made["state"], made["result"]["adapter"]) == ("adapt", "done", "a1")
    assert writable.get("/api/v1/gate/v3").json()["next"] == "check", "it serves once a check has shown that it may"
    send_all(writable, fresh)
    assert writable.post("/api/v1/check", json={"generation": "v3", "data": "held-out"}).status_code == 202
    assert finished(writable)["result"]["pairs"][0]["verdict"] == "compatible after an adapter"
    told = writable.get("/api/v1/gate/v3").json()
    assert (told["passed"], told["next"]) == (True, "promote")
    assert writable.post("/api/v1/promote", json={"generation": "v3"}).json()["promoted"] == "v3"
    refused = writable.post("/api/v1/adapt", json={"generation": "v3", "against": "v3"})
    with pytest.raises(InputError, match="v3 needs no adapter to itself") as raised:
        shop(writable).adapt("v3", "v3", "nowhere")
    assert (refused.status_code, refused.json()["error"]["message"]) == (422, str(raised.value))
    assert writable.post("/api/v1/adapt", json={"generation": "v3", "against": "v9"}).status_code == 404


def test_the_ways_are_laid_side_by_side_and_each_is_judged(writable: TestClient) -> None:
    ways = writable.get("/api/v1/ways/v3").json()
    assert ways["against"] == "v1"
    by_way = {(way["way"], way["candidates"], way["share"]): way for way in ways["options"]}
    assert {"wait", "direct", "dual", "rescore", "refresh"} <= {option["way"] for option in ways["options"]}
    assert by_way["dual", None, 0.0]["score"] == by_way["wait", None, 0.0]["score"], (
        "the old model looks at the old vectors"
    )
    assert all(option["low"] <= option["change"] <= option["high"] for option in ways["options"])
    assert ways["advice"]
    for way, candidates in (("direct", None), ("rescore", 20)):
        asked = {"answer": way} | ({"candidates": candidates} if candidates else {})
        gate = writable.get("/api/v1/gate/v3", params=asked).json()
        cross = next(condition["passed"] for condition in gate["conditions"] if condition["name"] == "cross-test")
        flips = next(condition["passed"] for condition in gate["conditions"] if condition["name"] == "negative flips")
        assert by_way[way, candidates, 0.0]["passes"] == (cross and flips)
    assert writable.get("/api/v1/ways/v4").json()["options"] == [], "nobody has measured them"
    assert writable.get("/api/v1/ways/v1").json()["against"] is None
    assert writable.get("/api/v1/ways/v9").status_code == 404


def test_the_matrix_is_filled_and_what_was_shown_stays(writable: TestClient) -> None:
    def cells() -> dict[tuple[str, str], Any]:
        found = writable.get("/api/v1/matrix").json()["cells"]
        return {(cell["query"], cell["gallery"]): cell for cell in found if cell["classes"] == "all"}

    before = cells()
    assert ("v4", "v3") not in before
    assert writable.post("/api/v1/matrix", json={}).status_code == 202
    done = finished(writable)
    assert (done["kind"], done["state"]) == ("matrix", "done")
    after = cells()
    names = ["v1", "v2", "v3", "v4"]
    assert {(new, old) for place, new in enumerate(names) for old in names[: place + 1]} <= set(after)
    assert after["v2", "v1"] == before["v2", "v1"], "a check that was made is not made again"
    assert writable.post("/api/v1/matrix", json={}).status_code == 202
    assert finished(writable)["result"] == {"checks": []}


def test_a_plan_names_no_order_as_best_without_evidence(writable: TestClient) -> None:
    writable.post("/api/v1/plan", json={"generation": "v2"})
    plan = finished(writable)["result"]
    assert plan["best_order"] is None or plan["best_order"] in plan["orders"]
    assert "oldest" not in plan["orders"], "everything came in one go"
    assert "popular" not in plan["orders"], "nothing was searched for"
