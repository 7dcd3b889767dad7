"""The fidelity of virtual features to the real ones, for whoever still has the generation that they stand in for."""

from dataclasses import asdict, dataclass

from torch import Tensor

from evergallery.memory.drift import Weighting, virtual_features
from evergallery.memory.memory import ClassMeans
from evergallery.network import Outputs
from evergallery.retrieval.knn import Exclusion
from evergallery.retrieval.metrics import evaluate


@dataclass(frozen=True)
class Fidelity:
    """Virtual features beside real ones, and beside doing nothing: the later generation's own embeddings.

    Cosines are means over the images, in [-1, 1]. Recalls are recall@1 of the earlier generation's real queries, in
    [0, 1].
    """

    cosine: float
    """Cosine of each image's virtual feature with its real one."""
    cosine_untouched: float
    """Cosine of the later generation's embedding with the real feature."""
    recall_real: float
    """Recall in a gallery of real features: the earlier generation's self-test."""
    recall_virtual: float
    """Recall in a gallery of virtual features."""
    recall_untouched: float
    """Recall in a gallery of the later generation's embeddings."""

    def to_dict(self) -> dict[str, float]:
        """The figures as JSON values, rounded to six digits."""
        return {name: round(value, 6) for name, value in asdict(self).items()}


def fidelity(
    later: Outputs,
    real: Tensor,
    means: ClassMeans,
    labels: Tensor,
    weighting: Weighting = "clamped",
    exclusion: Exclusion | None = None,
) -> Fidelity:
    """Compare on N images, queries and gallery alike.

    Args:
        later: outputs of the generation that estimates.
        real: (N, D) unit embeddings of the earlier generation.
        means: of the earlier generation's classes, as the later one remembers them.
        labels: (N,).
        weighting: of the class means.
        exclusion: what each query must not find, itself for one.
    """
    virtual = virtual_features(later.features, later.embeddings, means.unit, means.drift, weighting)

    def recall(gallery: Tensor) -> float:
        return evaluate(real, labels, gallery, labels, ks=(1,), exclusion=exclusion).recall[1]

    return Fidelity(
        cosine=(virtual * real).sum(1).mean().item(),
        cosine_untouched=(later.embeddings * real).sum(1).mean().item(),
        recall_real=recall(real),
        recall_virtual=recall(virtual),
        recall_untouched=recall(later.embeddings),
    )
