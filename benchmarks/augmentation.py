"""Images per second and core of the batch augmentation, beside per-image PIL transforms."""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from common import interleaved, record
from evergallery.data.augment import erase, flip, normalise, pad_crop


def everything(images: Tensor, draw: torch.Generator) -> Tensor:
    return erase(flip(pad_crop(images, 4, draw), draw), draw)


def normalised(images: Tensor, draw: torch.Generator) -> Tensor:
    return normalise(everything(images, draw), (0.5,) * 3, (0.2,) * 3)


def one_by_one(images: Tensor, draw: np.random.Generator) -> list[np.ndarray]:
    """The same crop and flip as the papers' code does it: an image at a time, in PIL."""
    done = []
    for image in images.permute(0, 2, 3, 1).numpy():
        picture = ImageOps.expand(Image.fromarray(image), 4)
        x, y = draw.integers(0, 9, 2)
        picture = picture.crop((x, y, x + 32, y + 32))
        done.append(np.asarray(ImageOps.mirror(picture) if draw.random() < 0.5 else picture))
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--size", type=int, default=32)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    draw, numpy_draw = torch.Generator().manual_seed(0), np.random.default_rng(0)
    rows = {}
    for count in (128, 512):
        pixels = numpy_draw.integers(0, 256, (count, arguments.size, arguments.size, 3), dtype=np.uint8)
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        runs: dict[str, Callable[[], object]] = {
            "pad_crop": partial(pad_crop, images, 4, draw),
            "flip": partial(flip, images, draw),
            "erase": partial(erase, images, draw),
            "pad_crop + flip + erase": partial(everything, images, draw),
            "the same and normalise": partial(normalised, images, draw),
            "per image in PIL: pad, crop, flip": partial(one_by_one, images, numpy_draw),
        }
        seconds = interleaved(runs, arguments.repeats)
        rows[f"batch of {count}"] = {name: round(count / value["median_s"]) for name, value in seconds.items()}
    slowest = min(row["pad_crop + flip + erase"] for row in rows.values())
    record(
        "augmentation",
        {
            "images_per_second_and_core": rows,
            "image_size": arguments.size,
            "target": "pad_crop + flip + erase at 30 000 images/s a core",
            "reached": slowest >= 30_000,
        },
        seed=0,
    )


if __name__ == "__main__":
    main()
