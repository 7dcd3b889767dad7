"""Verification, identification and revisited mAP, each beside a brute force or scikit-learn."""

import statistics

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_curve

from evergallery.errors import InputError
from evergallery.retrieval.continual import advbct_compatibility, advbct_update
from evergallery.retrieval.knn import Exclusion
from evergallery.retrieval.metrics import evaluate
from evergallery.retrieval.revisited import Landmark, revisited_map
from evergallery.retrieval.verification import pair_accuracy, tar_at_far, templates, tpir_at_fpir


@pytest.mark.parametrize("seed", range(5))
def test_tar_at_far_is_the_roc_curve(seed: int) -> None:
    draw = np.random.default_rng(seed)
    same = draw.random(3000) < 0.4
    # Scores of two digits are often equal, which is where thresholds go wrong.
    scores = np.round(draw.normal(size=3000) + same, 2)
    false, true, _ = roc_curve(same, scores, drop_intermediate=False)
    for rate, found in tar_at_far(torch.tensor(scores), torch.tensor(same), (1e-3, 1e-2, 0.1, 0.5)).items():
        assert found == pytest.approx(true[false <= rate + 1e-12].max())


def test_a_rate_that_the_impostors_cannot_tell_is_refused() -> None:
    scores, same = torch.rand(200), torch.arange(200) < 100
    with pytest.raises(InputError, match="0.0001 cannot be told from 100 impostor pairs: it needs 10000"):
        tar_at_far(scores, same)
    with pytest.raises(InputError, match="0 impostor pairs"):
        tar_at_far(scores, torch.ones(200, dtype=torch.bool))


@pytest.mark.parametrize("seed", range(5))
def test_identification_beside_every_threshold(seed: int) -> None:
    draw = np.random.default_rng(seed)
    mates, others = np.round(draw.normal(size=150) + 1, 1), np.round(draw.normal(size=200), 1)
    hits = draw.random(150) < 0.8
    found = tpir_at_fpir(torch.tensor(mates), torch.tensor(others), torch.tensor(hits), (0.01, 0.1, 0.3))
    for rate, value in found.items():
        thresholds = np.concatenate([others, mates])
        allowed = [t for t in thresholds if (others > t).mean() <= rate + 1e-12]
        assert value == pytest.approx(max((hits & (mates > t)).mean() for t in allowed))


@pytest.mark.parametrize("seed", range(5))
def test_pair_accuracy_beside_every_threshold(seed: int) -> None:
    draw = np.random.default_rng(seed)
    same = draw.random(120) < 0.5
    scores = np.round(draw.normal(size=120) + 1.5 * same, 1)
    folds = np.arange(120) % 10
    wanted = []
    for fold in range(10):
        test = folds == fold
        candidates = [*np.unique(scores[~test]), np.inf]
        accuracy = [((scores[~test] >= t) == same[~test]).mean() for t in candidates]
        best = candidates[int(np.argmax(accuracy))]
        wanted.append(((scores[test] >= best) == same[test]).mean())
    assert pair_accuracy(*map(torch.tensor, (scores, same, folds))) == pytest.approx(np.mean(wanted))


def test_templates_are_means_of_unit_rows() -> None:
    rows = torch.nn.functional.normalize(torch.randn(7, 5))
    index = torch.tensor([0, 1, 0, 2, 2, 2, 1])
    found = templates(rows, index)
    for number in range(3):
        mean = rows[index == number].mean(0)
        assert torch.allclose(found[number], mean / mean.norm())
    with pytest.raises(InputError, match="Template 1 has no image"):
        templates(rows, torch.tensor([0, 0, 0, 2, 2, 2, 2]))


def trapezoid_ap(ranks: list[int], relevant: int) -> float:
    """As the published evaluation of revisited Oxford has it, hit by hit."""
    value = 0.0
    for hits, rank in enumerate(ranks):
        before = 1.0 if rank == 0 else hits / rank
        value += (before + (hits + 1) / (rank + 1)) / (2 * relevant)
    return value


