"""Fit, valid and hold-out by time: each part is later than the one before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.chassis.errors import Invalid
from services.training.dataset import Dataset


@dataclass(frozen=True, slots=True)
class Parts:
    """Trees grow on `fit`, their number and parameters are chosen on `valid`, nothing is chosen on `holdout`."""

    fit: Dataset
    valid: Dataset
    holdout: Dataset


def split(dataset: Dataset, valid_share: float, holdout_share: float) -> Parts:
    """Shares are of the rows; rows of one moment stay together, in the later part.

    Raises Invalid if a part would be empty.
    """
    rows = len(dataset)
    holdout = _start_of_moment(dataset, round(rows * (1 - holdout_share)))
    valid = _start_of_moment(dataset, round(rows * (1 - holdout_share - valid_share)))
    if not 0 < valid < holdout < rows:
        moments = len(np.unique(dataset.as_of_us))
        raise Invalid(
            f"as_of: {rows:,} rows at {moments:,} moments cannot be split into fit, valid ({valid_share:.0%}) and "
            f"hold-out ({holdout_share:.0%}) by time; widen the range"
        )
    return Parts(dataset.part(slice(0, valid)), dataset.part(slice(valid, holdout)), dataset.part(slice(holdout, rows)))


def _start_of_moment(dataset: Dataset, row: int) -> int:
    if not 0 <= row < len(dataset):
        return row
    return int(np.searchsorted(dataset.as_of_us, dataset.as_of_us[row], side="left"))
