"""Mistakes on the command line have one kind of answer; the workspace may be named in three places; pipes have a width."""

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from conftest import as_json, evergallery
from evergallery.adapters.card import Direction
from evergallery.adapters.kinds import ADAPTERS
from evergallery.benchmark.protocol import Budget
from evergallery.cli import choices
from evergallery.cli.app import VERBS, app
from evergallery.cli.arguments import choose_classes
from evergallery.cli.console import PlainWatcher, print_table
from evergallery.cli.owners import OWNERS
from evergallery.data.images import Fit, Interpolation
from evergallery.errors import InputError, did_you_mean
from evergallery.gallery.items import Precision
from evergallery.network import HeadKind
from evergallery.network.architecture import Neck
from evergallery.network.runtimes import RUNTIMES
from evergallery.serving.tokens import Scope
from evergallery.training.settings import TrainingPrecision
from evergallery.upgrade.orders import ORDERS
from evergallery.workspace import Workspace


def test_words_that_options_take_are_those_that_are_known() -> None:
    known = {
        choices.Head: get_args(HeadKind), choices.Neck: get_args(Neck), choices.Fit: get_args(Fit),
        choices.Interpolation: get_args(Interpolation), choices.Precision: get_args(Precision),
        choices.Direction: get_args(Direction), choices.Order: tuple(ORDERS), choices.Scope: get_args(Scope),
        choices.Budget: get_args(Budget), choices.AdapterKind: tuple(ADAPTERS),
        choices.TrainingPrecision: get_args(TrainingPrecision), choices.Runtime: ("auto", *RUNTIMES),
    }  # fmt: skip
    for literal, words in known.items():
        assert set(get_args(literal)) == set(words)


@pytest.mark.parametrize(
    ("arguments", "after"),
    [
        (["index", "", "-w", "shop"], "index"),
        (["gallery", "images-from", ""], "images-from"),
        (["status", "-w", ""], "-w"),
        (["check", "v2", "--data="], "--data"),
        (["report", "--out", "", "--quiet"], "--out"),
        (["gallery", "copy", "shop/gallery", ""], "shop/gallery"),
        ([""], "evergallery"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_an_empty_value_is_refused_and_does_not_mean_this_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], after: str
) -> None:
    (tmp_path / "class").mkdir()
    monkeypatch.chdir(tmp_path)
    done = evergallery(*arguments, expect=2)
    assert done.stderr.startswith(f"evergallery: The value after {after!r} is empty")
    assert [path.name for path in tmp_path.iterdir()] == ["class"]
    with Workspace.create(tmp_path / "shop", size=16) as shop:
        for call in (shop.learn, shop.allow_images):
            with pytest.raises(InputError, match="is not usable: it is empty; give a value"):
                call("")


def test_a_gallery_is_copied_to_a_place_of_its_own(tmp_path: Path) -> None:
    with Workspace.create(tmp_path / "shop", size=16):
        pass
    gallery, photos = tmp_path / "shop/gallery", tmp_path / "photos"
    gallery.mkdir(exist_ok=True)
    photos.mkdir()
    (photos / "a.png").touch()
    for target, says in (
        (gallery, "onto itself"),
        (f"{tmp_path}/shop/../shop/gallery/", "onto itself"),
        (photos, "holds something else"),
    ):
        assert says in evergallery("gallery", "copy", gallery, target, expect=2).stderr
    url = "postgresql://localhost:1/x"
    assert "onto itself" in evergallery("gallery", "copy", url, url, expect=2).stderr
    assert [path.name for path in photos.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            "serve --sample 0.1",
            "--sample belongs to a generation that answers beside the promoted one: name it with --shadow",
        ),
        (
            "serve --why tried --force",
            "--force and --why belong to a generation that answers some clients: name it with",
        ),
        ("serve --shadow v2 --share 0.5", "--share belongs to a generation that answers some clients"),
        ("refresh v2 --yes", "--yes belongs to --commit: give it with  evergallery refresh --commit --yes"),
        ("refresh --yes", "--yes belongs to --commit"),
        ("refresh --commit --fraction 1.0", "--fraction belongs to new vectors: name the generation that makes them"),
        ("refresh --discard --with a1 --rate 3", "--with and --rate belong to new vectors"),
        ("refresh v2 --with a1 --images x", "--images belongs to a refresh that looks at images"),
        ("plan v2 --with a1 --images x", "--images belongs to a refresh that looks at images"),
        ("register resnet18 --rate 3 --batch 2", "--batch and --rate belong to an endpoint: give its address, such as"),
        ("register m.onnx --no-pretrained", "--pretrained belongs to a model of timm or torchvision"),
        ("register a.b:c --seed 3", "--seed belongs to a model of timm or torchvision"),
        ("register https://x/y --seed 3", "--seed belongs to a model of timm or torchvision"),
        ("register resnet18 --seed 3", "--seed belongs to initial weights: give it with --no-pretrained"),
        ("learn x --class-order-seed 3", "--class-order-seed belongs to --task: give it with --task K/N"),
        ("check --candidates v2,v3 --data x --virtual", "--virtual belongs to the check of one generation"),
        ("report --queries q --gallery g", "--queries and --gallery belong to held-out images: name them with --data"),
        ("benchmark glyphs a b", "SETS belongs to a comparison: write  evergallery benchmark compare A B"),
        ("benchmark compare a b --seeds 3", "--seeds belongs to a protocol that is run"),
        ("benchmark --list --methods csd", "--methods belongs to a protocol that is run: name it"),
    ],
)
def test_an_option_without_what_it_belongs_to_is_refused_and_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = evergallery(*line.split(), expect=2)
    assert says in done.stderr
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert not any(tmp_path.iterdir()), "nothing was made"


