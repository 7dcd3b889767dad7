"""Tokens: who may do what, and what is kept of them."""

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from hypothesis import given
from hypothesis import strategies as st
from served import client, copy_of

from conftest import as_json, evergallery
from evergallery.errors import DamagedError, InputError, NotFoundError, RefusedError
from evergallery.serving.access import RateLimiter
from evergallery.serving.app.server import _demanded
from evergallery.serving.limits import Limits
from evergallery.serving.tokens import Tokens


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_token_is_known_again_and_never_written(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    made = {name: tokens.create(name, "read") for name in ("one", "two")}
    written = tokens.path.read_text()
    assert stat.S_IMODE(tokens.path.stat().st_mode) == 0o600
    for name, token in made.items():
        found = tokens.verify(token)
        assert found is not None
        assert found.name == name
        assert token not in written
        assert token.split("_", 2)[2] not in written  # There may be "_" in the secret itself.
    salts = {token["salt"] for token in json.loads(written)["tokens"]}
    assert len(salts) == 2
    tokens.revoke("one")
    assert tokens.verify(made["one"]) is None
    assert tokens.verify(made["two"]) is not None


@given(st.text(max_size=80))
def test_nothing_else_is_a_token(text: str) -> None:
    tokens = Tokens(Path("/nonexistent"))
    assert tokens.verify(text) is None


def test_a_token_with_another_end_is_refused(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    token = tokens.create("one", "admin")
    for wrong in (
        token[:-1],
        token + "x",
        token.replace("evg_", "evg_0"),
        token.rsplit("_", 1)[0] + "_",
        token.upper(),
    ):
        assert tokens.verify(wrong) is None


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    tokens.create("one", "read")
    with pytest.raises(InputError, match="already"):
        tokens.create("one", "write")
    with pytest.raises(InputError, match="cannot be used"):
        tokens.create("a b", "read")
    with pytest.raises(NotFoundError, match="no token 'two'"):
        tokens.revoke("two")
    tokens.path.write_text("{}")
    with pytest.raises(DamagedError, match="does not hold tokens"):
        Tokens(tmp_path).verify("evg_a_b")


def test_scopes_contain_each_other(served_workspace: Path, tmp_path: Path) -> None:
    directory = copy_of(served_workspace, tmp_path)
    tokens = Tokens(directory)
    made = {scope: tokens.create(scope, scope) for scope in ("read", "write", "admin")}
    asked: dict[str, Callable[[TestClient, dict[str, str]], Response]] = {
        "read": lambda ask, headers: ask.get("/api/v1/labels", headers=headers),
        "write": lambda ask, headers: ask.request("DELETE", "/api/v1/items", json={"ids": ["x"]}, headers=headers),
        "admin": lambda ask, headers: ask.post("/api/v1/promote", json={"generation": "v9"}, headers=headers),
    }
    with client(directory, anonymous="admin") as ask:
        for have, token in made.items():
            statuses = {need: request(ask, bearer(token)).status_code for need, request in asked.items()}
            allowed = list(made)[: list(made).index(have) + 1]
            assert {need for need, status in statuses.items() if status != 403} == set(allowed)
            assert ask.get("/api/v1/me", headers=bearer(token)).json() == {"scopes": allowed, "anonymous": False}
        # Where there are tokens, everybody needs one.
        for headers in ({}, bearer("evg_00000000_x"), {"Authorization": "Basic eDp5"}, bearer("")):
            answer = ask.get("/api/v1/labels", headers=headers)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "unauthorised"
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert ask.get("/metrics").status_code == 401
        assert ask.get("/healthz").status_code == ask.get("/readyz").status_code == 200
        assert ask.get("/api/v1/labels", headers=bearer(made["read"])).status_code == 200
        tokens.revoke("read")
        assert ask.get("/api/v1/labels", headers=bearer(made["read"])).status_code == 401, "heeded at once"


def test_without_tokens_others_than_this_machine_may_nothing(served_workspace: Path, tmp_path: Path) -> None:
    with client(copy_of(served_workspace, tmp_path), anonymous=None) as ask:
        assert ask.get("/api/v1/labels").status_code == ask.get("/api/v1/me").status_code == 401


@pytest.mark.parametrize("lost", ["revoked", "deleted", "restored without it"])
def test_once_there_was_a_token_everybody_needs_one(served_workspace: Path, tmp_path: Path, lost: str) -> None:
    """Whatever becomes of the last one: while the server runs, after a restart, in a copy from a backup."""
    directory = copy_of(served_workspace, tmp_path)
    with client(directory) as ask:
        assert ask.get("/api/v1/labels").status_code == 200
        tokens = Tokens(directory)
        tokens.create("one", "read")
        assert ask.get("/api/v1/labels").status_code == 401
        if lost == "revoked":
            tokens.revoke("one")
        else:
            tokens.path.unlink()
        assert ask.get("/api/v1/labels").status_code == 401
    if lost.startswith("restored"):
        directory = copy_of(directory, tmp_path / "backup")
    with client(directory) as ask:
        for path in ("/api/v1/labels", "/api/v1/me", "/api/v1/events", "/metrics"):
            assert ask.get(path).status_code == 401
        assert ask.get("/healthz").status_code == 200
        token = tokens.create("two", "read") if lost == "revoked" else Tokens(directory).create("two", "read")
        assert ask.get("/api/v1/labels", headers=bearer(token)).status_code == 200


def test_a_server_that_cannot_write_it_down_remembers(
    served_workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens of an earlier version, which wrote nothing down, are seen by the running server."""
    directory = copy_of(served_workspace, tmp_path)
    monkeypatch.setattr(Tokens, "demand", lambda *_: None)
    tokens = Tokens(directory)
    tokens.create("one", "read")
    with client(directory) as ask:
        assert ask.get("/api/v1/labels").status_code == 401
        tokens.revoke("one")
        assert ask.get("/api/v1/labels").status_code == 401


def test_tokens_of_an_earlier_version_are_written_down_by_the_next_start(
    served_workspace: Path, tmp_path: Path
) -> None:
    directory = copy_of(served_workspace, tmp_path)
    tokens = Tokens(directory)
    tokens.create("one", "read")
    tokens.demand(False)
    assert _demanded(directory, True, True, None)
    tokens.revoke("one")
    assert _demanded(directory, True, False, None)


def test_what_is_demanded_is_said_and_can_be_changed_on_purpose(served_workspace: Path, tmp_path: Path) -> None:
    directory = copy_of(served_workspace, tmp_path)
    tokens = Tokens(directory)
    assert not _demanded(directory, True, False, None)
    assert "lets everyone read" in evergallery("token", "list", "-w", directory).stdout
    assert _demanded(directory, True, False, True)
    assert _demanded(directory, True, False, None), "it is remembered"
    assert "lets nobody in" in evergallery("token", "list", "-w", directory).stdout
    refused = evergallery("serve", "-w", directory, "--allow-writes", expect=2).stderr
    assert "servers without tokens" in refused
    assert not _demanded(directory, True, False, False)
    assert not _demanded(directory, True, False, None)
    tokens.create("one", "read")
    refused = evergallery("serve", "-w", directory, "--no-require-token", expect=1).stderr
    assert "revoke them first" in refused
    assert "nobody is let in" in evergallery("token", "revoke", "one", "-w", directory).stdout
    assert _demanded(directory, True, False, None)
    with pytest.raises(RefusedError, match="on loopback"):
        _demanded(directory, False, False, False)


def test_a_client_that_asks_too_often_waits(served_workspace: Path, tmp_path: Path) -> None:
    directory = copy_of(served_workspace, tmp_path)
    with client(directory, limits=Limits(rate=0.01, burst=3)) as ask:
        assert [ask.get("/api/v1/me").status_code for _ in range(5)] == [200, 200, 200, 429, 429]
        assert {ask.get(path).status_code for path in ("/healthz", "/readyz") for _ in range(5)} == {200}
        answer = ask.get("/api/v1/labels")
        assert answer.json()["error"]["code"] == "rate_limited"
        assert 90 < int(answer.headers["Retry-After"]) <= 101
        token = Tokens(directory).create("other", "read")
        assert ask.get("/api/v1/labels", headers=bearer(token)).status_code == 200, "a token has a rate of its own"
        assert ask.get("/api/v1/labels", headers=bearer("evg_a_b")).status_code == 429, "a guess has not"


@given(st.lists(st.floats(0, 3), max_size=40), st.floats(0.1, 5), st.integers(1, 5))
def test_no_client_gets_more_than_its_rate(pauses: list[float], rate: float, burst: int) -> None:
    now = [100.0]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("evergallery.serving.access.time.monotonic", lambda: now[0])
        rates, served = RateLimiter(rate, burst), 0
        for pause in pauses:
            now[0] += pause
            wait = rates.wait(("address", "x"))
            served += wait == 0
            assert served <= burst + rate * (now[0] - 100) + 1e-6
            if wait:
                now[0] += wait + 1e-6
                assert rates.wait(("address", "x")) == 0, "whoever waits as long as told may ask"
                served += 1


def test_commands(served_workspace: Path, tmp_path: Path) -> None:
    directory = copy_of(served_workspace, tmp_path)
    token = evergallery("token", "create", "--name", "page", "--scope", "read", "-w", directory).stdout.strip()
    assert Tokens(directory).verify(token)
    (listed,) = as_json("token", "list", "-w", directory)
    assert (listed["name"], listed["scope"]) == ("page", "read")
    assert token not in evergallery("token", "list", "-w", directory).stdout
    assert (
        "--scope 'all' is not usable: it is one of"
        in evergallery("token", "create", "--name", "x", "--scope", "all", "-w", directory, expect=2).stderr
    )
    evergallery("token", "revoke", "page", "-w", directory)
    refused = evergallery("serve", "-w", directory, "--host", "0.0.0.0", expect=1).stderr
    assert "make a token first" in refused
    assert (
        "--allow-writes is for loopback"
        in evergallery("serve", "-w", directory, "--host", "0.0.0.0", "--allow-writes", expect=1).stderr
    )
    Tokens(directory).create("page", "read")
    assert "servers without tokens" in evergallery("serve", "-w", directory, "--allow-writes", expect=2).stderr
