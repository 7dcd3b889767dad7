"""What is computed on a GPU is what the processor computes, wherever searches, metrics and maps are asked for."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass, replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from another_device import ANOTHER, another_device
from evergallery import Workspace
from evergallery.adapters import Adapter, Direction, fit_mlp, fit_procrustes, ridge, selection
from evergallery.adapters.lambda_orthogonal import fit_lambda_orthogonal
from evergallery.adapters.selection import Fit, Selection, default_fits, microseconds_for_one, select_adapter
from evergallery.data.image_set import ImageSet
from evergallery.devices import computing
from evergallery.devices.choosing import MANY_PRODUCTS
from evergallery.devices.computing import computed, moved, on
from evergallery.devices.gpu import exact
from evergallery.errors import InputError
from evergallery.evaluation import Judgements, protocol
from evergallery.memory import Scatter
from evergallery.retrieval.calibrating import calibrate
from evergallery.retrieval.compatibility import neighbour_agreement
from evergallery.retrieval.knn import Exclusion, nearest
from evergallery.retrieval.metrics import evaluate
from evergallery.retrieval.refresh_curve import random_order, refresh_curve
from evergallery.retrieval.relevance import Relevance, evaluate_judged
from evergallery.upgrade.adapting import PASSES
from evergallery.upgrade.check import agreement, check_pair
from evergallery.upgrade.gate import Gate
from evergallery.upgrade.pairing import EmbeddedSpace, Pairing

CPU = torch.device("cpu")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Multiplications of what is computed, all of which goes to a second device."""
    found: list[float] = []

    def device_for_products(count: float) -> torch.device:
        found.append(count)
        return ANOTHER

    monkeypatch.setattr(computing, "device_for_products", device_for_products)
    with another_device():
        yield found


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)))


def labels(count: int, classes: int = 9, seed: int = 0) -> Tensor:
    return torch.randint(0, classes, (count,), generator=torch.Generator().manual_seed(seed))


def judgements(queries: int, items: int) -> Relevance:
    pairs = torch.arange(3 * queries)
    return Relevance(pairs % queries, (7 * pairs) % items, 1.0 + pairs % 3, queries, items)


def fits(direction: Direction) -> dict[str, Fit]:
    """The kinds for a direction, of which the small network learns for a moment."""
    return default_fits(direction, 24, 20) | {"mlp": partial(fit_mlp, epochs=2)}


SOURCE = unit(240, 24)
TARGET = F.normalize(SOURCE @ unit(24, 20, seed=1) + 0.1 * unit(240, 20, seed=2))
ITSELF = torch.where(torch.arange(40) < 20, torch.arange(40), -1)
CAMERAS = Exclusion(ITSELF, labels(40), labels(240, seed=1), labels(40, 3, seed=2), labels(240, 3, seed=3))
GRADED = judgements(40, 240)

WORK: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = {
    "nearest": (nearest, (SOURCE[:40], SOURCE, 9), {"exclusion": CAMERAS}),
    "metrics": (evaluate, (SOURCE[:40], labels(40), SOURCE, labels(240, seed=1)), {"exclusion": CAMERAS}),
    "all ranks": (evaluate, (SOURCE[:40], labels(40), SOURCE, labels(240, seed=1)), {"full_ranking": True}),
    "judged": (evaluate_judged, (SOURCE[:40], SOURCE, GRADED), {"exclusion": Exclusion(ITSELF)}),
    "scale": (calibrate, (SOURCE[:40], labels(40), SOURCE, labels(240, seed=1)), {"exclusion": CAMERAS}),
    "agreement": (neighbour_agreement, (SOURCE, F.normalize(SOURCE + 0.2 * unit(240, 24, seed=5))), {}),
    "curve": (
        refresh_curve,
        (SOURCE[:40], labels(40), SOURCE, SOURCE.flip(1), labels(240, seed=1)),
        {"order": random_order(240, 0)},
    ),
    "scatter": (Scatter.measured, (SOURCE, labels(240)), {}),
    "adapters for queries": (select_adapter, (SOURCE, TARGET, labels(240, seed=1)), {"fits": fits("query")}),
    "adapters for vectors": (select_adapter, (SOURCE, TARGET), {"direction": "gallery", "fits": fits("gallery")}),
    "near a rotation": (fit_lambda_orthogonal, (SOURCE, TARGET), {}),
}
"""What checks, metrics and adapters compute, with what they are given."""


