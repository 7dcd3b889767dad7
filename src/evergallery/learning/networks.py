"""The networks of a run: the one that learns, and those that it learns from."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evergallery.data.images import Preprocessing
from evergallery.generations.generation import Generation
from evergallery.learning.run import Run
from evergallery.memory import Memory
from evergallery.methods import Beginning
from evergallery.network import Architecture, Embedder, Head, Network
from evergallery.network.backbones import load_weights
from evergallery.network.stages import freeze_below_last_stage
from evergallery.watching import SILENT, Watcher


@dataclass(frozen=True)
class Networks:
    """The networks of a run, each with what images go through before it.

    Attributes:
        new: the one that learns.
        parent: the one that the new one learns from, see ``teacher_of``.
        root: the root's, where the method reads it.
        involved: all of them, the new one first.
    """

    new: Network
    parent: Network | None
    root: Network | None
    involved: tuple[tuple[Network, Preprocessing], ...]

    @classmethod
    def of(cls, run: Run, classes: int, watcher: Watcher) -> "Networks":
        """Build the networks as they are before training.

        Raises:
            InputError: weights that cannot be had, or are of another model.
        """
        new = start_network(run, classes, watcher=watcher)
        if run.settings.train == "last-stage":
            freeze_below_last_stage(new.embedder.backbone)
        involved, parent, root = [(new, run.preprocessing)], None, None
        if run.parent is not None:
            parent = teacher_of(run.parent, run)
            involved.append((parent, run.parent.preprocessing))
        if run.root is not None:
            root = run.root.network()
            involved.append((root, run.root.preprocessing))
        return cls(new, parent, root, tuple(involved))


def start_network(
    run: Run,
    classes: int,
    *,
    beginning_of_second: Beginning | None = None,
    watcher: Watcher = SILENT,
) -> Network:
    """A network before training: the parent's with a head that grew, or a new one.

    A parent whose head is of another kind gives its embedder only.

    Args:
        run: how it begins.
        classes: rows of the head.
        beginning_of_second: where the weights of a second network come from, which the method trains beside the run's own.
        watcher: hears of a host that is asked for weights.

    Raises:
        InputError: weights that cannot be had, or are of another model.
    """
    beginning, weights, seed = run.beginning, run.weights, weights_seed(run.settings.init_seed, run.number)
    if beginning_of_second is not None:
        # New weights of its own.
        beginning, weights, seed = beginning_of_second, run.supporting_weights or run.weights, seed + 1
    before = run.parent.network() if run.parent is not None else None
    if beginning == "parent":
        assert before is not None, "who begins with the parent's weights has a parent"
        network = with_neck(before, run.architecture)
        head = network.head if network.head.kind == run.head else Head(network.embedder.dimension, 0, run.head)
        return Network(network.embedder, head.grow(classes, seed))
    published = beginning == "pretrained" or (run.frozen and run.beginning == "pretrained")
    embedder = Embedder(run.architecture, pretrained=published and weights is None, seed=seed, watcher=watcher)
    if published and weights is not None:
        load_weights(embedder.backbone, weights)
    elif run.frozen and not published:
        assert before is not None, "a frozen backbone is a published one or the parent's"
        embedder = embedder.with_backbone(before.embedder.backbone)
    return Network(embedder, Head(embedder.dimension, 0, run.head).grow(classes, seed))


def another_network(run: Run, classes: int) -> Callable[[Beginning], Network]:
    """Makes a network like the one that learns, which begins elsewhere: for methods that train a second."""
    return lambda beginning: start_network(run, classes, beginning_of_second=beginning)


def weights_seed(init_seed: int, number: int) -> int:
    """The seed of what is new in the network of generation ``number``.

    Each generation has its own: where two began with the same weights, the one would find more in the other's vectors than
    networks with nothing in common do. The first generation's is ``init_seed`` itself.
    """
    return init_seed if number == 1 else int(np.random.SeedSequence([init_seed, number]).generate_state(1)[0])


def with_neck(network: Network, architecture: Architecture) -> Network:
    """A network under the architecture of one that goes on from it: with the identity for a neck where it had none."""
    if network.embedder.architecture == architecture:
        return network
    return Network(Embedder(architecture).with_backbone(network.embedder.backbone), network.head).eval()


def teacher_of(parent: Generation, run: Run) -> Network:
    """The parent as the run learns from it: what learns on where the run goes on from it.

    Another network cannot go on from the two parts of an expanded parent. It learns from the first, the root, with which its
    vectors will be compared.
    """
    if run.inherits:
        return with_neck(parent.network(), run.architecture)
    root = parent.root()
    return parent.network() if root is None else Network(root, Head(root.dimension, 0, run.head)).eval()


def memory_of(run: Run) -> Memory:
    """Return what the parent remembers in the space of ``teacher_of``."""
    if run.parent is None or (run.parent.is_expanded and not run.inherits):
        return Memory()
    return run.parent.memory()


def root_beside(run: Run) -> Embedder | None:
    """The network whose embeddings are served before those of the finished one, in one vector; ``None`` for these alone.

    What goes on from an expanded parent keeps its root, by whatever method: its vectors are compared with the parent's.
    """
    parent = run.parent
    if parent is None or not run.inherits or run.preprocessing != parent.preprocessing:
        return None
    if parent.is_expanded:
        return parent.root()
    return parent.network().embedder if run.method.expansion and not run.frozen else None
