"""The one training loop: any method, one device or several, resumable bit for bit."""

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evergallery.data.features import FeatureSet
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.data.sampling import balanced_batches, class_batches, shuffled_batches
from evergallery.errors import StoppedError, TrainingError
from evergallery.memory import Memory
from evergallery.methods import Method, Step, Task
from evergallery.methods.method import Beginning
from evergallery.network import Network, Outputs, extract, outputs_of
from evergallery.network.batch_norm import synchronise
from evergallery.network.ranks import Ranks, together
from evergallery.network.stages import layer_groups
from evergallery.retrieval.knn import Exclusion
from evergallery.retrieval.metrics import evaluate
from evergallery.training import checkpoint
from evergallery.training.batches import Inputs, inputs
from evergallery.training.settings import Settings, has_bf16, resolve_device
from evergallery.training.termination import termination
from evergallery.watching import Progress, Stopped

if TYPE_CHECKING:
    from lightning_fabric import Fabric

LOG = "log.jsonl"
REPORT_EVERY_SECONDS = 0.1
CHECKPOINT_EVERY_SECONDS = 600


@dataclass(frozen=True)
class Trained:
    """What a run did."""

    epochs: int
    best_epoch: int
    """1-based; the epoch whose weights were kept."""
    images_seen: int
    seconds: float
    """Of training and validation, over all of its parts where it was resumed."""
    validation: dict[str, float]
    """Figures of the kept epoch on the validation part; empty where there was none."""
    history: list[dict[str, Any]] = field(repr=False)
    device: str = "cpu"
    precision: str = "float32"


