"""Files of tensors, verified without torch."""

from pathlib import Path

import pytest
import torch

from evergallery.errors import DamagedError
from evergallery.files.tensor_files import stored_tensors_hash
from evergallery.files.tensors import hash_tensors, save_tensors

TENSORS = {
    "weights": torch.randn(3, 5, generator=torch.Generator().manual_seed(0)),
    "a.count": torch.tensor(7),
    "nothing": torch.empty(0, 4),
    "half": torch.ones(2, dtype=torch.float16),
    "brain": torch.ones(2, 2, dtype=torch.bfloat16),
    "exact": torch.arange(4, dtype=torch.float64),
    "flags": torch.tensor([True, False, True]),
    "bytes": torch.arange(9, dtype=torch.uint8),
    "turned": torch.arange(6, dtype=torch.int32).view(2, 3).T,
}


@pytest.mark.parametrize("names", [tuple(TENSORS), ("weights",), ()])
def test_the_hash_of_a_file_is_that_of_its_tensors(tmp_path: Path, names: tuple[str, ...]) -> None:
    tensors = {name: TENSORS[name] for name in names}
    save_tensors(tmp_path / "some.safetensors", tensors)
    assert stored_tensors_hash(tmp_path / "some.safetensors") == hash_tensors(tensors)


def test_tensors_of_other_names_values_shapes_and_types_have_another_hash(tmp_path: Path) -> None:
    rows = torch.zeros(2, 3)
    found = set()
    for tensors in (
        {"a": rows}, {"b": rows}, {"a": rows + 1}, {"a": rows.T.contiguous()}, {"a": rows.to(torch.int32)}
    ):  # fmt: skip
        save_tensors(tmp_path / "some.safetensors", tensors)
        found.add(stored_tensors_hash(tmp_path / "some.safetensors"))
    assert len(found) == 5


@pytest.mark.parametrize("content", [b"", b"short", b"\x08" + b"\0" * 7 + b"no json!", b"\x02" + b"\0" * 7 + b"[]"])
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "some.safetensors").write_bytes(content)
    with pytest.raises(DamagedError, match=r"some\.safetensors is not a safetensors file"):
        stored_tensors_hash(tmp_path / "some.safetensors")


def test_a_file_that_ends_too_early_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    save_tensors(path, TENSORS)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DamagedError, match="it ends too early"):
        stored_tensors_hash(path)
