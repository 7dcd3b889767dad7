"""The budgets of the named protocols: settings of the papers, and shorter ones for two CPU cores."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from evergallery.benchmark.protocol import Budget, TrainingPlan
from evergallery.training import Settings


def _glyphs(epochs: int, update_epochs: int) -> TrainingPlan:
    common: dict[str, Any] = {"batch_size": 64, "images_per_class": 4, "padding": 3, "flip": False}
    return TrainingPlan(Settings(epochs=epochs, **common), Settings.update(epochs=update_epochs, **common))


def _cifar(size: int, epochs: int, update_epochs: int, **common: Any) -> TrainingPlan:
    return TrainingPlan(Settings(epochs=epochs, **common), Settings.update(epochs=update_epochs, **common), size)


def _photographs(epochs: int, update_epochs: int, size: int | None = 32) -> TrainingPlan:
    common: dict[str, Any] = {"batch_size": 80, "images_per_class": 5}
    return TrainingPlan(Settings(epochs=epochs, **common), Settings.update(epochs=update_epochs, **common), size)


OLD_ROWS = {"bct": {"rows": "old"}}
"""The published codes, where later tasks hold the old classes: their images are held to the rows that the old head learned."""
GLYPHS: dict[Budget, TrainingPlan] = {"quick": _glyphs(4, 2), "standard": _glyphs(12, 6), "paper": _glyphs(40, 20)}
# A tenth of the characters is seen ten times as often: otherwise a first generation would have no time to learn anything.
GLYPHS_10: dict[Budget, TrainingPlan] = {
    "quick": _glyphs(12, 3),
    "standard": _glyphs(40, 12),
    "paper": _glyphs(120, 40),
}
CIFAR: dict[Budget, TrainingPlan] = {"quick": _cifar(16, 4, 2), "standard": _cifar(24, 12, 5)}


def _csd(rate: float) -> Settings:
    # All 500 images of a class, all 196 steps of an epoch, black borders, no autocast; the last epoch, where the published code
    # chooses the best one on the test images.
    return Settings(
        epochs=800, learning_rate=rate, schedule="multi-step", clip_norm=None, border="zero", last_batch=True,
        precision="float32", validation_fraction=0, select="last",
    )  # fmt: skip


CSD: dict[Budget, TrainingPlan] = {
    **CIFAR,
    "paper": TrainingPlan(_csd(1e-3), _csd(1e-5), 32, {"head": "projected-rows"}),
}


def _cl2r() -> Settings:
    # × 0.1 at 49 and 64 of 70 epochs, whose last one is kept; images as in CSD's code.
    return Settings(
        epochs=70, learning_rate=0.1, schedule="multi-step", milestones=(49 / 70, 64 / 70), optimizer="sgd",
        weight_decay=5e-4, clip_norm=None, border="zero", precision="float32", validation_fraction=0, select="last",
    )  # fmt: skip


CL2R: dict[Budget, TrainingPlan] = {
    **CIFAR,
    "paper": TrainingPlan(_cl2r(), _cl2r(), 32, {"triplets": False, "method_options": {"cl2r": {"old_share": 0.5}}}),
}


def _mutual(epochs: int, rate: float = 1e-5, per_class: int = 5) -> Settings:
    # An epoch is each class once, batch normalisation keeps its statistics.
    return Settings(
        epochs=epochs, batch_size=16 * per_class, images_per_class=per_class, epoch="classes", learning_rate=rate,
        schedule="constant", clip_norm=None, crop=0.16, normalisation="fixed", precision="float32", validation_fraction=0,
        select="last",
    )  # fmt: skip


USUAL_CROP: dict[str, Any] = {"interpolation": "bilinear", "kept": 224 / 256}
"""The shorter side to 256 pixels and then the middle 224, as it is usual at the test; random crops are cut from all of it."""


def _distilling(
    first: Settings, update: Settings, backbone: str, loss: str, others: Mapping[str, TrainingPlan]
) -> TrainingPlan:
    network = {
        **USUAL_CROP, "backbone": backbone, "dim": 512, "neck": "linear", "pretrained": True,
        # The metric loss alone, for the first generation, which learns as fine-tuning does, and for whoever learns from scratch.
        "method_options": {
            "mutual": {"supporting": "pretrained", "loss": loss, "weighting": "inner"},
            **{name: {"loss": loss} for name in ("relation", "finetune", "joint")},
        },
    }  # fmt: skip
    return TrainingPlan(first, update, 224, network, by_backbone=others)


OTHER_BACKBONES = {
    "resnet50": _distilling(_mutual(2550, 1e-5, 3), _mutual(850, 1e-5, 3), "resnet50.tv_in1k", "binomial", {}),
    "vit_small_patch16_224": _distilling(
        _mutual(255, 3e-5, 3), _mutual(195, 1e-5, 3), "vit_small_patch16_224", "binomial", {}
    ),
}
"""Beside BN-Inception, by the name that is asked for."""
PHOTOGRAPHS: dict[Budget, TrainingPlan] = {
    "quick": _photographs(6, 3),
    "standard": _photographs(30, 15),
    # The last of four updates went from epoch 7 150 to 8 200; how long the others were is not known.
    "paper": replace(
        _distilling(_mutual(1500), _mutual(1000), "bn-inception-max", "hard-mining", OTHER_BACKBONES),
        update_epochs=(1000, 1000, 1000, 1050),
    ),
}
FASHION_BACKBONES = {
    name: replace(
        plan,
        first=plan.first.model_copy(update={"epochs": 170}),
        update=plan.update.model_copy(update={"epochs": 150}),
        update_epochs=(190, 120, 95, 195),
    )
    for name, plan in OTHER_BACKBONES.items()
}
"""The lengths of BN-Inception's run on fashion: none is published for the others there."""
# 4 238 classes are seen far less often. The checkpoints that were used are those of epochs 360, 480, 570 or 580, and 770.
FASHION: dict[Budget, TrainingPlan] = {
    **PHOTOGRAPHS,
    "paper": replace(
        _distilling(_mutual(170), _mutual(150), "bn-inception-max", "hard-mining", FASHION_BACKBONES),
        update_epochs=(190, 120, 95, 195),
    ),
}


