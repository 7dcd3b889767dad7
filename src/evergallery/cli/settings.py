"""The settings of a training run as options: one for each field of ``Settings``."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, get_origin, get_type_hints

import typer

from evergallery.training.settings import Settings


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """A command that takes ``settings``, with an option for every field in the place of that argument.

    It gets those that were given, by name; what is left out follows from what learns.
    """
    hints = get_type_hints(Settings)
    options = {name: _option(name, hints[name]) for name in Settings.model_fields}

    @wraps(command)
    def run(**given: Any) -> None:
        named = {name: given.pop(name) for name in options}
        command(**given, settings={name: value for name, value in named.items() if value not in (None, [])})

    plain = inspect.signature(command, eval_str=True)
    parameters = [parameter for parameter in plain.parameters.values() if parameter.name != "settings"]
    # A signature's options may stand in any order, since all are named.
    run.__signature__ = plain.replace(parameters=[*parameters, *options.values()])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*parameters, *options.values()]}
    return run


def _option(name: str, kind: Any) -> inspect.Parameter:
    field = Settings.model_fields[name]
    extra = field.json_schema_extra
    group = str(extra["group"]) if isinstance(extra, dict) else None
    if get_origin(kind) is tuple:
        kind = list[float]  # Given once for each.
    option = typer.Option(help=field.description, rich_help_panel=group)
    return inspect.Parameter(
        name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=Annotated[kind | None, option]
    )
