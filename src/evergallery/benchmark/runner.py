"""Run protocol × methods × seeds: initial generations shared, finished runs kept, one JSON file for each run."""

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from typing import Any

import torch

from evergallery.benchmark.contenders import baseline_of, contenders_of
from evergallery.benchmark.embeddings import evaluations_of, lineage_embeddings, read_evaluated, virtual_features_of
from evergallery.benchmark.job import BenchmarkJob, Experiment, option_text
from evergallery.benchmark.lineage import first_directory, first_generation, lineage, network_of
from evergallery.benchmark.measures import measures_of
from evergallery.benchmark.protocol import BenchmarkProtocol
from evergallery.benchmark.protocols import PROTOCOLS
from evergallery.benchmark.provenance import peak_memory, reset_peak_memory
from evergallery.benchmark.result import result_of
from evergallery.data.evaluation_sets import evaluation_set
from evergallery.data.images.sizes import Size
from evergallery.errors import InputError, require_known
from evergallery.files import creation_of, read_json, write_json
from evergallery.network import Architecture, Embedder, build_backbone
from evergallery.network.backbones import load_weights, require_size
from evergallery.network.uninitialised import uninitialised
from evergallery.watching import SILENT, Watcher

LONGEST_NAME = 200
"""Bytes of a directory's name: file systems take 255, and hidden names beside it are longer."""


def run_benchmark(
    experiment: Experiment,
    methods: Sequence[str] | None = None,
    *,
    seeds: Sequence[int],
    out: Path,
    processes: int = 1,
    watcher: Watcher,
) -> Path:
    """Run what is not finished yet, and return the directory with one result file for each run.

    Where there are several CUDA devices, as many runs go side by side, or as many as are asked for.

    Args:
        experiment: the protocol, and the images that it runs on.
        methods: names, see ``Contender``; by default those of ``USUAL`` that the protocol admits.
        seeds: of the runs.
        out: for results; runs and work go to ``out/PROTOCOL-BUDGET``, and to another directory for each set of changes.
        processes: runs at a time, each with its share of the cores; where there are several CUDA devices, each has one.
        watcher: hears of progress.

    Raises:
        InputError: an unknown name, a method that the protocol does not admit, or images that it cannot use; before anything
            is trained.
    """
    jobs = _jobs(experiment, methods, seeds, out, watcher)
    directory = jobs[0].directory
    waiting = [job for job in jobs if not job.result.is_file()]
    if len(waiting) < len(jobs):
        watcher.said(f"{len(jobs) - len(waiting)} of {len(jobs)} runs were finished before")
    if not waiting:
        return directory
    # Images that cannot be used are refused before anything is learned; those of the set are kept in memory for the first run.
    read_evaluated(waiting[0], watcher)
    images = waiting[0].parts(watcher).images
    for job in waiting:
        network_of(job, job.tasks(images))  # What cannot be built is known before anything is learned.
    with creation_of(directory):
        (directory / "runs").mkdir(parents=True, exist_ok=True)
    _keep_to(images.fingerprint(), waiting[0])
    started, spent, total = time.perf_counter(), 0.0, sum(job.cost() for job in waiting)
    for number, job in enumerate(_run_all(waiting, watcher, processes), 1):
        spent += job.cost()
        remaining = (time.perf_counter() - started) * (total - spent) / max(spent, 1e-9)
        watcher.said(
            f"[{number}/{len(waiting)}] {job.contender.name}, seed {job.seed}: done; about {_duration(remaining)} left"
        )
    return directory


