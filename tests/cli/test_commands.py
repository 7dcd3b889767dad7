"""The command line as a user meets it: every verb, JSON, exit statuses, wrong input, Ctrl-C."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import as_json, coloured_images, evergallery
from evergallery import Workspace
from evergallery.data.image_set import ImageSet
from evergallery.holdings.notes import Problem
from forked import command, forked, said_by, until

QUICK = ["--epochs", "2", "--batch-size", "16", "--precision", "float32", "--padding", "1"]


def write_folder(images: ImageSet, folder: Path) -> Path:
    for index, (row, label) in enumerate(zip(images.rows, images.labels, strict=True)):
        path = folder / images.classes[label] / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images.pixels[row]).save(path)
    return folder


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Spring has classes 0–3, summer 4–7, held-out images of all; one file in spring is cut short."""
    folder = tmp_path_factory.mktemp("photos")
    write_folder(coloured_images(4, 12), folder / "spring")
    write_folder(coloured_images(4, 12, first=4, seed=1), folder / "summer")
    write_folder(coloured_images(8, 5, seed=2), folder / "held-out")
    whole = folder / "spring" / "class 0" / "000.png"
    (folder / "spring" / "class 0" / "broken.png").write_bytes(whole.read_bytes()[:60])
    return folder


@pytest.fixture(scope="module")
def shop(photos: Path) -> Path:
    """A workspace with v1, its gallery, and v2."""
    space = photos / "shop"
    evergallery("init", space, "--backbone", "resnet8", "--size", 16)
    evergallery("learn", photos / "spring", "-w", space, *QUICK, "--epochs", "5")
    evergallery("index", photos / "held-out", "-w", space)
    evergallery("learn", photos / "summer", "-w", space, *QUICK, "--learning-rate", "1e-5")
    return space


def test_learning_says_what_it_did_and_names_what_it_skipped(photos: Path, tmp_path: Path) -> None:
    evergallery("init", tmp_path / "shop", "--backbone", "resnet8", "--size", 16)
    shutil.copytree(photos / "spring", tmp_path / "spring")
    for number in range(11):
        (tmp_path / "spring" / "class 3" / f"empty {number:02}.png").touch()
    done = evergallery("learn", tmp_path / "spring", "-w", tmp_path / "shop", *QUICK)
    assert "v1: 4 new classes by finetune, 40 images" in done.stdout
    assert "12 images skipped" in done.stderr
    assert "broken.png" in done.stderr
    assert "empty 08.png" in done.stderr
    assert "empty 09.png" not in done.stderr
    assert "and 2 more" in done.stderr
    assert "epoch 2/2  classification" in done.stderr, "progress, with the terms by name"


def test_search_by_file_and_by_item(shop: Path, photos: Path) -> None:
    query = photos / "held-out" / "class 1" / "005.png"
    rows = as_json("search", query, "-w", shop, "-k", 4)
    assert len(rows) == 4
    assert rows[0]["uri"] == str(query), "the picture itself is in the gallery"
    assert rows[0]["score"] == pytest.approx(1, abs=1e-3)
    assert rows[0]["generation"] == "v1"
    others = as_json("search", "--item", rows[0]["id"], "-w", shop, "-k", 4)
    assert rows[0]["id"] not in [row["id"] for row in others]
    only = as_json("search", query, "-w", shop, "--label", "class 3")
    assert {row["label"] for row in only} == {"class 3"}
    assert "class 1" in evergallery("search", query, "-w", shop).stdout
    assert evergallery("search", query, "-w", shop, "--min-score", "1.5", expect=3).stderr.startswith("Nothing found")


def test_pairs_are_verified_alone_and_across_generations(shop: Path, photos: Path, tmp_path: Path) -> None:
    files = {label: sorted((photos / "held-out" / f"class {label}").iterdir()) for label in range(8)}
    pairs = [(files[label][0], files[(label + step) % 8][1], step == 0) for label in range(8) for step in (0, 1)]
    lines = [f"{first},{second},{int(same)},{index % 2}" for index, (first, second, same) in enumerate(pairs)]
    table = tmp_path / "pairs.csv"
    table.write_text("\n".join(["first,second,same,fold", *lines]) + "\n")
    found = as_json("verify", "v2", "--data", table, "--against", "v1", "-w", shop)
    tests = {(figure["queries"], figure["vectors"]): figure for figure in found["figures"]}
    assert set(tests) == {("v1", "v1"), ("v2", "v2"), ("v2", "v1")}
    assert all(0 <= test["accuracy"] <= 1 and 0 <= test["TAR@FAR 0"] <= 1 for test in tests.values())
    assert found["images"] == 16
    shown = evergallery("verify", "v1", "--data", table, "-w", shop).stdout
    assert "v1 in v1" in shown
    assert f"{100 * tests['v1', 'v1']['accuracy']:.2f}" in shown
    assert "choose one of lfw" in evergallery("verify", "v1", "--data", "flw", "-w", shop, expect=2).stderr


