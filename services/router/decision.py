"""The state machine of a release: from what is seen to what to do next. No clock, no network, no database.

No data means hold: a look that could not be taken never moves a weight up.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from services.problem import Canary
from services.router.evidence import NOTHING_KNOWN, Evidence, compare_log_loss, errors_exceed
from services.router.releases import FULL_WEIGHT, Phase, Release, Stage, StepBegun, Strategy


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing moves; `why` says what is waited for."""

    why: str


@dataclass(frozen=True, slots=True)
class Begin:
    """Envoy has taken over the weight: the present step counts from here."""


@dataclass(frozen=True, slots=True)
class Step:
    """The challenger's weight becomes `weight`."""

    weight: int
    why: str


@dataclass(frozen=True, slots=True)
class Promote:
    """The challenger becomes the champion."""

    why: str


@dataclass(frozen=True, slots=True)
class End:
    """The weights go to 0 and the release ends in `phase`."""

    phase: Phase
    why: str


Action = Hold | Begin | Step | Promote | End


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at the world.

    `not_loaded` says why the deployment that the stage waits for does not serve the version, `unmeasured` why there is
    no evidence ("": it does, there is), and `failing_for` how long either has been so by the wall clock. `applied` is
    whether Envoy has taken over the present split.
    """

    not_loaded: str = ""
    applied: bool = True
    evidence: Evidence = NOTHING_KNOWN
    unmeasured: str = ""
    failing_for: timedelta = timedelta()


def decide(release: Release, canary: Canary, seen: Seen, patience: timedelta) -> Action:
    """What to do next with a release that is LOADING, STEPPING or PROMOTING and not paused.

    `patience` bounds `failing_for`: a release that cannot be loaded or measured for longer is an error.
    """
    if release.stage is Stage.LOADING:
        return _load(release, canary, seen, patience)
    if release.stage is Stage.PROMOTING:
        return _promote(release, seen)
    if not seen.applied:
        return Hold(f"Envoy has not taken over {_share(release.challenger_weight)} yet")
    if release.strategy is Strategy.BLUE_GREEN:
        return Promote("all traffic at once, as blue-green does")
    return _analyse(release, canary, seen, patience)


def step_weights(canary: Canary) -> list[int]:
    """The recipe's shares in basis points, rising."""
    return sorted({round(share * FULL_WEIGHT) for share in canary.steps})


def _load(release: Release, canary: Canary, seen: Seen, patience: timedelta) -> Action:
    if seen.not_loaded:
        why = f"the challenger deployment has not loaded version {release.challenger_version}: {seen.not_loaded}"
        return _hold_or_give_up(why, seen, patience)
    if release.strategy is Strategy.BLUE_GREEN:
        return Step(FULL_WEIGHT, "the challenger deployment is ready: all traffic at once")
    return Step(step_weights(canary)[0], "the challenger deployment is ready")


def _promote(release: Release, seen: Seen) -> Action:
    if seen.not_loaded:
        return Hold(f"the champion deployment has not loaded version {release.challenger_version}: {seen.not_loaded}")
    return End(Phase.SUCCESSFUL, f"the champion deployment serves version {release.challenger_version}")


def _analyse(release: Release, canary: Canary, seen: Seen, patience: timedelta) -> Action:
    if seen.unmeasured:
        return _hold_or_give_up(f"could not measure: {seen.unmeasured}", seen, patience)
    if seen.evidence.watermark is None:
        return Hold("monitoring has seen no event yet")
    if release.step is None:
        return Begin()
    return _against(release, canary, seen.evidence) or _for(release.step, canary, seen.evidence)


def _hold_or_give_up(why: str, seen: Seen, patience: timedelta) -> Action:
    if seen.failing_for <= patience:
        return Hold(why)
    return End(Phase.ERROR, f"{why}; given up after {seen.failing_for}")


def _against(release: Release, canary: Canary, evidence: Evidence) -> Action | None:
    """What speaks against the challenger, if anything."""
    calls = evidence.challenger_calls
    if errors_exceed(calls, canary.max_error_rate):
        told = f"{calls.errors} of {calls.total} calls to the challenger failed (at most {canary.max_error_rate:.2%})"
        if errors_exceed(evidence.champion_calls, canary.max_error_rate):
            return Hold(f"{told}, but the champion's fail too: this says nothing about the version")
        return End(Phase.FAILED, told)
    worse = compare_log_loss(evidence.steps)
    if worse is not None and worse.exceeds(canary.max_log_loss_increase):
        return End(
            Phase.FAILED,
            f"log loss of version {release.challenger_version} is {worse.log_loss:+.4f} ± {worse.se:.4f} against "
            f"version {release.champion_version} (at most {canary.max_log_loss_increase:+.4f} beyond twice the error)",
        )
    return None


def _for(step: StepBegun, canary: Canary, evidence: Evidence) -> Action:
    """How far the present step has come."""
    assert evidence.watermark is not None
    labels, held = evidence.challenger_labels, evidence.watermark - step.since
    share = _share(step.weight)
    if labels < canary.min_labels:
        return Hold(f"{labels} of {canary.min_labels} labels of the challenger at {share}")
    if held < canary.hold:
        return Hold(f"held {share} for {held} of {canary.hold}")
    rising = [weight for weight in step_weights(canary) if weight > step.weight]
    compared = compare_log_loss(evidence.steps)
    if not compared:
        return _incomparable(share, at_last_step=not rising)
    why = f"log loss {compared.log_loss:+.4f} ± {compared.se:.4f} after {labels} labels at {share}"
    return Step(rising[0], why) if rising else Promote(why)


def _incomparable(share: str, *, at_last_step: bool) -> Action:
    if at_last_step:
        return End(Phase.INCONCLUSIVE, "no step had enough labels of both arms, so the two were never compared")
    return Hold(f"the champion has too few labels at {share} to compare with")


def _share(weight: int) -> str:
    return f"{weight / 100:g} %"
