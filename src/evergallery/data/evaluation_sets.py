"""Sets that are only tested on, each with a question of its own: pairs of faces, templates of several images, landmarks.

A set knows its images, and what follows from the vectors of two generations: of the one that asks, and of the one whose vectors
are stored.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evergallery.data.columns import csv_records
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.data.images.parts import Box, Face, MirroredFace
from evergallery.data.listing import Entry
from evergallery.data.pickles import unpickled
from evergallery.data.places import join
from evergallery.data.published_files import complete_root, damaged, fields, lines
from evergallery.data.sources import read_entries
from evergallery.data.tables import read_table
from evergallery.errors import InputError, unknown
from evergallery.retrieval.knn import nearest
from evergallery.retrieval.metrics import average_precision
from evergallery.retrieval.revisited import RELEVANT, Landmark, revisited_map
from evergallery.retrieval.verification import pair_accuracy, tar_at_far, templates, tpir_at_fpir
from evergallery.watching import SILENT, Watcher

Figures = dict[str, float]
PAIR = ("first", "second", "same", "fold")
FALSE_ACCEPT = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
FALSE_POSITIVE = (1e-1, 1e-2)
IJB_C_TABLES = ("meta/ijbc_face_tid_mid.txt", "meta/ijbc_template_pair_label.txt", "meta/ijbc_name_5pts_score.txt")
LFW_FOLDERS = ("lfw-deepfunneled", "lfw_funneled", "lfw")
LFW_ENDINGS = (".jpg", ".png", ".jpeg", ".JPG", ".PNG")
LOOKED_AT = 100
"""Nearest images that count on Google Landmarks v2."""
AT_ONCE = 4096
"""Searches of templates that are scored together."""


@dataclass(frozen=True)
class EvaluationSet(ABC):
    """N images and a question.

    Attributes:
        name: of the set.
        entries: N of them.
        by_length: whether an image counts by the length that the model gives its embedding, too.
    """

    name: str
    entries: tuple[Entry, ...]
    by_length: bool = field(default=False, kw_only=True)

    @abstractmethod
    def figures(self, query: Tensor, gallery: Tensor) -> Figures:
        """The figures by their names, in [0, 1]; the first is the one that sums them up.

        Args:
            query: unit embeddings (N, D) of the images by the generation that asks; with ``by_length`` each at its length.
            gallery: likewise by the generation whose vectors are stored.

        Raises:
            InputError: the set has nothing to tell apart.
        """

    def images(self, preprocessing: Preprocessing, cache: Path | None, watcher: Watcher = SILENT) -> ImageSet:
        """The images as a network sees them, in the order of the entries.

        Raises:
            InputError: one cannot be read: figures of the others could be compared with nobody's.
        """
        found = read_entries(
            self.entries, preprocessing, cache, lambda done, total: watcher.counted(f"reading {self.name}", done, total)
        )
        if found.skipped:
            first = found.skipped[0]
            raise InputError(
                f"{len(found.skipped)} of {len(self.entries)} images of {self.name} cannot be read, the first is {first.uri} "
                f"({first.reason}): unpack the set again, or take what is missing out of its list."
            )
        return found


@dataclass(frozen=True)
class PairSet(EvaluationSet):
    """Are these two the same? The first of each pair asks, the second is stored.

    Attributes:
        first: (P,) index of an image.
        second: (P,) index of an image.
        same: (P,) bool, whether both show the same.
        fold: (P,) of which fold a pair is; one fold alone has no accuracy, as its threshold would be chosen on itself.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    same: NDArray[np.bool_]
    fold: NDArray[np.int64]

    def figures(self, query: Tensor, gallery: Tensor) -> Figures:
        """Mean accuracy over the folds where there are several, and TAR at each FAR that so many impostors can tell."""
        scores = (query[self.first] * gallery[self.second]).sum(dim=1)
        same, fold = torch.from_numpy(self.same), torch.from_numpy(self.fold)
        found = {"accuracy": pair_accuracy(scores, same, fold)} if len(np.unique(self.fold)) > 1 else {}
        return found | _tar(scores, same)


