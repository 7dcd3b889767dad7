"""The array files of the result tables, ``cifar100.npz`` and ``omniglot.npz``, from the published sets. Measures nothing.

    python benchmarks/pack.py cifar100 DIR cifar100.npz       DIR, or a folder in it, has cifar-100-python's train, test and meta
    python benchmarks/pack.py omniglot DIR omniglot.npz       likewise with images_background and images_evaluation

``cifar100``: both published parts together, class by class; in a class by the SHA-1 of an image's 3 072 bytes (rows of pixels of
red, green, blue), of which the first sixth is ``test``, the others are ``train``. ``omniglot``: 28 × 28 pixels (bilinear),
``background`` and ``evaluation``. The last line says whether the file has the digest that the tables name; if it has not, the
exit status is 1.
"""

import argparse
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evergallery.benchmark.known_data import KNOWN
from evergallery.data.images import Preprocessing
from evergallery.data.published import omniglot as published_omniglot
from evergallery.data.sources import load
from evergallery.errors import EvergalleryError

TESTED = 6
"""One of so many images of a class of CIFAR-100 is tested on."""
SIDES = {"cifar100": 32, "omniglot": 28}
"""Of the images, in pixels."""
Arrays = dict[str, NDArray[Any]]


def cifar100(directory: Path) -> Arrays:
    """Pool CIFAR-100 and split it again by what its images hold, whatever their order and part.

    Raises:
        InputError: the set is not there, or not complete.
    """
    images = load("cifar100", Preprocessing(SIDES["cifar100"]), data_dir=directory)
    contents = [hashlib.sha1(image.tobytes()).digest() for image in images.pixels]
    order = sorted(range(len(images)), key=lambda index: (images.labels[index], contents[index]))
    labels = images.labels[order]
    place = np.arange(len(labels)) - np.searchsorted(labels, labels)
    split = np.where(place < np.bincount(labels)[labels] // TESTED, "test", "train")
    return {"images": images.pixels[order], "labels": labels, "names": np.array(images.classes), "split": split}


def omniglot(directory: Path) -> Arrays:
    """Reduce Omniglot's drawings; those of a character in the order of their files, the background alphabets first.

    Raises:
        InputError: the set is not there, or not complete.
        OSError: a drawing cannot be read.
    """
    entries, _ = published_omniglot(directory).in_order()
    labels = [str(entry.label) for entry in entries]
    names = sorted(set(labels))
    number = {name: index for index, name in enumerate(names)}
    return {
        "images": np.stack([_drawing(entry.uri) for entry in entries])[..., None],
        "labels": np.array([number[label] for label in labels]),
        "names": np.array(names),
        "split": np.array(["background" if entry.split == "train" else entry.split for entry in entries]),
    }


SETS: dict[str, Callable[[Path], Arrays]] = {"cifar100": cifar100, "omniglot": omniglot}


def digests(name: str, file: Path) -> list[str]:
    """The digests that result files have of a packed set: of all of it, and of its test part where it has one."""
    images = load(file, Preprocessing(SIDES[name]))
    parts = [images.of_split("test")] if images.split is not None and "test" in images.split else []
    return [part.fingerprint() for part in (images, *parts)]


def _drawing(path: str) -> NDArray[np.uint8]:
    with Image.open(path) as drawing:
        side = SIDES["omniglot"]
        return np.asarray(drawing.convert("L").resize((side, side), Image.Resampling.BILINEAR))


def main(arguments: Sequence[str] | None = None) -> int:
    """Pack a set; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("directory", type=Path, help="where the published set lies")
    parser.add_argument("file", type=Path, help="the .npz file to write, which must not be there yet")
    options = parser.parse_args(arguments)
    if options.file.suffix != ".npz" or options.file.exists():
        parser.error(f"{options.file} is there already or does not end in .npz: name a new .npz file.")
    try:
        arrays = SETS[options.set](options.directory)
        with options.file.open("xb") as file:
            images, labels, names, split = (arrays[part] for part in ("images", "labels", "names", "split"))
            np.savez(file, images=images, labels=labels, names=names, split=split)
    except (EvergalleryError, OSError) as error:
        parser.error(str(error))
    found = digests(options.set, options.file)
    same = KNOWN.keys() >= set(found)
    print(
        f"{options.file}: {len(arrays['images'])} images, digest {found[0]}, {'' if same else 'not '}that of the result tables"
    )
    return 0 if same else 1


if __name__ == "__main__":
    raise SystemExit(main())
