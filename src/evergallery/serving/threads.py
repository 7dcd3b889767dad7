"""Threads for whatever takes time, so that the server's loop only waits."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Value = TypeVar("Value")

THREADS = 8
"""More than cores: some of them wait for a disk."""


class Threads:
    """A few threads that outlive requests.

    Attributes:
        pool: for what waits, or is short.
        cores: for what keeps a core busy and takes memory, as decoding does: one for each core.
    """

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(THREADS, thread_name_prefix="evergallery")
        self.cores = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="evergallery-decoding")

    async def run(
        self, work: Callable[Parameters, Value], *arguments: Parameters.args, **named: Parameters.kwargs
    ) -> Value:
        """Return what ``work`` returns, or raises."""
        return await _run(self.pool, partial(work, *arguments, **named))

    async def decode(
        self, work: Callable[Parameters, Value], *arguments: Parameters.args, **named: Parameters.kwargs
    ) -> Value:
        """Return what ``work`` returns, or raises, where it opens a picture."""
        return await _run(self.cores, partial(work, *arguments, **named))

    def close(self) -> None:
        """Wait for what is being done."""
        self.pool.shutdown()
        self.cores.shutdown()


async def _run(executor: Executor, work: Callable[[], Value]) -> Value:
    return await asyncio.get_running_loop().run_in_executor(executor, work)