def test_every_option_with_an_owner_is_one_of_its_verb() -> None:
    verbs = {name: verb for verbs in VERBS.values() for name, (verb, _) in verbs.items()}
    assert OWNERS.keys() <= verbs.keys()
    for name, owners in OWNERS.items():
        parameters = inspect.signature(verbs[name]).parameters
        for owner in owners:
            assert set(owner.options) <= parameters.keys(), owner.name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["init", "shop", "--head", "foo"], ["--head", "'foo'", "cosine"]),
        (["init", "shop", "--size", "0"], ["--size", "1"]),
        (["init", "shop", "--dim", "-3"], ["--dim", "2"]),
        (["init", "shop", "--dim", "many"], ["--dim"]),
        (["init", "shop", "--dim", "100000000"], ["--dim 100000000 is not usable: it has to be at most 65536."]),
        (["init", "shop", "--neck", "long"], ["--neck", "'long'"]),
        (["init", "shop", "--fit", "tight"], ["--fit", "'tight'"]),
        (["init", "shop", "--precision", "int7"], ["--precision", "'int7'"]),
        (["init"], ["directory"]),
        (["learn", "x", "--head", "foo"], ["--head", "'foo'", "cosine"]),
        (["learn", "x", "--neck", "long"], ["--neck", "'long'", "unit-linear"]),
        (["learn", "x", "--dim", "0"], ["--dim", "2"]),
        (["learn", "x", "--precision", "int8"], ["--precision", "'int8'", "bf16"]),
        (["benchmark", "glyphs", "--precision", "int8"], ["--precision", "'int8'", "bf16"]),
        (["benchmark", "glyphs", "--dim", "1"], ["--dim", "2"]),
        (["learn", "x", "--epochs", "many"], ["--epochs 'many' is not usable: it has to be a whole number. See"]),
        (["search", "x", "-k", "0"], ["-k 0 is not usable: it has to be at least 1. See"]),
        (
            ["check", "v2", "--data", "x", "--answer", "recore"],
            ["--answer 'recore' is not usable: it is one of checked, direct", "Did you mean 'rescore'? See"],
        ),
        (["promote", "v2", "--answer", "two"], ["--answer 'two' is not usable: it is one of checked, direct, adapter"]),
        (["search", "x", "--runtime", "onnx"], ["--runtime 'onnx' is not usable: it is one of auto, torch"]),
        (["serve", "--shadow-answer", "rescore"], ["--shadow-answer 'rescore' is not usable", "adapter, dual. See"]),
        (["serve", "--canary-answer", "rescore"], ["--canary-answer 'rescore' is not usable", "adapter, dual. See"]),
        (["init", "/proc/shop"], ["/proc/shop cannot be written"]),
        (["init", "/dev/null/shop"], ["/dev/null/shop cannot be written"]),
        (["benchmark", "compare", "a", "b"], ["a holds no results"]),
        (["benchmark", "glyphs", "--ks", "²"], ["--ks '²' is not usable: name ranks"]),
        (["check", "v2", "--data", "x", "--ks", "1,0"], ["--ks '1,0' is not usable: name ranks"]),
        (["serve", "--proxy", "nginx"], ["--proxy 'nginx' is not usable: give the IP address of the proxy, or its net"]),
        (["serve", "--rate", "inf"], ["--rate 'inf' is not usable: it has to be at most"]),
        (["serve", "--upload-megabytes", "inf"], ["--upload-megabytes 'inf' is not usable: it has to be at most"]),
        (["check", "v2", "--data", "x", "--price-per-hour", "nan"], ["'nan' is not usable: it has to be a number. See"]),
        (["check", "v2", "--data", "x", "--price-per-hour", "inf"], ["--price-per-hour 'inf' is not usable"]),
        (["demo", "--seed", "-1"], ["--seed -1 is not usable: it has to be at least 0. See"]),
        (["register", "resnet18", "--no-pretrained", "--seed", "-1"], ["--seed -1 is not usable: it has to be at"]),
        (["learn", "x", "--task", "1/2", "--class-order-seed", "-1"], ["--class-order-seed -1 is not usable"]),
        (["doctor", "--embed", str(2**63)], ["--embed 9223372036854775808 is not usable: it has to be at most"]),
        (["log", "--limit", str(2**63)], ["--limit 9223372036854775808 is not usable: it has to be at most"]),
        (["log", "--limit", "0"], ["--limit 0 is not usable: it has to be at least 1. See"]),
        (["benchmark", "glyphs", "--weights", "no.pt"], ["no.pt"]),
        (["refresh", "v2", "--order", "newest"], ["--order", "'newest'", "oldest"]),
        (["refresh", "v2", "--fraction", "half"], ["--fraction"]),
        (["adapt", "v2", "v1", "--pairs", "x", "--kind", "bent"], ["--kind", "'bent'"]),
        (["register", "resnet18", "--interpolation", "none"], ["--interpolation", "'none'"]),
        (["token", "create", "--name", "me", "--scope", "root"], ["--scope", "'root'", "admin"]),
        (["benchmark", "glyphs", "--budget", "huge"], ["--budget", "'huge'"]),
        (["search", "x.png", "-k", "0"], ["-k"]),
        (["lern"], ["'lern'", "'learn'"]),
        (["promote", "v2", "--answer", "recsore"], ["'recsore'", "'rescore'"]),
        (["gallery", "lst"], ["'lst'", "'list'"]),
        (["status", "--jsn"], ["--jsn", "--json"]),
        (["init", "shop", "--backbone", "resnet2O"], ["'resnet2O'", "'resnet20'"]),
        (["init", "shop", "--backbone", "efficientnet_light0"], ["efficientnet_lite0"]),
    ],
    ids=lambda value: " ".join(value),
)  # fmt: skip
def test_a_mistake_is_one_line_with_the_way_out_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = evergallery(*arguments, expect=2)
    assert done.stdout == ""
    assert done.stderr.startswith("evergallery: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr
    assert not any(tmp_path.iterdir()), "nothing was made"


def test_names_of_classes_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes("tulip\n\n rosé \n".encode())
    (tmp_path / "latin.txt").write_bytes("rosé\n".encode("latin-1"))
    assert choose_classes(f"@{tmp_path / 'names.txt'}", None, None) == ("tulip", "rosé")
    with pytest.raises(InputError, match=r"--classes .*latin.txt cannot be read as UTF-8 text"):
        choose_classes(f"@{tmp_path / 'latin.txt'}", None, None)
    for task in ("²/³", "2/1", "0/1", "1"):
        with pytest.raises(InputError, match="is not K/N"):
            choose_classes(None, task, None)
    with pytest.raises(InputError, match="--classes ',' names no class"):
        choose_classes(",", None, None)


def test_near_names() -> None:
    assert did_you_mean("Evergren", ["evergreen", "csd"]) == " Did you mean 'evergreen'?"
    assert did_you_mean("xyz", ["evergreen", "csd"]) == ""


def test_init_in_a_folder_of_pictures_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "roses").mkdir(parents=True)
    (tmp_path / "photos" / "roses" / "a.JPG").write_bytes(b"")
    told = evergallery("init", "photos", expect=2).stderr
    assert "photos holds pictures" in told
    assert "  evergallery init shop  " in told
    assert "  evergallery index photos -w shop\n" in told
    monkeypatch.chdir(tmp_path / "photos")
    assert "  evergallery init ../shop  " in evergallery("init", ".", expect=2).stderr
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("")
    assert "is not empty" in evergallery("init", "other", expect=2).stderr