def assert_same(there: Any, here: Any, tolerance: float) -> None:
    """Both are the same but for rounding: figures, rankings, and maps by what they do."""
    if isinstance(here, Adapter):
        torch.testing.assert_close(there(SOURCE), here(SOURCE), atol=tolerance, rtol=0)
    elif isinstance(here, Selection):
        assert there.name == here.name
        assert_same(there.adapter, here.adapter, tolerance)
        for trial, expected in zip(there.trials, here.trials, strict=True):
            assert_same(trial.worse.reciprocal_rank, expected.worse.reciprocal_rank, tolerance)
    elif isinstance(here, Tensor):
        assert there.device == CPU
        torch.testing.assert_close(there, here, atol=tolerance, rtol=0)
    elif isinstance(here, Mapping):
        assert there.keys() == here.keys()
        assert_same(list(there.values()), list(here.values()), tolerance)
    elif isinstance(here, (list, tuple)):
        assert len(there) == len(here)
        for a, b in zip(there, here, strict=True):
            assert_same(a, b, tolerance)
    elif is_dataclass(here):
        assert_same(vars(there), vars(here), tolerance)
    else:
        assert there == pytest.approx(here, abs=10 * tolerance)


@pytest.mark.parametrize("name", WORK)
def test_another_device_makes_what_the_processor_makes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ridge, "FACTORS", (0.01, 1.0))
    # Two of the folds, and no time to take.
    monkeypatch.setattr(selection, "ENOUGH_JUDGED", 96)
    monkeypatch.setattr(selection, "microseconds_for_one", partial(microseconds_for_one, calls=1))
    work, given, named = WORK[name]
    looked: list[torch.device] = []

    def watched(*there: Any, **kwargs: Any) -> Any:
        looked.append(there[0].device)
        return work(*there, **kwargs)

    with another_device() as device:
        made = on(device, watched, *given, **named)
    assert_same(made, work(*given, **named), 1e-6)
    assert looked == [device], "the device gave up, or was never asked"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", WORK)
def test_a_gpu_makes_what_the_processor_makes(name: str) -> None:
    work, given, named = WORK[name]
    gpu = torch.device("cuda")
    with exact(gpu):
        made = moved(work(*moved(given, gpu), **moved(named, gpu)), CPU)
    assert_same(made, work(*given, **named), 1e-5)


def test_exact_work_may_call_exact_work() -> None:
    """The switches are there without a GPU; with a lock that is taken once only, this thread would wait for itself."""

    def work() -> None:
        with exact(torch.device("cuda")), exact(torch.device("cuda")):
            allowed.append(torch.backends.cuda.matmul.allow_tf32)

    allowed: list[bool] = []
    before = torch.backends.cuda.matmul.allow_tf32
    thread = Thread(target=work, daemon=True)
    thread.start()
    thread.join(30)
    assert allowed == [False]
    assert torch.backends.cuda.matmul.allow_tf32 == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_equal_vectors_keep_their_order_on_a_gpu() -> None:
    gallery = unit(50, 64).repeat(40, 1)
    found = computed(MANY_PRODUCTS, nearest, unit(30, 64, seed=1), gallery, 80)
    for row in found.indices.tolist():
        for first in range(0, 80, 40):
            assert row[first : first + 40] == list(range(row[first], 2000, 50))


