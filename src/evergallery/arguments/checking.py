"""Arguments are compared with the types of their parameters, so that no function has to say what its annotations say."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from functools import cache, wraps
from inspect import Parameter, isclass, signature
from numbers import Real
from operator import index
from pathlib import Path, PurePath
from reprlib import Repr
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, SupportsIndex, TypeVar, Union, get_args, get_origin, get_type_hints

from evergallery.errors import InputError, one_of

P = ParamSpec("P")
R = TypeVar("R")

WORDS: dict[Any, tuple[str, str]] = {
    str: ("a string", "strings"),
    bytes: ("bytes", "bytes"),
    bool: ("True or False", "bools"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    Path: ("a path", "paths"),
    Mapping: ("a dictionary", "dictionaries"),
    Callable: ("a function", "functions"),
}
"""Words for what fits a type, and for several of it."""
SHORT = Repr()
SHORT.maxstring = SHORT.maxother = SHORT.maxlong = 80


class _MisfitError(Exception):
    """A value that does not fit a type, and its place in the argument, such as ``[2]``."""

    def __init__(self, value: object, hint: Any, place: str = "") -> None:
        super().__init__()
        self.value, self.hint, self.place = value, hint, place


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that compares its arguments with the types of its parameters before it begins.

    Numbers of NumPy become those of Python, and a string becomes a path where only a path is meant. A bool is no number, and how
    large one may be is for the function to say. An empty string is nobody's name, and as a path it would mean this directory.
    What has no type that can be told of a value, such as a protocol, takes anything.

    Raises:
        InputError: when it is called with a value of another type, or with none of the words of a ``Literal``.
    """
    parameters = signature(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = parameters.bind(*args, **kwargs)
        except TypeError:
            # Python says best which argument is missing, and which is none.
            return function(*args, **kwargs)
        hints = _hints_of(function)
        for name, value in bound.arguments.items():
            hint, kind = hints.get(name, Any), parameters.parameters[name].kind
            if kind is Parameter.VAR_POSITIONAL:
                bound.arguments[name] = tuple(_given(name, each, hint) for each in value)
            elif kind is not Parameter.VAR_KEYWORD:
                bound.arguments[name] = _given(name, value, hint)
        return function(*bound.args, **bound.kwargs)

    return call


def check_fields(instance: Any) -> None:
    """Compare the fields of a frozen dataclass with their types, as ``checked`` does, and keep them as these have them.

    Raises:
        InputError: one does not fit.
    """
    hints = _hints_of(instance.__class__)
    for field in fields(instance):
        # Filters are made by the thousand, and have most fields as they are by default.
        if (value := getattr(instance, field.name)) is not field.default:
            object.__setattr__(instance, field.name, _named(field.name, value, hints[field.name]))


def number_meant(value: Any, hint: Any) -> str | None:
    """Return which kind of number is meant where there is a bool, which Python counts among them; ``None`` where all is well."""
    if not isinstance(value, bool):
        return None
    kinds = _alternatives(hint)
    numbers = [kind for kind in kinds if kind in (int, float)]
    return _called(numbers[0]) if numbers and bool not in kinds else None


@cache
def _hints_of(annotated: Any) -> Mapping[str, Any]:
    return get_type_hints(annotated)


def _given(name: str, value: Any, hint: Any) -> Any:
    """An argument as its type has it; an empty one is a variable that nobody has set."""
    if isinstance(value, str) and not value:
        raise InputError(f"{name} = '' is not usable: it is empty; give a value, or leave it out.")
    return _named(name, value, hint)


def _named(name: str, value: Any, hint: Any) -> Any:
    """A value as its type has it, refused by its name."""
    try:
        return _fitted(value, hint)
    except _MisfitError as misfit:
        said = f"{name}{misfit.place} = {_shown(misfit.value)} is not usable: "
        kinds = [kind for kind in _alternatives(misfit.hint) if kind is not NoneType]
        words = [word for kind in kinds for word in get_args(kind) if get_origin(kind) is Literal]
        if words and all(get_origin(kind) is Literal for kind in kinds):
            raise InputError(said + one_of(str(misfit.value), words)) from None
        raise InputError(f"{said}it has to be {_listed(kinds)}{_remedy(misfit.value, kinds)}.") from None


def _fitted(value: Any, hint: Any) -> Any:
    """A value as a type has it.

    Raises:
        _MisfitError: it does not fit.
    """
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return _of_any(value, hint)
    if kind is Literal or kind in (str, bool, int, float):
        return _scalar(value, hint)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is Sequence or (kind is tuple and parts[1:] == (...,)):
        return _list(value, hint)
    if kind in (Any, tuple) or not isclass(kind) or getattr(kind, "_is_protocol", False):
        return value
    if not isinstance(value, kind):
        raise _MisfitError(value, hint)
    if isinstance(value, Mapping) and kind is Mapping:
        return {_inside(key, key, parts[0]): _inside(key, each, parts[1]) for key, each in value.items()}
    return _array(value, hint) if _is_array(hint) else value


def _of_any(value: Any, hint: Any) -> Any:
    """A value as one of several types has it; what is wrong inside it says more than that it is none of them."""
    deepest = _MisfitError(value, hint)
    for kind in get_args(hint):
        try:
            return _fitted(value, kind)
        except _MisfitError as misfit:
            if len(misfit.place) > len(deepest.place):
                deepest = misfit
    raise deepest


def _scalar(value: Any, hint: Any) -> Any:
    """A word or a number; one of NumPy, or of an array without dimensions, as Python has it."""
    plain = value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value
    if hint in (str, bool):
        fits, made = isinstance(plain, hint), plain
    elif hint is int:
        fits = isinstance(plain, SupportsIndex) and not isinstance(plain, bool)
        made = index(plain) if fits else None
    elif hint is float:
        fits = isinstance(plain, Real) and not isinstance(plain, bool)
        made = float(plain) if fits else None
    else:
        fits, made = isinstance(plain, str) and plain in get_args(hint), plain
    if not fits:
        raise _MisfitError(value, hint)
    return made


def _list(value: Any, hint: Any) -> Any:
    """Values of one type in their order: a list, a set, or an array of one dimension; a string is one value and no list."""
    if getattr(value, "ndim", None) == 1 and hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, Collection) or isinstance(value, str | bytes | Mapping) or hasattr(value, "shape"):
        raise _MisfitError(value, hint)
    return tuple(_inside(place, each, get_args(hint)[0]) for place, each in enumerate(value))


