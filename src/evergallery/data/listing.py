"""The images of a source before any of them is opened: folders and tables, read entry by entry."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from evergallery.data.images.kinds import NOT_PICTURES, OTHER_PICTURES, RAW_SUFFIXES, SUFFIXES, kind_of
from evergallery.data.images.parts import Part
from evergallery.data.images.reading import UnreadableImage
from evergallery.data.metadata import is_name
from evergallery.data.places import FolderEntry, children, head, identity, is_there, join, local_path
from evergallery.data.tables import read_table
from evergallery.errors import InputError
from evergallery.strings.names import normal

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
    "query": "query",
    "gallery": "gallery",
}
COLUMNS = ("path", "label", "split", "camera", "item_id")
JUNK = "-1"
"""Label of junk in sets for re-identification: what no ranking shows, where a distractor is a wrong answer."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An image file and what is known of it.

    Attributes:
        uri: a path on this machine, or a URL.
        label: its class.
        split: for instance ``train`` or ``test``.
        camera: for re-identification.
        item_id: what the item is to be called, where it is not by its content.
        metadata: whatever else a table says of it.
        part: what of it is looked at, where it is not all of it.
    """

    uri: str
    label: str | None = None
    split: str | None = None
    camera: str | None = None
    item_id: str | None = None
    metadata: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    part: Part | None = None


@dataclass(frozen=True)
class Listing:
    """Entries, found one after the other.

    Attributes:
        entries: can be gone through once; files that look like pictures and cannot be read come with the reason, and so does
            what a table says is junk.
        by_path: whether their order is that of their addresses, because they come as the file system pleases.
    """

    entries: Iterable[Entry | UnreadableImage]
    by_path: bool = False

    def in_order(self) -> tuple[list[Entry], list[UnreadableImage]]:
        """All of them, in memory, and the files that look like pictures and cannot be read.

        Raises:
            InputError: an id occurs twice.
        """
        listed = list(self.entries)
        found = [entry for entry in listed if isinstance(entry, Entry)]
        if self.by_path:
            found.sort(key=lambda entry: path_key(entry.uri))
        seen: set[str] = set()
        for entry in found:
            if entry.item_id is not None:
                if entry.item_id in seen:
                    raise twice(entry)
                seen.add(entry.item_id)
        return found, [entry for entry in listed if isinstance(entry, UnreadableImage)]


def path_key(address: str) -> str:
    """Orders addresses folder by folder: a folder's files stand together."""
    return address.replace("/", "\x01")


def twice(entry: Entry) -> InputError:
    """The error that says that an id names two images."""
    return InputError(f"The table has the item_id {entry.item_id!r} twice: an id names one item.")


def list_folder(folder: str, require_labels: bool, split: str | None = None) -> Listing:
    """A folder per class, below folders per split where there are such; or loose images without labels.

    Args:
        folder: its address.
        require_labels: whether every image must have one.
        split: that all of the folder is, where its folders are classes whatever they are called.

    Raises:
        InputError: while it is gone through, in a sentence that says what to change.
    """
    return Listing(_folder(folder, require_labels, split), by_path=True)


def list_table(path: str, require_labels: bool, metadata: Sequence[str] = ()) -> Listing:
    """A CSV or Parquet table with the columns ``path``, ``label`` and optionally ``split``, ``camera``, ``item_id``.

    In a table with cameras, what has the label -1 in the gallery is junk: it is left out, and comes with the reason.

    Args:
        path: its address; paths in it are relative to it, or addresses themselves.
        require_labels: whether every row must have one.
        metadata: further columns that describe the items; an empty cell describes nothing. What a CSV table says is text.

    Raises:
        InputError: while it is gone through, in a sentence that says what to change.
        MissingExtraError: a Parquet table without pyarrow.
    """
    return Listing(_table(path, require_labels, metadata))