def test_generations_and_cards(shop: Path) -> None:
    listed = as_json("generations", "-w", shop)
    assert [card["name"] for card in listed["generations"]] == ["v1", "v2"]
    assert listed["promoted"] == "v1"
    assert as_json("generations", "v2", "-w", shop)["parent"] == "v1"
    assert "v1 (promoted)" in evergallery("generations", "-w", shop).stdout


def test_gallery_list_show_delete(shop: Path, photos: Path) -> None:
    extra = photos / "extra" / "class 0" / "x.png"
    extra.parent.mkdir(parents=True)
    Image.fromarray(np.full((16, 16, 3), 7, np.uint8)).save(extra)
    before = as_json("gallery", "-w", shop)["items"]
    assert as_json("index", extra.parents[1], "-w", shop)["added"] == 1
    listed = as_json("gallery", "list", "-w", shop, "--label", "class 0")
    identifier = next(item["id"] for item in listed if item["uri"] == str(extra))
    assert as_json("gallery", "show", identifier, "-w", shop)["label"] == "class 0"
    assert as_json("gallery", "delete", identifier, "-w", shop)["deleted"] == 1
    assert as_json("gallery", "-w", shop)["items"] == before
    assert "has no item" in evergallery("gallery", "show", identifier, "-w", shop, expect=3).stderr


def test_items_that_could_not_be_refreshed_are_listed(shop: Path) -> None:
    assert evergallery("gallery", "problems", "-w", shop).stdout == "No item has a problem.\n"
    with Workspace(shop) as space:
        space.holdings.notes.record([Problem("a" * 40, "failed", "a.png: truncated, at byte 7")])
    assert as_json("gallery", "problems", "-w", shop) == [
        {"item": "a" * 40, "kind": "failed", "reason": "a.png: truncated, at byte 7"}
    ]
    assert "a" * 40 in evergallery("gallery", "problems", "-w", shop).stdout
    assert '"a.png: truncated, at byte 7"' in evergallery("gallery", "problems", "-w", shop, "--csv").stdout
    with Workspace(shop) as space:
        space.holdings.notes.solved(["a" * 40])


def test_check_promote_search_rollback(shop: Path, photos: Path) -> None:
    query = photos / "held-out" / "class 1" / "005.png"
    refused = evergallery("search", query, "-w", shop, "--generation", "v2", expect=1).stderr
    assert "evergallery check v2 --against v1 --data HELD_OUT" in refused
    assert "v2 has not been checked" in evergallery("promote", "v2", "-w", shop, expect=1).stderr

    check = ("check", "v2", "--data", photos / "held-out", "-w", shop)
    table = evergallery(*check, expect=1).stdout
    assert "cross-test" in table
    assert "✗ queries: 40; required: at least 200" in table
    refused = evergallery("promote", "v2", "-w", shop, expect=1).stderr
    assert "The gate refuses v2. v1: NOT MET: queries: 40, required at least 200" in refused

    (shop / "gate.toml").write_text("queries = 40\nself_test = false\n")
    passed = as_json(*check, "--ks", "1,3", "--full-ranking")
    assert passed["passed"] is True
    assert set(passed["pairs"][0]["evidence"]["figures"]["cross"]) == {"old", "new", "all"}
    assert set(passed["pairs"][0]["evidence"]["figures"]["cross"]["all"]["recall"]) == {"1", "3", "5", "10"}
    assert {"mAP", "mINP"} <= set(passed["pairs"][0]["evidence"]["figures"]["cross"]["all"]["others"])
    assert "✓ queries against v1: 40; required: " in evergallery("promote", "v2", "-w", shop).stdout
    found = as_json("search", query, "-w", shop)
    assert len(found) == 10
    assert all(0 < result["probability"] < 1 for result in found)
    likely = [result for result in found if result["probability"] >= 0.5]
    assert as_json("search", query, "-w", shop, "--min-probability", 0.5, expect=0 if likely else 3) == likely
    assert evergallery("rollback", "-w", shop).stdout == "v1 answers queries again.\n"
    told = evergallery("log", "-w", shop).stdout
    assert [line.split("  ")[1] for line in told.splitlines() if not line.startswith(" ")][-4:] == [
        "promote refused",
        "check",
        "promote",
        "rollback",
    ]


def test_doctor(shop: Path) -> None:
    assert "All is well: 2 generations" in evergallery("doctor", "-w", shop).stdout
    path = shop / "generations" / "v0002" / "head.safetensors"
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-4])
        assert "head.safetensors is not the file" in as_json("doctor", "-w", shop, expect=6)["problems"][0]
    finally:
        path.write_bytes(content)


def test_tasks_by_number_and_classes_by_name(photos: Path, tmp_path: Path) -> None:
    evergallery("init", tmp_path / "shop", "--backbone", "resnet8", "--size", 16)
    data = photos / "held-out"
    card = as_json("learn", data, "-w", tmp_path / "shop", "--task", "2/4", *QUICK)
    assert card["classes"] == ["class 2", "class 3"]
    (tmp_path / "names.txt").write_text("class 5\nclass 6\n")
    card = as_json("learn", data, "-w", tmp_path / "shop", "--classes", f"@{tmp_path / 'names.txt'}", *QUICK)
    assert card["new_classes"] == ["class 5", "class 6"]


