"""How good predictions were, once their labels are known: pure functions of two arrays.

`labels` are 0 or 1, `scores` the predicted probabilities of 1, both float64 of shape [n].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Array = npt.NDArray[np.float64]

_EPSILON = 1e-15
_CALIBRATION_BINS = 10


@dataclass(frozen=True, slots=True)
class Scored:
    """The quality of one group. None: it cannot be computed (no labels, or one class only)."""

    labels: int
    positive_rate: float | None = None
    mean_score: float | None = None
    auc: float | None = None
    auc_se: float | None = None
    log_loss: float | None = None
    log_loss_se: float | None = None
    brier: float | None = None
    calibration_error: float | None = None


def score(labels: Array, scores: Array) -> Scored:
    """Every measure of this module at once."""
    count = len(labels)
    if count == 0:
        return Scored(labels=0)
    losses = log_losses(labels, scores)
    area = auc(labels, scores)
    return Scored(
        labels=count,
        positive_rate=float(labels.mean()),
        mean_score=float(scores.mean()),
        auc=area,
        auc_se=None if area is None else auc_standard_error(area, int(labels.sum()), count - int(labels.sum())),
        log_loss=float(losses.mean()),
        log_loss_se=float(losses.std(ddof=1) / math.sqrt(count)) if count > 1 else None,
        brier=float(np.mean((scores - labels) ** 2)),
        calibration_error=calibration_error(labels, scores),
    )


def auc(labels: Array, scores: Array) -> float | None:
    """Area under the ROC curve; higher is better. None with one class only.

    The Mann-Whitney form with mid-ranks for ties: (R₁ - n₁(n₁+1)/2) / (n₁·n₀), R₁ the rank sum of the positives
    (Hanley & McNeil 1982, "The meaning and use of the area under a ROC curve").
    """
    positives = labels == 1
    n1 = int(positives.sum())
    n0 = len(labels) - n1
    if n1 == 0 or n0 == 0:
        return None
    rank_sum = float(rankdata(scores)[positives].sum())
    return (rank_sum - n1 * (n1 + 1) / 2) / (n1 * n0)


def auc_standard_error(area: float, positives: int, negatives: int) -> float:
    """Standard error of the area, by Hanley & McNeil 1982 with their exponential approximation.

    Q₁ = A/(2-A), Q₂ = 2A²/(1+A); var = (A(1-A) + (n₁-1)(Q₁-A²) + (n₀-1)(Q₂-A²)) / (n₁·n₀).
    """
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (positives - 1) * (q1 - area**2) + (negatives - 1) * (q2 - area**2)
    return math.sqrt(max(variance, 0.0) / (positives * negatives))


def log_losses(labels: Array, scores: Array) -> Array:
    """-ln of the probability given to what happened, for each row, in nats; lower is better. Clipped at 1e-15."""
    likely = np.where(labels == 1, scores, 1 - scores)
    losses: Array = -np.log(np.clip(likely, _EPSILON, 1.0))
    return losses


def calibration_error(labels: Array, scores: Array) -> float:
    """Expected calibration error over ten equal-width bins; 0 is best.

    Σ_b n_b/n · |mean label - mean score| (Naeini et al. 2015, "Obtaining well calibrated probabilities using
    Bayesian binning"). A score of 1 belongs to the last bin.
    """
    bins = np.minimum((scores * _CALIBRATION_BINS).astype(np.int64), _CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=labels - scores, minlength=_CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(labels))
