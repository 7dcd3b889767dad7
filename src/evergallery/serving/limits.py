"""Limits of one request: what it may ask for, and how much of it there may be."""

from dataclasses import dataclass
from typing import Literal

Takes = Literal["one", "many", "picture", "pictures"]
"""The input of a route: JSON of one question, or of many; a form with one picture, or with many."""
FORM_BYTES = 1 << 20
"""Most bytes of a form beside its pictures."""


@dataclass(frozen=True)
class Limits:
    """Bounds that hold before anything expensive begins.

    Attributes:
        upload_bytes: of one image.
        upload_pixels: of one image, read from its header before it is decoded.
        body_bytes: of one request, whatever is in it; counted while it arrives.
        question_bytes: of one that holds JSON of one question.
        questions_bytes: of one that holds JSON of many questions, or of many vectors.
        held_bytes: of all requests that are being read or answered.
        images: that one request may add.
        k: results of a search.
        batch: queries in one request, and vectors that one request may add.
        chunk_seconds: that a client may take to send the next part of a body.
        body_seconds: that it may take to send all of it.
        left_seconds: for which the rest of a request that was answered early is thrown away, before its connection is closed.
        together: images that the model looks at in one batch; more only make the first of them wait.
        waiting: searches that may wait for the model; the next one is told to come again.
        answer_seconds: that a search may take.
        streams: that may listen to events at once.
        rate: requests a second that one client may make in the long run; 0 for any number.
        burst: requests that one client may make at once.
        closing_seconds: that running requests have when the server is told to stop.
    """

    upload_bytes: int = 20 << 20
    upload_pixels: int = 64_000_000
    body_bytes: int = 100 << 20
    question_bytes: int = 2 << 20
    questions_bytes: int = 32 << 20
    held_bytes: int = 512 << 20
    images: int = 50
    k: int = 1000
    batch: int = 256
    chunk_seconds: float = 10.0
    body_seconds: float = 120.0
    left_seconds: float = 2.0
    together: int = 32
    waiting: int = 256
    answer_seconds: float = 30.0
    streams: int = 100
    rate: float = 100.0
    burst: int = 400
    closing_seconds: float = 20.0

    def most(self, takes: Takes) -> int:
        """Bytes that a request may have."""
        of_kind = {
            "one": self.question_bytes,
            "many": self.questions_bytes,
            "picture": self.upload_bytes + FORM_BYTES,
            "pictures": self.body_bytes,
        }
        return min(of_kind[takes], self.body_bytes)
