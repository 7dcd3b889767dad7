"""Run protocol × methods × seeds: initial generations shared, finished runs kept, one JSON file for each run."""

import itertools
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evergallery.adapters import ADAPTERS
from evergallery.benchmark.measures import Chain, measures_of
from evergallery.benchmark.parts import TRAIN, Parts
from evergallery.benchmark.protocols import NO_CHANGES, PROTOCOLS, BenchmarkProtocol, Budget, Changes, Plan
from evergallery.benchmark.provenance import peak_memory, provenance, reset_peak_memory
from evergallery.benchmark.tables import EVERY_IMAGE
from evergallery.data.image_set import ImageSet
from evergallery.data.tasks import Tasks
from evergallery.errors import InputError, did_you_mean
from evergallery.evaluation import KS
from evergallery.files import read_json, write_json
from evergallery.generations.generation import Generation
from evergallery.memory import fidelity
from evergallery.memory.drift import WEIGHTS
from evergallery.methods import METHODS, Finetune, Method, Mutual
from evergallery.network import Architecture, Embedder, outputs_of
from evergallery.network.backbones import load_weights
from evergallery.retrieval.knn import Exclusion
from evergallery.watching import Watcher
from evergallery.workspace import Workspace

INITIAL = "initial"
USUAL = (INITIAL, "finetune", "lwf", "csd", "mutual", "dual-tuning", "evergreen", "joint", "procrustes")
"""The methods of a table where nobody names others."""
FORMAT = 2
"""Of result files. Those of 1 are of versions whose generations all began with one seed of weights."""
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Contender:
    """A row of the table: ``METHOD[@NAME=VALUE…][+ADAPTER]``, a method, its hyper-parameters and an adapter after it.

    ``initial`` is the first generation untouched; ``procrustes`` alone is ``finetune+procrustes``.
    """

    name: str

    @classmethod
    def named(cls, name: str) -> "Contender":
        """Check a name.

        Raises:
            InputError: an unknown method or adapter, or a hyper-parameter that the method does not take.
        """
        contender = cls(f"{Finetune.name}+{name}" if name in ADAPTERS else name)
        base, adapter = contender.base, contender.adapter
        if base not in (INITIAL, *METHODS) or (base == INITIAL and contender.options):
            raise InputError(
                f"No method is called {base!r}: choose among {INITIAL}, {', '.join(METHODS)}, each with "
                f"@HYPERPARAMETER=VALUE and +ADAPTER if wanted, ADAPTER one of {', '.join(ADAPTERS)}."
            )
        if adapter is not None and adapter not in ADAPTERS:
            raise InputError(f"No adapter is called {adapter!r}: choose one of {', '.join(ADAPTERS)}.")
        if base != INITIAL:
            METHODS[base].with_options(contender.options)
        return contender

    @property
    def learner(self) -> str:
        """The name without an adapter."""
        return self.name.partition("+")[0]

    @property
    def base(self) -> str:
        """Name of the method."""
        return self.learner.partition("@")[0]

    @property
    def options(self) -> dict[str, str]:
        """Hyper-parameters by name, in words."""
        words = self.learner.split("@")[1:]
        return {name: value for name, _, value in (word.partition("=") for word in words)}

    @property
    def adapter(self) -> str | None:
        """Name of the adapter after it."""
        return self.name.partition("+")[2] or None

    def misfit(self, protocol: BenchmarkProtocol) -> str | None:
        """Why it cannot run on a protocol, in a sentence; ``None`` where it can."""
        method = self.method(protocol)
        if getattr(method, "loss", None) == "arcface" and protocol.head != "cosine":
            return (
                f"{self.name} learns by ArcFace, a margin on cosines, and the head of the protocol {protocol.name!r} is "
                f"{protocol.head!r}: name another with --head cosine, or another loss with @loss=triplet."
            )
        # A simplex has the dimension of its classes, whatever the backbone.
        if method is None or protocol.update_backbone is None or method.needs.head == "simplex":
            return None
        old, new = (protocol.dimension(one) for one in (protocol.backbone, protocol.update_backbone))
        if old == new:
            return None
        change = f"and the protocol {protocol.name!r} goes from {old} dimensions to {new}: leave it out of --methods."
        if method.needs.same_dimension:
            return f"{self.name} compares coordinates with its parent's, {change}"
        if self.adapter is not None and not ADAPTERS[self.adapter].between_dimensions:
            return f"{self.name} maps between spaces of one dimension, {change}"
        return None

    def method(self, protocol: BenchmarkProtocol) -> Method | None:
        """The method with its options, and those that the protocol has for it; ``None`` for the initial generation."""
        if self.base == INITIAL:
            return None
        return METHODS[self.base].with_options({**protocol.update_options.get(self.base, {}), **self.options})


@dataclass(frozen=True)
class Job:
    """One run."""

    protocol: str
    contender: Contender
    seed: int
    budget: Budget
    data: str | None
    data_dir: Path | None
    changes: Changes
    """Of the protocol."""
    directory: Path
    """Of the results of this protocol and budget."""

    @property
    def definition(self) -> BenchmarkProtocol:
        """The protocol as it is run."""
        return PROTOCOLS[self.protocol].changed(self.budget, self.changes)

    @property
    def options(self) -> dict[str, Any]:
        """What was asked for beside protocol, budget, methods and seeds, as JSON values."""
        places = {name: value for name in ("data", "data_dir") if (value := getattr(self, name)) is not None}
        given = {**places, **self.changes.given()}
        return {
            name: value
            if isinstance(value, bool | int)
            else ",".join(map(str, value))
            if isinstance(value, tuple)
            else str(value)
            for name, value in given.items()
        }

    @property
    def result(self) -> Path:
        """Its result file."""
        return self.directory / "runs" / f"{self.contender.name}-seed{self.seed}.json"

    @property
    def work(self) -> Path:
        """Where the generations of its seed are kept, for runs that share them and for resuming."""
        return self.directory / "work" / f"seed{self.seed}"


def run_benchmark(
    protocol: str,
    methods: Sequence[str] | None = None,
    *,
    seeds: Sequence[int],
    budget: Budget = "standard",
    data: str | None = None,
    data_dir: Path | None = None,
    changes: Changes = NO_CHANGES,
    out: Path,
    watcher: Watcher,
) -> Path:
    """Run what is not finished yet, and return the directory with one result file for each run.

    Where there are several CUDA devices, as many runs go side by side.

    Args:
        protocol: a name of ``PROTOCOLS``.
        methods: names, see ``Contender``; by default those of ``USUAL`` that the protocol admits.
        seeds: of the runs.
        budget: how long to train.
        data: images, for protocols that bring none: a source as ``learn`` takes it, or a named set.
        data_dir: where a named set lies.
        changes: of the protocol; results of each are by themselves.
        out: for results; runs and work go to ``out/PROTOCOL-BUDGET``, and to another directory for each set of changes.
        watcher: hears of progress.

    Raises:
        InputError: an unknown name, a method that the protocol does not admit, or images that it cannot use; before anything
            is trained.
    """
    if protocol not in PROTOCOLS:
        raise InputError(
            f"No protocol is called {protocol!r}: choose one of {', '.join(PROTOCOLS)}.{did_you_mean(protocol, PROTOCOLS)}"
        )
    if budget not in PROTOCOLS[protocol].budgets:
        raise InputError(f"No budget is called {budget!r}: choose quick, standard or paper.")
    definition = PROTOCOLS[protocol].changed(budget, changes)
    directory = out / "@".join(
        [f"{protocol}-{budget}", *(f"{name}={_short(value)}" for name, value in changes.given().items())]
    )
    contenders = _contenders(definition, methods, watcher)
    jobs = [
        Job(protocol, one, seed, budget, data, data_dir, changes, directory) for seed in seeds for one in contenders
    ]
    _check_networks(definition)
    _check_images(jobs[0] if jobs else None, directory)
    waiting = [job for job in jobs if not job.result.is_file()]
    if len(waiting) < len(jobs):
        watcher.said(f"{len(jobs) - len(waiting)} of {len(jobs)} runs were finished before")
    if not waiting:
        return directory
    (directory / "runs").mkdir(parents=True, exist_ok=True)
    started, spent, total = time.perf_counter(), 0.0, sum(map(_expected_cost, waiting))
    for number, job in enumerate(_run_all(waiting, watcher), 1):
        spent += _expected_cost(job)
        remaining = (time.perf_counter() - started) * (total - spent) / max(spent, 1e-9)
        watcher.said(
            f"[{number}/{len(waiting)}] {job.contender.name}, seed {job.seed}: done; about {_duration(remaining)} left"
        )
    return directory


