"""Wrong requests: each is a sentence with a status below 500, changes nothing, and is no error in the server's log."""

import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi.testclient import TestClient
from served import UNLIMITED, client, copy_of, listening, photographs

from evergallery.serving.app import create_app
from evergallery.serving.service import ServiceSettings


@pytest.fixture(scope="module")
def directory(served_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of(served_workspace, tmp_path_factory.mktemp("wrong"))


@pytest.fixture(scope="module")
def asking(directory: Path) -> Iterator[TestClient]:
    with client(directory, anonymous="admin") as one:
        yield one


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "fields", "says"),
    [
        ("items", {"lable": "shoe"}, "lable: there is none of that name. Did you mean 'label' or"),
        ("items", {"uri": "/x.png"}, "uri: there is none of that name."),
        ("search/image", {"options": '{"k": 3}'}, "options: there is none of that name."),
        ("search/image", {"min_scroe": "0.5"}, "min_scroe: there is none of that name. Did you mean 'min_score'"),
        ("held-out", {"label": "shoe", "labels": "shoe"}, "labels: there is none of that name."),
        ("marks/picture", {"label": "shoe"}, "label: there is none of that name."),
    ],
)
def test_a_field_that_nobody_reads_is_refused_and_not_lost(
    asking: TestClient, served_workspace: Path, path: str, fields: dict[str, str], says: str
) -> None:
    before = asking.get("/api/v1/info").json()["items"]
    picture = {"image": ("a.png", photographs(served_workspace)[0].read_bytes())}
    status, message = refusal(asking.post(f"/api/v1/{path}", files=picture, data=fields))
    assert (status, message.startswith(says)) == (422, True), message
    assert asking.get("/api/v1/info").json()["items"] == before


@pytest.mark.parametrize(
    ("method", "address", "says"),
    [
        ("GET", "items?lable=class 0", "address: lable: there is none of that name. Did you mean 'label'"),
        ("GET", "log?last=3", "address: last: there is none of that name"),
        ("POST", "search?k=3", "address: k: there is none of that name"),
        ("POST", "rollback?generation=v1", "address: generation: there is none of that name"),
    ],
)
def test_a_name_in_the_address_that_nobody_reads_is_refused(
    asking: TestClient, method: str, address: str, says: str
) -> None:
    status, message = refusal(asking.request(method, f"/api/v1/{address}"))
    assert (status, message.startswith(says)) == (422, True), message
    assert asking.get("/api/v1/items", params={"metadata.colour": "red"}).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("check", {"generation": "v2", "against": "v9"}, 404, "has no generation 'v9'"),
        ("check", {"generation": "v2", "against": "a9"}, 404, "has no adapter 'a9'"),
        ("commit", None, 409, "No refresh is open"),
        ("discard", None, 409, "No refresh is open"),
    ],
)
def test_what_can_be_told_at_once_is_no_job_that_fails(
    asking: TestClient, path: str, body: Any, status: int, says: str
) -> None:
    answer = asking.post(f"/api/v1/{path}", json=body)
    assert answer.status_code == status
    assert says in refusal(answer)[1]
    assert asking.get("/api/v1/job").status_code == 404


def test_faults_are_told_in_words_of_the_field(asking: TestClient) -> None:
    def told(**request: Any) -> str:
        return refusal(asking.post("/api/v1/search", **request))[1]

    assert told(content=b"{}", headers={"Content-Type": "text/plain"}) == (
        "body: it has to be JSON, with Content-Type: application/json."
    )
    assert told(json={"item": "x", "labels": "y"}) == "labels: it has to be a list."
    assert told(json={"item": "x" * 5000}) == "item: it has to have at most 4096 characters."
    assert told(json={"item": "x", "k": True}) == "k: it has to be a whole number."
    assert told(json={"item": "x", "k": "3"}) == "k: it has to be a whole number."
    assert told(json={"item": "x", "min_score": True}) == "min_score: it has to be a number."
    assert told(json={"item": "x", "exact": 1}) == "exact: it has to be true or false."
    assert told(json={"vector": [1, True]}) == "vector.1: it has to be a number."
    nan = {"content": b'{"item": "x", "min_score": NaN}', "headers": {"Content-Type": "application/json"}}
    assert told(**nan) == "min_score: it has to be a finite number."
    for value in ([1], {"a": 1}, 2**70):
        assert told(json={"item": "x", "metadata": {"size": value}}) == (
            "metadata.size: it has to be a string of at most 65536 characters, a finite number of at most 64 bits, true, false "
            "or null."
        )
    assert told(json={"vector": []}) == "vector: it has to have at least 1 item."
    assert told(json={"item": "x", "labels": ["y"] * 1001}) == "labels: it has to have at most 1000 items and has 1001."


def test_a_client_that_hangs_up_is_no_error_of_the_server(
    served_workspace: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="evergallery.serving")
    with listening(
        create_app(copy_of(served_workspace, tmp_path), ServiceSettings(UNLIMITED), anonymous="admin")
    ) as address:
        where = urlsplit(address)
        assert where.hostname is not None
        for path in ("/api/v1/search", "/api/v1/search/image"):
            kind = "application/json" if path.endswith("search") else "multipart/form-data; boundary=b"
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 1000\r\n\r\n--b"
            with socket.create_connection((where.hostname, where.port), timeout=20) as connection:
                connection.sendall(head.encode())
        with socket.create_connection((where.hostname, where.port), timeout=20) as connection:
            connection.sendall(
                b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}"
            )
            answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 400")
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert not any(json.dumps(record.getMessage()).count("Traceback") for record in caplog.records)
