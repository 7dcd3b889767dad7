"""Nobody gets around the gate: whatever a worse model is offered by, it answers nobody without --force."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from evergallery import Workspace
from evergallery.errors import RefusedError
from evergallery.holdings.answer import WAYS

CLASSES, ITEMS, DIMENSIONS = 20, 400, 12
Vectors = NDArray[np.float32]


def seen(noise: float | None, seed: int, count: int = ITEMS) -> Vectors:
    """Vectors (N, D) around the centres of classes; without noise, vectors of nothing."""
    draw = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(CLASSES, DIMENSIONS))
    made = draw.normal(size=(count, DIMENSIONS))
    if noise is not None:
        made = centres[np.arange(count) % CLASSES] + noise * made
    unit: Vectors = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
    return unit


@pytest.fixture
def table(tmp_path: Path) -> Callable[[str, Vectors], Path]:
    def write(name: str, vectors: Vectors) -> Path:
        labels = (np.arange(len(vectors)) % CLASSES).astype(str)
        np.savez(tmp_path / name, embeddings=vectors, ids=np.arange(len(vectors)).astype(str), labels=labels)
        return tmp_path / name

    return write


@pytest.fixture
def shop(tmp_path: Path, table: Callable[[str, Vectors], Path]) -> Workspace:
    """v1's vectors are stored."""
    made = Workspace.create(tmp_path / "shop")
    made.import_vectors(table("v1.npz", seen(0.5, 1)))
    return made


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(RefusedError) as refusal:
        act()
    return str(refusal.value)


def test_random_vectors_in_every_way(shop: Workspace, table: Callable[[str, Vectors], Path]) -> None:
    shop.import_vectors(table("random.npz", seen(None, 2)), refresh=True)
    for way in WAYS:
        if way != "rescore":
            assert "has not been checked" in refused(lambda way=way: shop.promote("v2", answer=way))  # type: ignore[misc]
    assert shop.check("v2", "@gallery").pairs[0].verdict == "worse"
    for way in WAYS:
        if way != "rescore":
            refused(lambda way=way: shop.promote("v2", answer=way))  # type: ignore[misc]
    shop.adapt("v2", "v1", "@gallery")
    shop.check("v2", "@gallery")
    for way in ("checked", "adapter", "dual"):
        assert "NOT MET: self-test" in refused(lambda way=way: shop.promote("v2", answer=way))  # type: ignore[misc]
    shop.promote("v2", force=True, why="a rehearsal")
    assert shop.rollback() == "v1"
    assert "NOT MET: self-test" in refused(lambda: shop.promote("v2"))
    assert shop.holdings.state.promoted == "v1"


def test_other_vectors_after_the_check(shop: Workspace, table: Callable[[str, Vectors], Path]) -> None:
    good = table("good.npz", seen(0.3, 2))
    shop.import_vectors(good, refresh=True)
    assert shop.check("v2", "@gallery").passed
    stored = {item.id: item.embedding.tobytes() for batch in shop.gallery.iterate() for item in batch}
    assert shop.import_vectors(table("random.npz", seen(None, 3)), into="v2", refresh=True).replaced == 0
    shop.import_vectors(good, refresh=True)
    shop.promote("v2")
    shown = {item.id: item.embedding for batch in shop.gallery.iterate() for item in batch}
    np.testing.assert_allclose(np.stack([shown[str(number)] for number in range(ITEMS)]), seen(0.3, 2), atol=1e-6)
    assert stored != {name: vector.tobytes() for name, vector in shown.items()}


def test_the_rest_of_a_table_after_the_check(shop: Workspace, table: Callable[[str, Vectors], Path]) -> None:
    good, rest = table("good.npz", seen(0.3, 2)[:300]), table("random.npz", seen(None, 3))
    shop.import_vectors(good, refresh=True)
    assert shop.check("v2", "@gallery").passed
    shop.import_vectors(rest, into="v2", refresh=True)
    assert "has not been checked" in refused(lambda: shop.promote("v2"))
    assert shop.check("v2", "@gallery").pairs[0].evidence.queries == ITEMS


def test_what_is_added_to_the_promoted_one_takes_nothing_back(
    shop: Workspace, table: Callable[[str, Vectors], Path]
) -> None:
    good = seen(0.3, 2)
    shop.import_vectors(table("good.npz", good[:300]), refresh=True)
    shop.check("v2", "@gallery")
    shop.promote("v2", answer="dual")
    shop.import_vectors(table("good.npz", good), into="v2", refresh=True)
    assert (shop.directory / "checks" / "v2-in-v1.json").is_file()


def test_checks_that_failed_before_one_passed_are_told(
    shop: Workspace, table: Callable[[str, Vectors], Path], tmp_path: Path
) -> None:
    shop.import_vectors(table("good.npz", seen(0.3, 2)), refresh=True)
    labels = (np.arange(ITEMS) % CLASSES).astype(str)
    for number in range(2):
        np.savez(tmp_path / "chosen.npz", labels=labels, v1=seen(0.3, 4), v2=seen(None, 5 + number))
        shop.check("v2", tmp_path / "chosen.npz")
        refused(lambda: shop.promote("v2"))
    shop.check("v2", "@gallery")
    done = shop.promote("v2")
    assert done.checks is not None
    assert done.checks.startswith("Of 3 checks of v2, 2 did not show that it is no worse alone.")
    assert done.checks in str(done)
    assert shop.log()[-1]["checks"] == done.checks
