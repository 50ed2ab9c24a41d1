"""The container contracts of SageMaker (`/ping`, `/invocations`) and of Vertex AI (routes and port by variables)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field
from pydantic_core import to_json
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.inference.loaded_model import LoadedModel
from services.inference.predictor import CurrentModel, Predictor
from services.inference.rest.bodies import UnknownContent, read_body
from services.inference.rest.caller import Caller
from services.inference.rest.documentation import CSV, INSTANCES, JSON, TABLE, described
from services.inference.rest.elements import from_raw
from services.inference.rest.open_inference import get_parameters
from services.inference.rest.tables import read_csv, read_instances

_ROUTE = r"^/[^{}\s]+$"
# What a prediction must tell beside its number; SageMaker hands this header on to its callers.
_TOLD = ("prediction_id", "missing_features", "stale_features")
_SAGEMAKER_TELLS = "x-amzn-sagemaker-custom-attributes"
_VERTEX_TELLS = "x-slipway-prediction"

ReadRows = Callable[[LoadedModel, bytes], v2.ModelInferRequest]


class CloudSettings(BaseSettings):
    """What the clouds tell a container, in variables of their own names."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, use_attribute_docstrings=True)

    aip_http_port: int | None = Field(default=None, ge=0, le=65535)
    """Vertex AI: the port."""
    aip_health_route: str = Field(default="", pattern=f"{_ROUTE}|^$")
    """Vertex AI: the path of its health checks."""
    aip_predict_route: str = Field(default="", pattern=f"{_ROUTE}|^$")
    """Vertex AI: the path of its predictions."""
    sagemaker_bind_to_port: int = Field(default=8080, ge=0, le=65535)
    """SageMaker: the port."""
    sagemaker_serves: bool = False
    """Whether it is SageMaker that started the container, by the argument `serve`."""

    def port(self, own: int, *, own_is_told: bool) -> int:
        """The HTTP port: our own setting if somebody made it, else the cloud's that runs us, else our default."""
        if own_is_told:
            return own
        if self.aip_http_port is not None:
            return self.aip_http_port
        return self.sagemaker_bind_to_port if self.sagemaker_serves else own


class Clouds:
    """Answers the clouds about the one model that is served."""

    def __init__(
        self,
        model: str,
        *,
        predictor: Predictor,
        deployment: CurrentModel,
        caller: Caller,
        stopping: Callable[[], bool],
    ) -> None:
        self._model = model
        self._predictor = predictor
        self._deployment = deployment
        self._caller = caller
        self._stopping = stopping

    async def health(self) -> JSONResponse:
        """200 while a version is loaded and the process goes on, else 503; why is in `detail`."""
        ready = bool(self._deployment.loaded) and not self._stopping()
        return JSONResponse({"ready": ready, "detail": self._deployment.detail}, 200 if ready else 503)

    async def infer(self, request: Request, read: ReadRows) -> v2.ModelInferResponse:
        """The answer for rows that `read` takes from the body. Raises SlipwayError."""
        with self._caller.counted():
            headers = dict(request.scope["headers"])
            body = await read_body(request.receive, headers)
            model = self._predictor.model(self._model, "")
            return await self._caller.infer(read(model, body), headers)


def add_vertex(app: FastAPI, clouds: Clouds, settings: CloudSettings) -> None:
    """Vertex AI's routes, where it names them. They come before ours, but for the protocol's infer call."""
    if settings.aip_health_route:

        @app.get(settings.aip_health_route, summary="Vertex AI: may requests come?", tags=["clouds"])
        async def vertex_health() -> Response:
            return await clouds.health()

    if settings.aip_predict_route:

        @app.post(
            settings.aip_predict_route,
            summary="Vertex AI: predict",
            tags=["clouds"],
            openapi_extra=described(json=INSTANCES),
        )
        async def vertex_predict(request: Request) -> Response:
            answer = await clouds.infer(request, read_instances)
            return _predictions(answer, _VERTEX_TELLS)


def add_sagemaker(app: FastAPI, clouds: Clouds) -> None:
    """SageMaker's two routes."""

    @app.get("/ping", summary="SageMaker: may requests come?", tags=["clouds"])
    async def ping() -> Response:
        return await clouds.health()

    @app.post(
        "/invocations",
        summary="SageMaker: predict",
        tags=["clouds"],
        openapi_extra=described(json=INSTANCES, csv=TABLE),
    )
    async def invocations(request: Request) -> Response:
        answer = await clouds.infer(request, _reader(request))
        if CSV in request.headers.get("accept", ""):
            lines = "".join(f"{value}\n" for value in _values(answer))
            return Response(lines, headers={_SAGEMAKER_TELLS: _told(answer)}, media_type=CSV)
        return _predictions(answer, _SAGEMAKER_TELLS)


def _reader(request: Request) -> ReadRows:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == CSV:
        return read_csv
    if content_type == JSON:
        return read_instances
    raise UnknownContent(f"content-type: expected {JSON} or {CSV}, got {content_type!r}")


def _predictions(answer: v2.ModelInferResponse, tells: str) -> Response:
    return Response(to_json({"predictions": _values(answer)}), headers={tells: _told(answer)}, media_type=JSON)


def _values(answer: v2.ModelInferResponse) -> list[Any]:
    return from_raw(answer.outputs[0].datatype, answer.raw_output_contents[0])


def _told(answer: v2.ModelInferResponse) -> str:
    parameters = get_parameters(answer.parameters)
    return ",".join(f"{name}={parameters[name]}" for name in _TOLD if name in parameters)
