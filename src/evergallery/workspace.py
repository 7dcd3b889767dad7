"""The workspace: a directory with the generations of a model, their lineage, and the gallery that they share."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from evergallery.data.image_set import ImageSet, concatenate
from evergallery.data.images import Fit, Interpolation, Preprocessing, decode, pixels
from evergallery.data.sources import load
from evergallery.data.tasks import at_most_per_class
from evergallery.data.vectors import open_vectors
from evergallery.doctor import examine
from evergallery.errors import InputError, NotFoundError, RefusedError
from evergallery.evaluation import Comparison, measure, protocol
from evergallery.exchange import Exported, Imported, export_vectors, generation_of, import_vectors, register
from evergallery.files import lock, new_directory
from evergallery.gallery.edge import EdgeStore
from evergallery.gallery.items import Filter, Item, Match, PutCounts
from evergallery.gallery.store import NO_FILTER, GalleryStore
from evergallery.generation import Generation, generation_directories
from evergallery.indexing import Indexed, index_images
from evergallery.learning import changed_architecture, check_images, check_space, learn, tidy_up, training_part
from evergallery.memory import Fidelity, Weighting, fidelity
from evergallery.methods import Evergreen, Finetune, Method
from evergallery.network import Architecture, HeadKind, Neck, build_backbone, extract, outputs_of
from evergallery.retrieval.knn import Exclusion
from evergallery.state import Pair, State, now
from evergallery.training import Settings
from evergallery.watching import Watcher

SILENT = Watcher()


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
    ) -> "Workspace":
        """Create an empty workspace; the arguments are what its first generation is made of.

        Args:
            directory: must not exist, or be empty.
            backbone: ``resnet20``, ``resnet32``, ``resnet44``, ``resnet56``, any timm model, or ``torchvision/NAME``.
            dim: D of the embedding; the backbone's own width by default.
            neck: ``linear`` where a dimension is asked for, else ``none``.
            size: side of the input in pixels; the backbone's own by default.
            fit: how an image that is not square becomes square.
            head: kind of classifier used in training. ``unit-rows`` is CSD's; next to a batch-hard triplet loss it may
                collapse to one point in its first epochs, which ``cosine`` with its larger gradients does not.

        Raises:
            InputError: the directory is not empty, or the network cannot be built.
        """
        path = Path(directory)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(f"{path} exists and is not empty: name a new directory for the workspace.")
        architecture = changed_architecture(Architecture(), backbone, dim, neck)
        built = build_backbone(backbone)
        preprocessing = Preprocessing(size=size or built.size, fit=fit, mean=built.mean, std=built.std)
        if path.exists():
            path.rmdir()
        path.parent.mkdir(parents=True, exist_ok=True)
        state = State(architecture=architecture, preprocessing=preprocessing.to_dict(), head=head)
        with new_directory(path) as temporary:
            for name in ("generations", "runs", "cache"):
                (temporary / name).mkdir()
            state.write(temporary / "workspace.json")
        return cls(path)

    # What there is

    @property
    def _state_path(self) -> Path:
        return self.directory / "workspace.json"

    @property
    def state(self) -> State:
        """``workspace.json`` as it is now.

        Raises:
            DamagedError: it cannot be read, or is of a newer format.
        """
        return State.read(self._state_path)

    def generations(self) -> list[Generation]:
        """Every generation, oldest first."""
        return [Generation.load(path) for path in generation_directories(self.directory / "generations")]

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

    @cached_property
    def gallery(self) -> GalleryStore:
        """The stored items; opened when first used, by one process at a time.

        Raises:
            BusyError: another process has it open.
        """
        return EdgeStore(self.directory / self.state.store)

    def close(self) -> None:
        """Release the gallery for other processes."""
        if "gallery" in self.__dict__:
            self.gallery.close()
            del self.__dict__["gallery"]

    def __enter__(self) -> "Workspace":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Learning

    def read(self, data: str | Path, *, data_dir: Path | None = None, watcher: Watcher = SILENT) -> ImageSet:
        """Read labelled images at the size of this workspace's first generation; decoded ones are kept for next time."""
        return self._load(data, Preprocessing.from_dict(self.state.preprocessing), data_dir, watcher)

    def extract(self, generation: Generation, images: ImageSet, watcher: Watcher = SILENT) -> NDArray[np.float32]:
        """Unit embeddings (N, D) of N images by a generation."""
        return extract(
            generation.embedder(),
            images,
            generation.preprocessing,
            on_progress=lambda done, total: watcher.counted(f"extracting with {generation.name}", done, total),
        )

    def learn(
        self,
        data: str | Path | ImageSet,
        *,
        method: Method | None = None,
        parent: str | None = None,
        old_data: str | Path | ImageSet | None = None,
        classes: Sequence[str] | None = None,
        settings: Settings | None = None,
        backbone: str | None = None,
        dim: int | None = None,
        neck: Neck | None = None,
        head: HeadKind | None = None,
        pretrained: bool = False,
        from_scratch: bool = False,
        data_dir: Path | None = None,
        watcher: Watcher = SILENT,
    ) -> Generation:
        """Learn a generation from images of new categories; the first one is promoted at once.

        A run that was interrupted is continued when the same call is made again.

        Args:
            data: a folder, table, array file or named set (see ``evergallery.data.sources.load``), or an image set.
                Where it has splits, ``train`` is learned from and ``val``, if any, chooses the epoch.
            method: ``Evergreen()`` by default, ``Finetune()`` for a first generation.
            parent: generation to learn from; the promoted one by default.
            old_data: images of the old categories, for methods that need them (joint).
            classes: learn only these of the data's classes.
            settings: ``Settings()`` for a network from scratch, ``Settings.update()`` for one that has a parent.
            backbone: another one than the parent's (than the workspace's, for a first generation).
            dim: another dimension of the embedding.
            neck: another neck.
            head: another kind of classifier in training.
            pretrained: begin with the backbone's published weights rather than the parent's.
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
        if ancestor and not ancestor.can_be_parent and parent is None and method and not method.needs_parent:
            ancestor = None  # What only answers queries is no reason not to begin a lineage.
        method = method or (Evergreen() if ancestor else Finetune())
        check_images(method, old_data is not None, ancestor)
        preprocessing = ancestor.preprocessing if ancestor else Preprocessing.from_dict(state.preprocessing)
        before = ancestor.architecture if ancestor else state.architecture
        architecture = changed_architecture(before, backbone, dim, neck)
        check_space(method, architecture, ancestor)
        kind = method.head or head or (ancestor.head_card.kind if ancestor else state.head)
        fresh = pretrained or from_scratch or architecture != before or not (ancestor and method.starts_from_parent)
        with lock(self.directory / "generations" / ".lock", "learn"):
            images = training_part(self._load(data, preprocessing, data_dir, watcher, minimum_per_class=2))
            if classes is not None:
                images = images.of_classes(classes)
            if old_data is not None:
                old = training_part(self._load(old_data, preprocessing, data_dir, watcher, minimum_per_class=2))
                old = old.of_classes(ancestor.card.classes) if ancestor else old
                most = method.old_images()
                if most is not None:
                    old = old.select(at_most_per_class(old.labels, most, settings.data_seed if settings else 0))
                images = concatenate([old, images])
            if len(images) == 0:
                raise InputError("There is no image to learn from: the data has no split 'train'.")
            generation = learn(
                self.directory,
                max((generation.number for generation in self.generations()), default=0) + 1,
                images,
                method,
                settings or (Settings() if fresh else Settings.update()),
                parent=ancestor,
                architecture=architecture,
                preprocessing=preprocessing,
                head=kind,
                pretrained=pretrained,
                from_scratch=from_scratch,
                watcher=watcher,
            )
            if self.state.promoted is None:
                self._point_to(generation.name, why="the first generation")
            tidy_up(self.directory, generation)
        return generation

    def register(
        self,
        model: str | Path | Callable[..., Any],
        *,
        weights: str | Path | None = None,
        pretrained: bool = True,
        seed: int = 0,
        size: int | None = None,
        fit: Fit = "crop",
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
            size: side of the input in pixels; the model's own by default, 224 where nobody knows.
            fit: how an image that is not square becomes square.
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
        return generation

    # The gallery

    def import_vectors(
        self,
        path: str | Path,
        *,
        into: str | None = None,
        ids: str | Path | None = None,
        skip_bad: bool = False,
        watcher: Watcher = SILENT,
    ) -> Imported:
        """Keep vectors made elsewhere in the gallery; what is there already is left as it is.

        The whole table is checked before the first vector is kept; see ``evergallery.data.vectors.open_vectors``.

        Args:
            path: an ``.npz``, ``.npy`` or Parquet file.
            into: the generation that made them. By default the one that the file names, where it was exported from this
                workspace; else a generation of vectors only, which the same table finds again.
            ids: a text file with an id on each line, for ``.npy``.
            skip_bad: leave out bad rows instead of refusing the table.
            watcher: hears of progress.

        Raises:
            InputError: the table is damaged or has a bad row, or vectors of another dimension than the generation's.
            RefusedError: the gallery holds vectors of a space that has not been shown compatible with it.
        """
        table = open_vectors(path, ids=ids, skip_bad=skip_bad)
        with lock(self.directory / "generations" / ".lock", "import"):
            maker, is_new = generation_of(
                table, self.generations(), self.directory / "generations", self.generation(into) if into else None,
                occupied=bool(self._stored()),
            )  # fmt: skip
            self._require_compatible(maker, self._stored())
            if self.state.promoted is None:
                self._point_to(maker.name, why="the first generation")
        return import_vectors(self.gallery, table, maker, is_new, watcher)

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
        makers = [self.generation(generation)] if generation else self._stored()
        return export_vectors(self.gallery, makers, Path(path), watcher)

    def index(
        self,
        data: str | Path | ImageSet,
        *,
        generation: str | None = None,
        split: str | None = None,
        data_dir: Path | None = None,
        watcher: Watcher = SILENT,
    ) -> Indexed:
        """Extract images with a generation and keep their vectors in the gallery; labels are optional.

        An item's id is the table's ``item_id`` or else the SHA-256 of its content, so the same content is kept once.
        Items are durable batch by batch; after an interruption the same call goes on where it stopped.

        Args:
            data: a folder, file, table, array file, named set or image set.
            generation: that makes the vectors; the promoted one by default.
            split: only the images of this split.
            data_dir: where named sets lie.
            watcher: hears of progress.

        Raises:
            RefusedError: the gallery holds vectors that this generation has not been shown to be compatible with.
        """
        maker = self.generation(generation) if generation else self.promoted
        self._require_compatible(maker, self._stored())
        images = self._load(data, maker.preprocessing, data_dir, watcher, require_labels=False)
        if split is not None:
            images = images.of_split(split)
        return index_images(self.gallery, maker, images, watcher)

    def add(self, items: Sequence[Item]) -> PutCounts:
        """Store vectors made elsewhere; each item names the fingerprint of its generation.

        Raises:
            RefusedError: a fingerprint that is no generation's here, or a space that has not been shown compatible
                with the gallery's.
            InputError: a vector of the wrong dimension, not finite, or not of unit length.
        """
        for fingerprint in {item.generation for item in items}:
            self._require_compatible(self._by_fingerprint(fingerprint), self._stored())
        return self.gallery.put(items)

    def search(
        self,
        query: str | Path | NDArray[np.float32] | None = None,
        *,
        item: str | None = None,
        generation: str | None = None,
        k: int = 10,
        where: Filter = NO_FILTER,
        minimum_score: float | None = None,
    ) -> list[Match]:
        """The k items most like a query, best first; exact.

        Args:
            query: an image file, or a vector (D,) made by ``generation``.
            item: id of a stored item to search with instead; it is left out of its own result.
            generation: that embeds the query; the promoted one by default.
            k: how many.
            where: labels, generations or metadata to search among.
            minimum_score: smallest cosine.

        Raises:
            RefusedError: the gallery holds vectors that the query's generation has not been shown compatible with.
            NotFoundError: no such item or file.
            InputError: both or neither of ``query`` and ``item``, an unreadable image, a vector of another dimension.
        """
        if (query is None) == (item is None):
            raise InputError("Search with an image, a vector or an item's id: give exactly one.")
        if item is not None:
            stored = self.gallery.get(item)
            if stored is None:
                raise NotFoundError(f"The gallery has no item {item!r}: list them with  evergallery gallery list")
            asker, vector = self._by_fingerprint(stored.generation), stored.embedding
        else:
            asker = self.generation(generation) if generation else self.promoted
            vector = query if isinstance(query, np.ndarray) else self.embed(str(query), asker)
        if vector.shape != (asker.card.dimension,):
            raise InputError(
                f"The query has shape {vector.shape} and {asker.name} makes vectors of ({asker.card.dimension},): "
                f"name the generation that made it."
            )
        searched = self._stored(where)
        if not searched:
            return []
        self._require_compatible(asker, searched)
        matches = self.gallery.search(
            vector[None].astype(np.float32), k + (item is not None), where=where, minimum_score=minimum_score
        )[0]
        return [match for match in matches if match.item.id != item][:k]

    def embed(self, path: str | Path, generation: Generation) -> NDArray[np.float32]:
        """The unit embedding (D,) of an image file."""
        if not Path(path).is_file():
            raise NotFoundError(f"There is no image {path}.")
        prepared = generation.preprocessing
        array = pixels(decode(Path(path)), prepared)
        image = ImageSet.from_arrays(array[None], np.array([-1]), ())
        vector: NDArray[np.float32] = extract(generation.embedder(), image, prepared)[0]
        return vector

    # Knowing before switching

    def check(
        self,
        generation: str,
        data: str | Path | ImageSet,
        *,
        against: str | None = None,
        queries: str | None = None,
        gallery: str | None = None,
        tolerance: float = 0.01,
        data_dir: Path | None = None,
        watcher: Watcher = SILENT,
    ) -> Comparison:
        """Measure a generation beside another on held-out labelled images, and remember whether they are compatible.

        Args:
            generation: the newer one, which would query.
            data: held-out images; see ``evergallery.evaluation.protocol`` for which of them are queries.
            against: whose vectors would be searched; the promoted one by default, or the parent of that one itself.
            queries: split of the queries.
            gallery: split of the gallery.
            tolerance: how far, as a fraction, the cross-test may lie below the older one's self-test.
            data_dir: where named sets lie.
            watcher: hears of progress.
        """
        new = self.generation(generation)
        old = self.generation(against or self._usual_opponent(new))
        if new.preprocessing != old.preprocessing:
            raise InputError(f"{new.name} and {old.name} read images of different sizes: check them one by one.")
        held_out = protocol(self._load(data, new.preprocessing, data_dir, watcher), queries, gallery)
        by_old = self.extract(old, held_out.images, watcher)
        by_new = by_old if new == old else self.extract(new, held_out.images, watcher)
        comparison = Comparison(
            new.name,
            old.name,
            held_out.description,
            new_self=measure(held_out, by_new, by_new, old.card.classes),
            old_self=measure(held_out, by_old, by_old, old.card.classes),
            cross=measure(held_out, by_new, by_old, old.card.classes),
            tolerance=tolerance,
        )
        if new != old:
            self._remember(new, old, comparison)
        return comparison

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
        later = self.generation(generation)
        memory = later.memory()
        earlier = [self.generation(name) for name in memory.means if name != later.name]
        if not earlier:
            raise InputError(
                f"{later.name} remembers no generation before it: it has no parent, or another dimension than its parent."
            )
        held_out = protocol(self._load(data, later.preprocessing, data_dir, watcher))
        images = held_out.images.select(held_out.query)
        labels, itself = torch.from_numpy(images.labels), Exclusion(torch.arange(len(images)))
        outputs = outputs_of(later.network(), images, later.preprocessing)
        return {
            one.name: fidelity(
                outputs, torch.from_numpy(self.extract(one, images, watcher)), memory.means[one.name], labels,
                weighting, itself,
            )
            for one in earlier
        }  # fmt: skip

    def promote(self, generation: str, *, force: bool = False, why: str | None = None) -> None:
        """Let a generation answer queries from now on; one atomic change.

        Raises:
            RefusedError: the gallery holds vectors that it has not been shown to be compatible with; ``force`` with a
                reason ``why`` accepts them, and both are recorded.
        """
        candidate = self.generation(generation)
        if force:
            if not why:
                raise InputError("Promoting against the evidence needs a reason: give it with --why.")
            for old in self._stored():
                if not self.state.may_compare(candidate.fingerprint, old.fingerprint):
                    self._record_pair(candidate, old, "force", why)
        else:
            self._require_compatible(candidate, self._stored())
        self._point_to(candidate.name, why or "compatible with the gallery")

    def rollback(self) -> str:
        """Promote the generation that was promoted before, and return its name.

        Raises:
            RefusedError: there was none before.
        """
        state = self.state
        before = self.generation(state.roll_back()).name
        state.write(self._state_path)
        return before

    def doctor(self) -> list[str]:
        """Verify every checksum and count; returns what is wrong, a sentence each."""
        return examine(self.directory, self.state.promoted, self.gallery)

    # Inside

    def _load(
        self,
        data: str | Path | ImageSet,
        preprocessing: Preprocessing,
        data_dir: Path | None,
        watcher: Watcher,
        *,
        require_labels: bool = True,
        minimum_per_class: int = 1,
    ) -> ImageSet:
        if isinstance(data, ImageSet):
            return data
        return load(
            data,
            preprocessing,
            cache=self.directory / "cache",
            data_dir=data_dir,
            require_labels=require_labels,
            minimum_per_class=minimum_per_class,
            on_progress=lambda done, total: watcher.counted("reading images", done, total),
        )

    def _stored(self, where: Filter = NO_FILTER) -> list[Generation]:
        """The generations whose vectors the gallery holds, as far as ``where`` admits them."""
        counts = self.gallery.count_by_generation()
        admitted = [name for name in counts if not where.generations or name in where.generations]
        return [self._by_fingerprint(name) for name in admitted if counts[name]]

    def _by_fingerprint(self, fingerprint: str) -> Generation:
        for generation in self.generations():
            if generation.fingerprint == fingerprint:
                return generation
        raise RefusedError(
            f"No generation of {self.directory} has the fingerprint {fingerprint[:12]}…: vectors of an unknown space cannot "
            f"be compared; list the known ones with  evergallery generations"
        )

    def _require_compatible(self, asker: Generation, stored: Sequence[Generation]) -> None:
        for other in stored:
            if not self.state.may_compare(asker.fingerprint, other.fingerprint):
                newer, older = sorted((asker, other), key=lambda generation: -generation.number)
                raise RefusedError(
                    f"The gallery holds vectors of {other.name}, and {asker.name} has not been shown to be compatible with "
                    f"them: run  evergallery check {newer.name} --against {older.name} --data HELD_OUT  first."
                )

    def _usual_opponent(self, new: Generation) -> str:
        promoted = self.promoted.name
        return new.card.parent or new.name if promoted == new.name else promoted

    def _remember(self, new: Generation, old: Generation, comparison: Comparison) -> None:
        if comparison.compatible:
            self._record_pair(new, old, "check", comparison.verdict)
            return
        state = self.state
        state.withdraw(new.fingerprint, old.fingerprint)
        state.write(self._state_path)

    def _record_pair(self, new: Generation, old: Generation, shown_by: Literal["check", "force"], why: str) -> None:
        state = self.state
        fingerprints = (new.fingerprint, old.fingerprint)
        state.accept(
            Pair(new=new.name, old=old.name, fingerprints=fingerprints, shown_by=shown_by, evidence=why, time=now())
        )
        state.write(self._state_path)

    def _point_to(self, name: str, why: str) -> None:
        state = self.state
        state.promote(name, why)
        state.write(self._state_path)
