"""Another generation answers a sample of the searches too: beside the request, and never in its way."""

import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from served import client, copy_of

from evergallery.errors import InputError, NotFoundError
from evergallery.holdings.answer import Answer
from evergallery.serving.shadow import ShadowSettings
from shops import make_photos


def search(asking: TestClient, path: Path, **options: Any) -> dict[str, Any]:
    with path.open("rb") as picture:
        found = asking.post("/api/v1/search/image", files={"image": picture}, data=options)
    assert found.status_code == 200, found.text
    answer: dict[str, Any] = found.json()
    return answer


def told(asking: TestClient) -> dict[str, Any]:
    shadow: dict[str, Any] = asking.get("/api/v1/status").json()["shadow"]
    return shadow


def once(asking: TestClient, name: str, count: int) -> dict[str, Any]:
    """The shadow once it has counted so many."""
    until = time.monotonic() + 30
    while (shadow := told(asking))[name] < count:
        assert time.monotonic() < until, shadow
        time.sleep(0.02)
    return shadow


@pytest.fixture
def queries(tmp_path: Path) -> list[Path]:
    return sorted(make_photos(tmp_path / "queries", each=1, seed=5).rglob("*.png"))[:4]


def test_answers_are_compared_and_nothing_else_changes(
    served_workspace: Path, tmp_path: Path, queries: list[Path]
) -> None:
    directory = copy_of(served_workspace, tmp_path)
    with client(directory) as asking:
        plain = [search(asking, query)["results"] for query in queries]
        assert asking.get("/api/v1/status").json()["shadow"] is None
    with client(directory, shadowing=ShadowSettings("v2", 1.0)) as asking:
        for number, query in enumerate(queries, 1):
            assert search(asking, query)["results"] == plain[number - 1]
            shadow = once(asking, "compared", number)
        assert (shadow["generation"], shadow["sample"], shadow["way"], shadow["failed"]) == ("v2", 1.0, "checked", 0)
        expected = [search(asking, query, generation="v2")["results"] for query in queries]
        common = [
            len({result["item"]["id"] for result in before} & {result["item"]["id"] for result in after}) / 10
            for before, after in zip(plain, expected, strict=True)
        ]
        assert shadow["overlap"] == pytest.approx(sum(common) / len(common))
        firsts = [
            before[0]["item"]["id"] == after[0]["item"]["id"] for before, after in zip(plain, expected, strict=True)
        ]
        assert shadow["same_first"] == pytest.approx(sum(firsts) / len(firsts))
        shifts = [after[0]["score"] - before[0]["score"] for before, after in zip(plain, expected, strict=True)]
        assert shadow["score_shift"] == pytest.approx(sum(shifts) / len(shifts), abs=1e-4)
        assert told(asking)["compared"] == len(queries), "who asks for a generation is not in the sample"
        metrics = asking.get("/metrics").text
        assert f'evergallery_shadow_searches_total{{outcome="compared"}} {len(queries)}.0' in metrics
        assert f"evergallery_shadow_overlap_count {len(queries)}.0" in metrics
        assert asking.get("/api/v1/status").json()["promoted"] == "v1"


def test_an_old_gallery_is_asked_as_it_would_be(served_workspace: Path, tmp_path: Path, queries: list[Path]) -> None:
    """v3 cannot search the vectors of v1, which v1 itself can."""
    directory = copy_of(served_workspace, tmp_path)
    with client(directory, shadowing=ShadowSettings("v3", 1.0)) as asking:
        search(asking, queries[0])
        assert "has not been shown to be compatible" in once(asking, "failed", 1)["problem"]
    with client(directory, shadowing=ShadowSettings("v3", 1.0, Answer.of("dual"))) as asking:
        search(asking, queries[0])
        shadow = once(asking, "compared", 1)
        assert (shadow["overlap"], shadow["same_first"], shadow["score_shift"]) == (1.0, 1.0, 0.0)


def test_only_a_sample(served_workspace: Path, tmp_path: Path, queries: list[Path]) -> None:
    with client(copy_of(served_workspace, tmp_path), shadowing=ShadowSettings("v2", 1e-9)) as asking:
        for query in queries:
            search(asking, query)
        assert told(asking)["compared"] == 0


@pytest.mark.parametrize("sample", [0.0, 1.1, -1.0, float("nan")])
def test_what_is_no_sample(sample: float) -> None:
    with pytest.raises(InputError, match="not usable"):
        ShadowSettings("v2", sample)


def test_what_cannot_answer_in_the_shadow(served_workspace: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing is scored again"):
        ShadowSettings("v2", 0.5, Answer.of("rescore"))
    with (
        pytest.raises(NotFoundError, match="no generation 'v9'"),
        client(copy_of(served_workspace, tmp_path), shadowing=ShadowSettings("v9", 0.5)),
    ):
        pass
