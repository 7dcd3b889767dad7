"""A small network around a linear map, where the two spaces differ by more than that."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evergallery.adapters.adapter import Adapter, check_pairs
from evergallery.adapters.procrustes import procrustes_rotation

HELD_OUT = 0.1
PATIENCE = 5


class ResidualWeights(NamedTuple):
    """The tensors of ``MLPAdapter``.

    Attributes:
        linear: (D', D), transposed as ``nn.Linear`` has it, and so are the others.
        hidden_weight: (H, D).
        hidden_bias: (H,).
        output_weight: (D', H).
        output_bias: (D',).
    """

    linear: Tensor
    hidden_weight: Tensor
    hidden_bias: Tensor
    output_weight: Tensor
    output_bias: Tensor


class MLPAdapter(Adapter):
    """``x A + GELU(x A_1 + a_1) A_2 + a_2``, of the tensors of ``ResidualWeights``."""

    kind = "mlp"
    linear: Tensor
    hidden_weight: Tensor
    hidden_bias: Tensor
    output_weight: Tensor
    output_bias: Tensor

    def __init__(
        self, linear: Tensor, hidden_weight: Tensor, hidden_bias: Tensor, output_weight: Tensor, output_bias: Tensor
    ) -> None:
        super().__init__(
            linear=linear,
            hidden_weight=hidden_weight,
            hidden_bias=hidden_bias,
            output_weight=output_weight,
            output_bias=output_bias,
        )

    @property
    def source_dimension(self) -> int:
        """D of the embeddings that the adapter maps."""
        return self.linear.shape[1]

    @property
    def dimension(self) -> int:
        """D' of the embeddings that the adapter gives."""
        return self.linear.shape[0]

    def map(self, embeddings: Tensor) -> Tensor:
        """Embeddings (N, D) to (N, D') of any length."""
        return residual_map(embeddings, ResidualWeights(**self.tensors()))


def residual_map(embeddings: Tensor, weights: ResidualWeights) -> Tensor:
    """Embeddings (N, D) to (N, D') of any length."""
    hidden = F.gelu(F.linear(embeddings, weights.hidden_weight, weights.hidden_bias))
    return F.linear(embeddings, weights.linear) + F.linear(hidden, weights.output_weight, weights.output_bias)


@torch.enable_grad()
def fit_mlp(
    source: Tensor,
    target: Tensor,
    *,
    hidden: int = 256,
    epochs: int = 60,
    batch_size: int = 512,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> MLPAdapter:
    """A residual MLP that maximises the cosine of pairs.

    It begins as the rotation that fits best, because its last layer begins at zero. A tenth of the pairs is held out and
    chooses the epoch; training stops when it has not improved for a while.

    Args:
        source: (N, D) unit rows.
        target: (N, D') unit rows of the same images.
        hidden: width of the hidden layer.
        epochs: at most.
        batch_size: of pairs.
        learning_rate: of AdamW.
        seed: of weights, order and the held-out part.

    Raises:
        InputError: not two finite embeddings of each image.
    """
    check_pairs(source, target)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(source), generator=generator)
    held_out, kept = order[: int(HELD_OUT * len(source))], order[int(HELD_OUT * len(source)) :]
    if len(held_out) == 0:
        held_out = kept
    weights = _initial_weights(procrustes_rotation(source[kept], target[kept]), hidden, seed)
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=1e-2)

    def distance(rows: Tensor) -> Tensor:
        mapped = F.normalize(residual_map(source[rows], weights))
        return (1 - (mapped * target[rows]).sum(1)).mean()

    best, best_distance, since = [weight.detach().clone() for weight in weights], float("inf"), 0
    # Once more than there are epochs: the last one is judged, too.
    for done in range(epochs + 1):
        with torch.no_grad():
            now = distance(held_out).item()
        since = 0 if now < best_distance else since + 1
        if since == 0:
            best, best_distance = [weight.detach().clone() for weight in weights], now
        if since > PATIENCE or done == epochs:
            break
        for rows in torch.split(kept[torch.randperm(len(kept), generator=generator)], batch_size):
            optimizer.zero_grad()
            loss = distance(rows)
            loss.backward()
            optimizer.step()
    return MLPAdapter(*best)


def _initial_weights(rotation: Tensor, hidden: int, seed: int) -> ResidualWeights:
    """The tensors of ``MLPAdapter``: it begins as the rotation."""
    width, out = rotation.shape
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        linear, inner, outer = nn.Linear(width, out, bias=False), nn.Linear(width, hidden), nn.Linear(hidden, out)
    with torch.no_grad():
        linear.weight.copy_(rotation.T)
        outer.weight.zero_()
        outer.bias.zero_()
    layers = nn.ModuleList([linear, inner, outer]).to(rotation)
    return ResidualWeights(*layers.parameters())
