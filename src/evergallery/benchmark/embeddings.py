"""Test images through the generations of a run, the adapter's maps between them, and the features that a memory estimates."""

import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from evergallery.adapters import ADAPTERS
from evergallery.benchmark.job import Job
from evergallery.benchmark.measures import Chain, Vectors, evaluated
from evergallery.benchmark.parts import TRAIN
from evergallery.data.evaluation_sets import evaluation_set
from evergallery.data.image_set import ImageSet
from evergallery.data.tasks import Tasks
from evergallery.evaluation import KS
from evergallery.generations.generation import Generation
from evergallery.memory import fidelity
from evergallery.memory.drift import WEIGHTS
from evergallery.network import outputs_of
from evergallery.retrieval.knn import Exclusion
from evergallery.watching import Watcher
from evergallery.workspace import Workspace


def measured_chain(
    job: Job, generations: Sequence[Generation], images: ImageSet, tasks: Tasks, watcher: Watcher
) -> Chain:
    """Embeddings of the test images by every generation, and the adapter's maps between them."""
    assert images.split is not None
    test = images.select(np.flatnonzero(images.split != TRAIN))
    by_fingerprint = {generation.fingerprint: generation for generation in generations}
    extracted = {key: _embeddings(one, test, job.work, "test", watcher) for key, one in by_fingerprint.items()}
    embeddings = [extracted[generation.fingerprint] for generation in generations]
    ks = tuple(sorted({*KS, *job.definition.ks}))
    if job.contender.adapter is None:
        return Chain(test, tasks, embeddings, ks=ks)
    adapted = {
        (q, g): _adapt(job, generations[q], generations[g], images, tasks[q], embeddings[q], embeddings[g], watcher)
        for q, g in itertools.combinations(range(len(generations) - 1, -1, -1), 2)
    }
    return Chain(test, tasks, embeddings, adapted, ks)


def evaluations_of(
    job: Job, generations: Sequence[Generation], images: ImageSet, tasks: Tasks, watcher: Watcher
) -> dict[str, dict[str, dict[str, float]]]:
    """Figures of each evaluation set by the first generation, by the last, and by the last in the first one's vectors."""
    first, last = generations[0], generations[-1]
    found = {}
    for name in job.definition.evaluate:
        chosen = evaluation_set(name, job.data_dir)
        shown = chosen.images(first.preprocessing, job.directory / "work" / "cache", watcher)
        part = f"{chosen.name}-{hashlib.sha256(''.join(shown.hashes).encode()).hexdigest()[:16]}"
        old, new = (_embeddings(one, shown, job.work, part, watcher) for one in (first, last))
        between = None
        if job.contender.adapter is not None:
            between = _adapt(job, last, first, images, tasks[-1], new, old, watcher)
        found[chosen.name] = evaluated(chosen, old, new, between)
    return found


def _adapt(
    job: Job, new: Generation, old: Generation, images: ImageSet, task: Sequence[str], query: Vectors, gallery: Vectors,
    watcher: Watcher,
) -> tuple[Vectors, Vectors]:  # fmt: skip
    """Vectors (N, D) of queries and gallery, brought together by the adapter as it fits the training images of a task."""
    assert job.contender.adapter is not None
    kind = ADAPTERS[job.contender.adapter]
    pairs = images.of_split(TRAIN).of_classes(task)
    part = f"task-{pairs.fingerprint()[:16]}"
    source, target = (torch.from_numpy(_embeddings(one, pairs, job.work, part, watcher)) for one in (new, old))
    if kind.directions[0] == "query":
        return kind.fit(source, target)(torch.from_numpy(query)).numpy(), gallery
    return query, kind.fit(target, source)(torch.from_numpy(gallery)).numpy()


def virtual_features_of(
    job: Job, generations: Sequence[Generation], chain: Chain, watcher: Watcher
) -> dict[str, dict[str, dict[str, float]]]:
    """How well the last generation's memory stands in for each one before its parent, by each weighting."""
    last, method = generations[-1], job.method
    if method is None or not method.needs.earlier_means or job.contender.adapter or len(generations) < 3:
        return {}
    watcher.said("comparing virtual features with real ones")
    seen = np.flatnonzero(chain.measured())
    images = chain.test.select(seen)
    outputs = outputs_of(last.network(), images, last.preprocessing)
    means = last.memory().means
    labels = torch.from_numpy(images.labels)
    return {
        earlier.name: {
            weighting: fidelity(
                outputs, torch.from_numpy(real[seen]), means[earlier.name], labels, weighting,
                Exclusion(torch.arange(len(seen))),
            ).to_dict()
            for weighting in WEIGHTS
        }
        for earlier, real in zip(generations[:-1], chain.embeddings[:-1], strict=True)
        if earlier.name in means
    }  # fmt: skip


def _embeddings(generation: Generation, images: ImageSet, work: Path, part: str, watcher: Watcher) -> Vectors:
    """Extracted once for each space, whatever number of methods and runs want it."""
    path = work / "embeddings" / f"{generation.fingerprint[:16]}-{part}.npy"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        found = Workspace(generation.directory.parents[1]).extract(generation, images, watcher)
        unfinished = path.with_suffix(".partial.npy")
        np.save(unfinished, found)
        unfinished.replace(path)
    vectors: Vectors = np.load(path)
    return vectors
