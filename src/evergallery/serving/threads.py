"""Threads for whatever takes time, so that the server's loop only waits."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Value = TypeVar("Value")

THREADS = 8
"""More than cores: some of them wait for a disk."""


class Threads:
    """A few threads that outlive requests."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="evergallery")

    async def run(
        self, work: Callable[Parameters, Value], *arguments: Parameters.args, **named: Parameters.kwargs
    ) -> Value:
        """What ``work`` returns, or raises."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(work, *arguments, **named))

    def close(self) -> None:
        """Wait for what is being done."""
        self._pool.shutdown()
