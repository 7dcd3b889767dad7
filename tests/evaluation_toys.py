"""Toy copies of the published layouts of sets that are only tested on."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from evergallery.data.images.parts import FACE_POINTS


def paint(path: Path, colour: tuple[int, int, int] = (9, 9, 9), size: tuple[int, int] = (9, 9)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def lfw(root: Path) -> None:
    """Two folds of two pairs of each kind."""
    for name in ("Ann_A", "Bob_B"):
        for number in (1, 2, 3):
            paint(root / "lfw-deepfunneled" / name / f"{name}_{number:04d}.jpg", (number, len(name), 5))
    same = "Ann_A\t1\t2\nBob_B\t1\t3\n"
    different = "Ann_A\t1\tBob_B\t2\nAnn_A\t3\tBob_B\t1\n"
    (root / "pairs.txt").write_text("2\t2\n" + (same + different) * 2)


def ijb_c(root: Path) -> None:
    """Four templates: 10 and 20 are one person, 30 and 40 two others; 10 has two frames of one video and a photograph."""
    members = [(10, 1), (10, 1), (10, 2), (20, 3), (30, 4), (40, 5)]
    face = " ".join(f"{x} {y}" for x, y in FACE_POINTS)
    (root / "meta").mkdir(parents=True)
    for index in range(1, 7):
        paint(root / "loose_crop" / f"{index}.jpg", (index, 3, 5), (120, 120))
    (root / "meta/ijbc_face_tid_mid.txt").write_text(
        "".join(f"{index}.jpg {template} {medium}\n" for index, (template, medium) in enumerate(members, 1))
    )
    (root / "meta/ijbc_name_5pts_score.txt").write_text("".join(f"{index}.jpg {face} 0.9\n" for index in range(1, 7)))
    (root / "meta/ijbc_template_pair_label.txt").write_text("10 20 1\n10 30 0\n20 40 0\n")
    # As they are published, with a line for each image of a template.
    head = "TEMPLATE_ID,SUBJECT_ID,FILENAME\n"
    (root / "meta/ijbc_1N_gallery_G1.csv").write_text(f"{head}10,1,img/1.jpg\n10,1,img/2.jpg\n10,1,img/3.jpg\n")
    (root / "meta/ijbc_1N_gallery_G2.csv").write_text(f"{head}30,2,img/5.jpg\n")
    (root / "meta/ijbc_1N_probe_mixed.csv").write_text(f"{head}20,1,img/4.jpg\n40,2,img/6.jpg\n")


def revisited(name: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        for index in range(4):
            paint(root / "jpg" / f"g{index}.jpg", (index, 7, 5))
        image = np.zeros((20, 40, 3), dtype=np.uint8)
        image[:, 20:] = 200
        Image.fromarray(image).save(root / "jpg" / "q.jpg", quality=95)
        truth = {"bbx": [20.0, 0.0, 40.0, 20.0], "easy": np.array([0]), "hard": np.array([1, 3]), "junk": np.array([2])}
        content = {"imlist": [f"g{index}" for index in range(4)], "qimlist": ["q"], "gnd": [truth]}
        # Protocol 2, as Python 2 wrote it.
        (root / f"gnd_{name}.pkl").write_bytes(pickle.dumps(content, protocol=2))

    return make


def gldv2_retrieval(root: Path) -> None:
    """An index of five, two queries of the private part, one of the public one, and one that is ignored."""
    gallery, asked = [f"a{index}b{index}" for index in range(5)], [f"q{index}c{index}" for index in range(4)]
    for folder, names in (("index", gallery), ("test", asked)):
        for number, name in enumerate(names):
            paint(root / folder / name[0] / name[1] / name[2] / f"{name}.jpg", (number * 40, 7, len(folder)))
    (root / "index.csv").write_text("\n".join(["id", *gallery]))
    solutions = [f"{gallery[0]} {gallery[3]},Private", f"{gallery[1]},Public", "None,Ignored", f"{gallery[2]},Private"]
    rows = [f"{name},{solution}" for name, solution in zip(asked, solutions, strict=True)]
    (root / "retrieval_solution_v2.1.csv").write_text("\n".join(["id,images,Usage", *rows]))


TOYS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "lfw": ("lfw", lfw),
    "ijb-c": ("IJBC", ijb_c),
    "roxford5k": ("roxford5k", revisited("roxford5k")),
    "rparis6k": ("rparis6k", revisited("rparis6k")),
    "gldv2-retrieval": ("gldv2", gldv2_retrieval),
}


def make_toy(name: str, directory: Path) -> None:
    """Write the toy copy of a set below a data directory."""
    folder, make = TOYS[name]
    (directory / folder).mkdir(parents=True, exist_ok=True)
    make(directory / folder)