def _array(value: Any, hint: Any) -> Any:
    """An array of numbers as the numbers that are asked for."""
    (wanted,) = get_args(get_args(hint)[1])
    if value.dtype.kind not in "fiu":
        raise _MisfitError(value, hint)
    return value.astype(wanted, copy=False)


def _inside(key: object, value: Any, hint: Any) -> Any:
    """A value that another one holds under a key."""
    try:
        return _fitted(value, hint)
    except _MisfitError as misfit:
        raise _MisfitError(misfit.value, misfit.hint, f"[{SHORT.repr(key)}]{misfit.place}") from None


def _alternatives(hint: Any) -> list[Any]:
    """The types that a value may have."""
    return list(get_args(hint)) if get_origin(hint) in (Union, UnionType) else [hint]


def _listed(kinds: Sequence[Any]) -> str:
    """Return what fits one of some types, in words: a string names a path where there may be one."""
    words = [_called(kind) for kind in kinds if not (kind is str and Path in kinds)]
    if len(words) == 1:
        return words[0]
    words = ["a bool" if word == WORDS[bool][0] else word for word in words]
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _called(kind: Any, *, many: bool = False) -> str:
    """Return what fits a type, in words."""
    origin, parts = get_origin(kind) or kind, get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin in (Union, UnionType):
        return " or ".join(_called(part, many=many) for part in parts if not (part is str and Path in parts))
    if origin is Sequence or origin is tuple:
        return f"{'lists' if many else 'a list'} of {_called(parts[0], many=True)}"
    if _is_array(kind):
        return "arrays of numbers" if many else "an array of numbers"
    if origin in WORDS:
        return WORDS[origin][many]
    if many or origin.__name__.endswith("s"):
        return str(origin.__name__.removesuffix("s") + "s")
    return f"{'an' if origin.__name__[0] in 'AEIOU' else 'a'} {origin.__name__}"


def _remedy(value: Any, kinds: Sequence[Any]) -> str:
    """Return what was meant, where it can be told, as the sentence goes on."""
    classes = [kind for kind in kinds if isclass(kind)]
    meant = value if isclass(value) and issubclass(value, tuple(classes)) else None
    if isinstance(value, str):
        meant = next((kind for base in classes for kind in base.__subclasses__() if _name(kind) == value), None)
        if any(get_origin(kind) in (Sequence, tuple) and str in get_args(kind) for kind in kinds):
            return f": write [{SHORT.repr(value)}]"
    if meant is not None:
        return f": write {meant.__name__}()"
    if str in kinds and _name(value) is not None:
        return f": give its name, {_name(value)!r}"
    if hasattr(value, "numpy") and any(_is_array(kind) for kind in kinds):
        return ": give its .numpy()"
    if hasattr(value, "dtype") and any(kind.__name__ == "Tensor" for kind in classes):
        return ": write torch.from_numpy(...)"
    maker = next((kind for kind in classes if hasattr(kind, "from_arrays")), None)
    return f": make one with {maker.__name__}.from_arrays(...)" if maker and hasattr(value, "dtype") else ""


def _name(value: Any) -> str | None:
    """The name that something has in a workspace, such as that of a generation; that of a file is none."""
    name = getattr(value, "name", None)
    return name if isinstance(name, str) and not isinstance(value, PurePath) else None


def _is_array(kind: Any) -> bool:
    """Return whether a type is that of arrays of NumPy, which this module need not load."""
    return getattr(get_origin(kind), "__name__", "") == "ndarray"


def _shown(value: Any) -> str:
    """A value in a sentence, cut where it is long."""
    if getattr(value, "shape", ()) != () and hasattr(value, "dtype"):
        return f"{type(value).__name__} of shape {tuple(value.shape)} and type {value.dtype}"
    return SHORT.repr(value)
