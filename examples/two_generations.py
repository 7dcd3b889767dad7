"""A network learns half of some generated characters, then the other half without the first half's images."""

import tempfile
from pathlib import Path

import evergallery as eg
from evergallery.data.glyphs import generate

images = generate(classes=12, train_per_class=24, test_per_class=12, size=20)
training, held_out = images.of_split("train"), images.of_split("test")
quick = {"epochs": 10, "batch_size": 16, "flip": False}

with eg.Workspace.create(Path(tempfile.mkdtemp()) / "shop", backbone="resnet8", size=20) as shop:
    shop.learn(training, classes=images.classes[:6], settings=quick)
    shop.learn(training, classes=images.classes[6:], settings=quick)
    check = shop.check("v2", held_out)
    print(f"recall@1 of v2 in its own vectors {check.values()[1, 1]:.2f}, in those of v1 {check.values()[1, 0]:.2f}")
    print(check.verdict)
