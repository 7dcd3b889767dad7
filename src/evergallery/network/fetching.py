"""Published weights come from hosts that may not answer: each is asked once, for a bounded time, and quietly."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch

PATIENCE = 10.0
"""Seconds that a host has to answer."""


@contextmanager
def model_hub() -> Iterator[str | None]:
    """Keep the client of the model hub quiet, and to its local cache where the hub does not answer; yields why it does not.

    The client tries again for most of a minute, a file at a time, and announces each attempt.
    """
    from huggingface_hub import constants, get_session

    with quiet_loggers("huggingface_hub", "timm", "httpx", "httpx2"):
        before = constants.HF_HUB_OFFLINE
        silence = unanswered(lambda: get_session().head(constants.ENDPOINT, timeout=PATIENCE))
        constants.HF_HUB_OFFLINE = before or silence is not None
        try:
            yield silence
        finally:
            constants.HF_HUB_OFFLINE = before


def undownloadable(url: str) -> str | None:
    """Return why torch cannot download a file; ``None`` where its host answers, or torch's local cache holds the file."""
    if (Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]).is_file():
        return None
    return unanswered(lambda: _head(url))


def _head(url: str) -> None:
    try:
        urlopen(Request(url, method="HEAD"), timeout=PATIENCE).close()
    except HTTPError as error:
        # A refusal is an answer too.
        error.close()


def unanswered(ask: Callable[[], object], patience: float = PATIENCE) -> str | None:
    """Return why a host that is asked gives no answer within ``patience`` seconds; ``None`` where it does."""
    outcome: Queue[str | None] = Queue()

    def wait() -> None:
        try:
            ask()
        except Exception as error:
            outcome.put(first_line(error))
        else:
            outcome.put(None)

    # The timeout of a socket bounds neither the look-up of a name nor how many addresses are tried.
    Thread(target=wait, daemon=True).start()
    try:
        return outcome.get(timeout=patience)
    except Empty:
        return f"no answer within {patience:g} s"


def first_line(error: Exception) -> str:
    """Return what an error says, in a line; its kind where it says nothing."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


@contextmanager
def quiet_loggers(*names: str) -> Iterator[None]:
    """Let these loggers and all below them say nothing."""
    known = [*logging.root.manager.loggerDict]
    below = [name for name in known if name.startswith(tuple(f"{above}." for above in names))]
    # Levels rather than switches: a logger that is made meanwhile asks the one above it for its level.
    loggers = [logging.getLogger(name) for name in (*names, *below)]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
