"""Tables of vectors: exact round trips, and every way in which a table can be bad."""

import io
import pickle
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from evergallery.data.vectors import VectorBatch, VectorTable, open_vectors, write_vectors
from evergallery.errors import InputError, MissingExtraError
from evergallery.files import TEMPORARY_PREFIX

QUICKLY = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    made: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return made


def some(count: int = 5, dimension: int = 3, seed: int = 0) -> NDArray[np.float32]:
    return unit(np.random.default_rng(seed).normal(size=(count, dimension)))


def a_batch(ids: Sequence[str], embeddings: NDArray[np.float32], **known: Sequence[Any]) -> VectorBatch:
    nothing = (None,) * len(ids)
    columns: dict[str, Any] = {name: tuple(known.get(name, nothing)) for name in ("labels", "uris", "content_hashes")}
    return VectorBatch(tuple(ids), embeddings, metadata=tuple(known.get("metadata", ({},) * len(ids))), **columns)


def everything(table: VectorTable, size: int = 1024) -> VectorBatch:
    found = list(table.batches(size))
    names = ("ids", "labels", "uris", "content_hashes", "metadata")
    joined = {name: tuple(value for batch in found for value in getattr(batch, name)) for name in names}
    return VectorBatch(embeddings=np.concatenate([batch.embeddings for batch in found]), **joined)


def equal(first: VectorBatch, second: VectorBatch) -> bool:
    names = ("ids", "labels", "uris", "content_hashes", "metadata")
    return all(getattr(first, name) == getattr(second, name) for name in names) and np.array_equal(
        first.embeddings.view(np.uint32), second.embeddings.view(np.uint32)
    )


def parquet_of(path: Path, **columns: Any) -> Path:
    import pyarrow as arrow
    from pyarrow import parquet

    parquet.write_table(arrow.table(columns), path)
    return path


# A NUL at the end of a text is refused by .npz, surrogates by all.
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(1 - 2**63, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
)
names = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=5)


@st.composite
def batches(draw: st.DrawFn) -> VectorBatch:
    count, dimension = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    rows = draw(
        hnp.arrays(np.float64, (count, dimension), elements=st.floats(-1e3, 1e3)).filter(
            lambda rows: bool((np.abs(rows).max(axis=1) > 1e-3).all())
        )
    )
    column = st.lists(st.none() | text, min_size=count, max_size=count)
    return a_batch(
        draw(st.lists(text, min_size=count, max_size=count, unique=True)),
        unit(rows),
        labels=draw(column),
        uris=draw(column),
        content_hashes=draw(column),
        metadata=draw(st.lists(st.dictionaries(names, scalars, max_size=3), min_size=count, max_size=count)),
    )


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@given(batch=batches(), size=st.integers(1, 4))
@QUICKLY
def test_round_trip_is_exact(tmp_path: Path, suffix: str, batch: VectorBatch, size: int) -> None:
    path = tmp_path / f"table{suffix}"
    count, dimension = batch.embeddings.shape
    write_vectors(path, [batch], rows=count, dimension=dimension, space="abc")
    table = open_vectors(path)
    assert equal(everything(table, size), batch)
    assert (table.rows, table.dimension, table.normalised, table.skipped) == (count, dimension, 0, ())
    assert table.space == "abc"
    assert not list(tmp_path.glob(TEMPORARY_PREFIX + "*"))


def test_round_trip_of_plain_arrays_with_their_ids_beside(tmp_path: Path) -> None:
    batch = a_batch([" a", "b\u2028c", "ü", "d", "e"], some())
    written = write_vectors(tmp_path / "v.npy", [batch], rows=5, dimension=3)
    assert written == [tmp_path / "v.npy", tmp_path / "v.ids.txt"]
    assert equal(everything(open_vectors(written[0], ids=written[1]), 2), batch)
    assert everything(open_vectors(written[0])).ids == ("0", "1", "2", "3", "4")


