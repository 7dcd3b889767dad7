"""Losses as plain functions on tensors; no state, no files, no devices."""

from evergallery.losses.classification import new_class_cross_entropy
from evergallery.losses.contrastive import contrastive_distillation
from evergallery.losses.distillation import logit_distillation
from evergallery.losses.triplet import batch_hard_triplet

__all__ = ["batch_hard_triplet", "contrastive_distillation", "logit_distillation", "new_class_cross_entropy"]
