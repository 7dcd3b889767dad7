"""Losses as plain functions on tensors; no state, no files, no devices."""

from evergallery.losses.boundary import cosine_boundary, elastic_boundary
from evergallery.losses.centre_alignment import centre_alignment
from evergallery.losses.centres import centre_triplet
from evergallery.losses.classification import new_class_cross_entropy
from evergallery.losses.contrastive import contrastive_distillation
from evergallery.losses.distillation import logit_distillation
from evergallery.losses.features import FeatureDistance, feature_distillation, unit_mean_squared_error
from evergallery.losses.margin import arcface
from evergallery.losses.mmd import maximum_mean_discrepancy
from evergallery.losses.new_to_old import new_to_old_contrast, new_to_old_triplet
from evergallery.losses.pairs import METRIC_LOSSES, binomial_deviance, hard_mining, metric_loss
from evergallery.losses.relation import relation_distillation
from evergallery.losses.reversal import reverse_gradient
from evergallery.losses.triplet import batch_hard_triplet
from evergallery.losses.width import fit_width

__all__ = [
    "METRIC_LOSSES",
    "FeatureDistance",
    "arcface",
    "batch_hard_triplet",
    "binomial_deviance",
    "centre_alignment",
    "centre_triplet",
    "contrastive_distillation",
    "cosine_boundary",
    "elastic_boundary",
    "feature_distillation",
    "fit_width",
    "hard_mining",
    "logit_distillation",
    "maximum_mean_discrepancy",
    "metric_loss",
    "new_class_cross_entropy",
    "new_to_old_contrast",
    "new_to_old_triplet",
    "relation_distillation",
    "reverse_gradient",
    "unit_mean_squared_error",
]