def test_content_depends_on_ids_and_vectors_alone(tmp_path: Path) -> None:
    batch, turned = (a_batch(["a", "b"][::step], some(2)[::step], labels=["x", None]) for step in (1, -1))
    contents = set()
    for name, written in (("a.npz", batch), ("b.npz", turned), ("c.parquet", batch)):
        write_vectors(tmp_path / name, [written], rows=2, dimension=3)
        contents.add(open_vectors(tmp_path / name).content)
    assert len(contents) == 1
    for name, ids, embeddings in (("d.npz", ["a", "c"], some(2)), ("e.npz", ["a", "b"], some(2, seed=1))):
        write_vectors(tmp_path / name, [a_batch(ids, embeddings)], rows=2, dimension=3)
        contents.add(open_vectors(tmp_path / name).content)
    assert len(contents) == 3


def test_rows_of_any_length_become_unit_rows_and_are_counted(tmp_path: Path) -> None:
    rows = np.array([[3.0, 4.0], [0.6, 0.8], [1e300, 1e300], [-1e-320, 0.0]])
    np.savez(tmp_path / "v.npz", embeddings=rows, ids=np.arange(4))
    table = open_vectors(tmp_path / "v.npz")
    half = np.sqrt(0.5)
    np.testing.assert_allclose(everything(table).embeddings, [[0.6, 0.8], [0.6, 0.8], [half, half], [-1, 0]], rtol=1e-6)
    assert table.normalised == 3


def test_columns_of_a_parquet_table_become_metadata(tmp_path: Path) -> None:
    import pyarrow as arrow

    path = parquet_of(
        tmp_path / "v.parquet",
        id=[7, 8],
        embedding=arrow.array(some(2).tolist(), arrow.list_(arrow.float16(), 3)),
        label=arrow.array(["shoe", None]).dictionary_encode(),
        price=[1.5, None],
        sold=[True, False],
        metadata=[None, '{"price": 2}'],
    )
    read = everything(open_vectors(path))
    assert (read.ids, read.labels) == (("7", "8"), ("shoe", None))
    assert read.metadata == ({"price": 1.5, "sold": True}, {"price": 2, "sold": False})
    np.testing.assert_allclose(read.embeddings, some(2), atol=1e-3)


def test_numbers_as_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", embeddings=some(3), ids=np.array(["a", "b", "c"]), labels=np.array([0, -1, 2]))
    assert everything(open_vectors(tmp_path / "v.npz")).labels == ("0", None, "2")


BAD = [
    (1, [np.nan, 0, 1], "b", "NaN or infinity"),
    (1, [np.inf, 0, 1], "b", "NaN or infinity"),
    (4, [0, 0, 0], "e", "zeros"),
    (3, [1, 0, 0], "a", "an id that an earlier row has"),
    (2, [1, 0, 0], "", "no id"),
]


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@pytest.mark.parametrize(("row", "vector", "identifier", "reason"), BAD)
def test_bad_row_is_named_or_skipped(
    tmp_path: Path, suffix: str, row: int, vector: list[float], identifier: str, reason: str
) -> None:
    rows, ids = some().astype(np.float64), ["a", "b", "c", "d", "e"]
    rows[row], ids[row] = vector, identifier
    path = tmp_path / f"v{suffix}"
    if suffix == ".npz":
        np.savez(path, embeddings=rows, ids=np.array(ids))
    else:
        parquet_of(path, id=ids, embedding=rows.tolist())
    named = rf"row {row} \(id '{identifier}'\)" if identifier else f"row {row} has"
    with pytest.raises(InputError, match=rf"{named}.*{reason}.*--skip-bad"):
        open_vectors(path)
    table = open_vectors(path, skip_bad=True)
    assert table.rows == 4
    assert len(table.skipped) == 1
    assert table.skipped[0].uri.startswith(f"row {row}")
    left = [index for index in range(5) if index != row]
    for size in (1, 2, 5):
        read = everything(table, size)
        assert read.ids == tuple(ids[index] for index in left)
        np.testing.assert_array_equal(read.embeddings, some()[left])


def test_rows_of_a_parquet_table_without_a_whole_vector(tmp_path: Path) -> None:
    vectors_ = [[1.0, 0.0], None, [1.0], [None, 1.0], [0.0, 1.0], []]
    path = parquet_of(tmp_path / "v.parquet", id=list("abcdef"), embedding=vectors_)
    table = open_vectors(path, skip_bad=True)
    assert [skip.reason for skip in table.skipped] == [
        "has no vector", "has a vector of 1 numbers, not 2", "has a vector with NaN or infinity",
        "has a vector of 0 numbers, not 2",
    ]  # fmt: skip
    assert everything(table).ids == ("a", "e")


