"""Proposals for the Tab key: names that the workspace holds, and those of methods and networks. A completion never fails."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import typer

from evergallery.cli.choices import SearchWay, Way

Proposals = list[tuple[str, str]]
WAYS: dict[Way, str] = {
    "checked": "older vectors are searched as the last check has shown",
    "direct": "queries search older vectors as they are",
    "adapter": "queries are mapped into the older vectors' space",
    "dual": "the older model looks at the query too",
    "rescore": "older vectors find candidates, newer ones rank them",
}
BACKBONES = {
    "resnet8": "for small images, in half of the time", "resnet20": "for small images", "resnet32": "for small images",
    "resnet44": "for small images", "resnet56": "for small images",
    "tf_efficientnet_lite0": "published weights in the extra pretrained",
    "tf_efficientnet_lite1": "published weights in the extra pretrained",
}  # fmt: skip


def generations(context: typer.Context) -> Proposals:
    """The generations of the workspace that the line names, or of this directory."""
    return _read(context, _generations)


def adapters(context: typer.Context) -> Proposals:
    """The adapters of the same workspace."""
    return _read(context, _adapters)


def spaces(context: typer.Context) -> Proposals:
    """Return whose vectors can be searched, in the words of ``check --against``."""
    words = [("promoted", "the generation that answers"), ("all", "the whole lineage")]
    return [*generations(context), *adapters(context), *words]


def tokens(context: typer.Context) -> Proposals:
    """Names of the server's tokens."""
    return _read(context, _tokens)


def methods() -> list[str]:
    """Methods of learning."""
    from evergallery.methods import METHODS

    return list(METHODS)


def backbones() -> Proposals:
    """Networks that need no model hub; timm and torchvision have many more."""
    return list(BACKBONES.items())


def ways() -> Proposals:
    """Ways of answering."""
    return list(WAYS.items())


def search_ways() -> Proposals:
    """Ways of answering that store nothing."""
    return [(way, text) for way, text in WAYS.items() if way in get_args(SearchWay)]


def _read(context: typer.Context, names: Callable[[Path], Iterator[tuple[str, str]]]) -> Proposals:
    """Names in the workspace; none where there is no workspace, or it cannot be read."""
    place = context.params.get("workspace") or context.find_root().params.get("place") or Path()
    try:
        return list(names(Path(place)))
    except Exception:
        # Whatever were said here would land in the middle of the line that somebody types.
        return []


def _generations(place: Path) -> Iterator[tuple[str, str]]:
    from evergallery.workspace import Workspace

    space = Workspace(place)
    for generation in space.generations():
        answers = ", answers queries" if generation.card.name == space.holdings.state.promoted else ""
        yield generation.card.name, f"{generation.card.method.name}{answers}"


def _adapters(place: Path) -> Iterator[tuple[str, str]]:
    from evergallery.workspace import Workspace

    for adapter in Workspace(place).adapters():
        yield adapter.name, f"from {adapter.card.source.name} to {adapter.card.target.name}"


def _tokens(place: Path) -> Iterator[tuple[str, str]]:
    from evergallery.serving.tokens import Tokens

    for token in Tokens(place).all():
        yield token.name, token.scope