def test_hyper_parameters_and_another_space(shop: Path, photos: Path) -> None:
    card = as_json(
        "learn", photos / "summer", "-w", shop, *QUICK, "--parent", "v1", "--method", "dual-tuning", "--dim", 48,
        "--option", "prototype-weight=0.5", "--loss", "arcface",
    )  # fmt: skip
    assert card["method"]["parameters"]["prototype_weight"] == 0.5
    assert card["method"]["parameters"]["loss"] == "arcface"
    assert card["dimension"] == 48


def test_check_shows_virtual_features(shop: Path, photos: Path) -> None:
    arguments = ("check", "v2", "--data", photos / "held-out", "-w", shop, "--virtual")
    (shop / "gate.toml").write_text("queries = 1\n")
    found = as_json(*arguments)["virtual"]
    assert list(found) == ["v1"]
    assert "Earlier generations as v2 remembers them" in evergallery(*arguments).stdout


def test_benchmark_lists_its_protocols() -> None:
    assert "csd-cifar100" in evergallery("benchmark", "--list").stdout
    assert {"glyphs", "omniglot"} <= {entry["name"] for entry in as_json("benchmark", "--list")}


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["search", "none.png"], 2, "There is no image none.png"),
        (["search"], 2, "give exactly one"),
        (["learn", "nowhere"], 2, "nowhere"),
        (["learn", ".", "--method", "magic"], 2, "No method is called 'magic': choose one of finetune, joint, csd"),
        (["learn", ".", "--epochs", "0"], 2, "--epochs 0 is not usable"),
        (["learn", ".", "--device", "tpu"], 2, "--device 'tpu' is not usable"),
        (["learn", ".", "--task", "3/2"], 2, "--task '3/2' is not K/N"),
        (["learn", "digits", "--method", "joint"], 2, "name them with --old-data"),
        (["learn", "digits", "--method", "csd", "--dim", "32"], 2, "keep the dimension with --dim 64"),
        (["learn", ".", "--option", "weight=2"], 2, "name the method with --method"),
        (["learn", ".", "--method", "csd", "--option", "speed=2"], 2, "'csd' has no hyper-parameter 'speed': it has"),
        (
            ["learn", ".", "--method", "csd", "--option", "logit_weight=hot"],
            2,
            "logit_weight=hot is not usable for 'csd'",
        ),
        (["benchmark", "olympics"], 2, "No protocol is called 'olympics': choose one of glyphs"),
        (["check", "v9", "--data", "digits"], 3, "no generation 'v9'"),
        (["promote", "v9"], 3, "no generation 'v9'; there is v1, v2"),
        (["promote", "v2", "--force"], 2, "evergallery promote v2 --force --why REASON"),
        (["generations", "-w", "elsewhere"], 3, "elsewhere is not a workspace: create one with"),
        (["init", "."], 2, "exists and is not empty"),
        (["fly"], 2, "No such command 'fly'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_one_sentence(
    shop: Path, arguments: list[str], status: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop)  # Nobody knows what lies where the tests are run from.
    place = [] if arguments[0] in ("init", "fly", "benchmark") or "-w" in arguments else ["-w", str(shop)]
    done = evergallery(*arguments, *place, expect=status)
    text = " ".join(done.stderr.replace("│", " ").split())
    assert message in text
    assert done.stdout == ""


def test_ctrl_c_after_the_end_makes_no_failure() -> None:
    script = (
        "import atexit, os, signal, sys\n"
        "atexit.register(os.kill, os.getpid(), signal.SIGINT)\n"
        "from evergallery.cli import main\n"
        "sys.argv = ['evergallery', '--version']\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_says_that_nothing_is_lost(photos: Path, tmp_path: Path) -> None:
    evergallery("init", tmp_path / "shop", "--backbone", "resnet8", "--size", 16)
    said = tmp_path / "said"
    process = forked(said, command, "learn", photos / "spring", "-w", tmp_path / "shop", *QUICK, "--epochs", 5000)
    until(lambda: process.exitcode is not None or (said.exists() and "epoch 2/" in said.read_text()))
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    rest = said_by(process, said)
    assert process.exitcode == 130
    assert "stopped; nothing that was stored is lost" in rest
    assert "Traceback" not in rest
    evergallery("doctor", "-w", tmp_path / "shop")


def test_help_does_not_load_torch() -> None:
    script = (
        "import sys\nimport evergallery\nfrom evergallery.cli.app import app\n"
        "assert 'torch' not in sys.modules\nassert evergallery.__version__ == '0.1.0'"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert "learn" in evergallery("--help").stdout
    assert evergallery("--version").stdout == "0.1.0\n"
    shown = subprocess.run(
        [sys.executable, "-m", "evergallery", "--version"], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "0.1.0\n"


def test_exported_names() -> None:
    import evergallery as package

    assert sorted(package.__all__) == dir(package)
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing
