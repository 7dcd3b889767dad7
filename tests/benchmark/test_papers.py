"""What `--budget paper` builds, against what the papers' published code has: networks, images, batches, rates, losses."""

import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from evergallery.benchmark import job, lineage
from evergallery.benchmark.job import Experiment
from evergallery.benchmark.protocol import ProtocolChanges
from evergallery.benchmark.protocols import PROTOCOLS
from evergallery.benchmark.runner import run_benchmark
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.data.images.sizes import Size
from evergallery.learning import inputs, learner
from evergallery.methods import Step
from evergallery.network import Head, Network, Outputs, build_backbone
from evergallery.network.uninitialised import uninitialised
from evergallery.training import TrainingResult, train
from evergallery.training.augmentation import augment
from evergallery.training.batches import batches_of
from evergallery.training.optimizer import optimizer_of
from evergallery.training.settings import Settings
from evergallery.watching import Watcher
from published_toys import make_published


@dataclass(frozen=True)
class LabelledSet:
    """What batches are drawn from."""

    labels: Any

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class TrainingCall:
    """What a run was about to train."""

    arguments: dict[str, Any]

    @property
    def network(self) -> Any:
        return self.arguments["network"]

    @property
    def settings(self) -> Settings:
        found: Settings = self.arguments["settings"]
        return found

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        return optimizer_of(self.network, None, self.settings)

    def batches(self, classes: int, each: int) -> list[Any]:
        return batches_of(LabelledSet(np.repeat(np.arange(classes), each)), self.settings, 0)  # type: ignore[arg-type]

    def augmented(self, *planes: Tensor, size: Size | None = None) -> Tensor:
        """Many copies of an image of the size that images are read at, given by its three channels; seen at a size."""
        images = torch.stack(planes).to(torch.uint8).expand(100, 3, *planes[0].shape)
        return augment(images, self.settings, torch.Generator().manual_seed(0), size or self.seen.size, self.seen)

    @property
    def seen(self) -> Preprocessing:
        found: Preprocessing = self.arguments["data"].preprocessing
        return found

    @property
    def area(self) -> tuple[int, int]:
        found: tuple[int, int] = self.arguments["data"].images.pixels.shape[1:3]
        return found


def smallest_crop(built: TrainingCall) -> float:
    """Of the share of the area that a crop keeps, on ramps in both directions."""
    height, width = built.area
    down, across = torch.linspace(0, 255, height)[:, None], torch.linspace(0, 255, width)[None]
    planes = down.expand(height, width), across.expand(height, width), torch.zeros(height, width)
    seen = built.augmented(*planes, size=64)
    spans = [seen[:, channel].flatten(1).amax(1) - seen[:, channel].flatten(1).amin(1).float() for channel in (0, 1)]
    return round(float((spans[0] / 255 * spans[1] / 255).min()), 2)


