"""Vectors that another system has made: two models of the same items, a map between them, a decision."""

import tempfile
from pathlib import Path

import numpy as np

import evergallery as eg

folder, draw = Path(tempfile.mkdtemp()), np.random.default_rng(0)
labels = np.repeat(np.arange(20), 20)
old = draw.normal(size=(20, 16))[labels] + 0.8 * draw.normal(size=(400, 16))
new = old @ np.linalg.qr(draw.normal(size=(16, 16)))[0]
ids = np.array([f"sku-{number}" for number in range(400)])
for name, vectors in (("old", old), ("new", new)):
    np.savez(folder / f"{name}.npz", ids=ids, labels=labels.astype(str), embeddings=vectors.astype(np.float32))

with eg.Workspace.create(folder / "shop") as shop:
    shop.import_vectors(folder / "old.npz")
    shop.import_vectors(folder / "new.npz", refresh=True)
    print(shop.check("v2", "@gallery").verdict)
    print(shop.adapt("v2", "v1", "@gallery").adapter.card.name)
    check = shop.check("v2", "@gallery")
    print(check.verdict)
    print(shop.promote("v2") if check.passed else "v1 goes on")
