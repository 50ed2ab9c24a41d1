"""The gRPC edge: translates PublishEvents, nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from services.chassis.grpc_server import unary
from services.contracts.ingestion.v1 import ingestion_pb2, ingestion_pb2_grpc
from services.ingestion.intake import Answer, Intake

SERVICE = ingestion_pb2.DESCRIPTOR.services_by_name["IngestionService"].full_name


class IngestionServicer(ingestion_pb2_grpc.IngestionServiceServicer):
    """`slipway.ingestion.v1.IngestionService`."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    @unary
    async def PublishEvents(
        self,
        request: ingestion_pb2.PublishEventsRequest,
        context: grpc.aio.ServicerContext[Any, Any],  # noqa: ARG002  gRPC passes it
    ) -> ingestion_pb2.PublishEventsResponse:
        """Raises UNAVAILABLE if the broker does not confirm."""
        answers = await asyncio.to_thread(self._intake.publish, list(request.cloud_events), "grpc")
        return ingestion_pb2.PublishEventsResponse(results=[_result(answer) for answer in answers])


def _result(answer: Answer) -> ingestion_pb2.EventResult:
    outcome = (
        ingestion_pb2.EventResult.OUTCOME_ACCEPTED if answer.accepted else ingestion_pb2.EventResult.OUTCOME_REJECTED
    )
    return ingestion_pb2.EventResult(
        outcome=outcome, event_id=answer.event_id, reason=answer.reason, detail=answer.detail
    )
