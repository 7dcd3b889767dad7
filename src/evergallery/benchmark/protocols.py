"""Named protocols: which classes form which task, which network learns, for how long."""

from collections.abc import Callable, Sequence
from typing import Any

from evergallery.benchmark.budgets import (
    CL2R,
    CSD,
    DUAL_TUNING,
    FACES,
    FASHION,
    GLYPHS,
    GLYPHS_10,
    IMAGENET,
    LANDMARKS,
    OLD_ROWS,
    OMNIGLOT,
    PHOTOGRAPHS,
)
from evergallery.benchmark.protocol import BenchmarkProtocol
from evergallery.data.tasks import Tasks, equal_groups, first_then_groups, halves
from evergallery.errors import InputError

NECK_AND_HEAD: dict[str, Any] = {
    "neck": "bn",
    "head": "linear",
    "triplets": False,
    "method_options": {"dual-tuning": {"loss": "cross-entropy"}, **OLD_ROWS},
}
"""Dual-Tuning's, and the loss that its configurations have, for the old model and the rivals too: with every budget."""
METRIC_LEARNING = (1, 2, 4, 8, 16, 32)
"""k of recall@k in papers on CUB-200, Cars-196 and their like."""


def natural_halves(classes: Sequence[str], seed: int) -> Tasks:
    """CSD's: the first half of the classes in their natural order, whatever the seed."""
    return halves(classes)


def reversed_halves(classes: Sequence[str], seed: int) -> Tasks:
    """The last half of the classes first."""
    return halves(tuple(classes)[::-1])


def seeded_halves(classes: Sequence[str], seed: int) -> Tasks:
    """Two halves of a seeded class order."""
    return halves(classes, seed)


def half_then_all(classes: Sequence[str], seed: int) -> Tasks:
    """Dual-Tuning's: the old model knows half of the classes, the new data cover all of them."""
    first, second = halves(classes, seed)
    return first, first + second


def first_identities(below: int) -> Callable[[Sequence[str], int], Tasks]:
    """Dual-Tuning's on sets whose identities are numbers: the old model knows those below one of them, the new data cover all.

    Args:
        below: the first number that the old model does not know.
    """

    def tasks(classes: Sequence[str], seed: int) -> Tasks:
        first = tuple(name for name in classes if int(name.split()[-1]) < below)
        if not 0 < len(first) < len(classes):
            raise InputError(
                f"The published old model knows the identities below {below}, which are {len(first)} of {len(classes)} here: "
                f"give the whole set, or another --budget, with which it knows half of them."
            )
        return first, tuple(classes)

    return tasks


