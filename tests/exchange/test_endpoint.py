"""An HTTP endpoint as a model, against a server of the test's own: what it is asked, believed, and kept from."""

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from conftest import as_json, coloured_images, evergallery
from evergallery import Endpoint, Workspace
from evergallery.errors import DamagedError, InputError, RefusedError, UnavailableError
from evergallery.network import endpoint as asked
from evergallery.network.endpoint_account import Account
from evergallery.serving.app import create_app
from evergallery.serving.limits import Limits
from evergallery.serving.service import ServiceSettings
from evergallery.watching import Watcher

SIZE = 16
KEY = "sk-very-secret-4711-abcdef"
WEIGHT = np.random.default_rng(0).normal(size=(3, 5))
Answered = tuple[int, dict[str, str], bytes]


class Model:
    """What the server of the test is: a model of mean colours, whose next answers may be spoiled."""

    def __init__(self) -> None:
        self.weight = WEIGHT
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.spoiled: list[Callable[[dict[str, Any]], Answered]] = []
        self.address = ""

    @property
    def pictures(self) -> int:
        return sum(len(request["input"]) for request in self.requests)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        vectors = []
        for url in request["input"]:
            assert url.startswith("data:image/png;base64,")
            with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as picture:
                vectors.append(((np.asarray(picture) / 255).mean((0, 1)) + 1) @ self.weight)
        rows = [{"object": "embedding", "index": n, "embedding": list(map(float, v))} for n, v in enumerate(vectors)]
        # Nobody promises an order.
        return {"object": "list", "model": request.get("model"), "data": rows[::-1]}

    def whole(self, request: dict[str, Any]) -> Answered:
        return 200, {}, json.dumps(self.answer(request)).encode()


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    monkeypatch.setattr(asked, "FIRST_PAUSE", 0.01)
    monkeypatch.setenv("TEST_KEY", KEY)
    served = Model()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            served.requests.append(request)
            served.headers.append(dict(self.headers))
            served.times.append(time.monotonic())
            make = served.spoiled.pop(0) if served.spoiled else served.whole
            status, headers, content = make(request)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", headers.get("X-Length", str(len(content))))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    served.address = f"http://127.0.0.1:{server.server_address[1]}/v1/embeddings"
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.create(tmp_path / "shop", size=SIZE) as made:
        yield made


class MessageRecorder(Watcher):
    """Keeps what is said."""

    def __init__(self, heard: list[str]) -> None:
        self.heard = heard

    def said(self, message: str) -> None:
        self.heard.append(message)


def spoil(served: Model, change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], Answered]:
    def make(request: dict[str, Any]) -> Answered:
        answer = served.answer(request)
        change(answer)
        return 200, {}, json.dumps(answer).encode()

    return make


def status(code: int, message: str = "", **headers: str) -> Callable[[dict[str, Any]], Answered]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: (code, named, json.dumps({"error": {"message": message}}).encode())


def registered(space: Workspace, served: Model, **given: Any) -> Any:
    return space.register(Endpoint.of(served.address, model="clip", **given), size=SIZE)


