"""Sets that are only tested on, each as a toy copy of its published layout: images, questions, figures worked out by hand."""

import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from evaluation_toys import make_toy, paint
from evergallery.data.evaluation_sets import (
    EVALUATION_SETS,
    EvaluationSet,
    GoogleLandmarkSet,
    LandmarkSet,
    PairSet,
    TemplateSet,
    evaluation_set,
)
from evergallery.data.images import Preprocessing
from evergallery.data.images.parts import FACE, FACE_POINTS, Box, Face
from evergallery.errors import InputError
from evergallery.retrieval.revisited import Landmark
from evergallery.retrieval.verification import templates

SMALL = Preprocessing(size=8)


def unit(*degrees: float) -> torch.Tensor:
    """Vectors in the plane, by their angles."""
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def toy(name: str, directory: Path) -> EvaluationSet:
    make_toy(name.removesuffix("-weighted"), directory)
    return evaluation_set(name, directory)


@pytest.mark.parametrize("name", EVALUATION_SETS)
def test_every_set_reads_its_layout_and_says_what_it_lacks(name: str, tmp_path: Path) -> None:
    chosen = toy(name, tmp_path)
    images = chosen.images(SMALL, tmp_path / "cache")
    assert len(images) == len(chosen.entries) > 3
    vectors = torch.nn.functional.normalize(torch.randn(len(images), 5, generator=torch.Generator().manual_seed(0)))
    assert all(0 <= value <= 1 for value in chosen.figures(vectors, vectors).values())
    with pytest.raises(
        InputError, match=f"The set '{name.removesuffix('-weighted')}' is read from disk: say with --data-dir"
    ):
        evaluation_set(name)
    with pytest.raises(InputError, match=f"The set '{name.removesuffix('-weighted')}' is not complete"):
        evaluation_set(name, tmp_path / "elsewhere")
    Path(chosen.entries[0].uri).unlink()
    lost = [one.uri for one in chosen.entries].count(chosen.entries[0].uri)
    with pytest.raises(InputError, match=f"{lost} of {len(images)} images of {name} cannot be read"):
        chosen.images(SMALL, None)


def test_lfw_has_its_folds_and_both_kinds_of_pairs(tmp_path: Path) -> None:
    found = toy("lfw", tmp_path)
    assert isinstance(found, PairSet)
    names = [Path(entry.uri).stem for entry in found.entries]
    assert [names[index] for index in found.first[:4]] == ["Ann_A_0001", "Bob_B_0001", "Ann_A_0001", "Ann_A_0003"]
    assert [names[index] for index in found.second[:4]] == ["Ann_A_0002", "Bob_B_0003", "Bob_B_0002", "Bob_B_0001"]
    assert found.same.tolist() == [True, True, False, False] * 2
    assert found.fold.tolist() == [0] * 4 + [1] * 4
    # Ann looks one way and Bob another: everything is told apart.
    vectors = unit(*(0 if name.startswith("Ann") else 90 for name in names))
    assert found.figures(vectors, vectors) == {"accuracy": 1.0, "TAR@FAR 0": 1.0}
    # The stored vectors of another model, turned by a right angle: every answer is wrong.
    turned = unit(*(90 if name.startswith("Ann") else 0 for name in names))
    assert found.figures(vectors, turned)["TAR@FAR 0"] == 0.0
    (tmp_path / "lfw/pairs.txt").write_text("2\t2\nAnn_A\t1\t2\n")
    with pytest.raises(InputError, match="has 1 pairs, not 2 times 2 of each kind"):
        evaluation_set("lfw", tmp_path)


@pytest.mark.parametrize("folder", ["", "lfw_funneled", "lfw-deepfunneled/lfw-deepfunneled", "aligned-112"])
@pytest.mark.parametrize("ending", [".jpg", ".png", ".JPG"])
def test_people_of_lfw_lie_in_one_of_several_folders(folder: str, ending: str, tmp_path: Path) -> None:
    make_toy("lfw", tmp_path)
    root = tmp_path / "lfw"
    people = (root / "lfw-deepfunneled").rename(tmp_path / "people")
    for path in people.glob("*/*"):
        path.rename(path.with_suffix(ending))
    (root / folder).mkdir(parents=True, exist_ok=True)
    for path in people.iterdir():
        path.rename(root / folder / path.name)
    # The published pairs have tabs, and copies of them what an editor makes of them.
    (root / "pairs.txt").write_text("\n" + (root / "pairs.txt").read_text().replace("\t", "  ") + "\n \n")
    assert len(evaluation_set("lfw", tmp_path).images(SMALL, None)) == 6


