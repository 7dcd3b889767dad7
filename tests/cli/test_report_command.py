"""``evergallery report`` as a user meets it."""

from pathlib import Path

import numpy as np

from conftest import as_json, evergallery


def test_report_of_an_empty_workspace_says_how_to_begin(tmp_path: Path) -> None:
    evergallery("init", tmp_path / "shop")
    done = evergallery("report", "-w", tmp_path / "shop")
    assert "evergallery learn IMAGES" in done.stdout
    assert f"Report: {tmp_path / 'shop' / 'report.html'}" in done.stdout.replace("\n", "")
    assert (tmp_path / "shop" / "report.html").is_file()
    assert "v9 and --generation v8 are two generations" in evergallery(
        "report", "v9", "--generation", "v8", "-w", tmp_path / "shop", expect=2
    ).stderr.replace("\n", " ")  # fmt: skip
    assert "has no generation 'v9'" in evergallery("report", "v9", "-w", tmp_path / "shop", expect=3).stderr
    assert "has no generation 'v9'" in evergallery(
        "report", "--generation", "v9", "-w", tmp_path / "shop", expect=3
    ).stderr.replace("\n", " ")  # fmt: skip


def test_report_with_held_out_embeddings_goes_where_it_is_told(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    vectors, labels = draw.normal(size=(40, 8)).astype(np.float32), np.repeat(["cat", "dog"], 20)
    np.savez(tmp_path / "stored.npz", embeddings=vectors, ids=np.arange(40).astype(str), labels=labels)
    np.savez(tmp_path / "held-out.npz", v1=vectors + 0.1, labels=labels)
    evergallery("init", tmp_path / "shop")
    evergallery("import", tmp_path / "stored.npz", "-w", tmp_path / "shop")
    page = tmp_path / "new" / "page.html"
    found = as_json("report", "--data", tmp_path / "held-out.npz", "--out", page, "-w", tmp_path / "shop")
    assert found["report"] == str(page)
    assert "v1 answers queries; 1 generation in all." in found["findings"]
    assert page.read_text().count("--heat: 1") == 1