def _short(value: Any) -> str:
    """A value in the name of a directory."""
    return (
        ",".join(map(str, value)) if isinstance(value, tuple) else value.name if isinstance(value, Path) else str(value)
    )


def _check_networks(protocol: BenchmarkProtocol) -> None:
    """Build what will learn, so that what cannot be had is known before anything is read."""
    for backbone in dict.fromkeys((protocol.backbone, protocol.update_backbone or protocol.backbone)):
        if protocol.weights is not None and protocol.update_backbone not in (None, protocol.backbone):
            raise InputError(
                f"{protocol.weights} holds the weights of one backbone, and the protocol {protocol.name!r} has two: begin with "
                f"--pretrained, or name one backbone with --backbone."
            )
        embedder = Embedder(
            Architecture(backbone=backbone, dimension=protocol.dim, neck=protocol.neck), pretrained=protocol.pretrained
        )
        if protocol.weights is not None:
            load_weights(embedder.backbone, protocol.weights)


def _check_images(job: Job | None, directory: Path) -> None:
    """Results of other images are not those of this command."""
    if job is None:
        return
    for path in sorted((directory / "runs").glob("*.json")):
        before = read_json(path).get("options")
        if before is not None and any(before.get(name) != job.options.get(name) for name in ("data", "data_dir")):
            raise InputError(
                f"{directory} holds results of other images ({before.get('data') or 'its own'}): name another directory with "
                f"--out."
            )


def _contenders(protocol: BenchmarkProtocol, names: Sequence[str] | None, watcher: Watcher) -> list[Contender]:
    """Those that are named, each once; or the usual ones without those that the protocol does not admit."""
    found = list(dict.fromkeys(map(Contender.named, USUAL if names is None else names)))
    misfits = {one: reason for one in found if (reason := one.misfit(protocol)) is not None}
    if names is not None and misfits:
        raise InputError(next(iter(misfits.values())))
    for one in misfits:
        watcher.said(f"{one.name} is left out, as this protocol does not admit it")
    return [one for one in found if one not in misfits]


def _run_all(jobs: Sequence[Job], watcher: Watcher) -> Iterator[Job]:
    """Run jobs and yield each when it is done."""
    devices = torch.cuda.device_count()
    if devices < 2:
        for job in jobs:
            watcher.said(f"{job.contender.name}, seed {job.seed}")
            run_job(job, watcher)
            yield job
        return
    # Initial generations first, one at a time: the runs of a seed share them.
    for seed in dict.fromkeys(job.seed for job in jobs):
        for job in (one for one in jobs if one.seed == seed):
            _initial(job, watcher)
    with ProcessPoolExecutor(devices, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(_run_on_device, job, index % devices): job for index, job in enumerate(jobs)}
        for future in as_completed(futures):
            future.result()
            yield futures[future]


def _run_on_device(job: Job, device: int) -> None:
    torch.cuda.set_device(device)
    run_job(job, Watcher(), device=f"cuda:{device}")


def run_job(job: Job, watcher: Watcher, *, device: str = "auto") -> None:
    """Learn the generations of one run, measure them, and write its result file; what is there already is kept."""
    protocol = job.definition
    plan = _plan(job, device)
    parts = _parts(job, watcher)
    images = parts.images
    tasks = _tasks(job, images)
    generations, phases = _learn_chain(job, plan, images.of_split("train"), tasks, watcher)
    reset_peak_memory()
    started = time.perf_counter()
    chain = _measured_chain(job, generations, images, tasks, watcher)
    measures = measures_of(chain)
    virtual = _virtual(job, generations, chain, watcher)
    if virtual:
        measures["virtual"] = virtual
    phases.append(
        {"phase": "evaluation", "seconds": round(time.perf_counter() - started, 1), "memory_mib": peak_memory()}
    )
    method = job.contender.method(protocol)
    write_json(
        job.result,
        {
            "format": FORMAT,
            "protocol": job.protocol,
            "shows": protocol.shows,
            "budget": job.budget,
            "method": job.contender.name,
            "parameters": method.parameters() if method else {},
            "given": _given(job.contender, method, len(tasks)),
            "seed": job.seed,
            "command": shlex.join(["evergallery", *sys.argv[1:]]),
            "options": job.options,
            "network": {
                "backbone": protocol.backbone,
                "update_backbone": protocol.update_backbone,
                "dim": protocol.dim,
                "neck": protocol.neck,
                "head": protocol.head,
                "pretrained": protocol.pretrained,
            },
            **provenance(),
            "precision": ", ".join(sorted({one.card.training["precision"] for one in generations})),
            "data": {
                "set": _set_of(job),
                "split": parts.words,
                "fingerprint": images.fingerprint(),
                "fingerprints": {
                    "training": images.of_split(TRAIN).fingerprint(),
                    "test": images.select(np.flatnonzero(images.split != TRAIN)).fingerprint(),
                },
                "searched": "queries in the gallery" if "gallery" in parts.tested else EVERY_IMAGE,
                "training": len(images.of_split(TRAIN)),
                "test": len(images) - len(images.of_split(TRAIN)),
                "classes": len(images.classes),
                "tasks": [len(task) for task in tasks],
            },
            "settings": {"first": plan.first.model_dump(), "update": plan.update.model_dump(), "size": plan.size},
            "phases": phases,
            "measures": measures,
        },
    )


