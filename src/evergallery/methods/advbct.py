"""AdvBCT: boundary-aware backward-compatible representation via adversarial learning (Pan et al., CVPR 2023)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evergallery.losses import elastic_boundary, reverse_gradient
from evergallery.memory import class_means, largest_distances
from evergallery.methods.method import Method, Step, Task, classification_and_triplet
from evergallery.methods.needs import Needs
from evergallery.methods.values import Positive, Weight

HIDDEN = 100
STEEPNESS = 10.0


@dataclass(frozen=True)
class AdvBCT(Method["Adversary"]):
    """No discriminator tells new features from old ones, and new features stay inside an elastic boundary of their class.

    The discriminator is trained beside the network, which learns against it through a reversed gradient whose strength
    rises from 0 to 1, ``2 / (1 + exp(-10 p)) - 1``, while the weight of both falls from 1 to 0, ``1 - p``, with the
    progress p of the training. Old features, which the discriminator learns from, are constants.

    Changed: the elasticity begins at 0 rather than at random, and the weight falls from step to step rather than from
    epoch to epoch. Published beside a classification alone.

    Attributes:
        triplet_margin: in units of cosine similarity.
        adversarial_weight: of the discriminator's loss.
        boundary_weight: of the elastic boundary.
        threshold: the radius that boundaries may move towards.
    """

    name: ClassVar[str] = "advbct"
    needs: ClassVar[Needs] = Needs(old_batches=True, old_outputs=True, same_dimension=True, beside="discriminator")
    triplet_margin: float = 1.0
    adversarial_weight: Weight = 1.0
    boundary_weight: Weight = 1.0
    threshold: Positive = 1.0

    def begin(self, task: Task) -> "Adversary":
        """The discriminator, and old centres with their radii; a class of one image has none."""
        return Adversary(task.old_outputs.embeddings, task.labels, task.classes)

    def losses(self, step: Step["Adversary"]) -> dict[str, Tensor]:
        """Terms ``classification``, ``triplet``, ``adversary`` and ``boundary``."""
        state, p = step.state, step.progress
        new = state.discriminator(reverse_gradient(step.new.features, 2 / (1 + math.exp(-STEEPNESS * p)) - 1))
        old = state.discriminator(step.parent.features)
        zeros = torch.zeros_like(step.labels)
        return {
            **classification_and_triplet(step, self.triplet_margin),
            "adversary": self.adversarial_weight
            * (1 - p)
            * (F.cross_entropy(new, zeros) + F.cross_entropy(old, zeros + 1)),
            "boundary": self.boundary_weight
            * elastic_boundary(
                step.new.features,
                step.labels,
                state.centres,
                state.radii,
                state.elasticity,
                state.exists,
                self.threshold,
            ),
        }


class Adversary(nn.Module):
    """A discriminator of raw features (B, D), and boundaries of K classes whose elasticity is learned."""

    centres: Tensor
    radii: Tensor
    exists: Tensor

    def __init__(self, embeddings: Tensor, labels: Tensor, classes: int) -> None:
        super().__init__()
        centres = class_means(embeddings, labels, classes)
        self.register_buffer("centres", centres)
        self.register_buffer("radii", largest_distances(embeddings, labels, centres))
        self.register_buffer("exists", torch.bincount(labels, minlength=classes) > 1)
        self.elasticity = nn.Parameter(torch.zeros(classes))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # A run that is resumed begins anew.
            self.discriminator = nn.Sequential(
                nn.Linear(embeddings.shape[1], HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2)
            )
