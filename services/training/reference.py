"""`reference.json`: the features as they were lately, and how good the model was, for monitoring to compare with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.chassis.clock import from_us, rfc3339
from services.training.dataset import Dataset
from services.training.quality import Quality

_BINS = 10


def reference(rows: Dataset, holdout: Quality) -> dict[str, Any]:
    """`rows`: those that the histograms are of; `holdout`: the model's quality there."""
    return {
        "rows": len(rows),
        "from": rfc3339(from_us(int(rows.as_of_us[0]))),
        "to": rfc3339(from_us(int(rows.as_of_us[-1]))),
        "features": {name: _histogram(rows.values[:, at]) for at, name in enumerate(rows.features)},
        "holdout_rows": holdout.rows,
        "positive_rate": holdout.positive_rate,
        "log_loss": holdout.log_loss,
        "auc": holdout.auc,
    }


def _histogram(column: NDArray[np.float32]) -> dict[str, Any]:
    """A value v is in bin searchsorted(edges, v, side="right"): edges + 1 bins, the missing ones apart."""
    present = column[~np.isnan(column)].astype(np.float64)
    edges = bin_edges(present)
    counts = np.bincount(np.searchsorted(edges, present, side="right"), minlength=len(edges) + 1)
    missing = len(column) - len(present)
    return {
        "edges": edges.tolist(),
        "counts": counts.tolist(),
        "missing": missing,
        "missing_share": missing / len(column),
    }


def bin_edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Few different values: a bin for each, and one for what lies beyond. Else ten bins of about as many rows.

    A value that fills more than a bin has one of its own, else a shift from it to its neighbours would not show.
    """
    distinct = np.unique(values)
    if len(distinct) <= _BINS:
        return np.union1d(distinct, _next_float32(distinct[-1:]))
    inner = np.quantile(values, np.arange(1, _BINS) / _BINS, method="higher")
    repeated = inner[1:][np.diff(inner) == 0]
    return np.union1d(inner, _next_float32(repeated))


def _next_float32(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.nextafter(values.astype(np.float32), np.float32(np.inf)).astype(np.float64)
