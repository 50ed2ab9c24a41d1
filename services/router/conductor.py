"""The loop that moves the release in progress: look, decide, write, act.

What happens in the world (an alias moves) is repeated until the database says that it is done; what the world shows
(the weights) follows from the database. So a router that is killed at any moment goes on where it was.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

from services.chassis.clock import Now
from services.chassis.errors import Conflict, Unavailable
from services.chassis.logging import get_logger
from services.problem import Canary
from services.router import metrics
from services.router.assignment import CHALLENGER, CHAMPION
from services.router.decision import Action, Begin, End, Hold, Promote, Step, decide
from services.router.mlflow_registry import MlflowRegistry
from services.router.releases import Phase, Release, Stage, StepBegun, Strategy, Transition
from services.router.store import ReleaseStore
from services.router.world import Look, World

ACTOR = "router"


class Conductor:
    """Owns the aliases `champion` and `challenger` while a release is in progress."""

    def __init__(
        self,
        *,
        store: ReleaseStore,
        registry: MlflowRegistry,
        world: World,
        canary: Canary,
        patience: timedelta,
        now: Now,
    ) -> None:
        self._store = store
        self._registry = registry
        self._world = world
        self._canary = canary
        self._patience = patience
        self._now = now
        self._waiting_for: dict[str, str] = {}
        self._alias_in_doubt = True

    def waiting_for(self, release: Release) -> str:
        """What the release waits for, in words; "" once it has ended."""
        if release.ended_at is not None:
            return ""
        if release.phase is Phase.PAUSED:
            return "paused: waits to be resumed, promoted or aborted"
        if release.stage is Stage.QUEUED:
            return self._waiting_for.get(release.release_id, "waits for its turn")
        return self._waiting_for.get(release.release_id, "")

    def doubt_alias(self) -> None:
        """A newly registered version took the alias challenger; the release in progress takes it back."""
        self._alias_in_doubt = True

    async def run(self, tick_s: float) -> None:
        """Ticks until cancelled: every effect may be cut off and is repeated after a start."""
        while True:
            await self._tick_safely()
            await asyncio.sleep(tick_s)

    async def tick(self) -> None:
        """One look at the release in progress, or the start of the next one."""
        release = self._store.current()
        if release is None:
            await self._start_next()
        elif release.stage is Stage.WITHDRAWING:
            await self._withdraw(release)
        elif release.phase is not Phase.PAUSED:
            await self._move(release)

    async def _tick_safely(self) -> None:
        """Repeats a tick that fails: a part is down, the release was changed in between, or the fault is ours."""
        try:
            await self.tick()
        except Unavailable as error:
            self._wait(self._store.current() or self._store.queued(), str(error))
        except Conflict as error:
            get_logger().info("tick_repeated", reason=str(error))
        except Exception:
            get_logger().exception("tick_failed")

    async def _start_next(self) -> None:
        """1. Find out whom it meets. 2. Point the alias at it. 3. Write that it has started."""
        queued = self._store.queued()
        if queued is None:
            return
        champion = (await self._registry.aliases()).get(CHAMPION, "")
        if queued.started_by == ACTOR and not _is_newer(queued.challenger_version, champion):
            why = f"skipped: version {champion} is the champion already"
            self._end(queued, Stage.DONE, End(Phase.ABORTED, why))
            return
        await self._registry.set_alias(CHALLENGER, queued.challenger_version)
        self._alias_in_doubt = False
        event_time = await self._world.ask_watermark(queued)
        strategy = queued.strategy
        if strategy is Strategy.AUTO or not champion:
            strategy = Strategy.CANARY if champion else Strategy.BLUE_GREEN
        started = replace(
            queued,
            champion_version=champion,
            strategy=strategy,
            stage=Stage.LOADING,
            started_at=event_time or queued.started_at,
        )
        against = f"against version {champion}" if champion else "as the first champion"
        self._change(queued, started, f"starts {strategy.replace('_', '-')} of {queued.challenger_version} {against}")

    async def _move(self, release: Release) -> None:
        if release.stage is Stage.PROMOTING:
            moved_by_others = await self._point_champion_at(release)
            if moved_by_others:
                self._end(release, Stage.WITHDRAWING, End(Phase.ERROR, moved_by_others))
                return
        elif self._alias_in_doubt:
            await self._take_alias_back(release)
        look = await self._world.look(release)
        metrics.show_evidence(look.seen.evidence)
        action = decide(release, self._canary, look.seen, self._patience)
        metrics.DECISIONS.labels(type(action).__name__.lower()).inc()
        self._carry_out(release, action, look)

    async def _take_alias_back(self, release: Release) -> None:
        """Without MLflow the release goes on all the same: a rollback must not wait for it."""
        try:
            await self._registry.set_alias(CHALLENGER, release.challenger_version)
            self._alias_in_doubt = False
        except Unavailable as error:
            get_logger().warning("alias_in_doubt", alias=CHALLENGER, reason=str(error))

    async def _point_champion_at(self, release: Release) -> str:
        """Moves the alias champion unless it has moved; the words of an error if somebody else moved it."""
        carries = (await self._registry.aliases()).get(CHAMPION, "")
        if carries == release.champion_version:
            await self._registry.set_alias(CHAMPION, release.challenger_version)
        elif carries != release.challenger_version:
            return f"the alias champion is on version {carries or 'none'}, not on {release.champion_version or 'none'}"
        return ""

    def _carry_out(self, release: Release, action: Action, look: Look) -> None:
        evidence_json = look.seen.evidence.as_json()
        match action:
            case Hold(why):
                self._wait(release, why)
            case Begin():
                self._begin(release, look)
            case Step(weight, why):
                stepped = replace(release, challenger_weight=weight, phase=Phase.RUNNING, stage=Stage.STEPPING)
                self._change(release, stepped, why, evidence_json)
            case Promote(why):
                self._change(release, replace(release, stage=Stage.PROMOTING), f"promoted: {why}", evidence_json)
            case End():
                self._end(release, Stage.WITHDRAWING, action, evidence_json)

    def _begin(self, release: Release, look: Look) -> None:
        watermark = look.seen.evidence.watermark
        assert watermark is not None
        begun = StepBegun(release.challenger_weight, watermark, look.champion_calls, look.challenger_calls)
        self._store.note(release, replace(release, steps=(*release.steps, begun)))

    async def _withdraw(self, release: Release) -> None:
        """Takes the alias challenger away once Envoy sends nobody there, unless a newer version has it already."""
        if not self._world.applied(release):
            return
        if (await self._registry.aliases()).get(CHALLENGER) == release.challenger_version:
            await self._registry.delete_alias(CHALLENGER)
        self._store.note(release, replace(release, stage=Stage.DONE))

    def _end(self, release: Release, stage: Stage, end: End, evidence_json: str = "{}") -> None:
        ended_at = self._world.watermark or self._now()
        ended = replace(release, phase=end.phase, stage=stage, challenger_weight=0, ended_at=ended_at)
        self._change(release, ended, end.why, evidence_json)

    def _change(self, before: Release, after: Release, why: str, evidence_json: str = "{}") -> None:
        transition = Transition(
            processed_at=self._now(),
            event_time=self._world.watermark,
            phase=after.phase,
            challenger_weight=after.challenger_weight,
            actor=ACTOR,
            why=why,
            evidence_json=evidence_json,
        )
        written = self._store.change(before, after, transition)
        self._waiting_for.pop(before.release_id, None)
        announce(written, transition)

    def _wait(self, release: Release | None, why: str) -> None:
        if release is not None and self._waiting_for.get(release.release_id) != why:
            self._waiting_for[release.release_id] = why
            get_logger().debug("release_waits", release_id=release.release_id, why=why)


def announce(release: Release, transition: Transition) -> None:
    """The one log line and the metrics of a transition."""
    metrics.show_release(release)
    metrics.TRANSITIONS.labels(transition.phase.value).inc()
    get_logger().info(
        "release_changed",
        release_id=release.release_id,
        version=release.challenger_version,
        phase=release.phase.value,
        weight=release.challenger_weight,
        actor=transition.actor,
        why=transition.why,
    )


def _is_newer(version: str, champion: str) -> bool:
    """MLflow numbers versions upwards."""
    return not champion or int(version) > int(champion)
