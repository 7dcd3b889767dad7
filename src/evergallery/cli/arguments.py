"""From words on the command line to what the workspace takes."""

from collections.abc import Sequence
from pathlib import Path

from evergallery.cli.common import class_names
from evergallery.data.tasks import ClassChoice, ClassGroup
from evergallery.errors import InputError, require_known
from evergallery.methods import METHODS, Method


def choose_method(name: str | None, options: Sequence[str] = ()) -> Method | None:
    """The method of this name with hyper-parameters ``NAME=VALUE``; ``None`` leaves the choice to the workspace."""
    if name is None:
        if options:
            raise InputError("--option and --loss set hyper-parameters of a method: name the method with --method.")
        return None
    require_known("method", name, METHODS)
    given = {key.replace("-", "_"): value for key, _, value in (option.partition("=") for option in options)}
    return METHODS[name].with_options(given)


def choose_classes(classes: str | None, task: str | None, seed: int | None) -> ClassChoice | None:
    """The classes of ``--classes A,B`` or ``--classes @FILE`` or ``--task K/N``; ``None`` for all.

    Args:
        classes: names, or a file of them.
        task: one of several parts of all classes.
        seed: of the order in which classes come to the parts.
    """
    if classes is not None and task is not None:
        raise InputError("--classes and --task both choose classes: give one of them.")
    if classes is not None:
        path = Path(classes[1:]) if classes.startswith("@") else None
        if path is not None and not path.is_file():
            raise InputError(f"There is no file {path} with the names of classes.")
        return class_names("--classes", classes, path)
    if task is None:
        return None
    number, _, groups = task.partition("/")
    if not (number.isdecimal() and groups.isdecimal() and 1 <= int(number) <= int(groups)):
        raise InputError(f"--task {task!r} is not K/N with 1 ≤ K ≤ N, such as 1/2 for the first half of the classes.")
    return ClassGroup(int(number), int(groups), seed)
