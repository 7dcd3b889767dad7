"""Images as the generations of a workspace read them; decoded ones are kept in its cache."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.data.listing import Entry, Listing
from evergallery.data.source_roots import SourceRoots
from evergallery.data.sources import Decoding, Requirements, find, of_choice, prepare, require_any
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
        any_of: Sequence[str] = (),
        check_entries: Callable[[Sequence[Entry]], None] = lambda _: None,
    ) -> ImageSet:
        """Images as a generation reads them; see ``prepare``.

        Args:
            data: in any form that ``evergallery.data.sources.load`` reads.
            preprocessing: of the generation.
            minimum_per_class: fewest images that a class may have; 0 where labels are not needed.
            splits: that are to be there.
            any_of: classes one of which is to be there, at least.
            check_entries: refuses what the names of files already tell.
        """
        labels = minimum_per_class > 0
        required = Requirements(
            labels, max(1, minimum_per_class), tuple(splits), any_of=tuple(any_of), check_entries=check_entries
        )
        return self.prepare(data, preprocessing, required)()

    def prepare(
        self,
        data: str | Path | ImageSet,
        preprocessing: Preprocessing,
        required: Requirements,
    ) -> Callable[[], ImageSet]:
        """Find images, and return what decodes them as a generation reads them; an image set is taken as it is.

        Args:
            data: in any form that ``evergallery.data.sources.load`` reads.
            preprocessing: of the generation.
            required: of the images; what their names tell is refused before an image is decoded.

        Raises:
            InputError: they cannot be used.
        """
        if isinstance(data, ImageSet):
            require_any(required.any_of, data.classes)
            chosen = of_choice(data, required.choice)
            return lambda: chosen
        directory = self.holdings.directory
        return prepare(
            data,
            preprocessing,
            required,
            Decoding(
                directory / "cache" if is_writable(directory) else None,
                self._watched(data),
                lambda done, total: self.watcher.counted("reading images", done, total),
            ),
            self.data_dir,
        )

    def find(self, data: str | Path | ImageSet, preprocessing: Preprocessing) -> ImageSet | Listing:
        """Images that need no labels, or else where they are; see ``evergallery.data.sources.find``.

        Raises:
            InputError: they cannot be used; what is wrong inside a listing comes out as it is gone through.
        """
        if isinstance(data, ImageSet):
            return data
        found = find(data, preprocessing, data_dir=self.data_dir, require_labels=False)
        return self._watched(data)(found) if isinstance(found, Listing) else found

    def _watched(self, data: str | Path) -> Callable[[Listing], Listing]:
        """Return what refuses addresses of a listing that nobody has allowed to be opened."""
        return SourceRoots(data, self.data_dir, self.holdings.state.image_roots).watched
