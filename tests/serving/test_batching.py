"""Questions that come together are answered together, each with its own answer."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evergallery.errors import InputError
from evergallery.serving.batching import Batcher, BatchLimits
from evergallery.serving.failures import OverloadedError


class Model:
    """Answers with key and question; notes its batches, and waits where it is told to."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[int]]] = []
        self.begun, self.go = threading.Event(), threading.Event()
        self.go.set()

    def __call__(self, key: str, questions: Sequence[int]) -> list[tuple[str, int]]:
        self.begun.set()
        self.go.wait()
        self.batches.append((key, list(questions)))
        if 13 in questions:
            raise InputError("thirteen")
        return [(key, question) for question in questions]


@settings(max_examples=30, deadline=None)
@given(
    asked=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), min_size=1, max_size=40),
    most=st.integers(1, 8),
    at_once=st.integers(1, 3),
)
def test_everyone_gets_their_own_answer(asked: list[tuple[str, int]], most: int, at_once: int) -> None:
    model = Model()

    async def ask() -> list[tuple[str, int]]:
        with ThreadPoolExecutor(3) as threads:
            batcher = Batcher(model, threads, BatchLimits(most, 100, at_once=at_once))
            return list(await asyncio.gather(*(batcher.ask(key, question) for key, question in asked)))

    assert asyncio.run(ask()) == asked
    assert all(len(questions) <= most for _, questions in model.batches)
    assert sorted((key, question) for key, questions in model.batches for question in questions) == sorted(asked)


def test_who_asks_again_at_once_is_answered_again() -> None:
    async def ask() -> None:
        with ThreadPoolExecutor(1) as thread:
            batcher = Batcher(Model(), thread, BatchLimits(8, 100))
            async with asyncio.timeout(20):
                for question in range(10):
                    assert await batcher.ask("a", question) == ("a", question)

    asyncio.run(ask())


def test_what_comes_while_the_model_works_is_answered_together() -> None:
    model = Model()
    sizes: list[Any] = []

    async def ask() -> None:
        with ThreadPoolExecutor(1) as thread:
            batcher = Batcher(model, thread, BatchLimits(8, 100), batched=sizes.append)
            model.go.clear()
            first = asyncio.create_task(batcher.ask("a", 0))
            await asyncio.to_thread(model.begun.wait)
            others = [asyncio.create_task(batcher.ask("a", number)) for number in range(1, 11)]
            await asyncio.sleep(0)
            model.go.set()
            await asyncio.gather(first, *others)

    asyncio.run(ask())
    assert sizes == [1, 8, 2]


def test_who_fails_fails_alone() -> None:
    model = Model()

    async def ask() -> list[object]:
        with ThreadPoolExecutor(1) as thread:
            batcher = Batcher(model, thread, BatchLimits(8, 100))
            return await asyncio.gather(
                *(batcher.ask("a", question) for question in (1, 13, 2)), return_exceptions=True
            )

    first, failed, last = asyncio.run(ask())
    assert (first, last) == (("a", 1), ("a", 2))
    assert isinstance(failed, InputError)
    assert model.batches == [("a", [1, 13, 2]), ("a", [1]), ("a", [13]), ("a", [2])]


def test_too_many_are_told_to_come_again_and_who_left_is_not_answered() -> None:
    model = Model()

    async def ask() -> None:
        with ThreadPoolExecutor(1) as thread:
            batcher = Batcher(model, thread, BatchLimits(8, 2))
            model.go.clear()
            tasks = [asyncio.create_task(batcher.ask("a", 0))]
            await asyncio.to_thread(model.begun.wait)
            tasks += [asyncio.create_task(batcher.ask("a", number)) for number in (1, 2)]
            await asyncio.sleep(0)
            with pytest.raises(OverloadedError, match="try again"):
                await batcher.ask("a", 3)
            tasks[1].cancel()
            await asyncio.sleep(0)
            model.go.set()
            assert await tasks[2] == ("a", 2)

    asyncio.run(ask())
    assert model.batches == [("a", [0]), ("a", [2])]