def _folder(folder: str, require_labels: bool, split: str | None) -> Iterator[Entry | UnreadableImage]:
    # The folders of a folder are few, whatever it holds besides.
    found, files = _sorted_children(folder)
    folders = [child.name for child in found]
    splits = [name for name in folders if name.lower() in SPLITS] if split is None else []
    if splits:
        others = [name for name in folders if name not in splits and _holds_pictures(join(folder, name))]
        if not others:
            for name in splits:
                yield from _folder(join(folder, name), require_labels, SPLITS[name.lower()])
            for uri in _pictures(folder, files()):
                yield _skipped(uri, "it lies beside the folders of splits: move it into one of them.")
            return
        if len({SPLITS[name.lower()] for name in splits}) > 1 or any(
            _has_folders(join(folder, name)) for name in splits
        ):
            raise InputError(
                f"{folder} has {', '.join(splits)} beside {', '.join(others)}: expected either FOLDER/SPLIT/CLASS/IMAGE with "
                f"nothing but splits ({', '.join(SPLITS)}) or FOLDER/CLASS/IMAGE; move {others[0]} elsewhere, or name one folder."
            )
    elif split is not None and _is_repeated(folder, folders, split):
        raise InputError(
            f"{folder} holds one folder, {folders[0]}, and the classes are in it: move them up into {folder}."
        )
    elif require_labels and (inner := _folder_of_classes(folder, folders)) is not None:
        raise InputError(
            f"{folder} holds one folder, {folders[0]}, and no image lies right in it: name {inner} if the folders there are the "
            f"classes, or move the images of the class {folders[0]} up into its folder."
        )
    count = 0
    for child in found:
        before = count
        label = normal(child.name)
        readable = _is_unicode(label)
        for uri in _pictures_below(folder, child):
            if isinstance(uri, UnreadableImage):
                yield uri
            elif readable and _is_unicode(uri):
                count += 1
                yield Entry(uri, label, split)
            else:
                yield _skipped(uri, "its name is not Unicode: rename it.")
        if count == before and require_labels and readable:
            raise InputError(f"The class {child.name!r} of {folder} has no image: add images or remove its folder.")
    loose = 0
    for uri in _pictures(folder, files()):
        if isinstance(uri, UnreadableImage):
            yield uri
        elif not _is_unicode(uri):
            yield _skipped(uri, "its name is not Unicode: rename it.")
        elif require_labels and count:
            raise InputError(f"{uri} lies beside the class folders: move it into one of them.")
        else:
            loose += 1
            if not require_labels:
                yield Entry(uri, None, split)
    if require_labels and loose:
        raise InputError(f"{folder} holds {loose} images but no folder per class: make FOLDER/CLASS/IMAGE.")
    if not count and not loose:
        raise InputError(f"{folder} holds no images: expected FOLDER/CLASS/IMAGE.")


def _sorted_children(folder: str) -> tuple[list[FolderEntry], Callable[[], Iterator[FolderEntry]]]:
    """The folders of a folder, in order; and its files, as they come."""
    folders = sorted((child for child in children(folder) if child.is_folder), key=lambda child: child.name)
    return folders, lambda: (child for child in children(folder) if not child.is_folder)


def _holds_pictures(folder: str) -> bool:
    return next(_pictures_below(folder, None), None) is not None


def _is_repeated(folder: str, folders: Sequence[str], split: str) -> bool:
    """Return whether all that the folder of a split holds is a folder for that split, as some archives unpack."""
    return [SPLITS.get(name.lower()) for name in folders] == [split] and _has_folders(join(folder, folders[0]))


def _folder_of_classes(folder: str, folders: Sequence[str]) -> str | None:
    """Return the folder further down that looks like the set itself, where those around it hold nothing else.

    Many archives unpack so. A class may have its images in one folder, or some of them in several.
    """
    place, names = folder, list(folders)
    while len(names) == 1:
        place = join(place, names[0])
        found, files = _sorted_children(place)
        if next(_pictures(place, files()), None) is not None:
            return None
        names = [child.name for child in found if _holds_pictures(join(place, child.name))]
        if any(name.lower() in SPLITS for name in names):
            return place
    return place if len(names) > 1 and place != folder else None


def _has_folders(folder: str) -> bool:
    return any(child.is_folder for child in children(folder))


