"""Augmentation of batches against loops over single images."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from evergallery.data.augment import (
    colour_jitter,
    erase,
    flip,
    jittered_crop,
    middle,
    normalise,
    pad_crop,
    resize,
    resized_crop,
)
from evergallery.data.images import Preprocessing
from evergallery.training import Settings
from evergallery.training.augmentation import augment


def batch(count: int = 16, height: int = 12, width: int = 10, seed: int = 0) -> Tensor:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


OPERATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "crop": lambda images, draw: pad_crop(images, 3, draw),
    "crop on zeros": lambda images, draw: pad_crop(images, 3, draw, mode="zero"),
    "flip": flip,
    "resized crop": lambda images, draw: resized_crop(images, torch.rand(len(images), 4, generator=draw)),
    "colours": lambda images, draw: colour_jitter(images, torch.rand(len(images), 3, generator=draw), 0.3),
    "crop and colours": lambda images, draw: jittered_crop(images, torch.rand(len(images), 7, generator=draw)),
    "erase": lambda images, draw: erase(images, draw, probability=0.7),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
class TestEveryOperation:
    def test_keeps_type_shape_and_memory_format(self, operation: Callable[..., Tensor]) -> None:
        images = batch()
        out = operation(images, generator())
        assert (out.dtype, out.shape) == (torch.uint8, images.shape)
        assert out.is_contiguous(memory_format=torch.channels_last)

    def test_follows_the_generator_alone(self, operation: Callable[..., Tensor]) -> None:
        images = batch()
        torch.manual_seed(1)
        first = operation(images, generator(4))
        torch.manual_seed(2)
        assert torch.equal(first, operation(images, generator(4)))
        assert not torch.equal(first, operation(images, generator(5)))

    def test_leaves_its_input_alone_and_takes_either_layout(self, operation: Callable[..., Tensor]) -> None:
        images = batch()
        before = images.clone()
        out = operation(images, generator())
        assert torch.equal(images, before)
        assert torch.equal(out, operation(images.contiguous(), generator()))


@pytest.mark.parametrize(("mode", "numpy_mode"), [("reflect", "reflect"), ("zero", "constant")])
def test_pad_crop_is_padding_and_cropping(
    mode: Literal["reflect", "zero"], numpy_mode: Literal["reflect", "constant"]
) -> None:
    images, padding = batch(), 4
    out = pad_crop(images, padding, generator(3), mode=mode)
    offsets = torch.randint(-padding, padding + 1, (2, len(images), 1), generator=generator(3))[:, :, 0]
    for index, image in enumerate(images.numpy()):
        padded = np.pad(image, [(0, 0), (padding, padding), (padding, padding)], mode=numpy_mode)
        y, x = (int(offset) + padding for offset in offsets[:, index])
        expected = padded[:, y : y + image.shape[1], x : x + image.shape[2]]
        np.testing.assert_array_equal(out[index].numpy(), expected)
    assert len({tuple(pair) for pair in offsets.T.tolist()}) > 5, "every image has a shift of its own"


class TestMargins:
    """Images of 20 × 20 of which a network sees the middle 16."""

    seen = Preprocessing(size=16, kept=0.8)

    def test_a_network_sees_the_middle(self) -> None:
        images = batch(height=20, width=20)
        assert torch.equal(middle(images, self.seen), images[:, :, 2:18, 2:18])
        # What has no margins, or none that count, is as it is.
        assert torch.equal(middle(images, Preprocessing(size=16)), images)
        small = batch(height=16, width=16)
        assert torch.equal(middle(small, self.seen), small)

    def test_random_crops_are_cut_from_all_of_it_and_shifts_from_the_middle(self) -> None:
        """Of a ramp to both sides, whose ends are margins."""
        ramp = (12 * torch.arange(20)).to(torch.uint8).expand(50, 3, 20, 20)
        for settings, ends in (
            (Settings(crop=0.9, flip=False), (0, 228)),
            (Settings(padding=0, flip=False), (24, 204)),
        ):
            out = augment(ramp, settings, generator(), 16, self.seen)
            assert out.shape == (50, 3, 16, 16)
            assert abs(int(out.min()) - ends[0]) <= 6
            assert abs(int(out.max()) - ends[1]) <= 6


def test_a_crop_whose_colours_change_is_one_after_the_other() -> None:
    images, draws = batch(height=40, width=30), torch.rand(16, 7, generator=generator())
    expected = colour_jitter(resized_crop(images, draws[:, :4], size=(24, 20)), draws[:, 4:])
    found = jittered_crop(images, draws, size=(24, 20))
    # Where a sum is rounded otherwise, a colour may be the next one.
    assert (found.int() - expected.int()).abs().max() <= 1
    assert (found == expected).float().mean() > 0.999


def test_flip_mirrors_about_half() -> None:
    images = batch(count=400)
    out = flip(images, generator())
    mirrored = (out == images.flip(3)).flatten(1).all(1)
    unchanged = (out == images).flatten(1).all(1)
    assert (mirrored ^ unchanged).all()
    assert 150 < int(mirrored.sum()) < 250


def test_erase_fills_one_rectangle_within_its_bounds() -> None:
    images = batch(count=300, height=20, width=20)
    out = erase(images, generator(), probability=0.5, area=(0.1, 0.3), aspect=(0.5, 2.0))
    changed = (out != images).any(1)  # (B, H, W)
    touched = changed.flatten(1).any(1)
    assert 100 < int(touched.sum()) < 200
    for index in torch.nonzero(touched).flatten():
        rows, columns = changed[index].any(1).nonzero().flatten(), changed[index].any(0).nonzero().flatten()
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        region = out[index, :, top:bottom, left:right].flatten(1)
        assert (region == region[:, :1]).all(), "one colour"
        share = float((bottom - top) * (right - left)) / 400
        assert 0.05 < share < 0.4
    assert torch.equal(erase(images, generator(), probability=0.0), images)


def test_what_is_erased_may_have_one_colour_in_every_image() -> None:
    images = batch(count=40, height=20, width=20)
    out = erase(images, generator(), probability=1.0, colour=(152, 142, 127))
    changed = (out != images).any(1)
    assert changed.flatten(1).any(1).all()
    assert {tuple(pixel) for pixel in out.permute(0, 2, 3, 1)[changed].tolist()} == {(152, 142, 127)}


def test_normalise() -> None:
    images = batch()
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)
    expected = (images.numpy() / 255 - np.array(mean)[:, None, None]) / np.array(std)[:, None, None]
    out = normalise(images, mean, std)
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-5)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_resize() -> None:
    images = batch(height=16, width=16)
    assert resize(images, 16) is images
    small = resize(images, 8)
    assert (small.shape, small.dtype) == ((16, 3, 8, 8), torch.uint8)
    assert resize(torch.full((2, 3, 16, 16), 77, dtype=torch.uint8), 12).unique().tolist() == [77]
    assert float(small.float().mean()) == pytest.approx(float(images.float().mean()), abs=1.5)
