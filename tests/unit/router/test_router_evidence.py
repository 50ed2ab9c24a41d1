"""The two comparisons that decisions rest on."""

import json
import math
from datetime import UTC, datetime

import pytest

from services.router.evidence import Arm, Evidence, StepEvidence, compare_log_loss, errors_exceed
from services.router.releases import Calls


def test_one_step_is_the_plain_difference_with_the_errors_added_in_quadrature() -> None:
    compared = compare_log_loss([StepEvidence(500, Arm(900, 0.40, 0.03), Arm(100, 0.45, 0.04))])

    assert compared is not None
    assert compared.log_loss == pytest.approx(0.05)
    assert compared.se == pytest.approx(0.05)


def test_a_bad_day_is_not_blamed_on_the_arm_that_saw_more_of_it() -> None:
    """Pooled, the challenger would look 0.16 worse: it had 5 % of the quiet days and 50 % of the stormy ones."""
    quiet = StepEvidence(500, Arm(950, 0.30, 0.01), Arm(50, 0.30, 0.04))
    stormy = StepEvidence(5000, Arm(500, 0.60, 0.02), Arm(500, 0.60, 0.02))

    compared = compare_log_loss([quiet, stormy])

    assert compared is not None
    assert compared.log_loss == pytest.approx(0.0)


def test_larger_steps_weigh_more() -> None:
    small = StepEvidence(500, Arm(100, 0.30, 0.1), Arm(100, 0.40, 0.1))
    large = StepEvidence(500, Arm(300, 0.30, 0.1), Arm(300, 0.50, 0.1))

    compared = compare_log_loss([small, large])

    assert compared is not None
    assert compared.log_loss == pytest.approx((50 * 0.1 + 150 * 0.2) / 200)
    assert compared.se == pytest.approx(math.sqrt(50**2 * 0.02 + 150**2 * 0.02) / 200)


@pytest.mark.parametrize(
    "lonely",
    [Arm(), Arm(400), Arm(400, 0.4), Arm(29, 0.4, 0.01)],
    ids=["no labels", "no log loss", "no error", "too few"],
)
def test_without_both_arms_there_is_no_comparison(lonely: Arm) -> None:
    full = Arm(400, 0.4, 0.01)

    assert compare_log_loss([StepEvidence(500, full, lonely), StepEvidence(500, lonely, full)]) is None


@pytest.mark.parametrize(
    ("errors", "total", "exceeds"),
    [(0, 0, False), (1, 1, False), (4, 4, False), (5, 5, True), (5, 100, False), (30, 1000, True), (15, 1000, False)],
)
def test_errors_count_beyond_chance(errors: int, total: int, exceeds: bool) -> None:
    assert errors_exceed(Calls(total, errors), 0.01) is exceeds


def test_counters_that_went_back_count_from_zero() -> None:
    """Envoy has restarted."""
    assert Calls(7, 1).since(Calls(100, 5)) == Calls(7, 1)
    assert Calls(107, 6).since(Calls(100, 5)) == Calls(7, 1)


def test_the_record_of_the_evidence_is_json() -> None:
    evidence = Evidence(
        datetime(2013, 1, 1, tzinfo=UTC), (StepEvidence(500, Arm(400, 0.4, 0.01), Arm(400, 0.5, 0.01)),)
    )

    told = json.loads(evidence.as_json())

    assert told["watermark"] == "2013-01-01T00:00:00Z"
    assert told["steps"][0]["challenger"]["labels"] == 400
    assert told["log_loss_increase"]["log_loss"] == pytest.approx(0.1)
