"""Processes that learn together, one for each device, on one machine or several: ``torchrun`` or Slurm starts them.

A batch is split over the ranks and their outputs are gathered with gradients, so that every rank computes the loss of the
whole batch. Methods know nothing of ranks, mining sees every image of the batch, and a step changes the weights as one process
with the whole batch would, up to rounding. Embeddings of many images are made in shares too; since no share is padded, no
figure depends on the number of ranks.
"""

import atexit
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evergallery.errors import InputError

if TYPE_CHECKING:
    from lightning_fabric.strategies.ddp import DDPStrategy

T = TypeVar("T")

PATIENCE = timedelta(hours=12)
"""The time that a rank waits for another: the first one may decode a large set while the rest have nothing to do."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that learn together; alone by default.

    Attributes:
        rank: of this process, from 0.
        size: how many there are.
        device: of this process.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """Return whether this process is the one that writes."""
        return self.rank == 0

    @property
    def is_alone_on_a_processor(self) -> bool:
        """Return whether no other process takes part, nor a GPU."""
        return self.size == 1 and self.device.type == "cpu"

    def share(self, count: int) -> slice:
        """This rank's part of ``count`` things in a row; parts differ by one at most, and may be empty."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def total(self, tensor: Tensor) -> Tensor:
        """The sum of all ranks' tensors, the same on each; its gradient is the sum of theirs."""
        if self.size == 1:
            return tensor
        # Its backward, unlike that of the plain collective, sums the gradients.
        from torch.distributed.nn.functional import all_reduce

        summed: Tensor = all_reduce(tensor.to(self.device)).to(tensor.device)
        return summed

    def whole(self, part: Tensor, count: int) -> Tensor:
        """All ranks' shares (n, …) in order: (count, …), with gradients."""
        if self.size == 1:
            return part
        mine = self.share(count)
        # Adding zeros is exact.
        rows = (mine.start, count - mine.stop)
        return self.total(F.pad(part, (*(0, 0) * (part.ndim - 1), *rows)))

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Set every gradient to its mean over the ranks.

        Each rank computed the whole loss, and ``total`` summed what all of them asked of its share: the mean is the gradient of
        one loss. ``DistributedDataParallel`` would do this while the backward pass is going on, but it expects every parameter
        to be reached through the module's outputs in every step; methods read a head directly, or not at all.
        """
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.size == 1 or not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(flat)
        flat /= self.size
        means = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))

    def agreed(self, value: T) -> T:
        """The first rank's value."""
        if self.size == 1:
            return value
        held = [value]
        torch.distributed.broadcast_object_list(held, src=0, device=self.device)
        return held[0]

    def wait(self) -> None:
        """Wait until every rank has come here."""
        self.total(torch.zeros(1))

    def in_turn(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns; the first rank does it before the others, who then find what it has left on disk."""
        if not self.is_first:
            self.wait()
        done = work()
        if self.is_first:
            self.wait()
        return done


def launched() -> tuple[int, int, int] | None:
    """Rank, number of processes and of machines, as ``torchrun`` or ``srun`` has set them; ``None`` for one process alone."""
    for rank, size, here in (
        ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
        ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE"),
    ):
        # A shell within a Slurm job has the job's variables too, and is not one of its tasks.
        if rank in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
            processes = int(os.environ.get(size, "1"))
            if processes > 1:
                return int(os.environ[rank]), processes, max(1, processes // int(os.environ.get(here, processes)))
    return None


def together(device: torch.device) -> dict[str, Any]:
    """Return how a ``Fabric`` runs on this device: the arguments that say so, for one process or for those that were launched.

    Raises:
        InputError: one GPU is named for several processes.
    """
    world = launched()
    if world is None:
        return {"accelerator": device.type, "devices": 1 if device.type == "cpu" else [device.index or 0]}
    _, size, machines = world
    if device.index is not None:
        raise InputError(
            f"{size} processes learn together and one device, {device}, is named for all of them: leave the number out."
        )
    return {
        "accelerator": device.type,
        "devices": size // machines,
        "num_nodes": machines,
        "strategy": _strategy(),
    }


def join(device: torch.device) -> Ranks:
    """Meet the other processes, where there are any; may be called again."""
    if launched() is None:
        return Ranks(device=device)
    from lightning_fabric import Fabric

    fabric = Fabric(**together(device))
    if not torch.distributed.is_initialized():
        atexit.register(_part)
        if "TORCHELASTIC_RESTART_COUNT" in os.environ:
            _join_process_group(device)
    fabric.launch()
    return Ranks(fabric.global_rank, fabric.world_size, fabric.device)


def _join_process_group(device: torch.device) -> None:
    """Begin the process group under a name of this attempt.

    ``torchrun`` keeps its store over a restart: under one name a rank may find where another listened before it was killed.
    """
    from torch import distributed
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store, _, _ = next(rendezvous("env://", rank, size, timeout=PATIENCE))
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=PrefixStore(f"attempt-{os.environ['TORCHELASTIC_RESTART_COUNT']}", store),
        rank=rank,
        world_size=size,
        timeout=PATIENCE,
        device_id=torch.device("cuda", int(os.environ["LOCAL_RANK"])) if device.type == "cuda" else None,
    )


def _part() -> None:
    """Leave the process group in good order: a process that ends with its threads still waiting may abort."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _strategy() -> "DDPStrategy":
    from lightning_fabric.strategies.ddp import DDPStrategy

    class WholeBatchStrategy(DDPStrategy):
        """Fabric's processes and collectives; gradients are averaged by ``Ranks``, not by a wrapper."""

        def setup_module(self, module: nn.Module) -> nn.Module:  # type: ignore[override]
            return module

    return WholeBatchStrategy(timeout=PATIENCE)
