"""The workspace: a directory with the generations of a model, their lineage, and the gallery that they share."""

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from evergallery.adapters import Adapter, Direction
from evergallery.adapters.stored import CARD as ADAPTER_CARD
from evergallery.adapters.stored import StoredAdapter, adapter_directories
from evergallery.data.image_set import ImageSet, concatenate
from evergallery.data.images import Fit, Interpolation, Preprocessing, decode, pixels
from evergallery.data.listing import Listing
from evergallery.data.roots import Indexing, Roots, root_of, roots_at
from evergallery.data.sources import find, folder_at, load
from evergallery.data.tasks import at_most_per_class
from evergallery.data.vectors import open_vectors
from evergallery.errors import EvergalleryError, InputError, NotFoundError, RefusedError
from evergallery.exchange.exchange import Exported, Imported, export_vectors, generation_of, import_vectors, register
from evergallery.exchange.model_export import ExportedModel, export_model
from evergallery.extraction.extraction import Extraction, Here
from evergallery.files import ReadOnce, lock, new_directory, read_json, write_json
from evergallery.gallery.copying import require_same
from evergallery.gallery.edge import CONTENTS, EdgeStore
from evergallery.gallery.items import Filter, Item, Precision, PutCounts, View
from evergallery.gallery.opening import open_store
from evergallery.gallery.places import is_url, without_password
from evergallery.gallery.recall import Index
from evergallery.gallery.snapshot import Snapshot, take
from evergallery.gallery.store import NO_FILTER, GalleryStore
from evergallery.generations.generation import CARD, Generation, generation_directories
from evergallery.holdings.doctor import examine, mend
from evergallery.holdings.embedding_cache import EmbeddingCache
from evergallery.holdings.journal import Journal
from evergallery.holdings.notes import Notes
from evergallery.holdings.restoring import restore_gallery
from evergallery.holdings.spaces import Space
from evergallery.holdings.state import State
from evergallery.indexing.indexing import Indexed, index_images
from evergallery.learning import (
    changed_architecture,
    check_images,
    check_space,
    decide_start,
    in_two_classes,
    learn,
    left_out,
    said_train,
    tidy_up,
    training_part,
)
from evergallery.memory import Fidelity, Weighting
from evergallery.methods import Evergreen, Finetune, Method
from evergallery.network import Architecture, Extractor, HeadKind, Neck, build_backbone, extract
from evergallery.network.ranks import join
from evergallery.retrieval.calibration import Calibration
from evergallery.searching.routes import Result, Route, search_routes
from evergallery.training import Settings, TrainedPart, check_compiler, resolve_device
from evergallery.upgrade import gate as gates
from evergallery.upgrade.adapt import Adapted, adapt
from evergallery.upgrade.check import Check
from evergallery.upgrade.checking import check_generation, evidence_between
from evergallery.upgrade.evidence import Evidence
from evergallery.upgrade.gate import Condition, Gate
from evergallery.upgrade.plan import Plan
from evergallery.upgrade.promotion import Judgement, Promotion, judge, promote, roll_back
from evergallery.upgrade.refresh import Refreshed, commit, discard, plan_refresh, refresh, refresh_from_table
from evergallery.upgrade.status import Status, differences, status_of
from evergallery.upgrade.virtual import virtual_features
from evergallery.watching import Watcher

if TYPE_CHECKING:
    from evergallery.report.report_page import Report

SILENT = Watcher()
HELD = "held.json"
WAIT = 10.0
"""Seconds to wait for another process that changes ``workspace.json``, which takes it milliseconds."""
EMBEDDERS = 4
"""How many stay in memory: queries come by the promoted generation, and by those that are laid beside it."""