def test_duplicates_far_apart_and_nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evergallery.data.vectors.table.BATCH", 2)
    np.savez(tmp_path / "v.npz", embeddings=some(), ids=np.array(["a", "b", "c", "d", "a"]))
    with pytest.raises(InputError, match=r"row 4 \(id 'a'\)"):
        open_vectors(tmp_path / "v.npz")
    np.savez(tmp_path / "v.npz", embeddings=np.zeros((2, 3)), ids=np.array(["a", "b"]))
    with pytest.raises(
        InputError, match=r"no vector that can be used; the first: row 0 \(id 'a'\) is a vector of zeros"
    ):
        open_vectors(tmp_path / "v.npz", skip_bad=True)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ("[1]", "no JSON object"),
        ("{", "no JSON object"),
        ('{"a": [1]}', "'a'"),
        ('{"a b": 1}', "'a b'"),
    ],
)
def test_metadata_that_the_gallery_cannot_keep(tmp_path: Path, metadata: str, reason: str) -> None:
    np.savez(tmp_path / "v.npz", embeddings=some(1), ids=np.array(["a"]), metadata=np.array([metadata]))
    with pytest.raises(InputError, match=reason):
        open_vectors(tmp_path / "v.npz")


def test_text_that_is_not_unicode(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", embeddings=some(2), ids=np.array(["a", "b"]), uris=np.array([b"\xff", b"x"]))
    with pytest.raises(InputError, match=r"row 0 \(id 'a'\) has text that is not Unicode"):
        open_vectors(tmp_path / "v.npz")


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".parquet"])
def test_file_cut_short_anywhere(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"v{suffix}"
    write_vectors(path, [a_batch([str(row) for row in range(400)], some(400, 16))], rows=400, dimension=16)
    whole = path.read_bytes()
    for share in (0, 0.001, 0.3, 0.9, 0.999):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match=r"v\.\w+ cannot be read as an? .*cut short"):
            open_vectors(path)
    path.write_bytes(whole[:-1])
    with pytest.raises(InputError):
        open_vectors(path)


