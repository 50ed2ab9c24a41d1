"""When a new model is worth asking for: the rules, free of any I/O. All times are event time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.monitoring.drift import FeatureDrift
from services.problem import Retrain


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the champion over the window that ends at `at`.

    `log_loss` is over `labels` joined predictions, NaN without any; `reference_log_loss` is the hold-out's, None if
    it was never told. Both in nats.
    """

    at: datetime
    version: str
    drifts: Sequence[FeatureDrift]
    labels: int
    log_loss: float
    reference_log_loss: float | None


@dataclass(frozen=True, slots=True)
class History:
    """What holds a request back: the last one, the last run's end, and what is going on now (in words)."""

    last_trigger: datetime | None = None
    last_run_ended: datetime | None = None
    in_progress: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`kind` is "drift", "decay" or "" for neither; `reason` is for people; `held_by` says why it has to wait."""

    kind: str
    reason: str
    held_by: str = ""

    @property
    def asks(self) -> bool:
        """Whether a retrain is to be requested now."""
        return bool(self.kind) and not self.held_by


def judge(rules: Retrain, evidence: Evidence, history: History) -> Verdict:
    """Drift or decay past the recipe's thresholds asks for a retrain, unless it has to wait."""
    reasons = {"drift": _drift(rules, evidence), "decay": _decay(rules, evidence)}
    found = {kind: reason for kind, reason in reasons.items() if reason}
    if not found:
        return Verdict("", "")
    reason = f"{'; '.join(found.values())} ({_window(rules, evidence.at)})"
    return Verdict(next(iter(found)), reason, _held_by(rules, evidence.at, history))


def request_id(model: str, kind: str, at: datetime) -> str:
    """The same for the same finding, so that a crash asks once."""
    return f"{model}-{kind}-{at:%Y%m%dT%H%M}"


def in_words(length: timedelta) -> str:
    """A duration for people: days, or hours below two days."""
    hours = length / timedelta(hours=1)
    return f"{hours / 24:g} days" if hours >= 48 else f"{hours:g} hours"


def _drift(rules: Retrain, evidence: Evidence) -> str:
    drifted = [feature for feature in evidence.drifts if feature.drifted]
    rows = max((feature.rows for feature in evidence.drifts), default=0)
    if not drifted or rows < rules.min_labels or len(drifted) / len(evidence.drifts) < rules.drifted_features:
        return ""
    worst = max(drifted, key=lambda feature: feature.psi)
    return (
        f"PSI of {worst.feature} {worst.psi:.2f} > {worst.threshold:g}, "
        f"{len(drifted)} of {len(evidence.drifts)} features drifted over {rows:,} predictions"
    )


def _decay(rules: Retrain, evidence: Evidence) -> str:
    if evidence.reference_log_loss is None or evidence.labels < max(rules.min_labels, 1):
        return ""
    worst = evidence.reference_log_loss + rules.log_loss_increase
    if math.isnan(evidence.log_loss) or evidence.log_loss <= worst:
        return ""
    return (
        f"log loss {evidence.log_loss:.3f} > {evidence.reference_log_loss:.3f} at training "
        f"+ {rules.log_loss_increase:g} over {evidence.labels:,} labels"
    )


def _held_by(rules: Retrain, at: datetime, history: History) -> str:
    if history.in_progress:
        return history.in_progress
    for what, moment in (("request", history.last_trigger), ("run", history.last_run_ended)):
        if moment is not None and at - moment < rules.cool_down:
            return f"cool-down until {moment + rules.cool_down:%Y-%m-%d %H:%M} after the last {what}"
    return ""


def _window(rules: Retrain, at: datetime) -> str:
    return f"{in_words(rules.window)} to {at:%Y-%m-%d}" + (f" {at:%H:%M}" if at.hour or at.minute else "")