class Workspace:
    """The verbs of the product on one directory.

    >>> shop = Workspace.create("shop", backbone="resnet20")
    >>> shop.learn("photos/spring")
    >>> shop.index("photos/catalogue")
    >>> shop.learn("photos/summer")
    >>> print(shop.check("v2", "photos/held-out").verdict)
    >>> shop.promote("v2")
    >>> shop.search("query.jpg", k=10)
    """

    def __init__(self, directory: str | Path) -> None:
        """Open a workspace.

        Raises:
            NotFoundError: there is none.
            DamagedError: ``workspace.json`` cannot be read, or is of a newer format.
        """
        self.directory = Path(directory)
        self._state = ReadOnce(State.read)
        self._generations = ReadOnce(lambda card: Generation.load(card.parent))
        self._stored_adapters = ReadOnce(lambda card: StoredAdapter.load(card.parent))
        self._embedders: dict[str, Extractor] = {}
        self._one_loader = threading.Lock()
        self._adapters: dict[str, Adapter] = {}
        if not self._state_path.is_file():
            raise NotFoundError(f"{self.directory} is not a workspace: create one with  evergallery init {directory}")
        _ = self.state

    @classmethod
    def create(
        cls,
        directory: str | Path,
        *,
        backbone: str = "resnet20",
        dim: int | None = None,
        neck: Neck | None = None,
        size: int | None = None,
        fit: Literal["crop", "pad", "stretch"] = "crop",
        head: HeadKind = "cosine",
        store: str = "gallery",
        precision: Precision = "float32",
        pretrained: bool = False,
        weights: str | Path | None = None,
    ) -> "Workspace":
        """Create a workspace; the arguments are what its first generation is made of.

        It is empty, or where weights are named it has the pretrained network as its first generation, as ``register`` would
        make it, which indexes and answers at once.

        Args:
            directory: must not exist, or be empty.
            backbone: ``resnet20``, ``resnet32``, ``resnet44``, ``resnet56``, any timm model, or ``torchvision/NAME``.
            dim: D of the embedding; the backbone's own width by default.
            neck: ``linear`` where a dimension is asked for, else ``none``.
            size: side of the input in pixels; the backbone's own by default.
            fit: how an image that is not square becomes square.
            head: kind of classifier used in training. ``unit-rows`` is CSD's; next to a batch-hard triplet loss it may
                collapse to one point in its first epochs, which ``cosine`` with its larger gradients does not.
            store: where the gallery is: a directory inside the workspace, or the URL of an empty or new gallery in another
                engine. A password in it is not written down: give it to the engine as its documentation says.
            precision: that the gallery keeps vectors in: ``float16`` takes half of their bytes, ``int8`` searches large
                galleries by a quarter of them; see docs/storage.md for what each costs.
            pretrained: register the backbone with its published weights as the first generation.
            weights: the same with the weights in a file: safetensors, or a plain state dict.

        Raises:
            InputError: the directory is not empty, the weights cannot be had, the network cannot be built, or the URL cannot be
                used.
            NotFoundError: the gallery's server does not answer.
            RefusedError: the gallery is not empty.
        """
        path = Path(directory)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(f"{path} exists and is not empty: name a new directory for the workspace.")
        if (pretrained or weights is not None) and (dim is not None or neck is not None):
            raise InputError(
                f"The first generation is {backbone} as it was published: leave --dim and --neck out here, and give them to "
                f"evergallery learn."
            )
        architecture = changed_architecture(Architecture(), backbone, dim, neck)
        built = build_backbone(backbone)
        preprocessing = Preprocessing(
            size=size or built.size, fit=fit, interpolation=built.interpolation, mean=built.mean, std=built.std
        )
        place = without_password(store)
        if is_url(place):
            with closing(open_store(place, precision=precision)) as gallery:
                if gallery.count(view=View()):
                    raise RefusedError(
                        f"The gallery {place} is not empty: name another one, or another name in the URL."
                    )
        state = State(architecture=architecture, preprocessing=preprocessing.to_dict(), head=head, store=place)
        if path.exists():
            path.rmdir()
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_directory(path) as temporary:
            for name in ("generations", "runs", "cache"):
                (temporary / name).mkdir()
            (temporary / gates.FILE).write_text(gates.DEFAULT)
            if not is_url(place) and precision != "float32":
                EdgeStore(temporary / state.store, precision=precision).close()
            state.write(temporary / "workspace.json")
        workspace = cls(path)
        if pretrained or weights is not None:
            try:
                workspace.register(backbone, weights=weights, pretrained=pretrained, size=size, fit=fit)
            except BaseException:
                shutil.rmtree(path)
                raise
        return workspace

    # What there is

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
        known = ", ".join(generation.name for generation in self.generations()) or "none yet: run  evergallery learn"
        raise NotFoundError(f"{self.directory} has no generation {name!r}; there is {known}.")

    @property
    def promoted(self) -> Generation:
        """The generation that answers queries.

        Raises:
            NotFoundError: nothing has been learned yet.
        """
        name = self.state.promoted
        if name is None:
            raise NotFoundError(f"{self.directory} has no generation yet: run  evergallery learn  first.")
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
        raise NotFoundError(f"{self.directory} has no adapter {name!r}: make one with  evergallery adapt NEW OLD")

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
        # A directory is made where it is missing; what a URL names was made with the workspace, or by a copy.
        if is_url(place):
            return open_store(place, view=lambda: self.state.view(), create=False)
        where = self.directory / place
        held = self._held()
        if held and not (where / CONTENTS).is_file():
            raise NotFoundError(
                f"The gallery {where} is gone, and it held {held} items: mount its disk, restore a snapshot with  evergallery "
                f"gallery restore  , or delete {self.directory / HELD} to begin with an empty one."
            )
        return open_store(where, view=lambda: self.state.view())

    def _held(self) -> int:
        """How many items the gallery had when it was last closed after a change."""
        path = self.directory / HELD
        held = read_json(path).get("items") if path.is_file() else None
        return held if isinstance(held, int) else 0

    def _remember(self) -> None:
        """Note how many items the gallery has, so that its loss is not taken for emptiness."""
        with suppress(OSError, EvergalleryError):
            count = self.gallery.count(view=View())
            if count != self._held():
                write_json(self.directory / HELD, {"items": count})

    def use_gallery(self, place: str | Path, *, force: bool = False, watcher: Watcher = SILENT) -> None:
        """Take another gallery in place of this one, which is left as it is; one atomic change, once both are the same.

        Args:
            place: a directory, or a URL, whose password is not written down.
            force: do not compare them, for instance because this one is lost.
            watcher: hears of progress.

        Raises:
            NotFoundError: there is none.
            RefusedError: it does not hold what this one holds.
        """
        place = without_password(str(place))
        with closing(open_store(place, create=False)) as other:
            if not force:
                require_same(self.gallery, other, watcher)
            written = place if is_url(place) else _inside(Path(place), self.directory)
            with self.changing("taking another gallery") as state:
                state.store = written
        self.journal.record("use", gallery=written, compared=not force)
        self.close()
        # What the gallery before held is nothing that this one could have lost.
        (self.directory / HELD).unlink(missing_ok=True)

    def close(self) -> None:
        """Release the gallery for other processes."""
        if "notes" in self.__dict__:
            self.notes.flush()
        if "gallery" in self.__dict__:
            if not is_url(self.state.store):
                self._remember()
            self.gallery.close()
            del self.__dict__["gallery"]

    def __enter__(self) -> "Workspace":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Which images may be opened again

    @property
    def roots(self) -> Roots:
        """Where the images of stored items may be opened: what was indexed or allowed, and what clients of the server add."""
        return roots_at((*self.state.image_roots, str(self.directory / "images")))

    def allow_images(self, *places: str | Path) -> list[str]:
        """Let images be opened again that lie below these folders or URLs, by the server and by a refresh; returns all roots.

        Folders and tables that are indexed need not be allowed. What vectors were imported with, and what a table names outside
        of its folder, is an address that anybody may have written.

        Raises:
            InputError: no image can lie there.
        """
        with self.changing("allowing images") as state:
            state.image_roots = list(dict.fromkeys([*state.image_roots, *map(root_of, places)]))
        self.journal.record("allow images", places=[root_of(place) for place in places])
        return list(self.state.image_roots)

    def forbid_images(self, *places: str | Path) -> list[str]:
        """Let nothing be opened below these roots any more, unless it lies below another; returns the roots that are left.

        Raises:
            NotFoundError: one of them is no root.
        """
        gone = list(map(root_of, places))
        for place in gone:
            if place not in self.state.image_roots:
                raise NotFoundError(
                    f"{place} is not allowed anyway: list what is with  evergallery gallery images-from"
                )
        with self.changing("forbidding images") as state:
            state.image_roots = [root for root in state.image_roots if root not in gone]
        self.journal.record("forbid images", places=gone)
        return list(self.state.image_roots)

    @contextmanager
    def _allowing(self, places: Indexing, watcher: Watcher) -> Iterator[None]:
        """Record where what is indexed in the block lies: what was named by whoever indexes may be opened again."""

        def record(*roots: str) -> None:
            new = [root for root in roots if root not in self.state.image_roots]
            if new:
                with self.changing("indexing") as state:
                    state.image_roots = list(dict.fromkeys([*state.image_roots, *new]))

        if places.root is not None:
            record(places.root)
        try:
            yield
        finally:
            record(*sorted(places.links))
        if places.outside:
            watcher.said(
                f"{places.outside} images lie elsewhere than what was indexed, such as {places.example}: no server shows them, "
                f"and no refresh opens them, until you allow their folder with  evergallery gallery images-from FOLDER"
            )

    # Learning

    def read(self, data: str | Path, *, data_dir: Path | None = None, watcher: Watcher = SILENT) -> ImageSet:
        """Read labelled images at the size of this workspace's first generation; decoded ones are kept for next time."""
        return self.load(data, Preprocessing.from_dict(self.state.preprocessing), data_dir, watcher)

    def load(
        self,
        data: str | Path | ImageSet,
        preprocessing: Preprocessing,
        data_dir: Path | None = None,
        watcher: Watcher = SILENT,
        *,
        require_labels: bool = True,
        minimum_per_class: int = 1,
    ) -> ImageSet:
        """Images as a generation reads them; an image set is taken as it is."""
        if isinstance(data, ImageSet):
            return data
        return load(
            data,
            preprocessing,
            cache=self.directory / "cache",
            data_dir=data_dir,
            require_labels=require_labels,
            minimum_per_class=minimum_per_class,
            watched=Indexing(data, data_dir, self.state.image_roots).watched,
            on_progress=lambda done, total: watcher.counted("reading images", done, total),
        )

    def extract(
        self, generation: Generation, images: ImageSet, watcher: Watcher = SILENT, *, keep: bool = True
    ) -> NDArray[np.float32]:
        """Unit embeddings (N, D) of N images by a generation.

        Args:
            generation: that looks at them.
            images: N.
            watcher: hears of progress.
            keep: whether they are kept, by content, so that no image is extracted twice for a check.
        """
        if not keep:
            return self._extract(generation, images, watcher)
        cache = EmbeddingCache(self.directory / "cache" / "embeddings")
        known = cache.get(generation.fingerprint, images.hashes)
        missing = [index for index, one in enumerate(images.hashes) if one not in known]
        if missing:
            made = self._extract(generation, images.select(np.array(missing)), watcher)
            hashes = [images.hashes[index] for index in missing]
            cache.add(generation.fingerprint, hashes, made)
            known |= dict(zip(hashes, made, strict=True))
        return np.stack([known[one] for one in images.hashes])

    def _extract(self, generation: Generation, images: ImageSet, watcher: Watcher) -> NDArray[np.float32]:
        return extract(
            self.embedder(generation),
            images,
            generation.preprocessing,
            on_progress=lambda done, total: watcher.counted(f"extracting with {generation.name}", done, total),
        )

    def embedder(self, generation: Generation) -> Extractor:
        """Its embedder; the last few stay in memory, since loading one costs more than a search."""
        known = self._embedders.get(generation.fingerprint)
        if known is not None:
            return known
        # Queries of a generation that is loaded go on while another one loads.
        with self._one_loader:
            loaded = dict(self._embedders)
            if generation.fingerprint not in loaded:
                loaded[generation.fingerprint] = generation.embedder()
                self._embedders = dict(list(loaded.items())[-EMBEDDERS:])
            return loaded[generation.fingerprint]

    @contextmanager
    def extraction(
        self, generation: Generation, cluster: str | None = None, workers: int | None = None, watcher: Watcher = SILENT
    ) -> Iterator[Extraction]:
        """Where images are read and embedded by a generation: in this process, or on a cluster.

        Args:
            generation: that looks at them.
            cluster: the address of a Ray cluster.
            workers: how many there are to be on it.
            watcher: hears how many there are.

        Raises:
            InputError: a number of workers that cannot be.
            MissingExtraError: a cluster without ray.
            NotFoundError: nothing answers at its address.
        """
        if workers is not None and (cluster is None or workers < 1):
            raise InputError("Workers are a cluster's, at least one: give  --cluster ADDRESS --workers N")
        if cluster is None:
            yield Here(self.embedder(generation), generation.preprocessing)
            return
        from evergallery.extraction.cluster import Cluster

        with Cluster(cluster, generation, workers) as found:
            watcher.said(f"{generation.name} extracts on {found.size} workers of the cluster {cluster}")
            before = found.deaths
            yield found
            if found.deaths > before:
                watcher.said(f"workers that died on the way and were replaced: {found.deaths - before}")

    def known_embeddings(
        self, generation: Generation, images: ImageSet
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The gallery's vectors (N, D) of N images by a generation that cannot extract, and (N,) which are missing.

        An image is the stored item that has its id, where the images' table names ids, or its content.
        """
        names = images.item_ids or (None,) * len(images)
        by_id = {name: index for index, name in enumerate(names) if name is not None}
        by_content = {content: index for index, content in enumerate(images.hashes)}
        vectors = np.zeros((len(images), generation.card.dimension), np.float32)
        missing = np.ones(len(images), dtype=bool)
        state = self.state
        view = state.view()
        if state.refresh is not None:
            # New vectors are seen before they are shown, and earlier ones after: both can be measured.
            is_new = state.refresh.fingerprint == generation.fingerprint
            view = view.after(state.refresh.id) if is_new else view.before(state.refresh.id)
        for batch in self.gallery.iterate(Filter(generations=(generation.fingerprint,)), view=view):
            for item in batch:
                index = by_id.get(item.id, by_content.get(item.content_hash or ""))
                if index is not None:
                    vectors[index], missing[index] = item.embedding, False
        return vectors, missing

    def learn(
        self,
        data: str | Path | ImageSet,
        *,
        method: Method | None = None,
        parent: str | None = None,
        old_data: str | Path | ImageSet | None = None,
        classes: Sequence[str] | None = None,
        settings: Settings | Mapping[str, Any] | None = None,
        backbone: str | None = None,
        dim: int | None = None,
        neck: Neck | None = None,
        head: HeadKind | None = None,
        train: TrainedPart | None = None,
        pretrained: bool = False,
        weights: str | Path | None = None,
        from_scratch: bool = False,
        data_dir: Path | None = None,
        watcher: Watcher = SILENT,
    ) -> Generation:
        """Learn a generation from images of new categories; the first one is promoted at once.

        A run that was interrupted is continued when the same call is made again. Processes that ``torchrun`` or Slurm has
        started make the same call together, on one workspace that all of them see.

        Args:
            data: a folder, table, array file or named set (see ``evergallery.data.sources.load``), or an image set.
                Where it has splits, ``train`` is learned from and ``val``, if any, chooses the epoch.
            method: ``Evergreen()`` by default, ``Finetune()`` for a first generation that begins with new weights.
            parent: generation to learn from; the promoted one by default.
            old_data: images of the old categories, for methods that need them (joint).
            classes: learn only these of the data's classes.
            settings: of the training, or those that are to differ from the usual ones: ``Settings()`` for a network from
                scratch, ``Settings.update()`` for one that begins with its parent's weights, ``Settings.neck()`` where only
                the neck learns.
            backbone: another one than the parent's (than the workspace's, for a first generation).
            dim: another dimension of the embedding.
            neck: another neck.
            head: another kind of classifier in training.
            train: ``neck`` learns a neck on features that the backbone makes of each image once; ``last-stage`` the last
                stage of the backbone as well; ``all`` everything. By default the neck, where the backbone was trained
                elsewhere (registered, or begun with published weights) and has been frozen since; otherwise all.
            pretrained: begin with the backbone's published weights rather than the parent's.
            weights: begin with the backbone's weights in this file: safetensors, or a plain state dict.
            from_scratch: begin with new weights rather than the parent's.
            data_dir: where named sets lie.
            watcher: hears of progress.

        Raises:
            InputError: the data or the arguments cannot be used.
            BusyError: another process is learning in this workspace.
            TrainingError: a loss is not finite.
        """
        state = self.state
        ancestor = self.generation(parent) if parent else (self.promoted if state.promoted else None)
        if ancestor and not ancestor.can_be_parent and parent is None and method and not method.needs.parent:
            ancestor = None  # What only answers queries is no reason not to begin a lineage.
        if ancestor is not None:
            ancestor.require_network()
        start = decide_start(
            state.architecture, state.head, ancestor, method, backbone=backbone, dim=dim, neck=neck, head=head,
            pretrained=pretrained, weights=None if weights is None else Path(weights).expanduser(),
            from_scratch=from_scratch, train=train or said_train(settings),
        )  # fmt: skip
        method = method or (Evergreen() if ancestor or start.frozen else Finetune())
        check_images(method, old_data is not None, ancestor, start)
        preprocessing = ancestor.preprocessing if ancestor else Preprocessing.from_dict(state.preprocessing)
        check_space(method, start.architecture, ancestor)
        chosen = start.settings(settings)
        check_compiler(chosen)
        ranks = join(resolve_device(chosen.device))
        watcher = watcher if ranks.is_first else SILENT

        def read(source: str | Path | ImageSet) -> ImageSet:
            found = self.load(source, preprocessing, data_dir, watcher, minimum_per_class=2)
            for remark in (left_out(found), in_two_classes(training_part(found))):
                if remark is not None:
                    watcher.said(remark)
            return training_part(found)

        with lock(self.directory / "generations" / ".lock", "learn") if ranks.is_first else nullcontext():
            images = ranks.in_turn(lambda: read(data))
            if classes is not None:
                images = images.of_classes(classes)
            if old_data is not None:
                old = ranks.in_turn(lambda: read(old_data))
                old = old.of_classes(ancestor.card.classes) if ancestor else old
                most = method.old_images()
                if most is not None:
                    old = old.select(at_most_per_class(old.labels, most, chosen.data_seed))
                images = concatenate([old, images])
            if len(images) == 0:
                raise InputError("There is no image to learn from: the data has no split 'train'.")
            generation = learn(
                self.directory,
                ranks.agreed(max((generation.number for generation in self.generations()), default=0) + 1),
                images,
                method,
                chosen,
                parent=ancestor,
                start=start,
                preprocessing=preprocessing,
                watcher=watcher,
                ranks=ranks,
            )
            if ranks.is_first:
                self._learned(generation)
        ranks.wait()
        return generation

    def _learned(self, generation: Generation) -> None:
        if self.state.promoted is None:
            self._point_to(generation.name, why="the first generation")
        tidy_up(self.directory, generation)
        card = generation.card
        self.journal.record(
            "learn", generation=card.name, parent=card.parent, method=card.method.name, images=card.data["training"],
            new_classes=len(card.new_classes), seconds=card.training["seconds"],
        )  # fmt: skip

    def register(
        self,
        model: str | Path | Callable[..., Any],
        *,
        weights: str | Path | None = None,
        pretrained: bool = True,
        seed: int = 0,
        size: int | None = None,
        fit: Fit | None = None,
        interpolation: Interpolation | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> Generation:
        """Make a generation of a model that somebody else has trained; the first one is promoted at once.

        A model that is registered already, with the same preprocessing, is returned as it is.

        Args:
            model: a timm model, ``torchvision/NAME``, an ``.onnx`` file, or a Python function that turns a normalised
                float32 array (B, 3, H, W) into vectors (B, D): itself, or its name ``package.module:function``.
            weights: a file of weights, safetensors or a plain state dict, for a timm or torchvision model.
            pretrained: where no file is given, load the published weights rather than initial ones.
            seed: of the initial weights.
            size: side of the input in pixels; the model's own by default, 224 where nobody knows. An ONNX file that
                ``export_model`` has written says itself what preprocessing it wants.
            fit: how an image that is not square becomes square; crop where nobody knows.
            interpolation: the model's own by default, bilinear where nobody knows.
            mean: subtracted from each channel in [0, 1]; the model's own by default, ImageNet's where nobody knows.
            std: likewise what each channel is divided by.

        Raises:
            InputError: there is no such model, or it fails on a batch of pictures.
            MissingExtraError: an ONNX model without onnxruntime.
        """
        given = {"size": size, "fit": fit, "interpolation": interpolation, "mean": mean, "std": std}
        with lock(self.directory / "generations" / ".lock", "register"):
            generation = register(
                self.generations(),
                self.directory / "generations",
                model,
                weights=weights,
                pretrained=pretrained,
                seed=seed,
                head=self.state.head,
                **{name: value for name, value in given.items() if value is not None},
            )
            if self.state.promoted is None:
                self._point_to(generation.name, why="the first generation")
        self.journal.record("register", generation=generation.name, kind=generation.card.kind, model=str(model))
        return generation

    def export_model(
        self,
        path: str | Path,
        *,
        generation: str | None = None,
        int8: bool = False,
        calibrate: str | Path | ImageSet | None = None,
        data: str | Path | ImageSet | None = None,
        data_dir: Path | None = None,
        watcher: Watcher = SILENT,
    ) -> ExportedModel:
        """Write a generation's embedder to an ONNX file, which ``register`` and other programs read.

        It takes normalised images (B, 3, S, S) and gives unit embeddings (B, D); the preprocessing is written into it. In
        float32 its vectors are the generation's, which is made sure of on fixed pictures. In 8 bits they are others: registered,
        the file is a generation of its own, which ``check`` may show to be compatible with the vectors of this one.

        Args:
            path: ends in ``.onnx``.
            generation: the promoted one by default.
            int8: write weights and activations in 8 bits.
            calibrate: for that, images like those to come, not those it is measured on; 256 of them are used.
            data: held-out images with labels, on which recall@1 of the file is measured beside the generation's.
            data_dir: where named sets lie.
            watcher: hears of progress.

        Raises:
            RefusedError: the file does not do what the generation does.
            InputError: the generation is no network, or the arguments do not fit together.
            MissingExtraError: without onnx, onnxscript or onnxruntime.
        """
        maker = self.generation(generation) if generation else self.promoted
        return export_model(
            self, maker, Path(path), int8=int8, calibrate=calibrate, data=data, data_dir=data_dir, watcher=watcher
        )

    # The gallery

    def import_vectors(
        self,
        path: str | Path,
        *,
        into: str | None = None,
        ids: str | Path | None = None,
        skip_bad: bool = False,
        refresh: bool = False,
        relabel: bool = False,
        watcher: Watcher = SILENT,
    ) -> Imported:
        """Keep vectors made elsewhere in the gallery; what is there already is left as it is.

        What is known of an item stays where the table says nothing of it, and its label even where the table says another one.
        The whole table is checked before the first vector is kept; see ``evergallery.data.vectors.open_vectors``.

        Args:
            path: an ``.npz``, ``.npy`` or Parquet file.
            into: the generation that made them. By default the one that the file names, where it was exported from this
                workspace; else a generation of vectors only, which the same table finds again.
            ids: a text file with an id on each line, for ``.npy``.
            skip_bad: leave out bad rows instead of refusing the table.
            refresh: the rows are new vectors of stored items, by their ids: they wait beside the earlier ones, as those of
                ``refresh`` do, until their generation is promoted. Rows of no stored item are left out.
            relabel: a label, or the address of the same picture, takes the place of another one that is known.
            watcher: hears of progress.

        Raises:
            InputError: the table is damaged or has a bad row, or vectors of another dimension than the generation's.
            RefusedError: the gallery holds vectors of a space that has not been shown compatible with it.
        """
        table = open_vectors(path, ids=ids, skip_bad=skip_bad)
        with lock(self.directory / "generations" / ".lock", "import"):
            maker, is_new = generation_of(
                table, self.generations(), self.directory / "generations", self.generation(into) if into else None,
                occupied=bool(self.stored()) and not refresh,
            )  # fmt: skip
            if not refresh:
                self.require_compatible(Space(maker), self.stored())
            if self.state.promoted is None:
                self._point_to(maker.name, why="the first generation")
        if refresh:
            return refresh_from_table(self, table, maker, is_new, watcher)
        done = import_vectors(self.gallery, table, maker, is_new, watcher, relabel=relabel)
        self.journal.record(
            "import",
            generation=maker.name,
            file=str(path),
            added=done.added,
            replaced=done.replaced,
            unchanged=done.unchanged,
            conflicts=done.conflict_count,
        )
        return done

    def export_vectors(self, path: str | Path, *, generation: str | None = None, watcher: Watcher = SILENT) -> Exported:
        """Write the stored vectors of a generation to a table that ``import_vectors`` reads.

        Args:
            path: ``.npz``, ``.parquet``, or ``.npy``, which keeps ids in a file beside it and leaves out the rest.
            generation: whose vectors; may be left out where the gallery holds those of one only.
            watcher: hears of progress.

        Raises:
            NotFoundError: the gallery holds none.
            InputError: it holds those of several generations and none is named, or the file cannot be written.
        """
        makers = [self.generation(generation)] if generation else [space.maker for space in self.stored()]
        return export_vectors(self.gallery, makers, Path(path), watcher)

    def index(
        self,
        data: str | Path | ImageSet,
        *,
        generation: str | None = None,
        split: str | None = None,
        metadata: Sequence[str] = (),
        relabel: bool = False,
        sync: bool = False,
        prune: bool = False,
        data_dir: Path | None = None,
        cluster: str | None = None,
        workers: int | None = None,
        watcher: Watcher = SILENT,
    ) -> Indexed:
        """Extract images with a generation and keep their vectors in the gallery; labels are optional.

        An item's id is the table's ``item_id`` or else the SHA-256 of its content, so the same content is kept once.
        Items are durable batch by batch; after an interruption the same call goes on where it stopped. Files are decoded
        while the network embeds those before, in an amount of memory that does not grow with their number; of what is stored
        already, only the file is read.

        What is known of a stored picture stays where these images say nothing of it. Its label stays even where they say another
        one, which is counted, and its address as long as the picture is still there.

        Args:
            data: a folder, file, table, array file, named set or image set; a folder, table or file also as a URL that
                fsspec reads, such as ``s3://bucket/folder``.
            generation: that makes the vectors; the promoted one by default.
            split: only the images of this split.
            metadata: columns of a table that are kept as the items' metadata.
            relabel: a label, or the address of the same picture, takes the place of another one that is known.
            sync: compare all items that lie below the folder with what is in it now: which were changed, and which are gone.
                Whether they are deleted is asked of the watcher.
            prune: delete them unasked.
            data_dir: where named sets lie.
            cluster: the address of a Ray cluster whose workers read and extract, as ``ray.init`` takes it; ``local`` starts one
                on this machine. By default this process does it.
            workers: how many of the cluster's there are to be; one for each of its GPUs by default, or else of its CPUs.
            watcher: hears of progress.

        Raises:
            RefusedError: the gallery holds vectors that this generation has not been shown to be compatible with.
            NotFoundError: nothing answers at the cluster's address.
        """
        folder = None if isinstance(data, ImageSet) else folder_at(data)
        if (sync or prune) and (folder is None or split is not None or not sync):
            raise InputError(
                "What is gone is known of a whole folder alone: index a folder, without --split, with --sync."
            )
        maker = self.generation(generation) if generation else self.promoted
        self.require_compatible(Space(maker), self.stored())
        images = (
            data
            if isinstance(data, ImageSet)
            else find(data, maker.preprocessing, data_dir=data_dir, require_labels=False, metadata=metadata)
        )
        places = Indexing("" if isinstance(data, ImageSet) else data, data_dir, self.state.image_roots)
        if isinstance(images, Listing):
            images = places.watched(images)
        with self._allowing(places, watcher), self.extraction(maker, cluster, workers, watcher) as extraction:
            done = index_images(
                self.gallery, maker, extraction, images, watcher,
                source=str(data), split=split, relabel=relabel, skipped_file=self.directory / "skipped.csv",
                root=folder if sync else None, prune=lambda question: prune or watcher.confirms(question),
            )  # fmt: skip
        self.journal.record(
            "index", generation=maker.name, added=done.added, replaced=done.replaced, unchanged=done.unchanged,
            conflicts=done.conflict_count, pruned=done.pruned, skipped=done.skipped_count, seconds=round(done.seconds, 1),
        )  # fmt: skip
        return done

    def add(self, items: Sequence[Item], *, relabel: bool = False) -> PutCounts:
        """Store vectors made elsewhere; each item names the fingerprint of its generation.

        What is known of an item stays where the new one says nothing of it; its label even where it says another one, unless
        ``relabel``.

        Raises:
            RefusedError: a fingerprint that is no generation's here, or a space that has not been shown compatible
                with the gallery's.
            InputError: a vector of the wrong dimension, not finite, or not of unit length.
        """
        for fingerprint in {item.generation for item in items}:
            self.require_compatible(self.space_of(fingerprint), self.stored())
        done = self.gallery.put(items, relabel=relabel)
        self.journal.record(
            "add", added=done.added, replaced=done.replaced, unchanged=done.unchanged, conflicts=done.conflict_count
        )
        return done

    def search(
        self,
        query: str | Path | NDArray[np.float32] | None = None,
        *,
        item: str | None = None,
        generation: str | None = None,
        k: int = 10,
        where: Filter = NO_FILTER,
        minimum_score: float | None = None,
        minimum_probability: float | None = None,
        exact: bool | None = None,
    ) -> list[Result]:
        """The k items most like a query, best first.

        Args:
            query: an image file, or a vector (D,) made by ``generation``.
            item: id of a stored item to search with instead; it is left out of its own result.
            generation: that embeds the query; the promoted one by default.
            k: how many.
            where: labels, generations or metadata to search among.
            minimum_score: smallest cosine.
            minimum_probability: smallest calibrated probability that an item is of the query's class, in (0, 1).
            exact: compare with every item; by default only where no index was measured to find what exact search finds, see
                ``compact``.

        Raises:
            RefusedError: the gallery holds vectors that the query's generation has not been shown compatible with, or a
                probability is asked for that no check has measured.
            NotFoundError: no such item or file.
            InputError: both or neither of ``query`` and ``item``, an unreadable image, a vector of another dimension.
        """
        if (query is None) == (item is None):
            raise InputError("Search with an image, a vector or an item's id: give exactly one.")
        # Read once: who answers and which vectors are searched belong together.
        state = self.state
        if item is not None:
            stored = self.gallery.get(item, view=state.view())
            if stored is None:
                raise NotFoundError(f"The gallery has no item {item!r}: list them with  evergallery gallery list")
            asker, vector = self.space_of(stored.generation), stored.embedding
        else:
            maker = self.answering(generation, state)
            asker = Space(maker)
            vector = query if isinstance(query, np.ndarray) else self.embed(str(query), maker)
        found = self.search_vectors(
            vector[None], asker, k=k + (item is not None), where=where, state=state,
            minimum_score=minimum_score, minimum_probability=minimum_probability, exact=exact,
        )[0]  # fmt: skip
        found = [result for result in found if result.item.id != item][:k]
        self.notes.found(result.item.id for result in found)
        return found

    def search_vectors(
        self,
        queries: NDArray[np.float32],
        asker: Space,
        *,
        k: int = 10,
        where: Filter = NO_FILTER,
        state: State | None = None,
        minimum_score: float | None = None,
        minimum_probability: float | None = None,
        exact: bool | None = None,
    ) -> list[list[Result]]:
        """The k items most like each of (Q, D) unit rows of one space; see ``search``.

        Args:
            queries: (Q, D) unit rows.
            asker: the space that they lie in.
            k: how many.
            where: labels, generations or metadata to search among.
            state: which vectors are seen and what may be compared, all as of one moment; as of now by default.
            minimum_score: smallest cosine.
            minimum_probability: smallest calibrated probability.
            exact: see ``search``.

        Raises:
            RefusedError: the gallery holds vectors that these queries have not been shown compatible with.
            InputError: queries of another dimension.
        """
        asker.require_width(queries)
        queries = queries.astype(np.float32, copy=False)
        state = state or self.state
        view = state.view()

        def ask() -> list[list[Result]]:
            searched = self.stored(where, view=view)
            self.require_compatible(asker, searched, state)
            routes = [self.route(asker, space, state) for space in searched]
            return search_routes(
                self.gallery, routes, queries, k, where=where, view=view, minimum_score=minimum_score,
                minimum_probability=minimum_probability, exact=exact,
            )  # fmt: skip

        # An item that a refresh moves while one space after the other is searched would be met twice, or not at all.
        return self.gallery.at_one_moment(ask)

    def compact(self) -> dict[str, Index]:
        """Give back the room of what was deleted, and index what is large; returns the indexes by the name of their space.

        An index answers searches from then on where its recall, measured on stored vectors, suffices and nothing filters.
        """
        self.gallery.compact()
        indexes = {self.space_of(fingerprint).name: index for fingerprint, index in self.gallery.indexes().items()}
        self.journal.record("compact", recall={name: round(index.recall, 4) for name, index in indexes.items()})
        return indexes

    def snapshot(self, path: str | Path, *, watcher: Watcher = SILENT) -> Snapshot:
        """Copy the gallery to a new directory while this process goes on searching; what is written waits meanwhile.

        The state of the workspace is kept beside the vectors. Generations and adapters are not: they are plain files that
        never change.

        Raises:
            InputError: the path exists, or its directory does not.
            RefusedError: the gallery is in a database, which has its own ways to be backed up.
        """
        if not isinstance(self.gallery, EdgeStore):
            raise RefusedError("The gallery is in a database: back it up with the database's own tools.")
        taken = take(
            self.gallery,
            Path(path),
            lambda: self.state.model_dump(mode="json"),
            on_progress=lambda done, total: watcher.counted("copying the gallery, MiB", done >> 20, total >> 20),
        )
        self.journal.record("snapshot", path=str(path), vectors=taken.vectors)
        return taken

    def restore(self, path: str | Path, *, force: bool = False, watcher: Watcher = SILENT) -> Snapshot:
        """Search the gallery of a snapshot from now on, as it was searched then; one atomic change, after verification.

        The generation that answers queries stays. An earlier gallery that holds anything stays on disk, where it was.

        Raises:
            RefusedError: the gallery holds vectors and ``force`` is not given; or the snapshot holds vectors of a space that
                is not here.
            InputError: there is no snapshot, or it is of another format or engine.
            DamagedError: the snapshot is not what was written.
            BusyError: another process has the gallery.
        """
        restored = restore_gallery(self, Path(path), force, watcher)
        (self.directory / HELD).unlink(missing_ok=True)
        return restored

    def answering(self, name: str | None = None, state: State | None = None) -> Generation:
        """The generation of this name, or the promoted one of a state.

        Raises:
            NotFoundError: there is none.
        """
        name = name or (state or self.state).promoted
        return self.generation(name) if name else self.promoted

    def embed(self, path: str | Path, generation: Generation) -> NDArray[np.float32]:
        """The unit embedding (D,) of an image file."""
        if not Path(path).is_file():
            raise NotFoundError(f"There is no image {path}.")
        prepared = generation.preprocessing
        array = pixels(decode(Path(path), decoding=prepared.decoding), prepared)
        vector: NDArray[np.float32] = self.embed_pixels(array[None], generation)[0]
        return vector

    def embed_pixels(self, images: NDArray[np.uint8], generation: Generation) -> NDArray[np.float32]:
        """The unit embeddings (N, D) of images (N, S, S, 3) that ``data.images.pixels`` has brought to its size S."""
        unnamed = ImageSet(
            pixels=images, rows=np.arange(len(images)), labels=np.full(len(images), -1), classes=(),
            uris=("",) * len(images), hashes=("",) * len(images),
        )  # fmt: skip
        return extract(self.embedder(generation), unnamed, generation.preprocessing)

    # Knowing before switching

    @property
    def gate(self) -> Gate:
        """What a generation must show before it is promoted, from ``gate.toml``.

        Raises:
            InputError: the file cannot be used.
        """
        return Gate.read(self.directory / gates.FILE)

    def check(
        self,
        generation: str,
        data: str | Path | ImageSet,
        *,
        against: str | None = None,
        best: str | None = None,
        old_classes: Sequence[str] | None = None,
        answers: str | Path | None = None,
        queries: str | None = None,
        gallery: str | None = None,
        data_dir: Path | None = None,
        watcher: Watcher = SILENT,
    ) -> Check:
        """Measure a generation beside others on held-out images, and remember which spaces may be compared.

        Images that one of them has learned from are left out and counted. Which answers are right is said by labels, or by
        ``answers``; without both only the agreement of the result lists is measured, and nothing is remembered.

        Args:
            generation: the one that would query.
            data: held-out images; see ``evergallery.evaluation.protocol`` for which of them are queries. Where nothing can be
                extracted, a table of embeddings will do: an ``.npz`` with an array (N, D) for each generation under its name, or
                Parquet with such columns of lists; and (N,) ``labels`` (``label`` in Parquet), ``split``, ``ids`` (``id``) and
                ``answers`` (``answer``), each optional. ``@gallery`` stands for the stored items that have a label.
            against: whose vectors would be searched: a generation, an adapter that maps stored vectors, or ``all`` for
                the whole lineage; by default the promoted one (its parent, for that one itself) and whatever the gallery
                holds.
            best: a generation trained without the constraint of compatibility, for update gain and price.
            old_classes: names of the classes that the older generation knew, on which forgetting is measured. By default those
                that it has learned; where it knows none, as a registered model, the labels of its items in the gallery.
            answers: a ``.csv`` or Parquet table ``query,item[,grade]`` that says which items of the gallery are right for which
                queries: one row for one right answer, several rows for several, with grades above 0 for better and worse ones.
                Queries and items are named by item id, address, or file name. In place of labels.
            queries: split of the queries.
            gallery: split of the gallery; ``@gallery`` for the stored items, with all other images as queries.
            data_dir: where named sets lie.
            watcher: hears of progress.

        Raises:
            InputError: the images cannot be used, or none is left.
            NotFoundError: no such generation.
        """
        return check_generation(
            self, generation, data, against=against, best=best, old_classes=old_classes, answers=answers,
            queries=queries, gallery=gallery, data_dir=data_dir, watcher=watcher,
        )  # fmt: skip

    def virtual_features(
        self,
        generation: str,
        data: str | Path | ImageSet,
        *,
        weighting: Weighting = "clamped",
        data_dir: Path | None = None,
        watcher: Watcher = SILENT,
    ) -> dict[str, Fidelity]:
        """How well a generation's memory stands in for each generation before it, which must still be here.

        Every held-out image is searched among the others (see ``evergallery.evaluation.protocol`` for which are held out).

        Args:
            generation: whose memory is asked.
            data: held-out labelled images.
            weighting: of the class means.
            data_dir: where named sets lie.
            watcher: hears of progress.

        Returns:
            By the name of the earlier generation.

        Raises:
            InputError: it remembers no earlier generation, because it has no parent or another dimension than it.
        """
        return virtual_features(self, generation, data, weighting=weighting, data_dir=data_dir, watcher=watcher)

    def adapt(
        self,
        new: str,
        old: str,
        pairs: str | Path | ImageSet,
        *,
        direction: Direction = "query",
        kind: str | None = None,
        data_dir: Path | None = None,
        watcher: Watcher = SILENT,
    ) -> Adapted:
        """Make an adapter between two generations that nobody can or will retrain.

        Kinds of adapters are fitted to a part of the pairs and judged on the rest; the best is stored. It serves once
        ``check`` has shown that it may: queries then go through it by themselves.

        Args:
            new: the generation that queries.
            old: the generation whose vectors are stored.
            pairs: images that both look at, in any form that ``learn`` reads, labels optional; or an ``.npz`` with their
                embeddings, see ``check``.
            direction: ``query`` maps new queries into the old space; ``gallery`` maps stored vectors into the new one, for
                ``refresh(..., adapter=...)``, without any image.
            kind: one of ``evergallery.adapters.ADAPTERS``; by default all that fit are tried.
            data_dir: where named sets lie.
            watcher: hears of progress.

        Raises:
            InputError: the pairs cannot be used.
        """
        return adapt(self, new, old, pairs, direction=direction, kind=kind, data_dir=data_dir, watcher=watcher)

    def conditions(self, generation: str) -> list[tuple[str, Condition]]:
        """The gate's conditions on a generation as it stands, each with the name of the space that is compared with.

        Raises:
            RefusedError: see ``judge``.
        """
        return list(self.judge(generation).conditions)

    def judge(self, generation: str) -> Judgement:
        """What a promotion would be judged on as the gallery stands: the last checks, by the policy of this moment.

        The generation alone is compared with the one that answers now, alone, and its queries with those of every other space
        whose vectors it would search. While the gallery is empty no check is asked for; one that was made counts.

        Raises:
            RefusedError: it has not been checked against one of them.
        """
        return judge(self, generation)

    def evidence(self, new: Space, old: Space) -> Evidence | None:
        """What the last check of two spaces found: directly, or through the adapter that serves; ``None`` without one."""
        return evidence_between(self, new, old)

    def promote(self, generation: str, *, force: bool = False, why: str | None = None) -> Promotion:
        """Let a generation answer queries from now on; one atomic change. Where it answers already, nothing changes.

        Vectors that were refreshed for it, and not shown so far, are shown from the same moment.

        Returns:
            What was done and what it was judged on; as a sequence, the conditions of the gate, each with the name of the space
            that is compared with.

        Raises:
            RefusedError: the gate has not been passed, see ``judge``, or nobody has shown that it may search a space whose
                vectors the gallery holds; ``force`` with a reason ``why`` accepts that, and both are recorded.
            BusyError: another promotion, or a refresh, came between.
        """
        return promote(self, generation, force=force, why=why)

    def rollback(self) -> str:
        """Let the generation that was promoted before answer queries again, over the vectors that it searched; atomic.

        Raises:
            RefusedError: there was none before, or the vectors that it searched were given up by a commit.
        """
        return roll_back(self)

    # Refreshing what pays

    def plan(
        self,
        generation: str,
        *,
        adapter: str | None = None,
        images: str | Path | ImageSet | None = None,
        data_dir: Path | None = None,
        watcher: Watcher = SILENT,
    ) -> Plan:
        """What refreshing the gallery for a generation would cost, and what each share of it is expected to give.

        Nothing is changed. Recall is measured on a sample of the stored items that have labels and whose images are found.

        Args:
            generation: that would query.
            adapter: that would map the stored vectors, in place of extracting images again.
            images: where to look for the images first, by content; each item's URI otherwise.
            data_dir: where named sets lie.
            watcher: hears of progress.

        Raises:
            InputError: there is nothing to refresh.
        """
        return plan_refresh(self, generation, adapter=adapter, images=images, data_dir=data_dir, watcher=watcher)

    def refresh(
        self,
        generation: str,
        *,
        adapter: str | None = None,
        order: str = "random",
        fraction: float = 1.0,
        budget: float | None = None,
        until: float | None = None,
        rate: float | None = None,
        images: str | Path | ImageSet | None = None,
        data_dir: Path | None = None,
        cluster: str | None = None,
        workers: int | None = None,
        watcher: Watcher = SILENT,
    ) -> Refreshed:
        """Give stored items new vectors, by a newer generation or by an adapter; resumable, safe beside searches and adds.

        Where the generation is promoted, searches see each new vector at once; otherwise all of them wait in the shadow
        until it is. The earlier vectors stay until ``commit``, so that ``rollback`` is exact. Items whose image is gone
        keep their vector and are named.

        Args:
            generation: that queries the new vectors.
            adapter: maps the stored vectors, and no image is read.
            order: one of ``evergallery.upgrade.orders.ORDERS``.
            fraction: of the items, in (0, 1].
            budget: seconds after which to stop.
            until: stop where this recall@1 is to be expected, by the curve that ``plan`` measures.
            rate: items a second, at most.
            images: where to look for the images first, by content; each item's URI otherwise.
            data_dir: where named sets lie.
            cluster: the address of a Ray cluster whose workers extract, as of ``index``.
            workers: how many of the cluster's there are to be.
            watcher: hears of progress.

        Raises:
            RefusedError: another refresh is open, or mapped vectors have not been shown to serve.
            InputError: an argument is out of range, or the recall asked for is not to be expected.
            BusyError: another process has the gallery.
            NotFoundError: nothing answers at the cluster's address.
        """
        return refresh(
            self, generation, adapter=adapter, order=order, fraction=fraction, budget=budget, until=until, rate=rate,
            images=images, data_dir=data_dir, cluster=cluster, workers=workers, watcher=watcher,
        )  # fmt: skip

    def commit(self, *, watcher: Watcher = SILENT) -> int:
        """Give up the earlier vectors of refreshed items for good; returns how many were deleted.

        Raises:
            RefusedError: no refresh is open, or its vectors are not shown yet.
        """
        return commit(self, watcher)

    def discard(self, *, watcher: Watcher = SILENT) -> int:
        """Give up the new vectors of an open refresh; returns how many were deleted.

        Raises:
            RefusedError: no refresh is open, or the promoted generation cannot search the earlier vectors.
        """
        return discard(self, watcher)

    # Looking

    def status(self) -> Status:
        """Items by space and state, the open refresh, what runs now."""
        return status_of(self)

    def log(self) -> list[dict[str, Any]]:
        """Every operation on this workspace, oldest first: when, who, what, figures."""
        return self.journal.entries()

    def diff(self, one: str, other: str) -> dict[str, tuple[Any, Any]]:
        """What two generations differ in, by name; see ``evergallery.upgrade.status.differences``."""
        return differences(self.generation(one), self.generation(other))

    def report(
        self,
        data: str | Path | ImageSet | None = None,
        *,
        path: str | Path | None = None,
        generation: str | None = None,
        against: str | None = None,
        queries: str | None = None,
        gallery: str | None = None,
        data_dir: Path | None = None,
        watcher: Watcher = SILENT,
    ) -> "Report":
        """Write one HTML file about this workspace that needs no network; what is measured for it is not remembered.

        Args:
            data: held-out labelled images, as ``check`` takes them; without them nothing is measured, and the page says so.
            path: of the page; ``report.html`` in the workspace by default.
            generation: the one in question; the newest by default.
            against: whose vectors it would search; by default the promoted one's, or where it is the promoted one itself
                its parent's.
            queries: split of the queries.
            gallery: split of the gallery.
            data_dir: where named sets lie.
            watcher: hears of progress.

        Raises:
            NotFoundError: no such generation.
            InputError: the images cannot be used, or ``against`` is not older than ``generation``.
        """
        from evergallery.report.report_page import write_report

        return write_report(
            self, data, path=path, generation=generation, against=against, queries=queries, gallery=gallery,
            data_dir=data_dir, watcher=watcher,
        )  # fmt: skip

    def doctor(self) -> list[str]:
        """Verify every checksum and count; returns what is wrong, a sentence each."""
        return examine(self.directory, self.state.promoted, self.gallery)

    def mend(self) -> list[Path]:
        """Delete what killed processes have left, and added pictures that no item has any more; returns what was deleted.

        Raises:
            BusyError: another process is changing the workspace.
        """
        gone = mend(self.directory, self.gallery)
        if gone:
            self.journal.record("mend", deleted=len(gone))
        return gone

    # Inside

    @property
    def journal(self) -> Journal:
        """What was done to this workspace, by whom."""
        return Journal(self.directory / "log.jsonl")

    @cached_property
    def notes(self) -> Notes:
        """How often each item was found, and why one could not be refreshed."""
        return Notes(self.directory / "notes.sqlite")

    @contextmanager
    def changing(self, purpose: str) -> Iterator[State]:
        """The state, to be changed; written in one rename when the block ends, unless it raises.

        Raises:
            BusyError: another process keeps the state for longer than such a change takes.
        """
        with lock(self.directory / ".lock", purpose, wait=WAIT):
            state = State.read(self._state_path)
            yield state
            state.write(self._state_path)

    def stored(self, where: Filter = NO_FILTER, view: View | None = None) -> list[Space]:
        """The spaces whose vectors the gallery holds, as far as ``where`` admits them."""
        held = sorted(self.gallery.generations(view=view))
        return [self.space_of(name) for name in held if not where.generations or name in where.generations]

    def space_of(self, fingerprint: str) -> Space:
        """The space of a fingerprint.

        Raises:
            RefusedError: it is of no generation and no adapter here.
        """
        by_name = {generation.name: generation for generation in self.generations()}
        for generation in by_name.values():
            if generation.fingerprint == fingerprint:
                return Space(generation)
        for stored in self.adapters():
            if stored.card.fingerprint == fingerprint and stored.card.source.name in by_name:
                return Space(by_name[stored.card.source.name], stored)
        raise RefusedError(
            f"No generation of {self.directory} has the fingerprint {fingerprint[:12]}…: vectors of an unknown space cannot "
            f"be compared; list the known ones with  evergallery generations"
        )

    def route(self, asker: Space, space: Space, state: State | None = None) -> Route:
        """How queries of one space reach the vectors of another, as the last check has shown."""
        state = state or self.state
        pair = state.pair(asker.fingerprint, space.fingerprint) if asker.fingerprint != space.fingerprint else None
        adapter = self._adapter(pair.adapter) if pair and pair.adapter else None
        scale = state.scale(asker.fingerprint, space.fingerprint, pair.adapter if pair else None)
        return Route(space, adapter, Calibration(scale.slope, scale.intercept) if scale else None)

    def require_compatible(self, asker: Space, stored: Sequence[Space], state: State | None = None) -> None:
        """Refuse to compare what nobody has shown to be comparable.

        Raises:
            RefusedError: the message names the command that would show it.
        """
        state = state or self.state
        for other in stored:
            if not state.may_compare(asker.fingerprint, other.fingerprint):
                newer, older = sorted((asker, other), key=lambda space: -space.maker.number)
                raise RefusedError(
                    f"The gallery holds vectors of {other.name}, and {asker.name} has not been shown to be compatible with "
                    f"them: run  evergallery check {newer.name} --against {older.name} --data HELD_OUT  first."
                )

    def _adapter(self, name: str) -> Adapter:
        """An adapter with its tensors, which stay in memory."""
        if name not in self._adapters:
            self._adapters[name] = self.adapter(name).adapter()
        return self._adapters[name]

    def _point_to(self, name: str, why: str) -> None:
        with self.changing("promoting a generation") as state:
            state.promote(name, why)


def _inside(path: Path, directory: Path) -> str:
    """A path as the workspace's state names it: relative where it lies inside, so that the workspace may be moved."""
    path, directory = path.resolve(), directory.resolve()
    return str(path.relative_to(directory) if path.is_relative_to(directory) else path)
