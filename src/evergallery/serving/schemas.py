"""What goes over the wire: the bodies of requests and answers, with their bounds and examples."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, model_validator

from evergallery.data.metadata import NAME
from evergallery.holdings.answer import Way

Scope = Literal["read", "write", "admin"]
Text = Annotated[str, Field(max_length=4096)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Identifier = Annotated[str, Field(min_length=1, max_length=4096)]
Scalar = (
    Annotated[str, Field(max_length=65_536)] | bool | Annotated[int, Field(ge=-(2**63), lt=2**63)] | FiniteFloat | None
)
MOST_NAMES = 1000


def _few(names: Any) -> Any:
    # Before they are looked at: a fault for each of a hundred thousand values takes ten seconds to tell.
    if isinstance(names, dict) and len(names) > MOST_NAMES:
        raise ValueError(f"give up to {MOST_NAMES} names")
    return names


Metadata = Annotated[dict[Annotated[str, Field(pattern=f"^{NAME}$", max_length=200)], Scalar], BeforeValidator(_few)]
# Lists end at their first fault: a fault for each of a million numbers would take a hundred times their memory.
Vector = Annotated[list[FiniteFloat], Field(min_length=1, max_length=65_536, fail_fast=True)]
MOST_RESULTS = 1000
MOST_QUERIES = 256
MOST_RESULTS_TOGETHER = 25_600
"""Of all queries in one request."""


class Body(BaseModel):
    """What a client sends: names that nobody knows are refused."""

    model_config = ConfigDict(extra="forbid")


# What clients send


class SearchOptions(Body):
    """What a search may find."""

    generation: Name | None = Field(
        None, description="That embeds the query; the promoted one by default.", examples=["v2"]
    )
    k: int = Field(10, ge=1, le=MOST_RESULTS, description="How many results.")
    labels: list[Text] | None = Field(
        None, max_length=1000, fail_fast=True, description="Only items with one of these labels."
    )
    generations: list[Name] | None = Field(
        None, max_length=100, fail_fast=True, description="Only vectors of these spaces."
    )
    metadata: Metadata | None = Field(None, description="Only items with these values under these names.")
    min_score: float | None = Field(None, ge=-1, le=1, description="Smallest cosine.")
    min_score_of: Name | None = Field(
        None,
        description="The generation on whose scores `min_score` was settled; it is translated, as a check has measured.",
    )
    min_probability: float | None = Field(None, gt=0, lt=1, description="Smallest calibrated probability of a match.")
    exact: bool | None = Field(
        None,
        description="Compare with every vector; by default an index answers where its recall was measured to suffice.",
    )


class Search(SearchOptions):
    """A search by exactly one of: a vector, the id of a stored item, the URI of a stored item."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"item": "sku-1", "k": 5}, {"vector": [0.6, 0.8], "generation": "v2"}]},
    )

    vector: Vector | None = Field(None, description="(D,) made by `generation`; brought to unit length.")
    item: Identifier | None = Field(None, description="Id of a stored item, which is left out of its own result.")
    uri: Identifier | None = Field(None, description="URI of a stored item; nothing is fetched.")
    seen_by: dict[Name, Vector] = Field(
        default_factory=dict,
        max_length=16,
        description="Beside `vector`: the same query by other generations, each of which asks its own vectors where queries are "
        "answered so.",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> "Search":
        if sum(one is not None for one in (self.vector, self.item, self.uri)) != 1:
            raise ValueError("give exactly one of vector, item and uri")
        if self.seen_by and self.vector is None:
            raise ValueError("seen_by goes with vector")
        return self


class SearchBatch(Body):
    """Several searches at once, all answered from the same state."""

    queries: list[Search] = Field(min_length=1, max_length=MOST_QUERIES, fail_fast=True)

    @model_validator(mode="after")
    def _not_too_many(self) -> "SearchBatch":
        asked = sum(query.k for query in self.queries)
        if asked > MOST_RESULTS_TOGETHER:
            raise ValueError(
                f"all queries together ask for {asked} results: ask for up to {MOST_RESULTS_TOGETHER} at a time"
            )
        return self


class NewVector(Body):
    """A vector made elsewhere."""

    id: Identifier
    embedding: Vector = Field(description="(D,) of unit length.")
    label: Text | None = None
    uri: Text | None = Field(None, description="Where the image is, as a note: it is kept and shown, and never opened.")
    metadata: Metadata = Field(default_factory=dict)


class NewVectors(Body):
    """Vectors of one generation."""

    generation: Name = Field(examples=["v2"])
    items: list[NewVector] = Field(min_length=1, max_length=MOST_QUERIES, fail_fast=True)
    relabel: bool = Field(False, description="Let a label take the place of another one that is known.")


class Deletion(Body):
    """Items to delete."""

    ids: list[Identifier] = Field(min_length=1, max_length=10_000, fail_fast=True)


class Promotion(Body):
    """A generation that shall answer queries."""

    generation: Name = Field(examples=["v2"])
    answer: Way | None = Field(
        None,
        description="How older vectors are searched: directly, through an adapter, by the generation that made them (dual), or "
        "for candidates that are scored again (rescore); as the last check has shown by default.",
    )
    candidates: int | None = Field(None, ge=10, le=1000, description="For rescore: how many are scored again.")
    seconds: float | None = Field(None, gt=0, le=600, description="For rescore: that a search may spend on images.")
    force: bool = Field(False, description="Promote it against the evidence; needs `why`.")
    why: Text | None = Field(None, description="The reason, for the log.")


class CheckRequest(Body):
    """A generation to be measured on the stored items that have a label."""

    generation: Name = Field(examples=["v2"])
    against: Name | None = Field(
        None, description="Whose vectors are searched; the promoted one's and all that are stored by default."
    )
    old_classes: list[Text] | None = Field(
        None, min_length=1, max_length=10_000, description="Labels on which forgetting is measured."
    )


class PlanRequest(Body):
    """What refreshing for a generation would cost."""

    generation: Name = Field(examples=["v2"])
    adapter: Name | None = Field(None, description="That would map the stored vectors in place of reading images.")


class RefreshRequest(PlanRequest):
    """New vectors for stored items."""

    order: Literal["random", "uncertain", "typical", "oldest", "popular"] = "random"
    fraction: float = Field(1.0, gt=0, le=1, description="Share of the items.")
    budget_seconds: float | None = Field(None, gt=0, le=1e9)
    until: float | None = Field(None, ge=0, le=1, description="Stop where this recall@1 is to be expected.")
    rate: float | None = Field(None, gt=0, le=1e9, description="Items a second, at most.")


# What they get


class Problem(BaseModel):
    """What went wrong, for a program and for a person."""

    code: Literal[
        "refused", "not_found", "invalid", "busy", "too_large", "unauthorised", "forbidden", "rate_limited",
        "unavailable", "internal",
    ]  # fmt: skip
    message: str


class ErrorAnswer(BaseModel):
    """Any answer that is not what was asked for."""

    error: Problem

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"error": {"code": "not_found", "message": "The gallery has no item 'sku-1'."}}]
        }
    )


