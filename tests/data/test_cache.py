"""The pixel cache: what was kept stays, whatever the writer died of."""

import errno
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from evergallery.data.cache import PixelCache
from evergallery.data.images import Preprocessing
from evergallery.errors import BusyError, InputError

SMALL = Preprocessing(size=4)


def some(first: int, count: int) -> tuple[list[str], np.ndarray]:
    numbers = range(first, first + count)
    images = np.stack([np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8) for number in numbers])
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in numbers], images


def add(cache: PixelCache, first: int, count: int) -> None:
    with cache.writing():
        cache.add(*some(first, count))


def holds(cache: PixelCache, first: int, count: int) -> bool:
    hashes, images = some(first, count)
    rows = cache.rows(hashes)
    return bool((rows >= 0).all()) and np.array_equal(cache.array()[rows], images)


def test_kept_and_found_again(tmp_path: Path) -> None:
    cache = PixelCache(tmp_path, SMALL)
    assert len(cache) == 0
    assert cache.array().shape == (0, 4, 4, 3)
    assert cache.rows(["00" * 32]).tolist() == [-1]
    add(cache, 0, 5)
    add(cache, 5, 3)
    again = PixelCache(tmp_path, SMALL)
    assert len(again) == 8
    assert holds(again, 0, 8)
    assert again.rows(some(7, 2)[0]).tolist() == [7, -1]
    assert isinstance(again.array(), np.memmap)
    assert not again.array().flags.writeable


def test_an_open_reader_sees_what_others_add(tmp_path: Path) -> None:
    reader, writer = PixelCache(tmp_path, SMALL), PixelCache(tmp_path, SMALL)
    add(writer, 0, 3)
    assert holds(reader, 0, 3)


def test_one_directory_per_recipe_and_not_per_mean(tmp_path: Path) -> None:
    directories = {
        PixelCache(tmp_path, preprocessing).directory
        for preprocessing in (
            SMALL,
            Preprocessing(size=4, mean=(0.1, 0.2, 0.3), std=(1, 1, 1)),
            Preprocessing(size=5),
            Preprocessing(size=4, fit="pad"),
            Preprocessing(size=4, interpolation="bicubic"),
            Preprocessing(size=4, kept=0.8),
        )
    }
    assert len(directories) == 5


@pytest.mark.parametrize("pixel_bytes", [0, 1, 47, 48, 49, 100, 191, 192])
@pytest.mark.parametrize("hash_bytes", [0, 31, 32, 70, 128])
def test_cut_off_anywhere(tmp_path: Path, pixel_bytes: int, hash_bytes: int) -> None:
    cache = PixelCache(tmp_path, SMALL)
    add(cache, 0, 4)
    os.truncate(cache.directory / "pixels.u8", pixel_bytes)
    os.truncate(cache.directory / "hashes.bin", hash_bytes)
    whole = min(pixel_bytes // 48, hash_bytes // 32)
    again = PixelCache(tmp_path, SMALL)
    assert len(again) == whole
    assert whole == 0 or holds(again, 0, whole)
    add(again, whole, 6)
    assert holds(PixelCache(tmp_path, SMALL), 0, whole + 6)


def test_a_full_disk_leaves_the_cache_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = PixelCache(tmp_path, SMALL)
    add(cache, 0, 3)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(InputError, match="No space left on device"):
            add(cache, 3, 4)
    again = PixelCache(tmp_path, SMALL)
    assert len(again) == 3
    add(again, 7, 2)
    assert holds(again, 0, 3)
    assert holds(again, 7, 2)


def test_one_writer(tmp_path: Path) -> None:
    first, second = PixelCache(tmp_path, SMALL), PixelCache(tmp_path, SMALL)
    with first.writing(), pytest.raises(BusyError), second.writing():
        pass


def test_wrong_shape_and_wrong_place(tmp_path: Path) -> None:
    cache = PixelCache(tmp_path, SMALL)
    with cache.writing(), pytest.raises(InputError, match="do not fit"):
        cache.add(some(0, 1)[0], np.zeros((1, 5, 5, 3), dtype=np.uint8))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be kept"):
        PixelCache(tmp_path / "file", SMALL)
