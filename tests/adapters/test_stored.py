"""Adapters on disk: round trips, fingerprints, and what happens to those who touch them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from evergallery.adapters import ADAPTERS, Adapter, fit_linear, fit_procrustes
from evergallery.adapters import stored as module
from evergallery.adapters.card import CARD, NamedSpace
from evergallery.adapters.stored import (
    ADAPTER,
    Fitting,
    StoredAdapter,
    adapter_directories,
    adapter_directory_name,
    adapter_fingerprint,
)
from evergallery.errors import DamagedError
from evergallery.files import TEMPORARY_PREFIX

OLD, NEW = NamedSpace(name="v1", fingerprint="1" * 64), NamedSpace(name="v2", fingerprint="2" * 64)


def rows(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)))


def write(directory: Path, adapter: Adapter | None = None) -> StoredAdapter:
    fitting = Fitting("query", NEW, OLD, pairs=50, data="d" * 64, figures={"kind": "procrustes"})
    return StoredAdapter.write(directory, adapter or fit_procrustes(rows(50, 8), rows(50, 6, 1)), "a1", fitting)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_round_trip_is_bit_equal(tmp_path: Path, kind: str) -> None:
    adapter, later = ADAPTERS[kind].fit(rows(50, 8), rows(50, 8, 1)), rows(20, 8, 2)
    written = write(tmp_path / "a0001", adapter)
    read = StoredAdapter.load(tmp_path / "a0001")
    assert read.card == written.card
    assert (read.name, read.number, read.card.kind, read.card.dimension) == ("a1", 1, kind, 8)
    assert (read.card.source, read.card.target, read.card.pairs) == (NEW, OLD, 50)
    assert torch.equal(read.adapter()(later), adapter(later))
    assert read.problems() == []
    assert not list(tmp_path.rglob(TEMPORARY_PREFIX + "*"))


def test_low_rank_is_kept(tmp_path: Path) -> None:
    adapter = fit_linear(rows(50, 8), rows(50, 6, 1), rank=2)
    read = write(tmp_path / "a0001", adapter).adapter()
    assert {name: tensor.shape for name, tensor in read.tensors().items()} == {
        name: tensor.shape for name, tensor in adapter.tensors().items()
    }
    assert torch.equal(read(rows(9, 8)), adapter(rows(9, 8)))
    assert read.dimension == 6


def test_fingerprint_tells_maps_and_spaces_apart_and_copies_not() -> None:
    first, second = fit_procrustes(rows(50, 8), rows(50, 8, 1)), fit_procrustes(rows(50, 8), rows(50, 8, 2))
    linear = fit_linear(rows(50, 8), rows(50, 8, 1))
    near = ADAPTERS["lambda-orthogonal"].adapter(**linear.tensors())
    assert adapter_fingerprint(first, "a", "b") == adapter_fingerprint(
        fit_procrustes(rows(50, 8), rows(50, 8, 1)), "a", "b"
    )
    found = [
        adapter_fingerprint(first, "a", "b"),
        adapter_fingerprint(first, "b", "a"),
        adapter_fingerprint(first, "a", "c"),
        adapter_fingerprint(second, "a", "b"),
        adapter_fingerprint(linear, "a", "b"),
        adapter_fingerprint(near, "a", "b"),
    ]
    assert len(set(found)) == len(found)


def test_altered_and_missing_tensors_are_refused(tmp_path: Path) -> None:
    stored = write(tmp_path / "a0001")
    path = tmp_path / "a0001" / ADAPTER
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedError, match=r"adapter\.safetensors is not the file that was written"):
        stored.adapter()
    assert "checksum differs" in stored.problems()[0]
    path.unlink()
    assert "is missing" in stored.problems()[0]


def test_tensors_and_card_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    stored = write(tmp_path / "a0001")
    for changes, message in (
        ({"fingerprint": "0" * 64}, "holds another map than its card says"),
        ({"source": OLD}, "holds another map than its card says"),
        ({"kind": "mlp"}, "is not the adapter of its card"),
    ):
        with pytest.raises(DamagedError, match=message):
            StoredAdapter(stored.directory, stored.card.model_copy(update=changes)).adapter()


def test_card_edited_by_hand_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a0001")
    path = tmp_path / "a0001" / CARD
    path.write_text(path.read_text().replace('"query"', '"gallery"'))
    with pytest.raises(DamagedError, match=r"card\.json was altered"):
        StoredAdapter.load(tmp_path / "a0001")


def test_newer_format_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a0001")
    path = tmp_path / "a0001" / CARD
    content = json.loads(path.read_text())
    content["card"]["format"] = 2
    path.write_text(json.dumps(content))
    with pytest.raises(DamagedError, match="has format 2 .*install a newer Evergallery"):
        StoredAdapter.load(tmp_path / "a0001")


@pytest.mark.parametrize("content", ["[]", '{"card": 3}', "{}"])
def test_what_is_no_card_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / CARD).write_text(content)
    with pytest.raises(DamagedError, match="is not an adapter's card"):
        StoredAdapter.load(tmp_path)


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(module, "write_card", fail)
    with pytest.raises(OSError, match="no space left"):
        write(tmp_path / "a0001")
    assert list(tmp_path.iterdir()) == []


def test_directories_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("a0002", "a10000", "a0010", adapter_directory_name(1), "v0001", "other", ".writing-x"):
        (tmp_path / name).mkdir()
    assert [path.name for path in adapter_directories(tmp_path)] == ["a0001", "a0002", "a0010", "a10000"]