def train(
    network: Network,
    method: Method,
    images: ImageSet | FeatureSet,
    validation: ImageSet | FeatureSet | None,
    preprocessing: Preprocessing,
    settings: Settings,
    directory: Path,
    *,
    parent: Network | None = None,
    root: Network | None = None,
    inherited: bool = False,
    memory: Memory | None = None,
    another_network: Callable[[Beginning], Network] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Trained:
    """Train ``network`` in place by ``method`` and leave the weights of the chosen epoch in it.

    Every random draw comes from a seed of ``settings`` and the numbers of epoch and step, so a run that was killed and
    started again with the same arguments ends with the same weights: bit for bit on a CPU with the same instruction set, number
    of threads and versions of the libraries. A checkpoint is kept after each epoch, every ten minutes within one, and before
    the process ends on SIGTERM.

    Where ``torchrun`` or Slurm has started several processes, all of them call this with the same arguments and share the
    batches; the first one writes. All end with the same weights, those of one process up to rounding.

    Args:
        network: on any device; its head has a row for every label.
        method: what to minimise.
        images: the training part, or its features where ``network`` takes features; labels are rows of the head.
        validation: chooses the epoch where ``settings.select`` is ``best``; labels likewise.
        preprocessing: of the network's input.
        settings: how long, how fast, on what.
        directory: for checkpoints and logs; a checkpoint found there is continued.
        parent: the frozen parent, for methods that need it. It is not changed.
        root: frozen, the first generation of the parent's line, for methods that read it. It is not changed.
        inherited: whether the network begins with the parent's weights, so that the two can be averaged.
        memory: the parent's.
        another_network: makes a network like this one, for methods that train a second.
        on_progress: called a few times a second.

    Raises:
        TrainingError: a loss or the weights are not finite, the device fails, or the method needs a parent and none was
            given. The checkpoint before is kept.
        OSError: the disk is full; likewise.
        StoppedError: the process was sent SIGTERM; what was done is kept.
    """
    if method.needs.parent and parent is None:
        raise TrainingError(f"The method {method.name!r} learns from a parent: learn a first generation before it.")
    fabric = _fabric(settings)
    ranks = Ranks(fabric.global_rank, fabric.world_size, fabric.device)
    network = network.to(memory_format=torch.channels_last)
    teacher = _frozen(parent, fabric) if method.needs.parent and parent is not None else None
    first = _frozen(root, fabric) if method.needs.root and root is not None else None
    task = Task(
        labels=torch.from_numpy(images.labels),
        dimension=network.embedder.dimension,
        classes=network.head.classes,
        head=network.head.kind,
        old_classes=0 if parent is None else parent.head.classes,
        parent=teacher,
        old=outputs_of(teacher, images, preprocessing, ranks=ranks) if teacher and method.needs.old_outputs else None,
        memory=memory or Memory(),
        another_network=another_network,
    )
    beside = method.begin(task)
    if beside is not None:
        beside = beside.to(fabric.device, memory_format=torch.channels_last)
    if ranks.size > 1:
        for one in [network, *(beside.modules() if beside is not None else ())]:
            # What else a method keeps sees whole batches on every rank.
            if isinstance(one, Network):
                synchronise(one, ranks)
    optimizer = _optimizer(network, beside, settings)
    module, optimizer = fabric.setup(_compiled(network, settings), optimizer)
    run = _Run(
        fabric, ranks, network, module, teacher and _compiled(teacher, settings), first and _compiled(first, settings),
        beside, optimizer, method, images, inputs(images, preprocessing, settings, fabric.device), settings,
    )  # fmt: skip

    state = {
        "epoch": 0, "step": 0, "sums": {}, "best_epoch": 0, "best_recall": -1.0, "seconds": 0.0, "images_seen": 0,
        "history": [], **(checkpoint.load(directory, network, beside, optimizer) or {}),
    }  # fmt: skip
    clock = _Clock(state["seconds"])

    def keep(*, is_best: bool = False) -> None:
        state["seconds"] = clock.seconds()
        if ranks.is_first:
            checkpoint.save(directory, network, beside, optimizer, state, is_best=is_best)
        clock.kept()

    def pause(step: int, sums: Mapping[str, Tensor | float]) -> None:
        stop = ranks.total(torch.tensor(float(asked.is_set()))) > 0
        if stop or clock.since_kept() > CHECKPOINT_EVERY_SECONDS:
            known = {name: float(value) for name, value in sums.items()}
            _check_finite(known, state["epoch"], step - 1, optimizer.param_groups[0]["lr"])
            _check_weights(network, state["epoch"], optimizer.param_groups[0]["lr"])
            state.update(step=step, sums=known)
            keep()
        if stop:
            raise StoppedError(
                f"The process was asked to stop, in epoch {state['epoch'] + 1} after step {step}: the same command goes on "
                f"from there."
            )

    with termination() as asked, Log(directory, state["history"]) if ranks.is_first else nullcontext() as log:
        for epoch in range(state["epoch"], settings.epochs):
            recall = state["history"][-1].get("recall@1") if state["history"] else None
            batches = _batches(images, settings, epoch)
            size = settings.size(epoch, preprocessing.size)
            if state["step"] == 0:
                method.epoch_begins(
                    beside, task, epoch / settings.epochs,
                    lambda: outputs_of(network, images, preprocessing, ranks=ranks),
                )  # fmt: skip
            report = _reporter(on_progress if ranks.is_first else None, epoch, settings.epochs, recall)
            with _device_trouble(settings, epoch):
                sums = _epoch(run, batches, epoch, size, report, state["step"], state["sums"], pause)
                _check_weights(network, epoch, optimizer.param_groups[0]["lr"])
            try:
                figures = _validate(network, validation, preprocessing, ranks, asked)
            except Stopped:
                pause(len(batches), sums)  # Which raises, now that the weights are kept.
            losses = {name: value / len(batches) for name, value in sums.items()}
            rate = settings.rate((epoch + 1) / settings.epochs)
            record = {"epoch": epoch + 1, "size": size, "learning_rate": rate, "losses": losses, **figures}
            is_best = settings.select == "last" or not figures or figures["recall@1"] >= state["best_recall"]
            if is_best:
                state.update(best_epoch=epoch + 1, best_recall=figures.get("recall@1", -1.0))
            state.update(epoch=epoch + 1, step=0, sums={})
            state["images_seen"] += sum(map(len, batches))
            state["history"].append(record)
            keep(is_best=is_best)
            if log is not None:
                log.write(record)

    ranks.wait()
    if state["best_epoch"] != state["epoch"]:
        network.load_state_dict(checkpoint.load_best(directory))
    kept = state["history"][state["best_epoch"] - 1]
    share = method.weight_share(carries_on=root is not None)
    if inherited and teacher is not None and share < 1:
        average_weights(network.embedder, teacher.embedder, share)
        kept = _validate(network, validation, preprocessing, ranks)
    return Trained(
        epochs=settings.epochs,
        best_epoch=state["best_epoch"],
        images_seen=state["images_seen"],
        seconds=state["seconds"],
        validation={name: kept[name] for name in ("recall@1", "mAP@R") if name in kept},
        history=state["history"],
        device=str(fabric.device),
        precision=precision_of(settings),
    )


@dataclass(frozen=True)
class _Run:
    """What stays the same from epoch to epoch."""

    fabric: "Fabric"
    ranks: Ranks
    network: Network
    module: nn.Module
    """``network`` as the fabric runs it."""
    teacher: Network | None
    root: Network | None
    beside: nn.Module | None
    optimizer: torch.optim.Optimizer
    method: Method
    images: ImageSet | FeatureSet
    inputs: Inputs
    settings: Settings


def _epoch(
    run: _Run,
    batches: list[NDArray[np.int64]],
    epoch: int,
    size: int,
    report: Callable[[int, int, dict[str, float], float], None],
    begin: int,
    known: dict[str, float],
    pause: Callable[[int, Mapping[str, Tensor | float]], None],
) -> dict[str, float]:
    """One pass over the batches from step ``begin`` on, before which the terms had come to ``known``.

    After each step ``pause`` hears how many are done and what the terms have come to. Returns the sum of each term.
    """
    fabric, settings, ranks = run.fabric, run.settings, run.ranks
    generator = torch.Generator()
    # In double precision, so that their sums are the same where the epoch was interrupted.
    sums = {name: torch.tensor(value, dtype=torch.float64, device=fabric.device) for name, value in known.items()}
    done = 0
    start = last_report = time.perf_counter()
    run.module.train()
    if settings.normalisation == "fixed":
        for module in run.network.embedder.backbone.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
    if run.beside is not None:
        run.beside.train()
    with torch.random.fork_rng(devices=[]):
        for step, indices in enumerate(batches[begin:], begin):
            generator.manual_seed(_seed(settings.data_seed, epoch, step))
            # Layers that draw for themselves (dropout, stochastic depth) use the global state.
            torch.manual_seed(_seed(settings.data_seed, epoch, step, 1 + ranks.rank))
            rate = settings.rate((epoch + step / len(batches)) / settings.epochs)
            for group in run.optimizer.param_groups:
                group["lr"] = rate * group["share"]
            batch = run.inputs(indices, generator, size, ranks.share(len(indices)))
            labels = torch.from_numpy(run.images.labels[indices]).to(fabric.device)

            losses = run.method.losses(_step(run, batch, labels, (epoch + step / len(batches)) / settings.epochs))
            run.optimizer.zero_grad()
            fabric.backward(torch.stack(list(losses.values())).sum())
            ranks.average_gradients(_parameters(run.network, run.beside))
            if settings.clip_norm is not None:
                fabric.clip_gradients(run.module, run.optimizer, max_norm=settings.clip_norm, error_if_nonfinite=False)
                if run.beside is not None:
                    nn.utils.clip_grad_norm_(list(run.beside.parameters()), settings.clip_norm)
            run.optimizer.step()

            done += len(indices)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.detach().double()
            now = time.perf_counter()
            due = now - last_report > REPORT_EVERY_SECONDS or step + 1 == len(batches)
            # Reading a loss waits for a GPU, so there it is done only when somebody looks.
            if due or fabric.device.type == "cpu":
                means = {name: float(value) / (step + 1) for name, value in sums.items()}
                _check_finite(means, epoch, step, rate)
            if due:
                last_report = now
                report(step + 1, len(batches), means, done / max(now - start, 1e-9))
            if step + 1 < len(batches):
                pause(step + 1, sums)
    return {name: float(value) for name, value in sums.items()}


class _Clock:
    """Seconds of a run over all of its parts, and since its last checkpoint."""

    def __init__(self, before: float) -> None:
        self._started = time.perf_counter() - before
        self.kept()

    def seconds(self) -> float:
        return time.perf_counter() - self._started

    def kept(self) -> None:
        self._kept = time.perf_counter()

    def since_kept(self) -> float:
        return time.perf_counter() - self._kept


def _step(run: _Run, batch: Tensor, labels: Tensor, progress: float) -> Step:
    def whole(outputs: Outputs) -> Outputs:
        return Outputs(*(run.ranks.whole(output, len(labels)) for output in outputs))

    def outputs(other: Network) -> Outputs:
        with run.fabric.autocast():
            return whole(Outputs(*(output.float() for output in other(batch))))

    with torch.no_grad():
        old = outputs(run.teacher) if run.teacher is not None and run.method.needs.old_batches else None
        root = outputs(run.root) if run.root is not None else None
    return Step(
        labels=labels,
        new=whole(run.module(batch)),
        old=old,
        root=root,
        head=run.network.head,
        old_head=run.teacher.head if run.teacher is not None and run.teacher.head.classes else None,
        state=run.beside,
        run=outputs,
        progress=progress,
    )


def _reporter(
    on_progress: Callable[[Progress], None] | None, epoch: int, epochs: int, recall: float | None
) -> Callable[[int, int, dict[str, float], float], None]:
    def report(step: int, steps: int, losses: dict[str, float], images_per_second: float) -> None:
        if on_progress:
            on_progress(Progress(epoch, epochs, step, steps, losses, images_per_second, recall))

    return report


def precision_of(settings: Settings) -> str:
    """The precision that ``settings`` come to on this machine: ``bf16`` or ``float32``."""
    if settings.precision != "auto":
        return settings.precision
    return "bf16" if has_bf16(resolve_device(settings.device)) else "float32"


class Log:
    """One JSON line per epoch, and TensorBoard event files where TensorBoard is installed."""

    def __init__(self, directory: Path, history: list[dict[str, Any]]) -> None:
        # What a killed run wrote after its last checkpoint is dropped: it will be written again.
        (directory / LOG).write_text("".join(json.dumps(record) + "\n" for record in history))
        self.file = (directory / LOG).open("a")
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError:
            self.board: Any = None
        else:
            self.board = SummaryWriter(str(directory / "tensorboard"), purge_step=len(history) + 1)

    def write(self, record: dict[str, Any]) -> None:
        """Append the record of one epoch."""
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()
        if self.board is not None:
            for name, value in _flat(record):
                self.board.add_scalar(name, value, record["epoch"])

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        if self.board is not None:
            self.board.close()


def _flat(record: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if isinstance(value, dict):
            yield from ((f"{name}/{term}", number) for term, number in value.items())
        elif name != "epoch":
            yield name, value


def _fabric(settings: Settings) -> "Fabric":
    # It loads the compiler of torch, three seconds that a search need not wait for.
    from lightning_fabric import Fabric

    # It announces the precision on every start; ours is in the card.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    logging.getLogger("lightning_utilities").setLevel(logging.WARNING)
    fabric = Fabric(
        **together(resolve_device(settings.device)),
        precision="bf16-mixed" if precision_of(settings) == "bf16" else "32-true",
    )
    fabric.launch()
    return fabric


def average_weights(new: nn.Module, old: nn.Module, share: float) -> None:
    """Set every weight and batch statistic of ``new`` to ``share · new + (1 - share) · old`` (WiSE-FT, Wortsman et al. 2022).

    Args:
        new: changed in place.
        old: of the same architecture.
        share: in [0, 1].
    """
    before = old.state_dict()
    with torch.no_grad():
        for name, tensor in new.state_dict().items():
            if tensor.is_floating_point():
                tensor.lerp_(before[name].to(tensor), 1 - share)


def _compiled(network: Network, settings: Settings) -> Network:
    """The network as the steps run it: it has the same weights and attributes, and others go on without the compiler."""
    return cast(Network, torch.compile(network)) if settings.compile else network


def _frozen(network: Network, fabric: "Fabric") -> Network:
    moved: Network = network.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved.eval().requires_grad_(False)


def _parameters(network: nn.Module, beside: nn.Module | None) -> list[nn.Parameter]:
    modules = (network,) if beside is None else (network, beside)
    return [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]


def _optimizer(network: Network, beside: nn.Module | None, settings: Settings) -> torch.optim.Optimizer:
    backbone = layer_groups(network.embedder.backbone)
    of_backbone = {id(one) for group in backbone for one in group}
    new = [one for one in _parameters(network, beside) if id(one) not in of_backbone]
    shares = [settings.backbone_rate * settings.layer_decay ** (len(backbone) - 1 - i) for i in range(len(backbone))]
    # As few groups as there are rates: the optimiser does each by itself.
    by_share: dict[float, list[nn.Parameter]] = {1.0: new}
    for group, share in zip(backbone, shares, strict=True):
        by_share.setdefault(share, []).extend(one for one in group if one.requires_grad)
    groups = [{"params": learning, "share": share} for share, learning in by_share.items() if learning]
    common: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay, "fused": True}
    if settings.optimizer == "adam":
        return torch.optim.Adam(groups, **common)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, **common)
    return torch.optim.SGD(groups, momentum=0.9, **common)


