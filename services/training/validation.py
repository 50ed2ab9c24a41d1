"""Whether a training set can be used: what is wrong is said so that a person can act on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.chassis.errors import Invalid
from services.training.dataset import Dataset, TrainingSet
from services.training.runs import RunRequest
from services.training.split import Parts

_NAMED = 5


def check_told(told: TrainingSet, features: Sequence[str]) -> None:
    """Raises Invalid if the set has no digest or other features than the feature service gives."""
    if not told.digest:
        raise Invalid(f"training set {told.uri} has no digest; no model could be traced back to its rows")
    if told.features == tuple(features):
        return
    lacking = [name for name in features if name not in told.features]
    beyond = [name for name in told.features if name not in features]
    if lacking or beyond:
        what = f"lacks {_names(lacking)}, has in addition {_names(beyond)}"
    else:
        what = "has them in another order"
    raise Invalid(f"training set {told.uri} differs from the feature service: it {what}; build it again")


def check_dataset(dataset: Dataset, told: TrainingSet, request: RunRequest, min_rows: int) -> None:
    """Raises Invalid that names the range, the column and how many rows are wrong."""
    where = f"{request.begin:%Y-%m-%d %H:%M} to {request.end:%Y-%m-%d %H:%M} (UTC)"
    if len(dataset) != told.rows:
        raise Invalid(f"training set {told.uri} has {len(dataset):,} rows, the features service said {told.rows:,}")
    if len(dataset) < min_rows:
        count = f"only {len(dataset):,} rows" if len(dataset) else "no rows"
        unlabelled = f"{told.unlabelled_rows:,} more have no label yet"
        raise Invalid(f"{count} with a label from {where}, at least {min_rows:,} are needed ({unlabelled}); widen it")
    wrong = int(np.count_nonzero(~np.isin(dataset.labels, (0, 1))))
    if wrong:
        raise Invalid(f"label: {wrong:,} of {len(dataset):,} rows are neither 0 nor 1 (or have none)")
    if dataset.labels.min() == dataset.labels.max():
        raise Invalid(f"label: all {len(dataset):,} rows from {where} have the label {dataset.labels[0]:.0f}; widen it")
    infinite = np.isinf(dataset.values).sum(axis=0)
    if infinite.any():
        at = int(infinite.argmax())
        raise Invalid(f"{dataset.features[at]}: {infinite[at]:,} of {len(dataset):,} values are infinite")
    if np.any(np.diff(dataset.as_of_us) < 0):
        raise Invalid(f"training set {told.uri} is not in the order of as_of; a split by time needs it")


def check_parts(parts: Parts) -> None:
    """Raises Invalid if one of the parts has labels of one class only."""
    for name, part in (("fit", parts.fit), ("valid", parts.valid), ("hold-out", parts.holdout)):
        if part.labels.min() == part.labels.max():
            what = f"all {len(part):,} rows of the {name} part have the label {part.labels[0]:.0f}"
            raise Invalid(f"label: {what}; a wider range has both")


def without_values(dataset: Dataset) -> list[str]:
    """The features that are missing in every row: no error, but nothing to learn from."""
    return [name for at, name in enumerate(dataset.features) if np.isnan(dataset.values[:, at]).all()]


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (", ".join(names[:_NAMED]) or "nothing") + more
