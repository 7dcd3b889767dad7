"""Nobody waits in silence: every pass over the images is told of, with how far it is."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from conftest import coloured_images
from evergallery import Workspace
from evergallery.methods import METHODS
from evergallery.training import Settings
from evergallery.watching import Watcher


class MessageRecorder(Watcher):
    def __init__(self) -> None:
        self.heard: dict[str, list[tuple[int, int]]] = defaultdict(list)

    def counted(self, activity: str, done: int, total: int) -> None:
        self.heard[activity].append((done, total))


def test_the_passes_of_parent_and_class_means_are_told_of(tmp_path: Path, quick: Callable[..., Settings]) -> None:
    shop = Workspace.create(tmp_path / "shop", backbone="resnet8", size=16)
    settings = quick(epochs=1, validation_fraction=0)
    first = MessageRecorder()
    shop.learn(coloured_images(classes=3), settings=settings, watcher=first)
    assert first.heard["class means by v1"][-1] == (36, 36)
    second = MessageRecorder()
    images = coloured_images(classes=3, first=3)
    shop.learn(images, method=METHODS["lce"](), settings=settings, watcher=second)
    for activity in ("looking with v1", "class means by v1", "class means by v2"):
        assert second.heard[activity][-1] == (36, 36), activity
