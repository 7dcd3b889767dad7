"""Losses as plain functions on tensors; no state, no files, no devices."""

from evergallery.losses.centres import centre_triplet
from evergallery.losses.classification import new_class_cross_entropy
from evergallery.losses.contrastive import contrastive_distillation
from evergallery.losses.distillation import logit_distillation
from evergallery.losses.margin import arcface
from evergallery.losses.pairs import METRIC_LOSSES, binomial_deviance, hard_mining, metric_loss
from evergallery.losses.relation import relation_distillation
from evergallery.losses.triplet import batch_hard_triplet
from evergallery.losses.width import fit_width

__all__ = [
    "METRIC_LOSSES",
    "arcface",
    "batch_hard_triplet",
    "binomial_deviance",
    "centre_triplet",
    "contrastive_distillation",
    "fit_width",
    "hard_mining",
    "logit_distillation",
    "metric_loss",
    "new_class_cross_entropy",
    "relation_distillation",
]
