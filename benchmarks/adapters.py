"""What an adapter costs a query: one vector mapped by each kind, beside one bare NumPy product of the same width.

Where an adapter has a score of its own, 100 candidates are scored for each query as well. A drift adapter is compared with each
of its pairs for every vector, so it is for stored vectors; its time is shown for one vector too, with so many pairs.
"""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from common import interleaved, record
from evergallery.adapters import ADAPTERS, Adapter, fit_linear
from evergallery.searching.routes import CANDIDATES

WIDTHS = (128, 512)
BARE = "bare NumPy product"


def pairs(count: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    """Unit rows (count, width) around centres, and the same turned, sheared and disturbed."""
    draw = np.random.default_rng(seed)
    source = draw.normal(size=(50, width))[np.arange(count) % 50] + draw.normal(size=(count, width))
    shear = np.linalg.qr(draw.normal(size=(width, width)))[0] * draw.uniform(0.7, 1.3, width)
    target = source @ shear + 0.3 * draw.normal(size=(count, width))
    old, new = (F.normalize(torch.from_numpy(rows.astype(np.float32))) for rows in (source, target))
    return old, new


def scored(adapter: Adapter, query: Tensor, candidates: Tensor) -> Tensor:
    """(1, N) scores of what an engine has found."""
    return adapter.query_side(query) @ adapter.stored_side(candidates).T


def repeated(call: Callable[[], object], calls: int) -> Callable[[], None]:
    """So many calls for one measurement, because one is too short for the clock."""

    def run() -> None:
        for _ in range(calls):
            call()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2_000, help="that the adapters are fitted to")
    parser.add_argument("--rank", type=int, default=32, help="of the linear adapter of low rank")
    parser.add_argument(
        "--calls", type=int, default=20, help="in one measurement, short enough to pass between other work"
    )
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch; NumPy takes OMP_NUM_THREADS")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = {}
    for width in WIDTHS:
        source, target = pairs(options.pairs, width, options.seed)
        fits: dict[str, Callable[[Tensor, Tensor], Adapter]] = {name: kind.fit for name, kind in ADAPTERS.items()}
        fits[f"linear, rank {options.rank}"] = partial(fit_linear, rank=options.rank)
        adapters = {name: fit(source, target) for name, fit in fits.items()}
        vector, row = source[:1], source[:1].numpy()
        matrix = np.random.default_rng(options.seed).normal(size=(width, width)).astype(np.float32)
        runs: dict[str, Callable[[], object]] = {BARE: partial(np.matmul, row, matrix)}
        runs |= {name: partial(adapter, vector) for name, adapter in adapters.items()}
        for name, adapter in adapters.items():
            if adapter.rescores:
                runs[f"{name}, {CANDIDATES} candidates scored"] = partial(scored, adapter, vector, target[:CANDIDATES])
        calls = {name: 1 if name == "drift" else options.calls for name in runs}
        seconds = interleaved({name: repeated(run, calls[name]) for name, run in runs.items()}, options.repeats)
        times = {
            name: {"median": 1e6 * found["median_s"] / calls[name], "minimum": 1e6 * found["min_s"] / calls[name]}
            for name, found in seconds.items()
        }
        result[f"{width} dimensions"] = {
            name: {
                "microseconds": round(found["median"], 2),
                "microseconds_minimum": round(found["minimum"], 2),
                "times_bare": round(found["median"] / times[BARE]["median"], 2),
                "times_bare_minimum": round(found["minimum"] / times[BARE]["minimum"], 2),
            }
            for name, found in times.items()
        }
    record("adapters", {"pairs": options.pairs, "calls": options.calls, "one_vector": result}, options.seed)


if __name__ == "__main__":
    main()
