"""The workspace: a directory with the generations of a model, their lineage, and the gallery that they share."""

from pathlib import Path
from typing import TYPE_CHECKING, Self

from evergallery.data.images import Fit
from evergallery.data.sizes import Size
from evergallery.gallery.items import Precision
from evergallery.holdings.holdings import Holdings
from evergallery.late import LateModule
from evergallery.network.architecture import HeadKind, Neck
from evergallery.upgrade.gate import Gate, gate_of
from evergallery.watching import SILENT, Watcher

if TYPE_CHECKING:
    from evergallery.exchange import adopting, model_export, models, vectors
    from evergallery.holdings import embedding, examining, image_files, image_roots, images, keeping, restoring
    from evergallery.indexing import indexing
    from evergallery.learning import learning
    from evergallery.report import report_page
    from evergallery.searching import duplicates, searching
    from evergallery.upgrade import (
        adapting,
        checking,
        choosing,
        doctor,
        kept_evidence,
        overview,
        planning,
        promotion,
        refreshing,
        settling,
        verifying,
        virtual,
    )
else:
    # A verb loads its room when it is called: who looks at a card waits for no network.
    adopting, model_export, models, vectors = LateModule.of(
        "evergallery.exchange", "adopting", "model_export", "models", "vectors"
    )
    embedding, examining, image_files, image_roots, images, keeping, restoring = LateModule.of(
        "evergallery.holdings",
        "embedding",
        "examining",
        "image_files",
        "image_roots",
        "images",
        "keeping",
        "restoring",
    )
    (indexing,) = LateModule.of("evergallery.indexing", "indexing")
    (learning,) = LateModule.of("evergallery.learning", "learning")
    (report_page,) = LateModule.of("evergallery.report", "report_page")
    duplicates, searching = LateModule.of("evergallery.searching", "duplicates", "searching")
    adapting, checking, choosing, doctor, kept_evidence, overview = LateModule.of(
        "evergallery.upgrade", "adapting", "checking", "choosing", "doctor", "kept_evidence", "overview"
    )
    planning, promotion, refreshing, settling, verifying, virtual = LateModule.of(
        "evergallery.upgrade", "planning", "promotion", "refreshing", "settling", "verifying", "virtual"
    )


class Workspace(Holdings):
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
    """

    @classmethod
    def create(
        cls,
        directory: str | Path,
        *,
        backbone: str = "resnet20",
        dim: int | None = None,
        neck: Neck | None = None,
        size: Size | None = None,
        fit: Fit = "crop",
        head: HeadKind = "cosine",
        store: str = "gallery",
        precision: Precision = "float32",
        pretrained: bool = False,
        weights: str | Path | None = None,
        reduce_jpegs: bool = False,
        watcher: Watcher = SILENT,
    ) -> Self:
        """Create a workspace; the arguments are what its first generation is made of.

        It is empty, or where weights are named it has the pretrained network as its first generation, as ``register`` would
        make it, which indexes and answers at once.

        Args:
            directory: must not exist, or be empty.
            backbone: ``resnet20``, ``resnet32``, ``resnet44``, ``resnet56``, any timm model, or ``torchvision/NAME``.
            dim: D of the embedding; the backbone's own width by default.
            neck: ``linear`` where a dimension is asked for, else ``none``.
            size: side of the input in pixels, or height and width; the backbone's own by default.
            fit: how an image of another shape is brought to that of the input.
            head: kind of classifier used in training. ``unit-rows`` is CSD's; next to a batch-hard triplet loss it may
                collapse to one point in its first epochs, which ``cosine`` with its larger gradients does not.
            store: where the gallery is: a directory inside the workspace, or the URL of an empty or new gallery in another
                engine. A password in it is not written down: give it to the engine as its documentation says.
            precision: that the gallery keeps vectors in: ``float16`` takes half of their bytes, ``int8`` searches large
                galleries by a quarter of them; see docs/storage.md for what each costs.
            pretrained: register the backbone with its published weights as the first generation.
            weights: the same with the weights in a file: safetensors, or a plain state dict.
            reduce_jpegs: decode a JPEG at an eighth, a quarter or half of its size where that is still not smaller than the
                input.
            watcher: hears of a host that is asked for weights.

        Raises:
            InputError: the directory is not empty, the weights cannot be had, the network cannot be built, or the URL cannot be
                used.
            NotFoundError: the gallery's server does not answer.
            RefusedError: the gallery is not empty.
        """
        from evergallery.learning.creating import create

        create(
            directory,
            backbone=backbone,
            dim=dim,
            neck=neck,
            size=size,
            fit=fit,
            head=head,
            store=store,
            precision=precision,
            pretrained=pretrained,
            weights=weights,
            reduce_jpegs=reduce_jpegs,
            watcher=watcher,
        )
        return cls(directory)

    # Learning
    learn = learning.learn
    read = images.read
    extract = embedding.extract
    embed = embedding.embed
    virtual_features = virtual.virtual_features

    # Models and vectors from elsewhere, and to elsewhere
    register = models.register
    export_model = model_export.export_model
    import_vectors = vectors.import_vectors
    export_vectors = vectors.export_vectors
    adopt = adopting.adopt
    release = adopting.release

    # The gallery
    index = indexing.index
    add = indexing.add
    search = searching.search
    answer_vectors = searching.answer_vectors
    near_duplicates = duplicates.near_duplicates
    compact = keeping.compact
    snapshot = keeping.snapshot
    use_gallery = keeping.use_gallery
    restore = restoring.restore
    allow_images = image_roots.allow_images
    forbid_images = image_roots.forbid_images

    # Knowing before switching
    check = checking.check
    compare = checking.compare
    verify = verifying.verify
    check_missing = checking.check_missing
    ways = choosing.ways
    evidence = kept_evidence.evidence_between
    judge = promotion.judge
    conditions = promotion.conditions
    promote = promotion.promote
    rollback = promotion.roll_back
    adapt = adapting.adapt

    @property
    def gate(self) -> Gate:
        """What a generation must show before it is promoted, from ``gate.toml``.

        Raises:
            InputError: the file cannot be used.
        """
        return gate_of(self)

    # Refreshing what pays
    plan = planning.plan
    refresh = refreshing.refresh
    commit = settling.commit
    discard = settling.discard

    # Looking
    status = overview.status
    log = overview.log
    diff = overview.diff
    report = report_page.report
    image_files = image_files.image_files
    doctor = doctor.doctor
    mend = examining.mend
