"""Models that answer over HTTP as OpenAI's embeddings do: pictures go out as data URLs, vectors come back.

Somebody else's machine is asked, for money perhaps: every request is counted before it is made, comes again with patience
where it may, and its answer is believed only where it is whole.
"""

import base64
import io
import json
import os
import random
import ssl
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from ipaddress import ip_address
from typing import Any, Self
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from torch import Tensor, from_numpy
from torch.nn import functional as F

from evergallery._version import __version__
from evergallery.data.augment import normalise
from evergallery.data.images.sizes import Size
from evergallery.errors import DamagedError, InputError, UnavailableError, fault_of
from evergallery.network.endpoint_account import Account, Terms
from evergallery.network.foreign import SAME, ForeignModel, least_cosine, probe_images, vectors_of
from evergallery.strings.redaction import redacted

MEAN, STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
"""The normalisation of pixels: they go out as they are, and the endpoint does the rest."""
COME_AGAIN = {408, 425, 429, 500, 502, 503, 504, 529}
"""Statuses that another try may change."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Seconds between two tries; an endpoint that asks for a longer pause is not waited for."""
MOST_BYTES = 2**26
LARGEST = float(np.finfo(np.float32).max)
BLOCK = 2**16
LOOK_AGAIN_SECONDS = 3600.0
"""The interval after which a model that is in use must make the same of the probe pictures again."""


class Endpoint(BaseModel):
    """An HTTP endpoint that embeds pictures: what makes the vectors, and on which terms it is asked.

    A request is ``POST address`` with ``{"model", "input": ["data:image/png;base64,…", …], "encoding_format": "float"}`` and the
    names of ``body``; its answer ``{"data": [{"index", "embedding"}, …]}``.

    >>> shop.register(Endpoint.of("https://models.example.org/v1/embeddings", model="clip", key_env="EXAMPLE_KEY"))

    Attributes:
        address: http or https, without secrets.
        model: its name there.
        body: what else every request says, such as ``{"dimensions": 512}``.
        terms: how it is asked; no part of what the vectors are.

    Raises:
        ValidationError: the address is none, or holds a secret; ``of`` raises an ``InputError`` in its place.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str
    model: str | None = None
    body: dict[str, Any] = Field(default_factory=dict)
    terms: Terms = Field(default_factory=Terms)

    @classmethod
    def of(cls, address: str, **given: Any) -> Self:
        """An endpoint of values that somebody gave, terms among them.

        Raises:
            InputError: one of them cannot be.
        """
        terms = {name: given.pop(name) for name in list(given) if name in Terms.model_fields}
        try:
            return cls.model_validate({"address": address, "terms": terms, **given})
        except ValidationError as error:
            first = error.errors()[0]
            if first["loc"] == ("terms",):
                raise InputError(f"The terms of the endpoint are not usable: {fault_of(error)}.") from None
            where = first["loc"][-1] if first["loc"] else "address"
            # Of what is no number, such as an address, nothing is said again: it may hold a secret.
            value = f" {first['input']}" if isinstance(first["input"], int | float) else ""
            raise InputError(f"The endpoint's {where}{value} is not usable: {fault_of(error)}.") from None

    @field_validator("address")
    @classmethod
    def _bare(cls, address: str) -> str:
        parts = urlsplit(address)
        if parts.scheme.lower() not in ("http", "https") or not parts.hostname or any(map(str.isspace, address)):
            raise ValueError("write https://HOST/v1/embeddings")
        if redacted(address) != address or parts.username is not None:
            raise ValueError(
                "it holds a secret, which would be stored: name the environment variable of a key with --key-env"
            )
        return address

    @field_validator("body")
    @classmethod
    def _free(cls, body: dict[str, Any]) -> dict[str, Any]:
        taken = sorted({"input", "model", "encoding_format"} & set(body))
        if taken:
            raise ValueError(f"{', '.join(taken)} is said by every request already")
        return body

    @model_validator(mode="after")
    def _covered(self) -> Self:
        if self.terms.key_env and self.address.lower().startswith("http:") and not _is_here(self.address):
            raise ValueError("a key would travel in the clear: write https://")
        return self

    @property
    def identity(self) -> dict[str, Any]:
        """Return what makes the vectors, as far as anybody here knows."""
        return {"address": self.address, "model": self.model, "body": self.body}

    def __str__(self) -> str:
        return self.address if self.model is None else f"{self.model} at {self.address}"


class EndpointModel(ForeignModel):
    """A model that is asked over HTTP.

    Args:
        endpoint: what is asked.
        account: on which terms, and how much so far.
        dimension: D.
        kept: unit rows (P, D) that it made of the probe pictures when it was registered: it is asked for them now and then, since
            whoever runs it may put another model behind the same name.
        size: of the pictures that it is sent.
    """

    whole_batches = True

    def __init__(
        self, endpoint: Endpoint, account: Account, dimension: int, *, kept: Tensor | None = None, size: Size = 0
    ) -> None:
        super().__init__(str(endpoint), asking(endpoint, account), dimension)
        self.endpoint = endpoint
        self._kept = kept
        self._size = size
        self._looked = -float("inf")

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to embeddings (B, D), at the length that they come back with.

        Raises:
            UnavailableError: it does not answer, or not with vectors.
            RefusedError: it would take more than its account allows.
            DamagedError: it is not the model that was registered.
        """
        if self._kept is not None and time.monotonic() - self._looked > LOOK_AGAIN_SECONDS:
            self.require_same()
        return super().forward(images)

    def require_same(self) -> None:
        """Ask for the probe pictures.

        Raises:
            DamagedError: they are embedded otherwise than when the model was registered.
        """
        if self._kept is None:
            return
        now = first_look(self.endpoint, self.run, self._size)
        cosine = least_cosine(now, self._kept)
        if cosine < SAME:
            raise DamagedError(
                f"The model behind {self.endpoint} has changed (fixed pictures are embedded at a cosine of {cosine:.3f} with "
                f"what they were, in {now.shape[1]} dimensions): register it as a new generation."
            )
        self._looked = time.monotonic()


