"""Laws that hold for every method, and what each of them is for."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from conftest import coloured_images
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.errors import InputError
from evergallery.memory import ClassMeans, Memory
from evergallery.methods import CSD, METHODS, Beginning, Method, Mutual, Needs, Step, Task
from evergallery.network import Architecture, Embedder, Head, Network, Outputs
from evergallery.training import Lineage, Progress, Settings, TrainingData, TrainingResult, train
from evergallery.watching import TrainingListener
from evergallery.workspace import Workspace

PREPROCESSING = Preprocessing(size=16)
Quick = Callable[..., Settings]
EVERY_METHOD = pytest.mark.parametrize("method", [method() for method in METHODS.values()], ids=list(METHODS))
OLD, ALL = 6, 12
"""Classes of the parent, and of both."""
WIDTH = 8
"""Of random outputs: a simplex of this width has corners for all of their eight classes."""


def a_network(classes: int, method: Method, seed: int = 1, width: int | None = None) -> Network:
    architecture = Architecture(backbone="resnet8", dimension=width, neck="linear" if width else "none")
    embedder = Embedder(architecture, seed=seed)
    return Network(embedder, Head(embedder.dimension, 0, method.needs.head or "cosine").grow(classes, seed))


def new_images(each: int = 12) -> ImageSet:
    """Six classes that follow the parent's six."""
    images = coloured_images(classes=ALL - OLD, each=each, first=OLD)
    return replace(images, labels=images.labels + OLD, classes=("",) * OLD + images.classes)


def old_and_new_images() -> ImageSet:
    return coloured_images(classes=ALL, each=6)


def some_memory(width: int) -> Memory:
    """Of a grandparent with three classes and a parent with three."""
    generator = torch.Generator().manual_seed(5)
    means = {}
    for name, first in (("v1", 0), ("v2", 3)):
        raw, drift = torch.randn(2, 3, width, generator=generator).unbind()
        means[name] = ClassMeans(torch.arange(first, first + 3), raw, F.normalize(raw), drift)
    return Memory(means)


def learn(
    method: Method, images: ImageSet, settings: Settings, directory: Path, **arguments: Any
) -> tuple[Network, Network, TrainingResult]:
    """The network, its parent, and what the run did."""
    directory.mkdir(parents=True, exist_ok=True)
    width = arguments.pop("width", None)
    parent = a_network(OLD, method).eval()
    network = a_network(ALL, method, width=width)
    if width is None and method.needs.parent_weights:
        network.embedder.load_state_dict(parent.embedder.state_dict())

    def another(beginning: Beginning) -> Network:
        made = a_network(ALL, method, seed=2)
        if beginning == "parent":
            made.embedder.load_state_dict(parent.embedder.state_dict())
        return made

    trained = train(
        network,
        method,
        TrainingData(images, images, PREPROCESSING),
        settings,
        directory,
        lineage=Lineage(parent, memory=some_memory(parent.embedder.dimension), another_network=another),
        watcher=TrainingListener(arguments.pop("on_progress", None)),
        **arguments,
    )
    return network, parent, trained


