"""``register``, ``import`` and ``export`` as a user meets them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import as_json, evergallery

TINY = "test_resnet.r160_in1k"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    evergallery("init", tmp_path / "shop", "--backbone", "resnet8", "--size", 16)
    return tmp_path / "shop"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three good vectors, none of unit length, and a bad one."""
    rows = np.array([[3, 4], [0, 2], [np.nan, 1], [-5, 0]], dtype=np.float32)
    np.savez(tmp_path / "v.npz", embeddings=rows, ids=np.array(list("abcd")))
    return tmp_path / "v.npz"


def test_import_and_export(shop: Path, table: Path, tmp_path: Path) -> None:
    refused = evergallery("import", table, "-w", shop, expect=2).stderr
    assert "row 2 (id 'c') has a vector with NaN or infinity" in refused
    done = evergallery("import", table, "-w", shop, "--skip-bad")
    assert "3 added, 0 replaced, 0 unchanged, as vectors of v1, a new generation without a model" in done.stdout
    assert "3 vectors were not of unit length and are now" in done.stdout
    assert "1 row skipped" in done.stderr
    again = as_json("import", table, "-w", shop, "--skip-bad")
    assert (again["generation"], again["is_new"], again["unchanged"]) == ("v1", False, 3)
    assert again["skipped"] == [{"uri": "row 2 (id 'c')", "reason": "has a vector with NaN or infinity"}]

    assert "vectors of v1 written to" in evergallery("export", tmp_path / "out.parquet", "-w", shop).stdout
    exported = as_json("export", tmp_path / "out.npy", "-w", shop)
    assert exported["files"] == [str(tmp_path / "out.npy"), str(tmp_path / "out.ids.txt")]
    plain = evergallery("export", tmp_path / "out.npy", "-w", shop).stdout
    assert "labels, addresses and metadata are left out" in plain
    evergallery("init", tmp_path / "other")
    arguments = ("import", tmp_path / "out.npy", "--ids", tmp_path / "out.ids.txt", "-w", tmp_path / "other")
    assert as_json(*arguments)["added"] == 3
    assert [entry["id"] for entry in as_json("search", "--item", "a", "-w", tmp_path / "other")] == ["b", "d"]
    shown = evergallery("search", "--item", "a", "-w", tmp_path / "other").stdout.splitlines()
    assert [line.split()[-1] for line in shown if line.split()[:1] in (["1"], ["2"])] == ["b", "d"], (
        "no address: the id"
    )
    assert "All is well: 1 generation, 3 items." in evergallery("doctor", "-w", tmp_path / "other").stdout

    assert "import" in evergallery("generations", "-w", shop).stdout
    assert as_json("generations", "v1", "-w", shop)["kind"] == "vectors"
    Image.new("RGB", (8, 8)).save(tmp_path / "query.png")
    assert "v1 has vectors only" in evergallery("search", tmp_path / "query.png", "-w", shop, expect=2).stderr


def test_register(shop: Path) -> None:
    arguments = ("register", TINY, "--no-pretrained", "--size", 32, "--mean", "0.1,0.2,0.3", "-w", shop)
    assert "v1: test_resnet.r160_in1k" in evergallery(*arguments).stdout
    card = as_json(*arguments)
    assert (card["name"], card["kind"], card["preprocessing"]["mean"]) == ("v1", "model", [0.1, 0.2, 0.3])
    assert "register" in evergallery("generations", "-w", shop).stdout


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["register", "no_such_model", "--no-pretrained"], 2, "No backbone is called 'no_such_model'"),
        (["register", "none.onnx"], 2, "There is no file none.onnx"),
        (["register", "no_such_module:embed"], 2, "cannot be imported"),
        (["register", TINY, "--no-pretrained", "--mean", "grey"], 2, "--mean 'grey' is not three numbers"),
        (["register", TINY, "--no-pretrained", "--std", "1,1"], 2, "it must be three positive numbers"),
        (["import", "none.npz"], 2, "There is no file none.npz"),
        (["import", "table.csv"], 2, "is no table of vectors"),
        (["export", "out.npz"], 3, "there is nothing to export"),
        (["export", "out.npz", "--generation", "v9"], 3, "no generation 'v9'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_one_sentence(shop: Path, arguments: list[str], status: int, message: str) -> None:
    done = evergallery(*arguments, "-w", shop, expect=status)
    assert message in " ".join(done.stderr.split())
    assert done.stdout == ""
