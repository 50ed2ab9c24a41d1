"""What is known about the two arms of a release, and the two comparisons that a decision rests on.

Log loss is compared step by step, because days differ more than models do: calls that were assigned at the same weight
saw the same days in both arms, others did not. Which weight that was is told by each call's record, for no clock knows
when the last call of a step was assigned. At the last step the champion has no traffic, so that the comparison rests on
the earlier steps, whose labels still come in.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from services.chassis.clock import rfc3339
from services.router.releases import NO_CALLS, Calls

_FEWEST_LABELS = 30
"""In each arm, before its standard error says anything."""


@dataclass(frozen=True, slots=True)
class Arm:
    """Quality of one variant over the calls of one step. Log loss in nats, lower is better; None: no labels."""

    labels: int = 0
    log_loss: float | None = None
    log_loss_se: float | None = None


NO_LABELS = Arm()


@dataclass(frozen=True, slots=True)
class StepEvidence:
    """Both arms at one step."""

    weight: int
    champion: Arm = NO_LABELS
    challenger: Arm = NO_LABELS


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was measured in one look. `steps` in the order of the release; calls since the present step began."""

    watermark: datetime | None = None
    steps: tuple[StepEvidence, ...] = ()
    champion_calls: Calls = NO_CALLS
    challenger_calls: Calls = NO_CALLS

    @property
    def challenger_labels(self) -> int:
        """Labels of the challenger at the present step."""
        return self.steps[-1].challenger.labels if self.steps else 0

    def as_json(self) -> str:
        """For the record of a transition."""
        compared = compare_log_loss(self.steps)
        return json.dumps(
            {
                "watermark": rfc3339(self.watermark) if self.watermark else None,
                "steps": [asdict(step) for step in self.steps],
                "log_loss_increase": asdict(compared) if compared else None,
                "champion_calls": asdict(self.champion_calls),
                "challenger_calls": asdict(self.challenger_calls),
            }
        )


NOTHING_KNOWN = Evidence()


@dataclass(frozen=True, slots=True)
class Increase:
    """Challenger's log loss minus champion's: positive is worse. `se` is its standard error."""

    log_loss: float
    se: float

    def exceeds(self, most: float) -> bool:
        """Worse by more than `most` beyond twice the standard error."""
        return self.log_loss - 2 * self.se > most


def compare_log_loss(steps: Sequence[StepEvidence]) -> Increase | None:
    """The mean of the steps' differences, each weighted by n_a n_b / (n_a + n_b); None if no step has both arms.

    The weights are those of a stratified two-sample comparison (the inverse variances if all labels vary alike).
    """
    total = weighted = variance = 0.0
    for step in steps:
        a, b = step.champion, step.challenger
        if not (_counts(a) and _counts(b)):
            continue
        assert a.log_loss is not None and b.log_loss is not None
        assert a.log_loss_se is not None and b.log_loss_se is not None
        weight = a.labels * b.labels / (a.labels + b.labels)
        total += weight
        weighted += weight * (b.log_loss - a.log_loss)
        variance += weight**2 * (a.log_loss_se**2 + b.log_loss_se**2)
    return Increase(weighted / total, math.sqrt(variance) / total) if total else None


def errors_exceed(calls: Calls, most: float) -> bool:
    """Whether the error rate is above `most`, beyond twice the standard error of a Poisson count."""
    return calls.errors - 2 * math.sqrt(calls.errors) > most * calls.total


def _counts(arm: Arm) -> bool:
    return arm.labels >= _FEWEST_LABELS and arm.log_loss is not None and arm.log_loss_se is not None