def test_people_of_lfw_are_in_no_folder_or_in_two(tmp_path: Path) -> None:
    make_toy("lfw", tmp_path)
    root = tmp_path / "lfw"
    (root / "lfw-deepfunneled").rename(root / "a")
    shutil.copytree(root / "a", root / "b")
    with pytest.raises(InputError, match="has LFW's images in a and in b: keep one of them"):
        evaluation_set("lfw", tmp_path)
    for folder in "ab":
        shutil.rmtree(root / folder)
    with pytest.raises(InputError, match="has no image Ann_A/Ann_A_0001.jpg"):
        evaluation_set("lfw", tmp_path)
    (root / "pairs.txt").write_text("\n")
    with pytest.raises(InputError, match="pairs.txt cannot be read"):
        evaluation_set("lfw", tmp_path)


def test_ijb_c_counts_a_video_once_and_searches_both_galleries(tmp_path: Path) -> None:
    found = toy("ijb-c", tmp_path)
    assert isinstance(found, TemplateSet)
    assert found.template.tolist() == [0, 0, 0, 1, 2, 3]
    assert [gallery.tolist() for gallery in found.galleries] == [[0], [2]]
    assert found.probes.tolist() == [1, 3]
    assert found.subject[[0, 1, 2, 3]].tolist() == [1, 1, 2, 2]
    # Two frames at 0° and a photograph at 90°: the template lies at 45°, and so do template 20's; without the media at 27°.
    # At 36° template 30 is nearer to the latter, and farther from the former than template 20.
    vectors = unit(0, 0, 90, 50, 25, 160)
    figures = found.figures(vectors, vectors)
    assert figures["TAR@FAR 0"] == 1.0
    assert figures["rank 1"] == 1.0
    no_media = TemplateSet(**{**vars(found), "media": np.arange(6)})
    assert no_media.figures(vectors, vectors)["TAR@FAR 0"] == 0.0
    # Without the tables of the search there are pairs alone.
    (tmp_path / "IJBC/meta/ijbc_1N_probe_mixed.csv").unlink()
    assert set(evaluation_set("ijb-c", tmp_path).figures(vectors, vectors)) == {"TAR@FAR 0"}
    (tmp_path / "IJBC/meta/ijbc_template_pair_label.txt").write_text("10 99 1\n")
    with pytest.raises(InputError, match="meta cannot be read"):
        evaluation_set("ijb-c", tmp_path)


