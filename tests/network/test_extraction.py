"""What goes through a network at once, and in which numbers."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evergallery.data.augment import normalise
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.devices.gpu import exact, in_memory, on_device
from evergallery.errors import UnavailableError
from evergallery.network import (
    Architecture,
    Embedder,
    Head,
    Network,
    Outputs,
    embedding,
    extract,
    outputs_of,
)
from evergallery.network.extraction import in_parts, looked_at

Statistics = tuple[float, float, float]


def test_a_cpu_takes_a_batch_in_parts_and_a_gpu_as_a_whole() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for size, count, expected in ((32, 150, [64, 64, 22]), (128, 40, [16, 16, 8]), (1024, 2, [1, 1]), (64, 0, [0])):
        images = torch.arange(count * 3, dtype=torch.uint8).view(count, 3, 1, 1).expand(-1, -1, size, size)
        parts = in_parts(images, cpu)
        assert [len(part) for part in parts] == expected
        assert torch.equal(torch.cat(parts), images)
        assert in_parts(images, gpu) == (images,)


def test_of_images_with_margins_the_middle_is_looked_at() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 20, 20, 3), dtype=np.uint8)
    whole, seen = (
        ImageSet.from_arrays(one, np.zeros(5, np.int64), ["a"]) for one in (pixels, pixels[:, 2:18, 2:18].copy())
    )
    network = Network(embedder := Embedder(Architecture(backbone="resnet8")), Head(embedder.dimension, 2))
    usual = Preprocessing(size=16, kept=0.8)
    np.testing.assert_allclose(extract(embedder, whole, usual), extract(embedder, seen, usual), atol=1e-6)
    torch.testing.assert_close(outputs_of(network, whole, usual), outputs_of(network, seen, usual))


def test_what_does_not_fit_into_memory_goes_in_halves() -> None:
    seen: list[int] = []

    def double(images: Tensor) -> Tensor:
        seen.append(len(images))
        if len(images) > 3:
            raise torch.OutOfMemoryError("full")
        return 2 * images

    images = torch.arange(22.0).view(11, 2)
    assert torch.equal(torch.cat(in_memory(double, images)), 2 * images)
    assert seen[0] == 11
    assert max(seen[1:]) <= 6


def test_images_that_do_not_fit_when_they_are_normalised_go_in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_little_memory(images: Tensor, mean: Statistics, std: Statistics) -> Tensor:
        if len(images) > 3:
            raise torch.OutOfMemoryError("full")
        return normalise(images, mean, std)

    images = torch.arange(11 * 3 * 4, dtype=torch.uint8).view(11, 3, 2, 2)
    preprocessing = Preprocessing(size=2)
    expected = normalise(images, preprocessing.mean, preprocessing.std)
    monkeypatch.setattr("evergallery.network.extraction.normalise", in_little_memory)
    made = looked_at(lambda batch: batch, images, preprocessing, torch.device("cpu"))
    assert torch.equal(torch.cat(made), expected)


def test_outputs_of_a_network_are_made_in_halves_too(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(Embedder(Architecture(backbone="resnet8")), Head(64, 0, "linear").grow(3, 0))
    pixels = torch.randint(0, 256, (9, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    images = ImageSet(pixels, np.arange(9), np.arange(9) % 3, ("a", "b", "c"), ("",) * 9, ("",) * 9)
    expected = outputs_of(network, images, Preprocessing(size=8))
    right = Network.forward

    def in_little_memory(self: Network, batch: Tensor) -> Outputs:
        if len(batch) > 4:
            raise torch.OutOfMemoryError("full")
        return right(self, batch)

    monkeypatch.setattr(Network, "forward", in_little_memory)
    for made, whole in zip(outputs_of(network, images, Preprocessing(size=8)), expected, strict=True):
        torch.testing.assert_close(made, whole, atol=1e-5, rtol=1e-5)


def test_a_network_comes_back_from_a_device() -> None:
    class RecordingNetwork(nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 2)
            self.devices: list[str] = []

        def to(self, *args: Any, **named: Any) -> "RecordingNetwork":
            self.devices.append(args[0].type)
            return self

    network = RecordingNetwork()
    with pytest.raises(ValueError, match="stopped"), on_device(network, torch.device("cuda")):
        assert network.devices == ["cuda"]
        raise ValueError("stopped")
    assert network.devices == ["cuda", "cpu"]


def test_a_gpu_that_fails_or_is_full_is_named_with_what_to_do() -> None:
    def full(images: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("full")

    def broken(images: Tensor) -> Tensor:
        raise torch.AcceleratorError("an illegal memory access\nlong advice")

    def without_room(images: Tensor) -> Tensor:
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

    def wrong(images: Tensor) -> Tensor:
        raise RuntimeError("shapes do not match")

    with pytest.raises(UnavailableError, match="no memory for a single image.*CUDA_VISIBLE_DEVICES="):
        in_memory(full, torch.zeros(5, 2))
    with pytest.raises(UnavailableError, match=r"failed \(.*illegal memory access\).*CUDA_VISIBLE_DEVICES="):
        in_memory(broken, torch.zeros(5, 2))
    with pytest.raises(UnavailableError, match=r"failed \(CUDA error: CUBLAS_STATUS_ALLOC_FAILED"):
        in_memory(without_room, torch.zeros(5, 2))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        in_memory(wrong, torch.zeros(5, 2))


def test_products_on_a_gpu_are_of_float32_while_vectors_are_made() -> None:
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    with exact(torch.device("cuda")):
        assert not convolutions.allow_tf32
        assert not products.allow_tf32
    with exact(torch.device("cpu")):
        assert (convolutions.allow_tf32, products.allow_tf32) == before
    assert (convolutions.allow_tf32, products.allow_tf32) == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_makes_the_vectors_of_the_processor() -> None:
    network = Embedder(Architecture(backbone="resnet20"))
    images = torch.randint(0, 256, (70, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with embedding(network, Preprocessing(size=32)) as embed:
        expected = embed(images)
    with embedding(network.cuda(), Preprocessing(size=32)) as embed:
        np.testing.assert_allclose(embed(images), expected, atol=1e-5)
