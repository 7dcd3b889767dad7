"""A published network indexes a folder, and answers. Needs the extra `pretrained`; photographs are drawn here."""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import evergallery as eg

folder = Path(tempfile.mkdtemp())
draw = np.random.default_rng(0)
for label, colour in {"tulip": (200, 30, 60), "fern": (30, 140, 40), "sky": (90, 150, 230)}.items():
    (folder / "photos" / label).mkdir(parents=True)
    for number in range(5):
        pixels = np.clip(np.array(colour) + draw.normal(0, 25, (96, 96, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / label / f"{number}.jpg")

with eg.Workspace.create(folder / "shop", backbone="tf_efficientnet_lite0", pretrained=True, size=96) as shop:
    shop.index(folder / "photos")
    for match in shop.search(folder / "photos" / "fern" / "0.jpg", k=3):
        print(f"{match.score:.3f}  {match.item.label}  {match.item.uri}")
