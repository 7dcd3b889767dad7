"""A share of the clients is answered by another generation: always the same ones, after the gate, told and counted."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from served import client, copy_of

from evergallery import Workspace
from evergallery.errors import InputError, NotFoundError, RefusedError
from evergallery.holdings.answer import Answer
from evergallery.serving.canary import Canary, CanarySettings
from evergallery.serving.tokens import Tokens
from shops import make_photos

CLIENTS = [f"client-{number}" for number in range(40)]


@pytest.fixture
def query(tmp_path: Path) -> Path:
    return sorted(make_photos(tmp_path / "queries", each=1, seed=5).rglob("*.png"))[0]


def ask(asking: TestClient, path: Path, who: str | None = None, **options: Any) -> dict[str, Any]:
    headers = {} if who is None else {"X-Client": who}
    with path.open("rb") as picture:
        found = asking.post("/api/v1/search/image", files={"image": picture}, data=options, headers=headers)
    assert found.status_code == 200, found.text
    answer: dict[str, Any] = found.json()
    return answer


def told(asking: TestClient) -> dict[str, Any]:
    canary: dict[str, Any] = asking.get("/api/v1/status").json()["canary"]
    return canary


@pytest.fixture
def opened(served_workspace: Path, tmp_path: Path) -> Iterator[Callable[[CanarySettings], Canary]]:
    with Workspace(copy_of(served_workspace, tmp_path)) as space:
        yield lambda canarying: Canary(space.holdings, canarying)


def test_the_same_clients_everywhere_and_always(served_workspace: Path, tmp_path: Path, query: Path) -> None:
    directory = copy_of(served_workspace, tmp_path)
    with client(directory) as asking:
        usual = ask(asking, query)
        assert (usual["canary"], asking.get("/api/v1/status").json()["canary"]) == (None, None)
        alone = ask(asking, query, generation="v2")["results"]
    with client(directory, canarying=CanarySettings("v2", 0.4, "X-Client")) as asking:
        answers = {who: ask(asking, query, who) for who in CLIENTS}
        drawn = {who for who, answer in answers.items() if answer["canary"]}
        assert 5 < len(drawn) < 30
        for who, answer in answers.items():
            assert answer["generation"] == ("v2" if who in drawn else "v1")
            assert answer["canary"] == ("v2" if who in drawn else None)
            assert answer["promoted"] == "v1"
            assert answer["results"] == (alone if who in drawn else usual["results"])
        assert ask(asking, query)["canary"] is None, "who shows no header is not among them"
        assert ask(asking, query, next(iter(drawn)), generation="v1")["generation"] == "v1", "who names one gets it"
        assert told(asking)["answered"] == len(drawn)
        metrics = asking.get("/metrics").text
        assert f'evergallery_answer_seconds_count{{generation="v2"}} {len(drawn)}.0' in metrics
        assert 'evergallery_answer_seconds_count{generation="v1"}' in metrics
    with client(directory, canarying=CanarySettings("v2", 0.4, "X-Client")) as asking:
        assert {who for who in CLIENTS if ask(asking, query, who)["canary"]} == drawn, "after a restart"
    with client(directory, canarying=CanarySettings("v2", 0.8, "x-client")) as asking:
        assert {who for who in CLIENTS if ask(asking, query, who)["canary"]} > drawn, "a larger share loses none"
    assert Workspace(directory).holdings.state.promoted == "v1"
    entry = next(entry for entry in Workspace(directory).log() if entry["operation"] == "canary")
    assert (entry["generation"], entry["forced"]) == ("v2", False)
    assert "v2 alone against v1 alone" in entry["judged"]


def test_other_searches_of_its_clients(served_workspace: Path, tmp_path: Path, query: Path) -> None:
    directory = copy_of(served_workspace, tmp_path)
    with client(directory, canarying=CanarySettings("v2", 1.0)) as asking:
        item = ask(asking, query)["results"][0]["item"]["id"]
        found = asking.post("/api/v1/search", json={"item": item}).json()
        assert (found["canary"], found["promoted"]) == ("v2", "v1")
        vector = [1.0] + [0.0] * 7
        width = Workspace(directory).generation("v1").card.dimension
        vector = [1.0] + [0.0] * (width - 1)
        by_vector = asking.post("/api/v1/search", json={"vector": vector}).json()
        assert (by_vector["canary"], by_vector["generation"]) == (None, "v1"), "a vector is one of the promoted"
        both = asking.post("/api/v1/search/batch", json={"queries": [{"item": item}, {"vector": vector}]}).json()
        assert [answer["canary"] for answer in both["answers"]] == ["v2", None]
        least = ask(asking, query, k=50, min_score=0.9)
        meant = ask(asking, query, k=50, min_score=0.9, min_score_of="v1", generation="v2")
        assert least["results"] == meant["results"], "a smallest score is one of the generation that the client knows"


@given(
    st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1), st.floats(0.001, 1), st.floats(0.001, 1)
)
def test_a_larger_share_loses_no_client(key: str, smaller: float, larger: float) -> None:
    def drawn(share: float) -> bool:
        canary = object.__new__(Canary)
        canary._canarying, canary._fingerprint = CanarySettings("v2", share, "X-Client"), "f" * 64
        return canary.drawn(None, "10.0.0.1", {"X-Client": key})

    small, large = sorted((smaller, larger))
    assert drawn(large) or not drawn(small)
    assert drawn(1.0)


def test_what_a_client_is_known_by(opened: Callable[[CanarySettings], Canary]) -> None:
    by_token, by_address, by_both = (opened(CanarySettings("v2", 1.0, by)) for by in ("token", "address", "client"))
    assert by_token.drawn("till", "10.0.0.1", {})
    assert not by_token.drawn(None, "10.0.0.1", {})
    assert by_address.drawn(None, "10.0.0.1", {})
    assert not opened(CanarySettings("v2", 1.0, "X-Client")).drawn("till", "10.0.0.1", {"X-Client": "  "})
    half = opened(CanarySettings("v2", 0.5))
    addresses = [f"10.0.0.{number}" for number in range(100)]
    of_till = {half.drawn("till", address, {}) for address in addresses}
    assert len(of_till) == 1, "a token is the same client wherever it comes from"
    assert 25 < sum(half.drawn(None, address, {}) for address in addresses) < 75
    assert by_both.drawn(None, "10.0.0.1", {})


def test_tokens_are_told_apart(served_workspace: Path, tmp_path: Path, query: Path) -> None:
    directory = copy_of(served_workspace, tmp_path)
    keys = {f"till-{number}": Tokens(directory).create(f"till-{number}", "read") for number in range(12)}
    with client(directory, canarying=CanarySettings("v2", 0.5, "token")) as asking:
        found = {}
        for name, token in keys.items():
            with query.open("rb") as picture:
                answer = asking.post(
                    "/api/v1/search/image", files={"image": picture}, headers={"Authorization": f"Bearer {token}"}
                )
            found[name] = answer.json()["canary"]
        assert set(found.values()) == {None, "v2"}


def test_the_gate_judges(served_workspace: Path, tmp_path: Path, query: Path) -> None:
    directory = copy_of(served_workspace, tmp_path)
    for refused, message in (("v3", "gate refuses v3"), ("v4", "has not been checked")):
        with (
            pytest.raises(RefusedError, match=f"(?s){message}.*add  --force --why REASON"),
            client(directory, canarying=CanarySettings(refused, 0.5)),
        ):
            pass
    with client(directory, canarying=CanarySettings("v3", 1.0, force=True, why="to see")) as asking:
        answer = ask(asking, query)
        assert (answer["generation"], answer["canary"]) == ("v3", "v3")
        assert "gate refuses v3" in told(asking)["refused"]
        assert told(asking)["why"] == "to see"
    space = Workspace(directory)
    assert not space.holdings.state.may_compare(space.generation("v3").fingerprint, space.generation("v1").fingerprint)
    entry = space.log()[-1]
    assert (entry["operation"], entry["forced"], entry["why"]) == ("canary", True, "to see")


def test_evidence_that_is_withdrawn_ends_it(
    served_workspace: Path, tmp_path: Path, query: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = copy_of(served_workspace, tmp_path)
    with client(directory, canarying=CanarySettings("v2", 1.0)) as asking:
        assert ask(asking, query)["canary"] == "v2"
        path = directory / "checks" / "v2-in-v1.json"
        kept = json.loads(path.read_text())
        kept["direct"]["self_change"].update(mean=-0.3, low=-0.4, high=-0.2)
        path.write_text(json.dumps(kept))
        space = Workspace(directory)
        state = json.loads((directory / "workspace.json").read_text())
        (directory / "workspace.json").write_text(json.dumps(state, indent=1))
        assert space.holdings.state.promoted == "v1"
        answer = ask(asking, query)
        assert (answer["canary"], answer["generation"]) == (None, "v1")
        assert told(asking)["answering"] is False
        assert "self-test" in told(asking)["refused"]
        assert caplog.text.count("answers nobody any more") == 1
        path.write_text("no evidence")
        (directory / "workspace.json").write_text(json.dumps(state))
        assert ask(asking, query)["canary"] is None, "what cannot be read costs no client an answer"
        assert "cannot be read" in told(asking)["refused"]


def test_promotion_ends_it(served_workspace: Path, tmp_path: Path, query: Path) -> None:
    directory = copy_of(served_workspace, tmp_path)
    with client(directory, anonymous="admin", canarying=CanarySettings("v2", 0.001, "X-Client")) as asking:
        assert asking.post("/api/v1/promote", json={"generation": "v2"}).status_code == 200
        answer = ask(asking, query, "somebody")
        assert (answer["generation"], answer["promoted"], answer["canary"]) == ("v2", "v2", None)
        assert (told(asking)["answering"], told(asking)["refused"]) == (False, None)
        assert asking.post("/api/v1/rollback").status_code == 200
        assert told(asking)["answering"] is True


def test_what_can_be_no_canary(opened: Callable[[CanarySettings], Canary]) -> None:
    for share in (0.0, 1.01, float("nan")):
        with pytest.raises(InputError, match="share of the clients"):
            CanarySettings("v2", share)
    with pytest.raises(InputError, match="nothing is scored again"):
        CanarySettings("v2", 0.5, answer=Answer.of("rescore"))
    with pytest.raises(
        InputError, match="needs a reason.*evergallery serve --canary v2 --share 0.5 --force --why REASON"
    ):
        CanarySettings("v2", 0.5, force=True, why=" ")
    with pytest.raises(InputError, match="nothing that a client is known by"):
        CanarySettings("v2", 0.5, "X Client")
    with pytest.raises(NotFoundError, match="no generation 'v9'"):
        opened(CanarySettings("v9", 0.5))
