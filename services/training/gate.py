"""The gate: may a model become a challenger? A measure that is missing never passes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from services.problem import Gate
from services.training.quality import Quality


@dataclass(frozen=True, slots=True)
class Rival:
    """The champion on the same rows. Without `quality` it is not comparable, and `why` says why."""

    version: str
    quality: Quality | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`words` are the reasons, for people."""

    passed: bool
    words: str


def judge(gate: Gate, trained: Quality, rival: Rival | None) -> Verdict:
    """Against the recipe's bounds, and against the champion if there is one that can be compared."""
    rows = f"on {trained.rows:,} hold-out rows"
    checks = [_absolute(gate, trained, rows)]
    if rival is None:
        checks.append((True, "no champion to compare with"))
    elif rival.quality is None:
        checks.append((True, f"champion version {rival.version} is not comparable: {rival.why}"))
    else:
        checks.append(_against(gate, trained, rival.version, rival.quality, rows))
        if rival.why:
            checks.append((True, rival.why))
    refusals = [words for passed, words in checks if not passed]
    return Verdict(not refusals, "; ".join(refusals or [words for _, words in checks]))


def _absolute(gate: Gate, trained: Quality, rows: str) -> tuple[bool, str]:
    if math.isnan(trained.auc):
        return False, f"AUC could not be computed {rows}"
    passed = trained.auc >= gate.min_auc
    return passed, f"AUC {trained.auc:.4f} {'≥' if passed else '<'} {gate.min_auc:.4f} {rows}"


def _against(gate: Gate, trained: Quality, version: str, champion: Quality, rows: str) -> tuple[bool, str]:
    increase = trained.log_loss - champion.log_loss
    if math.isnan(increase):
        return False, f"log loss against champion version {version} could not be computed {rows}"
    passed = increase <= gate.max_log_loss_increase
    return passed, (
        f"log loss {trained.log_loss:.4f} is {increase:+.4f} against champion version {version} "
        f"({champion.log_loss:.4f}), {'within' if passed else 'beyond'} {gate.max_log_loss_increase:+.4f} {rows}"
    )