def test_the_workspace_is_named_after_the_verb_or_before_it_or_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two", "three"):
        evergallery("init", name, "--backbone", "resnet20")
        (Path(name) / "generations" / "note").write_text(name)
    where = ("gallery", "images-from")
    for name in ("one", "two", "three"):
        evergallery(*where, tmp_path / name, "-w", name)

    def asked(*arguments: str) -> str:
        return Path(as_json(*arguments)["images_from"][0]).name

    assert asked("-w", "one", *where) == "one"
    assert asked("--workspace", "one", *where) == "one"
    assert asked("-w", "one", *where, "-w", "two") == "two"
    monkeypatch.setenv("EVERGALLERY_WORKSPACE", "three")
    assert asked(*where) == "three"
    assert asked("-w", "one", *where) == "one"
    assert asked(*where, "-w", "two") == "two"
    assert "-w two" in evergallery("-w", "two", "generations").stdout


def test_quiet_shows_results_and_no_progress(tmp_path: Path) -> None:
    table = tmp_path / "vectors.npz"
    import numpy as np

    np.savez(table, embeddings=np.eye(8, dtype=np.float32), ids=[f"item {row}" for row in range(8)])
    for number, arguments in enumerate(
        (("import", table, "--quiet"), ("import", table, "-q"), ("-q", "import", table))
    ):
        evergallery("init", tmp_path / f"shop {number}")
        done = evergallery(*arguments, "-w", tmp_path / f"shop {number}")
        assert "8 added" in done.stdout
        assert done.stderr == ""
    evergallery("init", tmp_path / "loud")
    assert "8/8" in evergallery("import", table, "-w", tmp_path / "loud").stderr


