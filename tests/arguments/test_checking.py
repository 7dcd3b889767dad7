"""Arguments beside the types of their parameters."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evergallery.arguments.checking import check_fields, checked
from evergallery.errors import InputError


class Way:
    """What a call is made by."""

    name = "way"


class Straight(Way):
    name = "straight"


@dataclass
class Named:
    name: str


class Raster:
    @classmethod
    def from_arrays(cls) -> "Raster":
        return cls()


@checked
def called(
    text: str = "a",
    *,
    path: str | Path = ".",
    folder: Path | None = None,
    count: int = 1,
    share: float | None = None,
    really: bool = False,
    word: Literal["one", "two"] | None = None,
    names: Sequence[str] = (),
    way: Way | None = None,
    settings: Way | Mapping[str, Any] | None = None,
    vector: bytes | NDArray[np.float32] | Mapping[str, NDArray[np.float32]] | None = None,
    data: str | Path | Raster = "x",
    call: Callable[..., Any] | None = None,
    value: str | int | float | bool | None = None,
    untold: object = None,
) -> dict[str, Any]:
    """Return what it was given."""
    return dict(locals())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"text": None}, "text = None is not usable: it has to be a string."),
        ({"text": ""}, "text = '' is not usable: it is empty; give a value, or leave it out."),
        ({"text": Named("v2")}, r"text = Named\(name='v2'\) is not usable: it has to be a string: give its name, 'v2'."),
        ({"text": Path("v2")}, r"text = PosixPath\('v2'\) is not usable: it has to be a string\.$"),
        ({"path": ["a"]}, r"path = \['a'\] is not usable: it has to be a path."),
        ({"path": ""}, "path = '' is not usable: it is empty"),
        ({"path": b"a"}, "path = b'a' is not usable: it has to be a path."),
        ({"folder": 3}, "folder = 3 is not usable: it has to be a path."),
        ({"count": True}, "count = True is not usable: it has to be a whole number."),
        ({"count": 2.0}, "count = 2.0 is not usable: it has to be a whole number."),
        ({"count": "2"}, "count = '2' is not usable: it has to be a whole number."),
        ({"count": np.float32(2)}, "it has to be a whole number."),
        ({"count": None}, "count = None is not usable"),
        ({"share": "0.5"}, "share = '0.5' is not usable: it has to be a number."),
        ({"share": False}, "share = False is not usable: it has to be a number."),
        ({"really": "false"}, "really = 'false' is not usable: it has to be True or False."),
        ({"really": 1}, "really = 1 is not usable: it has to be True or False."),
        ({"word": "tow"}, "word = 'tow' is not usable: it is one of one, two. Did you mean 'two'?"),
        ({"word": 2}, "word = 2 is not usable: it is one of one, two."),
        ({"names": "a"}, r"names = 'a' is not usable: it has to be a list of strings: write \['a'\]."),
        ({"names": ["a", 3]}, r"names\[1\] = 3 is not usable: it has to be a string."),
        ({"names": {"a": 1}}, "it has to be a list of strings."),
        ({"names": np.array([["a"]])}, r"names = ndarray of shape \(1, 1\) and type <U1 is not usable"),
        ({"way": Straight}, r"it has to be a Way: write Straight\(\)."),
        ({"way": "straight"}, r"way = 'straight' is not usable: it has to be a Way: write Straight\(\)."),
        ({"way": "stairs"}, r"way = 'stairs' is not usable: it has to be a Way\.$"),
        ({"settings": {3: 4}}, r"settings\[3\] = 3 is not usable: it has to be a string."),
        ({"settings": 3}, "settings = 3 is not usable: it has to be a Way or a dictionary."),
        ({"vector": torch.ones(3)}, r"Tensor of shape \(3,\) and type torch.float32 .* dictionary: give its .numpy\(\)."),
        ({"vector": [0.5, 0.5]}, r"vector = \[0.5, 0.5\] is not usable: it has to be bytes, an array of numbers or a dict"),
        ({"vector": np.array(["a"])}, "it has to be bytes, an array of numbers or a dictionary."),
        ({"vector": np.ones(3, complex)}, "it has to be bytes, an array of numbers or a dictionary."),
        ({"vector": {"v1": [1.0]}}, r"vector\['v1'\] = \[1.0\] is not usable: it has to be an array of numbers."),
        ({"data": np.ones((2, 3))}, r"it has to be a path or a Raster: make one with Raster.from_arrays\(...\)."),
        ({"call": "print"}, "call = 'print' is not usable: it has to be a function."),
        ({"value": [1]}, "it has to be a string, a whole number, a number or a bool."),
    ],
)  # fmt: skip
def test_what_is_of_another_type_is_refused_by_its_name(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        called(**given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "becomes"),
    [
        ("text", np.str_("v1"), "v1"),
        ("folder", "sets", Path("sets")),
        ("folder", None, None),
        ("count", np.int64(3), 3),
        ("count", torch.tensor(3), 3),
        ("share", 1, 1.0),
        ("share", np.float32(0.5), 0.5),
        ("really", np.True_, True),
        ("names", ["a", "b"], ("a", "b")),
        ("names", np.array(["a", "b"]), ("a", "b")),
        ("names", {"a": 1}.keys(), ("a",)),
        ("value", True, True),
        ("value", 3, 3),
        ("value", 0.5, 0.5),
        ("untold", [1], [1]),
    ],
)
def test_what_says_the_same_in_another_type_is_taken(name: str, value: object, becomes: object) -> None:
    got = called(**{name: value})[name]  # type: ignore[arg-type]
    assert got == becomes
    assert type(got) is type(becomes)


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.int64])
def test_a_vector_of_other_numbers_is_taken_as_float32(kind: type) -> None:
    got = called(vector=np.eye(3, dtype=kind)[0])["vector"]
    assert (got.dtype, got.tolist()) == (np.float32, [1, 0, 0])


def test_a_value_in_a_sentence_is_short() -> None:
    with pytest.raises(InputError) as caught:
        called(count="9" * 5000)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 200


def test_python_says_what_is_missing_or_too_much() -> None:
    @checked
    def needs(name: str) -> str:
        return name

    with pytest.raises(TypeError, match=r"needs\(\) missing 1 required positional argument: 'name'"):
        needs()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"needs\(\) got an unexpected keyword argument 'nam'"):
        needs(nam="x")  # type: ignore[call-arg]


def test_each_of_many_values_is_looked_at() -> None:
    @checked
    def places(*found: str | Path, **more: int) -> tuple[object, ...]:
        return found

    assert places("a", Path("b"), other=3) == ("a", Path("b"))
    with pytest.raises(InputError, match="found = 3 is not usable: it has to be a path."):
        places("a", 3)  # type: ignore[arg-type]


def test_fields_are_kept_as_their_types_have_them() -> None:
    @dataclass(frozen=True)
    class Fields:
        names: tuple[str, ...] | None = None
        sides: tuple[int, int] = (1, 1)

        def __post_init__(self) -> None:
            check_fields(self)

    assert Fields(["a"]).names == ("a",)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"names = 'a' is not usable: it has to be a list of strings: write \['a'\]"):
        Fields("a")  # type: ignore[arg-type]
