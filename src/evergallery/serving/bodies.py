"""Bodies of requests, read once it is known that their sender may send them: no more than the route takes, and away
from the server's loop.

A body is not looked at before the scope of its sender is. Its bytes are counted as they arrive, for the request and for
all requests together, and JSON is turned into what the route wants in a thread. What holds more parts than any request has
is refused before it is parsed, since a list of a million empty lists takes twenty times the memory of its text.
"""

import asyncio
import codecs
import re
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator
from typing import Any, cast

from fastapi import Request, Response, params
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import Message, Receive

from evergallery.errors import InputError, did_you_mean
from evergallery.serving.access import Admission, caller_of, service_of
from evergallery.serving.budget import MemoryBudget
from evergallery.serving.limits import Limits

MOST_PARTS = 100_000
"""Lists, objects and names in one request: four hundred for each of the most queries that one may hold."""


OPEN_NAMES = "metadata."
"""The beginning of names that the items' own metadata make up."""
CHARSETS = {"", "utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin-1"}
"""Character sets of a form's texts."""


class Body:
    """The body of one request as it arrives: ``await body()`` is the next message of the connection.

    Args:
        receive: the next message of the connection.
        announced: bytes that it says it has; 0 where it says nothing.
        most: bytes that it may have.
        limits: of the seconds that it may take.
        budget: of all bodies; ``close`` gives back what this one has taken.

    Raises:
        HTTPException: it is too large (413), or comes too slowly (408).
        OverloadedError: too much of other requests is held.
    """

    def __init__(self, receive: Receive, announced: int, most: int, limits: Limits, budget: MemoryBudget) -> None:
        if announced > most:
            raise _too_large(most)
        self._receive = receive
        self._most = most
        self._pause = limits.chunk_seconds
        self._deadline = asyncio.get_running_loop().time() + limits.body_seconds
        self._budget = budget
        self._read = 0
        self._complete = False

    async def __call__(self) -> Message:
        """The next message; of a body that is complete, whatever the connection says."""
        if self._complete:
            return await self._receive()
        left = self._deadline - asyncio.get_running_loop().time()
        try:
            if left <= 0:
                raise TimeoutError
            async with asyncio.timeout(min(self._pause, left)):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, "The request came too slowly: send it again.") from None
        count = len(message.get("body", b""))
        if self._read + count > self._most:
            raise _too_large(self._most)
        self._budget.take(count)
        self._read += count
        self._complete = not message.get("more_body", False)
        return message

    def close(self) -> None:
        """Give back what was taken of the budget."""
        self._budget.give_back(self._read)
        self._read = 0


class GuardedRoute(APIRoute):
    """A route that knows who asks before it reads what they send; its ``Admission`` says who may, and how much."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        answer = super().get_route_handler()
        needed = [dependency.dependency for dependency in self.dependencies]
        admissions = [admission for admission in needed if isinstance(admission, Admission)]
        field = self.body_field.field_info if self.body_field else None
        if field is not None and not admissions:
            raise TypeError(f"{self.path} reads what anybody sends: give its route an Admission.")
        is_json = field is not None and not isinstance(field, params.Form)
        names = set(_names(self.dependant))
        fields = {parameter.alias for parameter in self.dependant.body_params}
        model: TypeAdapter[Any] | None = TypeAdapter(cast(Any, field).annotation) if is_json else None

        async def guarded(request: Request) -> Response:
            for admission in admissions:
                await admission(caller_of(request))
            _require_known(request.query_params, names, "address: ")
            if field is None:
                return await answer(request)
            service = service_of(request)
            most = min(service.limits.most(admission.takes) for admission in admissions)
            announced = request.headers.get("content-length", "0")
            length = int(announced) if announced.isdecimal() else 0
            body = Body(request.receive, length, most, service.limits, service.budget)
            try:
                read = _GuardedRequest(request.scope, body)
                read.fields = fields
                read.may_use_disk = any(admission.scope != "read" for admission in admissions)
                if model is not None and "json" in request.headers.get("content-type", "").lower():
                    data = await read.body()
                    if data:
                        read.parsed = await service.threads.decode(parse, model, data)
                return await answer(read)
            finally:
                body.close()

        return guarded


class _GuardedRequest(Request):
    """A request whose JSON has been parsed already, and whose files are kept in memory unless they may go to disk."""

    parsed: Any = None
    may_use_disk = False
    fields: Collection[str] = ()

    async def json(self) -> Any:
        return self.parsed

    async def _get_form(self, **limits: Any) -> FormData:
        kind, _, parameters = self.headers.get("content-type", "").lower().partition(";")
        if self._form is None and kind.strip() == "multipart/form-data":
            # There are charsets that take a minute to decode a megabyte.
            charset = re.search(r"charset\s*=\s*\"?([^\s\";]*)", parameters)
            if charset is not None and charset[1] not in CHARSETS:
                raise HTTPException(415, "The form has another charset than UTF-8: send it as UTF-8.")
            parser = MultiPartParser if self.may_use_disk else _InMemory
            try:
                form = await parser(self.headers, self.stream(), **limits).parse()
            except MultiPartException as error:
                raise HTTPException(400, error.message) from error
            try:
                _require_known(form, self.fields)
            except HTTPException:
                await form.close()
                raise
            self._form = form
        # Another form holds no file, and every route with a form wants one.
        return self._form if self._form is not None else FormData()


class _InMemory(MultiPartParser):
    spool_max_size = 0
    """Any number."""


def parse(model: TypeAdapter[Any], data: bytes) -> Any:
    """Return what a route wants, from JSON.

    Raises:
        InputError: it holds more parts than any request does.
        RequestValidationError: it is not JSON, or not what is wanted.
    """
    parts = data.count(b"[") + data.count(b"{") + data.count(b":")
    if parts > MOST_PARTS:
        raise InputError(f"The request has {parts} lists, objects and names, more than the {MOST_PARTS} that are read.")
    try:
        return model.validate_json(data.removeprefix(codecs.BOM_UTF8))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise RequestValidationError([{**first, "loc": ("body", *first["loc"])}]) from None


def _names(dependant: Dependant) -> Iterator[str]:
    """The names that a route reads of its address, and what it depends on."""
    yield from (parameter.alias for parameter in dependant.query_params)
    for other in dependant.dependencies:
        yield from _names(other)


def _require_known(given: Iterable[str], known: Collection[str], whose: str = "") -> None:
    """Refuse names that a route does not read: what was sent under one would be lost, and nobody would hear of it.

    Raises:
        HTTPException: there is one.
    """
    for name in given:
        if name not in known and not name.startswith(OPEN_NAMES):
            raise HTTPException(422, f"{whose}{name}: there is none of that name.{did_you_mean(name, known)}")


def _too_large(most: int) -> HTTPException:
    return HTTPException(413, f"The request is larger than the {most} bytes that it may have.")