def _plan(job: Job, device: str = "auto") -> Plan:
    plan = job.definition.plan(job.budget, job.seed)
    chosen = {"device": device}
    return replace(
        plan, first=plan.first.model_copy(update=chosen), update=plan.update.model_copy(update=chosen)
    )  # fmt: skip


def _parts(job: Job, watcher: Watcher) -> Parts:
    return _read(
        job.protocol, job.budget, job.changes, job.data, job.data_dir, job.directory / "work" / "cache", watcher
    )


@lru_cache(maxsize=2)
def _read(
    protocol: str,
    budget: Budget,
    changes: Changes,
    data: str | None,
    data_dir: Path | None,
    cache: Path,
    watcher: Watcher,
) -> Parts:
    definition = PROTOCOLS[protocol].changed(budget, changes)
    return definition.parts(data, definition.budgets[budget], cache, watcher, data_dir)


def _set_of(job: Job) -> str:
    """What the images are called: a named set by its name, others by that of their file or folder."""
    own = job.definition.data
    if own is not None and (job.data is None or Path(job.data).is_dir()):
        return own
    return str(job.data).rstrip("/").rpartition("/")[2]


def _tasks(job: Job, images: ImageSet) -> Tasks:
    """Of the classes that there are training images of."""
    trained = np.unique(images.of_split("train").labels)
    return job.definition.tasks([images.classes[label] for label in trained], job.seed)


def _initial(job: Job, watcher: Watcher) -> Workspace:
    """The workspace with the first generation; shared by every method of the seed that takes the same head."""
    protocol = job.definition
    plan = _plan(job)
    method = job.contender.method(protocol)
    images = _parts(job, watcher).images
    tasks = _tasks(job, images)
    own_head = method.needs.head if method is not None else None
    directory = job.work / (INITIAL if own_head is None else f"{INITIAL}-{own_head}")
    if not (directory / "workspace.json").is_file():
        preprocessing = protocol.preprocessing(plan)
        # A simplex has one class more than it has dimensions.
        dim = protocol.dim if own_head != "simplex" else len({name for task in tasks for name in task}) - 1
        Workspace.create(
            directory,
            backbone=protocol.backbone,
            dim=dim,
            neck=None if protocol.neck == "none" else protocol.neck,
            size=preprocessing.size,
            head=own_head or protocol.head,
        )
    workspace = Workspace(directory)
    if not workspace.generations():
        reset_peak_memory()
        workspace.learn(
            images.of_split("train").of_classes(tasks[0]),
            settings=plan.first,
            watcher=watcher,
            **_new_weights(protocol),
        )
        write_json(directory / "memory.json", peak_memory())
    return workspace