def test_damage_in_the_middle_of_a_parquet_table(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    write_vectors(path, [a_batch([str(row) for row in range(400)], some(400, 16))], rows=400, dimension=16)
    whole = bytearray(path.read_bytes())
    whole[40:400] = b"\xff" * 360
    path.write_bytes(whole)
    with pytest.raises(InputError):
        open_vectors(path)


class FailingPickle:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("a table of vectors was unpickled",)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    treacherous = np.empty((2, 2), dtype=object)
    treacherous[:] = FailingPickle()
    np.save(tmp_path / "object.npy", treacherous, allow_pickle=True)
    (tmp_path / "plain.npy").write_bytes(pickle.dumps(FailingPickle()))
    np.savez(tmp_path / "object.npz", embeddings=treacherous, ids=np.arange(2), allow_pickle=True)
    (tmp_path / "plain.npz").write_bytes(pickle.dumps(FailingPickle()))
    for path in tmp_path.iterdir():
        with pytest.raises(InputError, match="cannot be read as an .np"):
            open_vectors(path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"ids": np.arange(2)}, "no array 'embeddings'"),
        ({"embeddings": some(2)}, "no array 'ids'.*has embeddings"),
        ({"embeddings": np.ones(3), "ids": np.arange(3)}, r"shape \(3,\)"),
        ({"embeddings": some(2).astype(complex), "ids": np.arange(2)}, "complex"),
        ({"embeddings": some(2), "ids": np.arange(3)}, r"2 embeddings and ids of shape \(3,\)"),
        ({"embeddings": some(2), "ids": np.ones(2)}, "ids of type float64"),
        ({"embeddings": np.ones((0, 3)), "ids": np.arange(0)}, "no vector that can be used"),
    ],
)
def test_arrays_that_are_no_table(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "v.npz", **arrays)
    with pytest.raises(InputError, match=message):
        open_vectors(tmp_path / "v.npz")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["a"]}, "no column 'embedding'"),
        ({"embedding": [[1.0]]}, "no column 'id'"),
        ({"id": ["a"], "embedding": [1.0]}, "must hold lists of numbers"),
        ({"id": ["a"], "embedding": [["x"]]}, "must hold lists of numbers"),
        ({"id": [1.5], "embedding": [[1.0]]}, "as id '1.5', which is neither text nor a whole number"),
        ({"id": ["a"], "embedding": [[1.0]], "seen": [[1]]}, "'seen' of list.*convert or drop it"),
        ({"id": ["a"], "embedding": [[1.0]], "a b": [1]}, "'a b': names of metadata"),
        ({"id": [], "embedding": []}, "embedding"),
        ({"id": ["a", "b"], "embedding": [None, [0.0]]}, "row 0 .* has no vector"),
    ],
)
def test_parquet_that_is_no_table(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_vectors(parquet_of(tmp_path / "v.parquet", **columns))


def test_files_that_are_not_there_or_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file"):
        open_vectors(tmp_path / "none.npz")
    with pytest.raises(InputError, match="is no table of vectors"):
        open_vectors(tmp_path / "v.csv")
    np.save(tmp_path / "v.npy", some(3))
    (tmp_path / "ids.txt").write_text("a\r\nb\n")
    with pytest.raises(InputError, match=r"ids\.txt has 2 lines and .*v\.npy 3 rows"):
        open_vectors(tmp_path / "v.npy", ids=tmp_path / "ids.txt")
    (tmp_path / "ids.txt").write_text("a\r\nb\nc")
    assert everything(open_vectors(tmp_path / "v.npy", ids=tmp_path / "ids.txt")).ids == ("a", "b", "c")
    with pytest.raises(InputError, match="none.txt cannot be read as a UTF-8 text file"):
        open_vectors(tmp_path / "v.npy", ids=tmp_path / "none.txt")
    np.savez(tmp_path / "v.npz", embeddings=some(1), ids=np.arange(1))
    with pytest.raises(InputError, match="ids of its own"):
        open_vectors(tmp_path / "v.npz", ids=tmp_path / "ids.txt")


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    for name, identifier in (("v.npz", "a\0"), ("v.npy", "a\nb")):
        (tmp_path / name).write_text("before")
        with pytest.raises(InputError, match=r"write a \.parquet file instead"):
            write_vectors(tmp_path / name, [a_batch([identifier], some(1))], rows=1, dimension=3)
        assert (tmp_path / name).read_text() == "before"
    with pytest.raises(InputError, match="no suffix"):
        write_vectors(tmp_path / "v.csv", [], rows=0, dimension=3)
    with pytest.raises(InputError, match="cannot be written: there is no folder .*none; make it first"):
        write_vectors(tmp_path / "none" / "v.npz", [], rows=0, dimension=3)
    assert not list(tmp_path.glob(TEMPORARY_PREFIX + "*"))


def test_parquet_is_read_and_written_in_fixed_memory(tmp_path: Path) -> None:
    import pyarrow as arrow

    def stream(count: int) -> None:
        parts = (a_batch([f"{part}-{row}" for row in range(1000)], some(1000, 64, part)) for part in range(count))
        write_vectors(tmp_path / "v.parquet", parts, rows=count * 1000, dimension=64)

    most = []
    for count in (4, 40):
        stream(count)
        table = open_vectors(tmp_path / "v.parquet")
        most.append(max(arrow.total_allocated_bytes() for _ in table.batches()))
        assert table.rows == count * 1000
    assert most[1] < 2 * most[0] + (1 << 20)


def test_parquet_without_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "v.parquet").touch()
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"evergallery\[parquet\]"):
        open_vectors(tmp_path / "v.parquet")


def test_archive_in_place_of_an_array(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, embeddings=some(2), ids=np.arange(2))
    (tmp_path / "v.npy").write_bytes(buffer.getvalue())
    with pytest.raises(InputError, match="cannot be read as an .npy"):
        open_vectors(tmp_path / "v.npy")


