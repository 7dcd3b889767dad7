"""The network takes pictures as they are decoded, in parts that it takes best, and waits for no whole batch."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import models
from evergallery import Workspace
from evergallery.data.images import Preprocessing, UnreadableImage
from evergallery.data.listing import Entry
from evergallery.data.streaming import Picture
from evergallery.devices import choosing
from evergallery.devices.choosing import FEW
from evergallery.extraction import extraction, opening
from evergallery.extraction.extraction import LocalExtraction
from evergallery.holdings.runtimes import EmbeddingRun
from evergallery.network.runtimes import part_size

PATIENCE = 60.0
PART = 4


def pictures(numbers: range) -> list[Picture]:
    """Pictures that are decoded already, each all of its number."""
    return [Picture(Entry(str(n), None), str(n), np.full((8, 8, 3), n, np.uint8)) for n in numbers]


def first_value(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return pixels[:, 0, 0, :1].astype(np.float32)


def test_the_first_part_is_embedded_before_the_last_picture_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = threading.Event()

    def decode(picture: Picture, _: Preprocessing) -> NDArray[np.uint8]:
        if picture.content == "9":
            assert looked.wait(PATIENCE), "the network waits for the whole batch"
        assert isinstance(picture.data, np.ndarray)
        return picture.data

    def embed(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        looked.set()
        return first_value(pixels)

    monkeypatch.setattr(extraction, "decode_picture", decode)
    made = LocalExtraction(lambda most: EmbeddingRun(embed, {}, PART), Preprocessing(size=8)).embed(
        [("tag", pictures(range(10)))], 10
    )
    ((tag, answers),) = made
    assert tag == "tag"
    assert [float(answer[0]) for answer in answers if not isinstance(answer, UnreadableImage)] == list(range(10))


def test_answers_keep_their_order_and_what_is_decoded_goes_together() -> None:
    sizes: list[int] = []

    def embed(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        sizes.append(len(pixels))
        return first_value(pixels)

    def batches() -> Iterator[tuple[int, list[Picture]]]:
        for start in (0, 11, 20):
            found = pictures(range(start, start + 9))
            found[3] = Picture(Entry("odd", None), "odd", b"no picture")
            yield start, found

    for start, answers in LocalExtraction(lambda most: EmbeddingRun(embed, {}, PART), Preprocessing(size=8)).embed(
        batches(), 27
    ):
        assert isinstance(answers[3], UnreadableImage)
        values = [None if isinstance(answer, UnreadableImage) else float(answer[0]) for answer in answers]
        assert values == [None if row == 3 else start + row for row in range(9)]
    assert sum(sizes) == 24
    # A part of three has lost the picture that could not be decoded.
    assert all(size == 1 or size >= PART - 1 for size in sizes)


def test_what_a_network_raises_comes_out() -> None:
    def embed(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise ValueError("the network is ill")

    with pytest.raises(ValueError, match="ill"):
        list(
            LocalExtraction(lambda most: EmbeddingRun(embed, {}, PART), Preprocessing(size=8)).embed(
                [(0, pictures(range(9)))], 9
            )
        )


def test_what_takes_whole_batches_best_gets_them() -> None:
    sizes: list[int] = []

    def embed(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        sizes.append(len(pixels))
        return first_value(pixels)

    batches = [(start, pictures(range(start, start + 9))) for start in (0, 9, 18)]
    made = list(LocalExtraction(lambda most: EmbeddingRun(embed, {}), Preprocessing(size=8)).embed(batches, 27))
    assert [tag for tag, _ in made] == [0, 9, 18]
    assert sizes == [9, 9, 9]


def test_nothing_is_opened_where_all_pictures_are_known() -> None:
    def never(most: int) -> EmbeddingRun:
        raise AssertionError("there is nothing to look at")

    extraction = LocalExtraction(never, Preprocessing(size=8))
    assert list(extraction.embed([(0, []), (1, [])], 0)) == [(0, []), (1, [])]
    assert extraction.how == {}


def test_the_journal_hears_how_pictures_were_embedded() -> None:
    extraction = LocalExtraction(lambda most: EmbeddingRun(first_value, {"device": str(most)}), Preprocessing(size=8))
    list(extraction.embed([(0, pictures(range(3)))], 3))
    assert extraction.how == {"device": "3"}


@pytest.mark.parametrize(
    ("gpu", "images", "part"),
    [(False, FEW, part_size(16)), (True, FEW - 1, part_size(16)), (True, FEW, None)],
)
def test_parts_are_for_a_network_that_runs_on_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: bool, images: int, part: int | None
) -> None:
    monkeypatch.setattr(choosing, "has_gpu", lambda: gpu)
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *_, **__: self)
    with Workspace.create(tmp_path / "shop", size=16) as shop:
        network = shop.register("resnet20", pretrained=False, size=16)
        function = shop.register(models.worn, size=16)
        parts = []
        for generation in (network, function):
            with opening.extracting(shop.holdings, generation) as found:
                assert isinstance(found, LocalExtraction)
                parts.append(found.running(images).part)
    assert parts == [part, None], "somebody else's model takes what it is given, and may count its requests"
