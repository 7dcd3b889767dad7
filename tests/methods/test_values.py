"""A hyper-parameter is checked however a method is made, and a method reads nothing that it has not asked for."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from evergallery.errors import InputError
from evergallery.methods import (
    CSD,
    METHODS,
    RACT,
    AdvBCT,
    DualTuning,
    Evergreen,
    LwF,
    Method,
    Mutual,
    Needs,
    RelationDistillation,
    Replay,
    Step,
    Task,
    UniBCT,
)
from evergallery.network import Head, Outputs

EVERY_VALUE = [(kind, field.name) for kind in METHODS.values() for field in fields(kind)]


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (DualTuning, "prototype_loss", "cosin"),
        (DualTuning, "label_smoothing", 1.5),
        (DualTuning, "loss", "triplets"),
        (Evergreen, "new_share", 7.0),
        (Evergreen, "new_share", 0.0),
        (Evergreen, "shrinkage", 0.0),
        (Evergreen, "emphasis", -1.0),
        (CSD, "logit_temperature", 0.0),
        (CSD, "contrastive_weight", -1.0),
        (LwF, "logit_weight", "much"),
        (Mutual, "supporting", "elsewhere"),
        (Mutual, "loss", "ArcFaceLoss"),
        (RelationDistillation, "loss", "no such loss"),
        (RACT, "hardest", 0),
        (Replay, "old_images_per_class", 0),
        (UniBCT, "share", 1.0),
        (AdvBCT, "threshold", -0.5),
    ],
)
def test_a_value_that_does_not_fit_is_refused(kind: type[Method], name: str, value: Any) -> None:
    """In Python, in words, and where another method is made of one."""
    makers: tuple[Callable[[], object], ...] = (
        lambda: kind(**{name: value}),
        lambda: kind.with_options({name: str(value)}),
        lambda: replace(kind(), **{name: value}),
    )
    for make in makers:
        with pytest.raises(InputError, match=r"is not usable for|No metric loss is called"):
            make()


@pytest.mark.parametrize(
    ("kind", "name"), EVERY_VALUE, ids=lambda value: value if isinstance(value, str) else value.name
)
def test_no_hyper_parameter_takes_anything(kind: type[Method], name: str) -> None:
    for value in (float("nan"), float("inf"), "nonsense", [1]):
        with pytest.raises(InputError):
            kind(**{name: value})


def test_the_same_value_is_written_in_the_same_way() -> None:
    """A run is known by its method's parameters."""
    assert Evergreen(emphasis=2).parameters() == Evergreen.with_options({"emphasis": "2"}).parameters()
    assert repr(Evergreen(emphasis=2).emphasis) == "2.0"


@dataclass(frozen=True)
class UndeclaredReader(Method[None]):
    """Reads what it has not asked for."""

    name: ClassVar[str] = "silent"

    def losses(self, step: Step[None]) -> dict[str, Tensor]:
        return {"parent": step.parent.features.mean()}


def test_what_is_not_asked_for_is_not_there() -> None:
    assert UndeclaredReader.needs == Needs()
    made = Outputs(*torch.rand(3, 2, 4))
    with pytest.raises(RuntimeError, match="its needs have to say old_batches"):
        UndeclaredReader().losses(Step(torch.tensor([0, 1]), made, head=Head(4, 2), state=None))
    with pytest.raises(RuntimeError, match="its needs have to say old_outputs"):
        _ = Task(torch.tensor([0, 1]), dimension=4, classes=2).old_outputs