@dataclass(frozen=True)
class TemplateSet(EvaluationSet):
    """People by several images each.

    Attributes:
        template: (N,) index of the template that an image belongs to, of T.
        media: (N,) number of the photograph or video that it comes from.
        first: (P,) index of a template, which asks.
        second: (P,) index of a template, which is stored.
        same: (P,) bool, whether both are of the same person.
        galleries: templates of each gallery of the search 1:N.
        probes: (Q,) templates that search in each gallery.
        subject: (T,) number of the person, of probes and galleries at least.
        weight: (N,) how much each image counts in its template; ``None`` for all alike.
    """

    template: NDArray[np.int64]
    media: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    same: NDArray[np.bool_]
    galleries: tuple[NDArray[np.int64], ...]
    probes: NDArray[np.int64]
    subject: NDArray[np.int64]
    weight: NDArray[np.float32] | None = None

    def figures(self, query: Tensor, gallery: Tensor) -> Figures:
        """TAR at each FAR of the pairs; TPIR at each FPIR and rank 1 of the searches, mean over the galleries."""
        template, media = torch.from_numpy(self.template), torch.from_numpy(self.media)
        weight = None if self.weight is None else torch.from_numpy(self.weight)
        asking, stored = templates(query, template, media, weight), templates(gallery, template, media, weight)
        scores = torch.cat(
            [
                (asking[self.first[start : start + AT_ONCE]] * stored[self.second[start : start + AT_ONCE]]).sum(dim=1)
                for start in range(0, len(self.first), AT_ONCE)
            ]
        )
        found = _tar(scores, torch.from_numpy(self.same))
        searches = [self._searched(asking, stored, gallery) for gallery in self.galleries]
        shared = [name for name in (searches[0] if searches else {}) if all(name in figures for figures in searches)]
        return found | {name: float(np.mean([figures[name] for figures in searches])) for name in shared}

    def _searched(self, asking: Tensor, stored: Tensor, gallery: NDArray[np.int64]) -> Figures:
        blocks = [
            (asking[self.probes[start : start + AT_ONCE]] @ stored[gallery].T).max(dim=1)
            for start in range(0, len(self.probes), AT_ONCE)
        ]
        best, place = (torch.cat([block[part] for block in blocks]) for part in (0, 1))
        wanted, there = self.subject[self.probes], self.subject[gallery]
        mated = torch.from_numpy(np.isin(wanted, there))
        hits = torch.from_numpy(there[place.numpy()] == wanted)[mated]
        rates = [rate for rate in FALSE_POSITIVE if int((~mated).sum()) * rate >= 1]
        found = tpir_at_fpir(best[mated], best[~mated], hits, rates) if rates else {}
        return {
            **{f"TPIR@FPIR {rate:g}": value for rate, value in found.items()},
            "rank 1": hits.double().mean().item(),
        }


@dataclass(frozen=True)
class LandmarkSet(EvaluationSet):
    """A search for another picture of the same building. The last images ask, those before them are the gallery.

    Attributes:
        landmarks: Q of them, one for each query: indices of gallery images.
    """

    landmarks: tuple[Landmark, ...]

    def figures(self, query: Tensor, gallery: Tensor) -> Figures:
        """mAP of the protocols medium, hard and easy."""
        count = len(self.entries) - len(self.landmarks)
        ranking = (query[count:] @ gallery[:count].T).argsort(dim=1, descending=True, stable=True)
        order = sorted(RELEVANT, key=lambda name: name != "medium")
        return {f"mAP {name}": revisited_map(ranking, self.landmarks, name) for name in order}


@dataclass(frozen=True)
class GoogleLandmarkSet(EvaluationSet):
    """A search for other images of the same landmark. The last images ask, those before them are the gallery.

    Attributes:
        solutions: Q of them, one for each query: (R,) indices of gallery images, at least one.
        private: (Q,) bool, of the part of the queries that figures are told of.
    """

    solutions: tuple[NDArray[np.int64], ...]
    private: NDArray[np.bool_]

    def figures(self, query: Tensor, gallery: Tensor) -> Figures:
        """mAP@100 of the private part and of the public one: ``1 / min(R, 100)`` of the precision at each of the hits."""
        count = len(self.entries) - len(self.solutions)
        found = nearest(query[count:], gallery[:count], LOOKED_AT).indices
        hits = torch.stack(
            [torch.isin(row, torch.from_numpy(items)) for row, items in zip(found, self.solutions, strict=True)]
        )
        relevant = torch.tensor([min(len(items), LOOKED_AT) for items in self.solutions])
        values = average_precision(hits, relevant)
        parts = {"mAP@100": self.private, "mAP@100 public": ~self.private}
        return {name: values[torch.from_numpy(part)].mean().item() for name, part in parts.items() if part.any()}