class Item(BaseModel):
    """A stored item."""

    id: str
    label: str | None
    uri: str | None
    generation: str = Field(description="Name of the space of its vector.", examples=["v1"])
    added: str = Field(description="ISO 8601, UTC.")
    metadata: dict[str, Any]
    content_hash: str | None
    thumbnail: str | None = Field(description="Where a small picture of it is, if it has one.")


class Result(BaseModel):
    """An item that was found."""

    item: Item
    score: float = Field(description="Cosine.")
    probability: float | None = Field(
        description="That query and item are of one class, where a check has measured it."
    )


class Rescored(BaseModel):
    """How the candidates of a search got the vectors that they are ranked by."""

    candidates: int
    kept: int = Field(description="Whose new vector was there, or followed from the old one.")
    embedded: int = Field(description="Whose image was embedded for this search.")
    gone: int = Field(description="Whose image is not there; they keep their older score.")
    late: int = Field(description="For which no time was left; they keep their older score.")


class Answer(BaseModel):
    """What a search found; all of it by one generation."""

    generation: str = Field(description="Of the query.")
    promoted: str | None
    results: list[Result]
    milliseconds: float
    exact: bool = Field(description="Whether every vector was compared with, and no index answered.")
    searched: dict[str, int] = Field(description="How many vectors of each space were compared with.")
    way: str = Field(description="How vectors of other generations were searched: see `answer` of `/promote`.")
    rescored: Rescored | None = Field(None, description="How candidates were scored again, where they were.")


class BatchAnswer(BaseModel):
    """One answer, or one error, for each query."""

    answers: list[Answer | ErrorAnswer]


class Items(BaseModel):
    """A page of items."""

    items: list[Item]
    next: str | None = Field(description="Give it as `after` for the next page.")
    total: int


class Labels(BaseModel):
    """How many items each label has."""

    labels: dict[str, int]


class SkippedImage(BaseModel):
    """An image that could not be added."""

    name: str
    reason: str


class Conflict(BaseModel):
    """An item that has a label, which it keeps, and was said to have another one."""

    item: str
    known: str
    said: str


class Added(BaseModel):
    """What adding did. What is known of an item stays where nothing else is said of it."""

    added: int
    replaced: int
    unchanged: int
    conflicts: list[Conflict] = Field(description="Items that keep another label than was said; the first 100.")
    conflict_count: int
    items: list[Item]
    skipped: list[SkippedImage]


class Deleted(BaseModel):
    """What deleting did."""

    deleted: int


class InfoLimits(BaseModel):
    """What one request may ask for."""

    upload_bytes: int
    upload_pixels: int
    k: int
    batch: int


class Info(BaseModel):
    """What this server is."""

    name: str
    version: str
    promoted: str | None
    items: int
    generations: list[str]
    limits: InfoLimits
    writes: bool = Field(description="Whether this caller may change anything.")


class Me(BaseModel):
    """What this caller may do."""

    scopes: list[Scope]
    anonymous: bool


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
    card: dict[str, Any]


class GenerationDetail(Generation):
    """The same with the names of its classes."""

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
    """Whether a generation may answer queries, and what would change."""

    generation: str
    judged: str | None = Field(description="What was compared, in words; null where evidence is missing.")
    verdict: Literal["compatible", "compatible after an adapter", "needs refresh", "worse", "not shown"] | None
    reason: str
    passed: bool | None
    conditions: list[GateCondition]
    would_change: str


class Job(BaseModel):
    """Work in the background, one at a time."""

    id: str
    kind: Literal["check", "plan", "refresh", "commit", "discard", "snapshot"]
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
    """What another generation would have answered, on a sample of the searches since the server was started."""

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


class Status(BaseModel):
    """Where the workspace stands."""

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
    job: Job | None
    can_roll_back_to: str | None
    would_roll_back: str


class Promoted(Status):
    """What a promotion did, and where the workspace stands."""

    changed: bool = Field(description="False where the generation answered already.")
    sentence: str = Field(description="What was done.")
    judged: str = Field(description="What was compared, in words.")
    scores: str | None = Field(description="How a smallest score moves with the model.")
    refused: str | None = Field(description="What the gate refused, where the generation was promoted all the same.")
    conditions: list[GateCondition]


class ItemProblem(BaseModel):
    """Why an item keeps its old vector."""

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
    """Whether the process lives, or is ready."""

    status: str