class TestWhole:
    def test_registered_indexed_and_searched(self, space: Workspace, model: Model, tmp_path: Path) -> None:
        made = registered(space, model, key_env="TEST_KEY", body={"dimensions": 5}, batch=3)
        assert (made.card.kind, made.card.dimension, made.card.format) == ("endpoint", 5, 4)
        assert made.card.model == {"address": model.address, "model": "clip", "body": {"dimensions": 5}}
        shelf = coloured_images(classes=4, each=3)
        space.index(shelf)
        pixels = shelf.pixels[shelf.rows] / 255
        expected = (pixels.mean((1, 2)) + 1) @ WEIGHT
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(space.extract(made, shelf), expected, atol=1e-5)
        Image.fromarray(shelf.pixels[shelf.rows[0]]).save(tmp_path / "query.png")
        assert space.search(tmp_path / "query.png", k=1)[0].item.label == "class 0"
        assert space.doctor() == []
        assert max(len(request["input"]) for request in model.requests) == 3
        assert {request["model"] for request in model.requests} == {"clip"}
        assert all(request["dimensions"] == 5 and request["encoding_format"] == "float" for request in model.requests)
        assert {headers["Authorization"] for headers in model.headers} == {f"Bearer {KEY}"}

    def test_registered_twice_is_one_generation_with_new_terms(self, space: Workspace, model: Model) -> None:
        made = registered(space, model, max_pictures=10)
        assert Account(made.account_path).pictures == 4
        assert registered(space, model, max_pictures=1000, rate=500.0) == made
        assert Account(made.account_path).terms.max_pictures == 1000
        assert Account(made.account_path).pictures == 4
        assert registered(space, model, body={"dimensions": 5}).name == "v2"
        assert sorted(path.name for path in made.account_path.parent.glob("*.json")) == ["v0001.json", "v0002.json"]

    def test_key_is_nowhere(
        self, space: Workspace, model: Model, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        where = space.directory
        space.close()
        said = evergallery(
            "register", model.address, "-w", where, "--model", "clip", "--size", SIZE, "--key-env", "TEST_KEY"
        )
        model.spoiled = [status(400, f"Incorrect API key {KEY} in 'Bearer {KEY[:6]}***{KEY[-6:]}'")]
        refused = evergallery("doctor", "-w", where, expect=6)
        model.spoiled = [status(401, f"no such key: {KEY}")]
        denied = evergallery("doctor", "-w", where, expect=6)
        assert "refuses the key in TEST_KEY" in denied.stdout + denied.stderr
        assert "v1: clip at http://127.0.0.1" in said.stdout
        texts = [said.stdout, said.stderr, refused.stdout, refused.stderr, denied.stdout, denied.stderr, caplog.text]
        texts += list(capfd.readouterr())
        for path in where.rglob("*"):
            if path.is_file():
                texts.append(path.read_bytes().decode("latin-1"))
        for part in (KEY, KEY[:6], KEY[-6:]):
            assert not any(part in text for text in texts)

    def test_on_the_command_line(self, space: Workspace, model: Model) -> None:
        where = space.directory
        space.close()
        card = as_json(
            "register", model.address, "-w", where, "--model", "clip", "--size", SIZE, "--batch", 2, "--max-cost", 3,
            "--price-per-1000", 0.5, "--body", '{"dimensions": 5}',
        )  # fmt: skip
        assert (card["kind"], card["dimension"]) == ("endpoint", 5)
        assert [len(request["input"]) for request in model.requests] == [2, 2]
        for arguments, message in [
            (("resnet18", "--rate", 3), "--rate belongs to an endpoint"),
            ((model.address, "--batch", 0), "The endpoint's batch 0 is not usable: it has to be at least 1."),
            ((model.address, "--max-cost", 3), "needs a price"),
            ((model.address, "--body", "[1]"), "no JSON object"),
            ((model.address, "--body", '{"input": 1}'), "said by every request already"),
            ((model.address, "--mean", "0,0,0"), "sent pictures as they are"),
            ((model.address.replace("//", "//me:secret@"),), "holds a secret"),
            ((f"{model.address}?api_key=secret",), "holds a secret"),
            (("http://models.example.org/v1/embeddings", "--key-env", "TEST_KEY"), "travel in the clear"),
            ((model.address, "--key-env", "NO_SUCH_KEY"), "holds no key"),
        ]:
            failed = evergallery("register", *arguments, "-w", where, expect=2)
            assert message in " ".join((failed.stdout + failed.stderr).split())


class TestPatience:
    def test_comes_again(self, space: Workspace, model: Model) -> None:
        cut = {"X-Length": "10000"}
        model.spoiled = [
            status(429, "slow down", Retry_After="0.2"),
            status(500),
            lambda _: (200, {}, b'{"data": [{"index": 0, "embed'),
            lambda request: (200, cut, json.dumps(model.answer(request)).encode()[:40]),
        ]
        made = registered(space, model)
        assert made.card.dimension == 5
        assert len(model.requests) == 5
        assert model.times[1] - model.times[0] >= 0.2, "as long as it was asked to wait"
        assert Account(made.account_path).pictures == 20, "each try is counted"

    def test_gives_up(self, space: Workspace, model: Model) -> None:
        model.spoiled = [status(503)] * 3
        with pytest.raises(UnavailableError, match="answers 503, 3 times in a row"):
            registered(space, model, tries=3)
        model.spoiled = [status(429, Retry_After="7200")]
        with pytest.raises(UnavailableError, match="asks to come again in 7200 seconds"):
            registered(space, model)
        assert space.generations() == []
        assert list((space.directory / "endpoints").iterdir()) == []

    def test_slow(self, space: Workspace, model: Model) -> None:
        def slow(request: dict[str, Any]) -> Answered:
            time.sleep(0.5)
            return model.whole(request)

        model.spoiled = [slow]
        assert registered(space, model, timeout=0.2).name == "v1"
        assert len(model.requests) == 2
        model.spoiled = [slow] * 2
        with pytest.raises(UnavailableError, match=r"does not answer within 0\.1 s, 2 times"):
            registered(space, model, timeout=0.1, tries=2, body={"dimensions": 5})

    def test_nobody_there(self, space: Workspace) -> None:
        with pytest.raises(UnavailableError, match="does not answer"):
            space.register(Endpoint.of("http://127.0.0.1:9/v1/embeddings", tries=1), size=SIZE)

    def test_is_sent_nowhere_else(self, space: Workspace, model: Model) -> None:
        model.spoiled = [status(307, Location=f"{model.address}/elsewhere")]
        with pytest.raises(InputError, match="answers 307, which sends elsewhere"):
            registered(space, model)
        assert len(model.requests) == 1


class TestLimits:
    def test_rate(self, space: Workspace, model: Model) -> None:
        registered(space, model, batch=1, rate=20.0)
        gaps = np.diff(model.times)
        assert len(gaps) == 3
        assert model.times[-1] - model.times[0] >= 2.5 / 20

    def test_cost_and_number(self, space: Workspace, model: Model) -> None:
        made = registered(space, model, price_per_1000=100.0, max_cost=1.0, batch=4)
        shelf = coloured_images(classes=4, each=6)
        with pytest.raises(RefusedError, match=r"above the largest cost of 1 .*larger --max-cost"):
            space.extract(made, shelf)
        assert model.pictures <= 10
        registered(space, model, max_pictures=20, batch=4)
        with pytest.raises(RefusedError, match=r"at most 20 may be asked for"):
            space.extract(made, shelf)
        assert Account(made.account_path).pictures <= 20
        registered(space, model, batch=4)
        assert space.extract(made, shelf).shape == (24, 5)

    def test_two_processes_share_one_account(self, space: Workspace, model: Model) -> None:
        made = registered(space, model, max_pictures=14)
        with Workspace(space.directory) as other:
            other.extract(made, coloured_images(classes=2, each=1), keep=False)
            with pytest.raises(RefusedError, match="at most 14"):
                space.extract(made, coloured_images(classes=3, each=1), keep=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda answer: answer["data"].pop(), r"answers with 3 vectors to 4 pictures"),
        (lambda answer: answer["data"][0].update(index=0), "does not number them from 0"),
        (lambda answer: [row.pop("index") for row in answer["data"]], "does not number them from 0"),
        (lambda answer: answer["data"][1].update(embedding="AAAA"), "no list of numbers"),
        (lambda answer: answer["data"][1].update(embedding=[1.0, None]), "no list of numbers"),
        (lambda answer: answer["data"][1].update(embedding=[float("nan")] * 5), "not finite"),
        (lambda answer: answer["data"][1].update(embedding=[1e300] * 5), "not finite"),
        (lambda answer: answer["data"][1].update(embedding=[1.0, 2.0]), "vectors of different lengths"),
        (lambda answer: answer["data"][1].update(embedding=[0.0] * 5), "zero or not finite"),
        (lambda answer: answer.pop("data"), "without a list `data`"),
        (lambda answer: answer.update(data={"index": 0}), "without a list `data`"),
    ],
)
def test_what_is_not_believed(
    space: Workspace, model: Model, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    model.spoiled = [spoil(model, change)]
    with pytest.raises(InputError, match=message):
        registered(space, model)
    assert space.generations() == []


def test_vectors_of_another_length_later(space: Workspace, model: Model) -> None:
    made = registered(space, model)
    made.embedder()
    model.weight = WEIGHT[:, :4]
    with pytest.raises(DamagedError, match="has changed .* in 4 dimensions"):
        made.embedder()


class TestAnotherModelBehindTheName:
    def test_is_told(self, space: Workspace, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
        made = registered(space, model)
        shelf = coloured_images(classes=4, each=3)
        space.index(shelf)
        space.check("v1", shelf, against="v1")
        model.weight = WEIGHT + 1e-7
        assert space.doctor() == []
        model.weight = np.random.default_rng(1).normal(size=(3, 5))
        monkeypatch.setattr(asked, "LOOK_AGAIN_SECONDS", 0.0)
        with pytest.raises(DamagedError, match="has changed"):
            space.extract(made, coloured_images(classes=1, each=1, seed=9))
        with Workspace(space.directory) as other:
            with pytest.raises(DamagedError, match=r"The model behind clip at .* has changed"):
                other.check("v1", shelf, against="v1")
            assert any("has changed" in problem for problem in space.doctor())
        assert registered(space, model).name == "v2"

    def test_a_promotion_asks_once_more(self, space: Workspace, model: Model) -> None:
        registered(space, model)
        registered(space, model, body={"dimensions": 5}, tries=1)
        space.holdings.loaded.embedder(space.generation("v2"))
        model.weight = np.random.default_rng(1).normal(size=(3, 5))
        with pytest.raises(DamagedError, match="has changed"):
            space.promote("v2")
        model.weight = WEIGHT
        model.spoiled = [status(503)]
        with pytest.raises(UnavailableError, match="answers 503"):
            space.promote("v2")
        assert space.holdings.state.promoted == "v1"
        assert space.promote("v2").changed, "the gallery is empty, and no answer can become worse"

    def test_nobody_knows_where_nobody_answers(self, space: Workspace, model: Model) -> None:
        registered(space, model, tries=1)
        model.spoiled = [status(503)]
        assert any("answers 503" in problem for problem in space.doctor())
        shelf = coloured_images(classes=4, each=3)
        space.check("v1", shelf, against="v1")
        said: list[str] = []
        with Workspace(space.directory) as other:
            model.spoiled = [status(503)] * 9
            other.check("v1", shelf, against="v1", watcher=MessageRecorder(said))
        assert any("still the same" in sentence for sentence in said)


def test_a_client_of_the_server_chooses_no_address(space: Workspace, model: Model) -> None:
    registered(space, model)
    where = space.directory
    space.close()
    with TestClient(create_app(where, ServiceSettings(Limits(rate=0)), anonymous="admin")) as asking:
        before = len(model.requests)
        other = f"http://127.0.0.1:{model.address.split(':')[2].split('/')[0]}/other"
        assert asking.post("/api/v1/register", json={"model": other}).status_code in (404, 405)
        for body in ({"vector": [1.0] * 5, "generation": other}, {"uri": other}):
            assert asking.post("/api/v1/search", json=body).status_code in (404, 422)
        assert asking.post("/api/v1/promote", json={"generation": other}).status_code == 404
        assert len(model.requests) == before


def test_no_cluster_asks(space: Workspace, model: Model) -> None:
    registered(space, model)
    with pytest.raises(InputError, match="a cluster would ask no faster"):
        space.index(coloured_images(classes=1, each=1), cluster="auto")
