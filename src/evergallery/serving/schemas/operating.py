"""The workspace and work in the background, over the wire."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from evergallery.holdings.answer import Way
from evergallery.serving.schemas.common import Body, Name, Scope, Text
from evergallery.serving.schemas.items import SkippedImage

CheckData = Literal["stored", "held-out", "marks"]
"""The stored items that have a label, the held-out pictures that were sent, or the queries whose results were marked."""


class CheckRequest(Body):
    """A generation to be measured."""

    generation: Name = Field(examples=["v2"])
    data: CheckData = "stored"
    against: Name | None = Field(
        None, description="Whose vectors are searched; the promoted one's and all that are stored by default."
    )
    old_classes: list[Text] | None = Field(
        None, min_length=1, max_length=10_000, description="Labels on which forgetting is measured."
    )
    answer: Way | None = Field(None, description="The way of answering that is judged, as of `/promote`.")
    candidates: int | None = Field(None, ge=10, le=1000, description="For rescore: how many are scored again.")


class MatrixRequest(Body):
    """Every pair of generations that no check has measured."""

    data: CheckData = "stored"


class AdaptRequest(Body):
    """A map between two generations."""

    generation: Name = Field(description="Generation whose queries are answered.", examples=["v2"])
    against: Name = Field(description="Generation whose vectors are stored.", examples=["v1"])
    direction: Literal["query", "gallery"] = Field(
        "query", description="New queries into the old space, or stored vectors into the new one."
    )
    data: CheckData = Field("stored", description="Pictures that both look at; leave held-out ones to the check.")


class DuplicatesRequest(Body):
    """A request for stored items that show nearly the same."""

    at_least: float = Field(0.98, gt=0, le=1, description="Cosine that links two items.")


class HeldOutPictures(BaseModel):
    """Held-out pictures that are kept."""

    pictures: int
    labels: dict[str, int]
    skipped: list[SkippedImage]


class PlanRequest(Body):
    """A request for the cost of refreshing for a generation."""

    generation: Name = Field(examples=["v2"])
    adapter: Name | None = Field(
        None, description="Adapter that would map the stored vectors in place of reading images."
    )


class RefreshRequest(PlanRequest):
    """New vectors for stored items."""

    order: Literal["random", "uncertain", "typical", "oldest", "popular"] = "random"
    fraction: float = Field(1.0, gt=0, le=1, description="Share of the items.")
    budget_seconds: float | None = Field(None, gt=0, le=1e9)
    until: float | None = Field(None, ge=0, le=1, description="Stop where this recall@1 is to be expected.")
    rate: float | None = Field(None, gt=0, le=1e9, description="Items a second, at most.")


class InfoLimits(BaseModel):
    """The limits of one request."""

    upload_bytes: int
    upload_pixels: int
    k: int
    batch: int


class Info(BaseModel):
    """The identity of this server."""

    name: str
    version: str
    promoted: str | None
    items: int
    generations: list[str]
    limits: InfoLimits
    writes: bool = Field(description="Whether this caller may change anything.")


class CallerRights(BaseModel):
    """The rights of this caller."""

    scopes: list[Scope]
    anonymous: bool


class Job(BaseModel):
    """Work in the background, one at a time."""

    id: str
    kind: Literal["check", "matrix", "adapt", "plan", "refresh", "commit", "discard", "snapshot", "duplicates"]
    state: Literal["running", "done", "stopped", "failed"]
    done: int
    total: int | None
    phase: str
    seconds: float
    remaining_seconds: float | None
    error: str | None
    result: dict[str, Any] | None
    arguments: dict[str, Any]


class Refresh(BaseModel):
    """A refresh that is not settled."""

    id: str
    generation: str
    adapter: str | None
    shown: bool
    started: str
    refreshed: int
    remaining: int
    seconds_left: float | None


class Shadow(BaseModel):
    """The answers of another generation to a sample of the searches since the server was started."""

    generation: str
    sample: float = Field(description="Share of the searches by picture.")
    way: str = Field(description="How it would answer over vectors of other generations.")
    compared: int
    left_out: int = Field(description="Drawn while another one was compared.")
    failed: int
    problem: str | None = Field(description="Why one failed.")
    overlap: float | None = Field(description="Mean share of the results that both have.")
    same_first: float | None = Field(description="Share of the searches whose first result is the same.")
    score_shift: float | None = Field(description="Mean difference of the first scores, which are of two models.")
    milliseconds: float | None = Field(description="Mean of an answer in the shadow.")


class Canary(BaseModel):
    """Another generation that answers some clients; counted since the server was started."""

    generation: str
    share: float = Field(description="Share of the clients, in [0, 1].")
    by: str = Field(description="What clients are known by.")
    way: str = Field(description="How it answers over vectors of other generations.")
    answering: bool = Field(description="False where the gate refuses it by now, or where it was promoted.")
    judged: str = Field(description="What was compared, in words.")
    refused: str | None = Field(description="What the gate refuses.")
    why: str | None = Field(description="Why it answers all the same.")
    answered: int


class Drift(BaseModel):
    """The drift of the queries."""

    generation: str = Field(description="Generation that answers.")
    reference: int = Field(description="Searches that the reference has.")
    of: int = Field(description="Searches that it shall have before anything is compared.")
    windows: int = Field(description="Windows of searches that were compared with it.")
    distances: dict[str, float] = Field(
        description="Distances of the last window, for scores and for queries, in [0, 1]."
    )
    limits: dict[str, float] = Field(description="Distances from which an alarm is raised.")
    alarms: dict[str, str] = Field(description="When each was raised.")


class Status(BaseModel):
    """The standing of the workspace."""

    promoted: str | None
    answer: str | None = Field(description="How it answers over older vectors, where that was chosen.")
    forced: str | None = Field(description="Why the promoted generation answers although the gate refused it.")
    items: int
    states: dict[str, int] = Field(
        description="Items by state; those with a problem keep an old vector, and count there too."
    )
    by_generation: dict[str, int]
    refresh: Refresh | None
    shadow: Shadow | None = None
    canary: Canary | None = None
    drift: Drift | None = None
    job: Job | None
    can_roll_back_to: str | None
    would_roll_back: str


class ItemProblem(BaseModel):
    """The reason for which an item keeps its old vector."""

    id: str
    state: str
    reason: str


class Problems(BaseModel):
    """A page of problems."""

    problems: list[ItemProblem]
    next: str | None


class Log(BaseModel):
    """Operations, newest first."""

    log: list[dict[str, Any]]


class Health(BaseModel):
    """The health of the process: it lives, or is ready."""

    status: str
