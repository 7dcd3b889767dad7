"""Held-out pictures that were sent to check with: a folder a label in the workspace, which the command line reads too."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evergallery.errors import InputError
from evergallery.serving import schemas
from evergallery.serving.pictures import Pictures
from evergallery.strings.names import normal

MOST = 20_000
"""Pictures that are kept."""
NOT_IN_NAMES = frozenset('/\\:*?"<>|\0')


@dataclass(frozen=True)
class HeldOutPictures:
    """The folder ``held-out`` of a workspace, ``LABEL/<hash>.<ext>``; it stays until it is deleted.

    Attributes:
        folder: where.
        pictures: reads what is sent, and names it.
    """

    folder: Path
    pictures: Pictures

    def add(self, named: Sequence[tuple[str, bytes]], labels: Sequence[str]) -> schemas.HeldOutPictures:
        """Keep pictures, each once; one that cannot be read, or has another label already, is left out and named.

        Args:
            named: file names for messages, and contents.
            labels: one of each picture, or one of all.

        Raises:
            InputError: there are not so many labels, one cannot be a folder's name, or too many pictures are kept.
        """
        labels = list(labels) * len(named) if len(labels) == 1 else list(labels)
        if len(labels) != len(named):
            raise InputError(
                f"There are {len(named)} pictures and {len(labels)} labels: give one for each, or one for all."
            )
        for label in labels:
            _check(label)
        known = {path.stem: path.parent.name for path in self._files()}
        if len(known) + len(named) > MOST:
            raise InputError(f"{len(known)} pictures are kept, and {MOST} may be: delete them first.")
        skipped = []
        with self.pictures.changing():
            for (name, data), label in zip(named, map(normal, labels), strict=True):
                content = hashlib.sha256(data).hexdigest()
                try:
                    self.pictures.open(data)
                except InputError as error:
                    skipped.append(schemas.SkippedImage(name=name, reason=str(error)))
                    continue
                if known.get(content, label) != label:
                    skipped.append(
                        schemas.SkippedImage(name=name, reason=f"It is kept with the label {known[content]}.")
                    )
                    continue
                known[content] = label
                place = self.folder / label
                place.mkdir(parents=True, exist_ok=True)
                self.pictures.keep(data, place / self.pictures.place(data, content).name)
        return self.told(skipped)

    def told(self, skipped: Sequence[schemas.SkippedImage] = ()) -> schemas.HeldOutPictures:
        """Return how many pictures each label has."""
        labels: dict[str, int] = {}
        for path in self._files():
            labels[path.parent.name] = labels.get(path.parent.name, 0) + 1
        return schemas.HeldOutPictures(labels=labels, pictures=sum(labels.values()), skipped=list(skipped))

    def clear(self) -> schemas.HeldOutPictures:
        """Delete every held-out picture."""
        with self.pictures.changing():
            for path in self._files():
                path.unlink(missing_ok=True)
            for place in self.folder.glob("*/"):
                place.rmdir()
        return self.told()

    def require(self) -> Path:
        """The folder, to be read as held-out images.

        Raises:
            InputError: there is nothing in it.
        """
        if not self._files():
            raise InputError("No held-out picture was sent yet: send some first, each with its label.")
        return self.folder

    def _files(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*/*") if path.is_file())


def _check(label: str) -> None:
    if not label.strip() or label.startswith(".") or len(label.encode()) > 200 or NOT_IN_NAMES & set(label):
        raise InputError(
            f"{label!r} cannot be the name of a folder: give a label of letters, digits, blanks and dashes."
        )
