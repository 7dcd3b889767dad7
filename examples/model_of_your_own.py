"""Any function from pictures to vectors is a generation: here the mean colour of the four quarters."""

import tempfile
from pathlib import Path

import numpy as np

import evergallery as eg
from evergallery.data.glyphs import generate


def quarters(images: np.ndarray) -> np.ndarray:
    """float32 (B, 3, H, W) to (B, 12)."""
    count, _, height, width = images.shape
    cells = images.reshape(count, 3, 2, height // 2, 2, width // 2)
    return cells.mean(axis=(3, 5)).reshape(count, 12)


if __name__ == "__main__":
    images = generate(classes=6, train_per_class=1, test_per_class=8, size=20).of_split("test")
    with eg.Workspace.create(Path(tempfile.mkdtemp()) / "shop", size=20) as shop:
        # By its name, because it is imported again whenever the generation is used.
        shop.register("model_of_your_own:quarters", size=20)
        shop.index(images)
        item = next(iter(shop.gallery.iterate()))[0]
        for match in shop.search(item=item.id, k=3):
            print(f"{match.score:.3f}  {match.item.label}")
