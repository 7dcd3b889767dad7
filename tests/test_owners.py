"""Whose files are, and who may read them, stays as it was whoever writes: root's command locks no service out."""

import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from conftest import evergallery
from evergallery.files import new_directory, new_file, write_json

SERVICE = 12345

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root writes into what is somebody else's")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("before", [0o600, 0o640, 0o664])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path, before: int) -> None:
    path = tmp_path / "state.json"
    write_json(path, 1)
    path.chmod(before)
    write_json(path, 2)
    assert mode(path) == before
    with new_file(path) as temporary:
        temporary.write_text("3")
    assert mode(path) == before


@pytest.mark.parametrize(("folder", "file"), [(0o700, 0o600), (0o750, 0o640), (0o775, 0o664)])
def test_what_is_new_is_as_open_as_its_directory(tmp_path: Path, folder: int, file: int) -> None:
    tmp_path.chmod(folder)
    write_json(tmp_path / "new.json", 1)
    write_json(tmp_path / "secret.json", 1, private=True)
    with new_directory(tmp_path / "generation") as made:
        write_json(made / "card.json", 1)
    with new_directory(tmp_path / "backup", private=True):
        pass
    names = ("new.json", "secret.json", "generation", "generation/card.json", "backup")
    assert [mode(tmp_path / name) for name in names] == [file, 0o600, folder, file, 0o700]


@as_root
def test_what_root_writes_into_a_workspace_is_its_owners(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    evergallery("init", shop)
    for path in (shop, *shop.rglob("*")):
        os.chown(path, SERVICE, SERVICE)
    vectors = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
    np.savez(tmp_path / "vectors.npz", ids=np.arange(30), embeddings=vectors)
    evergallery("import", tmp_path / "vectors.npz", "-w", shop)
    evergallery("gallery", "compact", "-w", shop)
    evergallery("gallery", "snapshot", shop / "backup", "-w", shop)
    shutil.rmtree(shop / "backup")
    others = [str(path.relative_to(shop)) for path in (shop, *shop.rglob("*")) if path.stat().st_uid != SERVICE]
    assert others == []
