"""The one training loop: any method, one device or several, resumable bit for bit."""

import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
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
from evergallery.errors import StoppedError, TrainingError
from evergallery.memory import Memory
from evergallery.methods import Beginning, Method, Step, Task
from evergallery.network import Network, Outputs, outputs_of
from evergallery.network.batch_norm import synchronise
from evergallery.network.ranks import Ranks, together
from evergallery.training import checkpoint
from evergallery.training.averaging import average_weights, moving_average
from evergallery.training.batches import batches_of, inputs, parts_of
from evergallery.training.checks import check_losses, check_weights, device_trouble
from evergallery.training.device import precision_of, resolve_device
from evergallery.training.log import TrainingLog
from evergallery.training.optimizer import optimizer_of, parameters_of
from evergallery.training.settings import Settings
from evergallery.training.standing import Clock, Standing, Sums, TrainingResult
from evergallery.training.termination import termination
from evergallery.training.validation import FIGURES, Reference, Validation, score
from evergallery.watching import SILENT, Progress, Stopped, Watcher

if TYPE_CHECKING:
    from lightning_fabric import Fabric

REPORT_EVERY_SECONDS = 0.1
CHECKPOINT_EVERY_SECONDS = 600


@dataclass(frozen=True)
class Lineage:
    """The earlier generations of a run; none of them is changed.

    Attributes:
        parent: for methods that learn from it, and for the choice of the epoch.
        root: the first generation of the parent's line, for methods that read it.
        inherited: whether the network begins with the parent's weights, so that the two can be averaged.
        memory: the parent's.
        another_network: makes a network like the one that learns, for methods that train a second.
        name: of the parent, in messages.
    """

    parent: Network | None = None
    root: Network | None = None
    inherited: bool = False
    memory: Memory = field(default_factory=Memory)
    another_network: Callable[[Beginning], Network] | None = None
    name: str = "the parent"


@dataclass(frozen=True)
class TrainingData:
    """The data that a run learns from, and chooses its epoch by.

    Attributes:
        images: the training part, or its features where the network takes features; labels are rows of the head.
        validation: chooses the epoch where ``settings.select`` is ``best``; its labels are rows of the head, too.
        preprocessing: of the network's input.
    """

    images: ImageSet | FeatureSet
    validation: ImageSet | FeatureSet | None
    preprocessing: Preprocessing


