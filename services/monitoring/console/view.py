"""Everything that the page shows at one moment, made once for all who look."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from services.chassis.clock import Now, from_us, utc_now
from services.chassis.errors import Unavailable
from services.chassis.lifecycle import Lifecycle
from services.chassis.logging import get_logger
from services.contracts.router.v1 import router_pb2
from services.contracts.training.v1 import training_pb2
from services.monitoring import metrics
from services.monitoring.console.platform import Platform
from services.monitoring.console.stations import Station, stations, track
from services.monitoring.database import Database
from services.monitoring.drift import FeatureDrift
from services.monitoring.drift_book import DriftBook, Histogram
from services.monitoring.history import RELEASING, read_history, read_releases, read_runs
from services.monitoring.joiner import Counts
from services.monitoring.mlflow_client import Version
from services.monitoring.quality_book import Group, QualityBook, Window
from services.monitoring.recorder import Recorder
from services.monitoring.registry import Registry
from services.monitoring.retraining import Retraining, Trigger, read_triggers
from services.monitoring.triggers import History, Verdict
from services.problem import ModelRecipe

_WATCHED_S, _UNWATCHED_S = 1.5, 10.0
_MOST_WINDOWS = 60
_HEAT_WINDOWS, _HEAT_FEATURES = 40, 30
_LENGTHS_US = [hours * 3_600_000_000 for hours in (1, 3, 6, 12, 24, 48, 7 * 24, 14 * 24, 28 * 24)]


@dataclass(frozen=True, slots=True)
class HeatMap:
    """PSI by feature (rows, worst first) and window (columns); None: no prediction with a reference."""

    starts: Sequence[datetime] = ()
    features: Sequence[str] = ()
    psi: Sequence[Sequence[float | None]] = ()


@dataclass(frozen=True, slots=True)
class View:
    """The state as of `at` (wall clock) and `watermark` (event time, None before the first)."""

    at: datetime
    watermark: datetime | None = None
    counts: Counts = field(default_factory=Counts)
    champion: str | None = None
    versions: Sequence[Version] = ()
    registry_problem: str = ""
    stations: Sequence[Station] = ()
    quality: Sequence[Group] = ()
    window: timedelta = timedelta(days=1)
    releases: Sequence[router_pb2.Release] = ()
    arms: Sequence[Group] = ()
    runs: Sequence[training_pb2.Run] = ()
    triggers: Sequence[Trigger] = ()
    drift: Sequence[FeatureDrift] = ()
    heat: HeatMap = field(default_factory=HeatMap)
    verdict: Verdict | None = None
    history: History = field(default_factory=History)

    @property
    def release(self) -> router_pb2.Release | None:
        """The release in progress, else the last one."""
        return next((r for r in self.releases if r.phase in RELEASING), self.releases[0] if self.releases else None)

    @property
    def releasing(self) -> bool:
        """Whether a release is in progress."""
        return self.release is not None and self.release.phase in RELEASING


class Viewer:
    """Makes the view while somebody looks, and the gauges of the last window in any case."""

    def __init__(
        self,
        *,
        recipe: ModelRecipe,
        database: Database,
        recorder: Recorder,
        quality: QualityBook,
        drift: DriftBook,
        registry: Registry,
        retraining: Retraining,
        platform: Platform,
        now: Now = utc_now,
    ) -> None:
        self.recipe = recipe
        self.platform = platform
        self._database = database
        self._recorder = recorder
        self._quality = quality
        self._drift = drift
        self._registry = registry
        self._retraining = retraining
        self._now = now
        self.view = View(now())
        track(platform, lambda: recorder.counts)

    async def follow(self, lifecycle: Lifecycle) -> None:
        """Refreshes until the process stops."""
        while not lifecycle.stopping.is_set():
            await self.refresh()
            for _ in range(int(_UNWATCHED_S / _WATCHED_S)):
                await asyncio.sleep(_WATCHED_S)
                if self.platform.watched:
                    break

    async def refresh(self) -> None:
        """Makes the view anew; while SQL does not answer the last one stands."""
        try:
            self.view = await asyncio.to_thread(self._look)
        except Unavailable as error:
            get_logger().warning("view_delayed", error=str(error))

    def _look(self) -> View:
        recorder, registry = self._recorder, self._registry
        watermark = None if recorder.watermark_us is None else from_us(recorder.watermark_us)
        with self._database.read() as connection:
            releases, runs, triggers = read_releases(connection), read_runs(connection), read_triggers(connection)
            history = read_history(connection)
        champion = registry.champion()
        length_us, quality = self._windows()
        drift = self._last_drift(champion)
        metrics.show_drift(drift)
        metrics.TRIGGERS.set(len(triggers))
        view = View(
            at=self._now(),
            watermark=watermark,
            counts=recorder.counts,
            champion=champion,
            versions=registry.versions,
            registry_problem=registry.problem,
            stations=stations(self.platform, recorder.counts, watermark),
            quality=quality,
            window=timedelta(microseconds=length_us),
            releases=releases,
            runs=self._latest_runs(runs),
            triggers=triggers,
            drift=drift,
            heat=self._heat(max(length_us, self._drift.bucket_us)),
            verdict=self._retraining.verdict,
            history=history,
        )
        return self._with_arms(view)

    def _with_arms(self, view: View) -> View:
        if view.release is None:
            return view
        arms = self._quality.groups(Window(release_id=view.release.release_id))
        return View(**{name: getattr(view, name) for name in View.__dataclass_fields__} | {"arms": arms})

    def _windows(self) -> tuple[int, list[Group]]:
        """All of time in windows of a round length, few enough for one picture."""
        whole = self._quality.bounds()
        span_us = 0 if whole is None else whole[1] - whole[0]
        fitting = (length for length in _LENGTHS_US if span_us <= length * _MOST_WINDOWS)
        length_us = next(fitting, _LENGTHS_US[-1])
        groups = self._quality.windows(Window(), length_us)
        last = max((group.from_us for group in groups if group.scored.labels), default=0)
        metrics.show_quality(group for group in groups if group.from_us == last)
        return length_us, groups

    def _last_drift(self, champion: str | None) -> list[FeatureDrift]:
        to_us = self._recorder.watermark_us
        reference = self._drift.reference(champion) if champion else None
        if reference is None or to_us is None:
            return []
        self._drift.catch_up()
        return self._drift.window(reference, to_us - self.recipe.retrain.window // timedelta(microseconds=1), to_us)

    def _heat(self, length_us: int) -> HeatMap:
        by_window: dict[int, list[Histogram]] = {}
        now_us = self._recorder.watermark_us or 0
        for bucket in self._drift.buckets(now_us - _HEAT_WINDOWS * length_us, now_us + length_us):
            by_window.setdefault(bucket.bucket_us // length_us, []).append(bucket)
        if not by_window:
            return HeatMap()
        columns = range(min(by_window), max(by_window) + 1)
        compared = [self._compare(by_window.get(column, [])) for column in columns]
        worst: dict[str, float] = {}
        for found in compared:
            for name, psi in found.items():
                worst[name] = max(psi, worst.get(name, 0.0))
        features = sorted(worst, key=lambda name: -worst[name])[:_HEAT_FEATURES]
        return HeatMap(
            starts=[from_us(column * length_us) for column in columns],
            features=features,
            psi=[[found.get(name) for found in compared] for name in features],
        )

    def _compare(self, buckets: Sequence[Histogram]) -> dict[str, float]:
        """PSI by feature, of the version that was asked most in these buckets against its own reference."""
        if not buckets:
            return {}
        rows: dict[str, int] = {}
        for bucket in buckets:
            rows[bucket.version] = rows.get(bucket.version, 0) + bucket.rows
        version = max(rows, key=lambda name: rows[name])
        counts = np.sum([bucket.counts for bucket in buckets if bucket.version == version], axis=0)
        return {drift.feature: drift.psi for drift in self._drift.compare(version, counts)}

    def _latest_runs(self, told: Sequence[training_pb2.Run]) -> Sequence[training_pb2.Run]:
        """As training itself tells them, for it knows their stage; else as Kafka told their start and end."""
        return told if self.platform.runs is None else self.platform.runs
