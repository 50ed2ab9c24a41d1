"""When a retrain is asked for."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.monitoring.drift import FeatureDrift
from services.monitoring.triggers import Evidence, History, judge, request_id
from services.problem import Retrain

AT = datetime(2013, 5, 2, tzinfo=UTC)
RULES = Retrain(
    psi_threshold=0.25,
    drifted_features=0.25,
    log_loss_increase=0.04,
    min_labels=100,
    window=timedelta(days=14),
    cool_down=timedelta(days=28),
    history=timedelta(days=180),
)


def feature(name: str, psi: float, rows: int = 5000) -> FeatureDrift:
    return FeatureDrift(name, psi, RULES.psi_threshold, missing_share=0, rows=rows)


STEADY = [feature(name, 0.01) for name in "abcd"]
EVIDENCE = Evidence(AT, "3", STEADY, labels=9412, log_loss=0.40, reference_log_loss=0.38)
DRIFTED = replace(EVIDENCE, drifts=[feature("temp", 0.41), *STEADY[1:]])
DECAYED = replace(EVIDENCE, log_loss=0.43)


def test_nothing_found_nothing_asked() -> None:
    assert not judge(RULES, EVIDENCE, History()).asks


def test_enough_drifted_features_ask_with_reasons_in_numbers() -> None:
    verdict = judge(RULES, DRIFTED, History())

    assert verdict.asks
    assert verdict.kind == "drift"
    assert verdict.reason == (
        "PSI of temp 0.41 > 0.25, 1 of 4 features drifted over 5,000 predictions (14 days to 2013-05-02)"
    )


def test_too_few_drifted_features_do_not() -> None:
    assert not judge(replace(RULES, drifted_features=0.3), DRIFTED, History()).asks


def test_drift_of_a_handful_of_predictions_does_not() -> None:
    few = replace(DRIFTED, drifts=[feature(name, 0.9, rows=99) for name in "abcd"])

    assert not judge(RULES, few, History()).asks


def test_decay_past_the_increase_asks() -> None:
    verdict = judge(RULES, DECAYED, History())

    assert verdict.asks
    assert verdict.kind == "decay"
    assert verdict.reason == "log loss 0.430 > 0.380 at training + 0.04 over 9,412 labels (14 days to 2013-05-02)"


@pytest.mark.parametrize(
    "weaker",
    [
        {"log_loss": 0.42},
        {"labels": 99},
        {"reference_log_loss": None},
        {"labels": 0, "log_loss": float("nan")},
    ],
)
def test_no_decay_without_enough_of_it(weaker: dict[str, float | None]) -> None:
    assert not judge(RULES, replace(DECAYED, **weaker), History()).asks  # type: ignore[arg-type]


def test_both_are_one_request_that_tells_both() -> None:
    verdict = judge(RULES, replace(DRIFTED, log_loss=0.43), History())

    assert verdict.kind == "drift"
    assert "PSI of temp" in verdict.reason
    assert "log loss" in verdict.reason


@pytest.mark.parametrize(
    ("history", "held_by"),
    [
        (History(last_trigger=AT - timedelta(days=27)), "after the last request"),
        (History(last_run_ended=AT - timedelta(days=27)), "after the last run"),
        (History(in_progress="release r7 is in progress"), "release r7"),
    ],
)
def test_it_waits_and_says_for_what(history: History, held_by: str) -> None:
    verdict = judge(RULES, DRIFTED, history)

    assert not verdict.asks
    assert held_by in verdict.held_by


def test_it_asks_again_after_the_cool_down() -> None:
    history = History(last_trigger=AT - timedelta(days=28), last_run_ended=AT - timedelta(days=28))

    assert judge(RULES, DRIFTED, history).asks


def test_the_same_finding_has_the_same_id() -> None:
    assert request_id("m", "drift", AT) == request_id("m", "drift", AT) != request_id("m", "decay", AT)
