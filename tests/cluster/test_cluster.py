"""The same job in one process and on a cluster: the same items, whoever is killed on the way."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import coloured_images, evergallery
from evergallery import Workspace, __version__
from evergallery.errors import BusyError, InputError, MissingExtraError, NotFoundError
from evergallery.extraction import cluster as clusters
from evergallery.extraction.cluster import Cluster
from evergallery.extraction.connecting import connected
from evergallery.extraction.worker import Refusal, Worker
from evergallery.gallery.items import Item
from evergallery.indexing import pipeline
from evergallery.strings.environment import LARGEST_IMAGE
from evergallery.upgrade import refreshing
from evergallery.watching import Watcher
from forked import forked, until
from shops import HERE, environment, make_photos, vectors

MODEL = "models:mortal"
LARGEST = 16 * 16
"""Pixels of the largest image that the workers decode."""


class BatchListener(Watcher):
    """Calls somebody when the first batch is stored."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call
        self.lines: list[str] = []

    def said(self, message: str) -> None:
        self.lines.append(message)

    def counted(self, activity: str, done: int, total: int) -> None:
        if self.call is not None:
            call, self.call = self.call, None
            call()


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A cluster on this machine, with room for more workers than processors."""
    pytest.importorskip("ray", reason="ray is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
        # Ray lets all other processes go first, and the tests wait for its workers.
        patch.setenv("RAY_worker_niceness", "0")
        with connected("local", 4) as found:
            yield found


@pytest.fixture(scope="module")
def workers(ray: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two that run the model and refuse large images; the tests share them, since to start one takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        # Said when the cluster is there: its processes know no variable of this one.
        patch.setenv(LARGEST_IMAGE, str(LARGEST))
        with patch.context() as importing:
            importing.syspath_prepend(HERE)
            space = Workspace.create(tmp_path_factory.mktemp("model") / "shop", size=16)
            maker = space.register(MODEL, size=16)
        with Cluster("local", maker, 2) as found:
            yield found


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of sixteen."""
    monkeypatch.setattr(pipeline, "batch_size", lambda size: 16)
    monkeypatch.setattr(clusters, "batch_size", lambda size: 16)
    monkeypatch.setattr(refreshing, "BATCH", 16)


@pytest.fixture
def shared(workers: Cluster, monkeypatch: pytest.MonkeyPatch, small: None) -> Cluster:
    """Whoever wants a cluster gets the one that is there."""

    def same(address: str, generation: Any, count: int | None) -> AbstractContextManager[Cluster]:
        assert (generation.fingerprint, count) == (workers.generation.fingerprint, 2)
        return nullcontext(workers)

    monkeypatch.setattr(clusters, "Cluster", same)
    return workers


def make_space(folder: Path, *models: str) -> Workspace:
    space = Workspace.create(folder, size=16)
    for model in models:
        space.register(model, size=16)
    return space


def items(space: Workspace) -> dict[str, Item]:
    return {item.id: replace(item, added="") for batch in space.gallery.iterate() for item in batch}


def assert_same(first: Workspace, second: Workspace) -> None:
    """The same items, and vectors that differ in their last bits at most."""
    mine, theirs = items(first), items(second)
    assert mine.keys() == theirs.keys()
    for key, item in mine.items():
        assert {**vars(item), "embedding": 0} == {**vars(theirs[key]), "embedding": 0}
        assert np.allclose(item.embedding, theirs[key].embedding, atol=1e-6)


def process_of(workers: Cluster, ray: Any) -> int:
    """Of a worker that is ready."""
    worker = next(worker for worker in workers._workers if worker.is_ready)
    return int(ray.get(worker.actor.__ray_call__.remote(lambda self: os.getpid())))


def black(path: Path) -> Path:
    Image.new("RGB", (16, 16)).save(path)
    return path