def by_hand(
    features: NDArray[np.float64], sure: NDArray[np.float64], template: NDArray[np.int64], media: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Templates (T, D) of 2 N features, those of the mirrored images last, as they lie in InsightFace's loops."""
    count = len(sure)
    rows = []
    for number in range(int(template.max()) + 1):
        total = np.zeros(features.shape[1])
        for medium in sorted({int(media[index]) for index in range(count) if template[index] == number}):
            frames = [index for index in range(count) if template[index] == number and media[index] == medium]
            for index in frames:
                total += (features[index] + features[count + index]) * sure[index] / len(frames)
        rows.append(total / np.sqrt((total**2).sum()))
    return np.array(rows)


def test_templates_weighted_by_their_detector_beside_brute_force(tmp_path: Path) -> None:
    """As InsightFace's evaluation sums them up: features at their own length, image and mirrored image, score, media."""
    make_toy("ijb-c", tmp_path)
    half = np.zeros((120, 120, 3), dtype=np.uint8)
    half[:, 60:] = 255
    Image.fromarray(half).save(tmp_path / "IJBC/loose_crop/1.jpg")
    table = tmp_path / "IJBC/meta/ijbc_name_5pts_score.txt"
    sure = np.array([0.9, 0.2, 0.7, 1.0, 0.5, 0.3])
    rows = [
        " ".join([*line.split()[:-1], str(one)]) for line, one in zip(table.read_text().splitlines(), sure, strict=True)
    ]
    table.write_text("\n".join(rows))
    found, plain = (evaluation_set(name, tmp_path) for name in ("ijb-c-weighted", "ijb-c"))
    assert isinstance(found, TemplateSet)
    assert isinstance(plain, TemplateSet)
    assert found.weight is not None
    assert (found.by_length, plain.by_length) == (True, False)
    features = torch.randn(12, 7, generator=torch.Generator().manual_seed(1)) * torch.linspace(0.2, 9, 12)[:, None]
    made = templates(features, *map(torch.from_numpy, (found.template, found.media, found.weight)))
    wanted = by_hand(features.double().numpy(), sure, plain.template, plain.media)
    assert np.allclose(made, wanted, atol=1e-6)
    # Of unit rows, which say nothing of how sure the network was, they would be others.
    unit_rows = by_hand(torch.nn.functional.normalize(features).double().numpy(), sure, plain.template, plain.media)
    assert not np.allclose(wanted[0], unit_rows[0], atol=0.05)
    # The one pair of a kind: 10 and 20 are a person, and the greatest impostor is among 10 and 30, 20 and 40.
    scores = [float(wanted[a] @ wanted[b]) for a, b in ((0, 1), (0, 2), (1, 3))]
    assert found.figures(features, features)["TAR@FAR 0"] == float(scores[0] > max(scores[1:]))
    images = found.images(SMALL, None)
    pixels = images.pixels[images.rows].astype(int)
    assert np.abs(pixels[6:] - pixels[:6, :, ::-1]).max() <= 2
    assert np.abs(pixels[6] - pixels[0]).max() > 100
    for last, message in (("-1", "score that is not above 0"), ("x", "5pts_score.txt cannot be read")):
        table.write_text("\n".join(f"{row.rpartition(' ')[0]} {last}" for row in rows))
        with pytest.raises(InputError, match=message):
            evaluation_set("ijb-c-weighted", tmp_path)


def test_searches_1_to_n_are_by_hand() -> None:
    """Ten probes of strangers and two of the gallery's people: TPIR at the FPIR that ten can tell."""
    angles = [0, 90, 10, 80, *(30 + index for index in range(9)), 2]
    vectors = unit(*angles)
    count = len(angles)
    chosen = TemplateSet(
        "toy", (), template=np.arange(count), media=np.arange(count), first=np.array([0, 0]), second=np.array([2, 1]),
        same=np.array([True, False]), galleries=(np.array([0, 1]),), probes=np.arange(2, count),
        subject=np.array([1, 2, 1, 2, *range(3, 13)]),
    )  # fmt: skip
    figures = chosen.figures(vectors, vectors)
    # The nearest stranger at 2° may pass at a rate of 0.1; the next is at 30°, farther than both mates at 10°.
    assert figures["TPIR@FPIR 0.1"] == 1.0
    assert figures["rank 1"] == 1.0
    assert "TPIR@FPIR 0.01" not in figures, "ten strangers cannot tell it"
    vectors[2:4] = unit(40, 85)
    assert chosen.figures(vectors, vectors)["TPIR@FPIR 0.1"] == 0.5


def test_revisited_sets_look_at_the_box_of_a_query(tmp_path: Path) -> None:
    found = toy("roxford5k", tmp_path)
    assert isinstance(found, LandmarkSet)
    assert found.landmarks == (Landmark([0], [1, 3], [2]),)
    images = found.images(SMALL, None)
    (query,) = images.pixels[images.rows[-1:]]
    assert query.mean() > 190, "its right half alone is bright"
    # Gallery by similarity: 2 (junk), 0 (easy), 1 (hard), 3 (hard).
    vectors = unit(10, 20, 0, 30, 0)
    assert found.figures(vectors, vectors) == {"mAP medium": 1.0, "mAP hard": 1.0, "mAP easy": 1.0}
    # Now 3 is behind what no list names: nothing but junk and the lists are in this gallery, so 0 behind 1 hurts easy alone.
    assert found.figures(unit(25, 20, 0, 30, 0), unit(25, 20, 0, 30, 0))["mAP easy"] == 1.0, (
        "hard ones are junk to easy"
    )
    (tmp_path / "roxford5k/gnd_roxford5k.pkl").write_bytes(pickle.dumps({"imlist": [], "qimlist": ["q"], "gnd": []}))
    with pytest.raises(InputError, match="do not fit each other"):
        evaluation_set("roxford5k", tmp_path)


def test_revisited_sets_are_read_as_they_unpack(tmp_path: Path) -> None:
    """Paris has a folder for each landmark, and some copies have endings in capitals."""
    before = toy("rparis6k", tmp_path).images(SMALL, None)
    folder = tmp_path / "rparis6k/jpg"
    for path in sorted(folder.iterdir()):
        below = folder / path.stem[0]
        below.mkdir(exist_ok=True)
        path.rename(below / f"{path.stem}.JPG")
    found = evaluation_set("rparis6k", tmp_path)
    assert [Path(entry.uri).relative_to(folder).as_posix() for entry in found.entries] == [
        "g/g0.JPG", "g/g1.JPG", "g/g2.JPG", "g/g3.JPG", "q/q.JPG"
    ]  # fmt: skip
    assert np.array_equal(found.images(SMALL, None).pixels, before.pixels)
    (folder / "g/g2.JPG").unlink()
    with pytest.raises(InputError, match=r"jpg/g2\.jpg"):
        evaluation_set("rparis6k", tmp_path).images(SMALL, None)


def test_queries_in_an_index_by_hand(tmp_path: Path) -> None:
    found = toy("gldv2-retrieval", tmp_path)
    assert isinstance(found, GoogleLandmarkSet)
    assert [Path(entry.uri).stem for entry in found.entries][4:] == ["a4b4", "q0c0", "q1c1", "q3c3"]
    # The first finds 3 first and 0 third, the second its one item second, the last one first.
    vectors = unit(20, 50, 90, 1, 10, 0, 71, 91)
    figures = found.figures(vectors, vectors)
    assert figures == pytest.approx({"mAP@100": ((1 + 2 / 3) / 2 + 1) / 2, "mAP@100 public": 1 / 2})
    table = tmp_path / "gldv2/retrieval_solution_v2.1.csv"
    for text, message in (
        ("id,images,Usage\nq0c0,nobody,Private", "cannot be read"),
        ("id,images,Usage\n", "no query"),
    ):
        table.write_text(text)
        with pytest.raises(InputError, match=message):
            evaluation_set("gldv2-retrieval", tmp_path)


def write_pairs(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_pairs_of_ones_own(tmp_path: Path) -> None:
    for index, name in enumerate("abcd"):
        paint(tmp_path / f"{name}.png", (index, 2, 3))
    table = write_pairs(tmp_path / "pairs.csv", ["first,second,same", "a.png,b.png,1", "a.png,c.png,0"])
    found = evaluation_set(str(table))
    assert [Path(entry.uri).name for entry in found.entries] == ["a.png", "b.png", "c.png"]
    assert found.figures(unit(0, 5, 90), unit(0, 5, 90)) == {"TAR@FAR 0": 1.0}
    folds = ["first,second,same,fold", *(f"a.png,b.png,1,{fold}\na.png,c.png,0,{fold}" for fold in "xy")]
    assert evaluation_set(str(write_pairs(table, folds))).figures(unit(0, 5, 90), unit(0, 5, 90))["accuracy"] == 1.0
    for lines, message in (
        (["one,two,same", "a,b,1"], "has no column 'first': it needs first,second,same and has one, two, same"),
        (["first,second,same", "a.png,b.png,yes"], "has no pair in row 1 .line 2."),
        (["first,second,same"], "has no pair"),
    ):
        with pytest.raises(InputError, match=message):
            evaluation_set(str(write_pairs(table, lines)))
    with pytest.raises(
        InputError, match="No evaluation set is called 'lwf': choose one of lfw, ijb-c.* Did you mean 'lfw'"
    ):
        evaluation_set("lwf")
    as_spreadsheets_write = "\ufefffirst,second,same\na.png,b.png,1\na.png,c.png,0\n"
    table.write_text(as_spreadsheets_write, encoding="utf-8")
    assert len(evaluation_set(str(table)).entries) == 3
    table.write_text("first,second,same\na.png,é.png,1\n", encoding="latin-1")
    with pytest.raises(InputError, match="pairs.csv cannot be read as a CSV table in UTF-8 .*: save it as UTF-8"):
        evaluation_set(str(table))


def test_a_face_is_brought_upright_by_its_points() -> None:
    """A picture with a mark at each of five points, turned and enlarged: the marks come back to where they belong."""
    angle, scale = np.deg2rad(25), 2.0
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = np.array(FACE_POINTS) @ turn.T + (130, 20)
    canvas = np.zeros((320, 360, 3), dtype=np.uint8)
    for x, y in points.round().astype(int):
        canvas[y - 6 : y + 7, x - 6 : x + 7] = 255
    upright = np.asarray(Face(tuple(map(tuple, points))).of(Image.fromarray(canvas)))
    assert upright.shape == (FACE, FACE, 3)
    for x, y in np.array(FACE_POINTS).round().astype(int):
        assert upright[y, x].min() > 200
    assert (upright > 100).mean() < 5 * 121 / FACE**2, "marks, and nothing else"


def test_a_box_stays_inside_of_its_image() -> None:
    image = Image.new("RGB", (20, 10))
    assert Box(5.4, 2, 15.2, 8).of(image).size == (10, 6)
    assert Box(-5, -5, 500, 500).of(image).size == (20, 10)
    assert Box(19.8, 9.9, 19.9, 9.9).of(image).size == (1, 1)
