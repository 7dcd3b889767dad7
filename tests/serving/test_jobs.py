"""Jobs by themselves; with a server around them they are in test_api.py."""

import logging
from typing import Any

import pytest

from evergallery.serving.jobs import Jobs
from evergallery.watching import Watcher


def test_a_job_has_ended_only_when_all_that_belongs_to_its_end_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    while_logging: list[str] = []
    jobs = Jobs(lambda _: None, lambda _: "Something went wrong.")

    def note(*_: Any, **__: Any) -> None:
        assert jobs.last is not None
        while_logging.append(jobs.last.state)

    def fail(_: Watcher) -> dict[str, Any]:
        raise RuntimeError

    monkeypatch.setattr(logging.getLogger("evergallery.serving"), "error", note)
    job = jobs.start("commit", {}, fail)
    jobs.close()
    assert while_logging == ["running"]
    assert (job.state, job.error, job.remaining_seconds) == ("failed", "Something went wrong.", None)
    assert job.seconds > 0
