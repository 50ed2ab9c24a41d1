"""The world as a release sees it: its deployments, Envoy, monitoring and the registry, looked at together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.chassis.errors import Unavailable
from services.router.decision import Seen
from services.router.deployments import Deployment
from services.router.envoy_counters import EnvoyCounters
from services.router.envoy_polls import EnvoyPolls
from services.router.evidence import Evidence
from services.router.quality import Quality
from services.router.releases import NO_CALLS, Calls, Release, Stage, Strategy, split_of


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen, and Envoy's raw counters, where a new step begins to count."""

    seen: Seen
    champion_calls: Calls = NO_CALLS
    challenger_calls: Calls = NO_CALLS


class World:
    """`monotonic` is a clock in seconds."""

    def __init__(
        self,
        *,
        champion: Deployment,
        challenger: Deployment,
        polls: EnvoyPolls,
        counters: EnvoyCounters,
        quality: Quality,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._champion = champion
        self._challenger = challenger
        self._polls = polls
        self._counters = counters
        self._quality = quality
        self._monotonic = monotonic
        self._failing_since: dict[str, float] = {}
        self.watermark: datetime | None = None
        """Monitoring's last known watermark."""

    def applied(self, release: Release | None) -> bool:
        """Whether Envoy has taken over what the release says."""
        return self._polls.applied(split_of(release).version)

    async def look(self, release: Release) -> Look:
        """What the release's stage needs to know."""
        if release.stage is Stage.LOADING:
            return await self._ask(self._challenger, release)
        if release.stage is Stage.PROMOTING:
            return await self._ask(self._champion, release)
        applied = self.applied(release)
        if not applied or release.strategy is Strategy.BLUE_GREEN:
            return Look(Seen(applied=applied))
        return await self._measure(release)

    async def ask_watermark(self, release: Release) -> datetime | None:
        """Monitoring's watermark now, or the last one known if it does not answer."""
        try:
            self.watermark = await self._quality.watermark(release)
        except Unavailable:
            return self.watermark
        return self.watermark

    async def _ask(self, deployment: Deployment, release: Release) -> Look:
        not_loaded = await deployment.not_loaded(release.challenger_version)
        return Look(Seen(not_loaded=not_loaded, failing_for=self._failing_for(release, failing=bool(not_loaded))))

    async def _measure(self, release: Release) -> Look:
        try:
            # Two looks at the same moment; neither waits for the other.
            quality, calls = await asyncio.gather(self._quality.of(release), self._counters.read())
        except Unavailable as error:
            return Look(Seen(unmeasured=str(error), failing_for=self._failing_for(release, failing=True)))
        self._failing_for(release, failing=False)
        (self.watermark, steps), (champion_calls, challenger_calls) = quality, calls
        evidence = Evidence(watermark=self.watermark, steps=steps)
        if release.step is not None:
            evidence = replace(
                evidence,
                champion_calls=champion_calls.since(release.step.champion_calls),
                challenger_calls=challenger_calls.since(release.step.challenger_calls),
            )
        return Look(Seen(evidence=evidence), champion_calls, challenger_calls)

    def _failing_for(self, release: Release, *, failing: bool) -> timedelta:
        """How long looks at this stage of this release have failed in a row; whole seconds."""
        key = f"{release.release_id} {release.stage}"
        now = self._monotonic()
        self._failing_since = {key: self._failing_since.get(key, now)} if failing else {}
        return timedelta(seconds=round(now - self._failing_since.get(key, now)))
