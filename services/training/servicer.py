"""The gRPC edge: TrainingService."""

# ruff: noqa: ARG002  gRPC hands both arguments to every method

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import grpc

from services.chassis.grpc_server import unary
from services.contracts.training.v1 import training_pb2 as pb
from services.contracts.training.v1 import training_pb2_grpc as rpc
from services.training import metrics
from services.training.runs import check_request
from services.training.store import RunStore
from services.training.translate import request_from_proto, run_to_proto

SERVICE = "slipway.training.v1.TrainingService"
Context = grpc.aio.ServicerContext[Any, Any]


class TrainingServicer(rpc.TrainingServiceServicer):
    """Only translates. A person may leave the model and the request's id to us."""

    def __init__(self, *, store: RunStore, model: str, new_id: Callable[[], str]) -> None:
        self._store = store
        self._model = model
        self._new_id = new_id

    @unary
    async def StartRun(self, request: pb.StartRunRequest, context: Context) -> pb.StartRunResponse:
        told = request_from_proto(request.request)
        asked = replace(
            told, model=told.model or self._model, request_id=told.request_id or f"by-hand-{self._new_id()}"
        )
        check_request(asked, self._model)
        run = self._store.queue(asked)
        metrics.REQUESTS.labels("grpc", "queued").inc()
        metrics.QUEUED.set(self._store.queued())
        return pb.StartRunResponse(run_id=run.run_id)

    @unary
    async def GetRun(self, request: pb.GetRunRequest, context: Context) -> pb.GetRunResponse:
        return pb.GetRunResponse(run=run_to_proto(self._store.get(request.run_id)))

    @unary
    async def ListRuns(self, request: pb.ListRunsRequest, context: Context) -> pb.ListRunsResponse:
        return pb.ListRunsResponse(runs=[run_to_proto(run) for run in self._store.all()])
