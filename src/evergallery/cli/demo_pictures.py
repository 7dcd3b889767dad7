"""The demo with pictures to look at, for its page: ``python -m evergallery.cli.demo_pictures DIRECTORY``, by ``make serve-demo``.

The demo's gallery is of characters that are drawn in memory. Here the same ones are written to files, and indexed in their
place; the generations, and what was measured of them, stay as they are.
"""

import sys
from pathlib import Path

from PIL import Image

from evergallery.cli.console import watching
from evergallery.data.glyphs import generate
from evergallery.demo.story import MARKER, SIZE, run_demo
from evergallery.watching import Watcher
from evergallery.workspace import Workspace

PICTURES = "pictures"


def prepare(directory: Path, watcher: Watcher) -> None:
    """Make the demo where there is none, and files of its drawn characters where it has none.

    Raises:
        InputError: ``directory`` holds something else.
        BusyError: another process has the gallery.
    """
    if not (directory / MARKER).is_file():
        run_demo(directory, "glyphs", watcher=watcher)
    with Workspace(directory) as workspace:
        drawn = [
            item.id
            for batch in workspace.gallery.iterate()
            for item in batch
            if item.uri is not None and item.uri.startswith("glyphs://")
        ]
        if not drawn:
            return
        watcher.said("the gallery's characters become files")
        images = generate(size=SIZE, train_per_class=0)
        for index, (row, label) in enumerate(zip(images.rows, images.labels, strict=True)):
            path = directory / PICTURES / images.classes[label] / f"{index:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images.pixels[row]).save(path)
        workspace.index(directory / PICTURES, watcher=watcher)
        # Last, so that whatever ends this before is made good by the next run.
        workspace.gallery.delete(drawn)


if __name__ == "__main__":
    with watching() as told:
        prepare(Path(sys.argv[1]), told)
