"""The way of answering while the gallery holds vectors of several generations: one value, which everything reads."""

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evergallery.errors import InputError, fault_of, require_known

SearchWay = Literal["checked", "direct", "adapter", "dual"]
"""The ways that only search: re-scoring also makes vectors, and keeps them."""
Way = Literal[SearchWay, "rescore"]
WAYS: tuple[Way, ...] = get_args(Way)
CANDIDATES, LEAST_CANDIDATES = 20, 10
"""Candidates of re-scoring: by default, and the fewest that a check measures."""
SECONDS = 2.0


class Answer(BaseModel):
    """A way of answering.

    ``checked``: queries go to older vectors as the last check has shown that they may, directly or through an adapter.
    ``direct`` and ``adapter``: always so. ``dual``: every vector is asked by the generation that made it, which looks at the
    query too, and one calibrated ranking goes over all. ``rescore``: candidates are found so among the older vectors, and ranked
    by vectors of the generation that answers; those that are missing are made from the items' images while the query waits, and
    kept in the open refresh.

    Attributes:
        way: which.
        candidates: older vectors that are scored again for a query; so many as results are asked for, at least.
        seconds: that a search may spend on images, after which the candidates that are left keep their older score.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    way: Way = "checked"
    candidates: int = Field(default=CANDIDATES, ge=LEAST_CANDIDATES, le=1000)
    seconds: float = Field(default=SECONDS, gt=0, le=600)

    @classmethod
    def of(cls, way: str | None, candidates: int | None = None, seconds: float | None = None) -> "Answer":
        """The way of answering of a name; ``None`` for the usual one.

        Raises:
            InputError: no such way, a figure out of range, or figures of re-scoring for another way.
        """
        way = way or "checked"
        require_known("way of answering", way, WAYS)
        given = {name: value for name, value in (("candidates", candidates), ("seconds", seconds)) if value is not None}
        if given and way != "rescore":
            raise InputError(
                f"{' and '.join(given).capitalize()} belong to re-scoring: give them with the way rescore."
            )
        try:
            return cls.model_validate({"way": way, **given})
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(f"{first['loc'][0]} = {first['input']!r} is not usable: {fault_of(error)}.") from error

    @property
    def looks_twice(self) -> bool:
        """Return whether older generations look at a query, too."""
        return self.way in ("dual", "rescore")

    @property
    def flags(self) -> str:
        """Return what a command is told to have it, with a space before; nothing for the usual way."""
        if self.way == "checked":
            return ""
        figures = f" --candidates {self.candidates} --seconds {self.seconds:g}" if self.way == "rescore" else ""
        return f" --answer {self.way}{figures}"

    def __str__(self) -> str:
        words = {
            "checked": "older vectors are searched as the last check has shown",
            "direct": "older vectors are searched with its queries as they are",
            "adapter": "older vectors are searched through an adapter",
            "dual": "older vectors are searched by the generation that made them (dual query)",
            "rescore": f"{self.candidates} candidates from older vectors are scored again by its own, with at most "
            f"{self.seconds:g} s a search for images",
        }
        return words[self.way]


CHECKED = Answer()
"""The usual way."""