@pytest.mark.parametrize(("columns", "widest"), [("60", 60), ("", 160)])
def test_a_table_in_a_pipe_is_as_wide_as_columns_says(columns: str, widest: int) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "evergallery", "benchmark", "--list"],
        env={**os.environ, "COLUMNS": columns}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert max(map(len, shown.splitlines())) <= widest
    assert (max(map(len, shown.splitlines())) > 100) == (widest == 160)


def test_the_end_of_an_activity_is_said_once_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    watcher = PlainWatcher()
    for done in (10, 10, 10, 4, 10, 10):
        watcher.counted("copying", done, 10)
    assert capsys.readouterr().err.splitlines().count("copying: 10/10") == 2


@pytest.mark.parametrize("columns", [24, 40, 60, 100])
def test_no_word_of_a_table_is_broken_where_columns_are_few(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    rows = [("v1 (promoted)", "registered", "", "1,265", "82.1"), ("v2", "evergreen", "v1", "", "85.4")]
    print_table("Generations", ("", "method", "parent", "items", "validation\nrecall@1"), rows, numbers_from=3)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= columns
    for word in ("(promoted)", "registered", "evergreen", "parent", "1,265", "validation", "recall@1", "85.4"):
        assert word in shown, word


def test_every_verb_of_a_workspace_is_a_command_or_for_python_alone() -> None:
    for_python = {"extract", "embed", "read", "add", "judge", "adapter", "close"}
    for_the_page = {"ways"}
    public = [name for name in vars(Workspace) if not name.startswith("_")]
    verbs = {name for name in public if inspect.isfunction(getattr(Workspace, name))}
    code = "".join(path.read_text() for path in Path(choices.__file__).parent.glob("*.py"))
    assert {name for name in verbs if f".{name}(" not in code} == for_python | for_the_page


def test_what_a_test_starts_has_no_width_of_a_terminal() -> None:
    code = "import os; print(os.environ.get('COLUMNS'), os.environ.get('LINES'))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "None None\n"
    )


