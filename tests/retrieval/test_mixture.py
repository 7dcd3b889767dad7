"""Two embedding spaces under one name are told, and one space never is taken for two."""

import numpy as np
import pytest
from numpy.typing import NDArray

from evergallery.retrieval.mixture import other_space

DIMENSION = 256


def space(seed: int) -> NDArray[np.float32]:
    """What a network makes of 24 properties of a picture: its mean, then a direction for each."""
    draw = np.random.default_rng(seed)
    strengths = 1 / np.sqrt(1 + np.arange(24))
    return np.vstack([2 * draw.normal(size=(1, DIMENSION)), draw.normal(size=(24, DIMENSION)) * strengths[:, None]])


def pictures(count: int, classes: int, seed: int, spread: float = 0.5) -> NDArray[np.float64]:
    """Properties of pictures (count, 24) around the means of their classes."""
    draw = np.random.default_rng(seed)
    means = draw.normal(size=(classes, 24))
    return means[draw.integers(classes, size=count)] + spread * draw.normal(size=(count, 24))


def seen(what: NDArray[np.float64], by: NDArray[np.float32], relu: bool = False) -> NDArray[np.float32]:
    vectors = by[0] + what @ by[1:]
    if relu:
        vectors = np.maximum(vectors, 0)
    made: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return made


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("classes", "spread"), [(1, 1.0), (2, 0.1), (2, 0.5), (5, 0.3), (40, 0.5), (200, 0.05)])
def test_one_space_is_one(classes: int, spread: float, relu: bool, seed: int) -> None:
    assert other_space(seen(pictures(400, classes, seed, spread), space(seed), relu)) is None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("others", [80, 200])
def test_groups_that_training_has_set_apart_are_one_space(others: int, seed: int) -> None:
    """Each group has directions of its own, and lies on the other side of the middle."""
    draw = np.random.default_rng(seed)
    basis = np.linalg.qr(draw.normal(size=(DIMENSION, 33)))[0].T
    parts = []
    for count, side, own in ((others, 1, basis[1:17]), (500 - others, -1, basis[17:])):
        strengths = 1 / np.sqrt(1 + np.arange(16))
        centres = draw.normal(size=(12, 16)) * strengths
        inner = centres[draw.integers(12, size=count)] + 0.6 * draw.normal(size=(count, 16)) * strengths
        parts.append(side * 1.5 * basis[:1] + inner @ own)
    vectors = np.concatenate(parts)
    assert other_space((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)) is None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("others", [60, 200])
def test_two_spaces_are_told_to_the_vector(others: int, relu: bool, seed: int) -> None:
    what = pictures(500, 20, seed)
    mixed = np.concatenate([seen(what[:others], space(seed + 100), relu), seen(what[others:], space(seed), relu)])
    order = np.random.default_rng(seed).permutation(len(mixed))
    found = other_space(mixed[order])
    assert found is not None
    assert not found[order >= others].any()
    assert found[order < others].mean() > 0.8


def test_nothing_is_said_of_few_vectors_or_few_dimensions() -> None:
    what = pictures(500, 20, 0)
    mixed = np.concatenate([seen(what[:30], space(1)), seen(what[30:90], space(2))])
    assert other_space(mixed) is None
    assert other_space(mixed[:, :16]) is None


def test_random_vectors_are_one_space() -> None:
    draw = np.random.default_rng(0)
    for dimension in (128, 512):
        vectors = draw.normal(size=(300, dimension)).astype(np.float32)
        assert other_space(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)) is None
    centres = draw.normal(size=(200, 128))
    tight = (centres[draw.integers(200, size=1500)] + 0.5 * draw.normal(size=(1500, 128))).astype(np.float32)
    assert other_space(tight / np.linalg.norm(tight, axis=1, keepdims=True)) is None
    same = np.tile(np.eye(256, dtype=np.float32)[:1], (200, 1))
    assert other_space(same) is None
