"""Whatever the server's own description admits, and much that it does not, is answered as described, and never by a 5xx."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode, checks
from schemathesis.core.result import Ok
from served import UNLIMITED, copy_of, listening, photographs, unit

from evergallery import Workspace
from evergallery.serving.app import create_app
from evergallery.serving.service import ServiceSettings

EXAMPLES = int(os.environ.get("EVERGALLERY_FUZZ_EXAMPLES", "5"))
"""Requests to each address in each mode; derandomised, so that a larger number is the way to try others."""
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]
GENERATIONS = st.sampled_from(["v1", "v2", "v3", "v4"])


@pytest.fixture(scope="module")
def fuzzed(served_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of(served_workspace, tmp_path_factory.mktemp("fuzzed"))


@pytest.fixture(scope="module")
def known(fuzzed: Path, served_workspace: Path) -> dict[str, st.SearchStrategy[Any]]:
    """Values that exist, by the name under which they are asked for: without them most requests end at once."""
    with Workspace(fuzzed) as shop:
        ids = next(iter(shop.gallery.identifiers()))
    pictures = [path.read_bytes() for path in photographs(served_workspace)[:3]]
    return {
        "generation": GENERATIONS,
        "name": GENERATIONS,
        "id": st.sampled_from(ids[:5]),
        "item": st.sampled_from(ids[:5]),
        "ids": st.lists(st.sampled_from(ids[5:15]), min_size=1, max_size=2),
        "uri": st.sampled_from([str(photographs(served_workspace)[0]), "/etc/passwd"]),
        "vector": st.integers(0, 9).map(unit),
        "embedding": st.integers(0, 9).map(unit),
        "image": st.sampled_from(pictures),
        "labels": st.lists(st.sampled_from(["class 0", "class 1", "", "\0"]), max_size=2),
        "generations": st.lists(GENERATIONS, max_size=2),
    }


@pytest.fixture(scope="module")
def described(fuzzed: Path, known: dict[str, Any]) -> Iterator[schemathesis.BaseSchema]:
    """The server's own description; its stream of events, which never ends, is left out."""
    with listening(create_app(fuzzed, ServiceSettings(UNLIMITED), anonymous="admin")) as address:
        yield schemathesis.openapi.from_url(f"{address}/openapi.json").exclude(path="/api/v1/events")


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_answer_is_as_described(
    described: schemathesis.BaseSchema, known: dict[str, st.SearchStrategy[Any]], mode: GenerationMode
) -> None:
    operations = [result.ok() for result in described.get_all_operations() if isinstance(result, Ok)]
    assert len(operations) > 25
    for operation in operations:
        has_input = operation.body or operation.query or operation.path_parameters
        if mode is GenerationMode.NEGATIVE and not has_input:
            continue

        @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
        @settings(
            max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        def answered(case: schemathesis.Case[Any], data: st.DataObject) -> None:
            if mode is GenerationMode.POSITIVE:
                for part in (case.body, case.query, case.path_parameters):
                    name_what_exists(part, known, data)
            case.call_and_validate(checks=CHECKS)

        answered()


def name_what_exists(part: Any, known: dict[str, st.SearchStrategy[Any]], data: st.DataObject) -> None:
    """Put values that exist in place of most of those that were made up, and one query in place of several."""
    if isinstance(part, list):
        for piece in part:
            name_what_exists(piece, known, data)
    if not isinstance(part, dict):
        return
    queries = [name for name in ("vector", "item", "uri") if part.get(name) is not None and "embedding" not in part]
    for name in queries[1:]:
        del part[name]
    for name, value in part.items():
        if name in known and value is not None and data.draw(st.integers(0, 3)):
            part[name] = data.draw(known[name])
        else:
            name_what_exists(value, known, data)
