"""Ways of answering over HTTP: chosen, shown, counted, and taken back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from served import client, copy_of, photographs, unit

from evergallery.holdings.embedding import embed
from shops import make_photos


@pytest.fixture
def writable(served_workspace: Path, tmp_path: Path) -> Iterator[TestClient]:
    with client(copy_of(served_workspace, tmp_path), anonymous="admin") as asking:
        yield asking


def ask(writable: TestClient, path: Path, **options: Any) -> dict[str, Any]:
    with path.open("rb") as picture:
        found = writable.post("/api/v1/search/image", files={"image": picture}, data=options)
    assert found.status_code == 200, found.text
    answer: dict[str, Any] = found.json()
    return answer


def test_dual_query(writable: TestClient, tmp_path: Path) -> None:
    query = min(make_photos(tmp_path / "queries", each=1, seed=5).rglob("*.png"))
    before = ask(writable, query)
    assert before["way"] == "checked"
    done = writable.post("/api/v1/promote", json={"generation": "v3", "answer": "dual"}).json()
    assert (done["promoted"], done["changed"]) == ("v3", True)
    assert done["answer"].endswith("(dual query)")
    assert "Scores of v3 are not those of v1" in done["scores"]
    after = ask(writable, query)
    assert (after["generation"], after["way"], after["rescored"]) == ("v3", "dual", None)
    assert after["results"] == before["results"]
    alone = writable.post("/api/v1/search", json={"vector": unit(1)})
    assert alone.status_code == 409
    assert "v1 itself, which has not looked at this query" in alone.json()["error"]["message"]
    workspace = writable.app.state.service.workspace  # type: ignore[attr-defined]
    seen = {name: embed(workspace.holdings, query, workspace.generation(name)).tolist() for name in ("v1", "v3")}
    both = writable.post("/api/v1/search", json={"vector": seen["v3"], "seen_by": {"v1": seen["v1"]}}).json()
    assert [result["item"]["id"] for result in both["results"]] == [result["item"]["id"] for result in after["results"]]
    item = writable.post("/api/v1/search", json={"item": both["results"][0]["item"]["id"]})
    assert item.status_code == 200
    assert writable.get("/api/v1/status").json()["states"]["compatible"] == 200
    assert writable.post("/api/v1/rollback").json()["answer"] is None
    assert ask(writable, query)["results"] == before["results"]


def test_rescoring(writable: TestClient, served_workspace: Path, tmp_path: Path) -> None:
    query = min(make_photos(tmp_path / "queries", each=1, seed=5).rglob("*.png"))
    before = ask(writable, query)
    body: dict[str, Any] = {"generation": "v3", "answer": "rescore", "candidates": 15, "seconds": 60}
    assert writable.post("/api/v1/promote", json=body).json()["answer"].startswith("15 candidates")
    first, again = ask(writable, query), ask(writable, query)
    assert first["rescored"] == {"candidates": 15, "kept": 0, "embedded": 15, "gone": 0, "late": 0}
    assert again["rescored"] == {"candidates": 15, "kept": 15, "embedded": 0, "gone": 0, "late": 0}
    assert again["results"] == first["results"]
    assert {result["item"]["generation"] for result in first["results"]} == {"v3"}
    assert writable.get("/api/v1/status").json()["by_generation"] == {"v1": 185, "v3": 15}
    metrics = writable.get("/metrics").text
    assert 'evergallery_rescored_candidates_total{vector="embedded"} 15.0' in metrics
    assert 'evergallery_rescored_candidates_total{vector="kept"} 15.0' in metrics
    assert writable.post("/api/v1/rollback").json()["by_generation"] == {"v1": 200}
    assert ask(writable, query)["results"] == before["results"]
    assert photographs(served_workspace)


@pytest.mark.parametrize(
    "body",
    [
        {"answer": "some"},
        {"answer": "dual", "candidates": 5},
        {"answer": "rescore", "candidates": 0},
        {"candidates": 5},
    ],
)
def test_what_is_no_way_is_refused(writable: TestClient, body: dict[str, Any]) -> None:
    assert writable.post("/api/v1/promote", json={"generation": "v3", **body}).status_code == 422


def test_a_smallest_score_of_another_generation(writable: TestClient, tmp_path: Path) -> None:
    query = min(make_photos(tmp_path / "queries", each=1, seed=5).rglob("*.png"))
    every = ask(writable, query, k=100)["results"]
    least = every[20]["score"]
    writable.post("/api/v1/promote", json={"generation": "v3", "answer": "dual"})
    translated = ask(writable, query, k=100, min_score=least, min_score_of="v1")["results"]
    assert len(translated) == 21