def kept(path: Path) -> dict[str, bytes]:
    """Every file of a table, to the byte."""
    files = path.rglob("*") if path.is_dir() else [path]
    return {str(path): path.read_bytes() for path in files if path.is_file()}


@pytest.mark.parametrize("kind", ["Flat", "HNSW8", "IVF4,Flat", "IDMap,Flat", "L2norm,Flat", "IDMap2,HNSW8"])
def test_index_of_faiss(tmp_path: Path, kind: str) -> None:
    faiss = pytest.importorskip("faiss", reason="the extra faiss is not installed")
    vectors = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
    index = faiss.index_factory(8, kind)
    index.train(vectors)
    ids = np.arange(500) + (1000 if "IDMap" in kind else 0)
    index.add_with_ids(vectors, ids) if "IDMap" in kind else index.add(vectors)
    path = tmp_path / "vectors.faiss"
    faiss.write_index(index, str(path))
    before = kept(path)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    table = open_vectors(path)
    batches = list(table.batches(64))
    assert [name for batch in batches for name in batch.ids] == [str(identifier) for identifier in ids]
    np.testing.assert_allclose(np.concatenate([batch.embeddings for batch in batches]), unit, atol=1e-6)
    (tmp_path / "ids.txt").write_text("".join(f"sku {number}\n" for number in range(500)))
    named = open_vectors(path, ids=tmp_path / "ids.txt")
    assert next(iter(named.batches())).ids[:2] == ("sku 0", "sku 1")
    (tmp_path / "few.txt").write_text("a\nb\n")
    with pytest.raises(InputError, match=r"few.txt has 2 lines and .*vectors.faiss 500 rows"):
        open_vectors(path, ids=tmp_path / "few.txt")
    assert kept(path) == before


def test_indexes_of_faiss_that_cannot_be_read(tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss", reason="the extra faiss is not installed")
    path = tmp_path / "vectors.index"
    vectors = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    index = faiss.index_factory(8, "IVF2,Flat")
    index.train(vectors)
    index.add_with_ids(vectors, np.arange(200) + 7)
    faiss.write_index(index, str(path))
    with pytest.raises(
        InputError, match="is an IndexIVFFlat, which does not give its vectors back: import the originals"
    ):
        open_vectors(path)
    faiss.write_index(faiss.IndexFlatIP(8), str(path))
    with pytest.raises(InputError, match="holds no vector that can be used"):
        open_vectors(path)
    faiss.write_index_binary(faiss.IndexBinaryFlat(16), str(path))
    with pytest.raises(InputError, match="cannot be read as an index of FAISS"):
        open_vectors(path)
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read as an index of FAISS"):
        open_vectors(path)


def test_dataset_of_lance(tmp_path: Path) -> None:
    lance = pytest.importorskip("lance", reason="the extra lance is not installed")
    pa = pytest.importorskip("pyarrow")
    vectors = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    path = tmp_path / "catalogue.lance"
    for part in (slice(0, 30), slice(30, 50)):
        rows = {
            "id": [f"sku {number}" for number in range(50)[part]],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors[part].ravel()), 8),
            "label": ["red"] * (part.stop - part.start),
            "price": list(range(50)[part]),
        }
        lance.write_dataset(pa.table(rows), str(path), mode="append" if part.start else "create")
    before = kept(path)
    table = open_vectors(path)
    batches = list(table.batches(16))
    assert (table.rows, table.dimension) == (50, 8)
    assert sorted(name for batch in batches for name in batch.ids) == sorted(f"sku {number}" for number in range(50))
    found = {name: vector for batch in batches for name, vector in zip(batch.ids, batch.embeddings, strict=True)}
    np.testing.assert_allclose(found["sku 40"], vectors[40] / np.linalg.norm(vectors[40]), atol=1e-6)
    assert {str(dict(metadata)) for batch in batches for metadata in batch.metadata} == {
        str({"price": n}) for n in range(50)
    }
    assert kept(path) == before
    with pytest.raises(InputError, match="There is no directory"):
        open_vectors(tmp_path / "none.lance")
    (tmp_path / "empty.lance").mkdir()
    with pytest.raises(InputError, match="cannot be read as a dataset of Lance"):
        open_vectors(tmp_path / "empty.lance")