def largest_shift(built: TrainingCall) -> int:
    """Black rows at the upper border of a white image."""
    white = torch.full(built.area, 255)
    black = (built.augmented(white, white, white) == 0).all(1).all(2)
    return int(black[:, : built.area[0] // 2].cumprod(1).sum(1).max())


def erased(built: TrainingCall) -> tuple[float, set[tuple[int, ...]]]:
    """Share of white images on which something is neither white nor black, and its colours."""
    white = torch.full(built.area, 255)
    seen = built.augmented(white, white, white)
    changed = (seen.amax(1) > 0) & (seen.amin(1) < 255)
    colours = {tuple(pixel) for pixel in seen.permute(0, 2, 3, 1)[changed].tolist()}
    return round(float(changed.flatten(1).any(1).float().mean()), 1), colours


def changed(built: TrainingCall) -> bool:
    """Whether images are learned from otherwise than as they are."""
    height, width = built.area
    down, across = torch.linspace(0, 255, height)[:, None], torch.linspace(0, 255, width)[None]
    planes = [plane.expand(height, width).to(torch.uint8) for plane in (down, across, down)]
    return not all(torch.equal(one, torch.stack(planes)) for one in built.augmented(*planes))


def rates(*epochs: int) -> Callable[[TrainingCall], list[float]]:
    """At these epochs, as a share of the peak, when the rate has risen."""

    def shares(built: TrainingCall) -> list[float]:
        settings = built.settings.model_copy(update={"warmup": 0.0})
        return [float(f"{settings.rate(epoch / settings.epochs) / settings.learning_rate:.4g}") for epoch in epochs]

    return shares


def rate_of_biases(built: TrainingCall) -> set[float]:
    """As a share of that of weights."""
    shares = {id(parameter): group["share"] for group in built.optimizer.param_groups for parameter in group["params"]}
    found: dict[bool, set[float]] = {True: set(), False: set()}
    for name, parameter in built.network.named_parameters():
        found[name.endswith("bias")].add(shares[id(parameter)])
    (weights,) = found[False]
    return {share / weights for share in found[True]}


def smoothing(built: TrainingCall) -> float | None:
    """ε of the one term of a first generation's loss; ``None`` where the loss is another."""
    torch.manual_seed(0)
    features, labels, head = torch.randn(6, 8), torch.arange(6) % 3, Head(8, 3, built.network.head.kind)
    outputs = Outputs(features, F.normalize(features), head(features))
    epsilon = built.settings.label_smoothing
    step = Step[Any](labels, outputs, head=head, state=None, label_smoothing=epsilon)
    found = sum(built.arguments["method"].losses(step).values())
    expected = (F.cross_entropy(outputs.logits, labels, label_smoothing=one) for one in (0.0, 0.1))
    return next((e for e, one in zip((0.0, 0.1), expected, strict=True) if torch.isclose(found, one)), None)


def terms(built: TrainingCall) -> dict[str, float]:
    """Of the loss of a first generation on a fixed batch."""
    torch.manual_seed(0)
    features, labels, head = torch.randn(6, 8), torch.arange(6) % 3, Head(8, 3, built.network.head.kind)
    step = Step[Any](labels, Outputs(features, F.normalize(features), head(features)), head=head, state=None)
    return {name: round(float(one), 4) for name, one in built.arguments["method"].losses(step).items()}


def by_hand(loss: str) -> dict[str, float]:
    """The papers' loss of that batch, anchor by anchor: hard mining with a margin of 0.1, or binomial deviance."""
    torch.manual_seed(0)
    rows = F.normalize(torch.randn(6, 8)).double().numpy()
    total = 0.0
    for anchor in range(6):
        near = [float(rows[anchor] @ rows[other]) for other in range(6) if other != anchor and other % 3 == anchor % 3]
        far = [float(rows[anchor] @ rows[other]) for other in range(6) if other % 3 != anchor % 3]
        if loss == "binomial":
            total += float(np.mean([np.log1p(np.exp(-2 * (s - 0.5))) for s in near]))
            total += float(np.mean([np.log1p(np.exp(40 * (s - 0.5))) for s in far]))
            continue
        kept = [s for s in far if s > min(near) - 0.1]
        hard = [s for s in near if s < max(far) + 0.1]
        if kept:
            total += float(np.mean(kept)) + (float(np.mean([1 - s for s in hard])) if hard else 0.0)
    return {"metric": round(total / 6, 4)}


def last_map(built: TrainingCall) -> tuple[int, int]:
    """Height and width of what is pooled."""
    module = built.network.embedder.backbone.eval()
    with torch.no_grad():
        height, width = module.forward_features(torch.zeros(1, 3, *built.area)).shape[2:]
    return height, width


def supporting(built: TrainingCall) -> nn.Module:
    method = built.arguments["method"]
    found: nn.Module = built.arguments["lineage"].another_network(method.supporting).embedder.backbone
    return found


READ: dict[str, Callable[[TrainingCall], Any]] = {
    "backbone": lambda built: built.network.embedder.architecture.backbone,
    "weights": lambda built: begun_with(built.network.embedder.backbone),
    "supporting weights": lambda built: begun_with(supporting(built)),
    "dimension": lambda built: built.network.embedder.dimension,
    "neck": lambda built: [type(layer).__name__ for layer in built.network.embedder.neck],
    "head": lambda built: built.network.head.kind,
    "images": lambda built: len(built.arguments["data"].images) + len(built.arguments["data"].validation or ()),
    "pixels": lambda built: built.area,
    "middle": lambda built: (built.seen.size, built.area[0] * built.seen.kept),
    "resized": lambda built: built.seen.interpolation,
    "last map": last_map,
    "epochs": lambda built: built.settings.epochs,
    "smallest crop": smallest_crop,
    "black rows": largest_shift,
    "erased": erased,
    "changed": changed,
    "fit": lambda built: built.seen.fit,
    "keeps the last batch": lambda built: built.settings.last_batch,
    "optimizer": lambda built: type(built.optimizer).__name__,
    "rate": lambda built: built.settings.learning_rate,
    "weight decay": lambda built: built.optimizer.param_groups[0]["weight_decay"],
    "momentum": lambda built: built.optimizer.param_groups[0].get("momentum"),
    "clipped": lambda built: built.settings.clip_norm,
    "precision": lambda built: built.settings.precision,
    "chosen": lambda built: (built.arguments["data"].validation is None, built.settings.select),
    "steps of 25 000 images": lambda built: len(built.batches(50, 500)),
    "steps of 100 classes": lambda built: len(built.batches(100, 30)),
    "classes × images": lambda built: [*Counter(Counter(built.batches(40, 30)[0] // 30).values()).items()],
    "batch": lambda built: len(built.batches(40, 30)[0]),
    "statistics": lambda built: built.settings.normalisation,
    "ε": smoothing,
    "old share": lambda built: built.arguments["method"].share_of_old_images(),
    "terms": terms,
    "warm-up": lambda built: (built.settings.warmup, built.settings.rate(0) / built.settings.learning_rate),
    "rate of biases": rate_of_biases,
    "identities": lambda built: [
        int(built.arguments["data"].images.classes[label].split()[-1])
        for label in np.unique(built.arguments["data"].images.labels)
    ],
    "loss": lambda built: built.arguments["method"].loss,
    "option": lambda built: {
        name: value for name, value in built.arguments["method"].parameters().items() if name.endswith("weight") or name == "rows"
    },
}  # fmt: skip
RATES = {
    "csd-cifar100": (0, 199, 200, 400, 600),
    "dual-tuning": (0, 39, 40, 90),
    "bct-imagenet": (0, 29, 30, 60),
    "landmarks": (0, 5, 10, 20),
    "landmarks-images": (0, 5, 10, 20),
}
MUTUAL = {
    "dimension": 512, "neck": ["Linear"], "pixels": (256, 256), "middle": (224, 224), "resized": "bilinear",
    "smallest crop": 0.16, "optimizer": "Adam", "weight decay": 5e-4,
    "clipped": None, "statistics": "fixed", "chosen": (True, "last"), "precision": "float32",
}  # fmt: skip
BN_INCEPTION = {
    **MUTUAL,
    "backbone": "bn-inception-max",
    "classes × images": [(5, 16)],
    "steps of 100 classes": 6,
    "rate": 1e-5,
}
OTHERS = {**MUTUAL, "classes × images": [(3, 16)], "steps of 100 classes": 6, "weights": "published"}
DISTILLING = {"supporting weights": "published", "option": {"classification_weight": 0, "old_weight": 10, "virtual_weight": 10,
                                                              "mutual_weight": 1}}  # fmt: skip
CIFAR = {
    "backbone": "resnet32", "neck": [], "pixels": (32, 32), "black rows": 4, "clipped": None, "weight decay": 5e-4,
    "chosen": (True, "last"), "batch": 128, "precision": "float32",
}  # fmt: skip
CSD = {
    **CIFAR, "dimension": 64, "head": "projected-rows", "epochs": 800, "optimizer": "Adam",
    "steps of 25 000 images": 196, "rates": [1, 1, 0.1, 0.01, 0.001],
}  # fmt: skip
CL2R = {
    **CIFAR, "neck": ["Linear"], "dimension": 11, "head": "simplex", "epochs": 70, "optimizer": "SGD", "rate": 0.1,
    "rates": [1, 1, 0.1, 0.01],
}  # fmt: skip
PERSONS = {
    "weights": "published", "neck": ["BatchNorm1d"], "head": "linear", "pixels": (256, 128), "last map": (16, 8),
    "black rows": 10, "erased": (0.5, {(152, 142, 127)}), "precision": "auto", "resized": "bicubic",
    "classes × images": [(4, 16)], "epochs": 120, "optimizer": "Adam", "rate": 3.5e-4,
    "weight decay": 5e-4, "clipped": None, "chosen": (True, "last"), "rates": [1, 1, 0.1, 0.01],
    "rate of biases": {2.0}, "warm-up": (0.99, 0.1),
}  # fmt: skip
IMAGENET = {
    "head": "linear", "neck": [], "pixels": (256, 256), "middle": (224, 224), "resized": "bilinear",
    "smallest crop": 0.08, "batch": 256, "epochs": 90, "optimizer": "SGD",
    "rate": 0.1, "momentum": 0.9, "weight decay": 1e-4, "clipped": None, "rates": [1, 1, 0.1, 0.01],
    "chosen": (True, "last"), "precision": "float32", "keeps the last batch": True,
}  # fmt: skip
LANDMARKS = {
    "backbone": "resnet18.tv_in1k", "dimension": 256, "neck": ["Linear", "BatchNorm1d"], "pixels": (224, 224), "batch": 256,
    "epochs": 30,
    "optimizer": "SGD", "rate": 0.1, "rates": [1, 0.1, 0.01, 0.001], "clipped": None, "weight decay": 5e-4, "changed": False,
    "fit": "stretch", "resized": "bilinear", "head": "linear",
    "chosen": (True, "last"), "precision": "float32", "keeps the last batch": False,
}  # fmt: skip
OF_DUKE = ProtocolChanges(backbone="last-stride-1/resnet50.tv_in1k", update_backbone="last-stride-1/resnet18.tv_in1k")
"""A smaller new network."""
IMAGENET_PLAN = PROTOCOLS["bct-imagenet"].budgets["paper"]
PAPERS: dict[str, tuple[str, str, str, ProtocolChanges, list[dict[str, Any]]]] = {
    "csd": ("csd-cifar100", "csd", "cifar100", ProtocolChanges(), [{**CSD, "rate": 1e-3}, {**CSD, "rate": 1e-5}]),
    "cl2r": ("cl2r-cifar100", "cl2r", "cifar100", ProtocolChanges(), [{**CL2R, "ε": 0}, {**CL2R, "old share": 0.5}]),
    "mutual": ("mutual-one-task", "mutual", "cub200", ProtocolChanges(), [
        {**BN_INCEPTION, "epochs": 1500, "weights": "published", "terms": by_hand("hard-mining")},
        {**BN_INCEPTION, **DISTILLING, "epochs": 1000, "loss": "hard-mining"},
    ]),
    "mutual, ResNet-50": ("mutual-one-task", "mutual", "cub200", ProtocolChanges(backbone="resnet50"), [
        {**OTHERS, "backbone": "resnet50.tv_in1k", "epochs": 2550, "rate": 1e-5, "terms": by_hand("binomial")},
        {**OTHERS, **DISTILLING, "epochs": 850, "rate": 1e-5, "loss": "binomial"},
    ]),
    "mutual, ViT": ("mutual-one-task", "mutual", "cub200", ProtocolChanges(backbone="vit_small_patch16_224"), [
        {**OTHERS, "epochs": 255, "rate": 3e-5, "terms": by_hand("binomial")},
        {**OTHERS, **DISTILLING, "epochs": 195, "rate": 1e-5, "loss": "binomial"},
    ]),
    "mutual, fashion": ("mutual-fashion", "mutual", "deepfashion2", ProtocolChanges(), [
        {**BN_INCEPTION, "epochs": 170}, {**BN_INCEPTION, "epochs": 190},
    ]),
    "l2": ("bct-imagenet", "l2", "imagenet", ProtocolChanges(), [
        {**IMAGENET, "backbone": "resnet18"},
        {**IMAGENET, "backbone": "resnet50", "option": {"weight": 10, "classification_weight": 0}},
    ]),
    "dual-tuning": ("dual-tuning", "dual-tuning", "market1501", ProtocolChanges(), [
        {**PERSONS, "backbone": "last-stride-1/resnet18.tv_in1k", "dimension": 512, "ε": 0.1,
         "identities": [1, 201, 401]},
        {**PERSONS, "backbone": "last-stride-1/resnet50.tv_in1k", "dimension": 2048, "loss": "cross-entropy",
         "option": {"prototype_weight": 0.1, "structure_weight": 0.2}, "identities": [1, 201, 401, 601]},
    ]),
    "dual-tuning, MSMT17": ("dual-tuning", "dual-tuning", "msmt17", ProtocolChanges(), [
        {"identities": [0, 175, 350]}, {"identities": [0, 175, 350, 525]},
    ]),
    "dual-tuning, DukeMTMC": ("dual-tuning", "dual-tuning@structure_weight=0", "dukemtmc", OF_DUKE, [
        {**PERSONS, "backbone": "last-stride-1/resnet50.tv_in1k", "identities": [1, 201, 401, 601]},
        {**PERSONS, "backbone": "last-stride-1/resnet18.tv_in1k", "identities": [1, 201, 401, 601],
         "option": {"prototype_weight": 0.1, "structure_weight": 0}},
    ]),
    "advbct": ("landmarks", "advbct", "gldv2", ProtocolChanges(evaluate=()), [
        {**LANDMARKS, "weights": "published", "ε": 0},
        {**LANDMARKS, "option": {"adversarial_weight": 1, "boundary_weight": 1}},
    ]),
    "advbct, more images": ("landmarks-images", "advbct", "gldv2", ProtocolChanges(evaluate=()), [
        {**LANDMARKS, "images": 4 * 2}, {**LANDMARKS, "images": 4 * 4},
    ]),
    "bct": ("bct-imagenet", "bct", "imagenet", ProtocolChanges(), [
        {**IMAGENET, "backbone": "resnet18", "dimension": 512, "ε": 0},
        {**IMAGENET, "backbone": "resnet50", "dimension": 2048, "option": {"weight": 1, "rows": "old"}},
    ]),
}  # fmt: skip
ROWS = [
    (paper, number, what) for paper, (*_, steps) in PAPERS.items() for number, step in enumerate(steps) for what in step
]
LAST: dict[str, Any] = {}
CLASSES_OF = {"cl2r": 12, "mutual, fashion": 10}
"""Of the toys of protocols with many tasks."""


def begun_with(module: nn.Module) -> str:
    """``published`` where a network begins with the weights that a file, or the hub, has given."""
    given = LAST["given"]
    tensors = module.state_dict().values()
    return (
        "published" if any(all(map(torch.equal, tensors, one)) for one in given if len(one) == len(tensors)) else "new"
    )


def known(build: Callable[[], nn.Module]) -> nn.Module:
    """A network whose weights are known, and not drawn, which takes longest."""
    with uninitialised():
        module = build()
    for parameter in module.parameters():
        nn.init.constant_(parameter, 0.01)
    return module


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], list[TrainingCall]]]:
    """What each paper's run was about to train, generation by generation; nothing is trained."""
    directory = tmp_path_factory.mktemp("papers")
    found: dict[str, list[TrainingCall]] = {}
    given: list[list[Tensor]] = []
    LAST["given"] = given

    def take(*arguments: Any, **options: Any) -> TrainingResult:
        bound = inspect.signature(train).bind(*arguments, **options).arguments
        found[LAST["paper"]].append(TrainingCall(bound))
        if len(found[LAST["paper"]]) == 2:
            raise KeyboardInterrupt
        return TrainingResult(epochs=0, best_epoch=0, images_seen=0, seconds=0, validation={}, history=[])

    def published(name: str, pretrained: bool = False, **options: Any) -> nn.Module:
        if not pretrained:
            return create(name, **options)
        module = known(lambda: create(name, **options))
        given.append([*module.state_dict().values()])
        return module

    def build(paper: str) -> list[TrainingCall]:
        if paper in found:
            return found[paper]
        LAST["paper"], found[paper] = paper, []
        protocol, method, data, changes, _ = PAPERS[paper]
        make_published(data, directory / paper, classes=CLASSES_OF.get(paper, 4), each=4)
        if paper in ("mutual", "mutual, fashion"):
            state = known(lambda: build_backbone("bn-inception-max").module).state_dict()
            save_file(state, directory / "bn.safetensors")
            given.append([*state.values()])
            changes = ProtocolChanges(weights=directory / "bn.safetensors")
        job.read_parts.cache_clear()
        with pytest.raises(KeyboardInterrupt):
            run_benchmark(
                Experiment(protocol, "paper", data, directory / paper, changes),
                [method],
                seeds=[0],
                out=directory / paper / "results",
                watcher=Watcher(),
            )
        return found[paper]

    def outputs_of(network: Network, images: ImageSet, *_: Any, **options: Any) -> Outputs:
        """Of images that nobody looked at."""
        width = network.embedder.dimension
        features = torch.ones(len(images), width)
        return Outputs(features, F.normalize(features), torch.zeros(len(images), network.head.weight.shape[0]))

    import timm

    create = timm.create_model
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(learner, "train", take)
        patched.setattr(inputs, "outputs_of", outputs_of)
        patched.setattr(timm, "create_model", published)
        yield build


@pytest.mark.parametrize(("paper", "number", "what"), ROWS)
def test_a_paper_s_budget_builds_what_the_paper_has(
    runs: Callable[[str], list[TrainingCall]], paper: str, number: int, what: str
) -> None:
    protocol, expected, built = PAPERS[paper][0], PAPERS[paper][-1][number][what], runs(paper)[number]
    found: Any = rates(*RATES.get(protocol, (0, 48, 49, 64)))(built) if what == "rates" else READ[what](built)
    if what == "smallest crop":
        # Of a hundred draws, and seen through the interpolation at the borders.
        assert expected <= found + 0.01 <= expected + 0.06
    else:
        assert found == expected


def test_the_rate_rises_for_as_many_steps_whatever_the_number_of_images() -> None:
    """2 000 in the published configuration: a twelfth of a run on all of Market-1501, and a fifth of the old model's."""
    plan = PROTOCOLS["dual-tuning"].budgets["paper"]
    for identities, each in ((751, 16), (312, 16)):
        images = LabelledSet(np.repeat(np.arange(identities), each))
        found = lineage._with_warmup(plan.first, plan, images)  # type: ignore[arg-type]
        steps = 120 * len(batches_of(images, plan.first, 0))  # type: ignore[arg-type]
        assert found.warmup * steps == pytest.approx(2000)
        assert steps == pytest.approx(120 * identities * each / 64, rel=0.02)
    assert lineage._with_warmup(IMAGENET_PLAN.first, IMAGENET_PLAN, images) is IMAGENET_PLAN.first  # type: ignore[arg-type]


def test_updates_of_fashion_take_the_epochs_of_the_published_checkpoints(
    runs: Callable[[str], list[TrainingCall]],
) -> None:
    plan = PROTOCOLS["mutual-fashion"].budgets["paper"]
    assert [plan.update_settings(number).epochs for number in (2, 3, 4, 5)] == [190, 120, 95, 195]
    assert plan.update_settings(6) == plan.update
    birds = PROTOCOLS["mutual-multi-task"].budgets["paper"]
    assert [birds.update_settings(number).epochs for number in (2, 3, 4, 5)] == [1000, 1000, 1000, 1050]
    assert runs("mutual, fashion")[1].settings.epochs == 190
    for name in ("resnet50", "torchvision/resnet50", "vit_small_patch16_224.augreg_in21k_ft_in1k"):
        other = PROTOCOLS["mutual-fashion"].changed("paper", ProtocolChanges(backbone=name)).budgets["paper"]
        assert other.first.batch_size == 48, "the other networks' batches"
        assert [other.first.epochs, *(other.update_settings(number).epochs for number in (2, 5, 6))] == [
            170,
            190,
            195,
            150,
        ]
    shorter = PROTOCOLS["mutual-fashion"].changed("paper", ProtocolChanges(epochs=3)).budgets["paper"]
    assert [shorter.update_settings(number).epochs for number in (2, 3)] == [3, 3]


@pytest.mark.parametrize(
    ("paper", "anew"), [("mutual", False), ("csd", False), ("dual-tuning", True), ("advbct", True), ("bct", True)]
)
def test_a_new_model_begins_where_the_paper_s_does(
    runs: Callable[[str], list[TrainingCall]], paper: str, anew: bool
) -> None:
    """With the old one's weights, or as that one began; what stands behind the backbone tells them apart."""
    old, new = (
        [*(built.network.embedder.neck.parameters()), *built.network.embedder.backbone.parameters()]
        for built in runs(paper)
    )
    assert all(map(torch.equal, old, new)) is not anew


def test_every_image_of_a_class_is_learned_from(runs: Callable[[str], list[TrainingCall]]) -> None:
    for built in runs("csd"):
        assert Counter(Counter(built.arguments["data"].images.labels.tolist()).values()) == {4: 2}
