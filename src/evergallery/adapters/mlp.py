"""A small network around a linear map, where the two spaces differ by more than that."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evergallery.adapters.adapter import Adapter, check_pairs
from evergallery.adapters.procrustes import procrustes_rotation

HELD_OUT = 0.1
PATIENCE = 5


class ResidualMap(nn.Module):
    """``x R + MLP(x)``: begins as the rotation that fits best, because the last layer begins at zero."""

    def __init__(self, rotation: Tensor, hidden: int) -> None:
        super().__init__()
        width, out = rotation.shape
        self.linear = nn.Linear(width, out, bias=False)
        self.residual = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, out))
        last = self.residual[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            self.linear.weight.copy_(rotation.T)
            last.weight.zero_()
            last.bias.zero_()

    def forward(self, embeddings: Tensor) -> Tensor:
        """(N, D) to unit rows (N, D')."""
        return F.normalize(self.linear(embeddings) + self.residual(embeddings))


def fit_mlp(
    new: Tensor,
    old: Tensor,
    *,
    hidden: int = 256,
    epochs: int = 60,
    batch_size: int = 512,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> Adapter:
    """New embeddings to the old space by a residual MLP that maximises the cosine of pairs.

    A tenth of the pairs is held out and chooses the epoch; training stops when it has not improved for a while.

    Args:
        new: (N, D) unit rows.
        old: (N, D') unit rows of the same images.
        hidden: width of the hidden layer.
        epochs: at most.
        batch_size: of pairs.
        learning_rate: of Adam.
        seed: of weights, order and the held-out part.

    Raises:
        InputError: not two embeddings of each image.
    """
    check_pairs(new, old)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(new), generator=generator)
    held_out, kept = order[: int(HELD_OUT * len(new))], order[int(HELD_OUT * len(new)) :]
    if len(held_out) == 0:
        held_out = kept
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ResidualMap(procrustes_rotation(new[kept], old[kept]), hidden)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=1e-2)

    def distance(rows: Tensor) -> Tensor:
        mapped: Tensor = model(new[rows])
        return (1 - (mapped * old[rows]).sum(1)).mean()

    best, best_distance, since = {name: t.clone() for name, t in model.state_dict().items()}, float("inf"), 0
    for _ in range(epochs):
        with torch.no_grad():
            now = distance(held_out).item()
        since = 0 if now < best_distance else since + 1
        if since == 0:
            best, best_distance = {name: t.clone() for name, t in model.state_dict().items()}, now
        elif since > PATIENCE:
            break
        for rows in torch.split(kept[torch.randperm(len(kept), generator=generator)], batch_size):
            optimizer.zero_grad()
            loss = distance(rows)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    model.load_state_dict(best)
    model.eval().requires_grad_(False)
    return model
