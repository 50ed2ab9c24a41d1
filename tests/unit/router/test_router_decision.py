"""The state machine, row by row: what is seen, and what must come of it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.problem import Canary
from services.router.decision import Begin, End, Hold, Promote, Seen, Step, decide, step_weights
from services.router.evidence import Arm, Evidence, StepEvidence
from services.router.releases import Calls, Phase, Release, Stage, StepBegun, Strategy

T0 = datetime(2013, 5, 1, tzinfo=UTC)
CANARY = Canary(
    steps=(0.05, 0.25, 1.0),
    min_labels=300,
    hold=timedelta(days=2),
    max_log_loss_increase=0.02,
    max_error_rate=0.01,
)
PATIENCE = timedelta(minutes=15)
GOOD = Arm(labels=400, log_loss=0.40, log_loss_se=0.01)
WORSE = Arm(labels=400, log_loss=0.46, log_loss_se=0.01)
ENOUGH = T0 + timedelta(days=2)

PENDING = Release(
    release_id="v2-abc",
    model="m",
    champion_version="1",
    challenger_version="2",
    strategy=Strategy.CANARY,
    phase=Phase.PENDING,
    stage=Stage.LOADING,
    challenger_weight=0,
    started_by="router",
    reason="",
    started_at=T0,
)


def at(weight: int) -> Release:
    """At a step that began at T0."""
    begun = tuple(StepBegun(each, T0) for each in (500, 2500, 10_000) if each <= weight)
    return replace(PENDING, phase=Phase.RUNNING, stage=Stage.STEPPING, challenger_weight=weight, steps=begun)


def evidence(*steps: StepEvidence, watermark: datetime | None = ENOUGH, **calls: Calls) -> Evidence:
    return Evidence(watermark=watermark, steps=steps, **calls)


def step(champion: Arm = GOOD, challenger: Arm = GOOD, weight: int = 500) -> StepEvidence:
    return StepEvidence(weight, champion, challenger)


HOLDS = {
    "the challenger has not loaded it": (PENDING, Seen(not_loaded="it serves another one"), "has not loaded version 2"),
    "Envoy still has the old split": (at(500), Seen(applied=False), "Envoy has not taken over 5 %"),
    "monitoring is down": (at(500), Seen(unmeasured="monitoring does not answer"), "could not measure"),
    "monitoring knows nothing": (at(500), Seen(evidence=evidence(watermark=None)), "no event yet"),
    "no predictions yet": (at(500), Seen(evidence=evidence(step(Arm(), Arm()))), "0 of 300 labels"),
    "one label short": (at(500), Seen(evidence=evidence(step(challenger=replace(GOOD, labels=299)))), "299 of 300"),
    "a microsecond short": (
        at(500),
        Seen(evidence=evidence(step(), watermark=ENOUGH - timedelta(microseconds=1))),
        "of 2 days, 0:00:00",
    ),
    "nothing of the champion": (at(500), Seen(evidence=evidence(step(champion=Arm()))), "champion has too few labels"),
    "worse, but within the error": (
        at(500),
        Seen(evidence=evidence(step(challenger=replace(WORSE, labels=299, log_loss_se=0.02)))),
        "299 of 300",
    ),
    "errors of both arms": (
        at(500),
        Seen(evidence=evidence(step(), champion_calls=Calls(900, 90), challenger_calls=Calls(50, 20))),
        "says nothing about the version",
    ),
    "promoting: the champion has not loaded it": (
        replace(at(10_000), stage=Stage.PROMOTING),
        Seen(not_loaded="alias looked up"),
        "champion deployment has not loaded version 2",
    ),
}


@pytest.mark.parametrize(("release", "seen", "words"), HOLDS.values(), ids=HOLDS)
def test_holds_and_says_what_it_waits_for(release: Release, seen: Seen, words: str) -> None:
    action = decide(release, CANARY, seen, PATIENCE)

    assert isinstance(action, Hold), action
    assert words in action.why


MOVES = {
    "loaded: the first step": (PENDING, Seen(), 500),
    "blue-green, loaded: everything": (replace(PENDING, strategy=Strategy.BLUE_GREEN), Seen(), 10_000),
    "first step passed": (at(500), Seen(evidence=evidence(step())), 2500),
    "better than the champion": (at(500), Seen(evidence=evidence(step(champion=WORSE))), 2500),
    "second step passed": (at(2500), Seen(evidence=evidence(step(), step())), 10_000),
    "a weight set by hand goes on to the next step above": (
        replace(at(500), challenger_weight=1000, steps=(StepBegun(1000, T0),)),
        Seen(evidence=evidence(step())),
        2500,
    ),
}


@pytest.mark.parametrize(("release", "seen", "weight"), MOVES.values(), ids=MOVES)
def test_steps(release: Release, seen: Seen, weight: int) -> None:
    action = decide(release, CANARY, seen, PATIENCE)

    assert isinstance(action, Step), action
    assert weight == action.weight


EARLY = T0 + timedelta(hours=1)
ENDS = {
    "worse beyond twice the error, before the hold is over": (
        at(500),
        Seen(evidence=evidence(step(challenger=replace(WORSE, labels=60)), watermark=EARLY)),
        Phase.FAILED,
    ),
    "an earlier step's labels came late and are worse": (
        at(2500),
        Seen(evidence=evidence(step(challenger=WORSE), step(Arm(), Arm()), watermark=EARLY)),
        Phase.FAILED,
    ),
    "worse, told at the last step by the steps before": (
        at(10_000),
        Seen(evidence=evidence(step(challenger=WORSE), step(challenger=WORSE), step(champion=Arm()))),
        Phase.FAILED,
    ),
    "the challenger fails": (
        at(500),
        Seen(evidence=evidence(champion_calls=Calls(1000, 0), challenger_calls=Calls(50, 6))),
        Phase.FAILED,
    ),
    "unmeasured for too long": (
        at(500),
        Seen(unmeasured="monitoring does not answer", failing_for=PATIENCE + timedelta(seconds=1)),
        Phase.ERROR,
    ),
    "not loaded for too long": (
        PENDING,
        Seen(not_loaded="version 2 was refused", failing_for=PATIENCE + timedelta(seconds=1)),
        Phase.ERROR,
    ),
    "the last step, and the two arms were never seen together": (
        at(10_000),
        Seen(evidence=evidence(step(Arm(), GOOD), step(Arm(), GOOD), step(Arm(), GOOD))),
        Phase.INCONCLUSIVE,
    ),
    "promoting: the champion serves it": (replace(at(10_000), stage=Stage.PROMOTING), Seen(), Phase.SUCCESSFUL),
}


@pytest.mark.parametrize(("release", "seen", "phase"), ENDS.values(), ids=ENDS)
def test_ends(release: Release, seen: Seen, phase: Phase) -> None:
    action = decide(release, CANARY, seen, PATIENCE)

    assert isinstance(action, End), action
    assert phase is action.phase


def test_promotes_after_the_last_step_on_the_evidence_of_the_steps_before() -> None:
    seen = Seen(evidence=evidence(step(), step(), step(champion=Arm())))

    assert isinstance(decide(at(10_000), CANARY, seen, PATIENCE), Promote)


def test_a_blue_green_release_is_promoted_once_envoy_sends_all_traffic() -> None:
    release = replace(at(10_000), strategy=Strategy.BLUE_GREEN)

    assert isinstance(decide(release, CANARY, Seen(applied=False), PATIENCE), Hold)
    assert isinstance(decide(release, CANARY, Seen(applied=True), PATIENCE), Promote)


def test_a_step_counts_from_when_envoy_has_it() -> None:
    """Before that, the counts of the step before would speak for it."""
    release = replace(at(500), challenger_weight=2500)

    assert isinstance(decide(release, CANARY, Seen(evidence=evidence(step())), PATIENCE), Begin)


@pytest.mark.parametrize("labels", [5, 29])
def test_a_handful_of_labels_never_rolls_back(labels: int) -> None:
    """Their standard error is itself a guess."""
    seen = Seen(evidence=evidence(step(challenger=Arm(labels, 2.0, 0.001))))

    assert isinstance(decide(at(500), CANARY, seen, PATIENCE), Hold)


def test_steps_are_weights_in_rising_order() -> None:
    assert step_weights(Canary(steps=(0.5, 0.05, 1.0))) == [500, 5000, 10_000]
