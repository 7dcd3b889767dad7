"""A generation in vectors of its own, before anybody has decided: a preview, or what a refresh keeps."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from served import client, copy_of

from evergallery import Workspace
from shops import make_photos


@pytest.fixture
def writable(served_workspace: Path, tmp_path: Path) -> Iterator[TestClient]:
    with client(copy_of(served_workspace, tmp_path), anonymous="admin") as asking:
        yield asking


@pytest.fixture
def query(tmp_path: Path) -> Path:
    return min(make_photos(tmp_path / "queries", each=1, seed=5).rglob("*.png"))


def ask(asking: TestClient, path: Path, **options: Any) -> Any:
    with path.open("rb") as picture:
        found = asking.post("/api/v1/search/image", files={"image": picture}, data=options)
    assert found.status_code == 200, found.text
    return found.json()


def ids(answer: Any) -> list[str]:
    return [result["item"]["id"] for result in answer["results"]]


def state(asking: TestClient) -> Any:
    workspace: Workspace = asking.app.state.service.workspace  # type: ignore[attr-defined]
    return workspace.holdings.state


def test_a_preview_ranks_what_older_vectors_find_and_keeps_nothing(writable: TestClient, query: Path) -> None:
    before = state(writable)
    found = ask(writable, query, generation="v3", vectors="own", k=12)
    assert (found["generation"], found["promoted"], found["way"], found["preview"]) == ("v3", "v1", "own", True)
    assert found["rescored"] == {"candidates": 48, "kept": 0, "embedded": 48, "gone": 0, "late": 0}
    assert {result["item"]["generation"] for result in found["results"]} == {"v3"}
    candidates = ids(ask(writable, query, k=48))
    assert set(ids(found)) < set(candidates)
    assert ids(found) != candidates[:12], "the vectors of v3 rank them"
    scores = [result["score"] for result in found["results"]]
    assert scores == sorted(scores, reverse=True)
    assert state(writable) == before
    assert writable.get("/api/v1/status").json()["by_generation"] == {"v1": 200}
    item = writable.post("/api/v1/search", json={"item": candidates[0], "generation": "v3", "vectors": "own"}).json()
    assert item["preview"]
    assert candidates[0] not in ids(item)


def test_a_preview_is_what_a_refresh_would_answer(writable: TestClient, query: Path) -> None:
    preview = ask(writable, query, generation="v2", vectors="own", k=200)
    shop: Workspace = writable.app.state.service.workspace  # type: ignore[attr-defined]
    shop.refresh("v2")
    kept = ask(writable, query, generation="v2", vectors="own", k=200)
    assert not kept["preview"], "vectors that wait in the shadow answer"
    assert kept["searched"] == {"v2": 200}
    assert [result["score"] for result in kept["results"]] == pytest.approx(
        [result["score"] for result in preview["results"]], abs=1e-5
    )
    assert ids(ask(writable, query, k=5)) == ids(ask(writable, query, generation="v1", vectors="own", k=5))


def test_earlier_vectors_answer_until_the_commit(writable: TestClient, query: Path) -> None:
    before = ask(writable, query, k=20)
    shop: Workspace = writable.app.state.service.workspace  # type: ignore[attr-defined]
    shop.promote("v3", force=True, why="a test")
    shop.refresh("v3")
    earlier = ask(writable, query, generation="v1", vectors="own", k=20)
    assert (earlier["preview"], earlier["results"]) == (False, before["results"])
    assert ask(writable, query, k=1)["searched"] == {"v3": 200}, "searches go on as they were"
    shop.commit()
    assert ask(writable, query, generation="v1", vectors="own", k=20)["preview"], "and a preview is what is left"
    assert shop.holdings.state.promoted == "v3"


def test_a_preview_over_an_open_refresh_of_another(writable: TestClient, query: Path) -> None:
    shop: Workspace = writable.app.state.service.workspace  # type: ignore[attr-defined]
    shop.promote("v3", force=True, why="a test")
    shop.refresh("v3", fraction=0.5)
    found = ask(writable, query, generation="v4", vectors="own", k=10)
    assert found["preview"]
    assert {result["item"]["generation"] for result in found["results"]} == {"v4"}


def test_what_is_no_choice_of_vectors_is_refused(writable: TestClient) -> None:
    assert writable.post("/api/v1/search", json={"item": "x", "vectors": "some"}).status_code == 422
