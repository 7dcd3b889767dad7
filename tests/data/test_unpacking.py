"""Files that are small on disk and large in memory are refused before they are unpacked."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evergallery.data import unpacking
from evergallery.data.images import Preprocessing
from evergallery.data.listing import list_table
from evergallery.data.sources import load
from evergallery.data.vectors import open_vectors
from evergallery.errors import InputError

LIMIT = 1 << 20


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MOST_UNPACKED", LIMIT)
    monkeypatch.setattr(unpacking, "LONGEST_TEXT", 1000)


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("it was unpacked")


def test_vectors_of_zeros_that_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "v.npz", embeddings=np.zeros((1000, 1000)), ids=np.arange(1000))
    monkeypatch.setattr(np, "load", never)
    with pytest.raises(
        InputError, match=r"would take 8 MiB of memory, more than 1 MiB and 100 times its size: save them"
    ):
        open_vectors(tmp_path / "v.npz")


def test_texts_padded_to_the_longest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.array([str(number) for number in range(99)] + ["x" * 10_000])
    np.savez_compressed(tmp_path / "v.npz", embeddings=np.eye(100), ids=ids)
    monkeypatch.setattr(np, "load", never)
    with pytest.raises(InputError, match="would take 4 MiB of memory"):
        open_vectors(tmp_path / "v.npz")


def test_a_header_that_asks_for_more_than_the_file_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    np.lib.format.write_array_header_1_0(written, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 512)})
    with zipfile.ZipFile(tmp_path / "v.npz", "w") as archive:
        archive.writestr("embeddings.npy", written.getvalue())
        archive.writestr("ids.npy", written.getvalue())
    monkeypatch.setattr(np, "load", never)
    with pytest.raises(InputError, match="of memory, more than"):
        open_vectors(tmp_path / "v.npz")


def test_images_of_one_colour_that_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "i.npz", images=np.zeros((100, 200, 200, 3), np.uint8), labels=np.zeros(100, int))
    monkeypatch.setattr(np, "load", never)
    with pytest.raises(InputError, match="would take 11 MiB of memory"):
        load(tmp_path / "i.npz", Preprocessing(size=8))


def test_what_is_large_on_disk_may_be_large_in_memory(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(2000, 200)).astype(np.float32)
    np.savez_compressed(tmp_path / "v.npz", embeddings=vectors, ids=np.arange(2000))
    assert open_vectors(tmp_path / "v.npz").rows == 2000


class TestParquet:
    def write(self, path: Path, columns: dict[str, Any], **options: Any) -> Path:
        arrow = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
        from pyarrow import parquet

        parquet.write_table(arrow.table(columns), path, **options)
        return path

    def vectors(self, rows: int, dimension: int) -> Any:
        arrow = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
        offsets = np.arange(rows + 1, dtype=np.int32) * dimension
        return arrow.ListArray.from_arrays(offsets, np.zeros(rows * dimension, np.float32))

    @pytest.mark.parametrize("use_dictionary", [True, False])
    def test_vectors_of_zeros_that_fill_the_memory(self, tmp_path: Path, use_dictionary: bool) -> None:
        columns = {"id": [str(row) for row in range(200)], "embedding": self.vectors(200, 10_000)}
        path = self.write(tmp_path / "v.parquet", columns, use_dictionary=use_dictionary, compression="zstd")
        with pytest.raises(InputError, match=r"row group .* would take 8 MiB .*write it with smaller row groups"):
            open_vectors(path)
        small = self.write(tmp_path / "s.parquet", columns, row_group_size=20)
        with pytest.raises(InputError, match="is a vector of zeros"):
            open_vectors(small)

    def test_a_long_text_that_many_rows_share(self, tmp_path: Path) -> None:
        columns = {"path": ["a.png"] * 5000, "label": ["x" * 2000] * 5000}
        path = self.write(tmp_path / "i.parquet", columns)
        with pytest.raises(
            InputError, match=r"a text of 2,000 bytes in its column 'label': one of up to 1,000 is read"
        ):
            list_table(str(path), True).in_order()
        columns["label"] = ["x" * 900] * 5000
        entries, _ = list_table(str(self.write(path, columns)), True).in_order()
        assert {entry.label for entry in entries} == {"x" * 900}

    def test_columns_that_nobody_reads_do_not_count(self, tmp_path: Path) -> None:
        columns = {"path": ["a.png"] * 200, "label": ["cat"] * 200, "made of": self.vectors(200, 10_000)}
        entries, _ = list_table(str(self.write(tmp_path / "i.parquet", columns)), True).in_order()
        assert len(entries) == 200
