"""Search for people over HTTP: several pictures, less like this, what somebody types, marks, and whether anything is there."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from served import client, copy_of, photographs

from evergallery import Workspace
from evergallery.errors import InputError
from evergallery.generations.generation import generation_directories
from evergallery.serving.blending import LESS, blend
from shops import make_photos


@pytest.fixture(scope="module")
def directory(served_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of(served_workspace, tmp_path_factory.mktemp("finding"))


@pytest.fixture(scope="module")
def asking(directory: Path) -> Iterator[TestClient]:
    with client(directory, anonymous="admin") as asking:
        yield asking


@pytest.fixture(scope="module")
def queries(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return sorted(make_photos(tmp_path_factory.mktemp("queries"), each=1, seed=5).rglob("*.png"))


def shop(asking: TestClient) -> Workspace:
    workspace: Workspace = asking.app.state.service.workspace  # type: ignore[attr-defined]
    return workspace


def ids(answer: Any) -> list[str]:
    return [result["item"]["id"] for result in answer["results"]]


def test_a_blend_lies_between_and_away() -> None:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(4, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert blend([rows[0]], []) is rows[0] or np.array_equal(blend([rows[0]], []), rows[0])
    mean = blend([rows[0], rows[1]], [])
    assert mean @ rows[0] == pytest.approx(float(mean @ rows[1]), abs=1e-6)
    away = blend([rows[0]], [rows[2], rows[3]])
    assert float(away @ (rows[2] + rows[3])) < float(rows[0] @ (rows[2] + rows[3]))
    assert np.linalg.norm(away) == pytest.approx(1, abs=1e-6)
    with pytest.raises(InputError, match="zero"):
        blend([rows[0], -rows[0]], [])
    assert 0 < LESS < 1


def test_more_results_list_the_generations_no_more_often(asking: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    item = next(iter(shop(asking).gallery.iterate()))[0].id
    listed: list[Path] = []

    def noting(directory: Path) -> list[Path]:
        listed.append(directory)
        return generation_directories(directory)

    monkeypatch.setattr("evergallery.holdings.holdings.generation_directories", noting)
    counts = []
    for k in (1, 2, 6):
        listed.clear()
        assert len(asking.post("/api/v1/search", json={"item": item, "k": k}).json()["results"]) == k
        counts.append(len(listed))
    assert counts[0] == counts[1] == counts[2]


def test_several_items_and_less_like_this(asking: TestClient) -> None:
    items = [item.id for page in shop(asking).gallery.iterate() for item in page]
    vectors = {item.id: item.embedding for page in shop(asking).gallery.iterate() for item in page}
    first, second, third_item = items[0], items[50], items[100]
    body = {"item": first, "more": [second], "less": [third_item], "k": 150, "exact": True}
    found = asking.post("/api/v1/search", json=body).json()
    assert not {first, second, third_item} & set(ids(found)), "what is searched with is left out"
    query = blend([vectors[first], vectors[second]], [vectors[third_item]])
    expected = sorted(
        (name for name in items if name not in (first, second, third_item)),
        key=lambda name: -float(query @ vectors[name]),
    )
    assert len(ids(found)) == 150
    assert [result["score"] for result in found["results"]] == pytest.approx(
        [float(query @ vectors[name]) for name in expected[:150]], abs=1e-5
    )
    assert asking.post("/api/v1/search", json={"item": first, "more": ["nobody"]}).status_code == 404
    assert asking.post("/api/v1/search", json={"item": first, "more": items[:17]}).status_code == 422
    by_v3 = asking.post("/api/v1/search", json={**body, "generation": "v2"})
    assert by_v3.status_code == 200, "another generation looks at all of them"


def test_several_pictures(asking: TestClient, queries: list[Path]) -> None:
    def ask(*paths: Path, **options: Any) -> Any:
        files = [("image", (path.name, path.read_bytes())) for path in paths]
        answer = asking.post("/api/v1/search/image", files=files, data={"k": 200, **options})
        assert answer.status_code == 200, answer.text
        return {result["item"]["id"]: result["score"] for result in answer.json()["results"]}

    first, second = ask(queries[0]), ask(queries[5])
    both, again = ask(queries[0], queries[5]), ask(queries[5], queries[0])
    assert both == pytest.approx(again, abs=1e-6)
    # The mean of two unit vectors, of length c, scores as the mean of their scores over c.
    ratio = np.array(
        [both[name] / (first[name] + second[name]) for name in both if abs(first[name] + second[name]) > 0.1]
    )
    assert np.allclose(ratio, ratio[0], rtol=1e-3)
    best = max(first, key=lambda name: first[name])
    less = ask(queries[0], less=[best])
    assert best not in less


def test_whether_anything_like_it_is_there(asking: TestClient, queries: list[Path]) -> None:
    with queries[0].open("rb") as picture:
        known = asking.post("/api/v1/search/image", files={"image": picture}).json()
    assert 0 <= known["present"] <= 1
    nothing = asking.post(
        "/api/v1/search", json={"item": photographs_ids(asking)[0], "labels": ["no such label"]}
    ).json()
    assert (nothing["results"], nothing["present"]) == ([], None)


def photographs_ids(asking: TestClient) -> list[str]:
    return [item["id"] for item in asking.get("/api/v1/items").json()["items"]]


def test_what_somebody_types_finds_labels_ids_and_metadata(asking: TestClient, directory: Path) -> None:
    written = BytesIO()
    Image.new("RGB", (40, 20), (1, 2, 250)).save(written, "PNG")
    meta = '{"season": "summer", "price": 3, "url": "https://someone:secret@example.org/x"}'
    added = asking.post(
        "/api/v1/items", files={"image": written.getvalue()}, data={"id": "Sku-1", "label": "Blåbær", "metadata": meta}
    )
    assert added.status_code == 200, added.text
    assert asking.get("/api/v1/suggest", params={"text": "blåb"}).json()["labels"] == [{"label": "Blåbær", "items": 1}]
    labels = asking.get("/api/v1/suggest", params={"text": "class", "limit": 3}).json()["labels"]
    assert [(label["label"], label["items"]) for label in labels] == [("class 0", 20), ("class 1", 20), ("class 2", 20)]
    assert asking.get("/api/v1/suggest", params={"text": "Sku"}).json()["ids"] == ["Sku-1"]
    assert asking.get("/api/v1/suggest", params={"text": "summ"}).json()["metadata"] == [
        {"name": "season", "value": "summer", "items": 1}
    ]
    names = asking.get("/api/v1/metadata").json()
    assert names["complete"] is True
    assert names["names"]["price"] == [{"value": 3, "items": 1}]
    assert "secret" not in str(names)
    found = asking.get("/api/v1/items", params={"metadata.season": "summer"}).json()
    assert [item["id"] for item in found["items"]] == ["Sku-1"]
    assert asking.request("DELETE", "/api/v1/items", json={"ids": ["Sku-1"]}).status_code == 200
    assert asking.get("/api/v1/suggest", params={"text": "Sku"}).json()["ids"] == [], "what is deleted is not proposed"


def test_marks_are_kept_and_taken_back(asking: TestClient, directory: Path, queries: list[Path]) -> None:
    first, second = photographs_ids(asking)[:2]
    told = asking.post("/api/v1/marks", json={"query": first, "item": second, "right": True}).json()
    assert told == {"marks": [{"query": first, "item": second, "right": True}], "queries": 1}
    sent = asking.post("/api/v1/marks/picture", files={"image": queries[0].read_bytes()}).json()["query"]
    asking.post("/api/v1/marks", json={"query": sent, "item": first, "right": False})
    assert len(Workspace(directory).holdings.marks.all()) == 2, "on disk"
    assert asking.get("/api/v1/marks", params={"query": sent}).json()["marks"][0]["right"] is False
    asking.post("/api/v1/marks", json={"query": sent, "item": first, "right": None})
    assert asking.get("/api/v1/marks").json()["marks"] == told["marks"]
    assert asking.post("/api/v1/marks", json={"query": "nobody", "item": first, "right": True}).status_code == 404
    assert asking.post("/api/v1/marks", json={"query": first, "item": "nobody", "right": True}).status_code == 404
    assert asking.post("/api/v1/marks/picture", files={"image": b"none"}).status_code == 422
    assert photographs(directory) == [] or directory.is_dir()


def test_who_only_reads_marks_nothing(served_workspace: Path, tmp_path: Path) -> None:
    with client(copy_of(served_workspace, tmp_path)) as reader:
        assert reader.get("/api/v1/marks").status_code == 200
        assert reader.post("/api/v1/marks", json={"query": "a", "item": "b", "right": True}).status_code == 403
