"""The plan of the house: imports go down only, there is no circle, and docs/architecture.md names every module."""

import ast
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from evergallery.holdings.verb import Creation, Verb
from evergallery.methods import METHODS
from evergallery.workspace import Workspace

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "evergallery"
PLAN = ROOT / "docs" / "architecture.md"
FRONT_DOOR = "__init__"
METHOD_FILES = {Path(inspect.getfile(method)) for method in METHODS.values()}


def modules(source: Path = SOURCE) -> dict[str, Path]:
    """Every module by its dotted name."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        parts = (source.name, *path.relative_to(source).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(code: str, known: Iterable[str]) -> set[str]:
    """The modules among ``known`` that code imports anywhere: in functions and for types alone, too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {
                name if (name := f"{node.module}.{alias.name}") in known else str(node.module) for alias in node.names
            }
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Call):
            found |= _late(node)
    return {name for name in found if name in known}


def _late(call: ast.Call) -> set[str]:
    """What a call may load by names in strings: a module, or modules of the package that comes first."""
    texts = [
        node.value
        for argument in call.args
        for node in ast.walk(argument)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return {name for text in texts for name in (text, f"{texts[0]}.{text}") if "." in name}


@cache
def graph() -> dict[str, set[str]]:
    """By module, the modules that it imports."""
    known = modules()
    return {name: imported(path.read_text(), known) for name, path in known.items()}


def rooms() -> dict[str, str]:
    """The rooms of the plan from the ground up, each with what the plan says of it."""
    section = PLAN.read_text().split("## The rooms\n")[1].split("\n\n")[1]
    texts = re.split(r"^- ", section, flags=re.M)[1:]
    return {text.split("`")[1].removesuffix("/").removesuffix(".py"): text for text in texts}


def room_of(module: str) -> str:
    """The room of a module: the folder, or the module itself, below the package."""
    return module.split(".")[1] if "." in module else FRONT_DOOR


def folders(edges: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """By folder, the other folders of its room that its modules import; a room's front door is one by itself."""
    packages = {name for name, path in modules().items() if path.stem == FRONT_DOOR}

    def folder(module: str) -> str:
        return f"{module}/{FRONT_DOOR}" if module in packages else module.rpartition(".")[0]

    found: dict[str, set[str]] = {}
    for name, others in edges.items():
        inside = {folder(other) for other in others if room_of(other) == room_of(name)}
        found.setdefault(folder(name), set()).update(inside - {folder(name)})
    return found


def circles(edges: Mapping[str, set[str]]) -> Iterator[set[str]]:
    """The sets of modules that reach each other."""
    reached = {start: _reached(start, edges) for start in edges}
    seen: set[str] = set()
    for name in sorted(edges):
        circle = {other for other in reached[name] if name in reached[other]}
        if circle and name not in seen:
            seen |= circle
            yield circle | {name}


def _reached(start: str, edges: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    pending = list(edges[start])
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += edges[name]
    return found


def upward(edges: Mapping[str, set[str]], order: Iterable[str]) -> list[str]:
    """Imports of a module by one of a room below its own."""
    floor = {room: number for number, room in enumerate(order)}
    return [
        f"{name} imports {other}"
        for name, others in edges.items()
        for other in sorted(others)
        if floor[room_of(name)] < floor[room_of(other)]
    ]


def modules_of_engines() -> set[str]:
    """The modules in folders of engines that the docstring of their folder names, by their path in the room."""
    folders = {path.parent for path in SOURCE.glob("gallery/*/store.py")}
    texts = {folder: ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or "" for folder in folders}
    return {f"{folder.name}/{name}" for folder, text in texts.items() for name in re.findall(r"``(\w+\.py)``", text)}


def test_every_module_is_named_in_its_room() -> None:
    """Methods have rows in docs/methods/README.md instead, and the docstring of an engine's folder names its modules."""
    plan = rooms()
    plan["methods"] += " ".join(f"`{path.name}`" for path in METHOD_FILES)
    plan["gallery"] += " ".join(f"`{name}`" for name in modules_of_engines())
    missing = []
    for name, path in modules().items():
        place = path.relative_to(SOURCE)
        if len(place.parts) == 1 and place.stem not in plan:
            missing.append(str(place))
        elif len(place.parts) > 1 and place.stem != "__init__":
            inside = "/".join(place.parts[1:])
            if f"`{inside}`" not in plan.get(room_of(name), ""):
                missing.append(str(place))
    assert not missing, (
        f"docs/architecture.md does not name {', '.join(missing)}: add each to the row of its room, or a module of an engine to "
        f"the docstring of its folder"
    )


def test_the_plan_names_nothing_that_is_not_there() -> None:
    there = {room_of(name) for name in modules()}
    assert set(rooms()) == there
    files = {"/".join(path.relative_to(SOURCE).parts[1:]) for path in modules().values()}
    top = {path.name for path in SOURCE.glob("*.py")}
    named = {name for row in rooms().values() for name in re.findall(r"`([\w/]+\.py)`", row)} | modules_of_engines()
    assert named <= files | top, f"docs/architecture.md names {', '.join(sorted(named - files - top))}"


def test_no_import_goes_up() -> None:
    found = upward(graph(), rooms())
    assert not found, "a room imports those above it in the table of docs/architecture.md alone: " + "; ".join(found)


def test_no_circle() -> None:
    assert list(circles(graph())) == []


def test_no_circle_between_a_room_and_its_folders() -> None:
    found = folders(graph())
    assert {"evergallery.gallery.opening", "evergallery.gallery.edge"} <= found.keys()
    assert "evergallery.gallery.edge" in found["evergallery.gallery.opening"]
    assert list(circles(found)) == [], "what knows the folders of a room is above them, in a folder of its own"


def test_the_top_level_holds_no_more_than_the_ground_and_the_verbs() -> None:
    top = {path.stem for path in SOURCE.glob("*.py")}
    assert len(top) <= 8, f"{', '.join(sorted(top))}: put a module into the room of its act"


def test_no_file_is_over_500_lines() -> None:
    long = [name for name, path in modules().items() if len(path.read_text().splitlines()) > 500]
    assert not long, "one idea a module"


def lengths(code: str) -> list[tuple[str, int]]:
    """Every function and its lines, from its name to its end, with its docstring."""
    return [
        (node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_no_function_is_over_60_lines() -> None:
    assert lengths('@cache\ndef f(a,\n    b):\n    """Docs\n    of it."""\n    if a:\n        return a\n') == [("f", 6)]
    long = [
        f"{module}.{name}: {length}"
        for module, path in modules().items()
        for name, length in lengths(path.read_text())
        if length > 60
    ]
    assert not long, "take an act out of it, or let its docstring refer to the class that says the same"


FUNCTIONS_OF_TENSORS = {
    "evergallery.adapters.bilateral.__init__", "evergallery.adapters.mlp.fit_mlp",
    "evergallery.adapters.selection.select_adapter", "evergallery.data.augment.erase",
    "evergallery.data.sampling.mixed_batches", "evergallery.losses.boundary.elastic_boundary",
    "evergallery.losses.new_to_old.new_to_old_contrast",
    "evergallery.losses.new_to_old.new_to_old_triplet", "evergallery.memory.diffusion.diffused_class_means",
    "evergallery.memory.fidelity.fidelity", "evergallery.network.extraction.extract",
    "evergallery.network.extraction.outputs_of", "evergallery.retrieval.calibrating.calibrate",
    "evergallery.retrieval.knn._from_candidates", "evergallery.retrieval.metrics.evaluate",
    "evergallery.retrieval.query_drift.alarm_distance", "evergallery.retrieval.refresh_curve.refresh_curve",
    "evergallery.retrieval.relevance.evaluate_judged",
}  # fmt: skip
"""A parameter is a tensor or a value of a formula, by the name that the formula gives it."""
ENTRANCES = {
    "evergallery.benchmark.runner.run_benchmark", "evergallery.data.glyphs.generate",
    "evergallery.data.image_set.from_arrays", "evergallery.data.sources.load", "evergallery.demo.story.run_demo",
    "evergallery.gallery.store.search", "evergallery.training.trainer.__init__", "evergallery.training.trainer.train",
}  # fmt: skip
"""They are called from outside as verbs are, and what they are asked is an option each."""


def parameters(code: str) -> list[tuple[str, int]]:
    """Every function, and how many parameters it has beside itself."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            found.append((node.name, len(names) - (names[:1] in (["self"], ["cls"]))))
    return found


def test_the_inside_passes_on_what_belongs_together() -> None:
    """Commands, routes and verbs take what somebody types, an option each; the rest takes values with names."""
    assert parameters("class A:\n    def f(self, a, /, b, *rest, c=1, **more): ...") == [("f", 3)]
    verbs = {f"{verb.__module__}.{verb.__name__}" for name in vars(Workspace) if (verb := offered(name)) is not None}
    typed = ("evergallery.cli.", "evergallery.serving.routes.")
    many = {
        f"{module}.{name}"
        for module, path in modules().items()
        for name, count in parameters(path.read_text())
        if count > 5 and (name.startswith("_") or not module.startswith(typed))
    }
    left = FUNCTIONS_OF_TENSORS | ENTRANCES
    assert not many - verbs - left, "find the value that these parameters are"
    assert many >= left, "fewer are needed: take it off the list"


def offered(name: str) -> Any:
    """A verb of the workspace by its name; ``None`` for what is none."""
    return getattr(Workspace, name) if isinstance(vars(Workspace)[name], Verb | Creation) else None


def test_an_assertion_says_why_it_holds() -> None:
    """What somebody gives is refused with an error: an assertion is for what types cannot say, with its reason."""
    mute = [
        f"{module}:{node.lineno}"
        for module, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assert) and node.msg is None
    ]
    assert not mute, "say why it holds, or let a type say it"


def test_no_two_classes_share_a_name() -> None:
    """But for the schemas of answers over HTTP, which are called as what they show."""
    homes: dict[str, list[str]] = {}
    for module, path in modules().items():
        if not module.startswith("evergallery.serving.schemas"):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    homes.setdefault(node.name, []).append(module)
    assert not {name: shared for name, shared in homes.items() if len(shared) > 1}


@pytest.mark.parametrize(
    "code",
    [
        "import evergallery.cli.app",
        "from evergallery.cli import app",
        "from evergallery.cli.app import run",
        "if TYPE_CHECKING:\n    from evergallery.cli.app import run",
        "def late():\n    from evergallery.cli.app import run",
        'import_module("evergallery.cli.app")',
        "with late_imports():\n    from evergallery.cli import app",
        'late_names("evergallery.cli", {"app": ["run"]})',
    ],
)
def test_every_form_of_an_import_is_seen(code: str) -> None:
    known = {"evergallery.errors", "evergallery.cli.app"}
    edges = {"evergallery.errors": imported(code, known), "evergallery.cli.app": {"evergallery.errors"}}
    assert edges["evergallery.errors"] == {"evergallery.cli.app"}
    assert upward(edges, ["errors", "cli"]) == ["evergallery.errors imports evergallery.cli.app"]
    assert list(circles(edges)) == [known]
