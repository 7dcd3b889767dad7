"""``doctor`` finds vectors that cannot be right, and says nothing of a gallery that is well."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import models
from conftest import as_json, evergallery
from evergallery import Workspace
from foreign_tables import foreign_table
from shops import make_photos, make_shop


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.create(tmp_path / "shop", size=16) as made:
        yield made


def drawn(count: int, dimension: int = 256, seed: int = 0) -> NDArray[np.float32]:
    """Vectors of one network: a mean, and a few directions in which they differ."""
    draw = np.random.default_rng(seed)
    directions = draw.normal(size=(16, dimension)) / np.sqrt(1 + np.arange(16))[:, None]
    return (2 * draw.normal(size=dimension) + draw.normal(size=(count, 16)) @ directions).astype(np.float32)


def keep(shop: Workspace, folder: Path, vectors: NDArray[np.float32], **columns: list[str]) -> None:
    table = folder / "vectors.npz"
    ids = [f"item {number}" for number in range(len(vectors))]
    arrays: dict[str, Any] = {name: np.array(cells) for name, cells in ({"ids": ids} | columns).items()}
    np.savez(table, embeddings=vectors, **arrays)
    shop.import_vectors(table)


def test_galleries_that_are_well(tmp_path: Path, shop: Workspace) -> None:
    keep(shop, tmp_path, drawn(300))
    assert shop.doctor() == []
    (tmp_path / "photos").mkdir()
    with make_shop(tmp_path / "other") as other:
        assert other.doctor(embed=30) == []
        other.refresh("v2", fraction=0.5)
        other.promote("v2", force=True, why="it is a test")
        assert other.doctor(embed=30) == []


def test_vectors_of_two_spaces(tmp_path: Path, shop: Workspace) -> None:
    keep(shop, tmp_path, np.concatenate([drawn(300), drawn(40, seed=1)]))
    (problem,) = shop.doctor()
    assert problem.startswith(
        "Of 340 vectors of v1 40 ('item 300', 'item 301', 'item 302', 'item 303', 'item 304', …) lie in"
    )


def test_one_vector_of_many_pictures(tmp_path: Path, shop: Workspace) -> None:
    vectors = drawn(300)
    vectors[10:15] = vectors[10]
    keep(shop, tmp_path, vectors)
    (problem,) = shop.doctor()
    assert problem.startswith(
        "5 ('item 10', 'item 11', 'item 12', 'item 13', 'item 14') vectors of v1 are those of other"
    )


def test_one_picture_under_several_ids_is_well(tmp_path: Path, shop: Workspace) -> None:
    vectors = drawn(300)
    vectors[10:15] = vectors[10]
    uris = [f"/photos/{number}.jpg" for number in range(300)]
    uris[10:15] = uris[10:11] * 5
    keep(shop, tmp_path, vectors, uris=uris)
    assert shop.doctor() == []
    # Two addresses of the same photograph are no fault either.
    uris[11] = "/photos/copy.jpg"
    with Workspace.create(tmp_path / "second", size=16) as second:
        keep(second, tmp_path, vectors, uris=uris)
        assert second.doctor() == []


def test_vectors_that_another_model_has_made(tmp_path: Path, shop: Workspace) -> None:
    photos = make_photos(tmp_path / "photos", each=3)
    shop.register(models.worn, size=16)
    shop.index(photos)
    shop.register(models.turned, size=16)
    items = [item for batch in shop.gallery.iterate() for item in batch]
    with Workspace.create(tmp_path / "wrong", size=16) as wrong:
        wrong.register(models.turned, size=16)
        np.savez(
            tmp_path / "vectors.npz",
            ids=np.array([item.id for item in items]),
            uris=np.array([item.uri for item in items]),
            embeddings=np.stack([item.embedding for item in items]),
        )
        wrong.import_vectors(tmp_path / "vectors.npz", into="v1")
        assert wrong.doctor(embed=20) == []
        wrong.allow_images(photos)
        assert wrong.doctor() == []
        (problem,) = wrong.doctor(embed=20)
        wrong.close()
        assert problem.startswith("Of 20 pictures that v1 was shown again 20 ('")
        # Pictures that have changed since nobody noted what they were.
        found = as_json("doctor", "--embed", 20, "-w", wrong.directory, expect=6)
        assert found["problems"] == [problem]
    shop.close()
    changed = [Path(str(item.uri)) for item in items[:6]]
    for path in changed:
        Image.new("RGB", (16, 16), (255, 0, 0)).save(path)
    said = evergallery("doctor", "--embed", 30, "-w", shop.directory, expect=6).stdout
    assert "6 are other pictures by now" in said
    assert "shown again" not in said


def test_a_foreign_table(postgres_url: str, shop: Workspace) -> None:
    vectors = drawn(300)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with foreign_table(postgres_url, vectors) as table:
        shop.adopt(table.url)
        assert shop.doctor() == []
        table.sql("UPDATE {items} SET embedding = embedding * array_fill(3, ARRAY[256])::vector WHERE price < 20")
        table.sql(
            "UPDATE {items} SET embedding = (SELECT embedding FROM {items} WHERE price = 50) WHERE price IN (51, 52, 53)"
        )
        problems = " ".join(shop.doctor())
        assert "280 (" in problems
        assert "vectors have length 1 and 20 ('sku 0', 'sku 1', 'sku 10', 'sku 11', 'sku 12', …) have not" in problems
        assert (
            "4 ('sku 50', 'sku 51', 'sku 52', 'sku 53') vectors of v1 are those of other pictures too, 1 in all"
            in problems
        )
        assert "23 ('sku 0'" in problems
        assert "rows have changed since they were last taken up" in problems