def _learn_chain(
    job: Job, plan: Plan, train: ImageSet, tasks: Tasks, watcher: Watcher
) -> tuple[list[Generation], list[dict[str, Any]]]:
    """One generation for each task, and what each took."""
    initial = _initial(job, watcher)
    first = initial.generations()[0]
    phases = [_phase("task 1 (shared)", first, initial.directory / "memory.json")]
    protocol = job.definition
    method = job.contender.method(protocol)
    if method is None:
        return [first] * len(tasks), phases
    workspace = _successors(initial, job.work / job.contender.learner)
    for number in range(2, len(tasks) + 1):
        peak_file = workspace.directory / f"memory-v{number}.json"
        if len(workspace.generations()) < number:
            reset_peak_memory()
            seen = tuple(dict.fromkeys(name for task in tasks[: number - 1] for name in task))
            arriving = tasks[number - 1]
            if method.needs.old_images:
                # Where a task holds old classes too, their images come once, with the others of the past.
                arriving = tuple(name for name in arriving if name not in set(seen))
            scratch = not method.needs.parent_weights or (protocol.update_backbone is not None and number == 2)
            workspace.learn(
                train.of_classes(arriving),
                method=method,
                parent=f"v{number - 1}",
                old_data=train.of_classes(seen) if method.needs.old_images else None,
                backbone=protocol.update_backbone,
                settings=plan.first if scratch else plan.update,
                watcher=watcher,
                **(_new_weights(protocol) if scratch else {"train": "all"}),
            )
            write_json(peak_file, peak_memory())
        phases.append(_phase(f"task {number}", workspace.generation(f"v{number}"), peak_file))
    return workspace.generations()[: len(tasks)], phases


def _new_weights(protocol: BenchmarkProtocol) -> dict[str, Any]:
    """Where a network that has no parent's weights has its own from; all of it learns."""
    return {"pretrained": protocol.pretrained, "weights": protocol.weights, "train": "all"}


def _successors(initial: Workspace, directory: Path) -> Workspace:
    """A workspace of a method's own that begins with the shared first generation."""
    if not directory.is_dir():
        unfinished = directory.with_name(f".{directory.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(initial.directory, unfinished)
        unfinished.rename(directory)
    return Workspace(directory)


def _phase(name: str, generation: Generation, peak_file: Path) -> dict[str, Any]:
    return {
        "phase": name,
        "seconds": generation.card.training["seconds"],
        "images": generation.card.data["training"],
        # Killed after the generation was written and before its peak was: nobody knows it.
        "memory_mib": read_json(peak_file) if peak_file.is_file() else {},
    }


def _given(contender: Contender, method: Method | None, tasks: int) -> list[str]:
    """What the method had besides the new images."""
    if method is None:
        return []
    given = ["parent's weights"] if method.needs.parent_weights else []
    given += ["parent network"] if method.needs.parent else []
    given += ["first network"] if method.needs.root and tasks > 2 else []
    given += ["old images"] if method.needs.old_images else []
    given += [f"adapter: {contender.adapter}"] if contender.adapter else []
    return given


def _measured_chain(
    job: Job, generations: Sequence[Generation], images: ImageSet, tasks: Tasks, watcher: Watcher
) -> Chain:
    """Embeddings of the test images by every generation, and the adapter's maps between them."""
    assert images.split is not None
    test = images.select(np.flatnonzero(images.split != "train"))
    by_fingerprint = {one.fingerprint: one for one in generations}
    extracted = {key: _embeddings(one, test, job.work, "test", watcher) for key, one in by_fingerprint.items()}
    embeddings = [extracted[one.fingerprint] for one in generations]
    ks = tuple(sorted({*KS, *job.definition.ks}))
    adapter = job.contender.adapter
    if adapter is None:
        return Chain(test, tasks, embeddings, ks=ks)
    kind = ADAPTERS[adapter]
    train = images.of_split("train")
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


def _virtual(
    job: Job, generations: Sequence[Generation], chain: Chain, watcher: Watcher
) -> dict[str, dict[str, dict[str, float]]]:
    """How well the last generation's memory stands in for each one before its parent, by each weighting."""
    last = generations[-1]
    if job.contender.base != Mutual.name or job.contender.adapter or len(generations) < 3:
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


def _expected_cost(job: Job) -> float:
    """Epochs, weighted by how many networks a method runs: only to estimate the time that is left."""
    protocol = job.definition
    plan = protocol.budgets[job.budget]
    method = job.contender.method(protocol)
    if method is None:
        return 0.5
    weight = 1.0 + 0.4 * method.needs.old_batches + 1.0 * (method.needs.beside == "network")
    epochs = plan.update.epochs if method.needs.parent_weights else 2 * plan.first.epochs
    return weight * epochs


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
