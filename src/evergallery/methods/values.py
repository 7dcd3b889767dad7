"""Types of the values that a hyper-parameter may have."""

from typing import Annotated

from pydantic import AfterValidator, Field

from evergallery.losses import metric_loss

Weight = Annotated[float, Field(ge=0)]
"""The weight of a term of the loss; 0 leaves it out."""
Positive = Annotated[float, Field(gt=0)]
"""A temperature, a scale, a width."""
Share = Annotated[float, Field(ge=0, le=1)]
"""A part of the whole."""
PartOfTheWay = Annotated[float, Field(gt=0, le=1)]
"""A share that is not nothing."""
PartOfBatch = Annotated[float, Field(gt=0, lt=1)]
"""A share that is neither nothing nor all."""
ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]
"""A share that is not all."""
Count = Annotated[int, Field(ge=1)]
"""A number of something."""


def _known_loss(name: str) -> str:
    metric_loss(name)
    return name


MetricLoss = Annotated[str, AfterValidator(_known_loss)]
"""A name that ``losses.metric_loss`` knows."""
