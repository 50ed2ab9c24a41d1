"""Monitoring's word on the two arms of a release."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime

import grpc

from services.chassis.clock import from_proto, to_proto
from services.chassis.errors import Unavailable
from services.contracts.monitoring.v1 import monitoring_pb2 as pb
from services.contracts.monitoring.v1 import monitoring_pb2_grpc as rpc
from services.router.assignment import CHALLENGER, CHAMPION
from services.router.evidence import NO_LABELS, Arm, StepEvidence
from services.router.releases import Release, StepBegun

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
        """The watermark, and both arms at each step that has begun: predictions for moments within the step."""
        if not release.steps:
            return await self.watermark(release), ()
        ends: list[datetime | None] = [*(step.since for step in release.steps[1:]), None]
        steps = zip(release.steps, ends, strict=True)
        answers = await asyncio.gather(*(self._ask_step(release, step, end) for step, end in steps))
        begun = zip(release.steps, answers, strict=True)
        return _watermark(answers[-1]), tuple(_step(release, step, answer.windows) for step, answer in begun)

    async def _ask_step(self, release: Release, step: StepBegun, end: datetime | None) -> pb.GetQualityResponse:
        """A step that ended at the watermark it began at is empty, and an empty range may not be asked for."""
        if end is not None and end <= step.since:
            return pb.GetQualityResponse()
        return await self._ask(_request(release, step, end))

    async def _ask(self, request: pb.GetQualityRequest) -> pb.GetQualityResponse:
        try:
            answer: pb.GetQualityResponse = await self._stub.GetQuality(request, timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise Unavailable(f"monitoring does not answer: {error.code().name} {error.details()}") from error
        return answer


def _request(release: Release, step: StepBegun, end: datetime | None) -> pb.GetQualityRequest:
    request = pb.GetQualityRequest(model=release.model, release_id=release.release_id)
    request.versions.extend([release.champion_version, release.challenger_version])
    getattr(request, "from").CopyFrom(to_proto(step.since))  # `from` is a word of Python's
    if end is not None:
        request.to.CopyFrom(to_proto(end))
    return request


def _step(release: Release, step: StepBegun, windows: Iterable[pb.Quality]) -> StepEvidence:
    arms = {(window.model_version, window.variant): _arm(window) for window in windows}
    return StepEvidence(
        step.weight,
        champion=arms.get((release.champion_version, CHAMPION), NO_LABELS),
        challenger=arms.get((release.challenger_version, CHALLENGER), NO_LABELS),
    )


def _arm(window: pb.Quality) -> Arm:
    return Arm(
        labels=window.labels,
        log_loss=window.log_loss if window.HasField("log_loss") else None,
        log_loss_se=window.log_loss_se if window.HasField("log_loss_se") else None,
    )


def _watermark(answer: pb.GetQualityResponse) -> datetime | None:
    return from_proto(answer.watermark) if answer.HasField("watermark") else None
