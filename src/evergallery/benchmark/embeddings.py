"""Test images through the generations of a run, the adapter's maps between them, and the features that a memory estimates."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from evergallery.adapters import ADAPTERS
from evergallery.benchmark.job import Job
from evergallery.benchmark.measures import Chain, Vectors
from evergallery.benchmark.parts import TRAIN
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
    by_fingerprint = {one.fingerprint: one for one in generations}
    extracted = {key: _embeddings(one, test, job.work, "test", watcher) for key, one in by_fingerprint.items()}
    embeddings = [extracted[one.fingerprint] for one in generations]
    ks = tuple(sorted({*KS, *job.definition.ks}))
    adapter = job.contender.adapter
    if adapter is None:
        return Chain(test, tasks, embeddings, ks=ks)
    kind = ADAPTERS[adapter]
    train = images.of_split(TRAIN)
    adapted: dict[tuple[int, int], tuple[Vectors, Vectors]] = {}
    for q, g in itertools.combinations(range(len(generations) - 1, -1, -1), 2):
        pairs = train.of_classes(tasks[q])
        new, old = (
            torch.from_numpy(_embeddings(generations[one], pairs, job.work, f"task{q + 1}", watcher)) for one in (q, g)
        )
        if kind.directions[0] == "query":
            adapted[q, g] = kind.fit(new, old)(torch.from_numpy(embeddings[q])).numpy(), embeddings[g]
        else:
            adapted[q, g] = embeddings[q], kind.fit(old, new)(torch.from_numpy(embeddings[g])).numpy()
    return Chain(test, tasks, embeddings, adapted, ks)


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
