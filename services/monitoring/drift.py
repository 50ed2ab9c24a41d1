"""How far a feature's values moved from those that the model was trained on: pure functions on histograms.

A histogram of a feature with e edges has e + 2 bins: a value v falls into bin searchsorted(edges, v, side="right")
(0 .. e), a missing one (NaN) into the last. A version's histograms lie one after the other in one int64 array.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from services.chassis.errors import Invalid

Counts = npt.NDArray[np.int64]

_SMOOTHING = 0.5
"""Added to each bin, so that an empty one has a finite logarithm (Jeffreys' prior)."""


@dataclass(frozen=True, slots=True)
class FeatureReference:
    """A feature as it was in training. `counts` has len(edges) + 2 bins, the missing ones last."""

    name: str
    edges: npt.NDArray[np.float64]
    counts: Counts


@dataclass(frozen=True, slots=True)
class Reference:
    """What a version was trained on, in the order of its vector. `log_loss` is of the hold-out, None if not told."""

    version: str
    features: tuple[FeatureReference, ...]
    log_loss: float | None

    @property
    def bins(self) -> int:
        """Length of all histograms together."""
        return sum(len(feature.counts) for feature in self.features)


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """One feature's drift; a higher `psi` is worse."""

    feature: str
    psi: float
    threshold: float
    missing_share: float
    rows: int

    @property
    def drifted(self) -> bool:
        """Whether it passed the threshold."""
        return self.psi > self.threshold


def parse_reference(version: str, feature_names: Sequence[str], document: Mapping[str, Any]) -> Reference:
    """Reads a `reference.json`. Raises Invalid that names the version, the feature and what is wrong."""
    try:
        described = document["features"]
        features = tuple(_feature(name, described[name]) for name in feature_names)
    except (KeyError, TypeError, ValueError) as error:
        raise Invalid(f"reference.json of version {version}: {error!r}; train the version again") from error
    log_loss = document.get("log_loss")
    return Reference(version, features, None if log_loss is None else float(log_loss))


def psi(expected: Counts, actual: Counts) -> float:
    """Population stability index; 0: the same shares, above 0.25 by custom a big change.

    Σ (a - e)·ln(a / e) over the bins' shares, each count raised by a half
    (Siddiqi 2006, "Credit Risk Scorecards"; the sum is Jeffreys' divergence).
    """
    e, a = _shares(expected), _shares(actual)
    return float(np.sum((a - e) * np.log(a / e)))


def histogram(reference: Reference, vectors: npt.NDArray[np.float32]) -> Counts:
    """The histograms of rows [n, features] one after the other."""
    parts = []
    for column, feature in zip(vectors.T.astype(np.float64), reference.features, strict=True):
        bins = np.searchsorted(feature.edges, column, side="right")
        bins[np.isnan(column)] = len(feature.edges) + 1
        parts.append(np.bincount(bins, minlength=len(feature.counts)))
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, np.int64)


def compare(reference: Reference, counts: Counts, threshold: float) -> list[FeatureDrift]:
    """Each feature's drift, in the vector's order."""
    drifts, start = [], 0
    for feature in reference.features:
        current = counts[start : start + len(feature.counts)]
        start += len(feature.counts)
        rows = int(current.sum())
        drifts.append(
            FeatureDrift(
                feature=feature.name,
                psi=psi(feature.counts, current),
                threshold=threshold,
                missing_share=float(current[-1] / rows) if rows else 0.0,
                rows=rows,
            )
        )
    return drifts


def load_reference(version: str, features_json: str, reference_json: str) -> Reference:
    """As `parse_reference`, from the texts that the database keeps."""
    return parse_reference(version, json.loads(features_json), json.loads(reference_json))


def _feature(name: str, described: Mapping[str, Any]) -> FeatureReference:
    edges = np.asarray(described["edges"], np.float64)
    counts = np.asarray([*described["counts"], described.get("missing", 0)], np.int64)
    if len(counts) != len(edges) + 2 or np.any(np.diff(edges) < 0):
        raise ValueError(f"{name}: {len(edges)} edges need {len(edges) + 1} counts and must rise")
    return FeatureReference(name, edges, counts)


def _shares(counts: Counts) -> npt.NDArray[np.float64]:
    raised = counts.astype(np.float64) + _SMOOTHING
    shares: npt.NDArray[np.float64] = raised / raised.sum()
    return shares
