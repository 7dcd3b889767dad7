"""A run that is interrupted goes on with the images that it began with, here or elsewhere; others are a run of their own."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import coloured_images
from evergallery import Workspace
from evergallery.errors import InputError
from evergallery.network.ranks import Ranks
from evergallery.training import Progress, Settings
from evergallery.watching import Stopped, Watcher

Quick = Callable[..., Settings]


class Listener(Watcher):
    """Stops a run in its second epoch, where it should; keeps what was said."""

    def __init__(self, *, stops: bool = False) -> None:
        self.stops = stops
        self.heard: list[str] = []
        self.epochs: set[int] = set()

    def trained(self, progress: Progress) -> None:
        self.epochs.add(progress.epoch)
        if self.stops and progress.epoch == 1:
            raise Stopped

    def said(self, message: str) -> None:
        self.heard.append(message)


def write_array(path: Path, change: str = "") -> Path:
    images = coloured_images(classes=3, each=12)
    pixels, labels = images.pixels.copy(), images.labels.copy()
    if change == "order":
        order = np.random.default_rng(0).permutation(len(labels))
        pixels, labels = pixels[order], labels[order]
    elif change == "a pixel":
        pixels[4, 0, 0, 0] ^= 1
    elif change == "a label":
        labels[4] = 2
    np.savez(path, images=pixels, labels=labels)
    return path


def write_folder(path: Path, change: str = "") -> Path:
    images = coloured_images(classes=3, each=12)
    path.mkdir(exist_ok=True)
    for index, label in enumerate(images.labels):
        file = path / f"class {label}" / f"{index:03d}.png"
        file.parent.mkdir(exist_ok=True)
        if not file.exists():
            Image.fromarray(images.pixels[index]).save(file)
    first, renamed = path / "class 0" / "000.png", path / "class 0" / "zzz.png"
    if change == "a name":
        first.rename(renamed)
    elif change == "one less":
        first.unlink()
    elif renamed.exists():
        renamed.unlink()
    return path


@pytest.mark.parametrize(
    ("write", "change"),
    [
        (write_array, "order"),
        (write_array, "a pixel"),
        (write_array, "a label"),
        (write_folder, "a name"),
        (write_folder, "one less"),
    ],
)
def test_changed_images_are_another_run(write: Callable[..., Path], change: str, tmp_path: Path, quick: Quick) -> None:
    settings, source = quick(epochs=3), tmp_path / ("images.npz" if write is write_array else "images")
    shop = Workspace.create(tmp_path / "shop", backbone="resnet8", size=16)
    with pytest.raises(Stopped):
        shop.learn(write(source), settings=settings, watcher=Listener(stops=True))
    (unfinished,) = (path for path in (shop.directory / "runs").iterdir())

    write(source, change)
    listener = Listener()
    changed = shop.learn(source, settings=settings, watcher=listener)
    assert min(listener.epochs) == 0, "it begins by itself"
    assert [message for message in listener.heard if f"{unfinished.name} is the unfinished run" in message]
    fresh = Workspace.create(tmp_path / "fresh", backbone="resnet8", size=16).learn(source, settings=settings)
    assert changed.fingerprint == fresh.fingerprint, "nothing of the interrupted run is in it"


def test_images_that_come_back_are_those_of_the_run(tmp_path: Path, quick: Quick) -> None:
    settings, source = quick(epochs=3), write_array(tmp_path / "images.npz")
    shop = Workspace.create(tmp_path / "shop", backbone="resnet8", size=16)
    with pytest.raises(Stopped):
        shop.learn(source, settings=settings, watcher=Listener(stops=True))
    write_array(source, "order")
    write_array(source)
    listener = Listener()
    shop.learn(source, settings=settings, watcher=listener)
    assert min(listener.epochs) == 1
    assert listener.heard[0] == "continuing the run that was interrupted"


def test_ranks_that_read_different_images_are_refused(
    tmp_path: Path, quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Workspace.create(tmp_path / "shop", backbone="resnet8", size=16)
    # What the first rank has come to is not what this one has.
    monkeypatch.setattr(Ranks, "agreed", lambda self, value: "0" * 64 if isinstance(value, str) else value)
    with pytest.raises(InputError, match="have read different images"):
        shop.learn(coloured_images(), settings=quick())
    assert not list((shop.directory / "runs").iterdir())


def test_run_goes_on_elsewhere_with_what_is_said_to_be_carried(tmp_path: Path, quick: Quick) -> None:
    settings = quick(epochs=3)
    source, elsewhere = write_folder(tmp_path / "images"), tmp_path / "another machine"
    shop = Workspace.create(tmp_path / "shop", backbone="resnet8", size=16)
    first = shop.learn(write_array(tmp_path / "first.npz"), settings=quick(epochs=1))
    with pytest.raises(Stopped):
        shop.learn(source, settings=settings, watcher=Listener(stops=True))
    for name in ("generations", "runs"):
        shutil.copytree(shop.directory / name, elsewhere / "shop" / name)
    shutil.copy(shop.directory / "workspace.json", elsewhere / "shop")
    listener = Listener()
    there = Workspace(elsewhere / "shop").learn(write_folder(elsewhere / "photos"), settings=settings, watcher=listener)
    assert min(listener.epochs) == 1
    assert there.card.parent == first.name
    assert there.fingerprint == shop.learn(source, settings=settings).fingerprint


def test_images_that_change_under_a_run_do_not_matter_to_it(tmp_path: Path, quick: Quick) -> None:
    source = write_folder(tmp_path / "images")
    undisturbed = Workspace.create(tmp_path / "undisturbed", backbone="resnet8", size=16).learn(
        source, settings=quick()
    )

    class ChangingWatcher(Watcher):
        def trained(self, progress: Progress) -> None:
            if source.exists():
                shutil.rmtree(source)

    disturbed = Workspace.create(tmp_path / "disturbed", backbone="resnet8", size=16).learn(
        source, settings=quick(), watcher=ChangingWatcher()
    )
    assert not source.exists()
    assert disturbed.fingerprint == undisturbed.fingerprint
