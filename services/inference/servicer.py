"""The gRPC edge: the Open Inference Protocol. It only translates."""

# ruff: noqa: ARG002  gRPC hands both arguments to every method

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

import grpc

from services import __version__
from services.chassis.errors import Invalid, NotFound, SlipwayError, Unavailable
from services.chassis.grpc_server import status_of, streaming, unary
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2_grpc as v2_grpc
from services.inference.loaded_model import OUTPUT
from services.inference.metrics import InferenceMetrics
from services.inference.predictor import CurrentModel, Predictor

SERVICE = v2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
DETAIL = "x-slipway-detail"
PLATFORM = "onnxruntime_onnx"
EXTENSIONS = ("model_repository",)

Context = grpc.aio.ServicerContext[Any, Any]


class Repository(CurrentModel, Protocol):
    """What is loaded, and how to change it."""

    @property
    def wanted(self) -> str | None:
        """The version that the alias names, None without such an alias."""

    async def load_now(self) -> None:
        """Looks at the alias at once; raises if its version does not serve then."""

    async def unload(self, version: str = "") -> None:
        """Lets go of what the alias does not name."""


def version_states(deployment: Repository, *, only_ready: bool) -> list[tuple[str, str, str]]:
    """Version, state and reason: of each loaded version, and of the alias's if it is not among them."""
    loaded = [model.version for model in deployment.loaded]
    states = [(version, "READY", "") for version in loaded]
    wanted = deployment.wanted or ""
    if not only_ready and (wanted or not loaded) and wanted not in loaded:
        states.append((wanted, "UNAVAILABLE", deployment.detail))
    return states


class InferenceServicer(v2_grpc.GRPCInferenceServiceServicer):
    """Answers for one registered model.

    While the version that the alias names is not the one that serves, ModelReady says why in the trailing metadata
    `x-slipway-detail`.
    """

    def __init__(self, predictor: Predictor, deployment: Repository, metrics: InferenceMetrics) -> None:
        self._predictor = predictor
        self._deployment = deployment
        self._metrics = metrics

    @unary
    async def ServerLive(self, request: v2.ServerLiveRequest, context: Context) -> v2.ServerLiveResponse:
        return v2.ServerLiveResponse(live=True)

    @unary
    async def ServerReady(self, request: v2.ServerReadyRequest, context: Context) -> v2.ServerReadyResponse:
        return v2.ServerReadyResponse(ready=bool(self._deployment.loaded))

    @unary
    async def ServerMetadata(self, request: v2.ServerMetadataRequest, context: Context) -> v2.ServerMetadataResponse:
        return v2.ServerMetadataResponse(name="slipway-inference", version=__version__, extensions=EXTENSIONS)

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
        versions = [loaded.version for loaded in self._deployment.loaded]
        response = v2.ModelMetadataResponse(name=model.name, versions=versions, platform=PLATFORM)
        for column in model.contract.inputs:
            response.inputs.add(name=column.name, datatype=column.datatype, shape=[-1])
        response.outputs.add(name=OUTPUT, datatype="FP32", shape=[-1])
        return response

    @unary
    async def ModelInfer(self, request: v2.ModelInferRequest, context: Context) -> v2.ModelInferResponse:
        return await self._infer(request, context)

    @streaming
    async def ModelStreamInfer(
        self, request: AsyncIterator[v2.ModelInferRequest], context: Context
    ) -> AsyncIterator[v2.ModelStreamInferResponse]:
        async for each in request:
            try:
                yield v2.ModelStreamInferResponse(infer_response=await self._infer(each, context))
            except SlipwayError as error:
                failed = v2.ModelInferResponse(model_name=each.model_name, id=each.id)
                yield v2.ModelStreamInferResponse(error_message=str(error), infer_response=failed)

    @unary
    async def RepositoryIndex(self, request: v2.RepositoryIndexRequest, context: Context) -> v2.RepositoryIndexResponse:
        """Every loaded version, and the alias's if it is not among them."""
        if request.repository_name:
            raise Invalid(f"repository_name: expected none, for there is one registry; got {request.repository_name!r}")
        response = v2.RepositoryIndexResponse()
        for version, state, reason in version_states(self._deployment, only_ready=request.ready):
            response.models.add(name=self._predictor.name, version=version, state=state, reason=reason)
        return response

    @unary
    async def RepositoryModelLoad(
        self, request: v2.RepositoryModelLoadRequest, context: Context
    ) -> v2.RepositoryModelLoadResponse:
        name = self._repository_model(request)
        if request.parameters:
            given = ", ".join(sorted(request.parameters))
            raise Invalid(f"parameters: expected none, got {given}; a model comes from the registry, by its alias")
        await self._deployment.load_now()
        return v2.RepositoryModelLoadResponse(model_name=name, isLoaded=True)

    @unary
    async def RepositoryModelUnload(
        self, request: v2.RepositoryModelUnloadRequest, context: Context
    ) -> v2.RepositoryModelUnloadResponse:
        name = self._repository_model(request)
        await self._deployment.unload(_version_parameter(request.parameters))
        return v2.RepositoryModelUnloadResponse(model_name=name, isUnloaded=True)

    def _repository_model(self, request: v2.RepositoryModelLoadRequest | v2.RepositoryModelUnloadRequest) -> str:
        """The model's name, also where KServe's clients put it."""
        name, repository = request.model_name, request.repository_name
        if name and repository:
            raise Invalid(f"repository_name: expected none, for there is one registry; got {repository!r}")
        if (name or repository) != self._predictor.name:
            raise NotFound(f"model {name or repository!r} is not served here; expected {self._predictor.name!r}")
        return self._predictor.name

    async def _infer(self, request: v2.ModelInferRequest, context: Context) -> v2.ModelInferResponse:
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


def _version_parameter(parameters: Mapping[str, v2.ModelRepositoryParameter]) -> str:
    if "version" not in parameters:
        return ""
    version = parameters["version"].string_param
    if not version:
        raise Invalid("parameter version: expected a string_param with a version's number")
    return version


def _ascii(text: str) -> str:
    """As a metadata value: printable ASCII in one line, of a size that a header may have."""
    return " ".join(text.split()).encode("ascii", "replace").decode()[:2000]
