"""The workspace: a directory with the generations of a model, their lineage, and the gallery that they share."""

from pathlib import Path
from typing import Self

from evergallery.gallery.store import GalleryStore
from evergallery.generations.generation import Generation
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.verb import Creation, Verb
from evergallery.late import late_imports
from evergallery.upgrade.gate import Gate, gate_of

# A verb loads its room when it is called: who looks at a card waits for no network.
with late_imports():
    from evergallery.exchange import adopting, model_export, models, vectors
    from evergallery.holdings import embedding, examining, image_files, image_roots, images, keeping, restoring
    from evergallery.indexing import indexing
    from evergallery.learning import creating, learning
    from evergallery.report import report_page
    from evergallery.searching import duplicates, searching
    from evergallery.upgrade import (
        adapting,
        checking,
        choosing,
        doctor,
        overview,
        planning,
        promotion,
        refreshing,
        settling,
        verifying,
        virtual,
    )


class Workspace:
    """The verbs of the product on one directory.

    >>> shop = Workspace.create("shop", backbone="resnet20")
    >>> shop.learn("photos/spring")
    >>> shop.index("photos/catalogue")
    >>> shop.learn("photos/summer")
    >>> print(shop.check("v2", "photos/held-out").verdict)
    >>> shop.promote("v2")
    >>> shop.search("query.jpg", k=10)

    Args:
        directory: of the workspace.

    Raises:
        NotFoundError: there is none.
        DamagedError: ``workspace.json`` cannot be read, or is of a newer format.

    Attributes:
        holdings: what lies in the directory; every verb is a function of it.
    """

    def __init__(self, directory: str | Path) -> None:
        self.holdings = Holdings(directory)

    create = Creation(creating.create)

    # Learning
    learn = Verb(learning.learn)
    read = Verb(images.read)
    extract = Verb(embedding.extract)
    embed = Verb(embedding.embed)
    virtual_features = Verb(virtual.virtual_features)

    # Models and vectors from elsewhere, and to elsewhere
    register = Verb(models.register)
    export_model = Verb(model_export.export_model)
    import_vectors = Verb(vectors.import_vectors)
    export_vectors = Verb(vectors.export_vectors)
    adopt = Verb(adopting.adopt)
    release = Verb(adopting.release)

    # The gallery
    index = Verb(indexing.index)
    add = Verb(indexing.add)
    search = Verb(searching.search)
    near_duplicates = Verb(duplicates.near_duplicates)
    compact = Verb(keeping.compact)
    snapshot = Verb(keeping.snapshot)
    use_gallery = Verb(keeping.use_gallery)
    restore = Verb(restoring.restore)
    allow_images = Verb(image_roots.allow_images)
    forbid_images = Verb(image_roots.forbid_images)

    # Knowing before switching
    check = Verb(checking.check)
    compare = Verb(checking.compare)
    verify = Verb(verifying.verify)
    ways = Verb(choosing.ways)
    judge = Verb(promotion.judge)
    promote = Verb(promotion.promote)
    rollback = Verb(promotion.roll_back)
    adapt = Verb(adapting.adapt)

    @property
    def gate(self) -> Gate:
        """Return what a generation must show before it is promoted, from ``gate.toml``.

        Raises:
            InputError: the file cannot be used.
        """
        return gate_of(self.holdings)

    # Refreshing what pays
    plan = Verb(planning.plan)
    refresh = Verb(refreshing.refresh)
    commit = Verb(settling.commit)
    discard = Verb(settling.discard)

    # Looking
    status = Verb(overview.status)
    log = Verb(overview.log)
    diff = Verb(overview.diff)
    report = Verb(report_page.report)
    image_files = Verb(image_files.image_files)
    doctor = Verb(doctor.doctor)
    mend = Verb(examining.mend)

    # What there is
    generations = Verb(Holdings.generations)
    generation = Verb(Holdings.generation)
    adapters = Verb(Holdings.adapters)
    adapter = Verb(Holdings.adapter)
    close = Verb(Holdings.close)

    @property
    def directory(self) -> Path:
        """Return where it is."""
        return self.holdings.directory

    @property
    def promoted(self) -> Generation:
        """The generation that answers queries.

        Raises:
            NotFoundError: nothing has been learned yet.
        """
        return self.holdings.promoted

    @property
    def gallery(self) -> GalleryStore:
        """The stored items; opened when first used, by one process at a time where the engine serves one.

        Raises:
            BusyError: another process has it open.
            NotFoundError: its server does not answer.
        """
        return self.holdings.gallery

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
