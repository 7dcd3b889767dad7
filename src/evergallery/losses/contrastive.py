"""Contrastive supervised distillation (Barletti et al., ICIAP 2021, arXiv 2205.05476)."""

import torch
from torch import Tensor


def contrastive_distillation(
    new: Tensor, old: Tensor, labels: Tensor, temperature: float = 0.07, *, teacher_only: bool = False
) -> Tensor:
    """Supervised contrast of each student embedding with the student's and the teacher's embeddings of the batch.

    With student embeddings ``u``, teacher embeddings ``v``, and for anchor ``u_i`` the candidates
    ``A(i) = {u_j : j ≠ i} ∪ {v_j}`` and positives ``P(i) = {a ∈ A(i) : same label}``, which always hold ``v_i``::

        L = mean_i  -1/|P(i)| Σ_{p ∈ P(i)} log( exp(<u_i, p>/τ) / Σ_{a ∈ A(i)} exp(<u_i, a>/τ) )

    The inner products with ``v`` anchor the student in the teacher's coordinates, which is what lets new queries
    search old vectors.

    Args:
        new: student embeddings (B, D), unit rows.
        old: teacher embeddings (B, D) of the same images, unit rows.
        labels: classes (B,).
        temperature: τ > 0.
        teacher_only: candidates are the teacher's embeddings alone: ``A(i) = {v_j}``.

    Returns:
        A scalar.
    """
    if teacher_only:
        log_probabilities = (new @ old.T / temperature).log_softmax(1)
        positives = labels[:, None] == labels[None]
        return -(log_probabilities.where(positives, 0).sum(1) / positives.sum(1)).mean()
    similarities = new @ torch.cat([new, old]).T / temperature  # (B, 2B)
    itself = torch.eye(len(new), 2 * len(new), dtype=torch.bool, device=new.device)
    log_probabilities = similarities - similarities.masked_fill(itself, -torch.inf).logsumexp(1, keepdim=True)
    positives = (labels[:, None] == labels.repeat(2)[None]) & ~itself
    return -(log_probabilities.where(positives, 0).sum(1) / positives.sum(1)).mean()
