"""What a plan has measured is said again while nothing has changed that it depends on, and measured anew where something has."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import MessageRecorder
from evergallery import Workspace
from evergallery.upgrade import kept_plan, sample
from evergallery.upgrade.plan import Plan
from shops import held_out, make_shop


@pytest.fixture
def shop(tmp_path: Path) -> Workspace:
    return make_shop(tmp_path)


def planned(shop: Workspace, generation: str = "v2", **options: object) -> tuple[Plan, bool]:
    """A plan, and whether something was measured for it."""
    watcher = MessageRecorder()
    found = shop.plan(generation, watcher=watcher, **options)  # type: ignore[arg-type]
    return found, any("measuring on" in said for said in watcher.heard)


def kept_file(shop: Workspace) -> Path:
    (path,) = (shop.directory / "cache" / "plans").iterdir()
    return path


def first_picture(shop: Workspace) -> Path:
    return Path(str(next(iter(shop.gallery.iterate()))[0].uri))


def test_what_is_known_is_said_again_to_the_last_figure(shop: Workspace) -> None:
    first, measured = planned(shop)
    assert measured
    assert first.options
    again, measured = planned(shop)
    assert not measured
    assert again == first
    shop.close()
    with Workspace(shop.directory) as reopened:
        assert planned(reopened) == (first, False)


def relabelled(shop: Workspace) -> None:
    item = next(iter(shop.gallery.iterate()))[0]
    shop.gallery.put([replace(item, label="class 9" if item.label != "class 9" else "class 8")], relabel=True)


def other_vector(shop: Workspace) -> None:
    first, second = next(iter(shop.gallery.iterate()))[:2]
    shop.gallery.put([replace(first, embedding=second.embedding, content_hash="0" * 64)])


def deleted(shop: Workspace) -> None:
    shop.gallery.delete([next(iter(shop.gallery.iterate()))[0].id])


def gone(shop: Workspace) -> None:
    first_picture(shop).unlink()


def touched(shop: Workspace) -> None:
    os.utime(first_picture(shop), (1, 1))


def searched(shop: Workspace) -> None:
    shop.search(first_picture(shop))


def stricter(shop: Workspace) -> None:
    (shop.directory / "gate.toml").write_text("cross_test = 5.0\nnegative_flips = 1.0\nqueries = 200\n")


def checked(shop: Workspace) -> None:
    shop.check("v2", held_out())


def damaged(shop: Workspace) -> None:
    kept_file(shop).write_text("{")


def of_another_shape(shop: Workspace) -> None:
    path = kept_file(shop)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "measured": {**content["measured"], "curves": []}}))


@pytest.mark.parametrize(
    "change",
    [
        relabelled,
        other_vector,
        deleted,
        gone,
        touched,
        searched,
        stricter,
        checked,
        damaged,
        of_another_shape,
    ],
)
def test_it_is_measured_anew_where_anything_has_changed(shop: Workspace, change: Callable[[Workspace], None]) -> None:
    planned(shop)
    change(shop)
    assert planned(shop)[1]
    assert not planned(shop)[1]


def test_it_is_measured_anew_where_a_gpu_has_come_or_gone(shop: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    planned(shop)
    monkeypatch.setattr(kept_plan, "gpu_drivers", lambda: ["/dev/nvidiactl"])
    assert planned(shop)[1]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert planned(shop)[1]
    assert not planned(shop)[1]


def test_opening_a_network_is_no_part_of_the_pace(shop: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def begin(*_: object) -> None:
        nonlocal now
        now += 1000.0

    monkeypatch.setattr(sample, "begin", begin)
    monkeypatch.setattr(sample, "time", SimpleNamespace(perf_counter=lambda: now))
    assert planned(shop)[0].seconds == 0.0
    assert now == 1000.0


def test_another_question_is_another_measurement(shop: Workspace, tmp_path: Path) -> None:
    planned(shop)
    assert planned(shop, price_per_hour=2.0)[1]
    assert planned(shop, "v3")[1]
    assert not planned(shop, "v3")[1]
    # Images that are given may be any.
    assert planned(shop, images=tmp_path / "photos")[1]
    assert planned(shop, images=tmp_path / "photos")[1]


def test_where_nothing_can_be_kept_a_plan_is_made_all_the_same(shop: Workspace) -> None:
    (shop.directory / "cache").mkdir(exist_ok=True)
    (shop.directory / "cache" / "plans").write_text("in the way")
    assert planned(shop)[1]
    assert planned(shop)[1]