def _jobs(
    experiment: Experiment, methods: Sequence[str] | None, seeds: Sequence[int], out: Path, watcher: Watcher
) -> list[BenchmarkJob]:
    """Every run that is asked for, after what would not run is refused."""
    protocol, budget, given = experiment.protocol, experiment.budget, experiment.changes.given()
    require_known("protocol", protocol, PROTOCOLS)
    require_known("budget", budget, PROTOCOLS[protocol].budgets)
    definition = experiment.definition
    if experiment.data_dir is not None and not experiment.reads_data_dir:
        raise InputError(
            "--data-dir says where named sets lie, and nothing that is read here is one: leave it out, or name a set with --data."
        )
    if "head" in given and not baseline_of(definition).trains_head:
        raise InputError(
            f"The first generation of the protocol {protocol!r} learns without a classifier with --budget {budget}, so that "
            f"nothing would come of --head {given['head']}: leave it out, or name another --budget."
        )
    another = [] if experiment.another_set is None else [f"data={experiment.another_set}"]
    changes = [f"{name}={_short(name, value)}" for name, value in given.items()]
    directory = out / _within("@".join([f"{protocol}-{budget}", *another, *changes]))
    contenders = contenders_of(definition, methods, experiment.changes, watcher)
    jobs = [BenchmarkJob(experiment, contender, seed, directory) for seed in seeds for contender in contenders]
    if not jobs:
        raise InputError("Nothing is to be run: name a method and a seed at least, or leave both out.")
    plan = definition.budgets[budget]
    size = definition.preprocessing(plan).size
    for settings in (plan.first, plan.update):
        settings.require_shift_within(size)
    _check_networks(definition, size, watcher)
    _check_results(jobs[0])
    for name in definition.evaluate:
        evaluation_set(name, experiment.data_dir)  # What is not there is known before anything is trained.
    return jobs


def _within(name: str) -> str:
    """A name of a directory that file systems take; one that is too long is cut, and ends in its digest."""
    whole = name.encode()
    if len(whole) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(whole).hexdigest()[:12]
    return f"{whole[: LONGEST_NAME - len(digest) - 1].decode(errors='ignore')}@{digest}"


def _short(name: str, value: Any) -> str:
    """A value in the name of a directory: of a path its last part, since the name is one directory's and not a way to it."""
    if name == "evaluate":
        return ",".join(Path(one).name for one in value)
    return value.name if isinstance(value, Path) else option_text(name, value).replace("/", "-")


def _check_networks(protocol: BenchmarkProtocol, size: Size, watcher: Watcher) -> None:
    """Build what will learn, so that what cannot be had is known before anything is read."""
    update_backbone = protocol.update_backbone or protocol.backbone
    if update_backbone == protocol.backbone and protocol.update_weights is not None:
        raise InputError("--update-weights is of another backbone after the first: name that with --update-backbone.")
    if (protocol.weights is None) != (protocol.later_weights is None):
        raise InputError(
            f"The protocol {protocol.name!r} has two backbones, and one file of weights is named: name that of "
            f"{protocol.backbone} with --weights and that of {update_backbone} with --update-weights, or one backbone for "
            f"both with --backbone."
        )
    networks = {protocol.backbone: protocol.weights, update_backbone: protocol.later_weights}
    for backbone in networks:
        with uninitialised():
            require_size(backbone, build_backbone(backbone), size)
    for backbone, weights in networks.items():
        architecture = Architecture.of(backbone=backbone, dimension=protocol.dim, neck=protocol.neck)
        with uninitialised():
            embedder = Embedder(architecture, pretrained=protocol.pretrained, watcher=watcher)
        if weights is not None:
            load_weights(embedder.backbone, weights)


def _check_results(job: BenchmarkJob) -> None:
    """Refuse a directory with results of other images or weights, which are not those of this command."""
    options, weights = job.experiment.options, job.experiment.weights
    for run in _results(job):
        before = run.get("options")
        if before is not None and any(before.get(name) != options.get(name) for name in ("data", "data_dir")):
            raise InputError(
                f"{job.directory} holds results of other images ({before.get('data') or 'its own'}): name another directory with "
                f"--out."
            )
        if before is not None and before.get("evaluate") != options.get("evaluate"):
            raise InputError(
                f"{job.directory} holds results with --evaluate {before['evaluate']}: name another directory with --out."
            )
        if run.get("network", {}).get("weights", weights) != weights:
            raise InputError(
                f"{job.directory} holds results that began with other weights than {_files(job)}: name another directory with "
                f"--out."
            )


