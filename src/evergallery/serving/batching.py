"""Questions that come at the same time are answered together, since eight at once cost a model, or a gallery, far less.

Nobody waits for company: while one batch is being answered the next one gathers, so that batches grow with the load and a
lone question is answered at once.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Generic, TypeVar

from evergallery.serving.failures import OverloadedError

Key = TypeVar("Key", bound=Hashable)
Question = TypeVar("Question")
Answer = TypeVar("Answer")
Batch = list[tuple[Question, "asyncio.Future[Answer]"]]


@dataclass(frozen=True)
class BatchLimits:
    """The sizes of what a batcher has at hand.

    Attributes:
        most: questions in a batch.
        waiting: questions that may wait; the next one is refused.
        at_once: batches that are being answered.
    """

    most: int
    waiting: int
    at_once: int = 1


class Batcher(Generic[Key, Question, Answer]):
    """Gathers questions of one key into batches, and answers them in threads.

    Args:
        answer: called in a thread with a key and up to ``limits.most`` questions; returns their answers in order.
        executor: of the threads.
        limits: of batches and of those who wait.
        batched: hears of the size of every batch.
    """

    def __init__(
        self,
        answer: Callable[[Key, Sequence[Question]], Sequence[Answer]],
        executor: Executor,
        limits: BatchLimits,
        batched: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._answer = answer
        self._executor = executor
        self._limits = limits
        self._batched = batched
        self._waiting: deque[tuple[Key, Question, asyncio.Future[Answer]]] = deque()
        self._working: set[asyncio.Task[None]] = set()

    async def ask(self, key: Key, question: Question) -> Answer:
        """The answer to a question; raises what answering raises.

        Raises:
            OverloadedError: too many are waiting.
        """
        if len(self._waiting) >= self._limits.waiting:
            raise OverloadedError(
                "More searches are waiting than this server can answer in time: try again in a moment."
            )
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, question, future))
        if len(self._working) < self._limits.at_once:
            self._working.add(asyncio.create_task(self._work()))
        return await future

    async def _work(self) -> None:
        try:
            while self._waiting:
                key, batch = self._next()
                if not batch:
                    continue
                self._batched(len(batch))
                await self._answer_together(key, batch)
        finally:
            # At once: a question that came before a callback would have done it would find a worker, and wait for ever.
            self._working.discard(asyncio.current_task())

    async def _answer_together(self, key: Key, batch: "Batch[Question, Answer]") -> None:
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.run_in_executor(self._executor, self._answer, key, [question for question, _ in batch])
        except Exception as error:
            if len(batch) == 1:
                _, future = batch[0]
                if not future.done():
                    future.set_exception(error)
                return
            # One of them may have failed the others.
            for waiting in batch:
                await self._answer_together(key, [waiting])
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    def _next(self) -> tuple[Key, "Batch[Question, Answer]"]:
        """The oldest question and those like it; whoever gave up waiting is left out."""
        first = self._waiting[0][0]
        batch: Batch[Question, Answer] = []
        others: deque[tuple[Key, Question, asyncio.Future[Answer]]] = deque()
        while self._waiting:
            key, question, future = self._waiting.popleft()
            if future.done():
                continue
            if key == first and len(batch) < self._limits.most:
                batch.append((question, future))
            else:
                others.append((key, question, future))
        self._waiting = others
        return first, batch