def _dual_tuning() -> Settings:
    # fast-reid's bag of tricks: × 0.1 at 40 and 90 of 120 epochs, and before a rising rate.
    return Settings(
        epochs=120, batch_size=64, images_per_class=4, learning_rate=3.5e-4, bias_rate=2.0,
        schedule="multi-step", milestones=(40 / 120, 90 / 120), warmup_start=0.1, label_smoothing=0.1,
        clip_norm=None, padding=10, border="zero", erase=0.5, erase_colour=(152, 142, 127), validation_fraction=0,
        select="last",
    )  # fmt: skip


DUAL_TUNING: dict[Budget, TrainingPlan] = {
    **CIFAR,
    "paper": TrainingPlan(
        _dual_tuning(),
        _dual_tuning(),
        (256, 128),
        {
            "fit": "stretch", "interpolation": "bicubic",
            # torchvision's weights of then; the last stage keeps the resolution.
            "backbone": "last-stride-1/resnet18.tv_in1k", "update_backbone": "last-stride-1/resnet50.tv_in1k",
            "pretrained": True,
        },
        warmup_steps=2000,
    ),
}  # fmt: skip

OMNIGLOT: dict[Budget, TrainingPlan] = {
    "quick": replace(_glyphs(2, 1), size=28),
    "standard": replace(_glyphs(12, 6), size=28),
    "paper": replace(_glyphs(60, 30), size=28),
}


def _imagenet(epochs: int, size: int, **common: Any) -> TrainingPlan:
    # openBCT's: every 30 of 90 epochs a tenth of the rate, which begins at 0.1; nothing clipped.
    settings = Settings(
        epochs=epochs, batch_size=256, learning_rate=0.1, schedule="multi-step", milestones=(1 / 3, 2 / 3), optimizer="sgd",
        weight_decay=1e-4, clip_norm=None, crop=0.08, **common,
    )  # fmt: skip
    return TrainingPlan(settings, settings, size)


IMAGENET: dict[Budget, TrainingPlan] = {
    "quick": _imagenet(2, 64),
    "standard": _imagenet(20, 128),
    # All images, no autocast; the last epoch, as the published code keeps it where it is not told to validate.
    "paper": replace(
        _imagenet(90, 224, last_batch=True, precision="float32", validation_fraction=0, select="last"),
        network={**USUAL_CROP, "method_options": {"l2": {"classification_weight": 0}, **OLD_ROWS}},
    ),
}


def _faces(epochs: int, size: int) -> TrainingPlan:
    settings = Settings(
        epochs=epochs, batch_size=256, learning_rate=0.1, schedule="multi-step", milestones=(0.4, 0.7, 0.9),
        optimizer="sgd", weight_decay=5e-4, border="zero", padding=size // 16,
    )  # fmt: skip
    return TrainingPlan(settings, settings, size)


FACES: dict[Budget, TrainingPlan] = {"quick": _faces(2, 32), "standard": _faces(10, 64), "paper": _faces(20, 112)}


def _landmarks(epochs: int, size: int, **others: Any) -> TrainingPlan:
    # AdvBCT's published code: × 0.1 at 5, 10 and 20 of 30 epochs.
    settings = Settings(
        epochs=epochs, batch_size=256, learning_rate=0.1, schedule="multi-step", milestones=(1 / 6, 1 / 3, 2 / 3),
        optimizer="sgd", weight_decay=5e-4, clip_norm=None, **others,
    )  # fmt: skip
    return TrainingPlan(settings, settings, size)


LANDMARKS: dict[Budget, TrainingPlan] = {
    "quick": _landmarks(2, 64, crop=0.2),
    "standard": _landmarks(10, 128, crop=0.2),
    # Images as they are, stretched to a square; the last epoch, where the published code tests each one on Paris.
    "paper": replace(
        _landmarks(30, 224, padding=0, flip=False, precision="float32", validation_fraction=0, select="last"),
        network={
            "backbone": "resnet18.tv_in1k",
            "update_backbone": "resnet18.tv_in1k",  # It begins with ImageNet's weights too, not with the old model's.
            "pretrained": True,
            "head": "linear",
            "triplets": False,
            "fit": "stretch",
            "interpolation": "bilinear",
        },
    ),
}
