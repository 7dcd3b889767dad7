"""Models that are only run, and backbones that bring their own shape: timm's and torchvision's."""

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.errors import InputError
from evergallery.generations.fingerprint import fingerprint_of
from evergallery.network import build_backbone, extract
from evergallery.network.endpoint import EndpointModel
from evergallery.network.extraction import in_torch
from evergallery.network.foreign import PROBE_CELLS, ForeignModel, probe, probe_images

PREPROCESSING = Preprocessing(size=16)


def channel_means(images: NDArray[np.float32]) -> NDArray[np.float64]:
    made: NDArray[np.float64] = images.mean(axis=(2, 3), dtype=np.float64) + 2
    return made


def a_model(run: Any = channel_means, dimension: int = 3, name: str = "package.module:function") -> ForeignModel:
    return ForeignModel(name, run, dimension)


def test_probe_pictures_never_change() -> None:
    images = probe_images(48)
    assert images.shape == (len(PROBE_CELLS), 3, 48, 48)
    # Written down when they were made: another value would make strangers of all registered models.
    assert hashlib.sha256(images.numpy().tobytes()).hexdigest()[:16] == "cb6fcbcdd254eff5"
    for picture, cells in zip(images.numpy(), PROBE_CELLS, strict=True):
        colours = np.unique(picture.reshape(3, -1).T, axis=0)
        assert cells * cells * 0.9 < len(colours) <= cells * cells
        assert (picture[:, : 48 // cells, : 48 // cells] == picture[:, :1, :1]).all(), "a cell is of one colour"


def test_extract_runs_a_foreign_model_in_batches() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), dtype=np.uint8)
    images = ImageSet.from_arrays(pixels, np.full(7, -1), ())
    found = extract(a_model(), images, PREPROCESSING, batch_size=3)
    want = ((pixels / 255 - 0.5) / 0.5).mean(axis=(1, 2)) + 2
    np.testing.assert_allclose(found, want / np.linalg.norm(want, axis=1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize(("whole", "expected"), [(True, [7]), (False, [4, 3])])
def test_what_does_not_look_here_is_given_a_whole_batch(whole: bool, expected: list[int]) -> None:
    asked: list[int] = []

    def run(images: NDArray[np.float32]) -> NDArray[np.float64]:
        asked.append(len(images))
        return channel_means(images)

    model = a_model(run)
    model.whole_batches = whole
    pixels = np.random.default_rng(0).integers(0, 256, (7, 256, 256, 3), dtype=np.uint8)
    in_torch(model, Preprocessing(size=256))(pixels)
    assert asked == expected
    assert EndpointModel.whole_batches
    assert not ForeignModel.whole_batches


def test_tensors_are_taken_too() -> None:
    model = a_model(lambda images: torch.from_numpy(images).mean(dim=(2, 3)) + 2)
    torch.testing.assert_close(probe(model, PREPROCESSING), probe(a_model(), PREPROCESSING))


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda images: images, r"shape \(4, 3, 16, 16\) of 4 images"),
        (lambda images: channel_means(images)[:2], r"shape \(2, 3\) of 4 images"),
        (lambda images: channel_means(images)[:, :2], "vectors of 2 dimensions and had 3"),
        (lambda images: 0 * channel_means(images), "zero or not finite"),
        (lambda images: np.nan * channel_means(images), "zero or not finite"),
        (lambda images: [][0], r"fails on images of shape \(4, 3, 16, 16\)"),
        (lambda images: "vectors", "fails on images"),
    ],
)
def test_anything_else_than_vectors_is_refused(run: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        probe(a_model(run), PREPROCESSING)


def test_fingerprint_follows_what_a_function_does() -> None:
    prints = {
        fingerprint_of(a_model(), PREPROCESSING),
        fingerprint_of(a_model(), Preprocessing(size=24)),
        fingerprint_of(a_model(name="package.module:other"), PREPROCESSING),
        fingerprint_of(a_model(lambda images: channel_means(images) ** 2), PREPROCESSING),
    }
    assert len(prints) == 4
    assert fingerprint_of(a_model(), PREPROCESSING) in prints
    assert fingerprint_of(a_model(), PREPROCESSING, probe(a_model(), PREPROCESSING)) in prints


@pytest.mark.parametrize(
    ("name", "width"),
    [("torchvision/squeezenet1_1", 512), ("torchvision/shufflenet_v2_x0_5", 1024), ("mobilenetv3_small_050", 1024)],
)
def test_width_is_that_of_the_features(name: str, width: int) -> None:
    backbone = build_backbone(name, seed=0)
    assert backbone.width == width
    assert backbone.module.eval()(torch.rand(2, 3, 64, 64)).shape == (2, width)


def test_torchvision_model_brings_its_preprocessing() -> None:
    backbone = build_backbone("torchvision/shufflenet_v2_x0_5", seed=0)
    assert (backbone.size, backbone.mean, backbone.interpolation) == (224, (0.485, 0.456, 0.406), "bilinear")
    assert build_backbone("resnet18", seed=0).interpolation == "bicubic"
