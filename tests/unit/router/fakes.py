"""Neighbours of the conductor that tests lead by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.chassis.errors import Unavailable
from services.problem import Canary
from services.router.commands import Commands
from services.router.conductor import Conductor
from services.router.decision import Seen
from services.router.evidence import Arm, Evidence, StepEvidence
from services.router.releases import Release, Stage
from services.router.store import ReleaseStore
from services.router.translate import to_record
from services.router.world import Look

T0 = datetime(2013, 5, 1, tzinfo=UTC)
CANARY = Canary(steps=(0.25, 1.0), min_labels=30, hold=timedelta(hours=1), max_log_loss_increase=0.02)


class FakeRegistry:
    """MLflow's aliases. The call number `fails_at` (from 0) raises Unavailable before or after its effect."""

    def __init__(self, versions: set[str], **aliases: str) -> None:
        self.versions = versions
        self.held = dict(aliases)
        self.calls = 0
        self.fails_at: int | None = None
        self.after_effect = False

    async def aliases(self) -> dict[str, str]:
        self._call()
        return dict(self.held)

    async def has_version(self, version: str) -> bool:
        self._call()
        return version in self.versions

    async def set_alias(self, alias: str, version: str) -> None:
        self._call(lambda: self.held.update({alias: version}))

    async def delete_alias(self, alias: str) -> None:
        self._call(lambda: self.held.pop(alias, None))

    def _call(self, effect: object = None) -> None:
        fails, self.calls = self.calls == self.fails_at, self.calls + 1
        if fails and not self.after_effect:
            raise Unavailable("MLflow does not answer")
        if callable(effect):
            effect()
        if fails:
            raise Unavailable("MLflow answered too late")


class FakeWorld:
    """Everything is loaded and applied; each look at a step finds `arm` labels and an hour more."""

    def __init__(self) -> None:
        self.watermark: datetime | None = T0
        self.is_applied = True
        self.not_loaded = ""
        self.challenger = Arm(100, 0.4, 0.01)

    def applied(self, release: Release | None) -> bool:
        return self.is_applied

    async def ask_watermark(self, release: Release) -> datetime | None:
        return self.watermark

    async def look(self, release: Release) -> Look:
        if release.stage in {Stage.LOADING, Stage.PROMOTING}:
            return Look(Seen(not_loaded=self.not_loaded))
        assert self.watermark is not None
        self.watermark += timedelta(hours=1)
        champion = Arm(100, 0.4, 0.01)
        steps = tuple(StepEvidence(step.weight, champion, self.challenger) for step in release.steps)
        return Look(Seen(applied=self.is_applied, evidence=Evidence(self.watermark, steps)))


class Desk:
    """A router's inside: the store is a file, so that `restart` finds what was written."""

    def __init__(self, folder: Path, registry: FakeRegistry) -> None:
        self._database = f"sqlite:///{folder}/router.db"
        self.registry = registry
        self.world = FakeWorld()
        self.restart()

    def restart(self) -> None:
        """As after SIGKILL: only the database and the world are left."""
        self.store = ReleaseStore(self._database, to_record)
        self.conductor = Conductor(
            store=self.store,
            registry=self.registry,
            world=self.world,
            canary=CANARY,
            patience=timedelta(minutes=1),
            now=lambda: T0,
        )
        self.commands = Commands(
            store=self.store,
            registry=self.registry,
            conductor=self.conductor,
            world=self.world,
            model="m",
            now=lambda: T0,
        )

    def register(self, version: str) -> bool:
        self.registry.versions.add(version)
        self.registry.held["challenger"] = version
        return self.commands.queue_run(f"run-{version}", version, "drift", T0)

    async def tick(self, times: int = 1) -> None:
        for _ in range(times):
            await self.conductor.tick()

    def last(self) -> Release:
        return self.store.get("")