def less_than_a_third_then_all(classes: Sequence[str], seed: int) -> Tasks:
    """AdvBCT's: the old model knows three of ten classes, the new data cover all of them."""
    first, second = first_then_groups(classes, max(1, len(classes) * 3 // 10), 1, seed)
    return first, first + second


def all_twice(classes: Sequence[str], seed: int) -> Tasks:
    """Two tasks of all classes; what is more in the second is its images, or its network."""
    return tuple(classes), tuple(classes)


def half_then_five(classes: Sequence[str], seed: int) -> Tasks:
    """CL2R's: half of the classes, then five groups, in natural order."""
    return first_then_groups(classes, len(classes) // 2, 5)


def half_then_four(classes: Sequence[str], seed: int) -> Tasks:
    """Mutual distillation's multi-task form: half of the classes, then four groups, in natural order."""
    return first_then_groups(classes, len(classes) // 2, 4)


def by_alphabets(classes: Sequence[str], seed: int) -> Tasks:
    """Characters named ``ALPHABET/CHARACTER``: half of the alphabets, then the others in three groups, in seeded order."""
    alphabets = tuple(dict.fromkeys(name.partition("/")[0] for name in classes))
    groups = first_then_groups(alphabets, len(alphabets) // 2, 3, seed)
    return tuple(tuple(name for name in classes if name.partition("/")[0] in set(group)) for group in groups)


OLD_IDENTITIES: dict[str, Callable[[Sequence[str], int], Tasks]] = {
    "market1501": first_identities(600),  # 312 of 751.
    "msmt17": first_identities(502),  # Of 1 041.
    "dukemtmc": all_twice,
}
"""The identities that the old models of Dual-Tuning's configurations know, by the name of a set."""

PROTOCOLS: dict[str, BenchmarkProtocol] = {
    protocol.name: protocol
    for protocol in (
        BenchmarkProtocol(
            name="glyphs",
            shows="the whole story in minutes on a CPU: 200 characters, half and half",
            data="glyphs",
            tasks=seeded_halves,
            budgets=GLYPHS,
            backbone="resnet20",
        ),
        BenchmarkProtocol(
            name="glyphs-5",
            shows="five tasks of 40 characters: what four updates do",
            data="glyphs",
            tasks=lambda classes, seed: equal_groups(classes, 5, seed),
            budgets=GLYPHS,
            backbone="resnet20",
        ),
        BenchmarkProtocol(
            name="glyphs-10",
            shows="a long life: ten tasks of 20 characters, nine updates over vectors that are never refreshed",
            data="glyphs",
            tasks=lambda classes, seed: equal_groups(classes, 10, seed),
            budgets=GLYPHS_10,
            backbone="resnet20",
        ),
        BenchmarkProtocol(
            name="csd-cifar100",
            shows="CSD's protocol: CIFAR-100, 50 + 50 classes in natural order",
            data="cifar100",
            tasks=natural_halves,
            budgets=CSD,
        ),
        BenchmarkProtocol(
            name="cifar100-10",
            shows="ten tasks of ten classes: forgetting and compatibility after nine updates",
            data="cifar100",
            tasks=lambda classes, seed: equal_groups(classes, 10, seed),
            budgets=CSD,
        ),
        BenchmarkProtocol(
            name="cl2r-cifar100",
            shows="CL2R's protocol: CIFAR-100, 50 classes, then five times ten; a few old images are kept",
            data="cifar100",
            tasks=half_then_five,
            budgets=CL2R,
        ),
        BenchmarkProtocol(
            name="mutual-one-task",
            shows="mutual distillation's one-task form: half of the classes, then the other half",
            data=None,
            tasks=natural_halves,
            budgets=PHOTOGRAPHS,
            ks=METRIC_LEARNING,
        ),
        BenchmarkProtocol(
            name="mutual-multi-task",
            shows="mutual distillation's multi-task form: half of the classes, then four groups",
            data=None,
            tasks=half_then_four,
            budgets=PHOTOGRAPHS,
            ks=METRIC_LEARNING,
        ),
        BenchmarkProtocol(
            name="mutual-fashion",
            shows="mutual distillation's multi-task form on DeepFashion2: five equal groups, 4 238 classes each in the paper",
            data=None,
            tasks=lambda classes, seed: equal_groups(classes, 5),
            budgets=FASHION,
            ks=METRIC_LEARNING,
        ),
        *(
            BenchmarkProtocol(
                name=f"photos-grocery-{order}",
                shows=f"Grocery Store photographs, the classes kept for reports, in halves: {words}",
                data=None,
                tasks=tasks,
                budgets=PHOTOGRAPHS,
                report_classes="grocery",
            )
            for order, words, tasks in (
                ("natural", "natural order", natural_halves),
                ("reversed", "reversed order", reversed_halves),
                ("random", "an order for each seed", seeded_halves),
            )
        ),
        BenchmarkProtocol(
            name="photos-cifar100-2",
            shows="CIFAR-100, the classes kept for reports, in halves of a seeded order",
            data="cifar100",
            tasks=seeded_halves,
            budgets=CSD,
            report_classes="cifar100",
        ),
        BenchmarkProtocol(
            name="photos-cifar100-10",
            shows="the same in ten tasks",
            data="cifar100",
            tasks=lambda classes, seed: equal_groups(classes, 10, seed),
            budgets=CSD,
            report_classes="cifar100",
        ),
        BenchmarkProtocol(
            name="photos-omniglot",
            shows="characters of alphabets that no generation has seen, for a pretrained network too",
            data=None,
            tasks=by_alphabets,
            budgets=PHOTOGRAPHS,
            unseen_split="evaluation",
        ),
        BenchmarkProtocol(
            name="dual-tuning",
            shows="Dual-Tuning's: an old model on a part of the classes, a larger new one on all",
            data=None,
            tasks=half_then_all,
            budgets=DUAL_TUNING,
            backbone="resnet20",
            update_backbone="resnet32",
            overlapping=True,
            published_tasks=OLD_IDENTITIES,
            **NECK_AND_HEAD,
        ),
        BenchmarkProtocol(
            name="dual-tuning-images",
            shows="Dual-Tuning's with more images: an old model on half of each class's images, a larger new one on all",
            data=None,
            tasks=all_twice,
            budgets=DUAL_TUNING,
            backbone="resnet20",
            update_backbone="resnet32",
            overlapping=True,
            first_share=0.5,
            **NECK_AND_HEAD,
        ),
        BenchmarkProtocol(
            name="bct-imagenet",
            shows="openBCT's: ImageNet-1k, 500 classes with ResNet-18, then all 1 000 with ResNet-50",
            data=None,
            tasks=lambda classes, seed: (tuple(classes[: len(classes) // 2]), tuple(classes)),
            budgets=IMAGENET,
            backbone="resnet18",
            update_backbone="resnet50",
            head="linear",
            overlapping=True,
            method_options=OLD_ROWS,
            test_split="val",
            triplets=False,
        ),
        BenchmarkProtocol(
            name="faces",
            shows="an old model on half of the identities, a larger new one on all; pairs and templates of other people",
            data=None,
            tasks=half_then_all,
            budgets=FACES,
            backbone="resnet18",
            update_backbone="resnet50",
            dim=512,
            neck="linear-bn",
            overlapping=True,
            method_options=OLD_ROWS,
            evaluate=("lfw", "ijb-c"),
            held_out=0.1,
        ),
        BenchmarkProtocol(
            name="landmarks",
            shows="AdvBCT's, more classes: three of ten landmarks, then all; revisited Oxford and Paris, and its own index",
            data=None,
            tasks=less_than_a_third_then_all,
            budgets=LANDMARKS,
            backbone="resnet18",
            dim=256,
            neck="linear-bn",
            overlapping=True,
            method_options=OLD_ROWS,
            evaluate=("roxford5k", "rparis6k", "gldv2-retrieval"),
            held_out=0.1,
        ),
        BenchmarkProtocol(
            name="landmarks-images",
            shows="AdvBCT's, more data: three of ten images of each, then all; revisited Oxford and Paris, and its own index",
            data=None,
            tasks=all_twice,
            budgets=LANDMARKS,
            backbone="resnet18",
            dim=256,
            neck="linear-bn",
            overlapping=True,
            method_options=OLD_ROWS,
            first_share=0.3,
            evaluate=("roxford5k", "rparis6k", "gldv2-retrieval"),
            held_out=0.1,
        ),
        BenchmarkProtocol(
            name="omniglot",
            shows="characters of alphabets that no generation has seen; four tasks of the other alphabets",
            data=None,
            tasks=by_alphabets,
            budgets=OMNIGLOT,
            backbone="resnet20",
            unseen_split="evaluation",
        ),
    )
}
"""Every protocol by name."""
