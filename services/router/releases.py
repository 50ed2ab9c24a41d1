"""What a release is: values only. Shares and weights are basis points of traffic, versions MLflow's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.router.routes import Split

FULL_WEIGHT = 10_000


class Strategy(StrEnum):
    """How traffic moves. `AUTO` becomes one of the others when the release starts."""

    AUTO = "auto"
    CANARY = "canary"
    BLUE_GREEN = "blue_green"


class Phase(StrEnum):
    """What people and other services are told. The last five are ends."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCESSFUL = "successful"
    FAILED = "failed"
    """The evidence said no."""
    ERROR = "error"
    """It could not be measured or carried out."""
    INCONCLUSIVE = "inconclusive"
    """It was measured, and there was nothing to compare with."""
    ABORTED = "aborted"
    """Somebody, or a newer version, ended it."""


class Stage(StrEnum):
    """How far the work is: what the router does next after a restart."""

    QUEUED = "queued"
    """Waits for its turn."""
    LOADING = "loading"
    """The challenger deployment loads the version; no traffic yet."""
    STEPPING = "stepping"
    """The challenger has traffic."""
    PROMOTING = "promoting"
    """The alias champion moves and the champion deployment loads the version; the weights stay."""
    WITHDRAWING = "withdrawing"
    """Ended, weights are 0; the alias challenger is yet to be taken away."""
    DONE = "done"


HOLDS_TRAFFIC = frozenset({Stage.STEPPING, Stage.PROMOTING})


@dataclass(frozen=True, slots=True)
class Calls:
    """ModelInfer calls to one cluster by Envoy's count; `errors` are those that the server is to blame for."""

    total: int = 0
    errors: int = 0

    def since(self, before: Calls) -> Calls:
        """The difference; if the counters went back, Envoy has restarted and counts from zero."""
        if self.total < before.total:
            return self
        return Calls(self.total - before.total, self.errors - before.errors)


NO_CALLS = Calls()


@dataclass(frozen=True, slots=True)
class StepBegun:
    """A weight that Envoy has taken over: since which event time, and where its counters stood."""

    weight: int
    since: datetime
    champion_calls: Calls = NO_CALLS
    challenger_calls: Calls = NO_CALLS


@dataclass(frozen=True, slots=True)
class Release:
    """Moving traffic from `champion_version` ("" if there is none) to `challenger_version`.

    `revision` counts its changes: a change is written only onto the revision it was decided on.
    """

    release_id: str
    model: str
    champion_version: str
    challenger_version: str
    strategy: Strategy
    phase: Phase
    stage: Stage
    challenger_weight: int
    started_by: str
    reason: str
    started_at: datetime
    ended_at: datetime | None = None
    steps: tuple[StepBegun, ...] = ()
    revision: int = 0

    @property
    def step(self) -> StepBegun | None:
        """The present step, None until Envoy has taken over its weight."""
        if self.steps and self.steps[-1].weight == self.challenger_weight:
            return self.steps[-1]
        return None


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of a release. `event_time` is monitoring's watermark, None if it was not known."""

    processed_at: datetime
    event_time: datetime | None
    phase: Phase
    challenger_weight: int
    actor: str
    why: str
    evidence_json: str = "{}"


@dataclass(frozen=True, slots=True)
class Account:
    """A release with all that happened to it, oldest first."""

    release: Release
    transitions: tuple[Transition, ...]


def split_of(release: Release | None) -> Split:
    """What Envoy is told during a release; None: nobody is released."""
    if release is None or release.stage not in HOLDS_TRAFFIC:
        return Split()
    return Split(release.release_id, release.challenger_weight)
