"""The program on the machines of a cluster: it reads, hashes, decodes and embeds, and keeps nothing."""

import os
import socket
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evergallery._version import __version__
from evergallery.data.images import UnreadableImage
from evergallery.data.images.decoding import MAX_PIXELS
from evergallery.data.listing import Entry
from evergallery.data.places import local_path
from evergallery.data.roots import Roots
from evergallery.data.streaming import (
    READERS,
    Picture,
    ahead,
    read_pictures,
    with_data,
    working,
)
from evergallery.devices.choosing import has_gpu
from evergallery.errors import EvergalleryError
from evergallery.extraction.extraction import ItemAnswer, PictureAnswer, decoded_by, embedded, renewed
from evergallery.extraction.images import MISSING, find_images
from evergallery.gallery.items import Item
from evergallery.generations.generation import Generation
from evergallery.holdings.notes import Problem
from evergallery.network.extraction import in_torch
from evergallery.strings.environment import LARGEST_IMAGE

Work = Literal["read", "embed", "renew"]
ItemToRenew = tuple[Item, bytes | NDArray[np.uint8] | None, Roots]
"""A stored item, the file of its image or its pixels where they are known, and the places below which it may be opened."""


@dataclass(frozen=True)
class Refusal:
    """A worker's answer where the whole job cannot be done; its exceptions need not survive the way."""

    reason: str


class Worker:
    """The actor on the cluster: an embedder, and threads that read and decode for it.

    Args:
        threads: that decode.
        on_gpu: whether the network runs on one.
        largest: pixels of the largest image that is decoded in full, as where the pictures are asked for.
    """

    def __init__(self, threads: int, on_gpu: bool, largest: int = MAX_PIXELS) -> None:
        os.environ[LARGEST_IMAGE] = str(largest)
        self.threads = threads
        self.device = "cuda" if on_gpu else "cpu"
        self.machine = socket.gethostname()
        self._stack = ExitStack()
        self._lock = threading.Lock()

    def prepare(self, version: str, files: dict[str, bytes]) -> Refusal | None:
        """Open a generation from its files, which are verified here as anywhere."""
        if version != __version__:
            return Refusal(
                f"The machine {self.machine} of the cluster has Evergallery {__version__}, this one {version}: install the same."
            )
        try:
            with tempfile.TemporaryDirectory() as name:
                for file, content in files.items():
                    (Path(name) / file).write_bytes(content)
                generation = Generation.load(Path(name))
                if self.device == "cuda" and not has_gpu():
                    return Refusal(
                        f"The machine {self.machine} of the cluster offers a GPU that its PyTorch does not see: install PyTorch "
                        f"with CUDA there, or start Ray there with  --num-gpus 0"
                    )
                embedder = generation.embedder(self.device if generation.can_be_parent else "cpu")
        except EvergalleryError as error:
            return Refusal(f"The machine {self.machine} of the cluster cannot run the generation: {error}")
        self.preprocessing = generation.preprocessing
        self._embed = in_torch(embedder, self.preprocessing)
        self._readers: ThreadPoolExecutor = self._stack.enter_context(working(READERS))
        self._decoders: ThreadPoolExecutor = self._stack.enter_context(working(self.threads))
        return None

    def do(self, work: Work, inputs: Sequence[Any]) -> list[Any] | Refusal:
        """Do what one of the methods below does, by its name."""
        try:
            answers: list[Any] = getattr(self, work)(inputs)
        except EvergalleryError as error:
            return Refusal(f"The machine {self.machine} of the cluster: {error}")
        return answers

    def read(self, entries: Sequence[Entry]) -> list[Picture | UnreadableImage]:
        """Read and hash files; their data stays behind."""
        found = read_pictures(self._readers, entries)
        return [
            replace(picture, data=None) if isinstance(picture, Picture) else self._seen_from_here(picture)
            for picture in found
        ]

    def embed(self, pictures: Sequence[Picture]) -> list[PictureAnswer]:
        """The vectors of pictures, whose files are read again where they come without data."""
        files = ahead(self._readers, with_data, pictures, READERS)
        decoded = decoded_by(self._decoders, self.threads, files, self.preprocessing)
        with self._lock:
            return embedded(decoded, self._embed)

    def renew(self, items: Sequence[ItemToRenew]) -> list[ItemAnswer]:
        """New vectors of stored items."""
        known = {item.content_hash: image for item, image, _ in items if image is not None}
        asked, roots = [item for item, _, _ in items], items[0][2]
        found = find_images(asked, self.preprocessing, roots, known.get, self.threads)
        with self._lock:
            answers = renewed(asked, found, self._embed)
        return [
            replace(answer, reason=f"{answer.reason} on the machine {self.machine} of the cluster")
            if isinstance(answer, Problem) and answer.kind == MISSING
            else answer
            for answer in answers
        ]

    def _seen_from_here(self, skipped: UnreadableImage) -> UnreadableImage:
        path = local_path(skipped.uri)
        if path is None or path.exists():
            return skipped
        return replace(skipped, reason=f"there is no such file on the machine {self.machine} of the cluster.")
