"""The gRPC edge: MonitoringService."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.clock import from_us, proto_us, to_proto
from services.chassis.errors import Invalid, NotFound
from services.chassis.grpc_server import unary
from services.contracts.monitoring.v1 import monitoring_pb2, monitoring_pb2_grpc
from services.monitoring.database import Database
from services.monitoring.drift_book import DriftBook
from services.monitoring.quality_book import Group, QualityBook, Window
from services.monitoring.recorder import Recorder
from services.monitoring.retraining import read_triggers
from services.problem import ModelRecipe

SERVICE = monitoring_pb2.DESCRIPTOR.services_by_name["MonitoringService"].full_name
_MICROSECOND = timedelta(microseconds=1)


class MonitoringServicer(monitoring_pb2_grpc.MonitoringServiceServicer):
    """Answers from SQL, in threads; nothing here changes anything."""

    def __init__(
        self,
        *,
        recipe: ModelRecipe,
        database: Database,
        recorder: Recorder,
        quality: QualityBook,
        drift: DriftBook,
        champion: Callable[[], str | None],
    ) -> None:
        self._recipe = recipe
        self._database = database
        self._recorder = recorder
        self._quality = quality
        self._drift = drift
        self._champion = champion

    @unary
    async def GetQuality(
        self, request: monitoring_pb2.GetQualityRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> monitoring_pb2.GetQualityResponse:
        """Quality over windows. Invalid on a range that ends before it begins; NotFound for another model."""
        if request.model not in ("", self._recipe.name):
            raise NotFound(f"model: {request.model!r} is not watched here, only {self._recipe.name!r}")
        if request.window_s < 0:
            raise Invalid(f"window_s: {request.window_s} is negative; 0 makes one window")
        span = Window(_bound(request, "from"), _bound(request, "to"), request.release_id, request.by_weight)
        if span.from_us is not None and span.to_us is not None and span.from_us >= span.to_us:
            raise Invalid("to: must lie after from")
        watermark = self._watermark()
        groups = await asyncio.to_thread(self._quality.windows, span, request.window_s * 1_000_000)
        wanted = set(request.versions)
        return monitoring_pb2.GetQualityResponse(
            windows=[_quality(group) for group in groups if not wanted or group.version in wanted],
            watermark=watermark,
        )

    @unary
    async def GetCounts(
        self, _request: monitoring_pb2.GetCountsRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> monitoring_pb2.GetCountsResponse:
        """The counts as of the last batch."""
        counts = self._recorder.counts
        return monitoring_pb2.GetCountsResponse(
            recorded=counts.recorded,
            joined=counts.joined,
            void=counts.void,
            pending=counts.pending,
            expired=counts.expired,
            duplicate_predictions=counts.duplicate_predictions,
            duplicate_labels=counts.duplicate_labels,
            watermark=self._watermark(),
        )

    @unary
    async def GetDrift(
        self, request: monitoring_pb2.GetDriftRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> monitoring_pb2.GetDriftResponse:
        """Drift of the champion's features; without bounds over the recipe's window up to the watermark."""
        version = await asyncio.to_thread(self._champion)
        reference = await asyncio.to_thread(self._drift.reference, version) if version else None
        if reference is None:
            raise NotFound("there is no champion with a training reference yet; drift is measured against it")
        to_us = _bound(request, "to") or (self._recorder.watermark_us or 0)
        from_bound = _bound(request, "from")
        from_us_ = to_us - self._recipe.retrain.window // _MICROSECOND if from_bound is None else from_bound
        await asyncio.to_thread(self._drift.catch_up)
        drifts = await asyncio.to_thread(self._drift.window, reference, from_us_, to_us)
        return monitoring_pb2.GetDriftResponse(
            reference_version=reference.version,
            features=[
                monitoring_pb2.FeatureDrift(
                    feature=drift.feature,
                    psi=drift.psi,
                    threshold=drift.threshold,
                    drifted=drift.drifted,
                    missing_share=drift.missing_share,
                    rows=drift.rows,
                )
                for drift in drifts
            ],
        )

    @unary
    async def ListTriggers(
        self, _request: monitoring_pb2.ListTriggersRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> monitoring_pb2.ListTriggersResponse:
        """Every retrain asked for, newest first."""
        return await asyncio.to_thread(self._triggers)

    def _triggers(self) -> monitoring_pb2.ListTriggersResponse:
        with self._database.read() as connection:
            triggers = read_triggers(connection)
        return monitoring_pb2.ListTriggersResponse(
            triggers=[
                monitoring_pb2.Trigger(
                    request_id=trigger.request_id,
                    kind=trigger.kind,
                    reason=trigger.reason,
                    event_time=to_proto(trigger.event_time),
                )
                for trigger in triggers
            ]
        )

    def _watermark(self) -> Timestamp | None:
        watermark_us = self._recorder.watermark_us
        return None if watermark_us is None else to_proto(from_us(watermark_us))


def _bound(request: Any, name: str) -> int | None:
    return proto_us(getattr(request, name)) if request.HasField(name) else None


def _quality(group: Group) -> monitoring_pb2.Quality:
    scored = group.scored
    quality = monitoring_pb2.Quality(
        model_version=group.version,
        variant=group.variant,
        to=to_proto(from_us(group.to_us)),
        predictions=group.predictions,
        labels=scored.labels,
        positive_rate=scored.positive_rate or 0.0,
        mean_score=scored.mean_score or 0.0,
        auc=scored.auc,
        log_loss=scored.log_loss,
        brier=scored.brier,
        calibration_error=scored.calibration_error,
        log_loss_se=scored.log_loss_se,
        challenger_weight=group.challenger_weight,
    )
    # `from` is a word of Python.
    getattr(quality, "from").CopyFrom(to_proto(from_us(group.from_us)))
    return quality