def test_every_verb_is_in_a_group_and_has_an_example_and_every_option_a_text() -> None:
    def verbs(group: Any, path: str = "") -> list[tuple[str, Any]]:
        found: list[Any] = []
        for name, command in group.commands.items():
            found += verbs(command, f"{name} ") if hasattr(command, "commands") else [(path + name, command)]
        return found

    root: Any = typer.main.get_command(app)
    for command in root.commands.values():
        assert command.rich_help_panel
    for name, verb in verbs(root):
        assert verb.help, name
        assert (verb.epilog or "").startswith(f"Example:  evergallery {name}"), name
        for parameter in verb.params:
            if name != "learn":
                assert getattr(parameter, "help", None), f"{name} {parameter.name}"


def test_a_fault_of_its_own_has_a_traceback_and_a_status_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from evergallery import Workspace

    evergallery("init", tmp_path / "shop")

    def broken(_: object) -> None:
        raise ZeroDivisionError("nobody thought of it")

    monkeypatch.setattr(Workspace, "status", broken)
    told = evergallery("status", "-w", tmp_path / "shop", expect=70).stderr
    assert "ZeroDivisionError: nobody thought of it" in told
    assert told.splitlines()[-1].startswith("evergallery: this is a fault of Evergallery's own")


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("EVERGALLERY_LARGEST_IMAGE", "huge", "it has to be a whole number. See"),
        ("EVERGALLERY_SERVER", "maybe", "it has to be true or false. See"),
        ("EVERGALLERY_RUNTIME", "onnx", "it is one of auto, torch, torch.compile, onnxruntime, openvino. See"),
    ],
)
def test_a_value_of_the_environment_is_refused_by_the_name_of_its_variable(
    variable: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    told = evergallery("search", "query.jpg", expect=2).stderr
    assert told.startswith(f"evergallery: {variable} '{value}' is not usable: {says}")


@pytest.mark.parametrize("typed", [("adapt", "v2", "v1"), ("diff", "v1"), ("verify", "v1"), ("gallery", "delete")])
def test_what_is_missing_is_said_with_a_whole_line_to_copy(typed: tuple[str, ...]) -> None:
    told = evergallery(*typed, expect=2).stderr
    assert told.startswith("evergallery: Missing ")
    verb = " ".join(typed[:2] if typed[0] == "gallery" else typed[:1])
    assert f"Example:  evergallery {verb} " in told
    assert f"see  evergallery {verb} --help" in told
