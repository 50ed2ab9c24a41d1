"""The gRPC edge: the Open Inference Protocol. It only translates."""

# ruff: noqa: ARG002  gRPC hands both arguments to every method

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from services import __version__
from services.chassis.errors import NotFound, SlipwayError, Unavailable
from services.chassis.grpc_server import status_of, unary
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2_grpc as v2_grpc
from services.inference.loaded_model import OUTPUT
from services.inference.metrics import InferenceMetrics
from services.inference.predictor import CurrentModel, Predictor

SERVICE = v2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
DETAIL = "x-slipway-detail"
PLATFORM = "onnxruntime_onnx"

Context = grpc.aio.ServicerContext[Any, Any]


class InferenceServicer(v2_grpc.GRPCInferenceServiceServicer):
    """Answers for one registered model.

    While the version that the alias names is not the one that serves, ModelReady says why in the trailing metadata
    `x-slipway-detail`.
    """

    def __init__(self, predictor: Predictor, deployment: CurrentModel, metrics: InferenceMetrics) -> None:
        self._predictor = predictor
        self._deployment = deployment
        self._metrics = metrics

    @unary
    async def ServerLive(self, request: v2.ServerLiveRequest, context: Context) -> v2.ServerLiveResponse:
        return v2.ServerLiveResponse(live=True)

    @unary
    async def ServerReady(self, request: v2.ServerReadyRequest, context: Context) -> v2.ServerReadyResponse:
        return v2.ServerReadyResponse(ready=self._deployment.current is not None)

    @unary
    async def ServerMetadata(self, request: v2.ServerMetadataRequest, context: Context) -> v2.ServerMetadataResponse:
        return v2.ServerMetadataResponse(name="slipway-inference", version=__version__)

    @unary
    async def ModelReady(self, request: v2.ModelReadyRequest, context: Context) -> v2.ModelReadyResponse:
        """False for what is not loaded, whatever the reason."""
        detail = self._deployment.detail
        try:
            self._predictor.model(request.name, request.version)
            ready = True
        except (NotFound, Unavailable) as error:
            ready, detail = False, detail or str(error)
        if detail:
            context.set_trailing_metadata(((DETAIL, _ascii(detail)),))
        return v2.ModelReadyResponse(ready=ready)

    @unary
    async def ModelMetadata(self, request: v2.ModelMetadataRequest, context: Context) -> v2.ModelMetadataResponse:
        model = self._predictor.model(request.name, request.version)
        response = v2.ModelMetadataResponse(name=model.name, versions=[model.version], platform=PLATFORM)
        for column in model.contract.inputs:
            response.inputs.add(name=column.name, datatype=column.datatype, shape=[-1])
        response.outputs.add(name=OUTPUT, datatype="FP32", shape=[-1])
        return response

    @unary
    async def ModelInfer(self, request: v2.ModelInferRequest, context: Context) -> v2.ModelInferResponse:
        code = grpc.StatusCode.INTERNAL.name
        try:
            metadata = context.invocation_metadata() or ()
            response = await self._predictor.infer(request, metadata, context.time_remaining())
            code = grpc.StatusCode.OK.name
            return response
        except SlipwayError as error:
            code = status_of(error).name
            raise
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED.name
            raise
        finally:
            self._metrics.requests.labels(code).inc()


def _ascii(text: str) -> str:
    """As a metadata value: printable ASCII in one line, of a size that a header may have."""
    return " ".join(text.split()).encode("ascii", "replace").decode()[:2000]
