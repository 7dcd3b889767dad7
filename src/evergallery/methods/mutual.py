"""Online deep metric learning via mutual distillation (Liu, Zhao and Zhao 2022, arXiv 2203.05201)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

from torch import Tensor, nn

from evergallery.losses import metric_loss, relation_distillation
from evergallery.memory import ClassMeans, Memory, TrainingOutputs, Weighting, virtual_features
from evergallery.methods.method import Beginning, Method, Role, Step, Task
from evergallery.methods.needs import Needs
from evergallery.methods.values import MetricLoss, Positive, Weight
from evergallery.network import Network, Outputs


@dataclass(frozen=True)
class Mutual(Method["SupportState"]):
    """Old and new knowledge with equal weight: the parent teaches relations, and so does a network without a past.

    A supporting network learns the new task beside the current one and is thrown away; the two teach each other. From
    the second update on, features of the generations before the parent are estimated from the parent's (virtual
    features): neither old images nor older generations are needed.

    The published paper could not be read beyond its abstract; the form is that of research code found for it. Inferred:
    drift accumulated from generation to generation, and prototypes without augmentation. Changed: weights of prototypes
    are clamped at zero (``weighting="inner"`` is the published one, whose sums may vanish).

    Attributes:
        loss: of both networks on the new images; see ``losses.metric_loss``. Published: hard-mining (BN-Inception),
            binomial (ResNet-50, ViT).
        classification_weight: of a cross-entropy beside it, on both networks; published: none.
        old_weight: of the parent's relations.
        virtual_weight: of each earlier generation's estimated relations.
        mutual_weight: μ; half of it goes each way.
        temperature: T of the relations.
        reference: whose relations are the reference distribution of the divergence from the past: the ``current``
            network's, as published, or the ``old`` one's, as is usual in distillation.
        supporting: what the supporting network begins with; published: pretrained weights.
        weighting: of images in the drift, and of prototypes in the virtual features.
        drift: ``chained`` from generation to generation, which needs the parent alone, or in ``one-jump`` from each
            earlier generation, for whoever kept them all; both were tried in the code that was found.
    """

    name: ClassVar[str] = "mutual"
    needs: ClassVar[Needs] = Needs(old_batches=True, earlier_means=True, beside="network")
    role: ClassVar[Role] = "central"
    adds_to: ClassVar[str | None] = "relation"
    loss: MetricLoss = "hard-mining"
    classification_weight: Weight = 0.0
    old_weight: Weight = 10.0
    virtual_weight: Weight = 10.0
    mutual_weight: Weight = 1.0
    temperature: Positive = 4.0
    reference: Literal["current", "old"] = "current"
    supporting: Beginning = "scratch"
    weighting: Weighting = "clamped"
    drift: Literal["chained", "one-jump"] = "chained"

    @property
    def second_beginning(self) -> Beginning:
        """``supporting``."""
        return self.supporting

    def begin(self, task: Task) -> "SupportState":
        """The supporting network, and the class means of the generations before the parent."""
        return SupportState(task.second_network(self.supporting), task.memory.earlier())

    def losses(self, step: Step["SupportState"]) -> dict[str, Tensor]:
        """Terms ``metric``, ``supporting metric``, ``old relations``, ``mutual relations``, ``virtual relations``."""
        new, old, supporting = step.new, step.parent, step.through(step.state.supporting)
        loss = metric_loss(self.loss)
        terms = {
            "metric": loss(new.features, step.labels),
            "supporting metric": loss(supporting.features, step.labels),
            "old relations": self.old_weight * self._from_the_past(new.embeddings, old.embeddings),
            "mutual relations": 0.5
            * self.mutual_weight
            * (
                relation_distillation(supporting.embeddings, new.embeddings, self.temperature)
                + relation_distillation(new.embeddings, supporting.embeddings, self.temperature)
            ),
        }
        earlier = step.state.earlier_means()
        if earlier:
            virtual = [
                virtual_features(old.features, old.embeddings, means.unit, means.drift, self.weighting)
                for means in earlier
            ]
            terms["virtual relations"] = self.virtual_weight * sum(
                (self._from_the_past(new.embeddings, means) for means in virtual), start=new.embeddings.new_zeros(())
            )
        if self.classification_weight:
            terms["classification"] = self.classification_weight * (
                step.classification() + step.classification(supporting.logits)
            )
        return terms

    def remember(
        self,
        name: str,
        parent: Memory,
        outputs: TrainingOutputs,
        ancestors: Callable[[], Mapping[str, tuple[ClassMeans, Outputs]]],
    ) -> Memory:
        """Class means moved along with the space, as ``weighting`` and ``drift`` say."""
        jumps = ancestors() if self.drift == "one-jump" else None
        return parent.after(name, outputs, self.weighting, jumps)

    def _from_the_past(self, current: Tensor, old: Tensor) -> Tensor:
        first, second = (current, old) if self.reference == "current" else (old, current)
        return relation_distillation(first, second, self.temperature)


class SupportState(nn.Module):
    """The state of mutual distillation beside the network: a peer, and class means of earlier generations."""

    def __init__(self, supporting: Network, earlier: list[ClassMeans]) -> None:
        super().__init__()
        self.supporting = supporting
        self.earlier = nn.ModuleList(_Means(means) for means in earlier)

    def earlier_means(self) -> "list[_Means]":
        """The class means of each generation before the parent, oldest first."""
        return cast("list[_Means]", list(self.earlier))


class _Means(nn.Module):
    """Buffers, so that they follow to the device and into the checkpoint."""

    unit: Tensor
    drift: Tensor

    def __init__(self, means: ClassMeans) -> None:
        super().__init__()
        self.register_buffer("unit", means.unit)
        self.register_buffer("drift", means.drift)
