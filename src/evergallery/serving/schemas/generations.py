"""Generations, what was measured between them, and promotions, over the wire."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from evergallery.holdings.answer import Way
from evergallery.serving.schemas.common import Body, Name, Text
from evergallery.serving.schemas.operating import Status


class PromotionRequest(Body):
    """A generation that shall answer queries."""

    generation: Name = Field(examples=["v2"])
    answer: Way | None = Field(
        None,
        description="How older vectors are searched: directly, through an adapter, by the generation that made them (dual), or "
        "for candidates that are scored again (rescore); as the last check has shown by default.",
    )
    candidates: int | None = Field(None, ge=10, le=1000, description="For rescore: how many are scored again.")
    seconds: float | None = Field(
        None, gt=0, le=600, description="For rescore: the most seconds that a search may spend on images."
    )
    force: bool = Field(False, description="Promote it against the evidence; needs `why`.")
    why: Text | None = Field(None, description="The reason, for the log.")


class Generation(BaseModel):
    """A generation, as its card describes it."""

    name: str
    parent: str | None
    kind: str
    method: str | None
    backbone: str | None
    dimension: int
    classes: int
    new_classes: int
    created: str
    fingerprint: str
    items: int
    promoted: bool
    reads_words: bool = Field(
        description="Whether it is loaded and has a text tower, so that words can be searched with."
    )
    card: dict[str, Any]


class GenerationDetail(Generation):
    """A generation with the names of its classes."""

    class_names: list[str]
    new_class_names: list[str]


class Generations(BaseModel):
    """All generations, oldest first."""

    promoted: str | None
    generations: list[Generation]


class Cell(BaseModel):
    """One figure of the matrix."""

    query: str
    gallery: str
    value: float
    low: float
    high: float
    classes: Literal["all", "old", "new"]
    queries: int


class Matrix(BaseModel):
    """Queries of each generation in the vectors of each space, as the last checks measured them."""

    generations: list[str]
    metric: str
    cells: list[Cell]
    protocol: str


class GateCondition(BaseModel):
    """One condition of the gate beside what was measured."""

    space: str
    name: str
    passed: bool | None
    value: str
    limit: str
    sentence: str


class Gate(BaseModel):
    """The judgement whether a generation may answer queries, and what would change."""

    generation: str
    judged: str | None = Field(description="What was compared, in words; null where evidence is missing.")
    verdict: Literal["compatible", "compatible after an adapter", "needs refresh", "worse", "not shown"] | None
    reason: str
    next: Literal["promote", "check", "adapt", "refresh"] | None = Field(
        description="What leads on: to promote it, to check it (again, or on more images), to make an adapter, to refresh."
    )
    against: str | None = Field(description="The space that stands in its way, or was compared with.")
    passed: bool | None
    conditions: list[GateCondition]
    would_change: str


class Option(BaseModel):
    """A way of answering, with what it gives and costs."""

    name: str
    way: Literal["wait", "direct", "adapter", "dual", "rescore", "refresh"]
    candidates: int | None = Field(description="How many candidates are scored again, for rescore.")
    share: float = Field(description="Share of the gallery that is refreshed before, in [0, 1].")
    score: float = Field(description="Recall@1, or nDCG@1 where judgements are graded.")
    change: float = Field(description="Change of the score against what answers now, with its interval.")
    low: float
    high: float
    milliseconds: float | None = Field(description="Time that models take for a query; null where it is not known.")
    images: float = Field(description="Images that are embedded for a query at first.")
    seconds: float | None = Field(description="Time before it answers so; null where it is not known.")
    passes: bool = Field(description="Whether the gate would let it.")


class Ways(BaseModel):
    """The ways in which a generation could answer, as the last check has measured them."""

    generation: str
    against: str | None = Field(description="Whose vectors are searched meanwhile; null where nothing was measured.")
    options: list[Option]
    advice: str | None


class PromotionResult(Status):
    """The result of a promotion, and where the workspace stands."""

    changed: bool = Field(description="False where the generation answered already.")
    sentence: str = Field(description="What was done.")
    judged: str = Field(description="What was compared, in words.")
    scores: str | None = Field(description="How a smallest score moves with the model.")
    refused: str | None = Field(description="What the gate refused, where the generation was promoted all the same.")
    conditions: list[GateCondition]