def first_look(endpoint: Endpoint, run: Any, size: Size) -> Tensor:
    """Unit embeddings (P, D) of the probe pictures, from one request or a few; D is what comes back.

    Raises:
        UnavailableError: it does not answer.
        InputError: it answers with something else than vectors.
    """
    images = normalise(probe_images(size), MEAN, STD)
    return F.normalize(from_numpy(vectors_of(str(endpoint), run, images.numpy())))


def asking(endpoint: Endpoint, account: Account) -> Any:
    """Return what turns images (B, 3, H, W) in [0, 1] into vectors (B, D), in requests of as many as the terms say."""

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        rows: list[list[float]] = []
        step = account.terms.batch
        for start in range(0, len(images), step):
            rows += _ask(endpoint, account, images[start : start + step])
        if len({len(row) for row in rows}) != 1:
            raise InputError(
                f"{endpoint} answers with vectors of different lengths: name a model that embeds pictures."
            )
        return np.array(rows, np.float32)

    return run


def _ask(endpoint: Endpoint, account: Account, images: NDArray[np.float32]) -> list[list[float]]:
    """The vectors of one request's pictures, tried as often as the terms say."""
    terms = account.terms
    key = _key(terms)
    said = {
        **endpoint.body,
        **({} if endpoint.model is None else {"model": endpoint.model}),
        "input": [_data_url(image) for image in images],
        "encoding_format": "float",
    }
    content = json.dumps(said).encode()
    reason = ""
    for attempt in range(terms.tries):
        wait = account.take(len(images))
        if wait > 0:
            time.sleep(wait)
        try:
            return _vectors(endpoint, _post(endpoint, terms, key, content), len(images))
        except _RetryError as again:
            reason, asked = str(again), again.pause
        if attempt + 1 == terms.tries:
            break
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt) * random.uniform(0.5, 1)
        if asked is not None and asked > LONGEST_PAUSE:
            raise UnavailableError(f"{endpoint} {reason}, and asks to come again in {asked:.0f} seconds: do so.")
        time.sleep(max(pause, asked or 0.0))
    often = "at the only try" if terms.tries == 1 else f"{terms.tries} times in a row"
    raise UnavailableError(f"{endpoint} {reason}, {often}: try again later; what was done so far is kept.")


class _RetryError(Exception):
    """A try has failed that another one may make good; ``pause`` in seconds where the endpoint asks for one."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


class _NoRedirects(HTTPRedirectHandler):
    """Follows nobody elsewhere: neither pictures nor the key go to an address that was not registered."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Redirect to nowhere, whatever the answer says."""
        return


