"""The gate, row by row, and the measures that it looks at."""

import math
from dataclasses import replace

import numpy as np
import pytest

from services.problem import Gate
from services.training.gate import Rival, judge
from services.training.quality import Quality, assess, calibration_error

GATE = Gate(min_auc=0.7, max_log_loss_increase=0.01)
GOOD = Quality(rows=12_345, positive_rate=0.2, auc=0.75, log_loss=0.40, brier=0.1, calibration_error=0.01)
NAN = math.nan

ROWS = {
    "first model": (GOOD, None, True, "AUC 0.7500 ≥ 0.7000 on 12,345 hold-out rows; no champion to compare with"),
    "at the bound": (replace(GOOD, auc=0.7), None, True, "AUC 0.7000 ≥ 0.7000"),
    "below it": (replace(GOOD, auc=0.69), None, False, "AUC 0.6900 < 0.7000 on 12,345 hold-out rows"),
    "no AUC": (replace(GOOD, auc=NAN), None, False, "AUC could not be computed"),
    "as good as the champion": (GOOD, Rival("3", GOOD), True, "+0.0000 against champion version 3 (0.4000), within"),
    "worse, but within": (replace(GOOD, log_loss=0.4099), Rival("3", GOOD), True, "within +0.0100"),
    "too much worse": (
        replace(GOOD, log_loss=0.4101),
        Rival("3", GOOD),
        False,
        "log loss 0.4101 is +0.0101 against champion version 3 (0.4000), beyond +0.0100 on 12,345 hold-out rows",
    ),
    "champion not measured": (GOOD, Rival("3", replace(GOOD, log_loss=NAN)), False, "version 3 could not be computed"),
    "not measured against it": (replace(GOOD, log_loss=NAN), Rival("3", GOOD), False, "could not be computed"),
    "not comparable": (GOOD, Rival("3", None, "no z"), True, "champion version 3 is not comparable: no z"),
    "not comparable and bad": (replace(GOOD, auc=0.1), Rival("3", None, "no z"), False, "AUC 0.1000 <"),
    "favoured champion": (GOOD, Rival("3", GOOD, "10 rows favour it"), True, "; 10 rows favour it"),
}


@pytest.mark.parametrize("what", ROWS)
def test_what_is_measured_decides(what: str) -> None:
    trained, rival, passed, words = ROWS[what]

    verdict = judge(GATE, trained, rival)

    assert verdict.passed is passed
    assert words in verdict.words


def test_both_refusals_are_told_and_nothing_else() -> None:
    verdict = judge(GATE, replace(GOOD, auc=0.6, log_loss=0.5), Rival("3", GOOD, "a note"))

    assert verdict.words.count(";") == 1
    assert "≥" not in verdict.words and "a note" not in verdict.words


def test_a_gate_may_ask_to_be_better() -> None:
    strict = replace(GATE, max_log_loss_increase=-0.01)

    assert not judge(strict, GOOD, Rival("3", GOOD)).passed
    assert judge(strict, replace(GOOD, log_loss=0.38), Rival("3", GOOD)).passed


def test_measures_are_those_of_a_small_example() -> None:
    labels = np.array([0, 0, 1, 1], np.float32)
    found = assess(labels, np.array([0.1, 0.4, 0.35, 0.8], np.float32))

    assert (found.rows, found.positive_rate) == (4, 0.5)
    assert found.auc == 0.75
    assert found.log_loss == pytest.approx(-np.log([0.9, 0.6, 0.35, 0.8]).mean(), rel=1e-6)
    assert found.brier == pytest.approx(np.mean([0.01, 0.16, 0.65**2, 0.04]), rel=1e-6)


def test_what_cannot_be_computed_is_nan() -> None:
    one_class = assess(np.ones(3, np.float32), np.array([0.5, 0.6, 0.7]))
    broken = assess(np.array([0, 1], np.float32), np.array([0.5, np.nan]))

    assert math.isnan(one_class.auc) and not math.isnan(one_class.log_loss)
    assert math.isnan(broken.auc) and math.isnan(broken.log_loss)
    assert math.isnan(assess(np.zeros(0, np.float32), np.zeros(0)).log_loss)


def test_calibration_error_is_the_gap_in_each_bin() -> None:
    labels, told = np.array([0, 1, 1, 1]), np.array([0.25, 0.25, 0.95, 1.0])

    assert calibration_error(labels, told) == pytest.approx((2 * abs(0.25 - 0.5) + 2 * abs(0.975 - 1)) / 4)
