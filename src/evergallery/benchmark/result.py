"""The result file of a run: what was run, where, on which images, and what it measured."""

import shlex
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from evergallery.benchmark.contenders import Contender
from evergallery.benchmark.job import BenchmarkJob, TaskImages
from evergallery.benchmark.lineage import network_of
from evergallery.benchmark.parts import TRAIN
from evergallery.benchmark.protocol import BenchmarkProtocol
from evergallery.benchmark.provenance import provenance
from evergallery.benchmark.tables import EVERY_IMAGE
from evergallery.evaluation import searched
from evergallery.generations.generation import Generation
from evergallery.methods import Method

FORMAT = 2
"""Format of result files. Files of format 1 are of versions whose generations all began with one seed of weights."""


def result_of(
    job: BenchmarkJob,
    data: TaskImages,
    generations: Sequence[Generation],
    phases: Sequence[dict[str, Any]],
    measures: dict[str, Any],
) -> dict[str, Any]:
    """The file as JSON values: ``phases`` is what each step took, ``measures`` what ``measures_of`` found."""
    protocol, plan, method = job.definition, job.plan(), job.method
    architecture, head = network_of(job, data.tasks)
    return {
        "format": FORMAT,
        "protocol": job.experiment.protocol,
        "shows": protocol.shows,
        "budget": job.experiment.budget,
        "method": job.contender.name,
        "parameters": method.parameters() if method else {},
        "given": _given(job.contender, method, protocol, len(data.tasks)),
        "seed": job.seed,
        "command": shlex.join(["evergallery", *sys.argv[1:]]),
        "options": job.experiment.options,
        "network": {
            "backbone": protocol.backbone,
            "update_backbone": protocol.update_backbone,
            "dim": architecture.dimension,
            "neck": architecture.neck,
            "head": head,
            "pretrained": protocol.pretrained,
            **({"weights": job.experiment.weights} if job.experiment.weights else {}),
            **({"first_share": protocol.first_share} if protocol.first_share < 1 else {}),
            **({"fit": protocol.fit} if protocol.fit != "crop" else {}),
            **({"interpolation": protocol.interpolation} if protocol.interpolation is not None else {}),
            **({"kept": protocol.kept} if protocol.kept < 1 else {}),
        },
        **provenance(),
        "precision": ", ".join(sorted({generation.card.training["precision"] for generation in generations})),
        "data": _data(job, data),
        "settings": {
            "first": plan.first.model_dump(),
            "update": plan.update.model_dump(),
            "size": plan.size,
            **({"update epochs": plan.update_epochs} if plan.update_epochs else {}),
            **({"warm-up steps": plan.warmup_steps} if plan.warmup_steps is not None else {}),
        },
        "phases": list(phases),
        "measures": measures,
    }


def _data(job: BenchmarkJob, data: TaskImages) -> dict[str, Any]:
    """Return which images there were, by their digests too, and how they were split."""
    images, train = data.images, data.training
    test = images.select(np.flatnonzero(images.split != TRAIN))
    return {
        "set": job.experiment.image_name,
        "split": data.parts.words,
        "fingerprint": images.fingerprint(),
        "fingerprints": {"training": train.fingerprint(), "test": test.fingerprint()},
        "searched": searched("queries in the gallery" if "gallery" in data.parts.tested else EVERY_IMAGE, images),
        "training": len(train),
        "test": len(test),
        "classes": len(images.classes),
        "tasks": [len(task) for task in data.tasks],
    }


def _given(contender: Contender, method: Method | None, protocol: BenchmarkProtocol, tasks: int) -> list[str]:
    """Return what the method had besides the new images."""
    if method is None:
        return []
    # Another backbone begins anew, and the one after it goes on with its weights.
    went_on = method.needs.parent_weights and (protocol.update_backbone is None or tasks > 2)
    given = ["parent's weights"] if went_on else []
    given += ["parent network"] if method.needs.parent else []
    given += ["first network"] if method.needs.root and tasks > 2 else []
    given += ["old images"] if method.needs.old_images else []
    given += [f"adapter: {contender.adapter}"] if contender.adapter else []
    return given
