"""The contents of a workspace's directory; the verbs of the product are functions of them."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import Self

from evergallery.adapters.card import CARD as ADAPTER_CARD
from evergallery.adapters.stored import StoredAdapter, adapter_directories
from evergallery.arguments.checking import checked
from evergallery.data.roots import Roots, roots_at
from evergallery.errors import EvergalleryError, NotFoundError, StoredFileError, did_you_mean
from evergallery.files import FileContents, give_to_owner, lock, read_object, write_json
from evergallery.gallery.items import View
from evergallery.gallery.opening import open_store
from evergallery.gallery.places import is_url
from evergallery.gallery.store import GalleryStore
from evergallery.generations.card import CARD
from evergallery.generations.generation import Generation, generation_directories
from evergallery.holdings.journal import Journal
from evergallery.holdings.leftovers import somebody_was_killed, sweep
from evergallery.holdings.loaded import LoadedModels
from evergallery.holdings.marks import Marks
from evergallery.holdings.notes import Notes
from evergallery.holdings.spaces import Space
from evergallery.holdings.state import PromotionReason, State

HELD = "held.json"
WAIT = 10.0
"""Seconds to wait for another process that changes ``workspace.json``, which takes it milliseconds."""


class Holdings:
    """The contents of a workspace's directory, read when they are asked for.

    Args:
        directory: of the workspace.

    Raises:
        NotFoundError: there is none.
        DamagedError: ``workspace.json`` cannot be read, or is of a newer format.
    """

    @checked
    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self.loaded = LoadedModels()
        self.unreadable: dict[str, float] = {}
        """Items whose image could not be opened for a query, and the monotonic time from which it is tried again."""
        self._state = FileContents(State.read)
        self._generations = FileContents(lambda card: Generation.load(card.parent))
        self._stored_adapters = FileContents(lambda card: StoredAdapter.load(card.parent))
        if not self._state_path.is_file():
            raise NotFoundError(
                f"{self.directory} is not a workspace: create one with  evergallery init {quote(str(directory))}"
            )
        _ = self.state

    @property
    def _state_path(self) -> Path:
        return self.directory / "workspace.json"

    @property
    def state(self) -> State:
        """``workspace.json`` as it is now; shared with other readers, so that only ``changing`` changes it.

        Raises:
            DamagedError: it cannot be read, or is of a newer format.
        """
        return self._state.get(self._state_path)

    def generations(self) -> list[Generation]:
        """Every generation, oldest first."""
        return [self._generations.get(path / CARD) for path in generation_directories(self.directory / "generations")]

    def generation(self, name: str) -> Generation:
        """A generation by name.

        Raises:
            NotFoundError: there is none of that name; the message lists those there are.
        """
        for generation in self.generations():
            if generation.name == name:
                return generation
        known = [generation.name for generation in self.generations()]
        there = ", ".join(known) or "none yet: make one with  evergallery learn IMAGES"
        raise NotFoundError(
            f"{self.directory} has no generation {name!r}; there is {there}.{did_you_mean(name, known)}"
        )

    @property
    def promoted(self) -> Generation:
        """The generation that answers queries.

        Raises:
            NotFoundError: nothing has been learned yet.
        """
        name = self.state.promoted
        if name is None:
            raise NotFoundError(f"{self.directory} has no generation yet: make one with  evergallery learn IMAGES")
        return self.generation(name)

    def adapters(self) -> list[StoredAdapter]:
        """Every adapter, oldest first."""
        folder = self.directory / "adapters"
        if not folder.is_dir():
            return []
        return [self._stored_adapters.get(path / ADAPTER_CARD) for path in adapter_directories(folder)]

    def adapter(self, name: str) -> StoredAdapter:
        """An adapter by name.

        Raises:
            NotFoundError: there is none of that name.
        """
        for stored in self.adapters():
            if stored.card.name == name:
                return stored
        raise NotFoundError(
            f"{self.directory} has no adapter {name!r}: make one with  evergallery adapt NEW OLD --pairs IMAGES"
        )

    def space(self, name: str) -> Space:
        """The space of a generation (``v1``), or of the vectors that an adapter has mapped (``a1``).

        Raises:
            NotFoundError: there is none of that name.
        """
        if name.startswith("a"):
            stored = self.adapter(name)
            return Space(self.generation(stored.card.source.name), stored)
        return Space(self.generation(name))

    @cached_property
    def gallery(self) -> GalleryStore:
        """The stored items; opened when first used, by one process at a time where the engine serves one.

        Raises:
            BusyError: another process has it open.
            NotFoundError: its server does not answer.
        """
        place = self.state.store
        where = place if is_url(place) else self.directory / place
        # A directory is made where it is missing; what a URL names was made with the workspace, or by a copy.
        if is_url(place) or Path(where).is_dir() or not self._held():
            is_left = somebody_was_killed(self.directory, None if is_url(place) else Path(where))
            gallery = open_store(where, view=lambda: self.state.view(), create=not is_url(place))
            if not gallery.is_blank() or not self._held():
                if is_left:
                    # What cannot be swept now is swept next time, or by  evergallery doctor --mend
                    with suppress(OSError, EvergalleryError):
                        sweep(self.directory, gallery)
                return gallery
            gallery.close()
        making = "" if is_url(place) else f"mkdir -p {where} && "
        raise NotFoundError(
            f"The gallery {where} is gone, and it held {self._held()} items: bring its disk or its database back, restore a "
            f"snapshot with  evergallery gallery restore SNAPSHOT  or begin with an empty one:  "
            f"{making}evergallery gallery use {where} --force -w {self.directory}"
        )

    def _held(self) -> int:
        """Return how many items the gallery had when it was last closed, or as many as were added where nobody has noted that."""
        path = self.directory / HELD
        if not path.is_file():
            return self._added()
        try:
            return int(read_object(path, items=int)["items"])
        except StoredFileError:
            return self._added()

    def _added(self) -> int:
        """Return how many items were added since the gallery was taken, as the journal has it."""
        count = 0
        for entry in self.journal.entries():
            if entry["operation"] in ("use", "restore"):
                count = 0
            elif entry["operation"] in ("index", "import", "add", "delete"):
                count += entry.get("added", 0) - entry.get("pruned", 0) - entry.get("deleted", 0)
        return max(0, count)

    def _remember(self) -> None:
        """Note how many items the gallery has, so that its loss is not taken for emptiness."""
        is_noted = (self.directory / HELD).is_file()
        if is_noted and self._held() and is_url(self.state.store):
            # That there were any is what matters, and counting them takes a database its time.
            return
        with suppress(OSError, EvergalleryError):
            count = self.gallery.count(view=View())
            if not is_noted or count != self._held():
                write_json(self.directory / HELD, {"items": count})

    @property
    def roots(self) -> Roots:
        """Return where images of stored items may be opened: what was indexed or allowed, and what clients of the server add."""
        return roots_at((*self.state.image_roots, str(self.directory / "images")))

    @property
    def journal(self) -> Journal:
        """Return what was done to this workspace, by whom."""
        return Journal(self.directory / "log.jsonl")

    @cached_property
    def notes(self) -> Notes:
        """Return how often each item was found, and why one could not be refreshed."""
        return Notes(self.directory / "notes.sqlite")

    @property
    def marks(self) -> Marks:
        """Return which results people have called right or wrong."""
        return Marks(self.directory / "marks.jsonl")

    def close(self) -> None:
        """Release the gallery for other processes."""
        if "notes" in self.__dict__:
            self.notes.flush()
        if "gallery" in self.__dict__:
            self._remember()
            self.gallery.close()
            del self.__dict__["gallery"]
            with suppress(OSError):
                give_to_owner(self.directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def changing(holdings: Holdings, purpose: str) -> Iterator[State]:
    """The state, to be changed; written in one rename when the block ends, unless it raises.

    Raises:
        BusyError: another process keeps the state for longer than such a change takes.
    """
    path = holdings.directory / "workspace.json"
    with lock(holdings.directory / ".lock", purpose, wait=WAIT):
        state = State.read(path)
        yield state
        state.write(path)


@contextmanager
def unchanging(holdings: Holdings, purpose: str) -> Iterator[State]:
    """The state, which nobody changes until the block ends.

    Raises:
        BusyError: another process keeps the state for longer than a change takes.
    """
    with lock(holdings.directory / ".lock", purpose, wait=WAIT):
        yield State.read(holdings.directory / "workspace.json")


def promote_first(holdings: Holdings, generation: Generation) -> None:
    """Let a generation answer queries where none does yet: there is nothing that it could be compared with."""
    if holdings.state.promoted is None:
        with changing(holdings, "promoting a generation") as state:
            state.promote(generation.name, PromotionReason("the first generation"), fingerprint=generation.fingerprint)
