"""Images as the generations of a workspace read them; decoded ones are kept in its cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.data.source_roots import SourceRoots
from evergallery.data.sources import load
from evergallery.files import is_writable
from evergallery.holdings.holdings import Holdings
from evergallery.watching import SILENT, Watcher


def read(holdings: Holdings, data: str | Path, *, data_dir: Path | None = None, watcher: Watcher = SILENT) -> ImageSet:
    """Read labelled images at the size of this workspace's first generation; decoded ones are kept for next time."""
    return ImageReader(holdings, data_dir, watcher).read(data, Preprocessing.from_dict(holdings.state.preprocessing))


@dataclass(frozen=True)
class ImageReader:
    """Reads images for the generations of a workspace.

    Attributes:
        holdings: of the workspace.
        data_dir: where named sets lie.
        watcher: hears of progress.
    """

    holdings: Holdings
    data_dir: Path | None = None
    watcher: Watcher = SILENT

    def read(
        self,
        data: str | Path | ImageSet,
        preprocessing: Preprocessing,
        *,
        minimum_per_class: int = 1,
        splits: Sequence[str] = (),
    ) -> ImageSet:
        """Images as a generation reads them; an image set is taken as it is.

        Args:
            data: in any form that ``evergallery.data.sources.load`` reads.
            preprocessing: of the generation.
            minimum_per_class: fewest images that a class may have; 0 where labels are not needed.
            splits: that are to be there; refused before an image is decoded.

        Raises:
            InputError: they cannot be used.
        """
        if isinstance(data, ImageSet):
            return data
        directory = self.holdings.directory
        return load(
            data,
            preprocessing,
            cache=directory / "cache" if is_writable(directory) else None,
            data_dir=self.data_dir,
            require_labels=minimum_per_class > 0,
            minimum_per_class=max(1, minimum_per_class),
            splits=splits,
            watched=SourceRoots(data, self.data_dir, self.holdings.state.image_roots).watched,
            on_progress=lambda done, total: self.watcher.counted("reading images", done, total),
        )