def _pictures(folder: str, files: Iterable[FolderEntry]) -> Iterator[str | UnreadableImage]:
    """The addresses of a folder's files that are pictures, and those that look like one and cannot be read."""
    for child in files:
        uri = f"{folder.rstrip('/')}/{child.name}"
        suffix = PurePosixPath(child.name).suffix.lower()
        if suffix in SUFFIXES:
            yield uri
        elif suffix in NOT_PICTURES:
            continue
        else:
            kind = kind_of(head(uri))
            if suffix in RAW_SUFFIXES and kind in (None, "TIFF", "raw"):
                yield _skipped(uri, "it is in a camera's raw format: convert it to JPEG, PNG or TIFF.")
            elif kind is not None:
                yield uri
            elif suffix in OTHER_PICTURES:
                yield _skipped(uri, f"{suffix} files are not read: convert it to JPEG, PNG or TIFF.")
            elif child.is_link and not is_there(uri):
                yield _skipped(uri, "it is a link to nothing.")


def _pictures_below(folder: str, child: FolderEntry | None) -> Iterator[str | UnreadableImage]:
    """The pictures in a folder, and in those below it; links are followed, and no folder is gone through twice."""
    top = folder if child is None else join(folder, child.name)
    above = identity(folder) if child is not None else None
    seen = {above} if above is not None else set()
    waiting = [top]
    while waiting:
        place = waiting.pop()
        which = identity(place)
        if which is not None and which in seen:
            if which == above:
                yield _skipped(place, "it is a link to a folder that it lies in.")
            continue
        if which is not None:
            seen.add(which)
        try:
            found, files = _sorted_children(place)
            yield from _pictures(place, files())
        except InputError as error:
            yield _skipped(place, str(error))
            continue
        waiting += [f"{place.rstrip('/')}/{child.name}" for child in reversed(found)]


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _skipped(uri: str | UnreadableImage, reason: str) -> UnreadableImage:
    if isinstance(uri, UnreadableImage):
        return uri
    return UnreadableImage(uri.encode(errors="backslashreplace").decode(), reason)


def _table(path: str, require_labels: bool, metadata: Sequence[str]) -> Iterator[Entry | UnreadableImage]:
    for name in metadata:
        if not is_name(name) or name in COLUMNS:
            raise InputError(
                f"The column {name!r} cannot be metadata: names are letters, digits, _ and -, and none of {', '.join(COLUMNS)}."
            )
    table = read_table(path, COLUMNS, metadata)
    table.require((*(("path", "label") if require_labels else ("path",)), *metadata))
    has_split, has_camera = "split" in table.names, "camera" in table.names
    here = local_path(path)
    folder = path.rpartition("/")[0] if here is None else str(here.parent)
    row = None
    for row in table.rows:
        file = row.text("path")
        if not file:
            raise InputError(f"{path} has no path in {row.where}.")
        label = row.text("label")
        if require_labels and not label:
            raise InputError(f"{path} has no label in {row.where} ({file}): fill it in or drop the row.")
        split = split_of(row.text("split") or "") if has_split else None
        if has_camera and split == "gallery" and label == JUNK:
            yield _skipped(join(folder, file), "it is junk: its label is -1, in the gallery of a table with cameras.")
            continue
        yield Entry(
            join(folder, file),
            normal(label) if label else None,
            split,
            (row.text("camera") or "") if has_camera else None,
            row.text("item_id"),
            {name: value for name in metadata if (value := row.scalar(name)) is not None},
        )
    if row is None:
        raise InputError(f"{path} has no rows.")


def split_of(name: str) -> str:
    """The split that a name means, or the name itself."""
    return SPLITS.get(name.strip().lower(), normal(name.strip()))


def split_among(name: str, splits: Collection[str]) -> str:
    """The one of some splits that a name means.

    Raises:
        InputError: none of them.
    """
    for known in (name, split_of(name)):
        if known in splits:
            return known
    raise InputError(f"The images have no split {name!r}: they have {', '.join(sorted(splits)) or 'none'}.")
