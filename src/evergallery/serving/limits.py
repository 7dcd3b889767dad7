"""What one request may ask for, and how much of it there may be."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds that hold before anything expensive begins.

    Attributes:
        upload_bytes: of one image.
        upload_pixels: of one image, read from its header before it is decoded.
        body_bytes: of one request, whatever is in it; counted while it arrives.
        images: that one request may add.
        k: results of a search.
        batch: queries in one request, and vectors that one request may add.
        chunk_seconds: that a client may take to send the next part of a body.
        body_seconds: that it may take to send all of it.
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
    images: int = 50
    k: int = 1000
    batch: int = 256
    chunk_seconds: float = 10.0
    body_seconds: float = 120.0
    together: int = 32
    waiting: int = 256
    answer_seconds: float = 30.0
    streams: int = 100
    rate: float = 100.0
    burst: int = 400
    closing_seconds: float = 20.0
