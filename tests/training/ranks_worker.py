"""What one of several processes that learn together does for test_ranks.py."""

import sys
from collections.abc import Sequence
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "methods")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from test_laws import ALL, OLD, a_network, learn, new_images, old_and_new_images  # noqa: E402
from torch import Tensor  # noqa: E402

import evergallery  # noqa: E402
from evergallery.data.images import Preprocessing  # noqa: E402
from evergallery.files.tensors import save_tensors  # noqa: E402
from evergallery.methods import METHODS  # noqa: E402
from evergallery.network import extract, features, outputs_of  # noqa: E402
from evergallery.network.ranks import Ranks, join  # noqa: E402
from evergallery.training import Settings  # noqa: E402


def step_of(method: str, directory: Path, count: int = 43) -> dict[str, Tensor]:
    """Weights after one step of plain descent, and its losses, for a batch that no number of ranks divides."""
    settings = Settings(
        epochs=1, batch_size=count, optimizer="sgd", learning_rate=0.01, weight_decay=0, clip_norm=None,
        schedule="constant", precision="float32", device="cpu", padding=1,
    )  # fmt: skip
    images = old_and_new_images() if METHODS[method].needs.old_images else new_images()
    images = images.select(np.linspace(0, len(images) - 1, count).astype(np.int64))
    network, _, trained = learn(METHODS[method](), images, settings, directory)
    losses = trained.history[0]["losses"]
    named = {f"loss/{name}": torch.tensor(value, dtype=torch.float64) for name, value in losses.items()}
    return {**network.state_dict(), **named}


def start_of(method: str) -> dict[str, Tensor]:
    """The weights that ``step_of`` begins with."""
    chosen = METHODS[method]()
    network, parent = a_network(ALL, chosen), a_network(OLD, chosen)
    if chosen.needs.parent_weights:
        network.embedder.load_state_dict(parent.embedder.state_dict())
    return {name: tensor.clone() for name, tensor in network.state_dict().items() if tensor.is_floating_point()}


def write_images(path: Path) -> None:
    """Images to learn from, for a command."""
    images = new_images(each=16)
    pixels = images.batch(np.arange(len(images))).permute(0, 2, 3, 1).numpy()
    names = np.array(images.classes)[images.labels]
    np.savez(path, images=pixels, labels=names)


def frozen_features(directory: Path, ranks: Ranks | None = None) -> None:
    """The features that all ranks make together of images in batches of three, two of which are the same."""
    ranks, looked = ranks or join(torch.device("cpu")), list[int]()
    network = a_network(OLD, METHODS["finetune"]())
    network.embedder.backbone.register_forward_hook(lambda module, given, made: looked.append(len(given[0])))
    images = new_images(each=7)
    images = images.select(np.append(np.arange(len(images)), 0))
    before, features.BATCH = features.BATCH, 3
    try:
        cache = features.FeatureCache(directory, network.embedder, Preprocessing(size=16), ranks)
        # What is known already is looked at by nobody.
        cache.plain(images.select(np.arange(4)))
        found = cache.part(images, features.AugmentedViews(2))
    finally:
        features.BATCH = before
    made = {name: torch.from_numpy(np.array(array)) for name, array in vars(found).items()}
    save_tensors(
        directory / f"features-{ranks.rank}-of-{ranks.size}.safetensors",
        {**made, "looked at": torch.tensor(sum(looked))},
    )


def torchrun(size: int, restarts: int, *words: object) -> None:
    """Have PyTorch's launcher run a command in so many processes, which begin with what this one has loaded."""
    from torch.distributed.run import main

    program = str(Path(evergallery.__file__).with_name("__main__.py"))
    ranks = ("--standalone", f"--nproc-per-node={size}", f"--max-restarts={restarts}")
    main([*ranks, "--start-method=fork", "--run-path", program, *map(str, words)])


def embeddings() -> dict[str, Tensor]:
    """What all ranks make together of images of which no number of ranks has equal shares."""
    ranks = join(torch.device("cpu"))
    network = a_network(OLD, METHODS["finetune"]())
    images = new_images(each=7)
    size = Preprocessing(size=16)
    made = outputs_of(network, images, size, batch_size=8, ranks=ranks)
    alone = extract(network.embedder, images, size, batch_size=8, ranks=ranks)
    return {"features": made.features, "logits": made.logits, "embeddings": torch.from_numpy(alone)}


def work(directory: Path, methods: Sequence[str], few: bool = False) -> None:
    """What one rank does: a step by each of the methods, embeddings, and a step of fewer images than ranks."""
    rank = join(torch.device("cpu")).rank
    for name in methods:
        save_tensors(directory / f"{name}-{rank}.safetensors", step_of(name, directory / f"run-{name}"))
    save_tensors(directory / f"embeddings-{rank}.safetensors", embeddings())
    if few:
        tiny = step_of("finetune", directory / "run-tiny", count=2)
        save_tensors(directory / f"tiny-{rank}.safetensors", tiny)
