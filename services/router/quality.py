"""Monitoring's word on the two arms of a release."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import grpc

from services.chassis.clock import from_proto
from services.chassis.errors import Unavailable
from services.contracts.monitoring.v1 import monitoring_pb2 as pb
from services.contracts.monitoring.v1 import monitoring_pb2_grpc as rpc
from services.router.assignment import CHALLENGER, CHAMPION
from services.router.evidence import NO_LABELS, Arm, StepEvidence
from services.router.releases import Release

_TIMEOUT_S = 5.0


class Quality:
    """MonitoringService behind its channel. Raises Unavailable if it does not answer."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = rpc.MonitoringServiceStub(channel)  # type: ignore[no-untyped-call]

    async def watermark(self, release: Release) -> datetime | None:
        """Event time up to which monitoring knows everything; None before its first event."""
        request = pb.GetQualityRequest(model=release.model, release_id=release.release_id)
        return _watermark(await self._ask(request))

    async def of(self, release: Release) -> tuple[datetime | None, tuple[StepEvidence, ...]]:
        """The watermark, and both arms at each step that has begun: the calls that were assigned at its weight."""
        versions = [release.champion_version, release.challenger_version]
        request = pb.GetQualityRequest(
            model=release.model, release_id=release.release_id, versions=versions, by_weight=True
        )
        answer = await self._ask(request)
        arms = {(told.challenger_weight, told.model_version, told.variant): _arm(told) for told in answer.windows}
        # The present step is the last; a weight that was set twice is one step, since its calls are counted once.
        weights = reversed(dict.fromkeys(step.weight for step in reversed(release.steps)))
        return _watermark(answer), tuple(_step(release, weight, arms) for weight in weights)

    async def _ask(self, request: pb.GetQualityRequest) -> pb.GetQualityResponse:
        try:
            answer: pb.GetQualityResponse = await self._stub.GetQuality(request, timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise Unavailable(f"monitoring does not answer: {error.code().name} {error.details()}") from error
        return answer


def _step(release: Release, weight: int, arms: Mapping[tuple[int, str, str], Arm]) -> StepEvidence:
    return StepEvidence(
        weight,
        champion=arms.get((weight, release.champion_version, CHAMPION), NO_LABELS),
        challenger=arms.get((weight, release.challenger_version, CHALLENGER), NO_LABELS),
    )


def _arm(told: pb.Quality) -> Arm:
    return Arm(
        labels=told.labels,
        log_loss=told.log_loss if told.HasField("log_loss") else None,
        log_loss_se=told.log_loss_se if told.HasField("log_loss_se") else None,
    )


def _watermark(answer: pb.GetQualityResponse) -> datetime | None:
    return from_proto(answer.watermark) if answer.HasField("watermark") else None