def train(
    network: Network,
    method: Method,
    data: TrainingData,
    settings: Settings,
    directory: Path,
    *,
    lineage: Lineage | None = None,
    watcher: Watcher = SILENT,
) -> TrainingResult:
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
        data: to learn from, and to choose the epoch by.
        settings: how long, how fast, on what.
        directory: for checkpoints and logs; a checkpoint found there is continued.
        lineage: what there is of the generations before.
        watcher: hears a few times a second how far it is; before the first step, how many images the parent has looked at.

    Raises:
        TrainingError: a loss or the weights are not finite, the device fails, or the method needs a parent and none was
            given. The checkpoint before is kept.
        OSError: the disk is full. The checkpoint before is kept.
        StoppedError: the process was sent SIGTERM; what was done is kept.
    """
    lineage = lineage or Lineage()
    if method.needs.parent and lineage.parent is None:
        raise TrainingError(f"The method {method.name!r} learns from a parent: learn a first generation before it.")
    return Trainer(network, method, data, settings, lineage, watcher).train(directory)


class Trainer:
    """One run, from the first epoch that is not done yet to the weights that are kept; see ``train``."""

    def __init__(
        self,
        network: Network,
        method: Method,
        data: TrainingData,
        settings: Settings,
        lineage: Lineage,
        watcher: Watcher,
    ) -> None:
        self.fabric = _fabric(settings)
        self.ranks = Ranks(self.fabric.global_rank, self.fabric.world_size, self.fabric.device)
        self.network = network.to(memory_format=torch.channels_last)
        self.images, self.preprocessing = data.images, data.preprocessing
        self.method, self.settings, self.lineage, self.watcher = method, settings, lineage, watcher
        self.teacher = self._frozen(lineage.parent) if lineage.parent is not None and method.needs.parent else None
        self.root = self._frozen(lineage.root) if lineage.root is not None and method.needs.root else None
        self.task = self._task()
        self.state = self._state()
        self._synchronise()
        self.kept_statistics = self._kept_statistics()
        optimizer = optimizer_of(self.network, self.state, settings)
        self.module, self.optimizer = self.fabric.setup(_compiled(self.network, settings), optimizer)
        self.compiled_teacher = self.teacher and _compiled(self.teacher, settings)
        self.compiled_root = self.root and _compiled(self.root, settings)
        self.average = moving_average(self.network, settings.ema) if settings.ema is not None else None
        self.validation = Validation(data.validation, data.preprocessing, self.ranks, self._reference(data.validation))
        self.inputs = inputs(self.images, self.preprocessing, settings, self.fabric.device)
        self.stopping = threading.Event()

    def train(self, directory: Path) -> TrainingResult:
        """Go on from the last checkpoint in a directory, to the end."""
        self.directory = directory
        self.resume()
        with (
            termination() as self.stopping,
            TrainingLog(self.directory, self.standing.history) if self.ranks.is_first else nullcontext() as log,
        ):
            while self.progress(0, 1) < 1:
                batches = self.batches()
                sums = self.one_epoch(batches)
                figures = self.validate(batches, sums)
                record = self.close_epoch(batches, sums, figures)
                if log is not None:
                    log.write(record)
        return self.finish()

    def resume(self) -> None:
        """Stand where the last checkpoint was written, or at the beginning."""
        kept = checkpoint.load(self.directory, self._modules(), self.optimizer)
        self.standing = Standing.kept(kept or {})
        self.clock = Clock(self.standing.seconds)

    def batches(self) -> list[NDArray[np.int64]]:
        """The batches of the next epoch, as far as the budget of steps goes."""
        settings, standing = self.settings, self.standing
        share = self.method.share_of_old_images()
        batches = batches_of(self.images, settings, standing.epoch, old_classes=self.task.old_classes, old_share=share)
        self.epochs = settings.epochs
        if settings.steps is not None:
            left = settings.steps - standing.steps
            self.epochs = standing.epoch + math.ceil(left / len(batches))
            batches = batches[:left]
        return batches

    def progress(self, step: int, steps: int) -> float:
        """Share of the run that is done after so many of the steps of the next epoch; in [0, 1]."""
        budget = self.settings.steps
        if budget is not None:
            return (self.standing.steps + step) / budget
        return (self.standing.epoch + step / steps) / self.settings.epochs

    def one_epoch(self, batches: list[NDArray[np.int64]]) -> Sums:
        """One pass over the batches that are still to come; returns what the terms came to in all of them."""
        standing, epoch = self.standing, self.standing.epoch
        if standing.step == 0:
            self.method.epoch_begins(self.state, self.task, self.progress(0, 1), lambda: self._outputs(self.network))
        self._learn_or_keep_statistics()
        sums, begin, done = Sums(standing.sums, self.fabric.device), standing.step, 0
        start = last_report = time.perf_counter()
        with device_trouble(self.settings, epoch), torch.random.fork_rng(devices=[]):
            for step, indices in enumerate(batches[begin:], begin):
                sums.add(self.one_step(indices, step, len(batches)))
                done += len(indices)
                now = time.perf_counter()
                due = now - last_report > REPORT_EVERY_SECONDS or step + 1 == len(batches)
                # Reading a loss waits for a GPU, so there it is done only when somebody looks.
                if due or self.fabric.device.type == "cpu":
                    means = {name: value / (step + 1) for name, value in sums.values().items()}
                    check_losses(means, epoch, step, self.rate)
                if due:
                    last_report = now
                    self._report(step + 1, len(batches), means, done / max(now - start, 1e-9))
                if step + 1 < len(batches):
                    self.pause(step + 1, sums)
            check_weights(self.network, epoch, self.rate)
        return sums

    def one_step(self, indices: NDArray[np.int64], step: int, steps: int) -> dict[str, Tensor]:
        """Learn from one batch, part by part; returns the terms of its loss."""
        progress, draws = self.progress(step, steps), self._draws(step)
        self._set_rate(progress)
        self.optimizer.zero_grad()
        terms: dict[str, Tensor] = {}
        for part in parts_of(indices, self.settings):
            # A part counts as many of the batch's images as it has, so that their mean is that of the batch.
            share = len(part) / len(indices)
            losses = {name: share * value for name, value in self._losses(part, draws, progress).items()}
            self.fabric.backward(torch.stack(list(losses.values())).sum())
            for name, value in losses.items():
                terms[name] = terms.get(name, 0) + value.detach()
        self.ranks.average_gradients(parameters_of(self.network, self.state))
        self._clip()
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        return terms

    def validate(self, batches: list[NDArray[np.int64]], sums: Sums) -> dict[str, float]:
        """Figures on the validation part after an epoch; empty where there is none."""
        try:
            return self.validation.figures(self.evaluated, self.stopping)
        except Stopped:
            self.pause(len(batches), sums)  # Which raises, now that the weights are kept.
            raise

    def close_epoch(self, batches: list[NDArray[np.int64]], sums: Sums, figures: dict[str, float]) -> dict[str, Any]:
        """Keep what was learned, as the best so far where it is; returns the record of the epoch."""
        standing, settings = self.standing, self.settings
        record = {
            "epoch": standing.epoch + 1,
            "size": settings.size(standing.epoch, self.preprocessing.size, self.epochs),
            "learning_rate": settings.rate(self.progress(len(batches), len(batches))),
            "losses": {name: value / len(batches) for name, value in sums.values().items()},
            **figures,
        }
        # Nothing is as good as the last epoch where nothing can be told, or nothing is asked for.
        standing.close_epoch(record, batches, -1.0 if settings.select == "last" or not figures else score(figures))
        self.keep(self.evaluated if standing.is_best else None)
        return record

    def keep(self, best: Network | None = None) -> None:
        """Write a checkpoint, and the best network so far where there is a better one."""
        self.standing.seconds = self.clock.seconds()
        if self.ranks.is_first:
            checkpoint.save(self.directory, self._modules(), self.optimizer, self.standing.state(), best=best)
        self.clock.kept()

    def pause(self, step: int, sums: Sums) -> None:
        """Keep what was learned in so many steps of the epoch, where it is time to, or where somebody asked to stop.

        Raises:
            StoppedError: somebody did.
            TrainingError: it is not finite.
        """
        stop = self.ranks.total(torch.tensor(float(self.stopping.is_set()))) > 0
        epoch = self.standing.epoch
        if stop or self.clock.since_kept() > CHECKPOINT_EVERY_SECONDS:
            known = sums.values()
            check_losses(known, epoch, step - 1, self.rate)
            check_weights(self.network, epoch, self.rate)
            self.standing.step, self.standing.sums = step, known
            self.keep()
        if stop:
            raise StoppedError(
                f"The process was asked to stop, in epoch {epoch + 1} after step {step}: the same command goes on from there."
            )

    def finish(self) -> TrainingResult:
        """Take the weights of the chosen epoch, averaged with the parent's where the method says so."""
        self.ranks.wait()
        standing = self.standing
        best = self.evaluated.state_dict() if standing.is_best else checkpoint.load_best(self.directory)
        self.network.load_state_dict(best)
        kept = standing.history[standing.best_epoch - 1]
        share = self.method.weight_share(carries_on=self.lineage.root is not None)
        if self.lineage.inherited and self.teacher is not None and share < 1:
            average_weights(self.network.embedder, self.teacher.embedder, share)
            kept = self.validation.figures(self.network)
        return TrainingResult(
            epochs=standing.epoch,
            best_epoch=standing.best_epoch,
            images_seen=standing.images_seen,
            seconds=standing.seconds,
            validation={name: kept[name] for name in FIGURES if name in kept},
            history=standing.history,
            device=str(self.fabric.device),
            precision=precision_of(self.settings),
        )

    @property
    def evaluated(self) -> Network:
        """Return what is validated and kept: the network, or the moving average of it."""
        return self.network if self.average is None else cast(Network, self.average.module)

    @property
    def rate(self) -> float:
        """The learning rate of new layers in the last step."""
        rate: float = self.optimizer.param_groups[0]["lr"]
        return rate

    def _frozen(self, network: Network) -> Network:
        moved: Network = network.to(self.fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return moved.eval().requires_grad_(False)

    def _task(self) -> Task:
        return Task(
            labels=torch.from_numpy(self.images.labels),
            dimension=self.network.embedder.dimension,
            classes=self.network.head.classes,
            head=self.network.head.kind,
            old_classes=0 if self.teacher is None else self.teacher.head.classes,
            parent=self.teacher,
            old=self._outputs(self.teacher, self._look) if self.teacher and self.method.needs.old_outputs else None,
            memory=self.lineage.memory,
            another_network=self.lineage.another_network,
        )

    def _state(self) -> nn.Module | None:
        state: nn.Module | None = self.method.begin(self.task)
        if state is None:
            return None
        moved: nn.Module = state.to(self.fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return moved

    def _synchronise(self) -> None:
        """Several ranks have one batch, and so have its statistics; what else a method keeps sees whole batches anyway."""
        if self.ranks.size > 1:
            for network in (self.network, *self._beside()):
                synchronise(network, self.ranks)

    def _beside(self) -> list[Network]:
        """Networks that the method trains beside the one that learns."""
        return [] if self.state is None else [module for module in self.state.modules() if isinstance(module, Network)]

    def _kept_statistics(self) -> list[_BatchNorm]:
        """Layers whose statistics stay as they were; a network beside that begins with new weights has none to keep."""
        if self.settings.normalisation == "batch":
            return []
        own, *beside = (
            [layer for layer in network.embedder.backbone.modules() if isinstance(layer, _BatchNorm)]
            for network in (self.network, *self._beside())
        )
        return own + [
            layer
            for layers in beside
            for layer in layers
            if layer.running_mean is not None and layer.running_mean.any()
        ]

    def _outputs(self, network: Network, on_pass: Callable[[int, int], None] | None = None) -> Outputs:
        return outputs_of(network, self.images, self.preprocessing, on_progress=on_pass, ranks=self.ranks)

    def _modules(self) -> dict[str, nn.Module | None]:
        """Return what a checkpoint holds, by name."""
        return {"network": self.network, "beside": self.state, "average": self.average}

    def _reference(self, validation: ImageSet | FeatureSet | None) -> Reference | None:
        """Return what the parent knew, where the epoch is chosen by what is kept too and the parent remembers any of it."""
        parent, memory = self.lineage.parent, self.lineage.memory
        if self.settings.select != "balanced" or parent is None or validation is None or not memory.means:
            return None
        if parent.embedder.dimension != self.network.embedder.dimension or len(validation) == 0:
            return None
        return Reference.of(self._frozen(parent), memory, validation, self.preprocessing, self.ranks)

    def _learn_or_keep_statistics(self) -> None:
        self.module.train()
        if self.state is not None:
            self.state.train()
        for layer in self.kept_statistics:
            layer.eval()

    def _set_rate(self, progress: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate(progress) * group["share"]

    def _draws(self, step: int) -> torch.Generator:
        """The generator of augmentation; every draw comes from the numbers of epoch and step."""
        seed, epoch = self.settings.data_seed, self.standing.epoch
        # Layers that draw for themselves (dropout, stochastic depth) use the global state. To seed devices that are not open
        # takes torch longer than a small step: it notes for each of them who has called.
        seed_global = torch.default_generator.manual_seed if self.fabric.device.type == "cpu" else torch.manual_seed
        seed_global(_seed(seed, epoch, step, 1 + self.ranks.rank))
        return torch.Generator().manual_seed(_seed(seed, epoch, step))

    def _losses(self, indices: NDArray[np.int64], draws: torch.Generator, progress: float) -> dict[str, Tensor]:
        """The terms of the method's loss on some of the images."""
        size = self.settings.size(self.standing.epoch, self.preprocessing.size, self.epochs)
        batch = self.inputs(indices, draws, size, self.ranks.share(len(indices)))
        labels = torch.from_numpy(self.images.labels[indices]).to(self.fabric.device)

        def whole(outputs: Outputs) -> Outputs:
            return Outputs(*(self.ranks.whole(output, len(labels)) for output in outputs))

        def through(other: Network) -> Outputs:
            with self.fabric.autocast():
                return whole(Outputs(*(output.float() for output in other(batch))))

        teacher, root = self.compiled_teacher, self.compiled_root
        with torch.no_grad():
            old = through(teacher) if teacher is not None and self.method.needs.old_batches else None
            oldest = through(root) if root is not None else None
        return self.method.losses(
            Step(
                labels=labels,
                new=whole(self.module(batch)),
                old=old,
                root=oldest,
                head=self.network.head,
                old_head=teacher.head if teacher is not None and teacher.head.classes else None,
                state=self.state,
                run=through,
                progress=progress,
                label_smoothing=self.settings.label_smoothing,
            )
        )

    def _clip(self) -> None:
        largest = self.settings.clip_norm
        if largest is not None:
            self.fabric.clip_gradients(self.module, self.optimizer, max_norm=largest, error_if_nonfinite=False)
            if self.state is not None:
                nn.utils.clip_grad_norm_(list(self.state.parameters()), largest)

    def _look(self, done: int, total: int) -> None:
        self.watcher.counted(f"looking with {self.lineage.name}", done, total)

    def _report(self, step: int, steps: int, losses: dict[str, float], images_per_second: float) -> None:
        if self.ranks.is_first:
            standing, epochs = self.standing, self.epochs
            self.watcher.trained(
                Progress(standing.epoch, epochs, step, steps, losses, images_per_second, standing.recall)
            )


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


def _compiled(network: Network, settings: Settings) -> Network:
    """The network as the steps run it: it has the same weights and attributes, and others go on without the compiler."""
    return cast(Network, torch.compile(network)) if settings.compile else network


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint32)[0])