def lfw(data_dir: Path | None) -> PairSet:
    """LFW's 6 000 pairs in ten folds: ``pairs.txt`` beside folders of people, or beside a folder of them (Huang et al. 2007).

    The images are taken as they lie there, JPEG or PNG: align them as those that a network has learned from.
    """
    root = complete_root("lfw", data_dir, ("lfw", "lfw-py", "LFW"), ("pairs.txt",))
    table = root / "pairs.txt"
    try:
        numbers, *rows = [line.split() for line in lines(table) if line.strip()]
        folds, each = (1, int(numbers[0])) if len(numbers) == 1 else map(int, numbers)
        pairs = [
            ((row[0], int(row[1])), (row[-2], int(row[-1])), row)
            if len(row) == 4
            else ((row[0], int(row[1])), (row[0], int(row[2])), row)
            for row in rows
        ]
    except (ValueError, IndexError) as error:
        raise damaged(table, error) from error
    if len(pairs) != 2 * folds * each or each < 1:
        raise InputError(f"{table} has {len(pairs)} pairs, not {folds} times {each} of each kind: download it again.")

    folder, ending = _faces_of(root, pairs[0][0])

    def file(name: str, number: int) -> str:
        return str(folder / name / f"{name}_{number:04d}{ending}")

    return _pair_set(
        "lfw",
        [
            (file(*first), file(*second), len(row) == 3, str(index // (2 * each)))
            for index, (first, second, row) in enumerate(pairs)
        ],
    )


def _faces_of(root: Path, first: tuple[str, int]) -> tuple[Path, str]:
    """The folder of LFW's people, with the ending of its images: where the first of them is.

    Of several such folders one with a published name is taken, which may lie in one of that name.

    Raises:
        InputError: there is none, or several of other names.
    """
    name, number = first
    usual = [root / folder for folder in LFW_FOLDERS]
    nested, others = [path / path.name for path in usual], sorted(path for path in root.iterdir() if path.is_dir())
    found = [
        (folder, ending)
        for folder in dict.fromkeys((*usual, *nested, root, *others))
        for ending in LFW_ENDINGS
        if (folder / name / f"{name}_{number:04d}{ending}").is_file()
    ]
    if not found:
        raise InputError(
            f"{root} has no image {name}/{name}_{number:04d}.jpg, in no folder of it either: unpack LFW's images beside "
            f"pairs.txt."
        )
    if len(found) > 1 and found[0][0] not in (*usual, *nested, root):
        raise InputError(
            f"{root} has LFW's images in {found[0][0].name} and in {found[1][0].name}: keep one of them beside pairs.txt."
        )
    return found[0]


def ijb_c(data_dir: Path | None) -> TemplateSet:
    """IJB-C as its crops are published for evaluation: ``loose_crop`` beside ``meta`` (Maze et al. 2018).

    Faces are aligned by their five points. Pairs are those of ``ijbc_template_pair_label.txt``; the search 1:N is there where
    ``ijbc_1N_gallery_G1.csv``, ``…_G2.csv`` and ``ijbc_1N_probe_mixed.csv`` are. Images of one medium count as their mean.
    """
    root = _ijb_c_root(data_dir)
    faces, pairs, points = (fields(root / table, count) for table, count in zip(IJB_C_TABLES, (3, 3, 12), strict=True))
    if [row[0] for row in faces] != [row[0] for row in points]:
        raise InputError(
            f"{root / IJB_C_TABLES[0]} and {root / IJB_C_TABLES[2]} name different images: download them again."
        )
    galleries = [root / f"meta/ijbc_1N_gallery_G{number}.csv" for number in (1, 2)]
    probes = root / "meta/ijbc_1N_probe_mixed.csv"
    searched = probes.is_file() and all(path.is_file() for path in galleries)
    try:
        number = {name: index for index, name in enumerate(dict.fromkeys(int(row[1]) for row in faces))}
        subject = np.full(len(number), -1, dtype=np.int64)

        def members(path: Path) -> NDArray[np.int64]:
            # The tables have a line for each image of a template.
            found = {number[int(row[0])]: int(row[1]) for _, row in _records(path)}
            subject[list(found)] = list(found.values())
            return np.array(list(found), dtype=np.int64)

        return TemplateSet(
            "ijb-c",
            tuple(
                Entry(str((root / "loose_crop" / row[0]).absolute()), part=Face(_points(row[1:11]))) for row in points
            ),
            template=np.array([number[int(row[1])] for row in faces]),
            media=np.array([int(row[2]) for row in faces]),
            first=np.array([number[int(row[0])] for row in pairs]),
            second=np.array([number[int(row[1])] for row in pairs]),
            same=np.array([row[2] == "1" for row in pairs]),
            galleries=tuple(map(members, galleries)) if searched else (),
            probes=members(probes) if searched else np.empty(0, dtype=np.int64),
            subject=subject,
        )
    except (ValueError, KeyError, IndexError) as error:
        raise damaged(root / "meta", error) from error


def ijb_c_weighted(data_dir: Path | None) -> TemplateSet:
    """IJB-C as InsightFace evaluates it.

    An image counts by the length of its embedding, times how sure its detector was, and its mirrored image beside it.
    """
    plain = ijb_c(data_dir)
    table = _ijb_c_root(data_dir) / IJB_C_TABLES[2]
    try:
        sure = np.array([float(row[11]) for row in fields(table, 12)], dtype=np.float32)
    except ValueError as error:
        raise damaged(table, error) from error
    if not (sure > 0).all():
        raise InputError(f"{table} has a score that is not above 0: download it again.")
    mirrored = [
        Entry(entry.uri, part=MirroredFace(entry.part)) for entry in plain.entries if isinstance(entry.part, Face)
    ]
    return replace(
        plain,
        name="ijb-c-weighted",
        by_length=True,
        entries=(*plain.entries, *mirrored),
        template=np.tile(plain.template, 2),
        media=np.tile(plain.media, 2),
        weight=np.tile(sure, 2),
    )


def roxford5k(data_dir: Path | None) -> LandmarkSet:
    """Revisited Oxford: ``gnd_roxford5k.pkl`` beside ``jpg``; of a query its box is looked at (Radenović et al. 2018)."""
    return _revisited("roxford5k", data_dir)


def rparis6k(data_dir: Path | None) -> LandmarkSet:
    """Revisited Paris: ``gnd_rparis6k.pkl`` beside ``jpg``; of a query its box is looked at (Radenović et al. 2018)."""
    return _revisited("rparis6k", data_dir)


def gldv2_retrieval(data_dir: Path | None) -> GoogleLandmarkSet:
    """Google Landmarks v2, queries in its index: ``index.csv``, ``retrieval_solution_v2.1.csv``, ``index`` and ``test``.

    Images lie as ``index/0/1/2/012….jpg``; queries whose use is ``Ignored`` are left out (Weyand et al. 2020).
    """
    tables = ("index.csv", "retrieval_solution_v2.1.csv")
    root = complete_root("gldv2-retrieval", data_dir, ("gldv2", "google-landmarks-v2"), (*tables, "index", "test"))

    def entry(folder: str, name: str) -> Entry:
        return Entry(str((root / folder / name[0] / name[1] / name[2] / f"{name}.jpg").absolute()))

    try:
        gallery = {row[0]: index for index, (_, row) in enumerate(_records(root / tables[0]))}
        rows = [row for _, row in _records(root / tables[1]) if row[2].strip() in ("Private", "Public")]
        entries = [entry("index", name) for name in gallery] + [entry("test", row[0]) for row in rows]
        solutions = tuple(np.array([gallery[name] for name in row[1].split()], dtype=np.int64) for row in rows)
    except (KeyError, IndexError) as error:
        raise damaged(root / tables[1], error) from error
    if not rows or not all(map(len, solutions)):
        raise InputError(f"{root / tables[1]} has a query without an image to find, or no query: download it again.")
    private = np.array([row[2].strip() == "Private" for row in rows])
    return GoogleLandmarkSet("gldv2-retrieval", tuple(entries), solutions, private)


EVALUATION_SETS: dict[str, Callable[[Path | None], EvaluationSet]] = {
    "lfw": lfw,
    "ijb-c": ijb_c,
    "ijb-c-weighted": ijb_c_weighted,
    "roxford5k": roxford5k,
    "rparis6k": rparis6k,
    "gldv2-retrieval": gldv2_retrieval,
}
"""Published evaluation sets by their names."""


def evaluation_set(name: str, data_dir: Path | None = None) -> EvaluationSet:
    """A set by its name, or pairs of one's own: a ``.csv`` table ``first,second,same[,fold]``, paths relative to it.

    ``same`` is 1 or 0; without folds there are figures at false-accept rates, and no accuracy.

    Raises:
        InputError: there is no such set or table, or it is not complete.
    """
    if name.lower() in EVALUATION_SETS:
        return EVALUATION_SETS[name.lower()](data_dir)
    table = Path(name).expanduser()
    if table.suffix.lower() != ".csv" or not table.is_file():
        raise unknown("evaluation set", name, EVALUATION_SETS, ", or a .csv table first,second,same[,fold]")
    return _pair_set(table.name, list(_pairs(table)))


def _pairs(path: Path) -> Iterator[tuple[str, str, bool, str]]:
    table = read_table(str(path), PAIR)
    table.require(PAIR[:3], ",".join(PAIR[:3]))
    for row in table.rows:
        first, second, same = (row.text(name) for name in PAIR[:3])
        if not first or not second or same not in ("0", "1"):
            raise InputError(f"{path} has no pair in {row.where}: give two images, and 1 or 0 for the same or not.")
        yield join(str(path.parent), first), join(str(path.parent), second), same == "1", row.text("fold") or ""


def _pair_set(name: str, pairs: Sequence[tuple[str, str, bool, str]]) -> PairSet:
    """A set of pairs, each of two addresses, whether they show the same, and the name of its fold."""
    if not pairs:
        raise InputError(f"{name} has no pair.")
    number = {uri: index for index, uri in enumerate(dict.fromkeys(uri for pair in pairs for uri in pair[:2]))}
    return PairSet(
        name,
        tuple(map(Entry, number)),
        first=np.array([number[pair[0]] for pair in pairs]),
        second=np.array([number[pair[1]] for pair in pairs]),
        same=np.array([pair[2] for pair in pairs]),
        fold=np.unique([pair[3] for pair in pairs], return_inverse=True)[1].astype(np.int64),
    )


def _ijb_c_root(data_dir: Path | None) -> Path:
    return complete_root("ijb-c", data_dir, ("IJBC", "IJB-C"), (*IJB_C_TABLES, "loose_crop"))


def _revisited(name: str, data_dir: Path | None) -> LandmarkSet:
    truth = f"gnd_{name}.pkl"
    root = complete_root(name, data_dir, (name,), (truth, "jpg"))
    content: Any = unpickled(root / truth)
    try:
        gallery, asked = (list(map(str, content[key])) for key in ("imlist", "qimlist"))
        boxes = [Box(*map(float, query["bbx"])) for query in content["gnd"]]
        landmarks = tuple(
            Landmark(*([int(index) for index in query[kind]] for kind in ("easy", "hard", "junk")))
            for query in content["gnd"]
        )
        known = {index for landmark in landmarks for index in (*landmark.easy, *landmark.hard, *landmark.junk)}
        if len(asked) != len(landmarks) or not known <= set(range(len(gallery))):
            raise ValueError("its lists do not fit each other")
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(root / truth, error) from error

    pictures = _jpegs(root / "jpg")

    def picture(image: str, box: Box | None = None) -> Entry:
        return Entry(str(pictures.get(image, root / "jpg" / f"{image}.jpg").absolute()), part=box)

    return LandmarkSet(name, (*map(picture, gallery), *map(picture, asked, boxes)), landmarks)


def _jpegs(folder: Path) -> dict[str, Path]:
    """The JPEG files in and below a folder by their names without ending; Paris unpacks into a folder for each landmark."""
    files = [path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg")]
    # Of two of one name the upper one counts.
    return {path.stem: path for path in sorted(files, key=lambda path: (-len(path.parts), path))}


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table below its head, each with its line."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        records = csv_records(str(path), file)
        next(records, None)
        yield from records


def _points(words: Sequence[str]) -> tuple[tuple[float, float], ...]:
    values = list(map(float, words))
    return tuple(zip(values[::2], values[1::2], strict=True))


def _tar(scores: Tensor, same: Tensor) -> Figures:
    impostors = int((~same).sum())
    rates = [rate for rate in FALSE_ACCEPT if impostors * rate >= 1] or [0.0]
    return {f"TAR@FAR {rate:g}": value for rate, value in tar_at_far(scores, same, rates).items()}