def test_workers_refuse_the_images_that_were_refused_where_they_were_asked_for(
    shared: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However they were started: the limit goes to them with the job."""
    monkeypatch.delenv(LARGEST_IMAGE)
    path = tmp_path / "white.png"
    Image.new("RGB", (17, 16), "white").save(path)
    with make_space(tmp_path / "shop", MODEL) as space:
        with pytest.raises(InputError, match=f"more than the {LARGEST} allowed"):
            space.index(path, cluster="local", workers=2)
        assert space.index(path).added == 1, "this process has no limit now"


def test_indexing_gives_what_one_process_gives(shared: Cluster, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", each=10)
    first, second, *_, last = sorted(photos.rglob("*.png"))
    last.write_bytes(first.read_bytes())
    second.write_bytes(second.read_bytes()[:60])
    (photos / "class 3" / "again.png").write_bytes(second.read_bytes())
    with make_space(tmp_path / "here", MODEL) as here, make_space(tmp_path / "there", MODEL) as there:
        done = here.index(photos)
        other = there.index(photos, cluster="local", workers=2)
        assert (done.added, done.skipped_count) == (98, 2)
        assert replace(other, seconds=0) == replace(done, seconds=0)
        assert_same(here, there)
        (photos / "class 2").rename(photos / "class two")
        again = there.index(photos, cluster="local", workers=2)
        assert (again.added, again.replaced, again.unchanged) == (0, 10, 88)
        here.index(photos)
        assert_same(here, there)


def test_decoded_images_are_sent(shared: Cluster, tmp_path: Path) -> None:
    images = coloured_images(classes=5, each=8)
    with make_space(tmp_path / "here", MODEL) as here, make_space(tmp_path / "there", MODEL) as there:
        here.index(images)
        assert there.index(images, cluster="local", workers=2).added == 40
        assert_same(here, there)


def test_refreshing_gives_what_one_process_gives(shared: Cluster, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", each=10)
    spaces = [make_space(tmp_path / name, "models:worn", MODEL) for name in ("here", "there")]
    for space in spaces:
        space.index(photos, generation="v1")
    moved = (photos / "class 1").rename(tmp_path / "class 1")
    files = sorted(photos.rglob("*.png"))
    files[0].unlink()
    files[1].write_bytes(files[2].read_bytes())
    here, there = spaces
    done = here.refresh("v2", images=str(moved))
    other = there.refresh("v2", images=str(moved), cluster="local", workers=2)
    assert (done.refreshed, done.remaining, len(done.problems)) == (98, 2, 2)
    assert (other.refreshed, other.remaining, other.stopped_by) == (98, 2, "done")
    assert [(problem.item, problem.kind) for problem in other.problems] == [
        (problem.item, problem.kind) for problem in done.problems
    ]
    reasons = {problem.kind: problem.reason for problem in other.problems}
    assert reasons["image missing"] == (
        f"there is no image {files[0]} on the machine {socket.gethostname()} of the cluster"
    )
    assert "not the image that was stored" in reasons["failed"]
    for space in spaces:
        space.promote("v2", force=True, why="a test")
    assert_same(here, there)
    for space in spaces:
        space.close()


def test_killed_worker_loses_nothing_and_nothing_comes_twice(
    shared: Cluster, ray: Any, tmp_path: Path, small: None
) -> None:
    photos = make_photos(tmp_path / "photos", each=20)
    before = set(map(id, shared._workers))
    process = process_of(shared, ray)
    with make_space(tmp_path / "here", MODEL) as here, make_space(tmp_path / "there", MODEL) as there:
        told = BatchListener(lambda: os.kill(process, signal.SIGKILL))
        done = there.index(photos, cluster="local", workers=2, watcher=told)
        assert (done.added, done.replaced, done.unchanged, done.skipped_count) == (200, 0, 0, 0)
        here.index(photos)
        assert_same(here, there)
        assert there.doctor() == []
    assert told.lines[1:] == ["workers that died on the way and were replaced: 1"]
    assert len(shared._workers) == 2
    assert len(before & set(map(id, shared._workers))) == 1, "another one was started in its place"


def test_image_that_kills_is_skipped_by_name(
    shared: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photos = make_photos(tmp_path / "photos", each=1)
    bad = black(photos / "class 0" / "black.png")
    for path in sorted(photos.rglob("*.png"))[3:]:
        path.unlink()
    with make_space(tmp_path / "there", MODEL) as there:
        done = there.index(photos, cluster="local", workers=2)
        assert (done.added, done.skipped_count) == (2, 1)
        assert done.skipped[0].uri == str(bad)
        assert "was killed, and so was the next" in done.skipped[0].reason
    assert capfd.readouterr().out == "", "Ray says nothing where results are printed"


class RefreshCounter(Watcher):
    """Says how many vectors are new."""

    def counted(self, activity: str, done: int, total: int) -> None:
        if activity.startswith("refreshing") and done:
            print("new vectors:", done, flush=True)


def refresh_slowly(directory: Path, address: str) -> None:
    """What the driver does that is killed on the way."""
    Workspace(directory).refresh("v2", rate=20, cluster=address, workers=1, watcher=RefreshCounter())


def test_killed_driver_loses_nothing_and_the_same_call_goes_on(shared: Cluster, ray: Any, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", each=10)
    spaces = [make_space(tmp_path / name, "models:worn", MODEL) for name in ("here", "there")]
    for space in spaces:
        space.index(photos, generation="v1")
        space.close()
    here, there = spaces
    before = vectors(there)
    there.close()
    room = ray.available_resources()["CPU"]
    address = ray.get_runtime_context().gcs_address
    said = tmp_path / "said"
    process = forked(said, refresh_slowly, there.directory, address, **environment())
    until(lambda: process.exitcode is not None or (said.exists() and "new vectors: 20\n" in said.read_text()))
    assert process.exitcode is None, said.read_text()
    process.kill()
    process.join()
    assert there.doctor() == []
    assert vectors(there) == before, "nothing is seen before the promotion"
    done = there.refresh("v2", cluster="local", workers=2)
    assert 60 <= done.refreshed <= 80
    assert done.remaining == 0
    here.refresh("v2")
    for space in spaces:
        space.promote("v2", force=True, why="a test")
    assert_same(here, there)
    for space in spaces:
        space.close()
    for _ in range(200):
        if ray.available_resources()["CPU"] == room:
            break
        time.sleep(0.1)
    assert ray.available_resources()["CPU"] == room, "its worker ended with it"


def test_cluster_without_room_is_said(workers: Cluster, small: None, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(clusters, "PATIENCE", 0.2)
    maker = make_space(tmp_path / "shop", MODEL).promoted
    with pytest.raises(BusyError, match="no room for a worker"), Cluster("local", maker, 5) as found:
        pytest.fail(f"{found.size} workers have started in no time")


def test_generation_that_the_machines_cannot_run_is_said(workers: Cluster) -> None:
    other = Worker(1, on_gpu=False)
    found = other.prepare("0.0.0", workers._files)
    assert isinstance(found, Refusal)
    assert "has Evergallery" in found.reason
    found = other.prepare(__version__, {**workers._files, "probe.safetensors": b""})
    assert isinstance(found, Refusal)
    assert "cannot run the generation" in found.reason


def test_gpu_that_torch_does_not_see_is_said(workers: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evergallery.extraction.worker.has_gpu", lambda: False)
    found = Worker(1, on_gpu=True).prepare(__version__, workers._files)
    assert isinstance(found, Refusal)
    assert "a GPU that its PyTorch does not see" in found.reason
    assert Worker(1, on_gpu=False).prepare(__version__, workers._files) is None


class TestAddresses:
    def test_where_nothing_listens_is_refused_before_anything_is_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("ray", reason="ray is not installed")
        monkeypatch.setattr("ray.is_initialized", lambda: False)
        monkeypatch.setattr(pipeline, "Spool", lambda *_: pytest.fail("the listing was read"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        with make_space(tmp_path / "shop", "models:better") as space:
            photos = make_photos(tmp_path / "photos", each=1)
            with pytest.raises(NotFoundError, match=f"Nothing answers at {address} .*ray start --head"):
                space.index(photos, cluster=address)
            with pytest.raises(NotFoundError, match="Nothing answers"):
                space.index(photos, cluster=f"ray://{address}")
            for wrong in ("nonsense", "host:", ":6379", "host:99999"):
                with pytest.raises(InputError, match="is no cluster's address"):
                    space.index(photos, cluster=wrong)

    def test_missing_extra_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "ray", None)
        make_space(tmp_path / "shop", "models:better").close()
        photos = make_photos(tmp_path / "photos", each=1)
        done = evergallery("index", photos, "-w", tmp_path / "shop", "--cluster", "local", expect=2)
        assert "evergallery[ray]" in done.stderr
        with pytest.raises(MissingExtraError):
            Workspace(tmp_path / "shop").index(photos, cluster="auto")

    def test_what_cannot_be_is_refused(self, tmp_path: Path) -> None:
        with make_space(tmp_path / "shop", "models:better") as space:
            for count, cluster in ((2, None), (0, "local")):
                with pytest.raises(InputError, match="--cluster ADDRESS --workers N"):
                    space.index(tmp_path, cluster=cluster, workers=count)
