"""Images as the generations of a workspace read them; decoded ones are kept in its cache."""

from pathlib import Path

from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.data.roots import Indexing
from evergallery.data.sources import load
from evergallery.files import is_writable
from evergallery.holdings.holdings import Holdings
from evergallery.watching import SILENT, Watcher


def read(holdings: Holdings, data: str | Path, *, data_dir: Path | None = None, watcher: Watcher = SILENT) -> ImageSet:
    """Read labelled images at the size of this workspace's first generation; decoded ones are kept for next time."""
    return load_images(holdings, data, Preprocessing.from_dict(holdings.state.preprocessing), data_dir, watcher)


def load_images(
    holdings: Holdings,
    data: str | Path | ImageSet,
    preprocessing: Preprocessing,
    data_dir: Path | None = None,
    watcher: Watcher = SILENT,
    *,
    minimum_per_class: int = 1,
) -> ImageSet:
    """Images as a generation reads them; an image set is taken as it is.

    Args:
        holdings: of the workspace.
        data: in any form that ``evergallery.data.sources.load`` reads.
        preprocessing: of the generation.
        data_dir: where named sets lie.
        watcher: hears of progress.
        minimum_per_class: fewest images that a class may have; 0 where labels are not needed.

    Raises:
        InputError: they cannot be used.
    """
    if isinstance(data, ImageSet):
        return data
    return load(
        data,
        preprocessing,
        cache=holdings.directory / "cache" if is_writable(holdings.directory) else None,
        data_dir=data_dir,
        require_labels=minimum_per_class > 0,
        minimum_per_class=max(1, minimum_per_class),
        watched=Indexing(data, data_dir, holdings.state.image_roots).watched,
        on_progress=lambda done, total: watcher.counted("reading images", done, total),
    )
