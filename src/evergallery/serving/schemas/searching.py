"""Searches over the wire."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from evergallery.serving.schemas.common import MOST_QUERIES, Body, ErrorAnswer, Identifier, Metadata, Name, Text, Vector
from evergallery.serving.schemas.items import Item

Searched = Literal["searched", "own"]
"""In which vectors is searched: those that answer queries now, or those of one generation alone."""
MOST_LIKE = 16
"""Pictures and items that are one query together."""
MOST_RESULTS = 1000
MOST_RESULTS_TOGETHER = 25_600
"""Most results of all queries in one request."""


MOST_LISTED = 10_000
"""Items that a command is told of by a server; it lists more by itself."""


class SearchOptions(Body):
    """The options of a search."""

    generation: Name | None = Field(
        None, description="Generation that embeds the query; the promoted one by default.", examples=["v2"]
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
    more: list[Identifier] = Field(
        default_factory=list,
        max_length=MOST_LIKE,
        fail_fast=True,
        description="Ids of stored items that results should be like too.",
    )
    less: list[Identifier] = Field(
        default_factory=list,
        max_length=MOST_LIKE,
        fail_fast=True,
        description="Ids of stored items that results should not be like; each counts half.",
    )
    vectors: Searched = Field(
        "searched",
        description="`own`: as if everything had vectors of `generation`. Those that an open refresh keeps are taken; others are "
        "made for the items that older vectors find, within some seconds, and kept nowhere (`preview`).",
    )


class Search(SearchOptions):
    """A search by exactly one of: a vector, the id of a stored item, the URI of a stored item, words."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"item": "sku-1", "k": 5}, {"vector": [0.6, 0.8], "generation": "v2"}]},
    )

    vector: Vector | None = Field(None, description="(D,) made by `generation`; brought to unit length.")
    item: Identifier | None = Field(None, description="Id of a stored item, which is left out of its own result.")
    uri: Identifier | None = Field(None, description="URI of a stored item; nothing is fetched.")
    text: Annotated[str, Field(min_length=1, max_length=1000)] | None = Field(
        None,
        description="Words, where `generation` has a text tower. Only its own vectors are searched, and no probability is told.",
    )
    seen_by: dict[Name, Vector] = Field(
        default_factory=dict,
        max_length=16,
        description="Beside `vector`: the same query by other generations, each of which asks its own vectors where queries are "
        "answered so.",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> "Search":
        if sum(given is not None for given in (self.vector, self.item, self.uri, self.text)) != 1:
            raise ValueError("give exactly one of vector, item, uri and text")
        if self.seen_by and self.vector is None:
            raise ValueError("seen_by goes with vector")
        return self


class LocalSearch(Body):
    """A search of a command; by the names of the verb, whose bounds hold."""

    named: str | None = Field(None, description="What messages call the picture.")
    item: str | None
    text: str | None
    generation: str | None
    k: int
    labels: list[str]
    within: list[str]
    minimum_score: float | None
    minimum_probability: float | None
    score_of: str | None
    exact: bool | None


class LocalItems(Body):
    """Items that a command lists."""

    labels: list[str]
    within: list[str]
    limit: int = Field(ge=1, le=MOST_LISTED)


class LocalItem(Body):
    """An item that a command shows."""

    item: str


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


class Result(BaseModel):
    """An item that was found."""

    item: Item
    score: float = Field(description="Cosine.")
    probability: float | None = Field(
        description="Probability that query and item are of one class, where a check has measured it."
    )


class RescoreCounts(BaseModel):
    """The sources of the vectors by which the candidates of a search are ranked."""

    candidates: int
    kept: int = Field(description="Candidates whose new vector was there, or followed from the old one.")
    embedded: int = Field(description="Candidates whose image was embedded for this search.")
    gone: int = Field(description="Candidates whose image is not there; they keep their older score.")
    late: int = Field(description="Candidates for which no time was left; they keep their older score.")


class Answer(BaseModel):
    """The results of a search; all of them by one generation."""

    generation: str = Field(description="Generation of the query.")
    promoted: str | None
    canary: str | None = Field(None, description="Which generation answers this client in place of the promoted one.")
    results: list[Result]
    milliseconds: float
    exact: bool = Field(description="Whether every vector was compared with, and no index answered.")
    searched: dict[str, int] = Field(description="How many vectors of each space were compared with.")
    way: str = Field(
        description="How vectors of other generations were searched: see `answer` of `/promote`; `own` where they were not."
    )
    preview: bool = Field(
        False,
        description="Whether the results are those of older vectors, ranked by vectors that were made for this search.",
    )
    present: float | None = Field(
        None,
        description="Probability that anything of the query's class is there at all, by the score of the best item; null where "
        "no check has measured it.",
    )
    rescored: RescoreCounts | None = Field(None, description="How candidates were scored again, where they were.")


class BatchAnswer(BaseModel):
    """One answer, or one error, for each query."""

    answers: list[Answer | ErrorAnswer]