@pytest.mark.parametrize(("difficulty", "relevant", "junk"), [
    ("easy", ["easy"], ["junk", "hard"]), ("medium", ["easy", "hard"], ["junk"]), ("hard", ["hard"], ["junk", "easy"]),
])  # fmt: skip
def test_revisited_map(difficulty: str, relevant: list[str], junk: list[str]) -> None:
    draw = np.random.default_rng(3)
    landmarks, rankings, wanted = [], [], []
    for query in range(6):
        lists = np.split(draw.permutation(40)[:18], [6, 12])
        landmark = Landmark(*(part.tolist() for part in lists))
        if query == 5:
            landmark = Landmark([], [], landmark.junk)
        ranking = draw.permutation(40)
        left = [i for i in ranking if not any(i in getattr(landmark, name) for name in junk)]
        right = [i for name in relevant for i in getattr(landmark, name)]
        landmarks.append(landmark)
        rankings.append(ranking)
        if right:
            wanted.append(trapezoid_ap([place for place, item in enumerate(left) if item in right], len(right)))
    assert len(wanted) == 5
    found = revisited_map(torch.tensor(np.array(rankings)), landmarks, difficulty)  # type: ignore[arg-type]
    assert found == pytest.approx(np.mean(wanted))


def test_reidentification_metrics_beside_brute_force() -> None:
    draw = np.random.default_rng(0)
    q, g = (torch.nn.functional.normalize(torch.tensor(draw.normal(size=(n, 6)))) for n in (30, 80))
    ql, gl = torch.tensor(draw.integers(0, 6, 30)), torch.tensor(draw.integers(0, 7, 80))
    qc, gc = torch.tensor(draw.integers(0, 3, 30)), torch.tensor(draw.integers(0, 3, 80))
    exclusion = Exclusion(None, ql, gl, qc, gc)
    found = evaluate(q, ql, g, gl, ks=(1, 5), exclusion=exclusion, full_ranking=True)
    maps, inps, firsts = [], [], []
    for i in range(30):
        order = [j for j in torch.argsort(-(g @ q[i]), stable=True).tolist()
                 if not (gl[j] == ql[i] and gc[j] == qc[i])]  # fmt: skip
        hits = [bool(gl[j] == ql[i]) for j in order]
        if not any(hits):
            continue
        ranks = [r + 1 for r, hit in enumerate(hits) if hit]
        maps.append(np.mean([(n + 1) / r for n, r in enumerate(ranks)]))
        inps.append(len(ranks) / ranks[-1])
        firsts.append(hits[0])
    assert found.values["mAP"] == pytest.approx(np.mean(maps))
    assert found.values["mINP"] == pytest.approx(np.mean(inps))
    assert found.recall[1] == pytest.approx(np.mean(firsts))
    assert found.to_dict()["mINP"] == found.values["mINP"]
    assert "mINP" not in evaluate(q, ql, g, gl, exclusion=exclusion).values


def test_the_composites_of_advbct_are_those_of_its_table() -> None:
    """R18 on more data: self and cross on revisited Paris and Oxford and GLDv2, of BCT and of the independent network."""
    old, best = (75.45, 49.15, 10.03), (81.15, 63.85, 16.48)
    bct_self, bct_cross = (80.58, 56.34, 14.61), (77.37, 49.66, 11.30)
    independent = (4.93, 1.20, 0.2)
    up = 100 * statistics.fmean(advbct_update(*pair) for pair in zip(bct_self, best, strict=True))
    comp, floor = (
        100 * statistics.fmean(advbct_compatibility(*three) or 0.0 for three in zip(cross, old, best, strict=True))
        for cross in (bct_cross, independent)
    )
    assert [up, floor] == pytest.approx([48.02, 7.19], abs=0.005)
    assert comp == pytest.approx(54.71, abs=0.01)
    assert advbct_compatibility(0.5, 0.6, 0.6) is None
