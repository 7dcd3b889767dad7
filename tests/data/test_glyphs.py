"""The generated set: the same bytes every time, classes that differ, and hard enough."""

from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evergallery.data.glyphs import characters, generate
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.data.sources import load
from evergallery.errors import InputError
from evergallery.retrieval.knn import Exclusion
from evergallery.retrieval.metrics import evaluate


@pytest.fixture(scope="module")
def glyphs() -> ImageSet:
    """A fifth of the set, which is drawn class by class."""
    return generate(classes=40)


def test_sizes_and_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the whole set; the images are noise, which is drawn at once."""

    def noise(_: str, alphabet: tuple[str, ...], count: int, size: int, draw: np.random.Generator) -> NDArray[np.uint8]:
        return draw.integers(0, 256, (count, size, size, 3), np.uint8)

    monkeypatch.setattr("evergallery.data.glyphs._draw", noise)
    whole = generate()
    assert len(whole.classes) == 200
    assert whole.pixels.shape == (200 * 42, 32, 32, 3)
    assert (np.bincount(whole.of_split("train").labels) == 30).all()
    assert (np.bincount(whole.of_split("test").labels) == 12).all()
    assert whole.classes[0].startswith("U+")


def test_no_image_is_there_twice(glyphs: ImageSet) -> None:
    assert len(set(glyphs.hashes)) == len(glyphs) == 40 * 42


def test_same_bytes_whatever_else_is_asked_for(glyphs: ImageSet) -> None:
    fewer = generate(classes=3, train_per_class=30, test_per_class=12)
    assert fewer.hashes == glyphs.of_classes(glyphs.classes[:3]).hashes
    assert not set(generate(classes=3, seed=1).hashes) & set(glyphs.hashes)


def test_characters_mix_scripts_and_differ() -> None:
    alphabet = characters()
    assert len(alphabet) >= 400
    assert len(set(alphabet)) == len(alphabet)
    assert not {"A", "Α", "А"} <= set(alphabet), "Latin, Greek and Cyrillic A look the same"
    first = alphabet[:200]
    halves = first[:100], first[100:]
    for script in (range(0x180), range(0x370, 0x500), range(0x530, 0x1100), range(0x2190, 0x2800)):
        counts = [sum(ord(character) in script for character in half) for half in halves]
        assert min(counts) > 3, "each half has some of every script"


def test_raw_pixels_do_not_solve_it(glyphs: ImageSet) -> None:
    test = glyphs.of_split("test")
    pixels = torch.from_numpy(test.pixels[test.rows].reshape(len(test), -1).astype(np.float32))
    embeddings = torch.nn.functional.normalize(pixels - pixels.mean(0))
    labels = torch.from_numpy(test.labels)
    metrics = evaluate(embeddings, labels, embeddings, labels, exclusion=Exclusion(torch.arange(len(labels))))
    assert 0.03 < metrics.recall[1] < 0.5


def test_is_a_named_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evergallery.data.glyphs.generate", partial(generate, classes=3))
    small = load("glyphs", Preprocessing(size=16))
    assert small.size == 16
    assert small.split is not None
    assert set(small.split.tolist()) == {"train", "test"}


def test_more_classes_than_characters() -> None:
    with pytest.raises(InputError, match=r"glyphs has \d+ classes, not 9999"):
        generate(classes=9999)
