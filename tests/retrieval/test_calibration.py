"""Scores to probabilities: against a reference fit, and what a calibration must never do."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from evergallery.errors import InputError
from evergallery.retrieval.calibrating import calibrate, fit_calibration
from evergallery.retrieval.calibration import Calibration
from evergallery.retrieval.knn import Exclusion


def drawn(slope: float, intercept: float, count: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    scores = torch.rand(count, generator=draw) * 1.2 - 0.2
    return scores, torch.rand(count, generator=draw) < torch.sigmoid(slope * scores + intercept)


def test_recovers_the_sigmoid_that_made_the_matches() -> None:
    found = fit_calibration(*drawn(12.0, -7.0))
    assert found is not None
    assert found.slope == pytest.approx(12.0, rel=0.05)
    assert found.intercept == pytest.approx(-7.0, rel=0.05)


def test_agrees_with_logistic_regression() -> None:
    scores, matches = drawn(20.0, -12.0)
    reference = LogisticRegression(C=np.inf).fit(scores[:, None].numpy(), matches.numpy())
    found = fit_calibration(scores, matches)
    assert found is not None
    # Platt's targets lie a little inside 0 and 1.
    assert found.slope == pytest.approx(reference.coef_[0, 0], rel=0.01)
    assert found.intercept == pytest.approx(reference.intercept_[0], rel=0.01)


def test_separable_scores_give_a_finite_sigmoid_that_rises() -> None:
    found = fit_calibration(torch.tensor([0.1, 0.2, 0.8, 0.9]), torch.tensor([False, False, True, True]))
    assert found is not None
    assert np.isfinite([found.slope, found.intercept]).all()
    # Platt's targets for two of each: 1/4 and 3/4 are all that so few examples justify.
    assert 0.1 < found.probability(0.1) < 0.3 < 0.7 < found.probability(0.9) < 0.9


@pytest.mark.parametrize("matches", [[True] * 3, [False] * 3, [True, False, False]])
def test_scores_that_tell_nothing_give_no_calibration(matches: list[bool]) -> None:
    assert fit_calibration(torch.tensor([0.1, 0.5, 0.9]), torch.tensor(matches)) is None


def test_score_and_probability_are_inverse_and_extremes_do_not_overflow() -> None:
    calibration = Calibration(23.5, -22.8)
    for probability in (0.01, 0.5, 0.99):
        assert calibration.probability(calibration.score_at(probability)) == pytest.approx(probability)
    steep = Calibration(1e6, 0.0)
    assert [steep.probability(-1.0), steep.probability(1.0)] == pytest.approx([0, 1])


def test_fits_what_a_search_shows_without_the_query_itself() -> None:
    draw = torch.Generator().manual_seed(0)
    centres = torch.nn.functional.normalize(torch.randn(10, 8, generator=draw), dim=1)
    labels = torch.arange(10).repeat(20)
    rows = torch.nn.functional.normalize(centres[labels] + 0.9 * torch.randn(200, 8, generator=draw), dim=1)
    itself = Exclusion(torch.arange(200))
    found = calibrate(rows, labels, rows, labels, exclusion=itself, depth=30)
    assert found is not None
    scores = (rows @ rows.T).fill_diagonal_(-2)
    best, where = scores.topk(30, dim=1)
    matches = labels[where] == labels[:, None]
    expected = fit_calibration(best.flatten(), matches.flatten())
    assert expected is not None
    assert found.slope == pytest.approx(expected.slope, rel=1e-6)
    # A reliable sigmoid: of results to which it gives p, the share p matches.
    p = torch.tensor([found.probability(float(score)) for score in best.flatten()])
    for group in p.argsort().chunk(4):
        assert float(matches.flatten()[group].double().mean()) == pytest.approx(float(p[group].mean()), abs=0.06)


def test_it_tells_a_query_whose_class_is_there_from_one_whose_class_is_not() -> None:
    draw = torch.Generator().manual_seed(0)
    centres = torch.nn.functional.normalize(torch.randn(24, 16, generator=draw), dim=1)
    labels = torch.arange(24).repeat(30)
    rows = torch.nn.functional.normalize(centres[labels] + 0.16 * torch.randn(720, 16, generator=draw), dim=1)
    # Those of the last four classes are no items, as pictures of something unknown.
    there, fitted = labels < 20, torch.arange(720) // 24 % 2 == 0
    gallery = there & fitted
    itself = Exclusion(torch.arange(int(gallery.sum())))
    found = calibrate(rows[gallery], labels[gallery], rows[gallery], labels[gallery], exclusion=itself)
    assert found is not None
    asked = ~fitted
    best = (rows[asked] @ rows[gallery].T).max(1).values
    present = torch.tensor([found.present(float(score)) for score in best])
    known = there[asked]
    assert float((present[known] > 0.5).double().mean()) > 0.85
    assert float((present[~known] < 0.5).double().mean()) > 0.85


def test_outcomes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="as many outcomes"):
        fit_calibration(torch.ones(3), torch.ones(2, dtype=torch.bool))
