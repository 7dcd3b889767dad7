"""The reference of the Python API shows every verb, as the site's builder reads the sources."""

from pathlib import Path

import griffe

from evergallery.holdings.verb import Creation, Verb
from evergallery.workspace import Workspace

ROOT = Path(__file__).parents[1]


def test_every_verb_stands_in_the_reference_with_its_docstring() -> None:
    extensions = griffe.load_extensions(f"{ROOT / 'docs' / 'verbs.py'}:Verbs")
    package = griffe.load("evergallery", search_paths=[ROOT / "src"], extensions=extensions, allow_inspection=False)
    listed = package["workspace.Workspace"].members
    verbs = {name for name, verb in vars(Workspace).items() if isinstance(verb, Verb | Creation)}
    assert verbs
    for name in verbs:
        shown, verb = listed[name], getattr(Workspace, name)
        assert isinstance(shown, griffe.Function), name
        assert shown.docstring is not None
        assert shown.docstring.value.split("\n")[0] == verb.__doc__.split("\n")[0]
        assert "holdings" not in [parameter.name for parameter in shown.parameters], name