def _batches(images: ImageSet | FeatureSet, settings: Settings, epoch: int) -> list[NDArray[np.int64]]:
    per_class = settings.images_per_class
    if per_class is None:
        return shuffled_batches(
            len(images), settings.batch_size, seed=settings.data_seed, epoch=epoch, drop_last=not settings.last_batch
        )
    draw = class_batches if settings.epoch == "classes" else balanced_batches
    return draw(
        images.labels, max(1, settings.batch_size // per_class), per_class, seed=settings.data_seed, epoch=epoch
    )


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint32)[0])


@contextmanager
def _device_trouble(settings: Settings, epoch: int) -> Iterator[None]:
    """Say in a sentence what a device does to a run."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"A batch of {settings.batch_size} images does not fit into the device's memory in epoch {epoch + 1}: choose a "
            f"smaller --batch-size, or more processes."
        ) from error
    except torch.AcceleratorError as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(
            f"The device failed in epoch {epoch + 1} ({reason}): what was done is kept, and the same command goes on from "
            f"there, here or on another device."
        ) from error


def _check_finite(means: dict[str, float], epoch: int, step: int, rate: float) -> None:
    for name, value in means.items():
        if not math.isfinite(value):
            raise TrainingError(
                f"The loss term {name!r} became {value} in epoch {epoch + 1}, step {step + 1}, at learning rate "
                f"{rate:.2g}: lower the learning rate, clip gradients, or train in float32."
            )


def _check_weights(network: nn.Module, epoch: int, rate: float) -> None:
    """Before they are kept: a loss may be finite where its gradient is not, and the next step, which would tell, is to come."""
    tensors = [tensor for tensor in network.state_dict().values() if tensor.is_floating_point()]
    # Together, because reading from a GPU waits for it.
    if not torch.stack([tensor.isfinite().all() for tensor in tensors]).all():
        raise TrainingError(
            f"The weights became not finite in epoch {epoch + 1}, at learning rate {rate:.2g}, though the losses were: the "
            f"checkpoint before is kept; lower the learning rate, or train in float32."
        )


def _validate(
    network: Network,
    validation: ImageSet | FeatureSet | None,
    preprocessing: Preprocessing,
    ranks: Ranks,
    asked: threading.Event | None = None,
) -> dict[str, float]:
    """Figures on the validation part; raises ``Stopped`` where ``asked`` is set meanwhile and nobody waits for this rank."""

    def go_on(*_: int) -> None:
        if asked is not None and asked.is_set() and ranks.size == 1:
            raise Stopped

    if validation is None or len(validation) == 0:
        return {}
    embeddings = torch.from_numpy(extract(network.embedder, validation, preprocessing, on_progress=go_on, ranks=ranks))
    labels = torch.from_numpy(validation.labels)
    itself = Exclusion(torch.arange(len(labels)))
    metrics = evaluate(embeddings, labels, embeddings, labels, ks=(1,), exclusion=itself)
    if metrics.queries == 0:
        return {}
    return {"recall@1": metrics.recall[1], "mAP@R": metrics.map_at_r}