def _keep_to(fingerprint: str, job: BenchmarkJob) -> None:
    """Refuse a directory in which other images or weights were begun with: its generations would go on from those.

    Raises:
        InputError: others were.
    """
    path, weights = job.directory / "work" / "images.json", job.experiment.weights
    before = read_json(path) if path.is_file() else {}
    known = [before.get("fingerprint"), *(run["data"].get("fingerprint") for run in _results(job))]
    if any(one not in (None, fingerprint) for one in known):
        raise InputError(f"{job.directory} holds the work on other images: name another directory with --out.")
    if before.get("weights", weights) != weights:
        raise InputError(
            f"{job.directory} holds work that began with other weights than {_files(job)}: name another directory with --out."
        )
    path.parent.mkdir(exist_ok=True)
    write_json(path, {"fingerprint": fingerprint, "data": job.experiment.image_name, "weights": weights})


def _results(job: BenchmarkJob) -> list[dict[str, Any]]:
    """The result files of a job's directory."""
    return [read_json(path) for path in sorted((job.directory / "runs").glob("*.json"))]


def _files(job: BenchmarkJob) -> str:
    """The files of weights that were named."""
    return " and ".join(str(path) for path in job.experiment.weight_files.values()) or "published or new ones"


def _run_all(jobs: Sequence[BenchmarkJob], watcher: Watcher, processes: int = 1) -> Iterator[BenchmarkJob]:
    """Run jobs and yield each when it is done."""
    devices = torch.cuda.device_count()
    together = min(devices if devices > 1 else processes, len(jobs))
    if together < 2:
        for job in jobs:
            watcher.said(f"{job.contender.name}, seed {job.seed}")
            run_job(job, watcher)
            yield job
        return
    threads = max(1, torch.get_num_threads() // together)
    placed = [replace(job, device=f"cuda:{index % devices}") if devices > 1 else job for index, job in enumerate(jobs)]
    with ProcessPoolExecutor(
        together, mp_context=get_context("spawn"), initializer=_work_with, initargs=(threads,)
    ) as pool:
        # Rows that differ in what comes after training have one lineage, and run one after another.
        lines: dict[Path, dict[str, list[BenchmarkJob]]] = {}
        for job in placed:
            lines.setdefault(first_directory(job), {}).setdefault(job.contender.learner, []).append(job)
        # They begin when the first generation is there that they share.
        begun = {pool.submit(_begin, next(iter(sharing.values()))[0]): sharing.values() for sharing in lines.values()}
        futures = {}
        for first in as_completed(begun):
            first.result()
            futures.update({pool.submit(_run_apart, line): line for line in begun[first]})
        for future in as_completed(futures):
            future.result()
            yield from futures[future]


def _work_with(threads: int) -> None:
    """Prepare a process of the pool; it ends with the one that began it, however that ended: nobody else hears of its runs."""
    torch.set_num_threads(threads)
    if (parent := parent_process()) is not None:
        Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(process: BaseProcess) -> None:
    """End this process when another is gone; what it was learning goes on from its last epoch."""
    process.join()
    os._exit(1)


def _begin(job: BenchmarkJob) -> None:
    """Learn the first generation of a job, in a process of its own."""
    _take_device(job)
    first_generation(job, SILENT)


def _run_apart(jobs: Sequence[BenchmarkJob]) -> None:
    """Run jobs in a process of its own, which keeps the images for the next ones."""
    for job in jobs:
        _take_device(job)
        run_job(job, SILENT)


def _take_device(job: BenchmarkJob) -> None:
    if job.device.startswith("cuda"):
        torch.cuda.set_device(job.device)


def run_job(job: BenchmarkJob, watcher: Watcher) -> None:
    """Learn the generations of one run, measure them, and write its result file; what is there already is kept."""
    data = job.task_images(watcher)
    generations, phases = lineage(job, data, watcher)
    reset_peak_memory()
    started = time.perf_counter()
    embeddings = lineage_embeddings(job, generations, data, watcher)
    measures = measures_of(embeddings)
    if virtual := virtual_features_of(job, generations, embeddings, watcher):
        measures["virtual"] = virtual
    if found := evaluations_of(job, generations, data, watcher):
        measures["evaluated"] = found
    seconds = round(time.perf_counter() - started, 1)
    phases.append({"phase": "evaluation", "seconds": seconds, "memory_mib": peak_memory()})
    write_json(job.result, result_of(job, data, generations, phases, measures))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
