"""Whether queries are still drawn as they were: watched while the server answers, told once, kept over a restart."""

import json
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served import client, copy_of

from evergallery import Workspace
from evergallery.errors import InputError
from evergallery.generations.generation import Generation
from evergallery.serving.drift import FOLDER, Drift
from shops import make_photos


class ImmediateExecutor(Executor):
    """Does what it is given before it returns."""

    def submit(self, work: Any, /, *arguments: Any, **named: Any) -> Any:
        done: Future[Any] = Future()
        # Whoever submits holds a lock that the work wants: as in a thread, it runs once that is free.
        self.left.append(lambda: done.set_result(work(*arguments, **named)))
        return done

    def __init__(self) -> None:
        self.left: list[Any] = []

    def run(self) -> None:
        while self.left:
            self.left.pop(0)()


@pytest.fixture
def generation(served_workspace: Path) -> Generation:
    return Workspace(served_workspace).generation("v1")


def feed(
    drift: Drift,
    executor: ImmediateExecutor,
    generation: Generation,
    count: int,
    seed: int,
    shift: float = 0.0,
    fall: float = 0.0,
) -> None:
    draw = np.random.default_rng(seed)
    centre = np.zeros(generation.card.dimension)
    centre[0] = shift
    for _ in range(count):
        query = draw.normal(size=len(centre)) + 3 * centre
        score = float(np.clip(draw.normal(0.8, 0.05) - fall, -1, 1))
        drift.observe(generation, "checked", (query / np.linalg.norm(query)).astype(np.float32), score)
        executor.run()


def test_alarm_once(tmp_path: Path, generation: Generation, caplog: pytest.LogCaptureFixture) -> None:
    executor = ImmediateExecutor()
    drift = Drift(tmp_path, 400, executor)
    assert drift.told() is None
    feed(drift, executor, generation, 400, seed=0)
    assert (drift.told().reference, drift.told().windows) == (400, 0)  # type: ignore[union-attr]
    feed(drift, executor, generation, 1000, seed=1)
    told = drift.told()
    assert told is not None
    assert (told.windows, told.alarms) == (10, {})
    assert all(told.distances[name] < told.limits[name] for name in ("score", "query"))
    feed(drift, executor, generation, 300, seed=2, fall=0.1)
    told = drift.told()
    assert told is not None
    assert set(told.alarms) == {"score"}, "the pictures are as they were, and are matched worse"
    assert caplog.text.count("queries have drifted") == 1
    feed(drift, executor, generation, 300, seed=3, shift=1.0)
    assert set(drift.told().alarms) == {"score", "query"}  # type: ignore[union-attr]
    assert caplog.text.count("queries have drifted") == 2


def test_kept_over_a_restart_and_begun_anew(tmp_path: Path, generation: Generation) -> None:
    executor = ImmediateExecutor()
    drift = Drift(tmp_path, 400, executor)
    feed(drift, executor, generation, 150, seed=0)
    drift.close()
    drift = Drift(tmp_path, 400, executor)
    feed(drift, executor, generation, 250 + 100, seed=1)
    assert drift.told().windows == 1  # type: ignore[union-attr]
    drift = Drift(tmp_path, 400, executor)
    feed(drift, executor, generation, 100, seed=2, fall=0.3)
    told = drift.told()
    assert told is not None
    assert (told.windows, set(told.alarms)) == (2, {"score"}), (
        "windows are counted on, so that chance is not given more"
    )
    kept = (tmp_path / FOLDER / "v1.json").read_text()
    assert len(json.loads(kept)["reference"][0]) == 5, "no embedding is kept"
    drift.forget()
    assert not (tmp_path / FOLDER / "v1.json").exists()
    feed(drift, executor, generation, 500, seed=3, fall=0.3)
    assert drift.told().alarms == {}  # type: ignore[union-attr]


def test_what_was_kept_of_something_else_is_not_taken(tmp_path: Path, generation: Generation) -> None:
    executor = ImmediateExecutor()
    (tmp_path / FOLDER).mkdir()
    for content in ("no JSON", '{"fingerprint": 1}', json.dumps({"fingerprint": "x", "way": "dual", "size": 400})):
        (tmp_path / FOLDER / "v1.json").write_text(content)
        drift = Drift(tmp_path, 400, executor)
        feed(drift, executor, generation, 3, seed=0)
        assert drift.told().reference == 3  # type: ignore[union-attr]
    assert (tmp_path / FOLDER / "v1.json.damaged").read_text() == '{"fingerprint": 1}', "what cannot be read is kept"
    with pytest.raises(InputError, match="tells nothing"):
        Drift(tmp_path, 10, executor)


def test_the_same_picture_again_is_no_new_draw(tmp_path: Path, generation: Generation) -> None:
    executor = ImmediateExecutor()
    drift = Drift(tmp_path, 400, executor)
    feed(drift, executor, generation, 400, seed=0)
    query = np.eye(generation.card.dimension, dtype=np.float32)[0]
    for _ in range(500):
        drift.observe(generation, "checked", query, 0.1)
        executor.run()
    told = drift.told()
    assert told is not None
    assert (told.windows, told.alarms) == (0, {})


def test_served(served_workspace: Path, tmp_path: Path) -> None:
    directory = copy_of(served_workspace, tmp_path)
    pictures = sorted(make_photos(tmp_path / "queries", each=2, seed=5).rglob("*.png"))[:5]
    with client(directory, anonymous="admin") as asking:
        for path in pictures:
            for options in ({}, {"labels": ["class 0"]}, {"generation": "v1"}, {"min_score": -1}):
                with path.open("rb") as picture:
                    asked = asking.post("/api/v1/search/image", files={"image": picture}, data=options)
                assert asked.status_code == 200
        drift = asking.get("/api/v1/status").json()["drift"]
        assert (drift["generation"], drift["reference"], drift["of"]) == ("v1", 5, 2000), "only those that ask plainly"
        metrics = asking.get("/metrics").text
        assert 'evergallery_top_score_count{generation="v1",space="v1"}' in metrics
        assert 'evergallery_top_margin_count{generation="v1"}' in metrics
        assert 'evergallery_query_drift_alarm{of="score"} 0.0' in metrics
        assert asking.delete("/api/v1/drift").json()["drift"] is None
    with client(directory, drift_reference=0) as asking:
        assert asking.get("/api/v1/status").json()["drift"] is None
        assert asking.delete("/api/v1/drift").status_code == 403
