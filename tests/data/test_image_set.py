"""Image sets: selecting, renaming and joining never part an image from its label."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evergallery.data.image_set import ImageSet, concatenate
from evergallery.errors import InputError

NAMES = ("cat", "dog", "emu", "fox")


def made(labels: list[int], seed: int = 0, names: tuple[str, ...] = NAMES) -> ImageSet:
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 2, 2, 3), dtype=np.uint8)
    return ImageSet.from_arrays(pixels, np.array(labels, dtype=np.int64), names)


def pairs(images: ImageSet) -> list[tuple[bytes, str | None]]:
    """Each image with the name of its class."""
    array = images.pixels[images.rows]
    names = [images.classes[label] if label >= 0 else None for label in images.labels]
    return [(image.tobytes(), name) for image, name in zip(array, names, strict=True)]


labelled = st.builds(made, st.lists(st.integers(-1, 3), max_size=12), st.integers(0, 3))


@given(labelled, st.data())
def test_select(images: ImageSet, data: st.DataObject) -> None:
    indices = data.draw(st.lists(st.integers(0, len(images) - 1), max_size=20) if len(images) else st.just([]))
    found = images.select(np.array(indices, dtype=np.int64))
    assert pairs(found) == [pairs(images)[i] for i in indices]
    assert found.hashes == tuple(images.hashes[i] for i in indices)
    assert found.classes == images.classes
    assert found.pixels is images.pixels


@given(labelled, st.permutations(NAMES), st.integers(0, 4))
def test_of_classes(images: ImageSet, order: list[str], count: int) -> None:
    chosen = order[:count]
    found = images.of_classes(chosen)
    assert found.classes == tuple(chosen)
    assert pairs(found) == [pair for pair in pairs(images) if pair[1] in chosen]


@given(st.lists(labelled, min_size=1, max_size=4))
def test_concatenate(sets: list[ImageSet]) -> None:
    joined = concatenate(sets)
    assert pairs(joined) == [pair for part in sets for pair in pairs(part)]
    assert joined.uris == tuple(uri for part in sets for uri in part.uris)


def test_concatenate_unites_classes_by_name() -> None:
    joined = concatenate([made([0, 1], names=("cat", "dog")), made([0, 1], seed=1, names=("dog", "emu"))])
    assert joined.classes == ("cat", "dog", "emu")
    assert joined.labels.tolist() == [0, 1, 1, 2]


def test_concatenate_shares_pixels(tmp_path: Path) -> None:
    images = made([0, 1, 2, 3])
    parts = [images.select(np.array([3, 1])), images.select(np.array([0]))]
    assert concatenate(parts).pixels is images.pixels
    # The same file, mapped before and after it grew.
    images.pixels.tofile(tmp_path / "pixels")
    maps = [np.memmap(tmp_path / "pixels", np.uint8, "r", shape=(count, 2, 2, 3)) for count in (2, 4)]
    early, late = (replace(part, pixels=pixels) for part, pixels in zip((parts[1], parts[0]), maps, strict=True))
    joined = concatenate([early, late])
    assert joined.pixels is maps[1]
    assert pairs(joined) == pairs(parts[1]) + pairs(parts[0])
    # A part of a map does not begin where the map does.
    shifted = replace(images.select(np.array([0])), pixels=maps[1][2:])
    assert pairs(concatenate([shifted, late])) == pairs(shifted) + pairs(late)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"pixels": np.zeros((2, 3, 3, 3))}, r"shape \(2, 3, 3, 3\) and type float64: give \(N, H, W, 3\), uint8"),
        ({"pixels": np.zeros((2, 3, 3), np.uint8)}, r"shape \(2, 3, 3\) and type uint8: give \(N, H, W, 3\), uint8"),
        ({"pixels": None}, r"The pixels have shape \(\)"),
        ({"labels": [0, 2]}, "The labels go from 0 to 2, and there are 2 classes"),
        ({"labels": [-2, 0]}, "The labels go from -2 to 0"),
        ({"labels": [0.0, 1.0]}, r"The labels have shape \(2,\) and type float64: give \(N,\) whole numbers"),
        ({"labels": ["a", "b"]}, "type <U1: give"),
        ({"labels": [True, False]}, "type bool: give"),
        ({"labels": [0]}, "An image set of 2 images has 1 labels"),
        ({"classes": "ab"}, "The classes are 'ab': give a list of strings"),
        ({"classes": ["a", 1]}, r"The classes are \['a', 1\]: give a list of strings"),
        ({"classes": ["a", "a"]}, "Two of the classes have one name"),
        ({"uris": "ab"}, "The uris are 'ab': give a list of strings"),
        ({"split": ["train", None]}, "The split are .*: give a list of strings"),
    ],
)
def test_arrays_that_make_no_image_set_are_refused(changes: dict[str, Any], says: str) -> None:
    given: dict[str, Any] = {
        "pixels": np.zeros((2, 3, 3, 3), np.uint8),
        "labels": [0, 1],
        "classes": ["a", "b"],
        **changes,
    }
    with pytest.raises(InputError, match=says):
        ImageSet.from_arrays(**given)


def test_a_mask_is_no_selection(tmp_path: Path) -> None:
    images = ImageSet.from_arrays(np.zeros((2, 3, 3, 3), np.uint8), np.array([0, 1]), ["a", "b"])
    with pytest.raises(
        InputError, match="The indices are of type bool: give whole numbers, as np.flatnonzero makes them"
    ):
        images.select(cast("Any", np.array([True, False])))
    assert len(images.select(np.array([]).astype(int))) == len(images.select(cast("Any", []))) == 0


def test_concatenate_refuses() -> None:
    with pytest.raises(InputError, match="no image set"):
        concatenate([])
    other = ImageSet.from_arrays(np.zeros((1, 3, 3, 3), np.uint8), np.array([0]), ["a"])
    with pytest.raises(InputError, match="different sizes"):
        concatenate([made([0]), other])


@given(labelled, st.randoms())
def test_fingerprint_ignores_order_only(images: ImageSet, shuffle: object) -> None:
    order = list(range(len(images)))
    shuffle.shuffle(order)  # type: ignore[attr-defined]
    assert images.select(np.array(order, dtype=np.int64)).fingerprint() == images.fingerprint()
    renumbered = concatenate([made([], names=NAMES[::-1]), images])
    assert renumbered.fingerprint() == images.fingerprint()
    if len(images):
        assert images.select(np.arange(len(images) - 1)).fingerprint() != images.fingerprint()
        changed = replace(images, labels=(images.labels + 2) % 4)
        assert changed.fingerprint() != images.fingerprint()


def test_batch() -> None:
    images = made([0, 1, 2, 3]).select(np.array([2, 0, 3]))
    batch = images.batch(np.array([2, 0]))
    assert batch.shape == (2, 3, 2, 2)
    assert batch.dtype == torch.uint8
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(batch.permute(0, 2, 3, 1).numpy(), images.pixels[[3, 2]])
    batch.zero_()
    assert images.pixels.any()


def test_splits() -> None:
    images = replace(made([0, 1, 2]), split=np.array(["train", "test", "train"]))
    assert images.of_split("train").labels.tolist() == [0, 2]
    with pytest.raises(InputError, match="'val': they have test, train"):
        images.of_split("val")
    with pytest.raises(InputError, match="they have none"):
        made([0]).of_split("val")


def test_refusals() -> None:
    images = made([0, 1])
    assert len(images) == 2
    assert images.size == 2
    with pytest.raises(InputError, match="no class 'yak'"):
        images.of_classes(["yak"])
    with pytest.raises(InputError, match="named twice"):
        images.of_classes(["cat", "cat"])
    with pytest.raises(InputError, match="2 images has 1 uris"):
        replace(images, uris=("a",))