def weights(network: Network) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace with one generation, of six classes and 64 dimensions."""
    settings = Settings(epochs=1, batch_size=16, precision="float32", device="cpu")
    with Workspace.create(tmp_path_factory.mktemp("laws") / "shop", backbone="resnet8", size=16) as shop:
        shop.learn(coloured_images(OLD, each=4), settings=settings)
        yield shop


class Stop(Exception):
    pass


def stop_in(epoch: int) -> Callable[[Progress], None]:
    def stop(progress: Progress) -> None:
        if progress.epoch >= epoch:
            raise Stop

    return stop


def a_step(
    method: Method, labels: Tensor, dtype: torch.dtype = torch.float32, width: int = WIDTH
) -> tuple[Step, Tensor, Tensor]:
    """A step of random outputs with all that the method needs, the new features (B, width) and the parent's (B, WIDTH).

    Eight classes, four of them old. The new features get a gradient.
    """
    generator = torch.Generator().manual_seed(0)
    new = torch.randn(len(labels), width, generator=generator, dtype=dtype).requires_grad_()
    old = torch.randn(len(labels), WIDTH, generator=generator, dtype=dtype)
    kind = method.needs.head or "cosine"
    old_head = Head(WIDTH, 0, kind).grow(4, 0).to(dtype).requires_grad_(False)
    head = Head(width, 0, kind).grow(8, 1).to(dtype)
    parent = Network(fixed(old), old_head)
    other = torch.randn(len(labels), width, generator=generator, dtype=dtype).requires_grad_()
    root = torch.randn(len(labels), WIDTH, generator=generator, dtype=dtype)
    task = Task(
        labels=labels,
        dimension=width,
        classes=8,
        head=kind,
        old_classes=4,
        parent=parent,
        old=_outputs(old, old_head),
        memory=some_memory(WIDTH),
        another_network=lambda _: Network(fixed(other), Head(width, 0).grow(8, 3).to(dtype)),
    )
    torch.manual_seed(0)
    state = method.begin(task)
    step = Step(
        labels,
        _outputs(new, head),
        _outputs(old, old_head) if method.needs.old_batches else None,
        head=head,
        old_head=old_head,
        state=None if state is None else state.to(dtype),
        root=_outputs(root, old_head) if method.needs.root else None,
        run=lambda network: _outputs(network.embedder(labels), network.head),
        progress=0.5,
    )
    return step, new, old


def fixed(features: Tensor) -> Embedder:
    """An embedder whose features are given."""
    return cast(Embedder, _Fixed(features))


class _Fixed(torch.nn.Module):
    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.features = features

    def forward(self, _: Tensor) -> Tensor:
        return self.features


def _outputs(features: Tensor, head: Head) -> Outputs:
    return Outputs(features, F.normalize(features), head(features))


@pytest.mark.parametrize("known", [True, False])
def test_a_network_beside_keeps_the_statistics_that_it_has(
    known: bool, quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Tensor] = []
    begin = Mutual.begin

    def beginning(self: Mutual, task: Task) -> Any:
        state = begin(self, task)
        for layer in state.supporting.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                assert layer.running_mean is not None
                layer.running_mean.fill_(0.1 if known else 0)
                made.append(layer.running_mean)
        return state

    monkeypatch.setattr(Mutual, "begin", beginning)
    learn(Mutual(), new_images(), quick(normalisation="fixed", epochs=1), tmp_path)
    assert made
    assert all((one == 0.1).all() for one in made) if known else all(one.any() for one in made)


@EVERY_METHOD
class TestEveryMethod:
    def test_label_smoothing_is_of_the_classification_alone(self, method: Method) -> None:
        step, _, _ = a_step(method, torch.tensor([4, 5, 6, 7] * 3))
        plain, smoothed = (method.losses(replace(step, label_smoothing=one)) for one in (0.0, 0.3))
        changed = {name for name in plain if not torch.isclose(plain[name], smoothed[name])}
        # Dual-Tuning has its own.
        assert changed == (set() if method.name == "dual-tuning" else {"classification"} & set(plain))
        if changed:
            wanted = F.cross_entropy(step.new.logits, step.labels, label_smoothing=0.3)
            assert torch.allclose(smoothed["classification"], wanted)

    def test_learns_and_leaves_the_parent_alone(self, method: Method, quick: Quick, tmp_path: Path) -> None:
        images = old_and_new_images() if method.needs.old_images else new_images(8)
        settings = quick(learning_rate=4e-3, select="last")
        before = weights(a_network(OLD, method))
        network, parent, trained = learn(method, images, settings, tmp_path)
        assert equal(before, weights(parent)), "the parent, batch statistics included, is bit for bit as it was"
        assert not equal(weights(a_network(ALL, method)), weights(network))
        first, last = trained.history[0], trained.history[-1]
        assert sum(last["losses"].values()) < sum(first["losses"].values())
        assert last["recall@1"] > 0.6

    def test_interrupted_run_ends_with_the_same_weights(self, method: Method, quick: Quick, tmp_path: Path) -> None:
        settings = quick(epochs=2, select="last")
        torch.manual_seed(0)
        whole, _, _ = learn(method, new_images(4), settings, tmp_path / "whole")
        torch.manual_seed(1)  # The global state must not matter.
        with pytest.raises(Stop):
            learn(method, new_images(4), settings, tmp_path / "parts", on_progress=stop_in(1))
        resumed, _, _ = learn(method, new_images(4), settings, tmp_path / "parts")
        assert equal(weights(whole), weights(resumed))

    def test_bf16_trains(self, method: Method, quick: Quick, tmp_path: Path) -> None:
        _, _, trained = learn(method, new_images(4), quick(epochs=1, precision="bf16"), tmp_path)
        assert trained.precision == "bf16"

    def test_changes_the_dimension_or_says_that_it_cannot(self, method: Method, quick: Quick, shop: Workspace) -> None:
        old = coloured_images(OLD, each=4) if method.needs.old_images else None
        arguments: dict[str, Any] = {
            "method": method,
            "parent": "v1",
            "old_data": old,
            "dim": 48,
            "settings": quick(epochs=1),
        }
        if method.needs.same_dimension:
            with pytest.raises(InputError, match="have 64 dimensions and not 48"):
                shop.learn(coloured_images(OLD, each=4, first=OLD), **arguments)
        else:
            assert shop.learn(coloured_images(OLD, each=4, first=OLD), **arguments).card.dimension == 48

    @pytest.mark.parametrize(
        "labels", [[5] * 8, [4, 5] * 4, list(range(8)), [0, 1, 2, 3] * 2],
        ids=["one class", "pairs", "no positives", "old classes only"],
    )  # fmt: skip
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_losses_are_finite_and_reach_the_new_network(
        self, method: Method, labels: list[int], dtype: torch.dtype
    ) -> None:
        step, new, _ = a_step(method, torch.tensor(labels), dtype)
        losses = method.losses(step)
        assert losses
        assert all(torch.isfinite(value) and value.ndim == 0 for value in losses.values()), losses
        torch.stack([value.float() for value in losses.values()]).sum().backward()
        assert new.grad is not None
        assert torch.isfinite(new.grad).all()
        assert new.grad.abs().sum() > 0

    def test_losses_do_not_depend_on_the_order_of_the_batch(self, method: Method) -> None:
        labels = torch.tensor([4, 4, 5, 5, 6, 6, 7, 7])
        order = torch.tensor([3, 1, 7, 0, 2, 6, 5, 4])
        step, _, _ = a_step(method, labels, torch.float64)
        straight = method.losses(step)
        step, _, _ = a_step(method, labels, torch.float64)

        def mixed(outputs: Outputs) -> Outputs:
            return Outputs(*(output[order] for output in outputs))

        shuffled = replace(
            step,
            labels=labels[order],
            new=mixed(step.new),
            old=step.old and mixed(step.old),
            root=step.root and mixed(step.root),
            run=lambda network: mixed(step.through(network)),
        )
        for name, value in method.losses(shuffled).items():
            assert value.item() == pytest.approx(straight[name].item(), abs=1e-9), name


def that_need(need: Callable[[Needs], bool]) -> pytest.MarkDecorator:
    """The methods whose needs are such."""
    found = [method() for method in METHODS.values() if need(method.needs)]
    return pytest.mark.parametrize("method", found, ids=[method.name for method in found])


ANOTHER_WIDTH = pytest.mark.parametrize("width", [WIDTH - 3, WIDTH + 3], ids=["narrower", "wider"])


@ANOTHER_WIDTH
@that_need(lambda needs: not needs.same_dimension)
def test_losses_of_another_dimension_are_finite(method: Method, width: int) -> None:
    step, new, _ = a_step(method, torch.tensor([4, 4, 5, 5]), width=width)
    torch.stack(list(method.losses(step).values())).sum().backward()
    assert new.grad is not None
    assert torch.isfinite(new.grad).all()
    assert new.grad.abs().sum() > 0


@ANOTHER_WIDTH
@that_need(lambda needs: needs.same_dimension and needs.parent)
def test_what_compares_coordinates_has_no_losses_of_another_dimension(method: Method, width: int) -> None:
    """Else it need not ask for the same dimension."""
    with pytest.raises((RuntimeError, InputError), match=r"[Ss]ize|shape|simplex"):
        method.losses(a_step(method, torch.tensor([4, 4, 5, 5]), width=width)[0])


@pytest.mark.parametrize(
    ("method", "source"),
    [(method(), "old") for method in METHODS.values() if method.needs.old_batches]
    + [(method(), "root") for method in METHODS.values() if method.needs.root],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_what_a_method_needs_of_a_batch_changes_its_losses(method: Method, source: Literal["old", "root"]) -> None:
    step, _, _ = a_step(method, torch.tensor([0, 0, 4, 4, 5, 5]), torch.float64)
    needed = step.old if source == "old" else step.root
    assert needed is not None
    assert step.old_head is not None
    others = _outputs(1 + needed.features.flip(1), step.old_head)
    changed = replace(step, old=others) if source == "old" else replace(step, root=others)
    before, after = (sum(value.item() for value in method.losses(given).values()) for given in (step, changed))
    assert abs(after - before) > 1e-6, f"it asks for {source} and does not read it"


def test_csd_weights_are_really_applied() -> None:
    step, _, _ = a_step(CSD(), torch.tensor([4, 4, 5, 5]), torch.float64)
    plain, weighted = CSD().losses(step), CSD(logit_weight=3.0, contrastive_weight=0.5).losses(step)
    assert weighted["logit distillation"].item() == pytest.approx(3 * plain["logit distillation"].item())
    assert weighted["contrastive distillation"].item() == pytest.approx(0.5 * plain["contrastive distillation"].item())
    assert weighted["triplet"] == plain["triplet"]


@pytest.mark.parametrize(
    "method",
    [method() for method in METHODS.values() if method.needs.old_head != "needed"],
    ids=lambda method: method.name,
)
def test_parent_without_a_classifier(method: Method, quick: Quick, tmp_path: Path) -> None:
    images, network, parent = coloured_images(6, each=4), a_network(6, method), a_network(0, method).eval()
    trained = train(
        network,
        method,
        TrainingData(images, None, PREPROCESSING),
        quick(epochs=1),
        tmp_path,
        lineage=Lineage(parent, another_network=lambda _: a_network(6, method, seed=2)),
    )
    assert "new in old head" not in trained.history[0]["losses"]
    assert not equal(weights(a_network(6, method)), weights(network))
