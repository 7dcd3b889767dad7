"""Test images through the generations of a run, the adapter's maps between them, and the features that a memory estimates."""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from evergallery.adapters import ADAPTERS
from evergallery.benchmark.job import BenchmarkJob, TaskImages
from evergallery.benchmark.measures import LineageEmbeddings, Vectors, evaluated
from evergallery.benchmark.parts import TRAIN
from evergallery.data.evaluation_sets import EvaluationSet, evaluation_set
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.devices.choosing import device_for
from evergallery.evaluation import ranks_with
from evergallery.files import new_file
from evergallery.generations.generation import Generation
from evergallery.holdings.embedding import extract, extract_raw
from evergallery.memory import fidelity
from evergallery.memory.drift import WEIGHTS
from evergallery.network import outputs_of
from evergallery.retrieval.knn import Exclusion
from evergallery.retrieval.width import ONE, unit_and_length
from evergallery.watching import Watcher
from evergallery.workspace import Workspace


def lineage_embeddings(
    job: BenchmarkJob, generations: Sequence[Generation], data: TaskImages, watcher: Watcher
) -> LineageEmbeddings:
    """Embeddings of the test images by every generation, and the adapter's maps between them."""
    images, tasks = data.images, data.tasks
    assert images.split is not None, "images of a protocol are split"
    test = _NamedImages(images.select(np.flatnonzero(images.split != TRAIN)), "test")
    by_fingerprint = {generation.fingerprint: generation for generation in generations}
    extracted = {key: test.embeddings(generation, job.work, watcher) for key, generation in by_fingerprint.items()}
    embeddings = [extracted[generation.fingerprint] for generation in generations]
    ks = ranks_with(job.definition.ks)
    if job.contender.adapter is None:
        return LineageEmbeddings(test.images, tasks, embeddings, ks=ks)
    sides = [SearchSide(*side) for side in zip(generations, embeddings, strict=True)]
    adapted = {
        (q, g): _adapt(job, sides[q], sides[g], data.training.of_classes(tasks[q]), watcher)
        for q, g in itertools.combinations(range(len(generations) - 1, -1, -1), 2)
    }
    return LineageEmbeddings(test.images, tasks, embeddings, adapted, ks)


def read_evaluated(job: BenchmarkJob, watcher: Watcher) -> None:
    """Decode the images of all evaluation sets, which are kept for ``evaluations_of``, before anything is trained.

    Raises:
        InputError: one cannot be read.
    """
    definition = job.definition
    preprocessing = definition.preprocessing(definition.budgets[job.experiment.budget])
    for name in definition.evaluate:
        _evaluated_images(job, evaluation_set(name, job.experiment.data_dir), preprocessing, watcher)


def _evaluated_images(
    job: BenchmarkJob, chosen: EvaluationSet, preprocessing: Preprocessing, watcher: Watcher
) -> ImageSet:
    return chosen.images(preprocessing, job.directory / "work" / "cache", watcher)


def evaluations_of(
    job: BenchmarkJob, generations: Sequence[Generation], data: TaskImages, watcher: Watcher
) -> dict[str, dict[str, dict[str, float]]]:
    """Figures of each evaluation set by the first generation, by the last, and by the last in the first one's vectors."""
    first, last = generations[0], generations[-1]
    found = {}
    for name in job.definition.evaluate:
        chosen = evaluation_set(name, job.experiment.data_dir)
        shown = _evaluated_images(job, chosen, first.preprocessing, watcher)
        part = f"{chosen.name}-{hashlib.sha256(''.join(shown.hashes).encode()).hexdigest()[:16]}"
        if chosen.by_length:
            lengths = _NamedImages(shown, f"{part}-raw", unit=False)
            raw = (lengths.embeddings(generation, job.work, watcher) for generation in (first, last))
            (old, of_old), (new, of_new) = map(unit_and_length, raw)
        else:
            named = _NamedImages(shown, part)
            old, new = (named.embeddings(generation, job.work, watcher) for generation in (first, last))
            of_old = of_new = ONE
        between = None
        if job.contender.adapter is not None:
            pairs = data.training.of_classes(data.tasks[-1])
            between = _adapt(job, SearchSide(last, new), SearchSide(first, old), pairs, watcher)
        found[chosen.name] = evaluated(chosen, old, new, between, (of_old, of_new))
    return found


@dataclass(frozen=True)
class SearchSide:
    """A generation, and its vectors (N, D) of the images that are searched with or in."""

    generation: Generation
    vectors: Vectors


def _adapt(
    job: BenchmarkJob, new: SearchSide, old: SearchSide, pairs: ImageSet, watcher: Watcher
) -> tuple[Vectors, Vectors]:
    """Queries by the new side and vectors by the old one, brought together by the adapter as it fits pairs of images."""
    assert job.contender.adapter is not None, "asked for a contender with an adapter alone"
    kind = ADAPTERS[job.contender.adapter]
    named = _NamedImages(pairs, f"task-{pairs.fingerprint()[:16]}")
    source, target = (torch.from_numpy(named.embeddings(side.generation, job.work, watcher)) for side in (new, old))
    if kind.directions[0] == "query":
        return kind.fit(source, target)(torch.from_numpy(new.vectors)).numpy(), old.vectors
    return new.vectors, kind.fit(target, source)(torch.from_numpy(old.vectors)).numpy()


def virtual_features_of(
    job: BenchmarkJob, generations: Sequence[Generation], lineage: LineageEmbeddings, watcher: Watcher
) -> dict[str, dict[str, dict[str, float]]]:
    """Return how well the last generation's memory stands in for each one before its parent, by each weighting."""
    last, method = generations[-1], job.method
    if method is None or not method.needs.earlier_means or job.contender.adapter or len(generations) < 3:
        return {}
    watcher.said("comparing virtual features with real ones")
    seen = np.flatnonzero(lineage.measured())
    images = lineage.test.select(seen)
    outputs = outputs_of(last.network().to(device_for(len(images))), images, last.preprocessing)
    means = last.memory().means
    labels = torch.from_numpy(images.labels)
    itself = Exclusion(torch.arange(len(seen)))

    def figures(earlier: Generation, real: Vectors) -> dict[str, dict[str, float]]:
        vectors = torch.from_numpy(real[seen])
        return {
            weighting: fidelity(outputs, vectors, means[earlier.name], labels, weighting, itself).to_dict()
            for weighting in WEIGHTS
        }

    return {
        earlier.name: figures(earlier, real)
        for earlier, real in zip(generations[:-1], lineage.embeddings[:-1], strict=True)
        if earlier.name in means
    }


@dataclass(frozen=True)
class _NamedImages:
    """Images whose embeddings are kept under a name.

    Attributes:
        images: N.
        name: of the files.
        unit: whether embeddings are of unit length, or as long as the generation makes them.
    """

    images: ImageSet
    name: str
    unit: bool = True

    def embeddings(self, generation: Generation, work: Path, watcher: Watcher) -> Vectors:
        """The embeddings (N, D) by a generation, extracted once whatever number of methods and runs want them."""
        path = work / "embeddings" / f"{generation.fingerprint[:16]}-{self.name}.npy"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            made = extract if self.unit else extract_raw
            found = made(Workspace(generation.directory.parents[1]).holdings, generation, self.images, watcher)
            with new_file(path) as unfinished, unfinished.open("wb") as file:
                np.save(file, found)
        vectors: Vectors = np.load(path)
        return vectors