def test_only_large_work_goes_to_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computing, "device_for_products", {7e9: "cpu", 7e11: "meta"}.__getitem__)
    given = unit(3, 4)
    assert computed(7e9, lambda rows: rows, given) is given, "what stays here is not copied"
    with another_device():
        assert computed(7e11, lambda rows: rows.device.type, given) == "meta"


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("full"), RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling")]
)
def test_the_processor_computes_what_a_gpu_cannot(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    computing._say.cache_clear()

    def work(rows: Tensor) -> Tensor:
        if rows.device != CPU:
            raise error
        return rows.sum(1)

    rows = unit(5, 4)
    with another_device() as device:
        for _ in range(2):
            assert torch.equal(on(device, work, rows), rows.sum(1))
    (message,) = [record.getMessage() for record in caplog.records]
    assert "The processor computes what a GPU was to" in message


def test_wrong_input_is_refused_wherever_it_is_computed() -> None:
    with another_device() as device, pytest.raises(InputError, match="k is 0"):
        on(device, nearest, SOURCE, SOURCE, 0)


class NamedRows(NamedTuple):
    """A tuple with names."""

    rows: Tensor
    name: str


@dataclass(frozen=True)
class NestedTensors:
    """A dataclass with tensors within tuples and dicts."""

    pairs: tuple[NamedRows, ...]
    by_name: dict[str, Tensor | None]


def test_whatever_holds_tensors_goes_there_and_comes_back() -> None:
    rows = unit(3, 4)
    held = NestedTensors((NamedRows(rows, "a"), NamedRows(rows + 1, "b")), {"x": rows, "y": None})
    with another_device() as device:
        there = moved(held, device)
        assert {there.pairs[0].rows.device, there.by_name["x"].device} == {device}
        back = moved(there, CPU)
    assert_same(vars(back), vars(held), 0)


@pytest.mark.parametrize("judged", [False, True])
def test_a_check_is_the_same_on_another_device(asked: list[float], judged: bool) -> None:
    names = tuple(f"c{n}" for n in range(6))
    images = ImageSet.from_arrays(
        np.random.default_rng(0).integers(0, 256, (120, 4, 4, 3), dtype=np.uint8), np.arange(120) % 6, names
    )
    found = protocol(images)
    if judged:
        query = np.arange(120)
        found = replace(found, judgements=Judgements(query, (query + 6) % 120, (1 + query % 2).astype(np.float64)))
    old = EmbeddedSpace("v1", "1", unit(120, 16).numpy(), names[:3])
    new = EmbeddedSpace("v2", "2", F.normalize(unit(120, 16) + 0.3 * unit(120, 16, seed=4)).numpy(), names)
    through = {"a1": (unit(120, 16, seed=5).numpy(), old.embeddings)}

    def checked() -> Any:
        pair = check_pair(Pairing(found, new, old, Gate()), adapters=through)
        return pair.evidence.model_dump(exclude={"time"}), agreement(found, new, old), pair.negative, pair.positive

    there = checked()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(computing, "device_for_products", lambda _: "cpu")
        here = checked()
    searches = {120 * 120 * 16, 60 * 60 * 16} if not judged else {120 * 120 * 16, 120 * 60 * 16}
    assert searches < set(asked)
    assert_same(there, here, 1e-6)


def test_an_adapter_is_fitted_on_another_device_and_maps_here(asked: list[float], tmp_path: Path) -> None:
    ids, classes = np.arange(120).astype(str), (np.arange(120) % 8).astype(str)
    with Workspace.create(tmp_path / "shop") as shop:
        for name, vectors in (("v1", SOURCE[:120]), ("v2", TARGET[:120])):
            np.savez(tmp_path / name, embeddings=vectors.numpy(), ids=ids, labels=classes)
            shop.import_vectors(tmp_path / f"{name}.npz", refresh=name == "v2")
        made = shop.adapt("v2", "v1", "@gallery", kind="procrustes")
    assert asked == [PASSES * 120 * 24 * 20]
    expected = select_adapter(TARGET[:120], SOURCE[:120], labels(120), fits={"procrustes": fit_procrustes}).adapter
    torch.testing.assert_close(made.adapter.adapter()(TARGET[:9]), expected(TARGET[:9]), atol=1e-6, rtol=0)