def _post(endpoint: Endpoint, terms: Terms, key: str | None, content: bytes) -> bytes:
    headers = {"Content-Type": "application/json", "User-Agent": f"evergallery/{__version__}"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    request = Request(endpoint.address, content, headers, method="POST")
    until = time.monotonic() + terms.timeout
    try:
        with build_opener(_NoRedirects).open(request, timeout=terms.timeout) as answer:
            return _read(answer, until)
    except HTTPError as error:
        with error:
            raise _failure(endpoint, terms, key, error, until) from None
    except (URLError, HTTPException, OSError) as error:
        cause = getattr(error, "reason", error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise UnavailableError(f"{endpoint} shows a certificate that nobody here trusts: mend it there.") from None
        late = isinstance(cause, TimeoutError)
        told = f"does not answer within {terms.timeout:g} s" if late else f"does not answer ({_bare(str(cause), key)})"
        raise _RetryError(told) from None


def _read(answer: Any, until: float) -> bytes:
    """All of an answer, by a time: one that comes byte by byte would otherwise never be late."""
    blocks: list[bytes] = []
    length = 0
    while block := answer.read1(BLOCK):
        blocks.append(block)
        length += len(block)
        if time.monotonic() > until:
            raise TimeoutError
        if length > MOST_BYTES:
            raise _RetryError(f"answers with more than {MOST_BYTES // 2**20} MiB")
    return b"".join(blocks)


def _failure(endpoint: Endpoint, terms: Terms, key: str | None, error: HTTPError, until: float) -> Exception:
    """Return what a status that is not 200 comes to."""
    status = error.code
    if status in COME_AGAIN:
        return _RetryError(f"answers {status}", _retry_after(error.headers.get("Retry-After")))
    if status in (401, 403):
        named = (
            f"the key in {terms.key_env}"
            if terms.key_env
            else "requests without a key: name its variable with --key-env"
        )
        return UnavailableError(f"{endpoint} answers {status} and refuses {named}.")
    if 300 <= status < 400:
        return InputError(
            f"{endpoint} answers {status}, which sends elsewhere: register the address where it answers itself."
        )
    try:
        told = json.loads(_read(error.fp, until))["error"]
        told = told["message"] if isinstance(told, dict) else told
    except (ValueError, KeyError, TypeError, OSError, HTTPException, AttributeError, _RetryError):
        told = ""
    why = f" ({_bare(str(told), key)})" if told else ""
    return InputError(f"{endpoint} answers {status}{why}: see its address, its model's name, --body and --size.")


def _vectors(endpoint: Endpoint, content: bytes, count: int) -> list[list[float]]:
    """The vectors of an answer in the order of what was asked."""
    try:
        answer = json.loads(content)
    except ValueError:
        raise _RetryError("answers with JSON that is not whole") from None
    rows = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(
            f"{endpoint} answers without a list `data`, as embeddings of OpenAI's form have: see its address."
        )
    if len(rows) != count or sorted(map(_index, rows)) != list(range(count)):
        raise InputError(
            f"{endpoint} answers with {len(rows)} vectors to {count} pictures, or does not number them from 0: they would be "
            f"given to the wrong pictures. Give --batch 1 if it takes no more."
        )
    vectors = [row.get("embedding") for row in sorted(rows, key=_index)]
    for vector in vectors:
        if not isinstance(vector, list) or not vector or not all(type(number) in (int, float) for number in vector):
            raise InputError(f"{endpoint} answers with an `embedding` that is no list of numbers: see --body.")
        if not all(abs(number) <= LARGEST for number in vector):
            raise InputError(f"{endpoint} answers with numbers that are not finite, or too large: mend it there.")
    return vectors


def _index(row: Mapping[str, Any]) -> int:
    found = row.get("index")
    return found if type(found) is int else -1


def _data_url(image: NDArray[np.float32]) -> str:
    """A picture (3, H, W) in [0, 1] as a data URL; PNG, so that no byte of it is lost."""
    pixels = np.rint(image.transpose(1, 2, 0) * 255).clip(0, 255).astype(np.uint8)
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode()}"


def _key(terms: Terms) -> str | None:
    if terms.key_env is None:
        return None
    key = os.environ.get(terms.key_env, "").strip()
    # Whatever else a header would refuse it by would show it.
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise InputError(f"The environment variable {terms.key_env} holds no key: set it to the one of the endpoint.")
    return key


def _bare(told: str, key: str | None) -> str:
    """Return what somebody else has said, in a line, without the key and without what may be a part of it."""
    told = "".join(letter if letter.isprintable() else " " for letter in told)
    if key is not None:
        parts: Sequence[str] = [key, key[:6], key[-6:]]
        for part in parts:
            told = told.replace(part, "…")
    return told[:200].strip()


def _retry_after(header: str | None) -> float | None:
    """Seconds of ``Retry-After``, which is a number of them or a date."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        then = parsedate_to_datetime(header)
    except ValueError:
        return None
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (then - datetime.now(UTC)).total_seconds())


def _is_here(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
