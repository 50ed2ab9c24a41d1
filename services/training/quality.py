"""How good probabilities were on labelled rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

_CALIBRATION_BINS = 10


@dataclass(frozen=True, slots=True)
class Quality:
    """Of `rows` rows. NaN: it cannot be computed. Lower is better, but for `auc`."""

    rows: int
    positive_rate: float
    auc: float
    log_loss: float
    brier: float
    calibration_error: float


def assess(labels: NDArray[np.float32], probabilities: NDArray[Any]) -> Quality:
    """`labels` 0 or 1 [N], `probabilities` of 1 [N]. One that is not a number makes all measures NaN."""
    truth, told = labels.astype(np.int64), probabilities.astype(np.float64)
    if not len(truth) or not np.isfinite(told).all():
        return Quality(len(truth), math.nan, math.nan, math.nan, math.nan, math.nan)
    both = 0 < truth.sum() < len(truth)
    return Quality(
        rows=len(truth),
        positive_rate=float(truth.mean()),
        auc=float(roc_auc_score(truth, told)) if both else math.nan,
        log_loss=float(log_loss(truth, told, labels=[0, 1])),
        brier=float(brier_score_loss(truth, told, pos_label=1)),
        calibration_error=calibration_error(truth, told),
    )


def calibration_error(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Expected calibration error over ten equal-width bins (Naeini et al. 2015)."""
    bins = np.minimum((probabilities * _CALIBRATION_BINS).astype(np.int64), _CALIBRATION_BINS - 1)
    told = np.bincount(bins, probabilities, _CALIBRATION_BINS)
    seen = np.bincount(bins, labels, _CALIBRATION_BINS)
    return float(np.abs(told - seen).sum() / len(labels))
