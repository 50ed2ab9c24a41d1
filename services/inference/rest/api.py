"""The HTTP application: which path is answered by whom. Its documentation at /docs loads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from services import __version__
from services.chassis.errors import SlipwayError, Unavailable
from services.inference.loaded_model import OUTPUT, LoadedModel
from services.inference.metrics import InferenceMetrics
from services.inference.predictor import CurrentModel, Predictor
from services.inference.rest.bodies import read_body
from services.inference.rest.caller import Caller, http_status_of
from services.inference.rest.clouds import Clouds, CloudSettings, add_sagemaker, add_vertex
from services.inference.rest.open_inference import HEADER_LENGTH, read_request, write_response
from services.inference.servicer import PLATFORM

_JSON, _BINARY = "application/json", "application/octet-stream"
# The protocol wants a 4xx for "not ready".
_NOT_READY = 400
_CLIENT_IS_GONE = 499
_LONGEST_ERROR = 2000


def make_api(
    model: str,
    *,
    predictor: Predictor,
    deployment: CurrentModel,
    metrics: InferenceMetrics,
    clouds: CloudSettings,
    stopping: Callable[[], bool],
) -> FastAPI:
    """The application. `stopping` tells that the process is about to end, so that nobody sends more."""
    # The page's own validator would send the schema to swagger.io.
    app: FastAPI = FastAPIOffline(
        title="Slipway inference",
        description="The Open Inference Protocol, version 2, in REST, and the container contracts of two clouds.",
        version=__version__,
        redoc_url=None,
        swagger_ui_parameters={"validatorUrl": "none"},
    )
    caller = Caller(predictor, metrics)
    in_clouds = Clouds(model, predictor=predictor, deployment=deployment, caller=caller, stopping=stopping)
    add_vertex(app, in_clouds, clouds)
    _add_server(app, deployment, stopping)
    for prefix in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        _add_model(app, prefix, predictor, deployment)
        _add_infer(app, prefix, caller)
    add_sagemaker(app, in_clouds)
    app.add_exception_handler(SlipwayError, _refuse)
    app.add_exception_handler(HTTPException, _refuse_http)
    app.add_exception_handler(ClientDisconnect, _nobody)
    app.add_exception_handler(Exception, _fail)
    return app


def _add_server(app: FastAPI, deployment: CurrentModel, stopping: Callable[[], bool]) -> None:
    @app.get("/v2", summary="The server's metadata", tags=["server"])
    async def server_metadata() -> Response:
        return JSONResponse({"name": "slipway-inference", "version": __version__, "extensions": ["binary_tensor_data"]})

    @app.get("/v2/health/live", summary="Does it run?", tags=["server"])
    async def server_live() -> Response:
        return JSONResponse({"live": True})

    @app.get("/v2/health/ready", summary="Is a version loaded?", tags=["server"])
    async def server_ready() -> Response:
        ready = deployment.current is not None and not stopping()
        return JSONResponse({"ready": ready}, 200 if ready else _NOT_READY)


def _add_model(app: FastAPI, prefix: str, predictor: Predictor, deployment: CurrentModel) -> None:
    @app.get(prefix, summary="The model's metadata", tags=["model"], openapi_extra=_path_parameters(prefix))
    async def model_metadata(request: Request) -> Response:
        return JSONResponse(_metadata(predictor.model(*_named(request))))

    @app.get(f"{prefix}/ready", summary="Is it loaded?", tags=["model"], openapi_extra=_path_parameters(prefix))
    async def model_ready(request: Request) -> Response:
        model, version = _named(request)
        try:
            predictor.model(model, version)
        except Unavailable as error:
            return JSONResponse({"name": model, "ready": False, "detail": str(error)}, _NOT_READY)
        return JSONResponse({"name": model, "ready": True, "detail": deployment.detail})


def _named(request: Request) -> tuple[str, str]:
    """Model and version of the path; "" where it names no version."""
    return request.path_params["model"], request.path_params.get("version", "")


def _path_parameters(prefix: str) -> dict[str, Any]:
    told = {"in": "path", "required": True, "schema": {"type": "string"}}
    return {"parameters": [{"name": name} | told for name in ("model", "version") if f"{{{name}}}" in prefix]}


def _metadata(model: LoadedModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": PLATFORM,
        "inputs": [
            {"name": column.name, "datatype": column.datatype, "shape": [-1]} for column in model.contract.inputs
        ],
        "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1]}],
    }


def _add_infer(app: FastAPI, prefix: str, caller: Caller) -> None:
    described = _path_parameters(prefix) | _INFER

    @app.post(f"{prefix}/infer", summary="Predict", tags=["model"], openapi_extra=described)
    async def model_infer(request: Request) -> Response:
        with caller.counted():
            body = await read_body(request)
            asked = read_request(*_named(request), body, request.headers.get(HEADER_LENGTH))
            content, head = write_response(asked, await caller.infer(asked, request.headers))
        if head is None:
            return Response(content, media_type=_JSON)
        return Response(content, headers={HEADER_LENGTH: str(head)}, media_type=_BINARY)


async def _refuse(request: Request, error: Exception) -> Response:  # noqa: ARG001  the framework passes it
    assert isinstance(error, SlipwayError)
    return JSONResponse({"error": str(error)[:_LONGEST_ERROR]}, http_status_of(error))


async def _refuse_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path[:200]}"
    return JSONResponse({"error": f"{where}: {error.detail}"}, error.status_code, error.headers)


async def _nobody(request: Request, error: Exception) -> Response:  # noqa: ARG001  as above
    return Response(status_code=_CLIENT_IS_GONE)


async def _fail(request: Request, error: Exception) -> Response:  # noqa: ARG001  as above; uvicorn logs the error
    return JSONResponse({"error": "internal error; the server's log has the details"}, 500)


_TENSOR = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string"},
        "datatype": {"type": "string", "example": "FP32"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "parameters": {"type": "object", "example": {"binary_data_size": 12}},
        "data": {"type": "array", "items": {}, "description": "Flat in row-major order, or nested as the shape says."},
    },
}
_INFER_SCHEMA = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string", "description": "Echoed; the prediction's id."},
        "parameters": {"type": "object", "example": {"as_of": "2026-05-04T12:00:00Z"}},
        "inputs": {"type": "array", "items": _TENSOR},
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string", "example": OUTPUT}, "parameters": {"type": "object"}},
            },
        },
    },
}
_INFER = {"requestBody": {"required": True, "content": {_JSON: {"schema": _INFER_SCHEMA}}}}
