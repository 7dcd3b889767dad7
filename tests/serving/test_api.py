"""What the server answers is what the workspace holds; what is added, deleted and promoted is there, and nothing else."""

import hashlib
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from served import client, copy_of, finished, photographs, unit

from evergallery import Workspace
from evergallery.gallery.items import Filter
from evergallery.generations.generation import Generation
from evergallery.serving.service import Service
from evergallery.upgrade.kept_evidence import evidence_between
from shops import held_out


@pytest.fixture(scope="module")
def read_only(served_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with client(copy_of(served_workspace, tmp_path_factory.mktemp("read"))) as asking:
        yield asking


@pytest.fixture
def directory(served_workspace: Path, tmp_path: Path) -> Path:
    return copy_of(served_workspace, tmp_path)


@pytest.fixture
def writable(directory: Path) -> Iterator[TestClient]:
    with client(directory, anonymous="admin") as asking:
        yield asking


def workspace_of(asking: TestClient) -> Workspace:
    return service_of(asking).workspace


def service_of(asking: TestClient) -> Service:
    service: Service = asking.app.state.service  # type: ignore[attr-defined]
    return service


def ids(answer: dict[str, Any]) -> list[str]:
    return [result["item"]["id"] for result in answer["results"]]


def error(answer: Any) -> tuple[int, str, str]:
    told = answer.json()["error"]
    return answer.status_code, told["code"], told["message"]


def picture(colour: tuple[int, int, int], kind: str = "PNG", size: int = 40) -> bytes:
    written = BytesIO()
    Image.new("RGB", (size, size // 2), colour).save(written, kind)
    return written.getvalue()


class TestSearch:
    def test_with_a_vector_as_the_workspace_does(self, read_only: TestClient) -> None:
        vector = unit(1)
        answer = read_only.post("/api/v1/search", json={"vector": [3 * value for value in vector], "k": 7}).json()
        expected = workspace_of(read_only).search(np.array(vector, np.float32), k=7)
        assert ids(answer) == [result.item.id for result in expected]
        assert [result["probability"] for result in answer["results"]] == pytest.approx(
            [result.probability for result in expected]
        )
        assert (answer["generation"], answer["promoted"], answer["searched"]) == ("v1", "v1", {"v1": 200})

    def test_with_a_picture(self, read_only: TestClient, served_workspace: Path) -> None:
        path = photographs(served_workspace)[3]
        with path.open("rb") as file:
            answer = read_only.post("/api/v1/search/image", files={"image": file}, data={"k": 3}).json()
        assert ids(answer) == [result.item.id for result in workspace_of(read_only).search(str(path), k=3)]
        assert answer["results"][0]["item"]["uri"] == str(path)

    def test_with_a_stored_item_by_id_and_by_uri(self, read_only: TestClient, served_workspace: Path) -> None:
        path = photographs(served_workspace)[5]
        identifier = hashlib.sha256(path.read_bytes()).hexdigest()
        by_id = read_only.post("/api/v1/search", json={"item": identifier, "k": 4}).json()
        by_uri = read_only.post("/api/v1/search", json={"uri": str(path), "k": 4}).json()
        assert ids(by_id) == ids(by_uri)
        assert len(ids(by_id)) == 4
        assert identifier not in ids(by_id)

    def test_two_generations_side_by_side(self, read_only: TestClient, served_workspace: Path) -> None:
        """A click on a result asks both; v2 looks at the item's picture, since the stored vector is v1's."""
        path = photographs(served_workspace)[5]
        identifier = hashlib.sha256(path.read_bytes()).hexdigest()
        answers = {
            name: read_only.post("/api/v1/search", json={"item": identifier, "generation": name, "k": 200}).json()
            for name in ("v1", "v2")
        }
        shop = workspace_of(read_only)
        for name, answer in answers.items():
            expected = [match.item.id for match in shop.search(str(path), generation=name, k=200)]
            assert answer["generation"] == name
            assert ids(answer) == [other for other in expected if other != identifier]
        assert ids(answers["v1"]) != ids(answers["v2"])

    def test_filters(self, read_only: TestClient) -> None:
        wanted: dict[str, Any] = {"vector": unit(2), "k": 200, "labels": ["class 1", "class 2"]}
        answer = read_only.post("/api/v1/search", json=wanted).json()
        assert {result["item"]["label"] for result in answer["results"]} == {"class 1", "class 2"}
        assert len(ids(answer)) == 40
        least = answer["results"][9]["probability"]
        cut = read_only.post("/api/v1/search", json={**wanted, "min_probability": least - 1e-6}).json()
        assert ids(cut) == ids(answer)[: len(ids(cut))]
        assert 10 <= len(ids(cut)) < 40
        scored = read_only.post("/api/v1/search", json={**wanted, "min_score": answer["results"][4]["score"]}).json()
        assert ids(scored) == ids(answer)[:5]
        nothing = read_only.post("/api/v1/search", json={**wanted, "generations": ["v2"]}).json()
        assert (nothing["results"], nothing["searched"]) == ([], {})
        everything = read_only.post("/api/v1/search", json={**wanted, "labels": [], "generations": ["v1"]}).json()
        assert len(ids(everything)) == 200

    def test_batch_answers_each_query_alone(self, read_only: TestClient) -> None:
        queries = [{"vector": unit(3), "k": 2}, {"item": "nobody"}, {"vector": unit(4), "k": 3}, {"vector": [1.0, 2.0]}]
        answers = read_only.post("/api/v1/search/batch", json={"queries": queries}).json()["answers"]
        assert [len(ids(answers[0])), len(ids(answers[2]))] == [2, 3]
        assert answers[1] == {"error": {"code": "not_found", "message": "The gallery has no item 'nobody'."}}
        assert answers[3]["error"]["code"] == "invalid"

    def test_many_at_once_get_their_own_answers(self, read_only: TestClient) -> None:
        """Those that may share a search of the gallery, those that may not, and some that fail."""
        queries = [{"vector": unit(number), "k": 5 + number % 2} for number in range(40)]
        queries[7::10] = [{"vector": unit(number, 12), "k": 5} for number in range(4)]
        alone = [read_only.post("/api/v1/search", json=query).json() for query in queries]
        together = read_only.post("/api/v1/search/batch", json={"queries": queries}).json()["answers"]
        assert [answer.get("results") for answer in together] == [answer.get("results") for answer in alone]
        assert [number for number, answer in enumerate(together) if "error" in answer] == [7, 17, 27, 37]

    @pytest.mark.parametrize(
        ("body", "status", "code", "message"),
        [
            ({}, 422, "invalid", "exactly one of vector, item, uri and text"),
            ({"item": "x", "uri": "y"}, 422, "invalid", "exactly one"),
            ({"item": "x"}, 404, "not_found", "no item 'x'"),
            ({"uri": "/etc/passwd"}, 404, "not_found", "no item whose URI is '/etc/passwd'"),
            ({"vector": [0.0] * 8}, 422, "invalid", "zero"),
            ({"vector": [1.0] * 7}, 422, "invalid", r"shape \(7,\) and v1 makes vectors of \(8,\)"),
            ({"vector": unit(1), "generation": "v9"}, 404, "not_found", "no generation 'v9'"),
            ({"vector": unit(1), "generation": "v3"}, 409, "refused", "v3 has not been shown to be compatible"),
            ({"vector": unit(1), "k": 0}, 422, "invalid", "^k: "),
            ({"vector": unit(1), "k": 1001}, 422, "invalid", "^k: "),
            ({"vector": unit(1), "unknown": 1}, 422, "invalid", "^unknown: "),
            ({"vector": unit(1), "labels": ["\ud800"]}, 422, "invalid", "Invalid JSON"),
        ],
    )
    def test_refusals(self, read_only: TestClient, body: dict[str, Any], status: int, code: str, message: str) -> None:
        import json
        import re

        answer = read_only.post(
            "/api/v1/search", content=json.dumps(body), headers={"Content-Type": "application/json"}
        )
        assert error(answer)[:2] == (status, code)
        assert re.search(message, error(answer)[2])

    def test_what_is_no_picture(self, read_only: TestClient) -> None:
        for data in (b"", b"no picture", picture((1, 2, 3))[:60]):
            answer = read_only.post("/api/v1/search/image", files={"image": data})
            assert error(answer)[:2] == (422, "invalid")
        assert read_only.post("/api/v1/search/image", data={"k": 3}).status_code == 422
        bad = {"metadata": "{"}
        assert "metadata" in error(read_only.post("/api/v1/search/image", files={"image": b"x"}, data=bad))[2]


class TestItems:
    def test_pages_have_every_item_once(self, read_only: TestClient) -> None:
        seen, after, pages = [], None, 0
        while True:
            page = read_only.get("/api/v1/items", params={"limit": 30, **({"after": after} if after else {})}).json()
            seen += [item["id"] for item in page["items"]]
            after, pages = page["next"], pages + 1
            if after is None:
                break
        assert (len(seen), len(set(seen)), page["total"], pages) == (200, 200, 200, 7)
        labelled = read_only.get("/api/v1/items", params={"label": "class 3", "limit": 500}).json()
        assert (labelled["total"], {item["label"] for item in labelled["items"]}) == (20, {"class 3"})
        assert read_only.get("/api/v1/items", params={"generation": "v2"}).json()["total"] == 0
        assert read_only.get("/api/v1/labels").json()["labels"]["class 3"] == 20

    def test_one_item_and_its_thumbnail(self, read_only: TestClient, served_workspace: Path) -> None:
        path = photographs(served_workspace)[0]
        identifier = hashlib.sha256(path.read_bytes()).hexdigest()
        item = read_only.get("/api/v1/item", params={"id": identifier}).json()
        assert (item["uri"], item["content_hash"], item["generation"]) == (str(path), identifier, "v1")
        for _ in range(2):
            answer = read_only.get(item["thumbnail"] + "&size=64")
            assert answer.headers["Content-Type"] == "image/webp"
            assert Image.open(BytesIO(answer.content)).size == (16, 16)
        again = read_only.get(item["thumbnail"] + "&size=60", headers={"If-None-Match": answer.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert error(read_only.get("/api/v1/thumbnail", params={"id": "x"}))[:2] == (404, "not_found")

    def test_a_reader_changes_nothing(self, read_only: TestClient) -> None:
        asked = [
            read_only.post("/api/v1/items", files={"image": picture((1, 2, 3))}),
            read_only.post(
                "/api/v1/items/vectors", json={"generation": "v1", "items": [{"id": "x", "embedding": unit(1)}]}
            ),
            read_only.request("DELETE", "/api/v1/items", json={"ids": ["x"]}),
            *(
                read_only.post(f"/api/v1/{verb}", json={"generation": "v2"})
                for verb in ("promote", "check", "plan", "refresh")
            ),
            *(read_only.post(f"/api/v1/{verb}") for verb in ("rollback", "commit", "discard")),
            read_only.delete("/api/v1/job"),
        ]
        assert {(answer.status_code, answer.json()["error"]["code"]) for answer in asked} == {(403, "forbidden")}
        assert read_only.get("/api/v1/info").json()["writes"] is False
        assert read_only.get("/api/v1/me").json() == {"scopes": ["read"], "anonymous": True}

    def test_pictures_are_kept_as_they_came(self, writable: TestClient, directory: Path) -> None:
        red, blue = picture((200, 10, 10), "JPEG"), picture((10, 10, 200))
        sent = [("image", ("red.jpg", red)), ("image", ("../../x.png", blue)), ("image", ("bad.png", b"not a picture"))]
        fields = {"label": "new", "metadata": '{"price": 3, "shop": "north"}'}
        told = writable.post("/api/v1/items", files=sent, data=fields).json()
        assert (told["added"], told["replaced"], told["unchanged"]) == (2, 0, 0)
        assert told["skipped"] == [{"name": "bad.png", "reason": "it is not an image, or its header is damaged."}]
        kept = {
            path.name: path.read_bytes() for path in (directory / "images").iterdir() if not path.name.startswith(".")
        }
        assert kept == {f"{hashlib.sha256(red).hexdigest()}.jpg": red, f"{hashlib.sha256(blue).hexdigest()}.png": blue}
        first = told["items"][0]
        assert (first["label"], first["metadata"], first["generation"]) == ("new", {"price": 3, "shop": "north"}, "v1")
        small = writable.get(first["thumbnail"] + "&size=256")
        assert Image.open(BytesIO(small.content)).size == (40, 20)
        found = writable.post("/api/v1/search/image", files={"image": red}, data={"k": 1}).json()
        assert ids(found) == [first["id"]]
        assert found["searched"] == {"v1": 202}
        assert writable.post("/api/v1/items", files=sent[:2], data=fields).json()["unchanged"] == 2
        for value, count in (("3", 2), ("4", 0), ('"3"', 0)):
            assert writable.get("/api/v1/items", params={"metadata.price": value}).json()["total"] == count
        assert writable.get("/api/v1/items", params={"metadata.shop": "north"}).json()["total"] == 2

    def test_pictures_go_with_the_last_item_that_has_them(self, writable: TestClient, directory: Path) -> None:
        red, blue = picture((200, 10, 10)), picture((10, 10, 200))
        images = directory / "images"

        def kept() -> int:
            return len(list(images.glob("*.png")))

        for name in ("one", "two"):
            assert writable.post("/api/v1/items", files={"image": red}, data={"id": name}).json()["added"] == 1
        assert kept() == 1
        assert writable.request("DELETE", "/api/v1/items", json={"ids": ["one", "one", "nobody"]}).json() == {
            "deleted": 1
        }
        assert kept() == 1
        assert writable.post("/api/v1/items", files={"image": blue}, data={"id": "two"}).json()["replaced"] == 1
        assert [path.stem for path in images.glob("*.png")] == [hashlib.sha256(blue).hexdigest()]
        writable.request("DELETE", "/api/v1/items", json={"ids": ["two"]})
        assert kept() == 0
        both = [("image", ("a", red)), ("image", ("b", blue))]
        assert error(writable.post("/api/v1/items", files=both, data={"id": "one"}))[:2] == (422, "invalid")

    def test_what_says_nothing_erases_nothing(
        self, writable: TestClient, served_workspace: Path, directory: Path
    ) -> None:
        path = photographs(served_workspace)[0]
        stored = hashlib.sha256(path.read_bytes()).hexdigest()
        before = writable.get("/api/v1/item", params={"id": stored}).json()
        assert before["label"]
        told = writable.post("/api/v1/items", files={"image": path.read_bytes()}).json()
        assert (told["added"], told["replaced"], told["unchanged"], told["conflict_count"]) == (0, 0, 1, 0)
        assert told["items"] == [before] == [writable.get("/api/v1/item", params={"id": stored}).json()]
        assert not list((directory / "images").glob("*.png")), "the operator's own picture serves"
        sent: dict[str, Any] = {
            "files": {"image": path.read_bytes()},
            "data": {"label": "other", "metadata": '{"price": 3}'},
        }
        told = writable.post("/api/v1/items", **sent).json()
        assert told["conflicts"] == [{"item": stored, "known": before["label"], "said": "other"}]
        assert told["items"] == [{**before, "metadata": {**before["metadata"], "price": 3}}]
        told = writable.post("/api/v1/items", **{**sent, "data": {**sent["data"], "relabel": "true"}}).json()
        item = told["items"][0]
        assert (told["conflict_count"], item["label"], item["uri"]) == (0, "other", before["uri"])

    def test_a_vector_that_says_nothing_erases_nothing(self, writable: TestClient, served_workspace: Path) -> None:
        stored = hashlib.sha256(photographs(served_workspace)[0].read_bytes()).hexdigest()
        before = writable.get("/api/v1/item", params={"id": stored}).json()
        body: dict[str, Any] = {"generation": "v1", "items": [{"id": stored, "embedding": unit(1)}]}
        told = writable.post("/api/v1/items/vectors", json=body).json()
        item = told["items"][0]
        assert (told["replaced"], item["label"], item["uri"]) == (1, before["label"], before["uri"])
        body["items"][0]["label"] = "other"
        assert writable.post("/api/v1/items/vectors", json=body).json()["conflict_count"] == 1
        told = writable.post("/api/v1/items/vectors", json={**body, "relabel": True}).json()
        assert (told["conflict_count"], told["items"][0]["label"]) == (0, "other")

    def test_deleting_leaves_the_operators_pictures(self, writable: TestClient, served_workspace: Path) -> None:
        path = photographs(served_workspace)[0]
        identifier = hashlib.sha256(path.read_bytes()).hexdigest()
        assert writable.request("DELETE", "/api/v1/items", json={"ids": [identifier]}).json() == {"deleted": 1}
        assert path.is_file()

    def test_a_uri_that_a_client_gives_is_never_opened(self, writable: TestClient, served_workspace: Path) -> None:
        """Not for a thumbnail, not for a search, not for a refresh."""
        secret = photographs(served_workspace)[0]
        item: dict[str, Any] = {
            "id": "mine",
            "embedding": unit(5),
            "uri": str(secret),
            "label": "x",
            "metadata": {"a": True},
        }
        told = writable.post("/api/v1/items/vectors", json={"generation": "v1", "items": [item]}).json()
        (shown,) = told["items"]
        assert (shown["uri"], shown["thumbnail"], shown["metadata"]) == (str(secret), None, {"a": True})
        assert writable.get("/api/v1/thumbnail", params={"id": "mine"}).status_code == 404
        by_uri = writable.post("/api/v1/search", json={"uri": "http://elsewhere/x.png"})
        assert by_uri.status_code == 404
        other = writable.post("/api/v1/search", json={"item": "mine", "generation": "v2"})
        assert error(other)[2] == "v2 cannot look at 'mine': nobody wrote down where its image is."
        writable.post("/api/v1/refresh", json={"generation": "v2"})
        assert finished(writable)["result"]["problems"] == 1
        (problem,) = writable.get("/api/v1/problems").json()["problems"]
        assert (problem["id"], problem["reason"]) == ("mine", "nobody wrote down where its image is")

    def test_a_picture_that_is_another_by_now_is_not_shown(self, writable: TestClient, tmp_path: Path) -> None:
        shop, path = workspace_of(writable), tmp_path / "photo.png"
        path.write_bytes(picture((1, 2, 3)))
        shop.index(path)
        (item,) = next(iter(shop.gallery.iterate(Filter(uris=(str(path),)))))
        path.write_bytes(picture((3, 2, 1)))
        answer = writable.get("/api/v1/thumbnail", params={"id": item.id})
        assert error(answer)[:2] == (404, "not_found")
        assert "not the picture that was stored" in error(answer)[2]
        path.unlink()
        assert writable.get("/api/v1/item", params={"id": item.id}).json()["thumbnail"] is None
        assert "not where it was" in error(writable.get("/api/v1/thumbnail", params={"id": item.id}))[2]

    @pytest.mark.parametrize(
        ("item", "message"),
        [
            ({"embedding": [1.0] * 8}, "length 2.828, not 1"),
            ({"embedding": unit(1, 12)}, "dimensions"),
            ({"embedding": unit(1), "metadata": {"given_uri": "x"}}, "the server's own"),
            ({"embedding": unit(1), "metadata": {"a b": 1}}, "metadata"),
            ({"embedding": unit(1), "content_hash": "x"}, "content_hash"),
        ],
    )
    def test_vectors_that_cannot_be_stored(self, writable: TestClient, item: dict[str, Any], message: str) -> None:
        answer = writable.post("/api/v1/items/vectors", json={"generation": "v1", "items": [{"id": "x", **item}]})
        assert error(answer)[:2] == (422, "invalid")
        assert message in error(answer)[2]
        assert writable.get("/api/v1/item", params={"id": "x"}).status_code == 404


class TestGenerations:
    def test_what_there_is(self, read_only: TestClient) -> None:
        told = read_only.get("/api/v1/generations").json()
        assert told["promoted"] == "v1"
        assert [(generation["name"], generation["items"], generation["promoted"]) for generation in told["generations"]][:2] == [
            ("v1", 200, True), ("v2", 0, False)
        ]  # fmt: skip
        generation = read_only.get("/api/v1/generations/v2").json()
        assert (generation["kind"], generation["dimension"], generation["class_names"]) == ("callable", 8, [])
        assert "checksums" not in generation["card"]
        assert read_only.get("/api/v1/info").json()["generations"] == ["v1", "v2", "v3", "v4"]

    def test_the_matrix_is_what_the_checks_measured(self, read_only: TestClient) -> None:
        told = read_only.get("/api/v1/matrix").json()
        cells = {(cell["query"], cell["gallery"]): cell for cell in told["cells"] if cell["classes"] == "all"}
        shop = workspace_of(read_only)
        evidence = evidence_between(shop.holdings, shop.holdings.space("v2"), shop.holdings.space("v1"))
        assert evidence is not None
        assert cells["v2", "v1"]["value"] == evidence.recall("cross")
        assert cells["v1", "v1"]["value"] == evidence.recall("old self")
        assert all(cell["low"] <= cell["value"] <= cell["high"] for cell in cells.values())
        assert cells["v2", "v1"]["queries"] == 300
        assert ("v4", "v1") not in cells, "nobody has checked it"

    def test_the_gate(self, read_only: TestClient) -> None:
        passed = read_only.get("/api/v1/gate/v2").json()
        assert (passed["verdict"], passed["passed"]) == ("compatible", True)
        assert {condition["name"] for condition in passed["conditions"]} == {
            "queries",
            "self-test",
            "cross-test",
            "negative flips",
        }
        assert passed["judged"] == "v2 alone against v1 alone and queries of v2 in vectors of v1 directly"
        assert passed["would_change"] == "v2 answers queries in place of v1, and searches 200 vectors of v1."
        failed = read_only.get("/api/v1/gate/v3").json()
        assert (failed["verdict"], failed["passed"]) == ("compatible after an adapter", False)
        unknown = read_only.get("/api/v1/gate/v4").json()
        assert (unknown["verdict"], unknown["passed"]) == (None, None)
        assert "has not been checked" in unknown["reason"]
        assert read_only.get("/api/v1/gate/v1").json()["reason"] == "v1 answers queries already."
        assert read_only.get("/api/v1/gate/v9").status_code == 404

    def test_promotion_and_the_way_back(self, writable: TestClient) -> None:
        refused = writable.post("/api/v1/promote", json={"generation": "v3"})
        assert error(refused)[:2] == (409, "refused")
        assert error(writable.post("/api/v1/promote", json={"generation": "v3", "force": True}))[:2] == (422, "invalid")
        assert error(writable.post("/api/v1/rollback"))[:2] == (409, "refused")
        status = writable.post("/api/v1/promote", json={"generation": "v2", "why": "better"}).json()
        assert (status["promoted"], status["can_roll_back_to"]) == ("v2", "v1")
        assert (status["changed"], status["refused"], status["forced"]) == (True, None, None)
        assert "v2 alone against v1 alone" in status["judged"]
        assert {condition["name"] for condition in status["conditions"]} == {
            "queries",
            "self-test",
            "cross-test",
            "negative flips",
        }
        again = writable.post("/api/v1/promote", json={"generation": "v2"}).json()
        assert (again["changed"], again["can_roll_back_to"]) == (False, "v1")
        assert again["sentence"] == "v2 answers queries already: nothing was changed."
        assert status["states"]["compatible"] == 200
        assert status["would_roll_back"].startswith("v1 answers queries again in place of v2")
        assert writable.post("/api/v1/search", json={"vector": unit(1)}).json()["generation"] == "v2"
        assert writable.post("/api/v1/rollback").json()["promoted"] == "v1"
        entries = writable.get("/api/v1/log", params={"limit": 3}).json()["log"]
        assert [entry["operation"] for entry in entries] == ["rollback", "promote", "promote refused"]


class TestMeanwhile:
    """What happens between the beginning of a request and its end."""

    def test_pictures_that_were_looked_at_by_the_generation_before_are_looked_at_again(
        self, writable: TestClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        searches, embed = service_of(writable).searches, service_of(writable).searches.embed
        makers: list[str] = []

        async def promote_meanwhile(image: Any, maker: Generation) -> Any:
            makers.append(maker.name)
            vector = await embed(image, maker)
            if maker.name == "v1":
                workspace_of(writable).promote("v2")
            return vector

        monkeypatch.setattr(searches, "embed", promote_meanwhile)
        told = writable.post("/api/v1/items", files={"image": picture((5, 6, 7))}).json()
        assert makers == ["v1", "v2"]
        assert [item["generation"] for item in told["items"]] == ["v2"]

    def test_a_search_among_vectors_that_were_given_up_is_made_again(
        self, writable: TestClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shop, searches = workspace_of(writable), service_of(writable).searches
        shop.refresh("v2")
        shop.promote("v2")
        search, times = searches._search, []

        async def discard_meanwhile(*arguments: Any, **named: Any) -> Any:
            found = await search(*arguments, **named)
            times.append({match.item.generation for match in found.results})
            if len(times) == 1:
                shop.discard()
            return found

        monkeypatch.setattr(searches, "_search", discard_meanwhile)
        answer = writable.post("/api/v1/search", json={"vector": unit(1), "k": 200}).json()
        assert times == [{"v2"}, {"v1"}]
        assert {result["item"]["generation"] for result in answer["results"]} == {"v1"}
        assert answer["searched"] == {"v1": 200}


class TestJobs:
    def test_check_on_the_stored_items(self, writable: TestClient) -> None:
        assert "has not been checked" in writable.get("/api/v1/gate/v4").json()["reason"]
        begun = writable.post("/api/v1/check", json={"generation": "v4", "old_classes": ["class 0", "class 1"]})
        assert begun.status_code == 202
        done = finished(writable)
        assert (done["kind"], done["state"]) == ("check", "done")
        assert done["result"]["pairs"][0]["old"] == "v1"
        told = writable.get("/api/v1/gate/v4").json()
        assert told["judged"] == "v4 alone against v1 alone and queries of v4 in vectors of v1 directly"
        shop = workspace_of(writable)
        evidence = evidence_between(shop.holdings, shop.holdings.space("v4"), shop.holdings.space("v1"))
        assert evidence is not None
        assert (evidence.old_classes, evidence.figures["cross"]["old"].queries) == ("given", 40)
        assert writable.post("/api/v1/check", json={"generation": "v9"}).status_code == 404

    def test_plan(self, writable: TestClient) -> None:
        begun = writable.post("/api/v1/plan", json={"generation": "v2"})
        assert begun.status_code == 202
        done = finished(writable)
        assert (done["id"], done["state"], done["kind"]) == (begun.json()["id"], "done", "plan")
        curve = done["result"]["orders"]["random"]
        assert [point["fraction"] for point in curve] == [0, 0.25, 0.5, 1]
        assert all(0 <= point["low"] <= point["recall"] <= point["high"] <= 1 for point in curve)
        assert done["result"]["items"] == {"v1": 200}
        assert writable.post("/api/v1/plan", json={"generation": "v9"}).status_code == 404

    def test_a_gpu_is_left_to_others_when_a_job_ends(
        self, writable: TestClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        left: list[int] = []
        monkeypatch.setattr(service_of(writable).holdings.loaded, "leave_gpu", lambda: left.append(1))
        assert writable.post("/api/v1/plan", json={"generation": "v2"}).status_code == 202
        assert finished(writable)["state"] == "done"
        assert left == [1]

    def test_a_refresh_stops_and_goes_on(self, writable: TestClient) -> None:
        """And meanwhile no other job begins."""
        assert writable.get("/api/v1/job").status_code == 404
        begun = writable.post("/api/v1/refresh", json={"generation": "v2", "rate": 20})
        assert begun.status_code == 202
        second = writable.post("/api/v1/plan", json={"generation": "v2"})
        assert error(second)[:2] == (423, "busy")
        while writable.get("/api/v1/job").json()["done"] == 0:
            time.sleep(0.01)
        assert writable.delete("/api/v1/job").json()["kind"] == "refresh"
        stopped = finished(writable)
        assert stopped["state"] == "stopped"
        assert 0 < stopped["result"]["refreshed"] < 200
        status = writable.get("/api/v1/status").json()
        assert status["refresh"]["refreshed"] == stopped["result"]["refreshed"]
        assert writable.get("/api/v1/log").json()["log"][0]["stopped_by"] == "request"
        writable.post("/api/v1/refresh", json={"generation": "v2"})
        done = finished(writable)
        assert (done["state"], done["done"], done["remaining_seconds"]) == ("done", 200, None)
        assert writable.get("/api/v1/status").json()["by_generation"] == {"v1": 200}, "in the shadow so far"
        told = writable.get("/api/v1/gate/v2").json()
        assert told["passed"] is True
        assert "200 vectors of v2" in told["would_change"]
        writable.post("/api/v1/promote", json={"generation": "v2"})
        assert writable.get("/api/v1/status").json()["by_generation"] == {"v2": 200}
        assert "hidden again" in writable.get("/api/v1/status").json()["would_roll_back"]
        writable.post("/api/v1/commit")
        assert finished(writable)["result"] == {"deleted": 200}
        assert error(writable.post("/api/v1/discard"))[:2] == (409, "refused")

    def test_a_job_that_nobody_foresaw_failing(
        self, writable: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise RuntimeError("a secret")

        monkeypatch.setattr(workspace_of(writable), "check", fail)
        writable.post("/api/v1/check", json={"generation": "v2"})
        done = finished(writable)
        assert (done["state"], done["error"]) == ("failed", "Something went wrong in the server: its log says what.")
        assert "a secret" in caplog.text
        assert writable.post("/api/v1/plan", json={"generation": "v2"}).status_code == 202, "the next one begins"
        assert finished(writable)["state"] == "done"

    def test_a_snapshot_while_serving(self, writable: TestClient, directory: Path) -> None:
        assert writable.post("/api/v1/snapshot").status_code == 202
        done = finished(writable)
        assert (done["state"], done["result"]["vectors"]) == ("done", 200)
        (kept,) = (directory / "backups").iterdir()
        assert kept.name == done["result"]["name"]
        assert (kept / "snapshot.json").is_file()
        assert writable.post("/api/v1/search", json={"vector": unit(1)}).status_code == 200

    def test_metrics(self, writable: TestClient) -> None:
        writable.post("/api/v1/search/image", files={"image": picture((9, 9, 9))})
        text = writable.get("/metrics").text
        for line in (
            'evergallery_requests_total{method="POST",route="/api/v1/search/image",status="200"} 1.0',
            'evergallery_items{generation="v1"} 200.0',
            'evergallery_promoted_info{generation="v1"} 1.0',
            "evergallery_batch_images_count 1.0",
            'evergallery_search_seconds_count{step="embed"} 1.0',
            "evergallery_ready 1.0",
        ):
            assert line in text
        writable.get("/api/v1/items/some-id-that-is-nowhere")
        assert "some-id" not in writable.get("/metrics").text


def test_a_workspace_without_generations_is_served(tmp_path: Path) -> None:
    Workspace.create(tmp_path / "empty", size=16)
    with client(tmp_path / "empty") as asking:
        assert asking.get("/readyz").status_code == 503
        assert asking.get("/healthz").status_code == 200
        assert asking.get("/api/v1/status").json()["promoted"] is None
        assert asking.get("/api/v1/matrix").json()["cells"] == []
        assert error(asking.post("/api/v1/search", json={"vector": [1.0]}))[:2] == (404, "not_found")


def test_held_out_pictures_are_found_as_well_as_by_the_workspace(read_only: TestClient) -> None:
    images = held_out()
    labels = [images.classes[label] for label in images.labels[::15]]
    found = []
    for pixels in images.pixels[images.rows[::15]]:
        written = BytesIO()
        Image.fromarray(pixels).save(written, "PNG")
        answer = read_only.post("/api/v1/search/image", files={"image": written.getvalue()}, data={"k": 1}).json()
        found.append(answer["results"][0]["item"]["label"])
    assert np.mean([label == found_label for label, found_label in zip(labels, found, strict=True)]) > 0.3, (
        "a tenth would be chance"
    )
