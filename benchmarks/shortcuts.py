"""What shortcuts cost in recall: numbers of 16 bits, and JPEGs decoded at a reduced size, on photographs by a published network.

    python benchmarks/shortcuts.py FOLDER          FOLDER/train/CLASS/*, FOLDER/test/CLASS/*

The images of ``test`` are searched for among those of ``train``. For the JPEGs every photograph is written as one,
and the network looks at half its side or less, so that decoding can leave pixels out.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from common import record
from evergallery import Workspace
from evergallery.data.image_set import ImageSet
from evergallery.evaluation import measure, protocol
from evergallery.network.extraction import in_torch
from evergallery.network.onnx_export import export_runnable
from evergallery.network.runtimes import openvino_model, part_size
from evergallery.network.trial import pictures

Vectors = NDArray[np.float32]
BACKBONE = "tf_efficientnet_lite0"


def linked(data: Path, place: Path) -> Path:
    """The photographs as queries and gallery."""
    place.mkdir()
    for name, split in (("query", "test"), ("gallery", "train")):
        (place / name).symlink_to((data / split).resolve())
    return place


def as_jpegs(data: Path, place: Path) -> Path:
    for path in sorted(path for split in ("train", "test") for path in (data / split).rglob("*") if path.is_file()):
        written = (place / path.relative_to(data)).with_suffix(".jpg")
        written.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).convert("RGB").save(written, quality=92)
    return place


def compared(images: ImageSet, exact: Vectors, cheap: Vectors) -> dict[str, Any]:
    """Recall@1 of both, of cheap queries among exact vectors, and how alike both vectors of an image are."""
    chosen = protocol(images)

    def recall(queries: Vectors, gallery: Vectors) -> float:
        return round(float(measure(chosen, queries, gallery, ())["all"].recall[1]), 4)

    cosines = (exact.astype(np.float64) * cheap).sum(1)
    return {
        "queries": len(chosen.query),
        "recall@1": {
            "exact": recall(exact, exact), "by the shortcut": recall(cheap, cheap),
            "queries by it, exact gallery": recall(cheap, exact),
        },
        "cosine": {"mean": round(float(cosines.mean()), 5), "smallest": round(float(cosines.min()), 5)},
    }  # fmt: skip


def in_sixteen_bits(folder: Path, size: int, scratch: Path) -> dict[str, Any]:
    """OpenVINO in bfloat16 beside float32; the cosine of fixed pictures says whether the product would write such a file."""
    with Workspace.create(scratch / f"shop-{size}", backbone=BACKBONE, size=size, pretrained=True) as shop:
        maker, images = shop.promoted, shop.read(folder)
        file = scratch / f"{size}.onnx"
        export_runnable(maker.embedder(), maker.preprocessing, file)
        run = openvino_model(file, "pixels", (size, size, 3), part_size(size), "bf16")
        exact, pixels = shop.extract(maker, images), images.pixels[images.rows]
        cheap = np.concatenate([run(pixels[start : start + 256]) for start in range(0, len(pixels), 256)])
        fixed = pictures(size, part_size(size))
        least = (run(fixed) * in_torch(maker.embedder(), maker.preprocessing)(fixed)).sum(1).min()
        return {**compared(images, exact, cheap), "smallest cosine of fixed pictures": round(float(least), 5)}


def reduced(folder: Path, size: int, scratch: Path) -> dict[str, Any]:
    """JPEGs decoded at a reduced size beside whole ones."""
    vectors = []
    for name in ("whole", "reduced"):
        place, is_reduced = scratch / f"{name}-{size}", name == "reduced"
        with Workspace.create(place, backbone=BACKBONE, size=size, pretrained=True, reduce_jpegs=is_reduced) as shop:
            images = shop.read(folder)
            vectors.append(shop.extract(shop.promoted, images))
    return compared(images, *vectors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 224])
    parser.add_argument("--reduced-sizes", type=int, nargs="+", default=[32])
    options = parser.parse_args()
    sides = [min(Image.open(path).size) for path in sorted(options.data.rglob("*/*.*"))[::50]]
    result: dict[str, Any] = {"network": BACKBONE, "shorter side of the photographs": int(np.median(sides))}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        folder = linked(options.data, scratch / "photographs")
        result["bfloat16"] = {str(size): in_sixteen_bits(folder, size, scratch) for size in options.sizes}
        folder = linked(as_jpegs(options.data, scratch / "written"), scratch / "jpegs")
        result["reduced JPEGs"] = {str(size): reduced(folder, size, scratch) for size in options.reduced_sizes}
    record("shortcuts", result)


if __name__ == "__main__":
    main()
