"""What a person, or a registered training run, may ask of a release. All of it answers at once; the conductor acts."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime

import xxhash

from services.chassis.clock import Now
from services.chassis.errors import Conflict, Invalid
from services.router.assignment import CHALLENGER, CHAMPION
from services.router.conductor import ACTOR, Conductor, announce
from services.router.mlflow_registry import MlflowRegistry
from services.router.releases import FULL_WEIGHT, Account, Phase, Release, Stage, Strategy, Transition
from services.router.store import ReleaseStore
from services.router.world import World

_UNNAMED = "unnamed"


class Commands:
    """Raises Conflict when the state of a release forbids what was asked, NotFound if there is no such release."""

    def __init__(
        self, *, store: ReleaseStore, registry: MlflowRegistry, conductor: Conductor, world: World, model: str, now: Now
    ) -> None:
        self._store = store
        self._registry = registry
        self._conductor = conductor
        self._world = world
        self._model = model
        self._now = now

    def queue_run(self, run_id: str, version: str, why: str, known_at: datetime | None) -> bool:
        """A training run has registered a version: its release waits for its turn. False: it is known already."""
        release_id = f"v{version}-{xxhash.xxh32_hexdigest(run_id.encode())}"
        queued = self._queue(release_id, version, strategy=Strategy.AUTO, actor=ACTOR, reason=why, at=known_at)
        self._conductor.doubt_alias()
        return queued

    async def start(self, *, model: str, version: str, strategy: Strategy, actor: str, reason: str) -> Account:
        """Starts a release by hand. `version` "" is the one that carries the alias challenger."""
        if model not in ("", self._model):
            raise Invalid(f"model: {model!r} is not served here; this platform serves {self._model!r}")
        aliases = await self._registry.aliases()
        version = version or aliases.get(CHALLENGER, "")
        champion = aliases.get(CHAMPION, "")
        if not version:
            raise Conflict("version: no version carries the alias challenger; name one")
        if version == champion:
            raise Conflict(f"version: {version} is the champion already")
        if strategy is Strategy.CANARY and not champion:
            raise Conflict("strategy: there is no champion to compare with; use blue-green")
        if not await self._registry.has_version(version):
            raise Conflict(f"version: {version} of {self._model} is not registered in MLflow")
        # No await from here: nothing may come between the check and the insert.
        in_progress = self._store.current()
        if in_progress is None or in_progress.ended_at is not None:
            in_progress = self._store.queued()
        if in_progress is not None:
            raise Conflict(f"release {in_progress.release_id} is in progress; abort or promote it first")
        release_id = f"v{version}-{uuid.uuid4().hex[:8]}"
        self._queue(
            release_id, version, strategy=strategy, actor=actor or _UNNAMED, reason=reason, at=self._world.watermark
        )
        return self._store.account(release_id)

    def promote(self, release_id: str, actor: str, why: str) -> Account:
        """Ends it with the challenger as the new champion, once the champion deployment has loaded it."""
        release = self._active(release_id)
        after = replace(release, phase=Phase.RUNNING, stage=Stage.PROMOTING)
        return self._change(release, after, actor, why or "promoted by hand")

    def abort(self, release_id: str, actor: str, why: str) -> Account:
        """Ends it with the champion as before."""
        release = self._store.get(release_id)
        stage = Stage.WITHDRAWING
        if release.stage is Stage.QUEUED:
            stage = Stage.DONE
        else:
            self._refuse_unless_active(release)
        ended_at = self._world.watermark or self._now()
        after = replace(release, phase=Phase.ABORTED, stage=stage, challenger_weight=0, ended_at=ended_at)
        return self._change(release, after, actor, why or "aborted by hand")

    def pause(self, release_id: str, actor: str, why: str) -> Account:
        """Stops the steps; the weights stay, and nothing is decided."""
        release = self._active(release_id)
        if release.phase is Phase.PAUSED:
            raise Conflict(f"release {release.release_id} is paused already")
        return self._change(release, replace(release, phase=Phase.PAUSED), actor, why or "paused by hand")

    def resume(self, release_id: str, actor: str, why: str) -> Account:
        """Goes on with the first of the recipe's steps above the present weight."""
        release = self._active(release_id)
        if release.phase is not Phase.PAUSED:
            raise Conflict(f"release {release.release_id} is {release.phase}, not paused")
        phase = Phase.PENDING if release.stage is Stage.LOADING else Phase.RUNNING
        return self._change(release, replace(release, phase=phase), actor, why or "resumed by hand")

    def set_weight(self, release_id: str, weight: int, actor: str, why: str) -> Account:
        """Sets the challenger's share, basis points, and pauses the steps."""
        if not 0 <= weight <= FULL_WEIGHT:
            raise Invalid(f"challenger_weight: {weight} is not within 0..{FULL_WEIGHT} basis points")
        release = self._active(release_id)
        if release.stage is Stage.LOADING:
            raise Conflict(f"the challenger deployment has not loaded version {release.challenger_version} yet")
        after = replace(release, phase=Phase.PAUSED, challenger_weight=weight)
        return self._change(release, after, actor, why or "weight set by hand")

    def _active(self, release_id: str) -> Release:
        release = self._store.get(release_id)
        self._refuse_unless_active(release)
        return release

    def _refuse_unless_active(self, release: Release) -> None:
        if release.ended_at is not None:
            raise Conflict(f"release {release.release_id} has ended: {release.phase}")
        if release.stage is Stage.QUEUED:
            raise Conflict(f"release {release.release_id} waits for its turn; it can only be aborted")
        if release.stage is Stage.PROMOTING:
            raise Conflict(
                f"release {release.release_id} is being promoted; to go back, release version "
                f"{release.champion_version or 'before'} when it is done"
            )

    def _queue(
        self, release_id: str, version: str, *, strategy: Strategy, actor: str, reason: str, at: datetime | None
    ) -> bool:
        now = self._now()
        release = Release(
            release_id=release_id,
            model=self._model,
            champion_version="",
            challenger_version=version,
            strategy=strategy,
            phase=Phase.PENDING,
            stage=Stage.QUEUED,
            challenger_weight=0,
            started_by=actor,
            reason=reason,
            started_at=at or now,
        )
        transition = Transition(now, at, Phase.PENDING, 0, actor, reason or "asked for by hand")
        added = self._store.add(release, transition)
        if added:
            announce(release, transition)
        return added

    def _change(self, before: Release, after: Release, actor: str, why: str) -> Account:
        transition = Transition(
            processed_at=self._now(),
            event_time=self._world.watermark,
            phase=after.phase,
            challenger_weight=after.challenger_weight,
            actor=actor or _UNNAMED,
            why=why,
        )
        announce(self._store.change(before, after, transition), transition)
        return self._store.account(before.release_id)
