"""The HTTP application: which path is answered by whom. Its documentation at /docs loads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from services import __version__
from services.chassis.errors import SlipwayError, Unavailable
from services.inference.loaded_model import OUTPUT, LoadedModel
from services.inference.metrics import InferenceMetrics
from services.inference.predictor import CurrentModel, Predictor
from services.inference.rest.caller import INTERNAL, Caller, error_body, http_status_of
from services.inference.rest.clouds import Clouds, CloudSettings, add_sagemaker, add_vertex
from services.inference.rest.documentation import describe_infer, described
from services.inference.rest.infer import InferFirst
from services.inference.rest.repository import add_repository
from services.inference.servicer import EXTENSIONS, PLATFORM, Repository

# The protocol wants a 4xx for "not ready".
_NOT_READY = 400
# The two paths of a model, and what they name.
_MODEL = {"/v2/models/{model}": ("model",), "/v2/models/{model}/versions/{version}": ("model", "version")}
_CLIENT_IS_GONE = 499


def make_api(
    model: str,
    *,
    predictor: Predictor,
    deployment: Repository,
    metrics: InferenceMetrics,
    clouds: CloudSettings,
    stopping: Callable[[], bool],
) -> ASGIApp:
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
    for prefix, names in _MODEL.items():
        _add_model(app, prefix, described(*names), predictor, deployment)
    add_repository(app, predictor, deployment)
    add_sagemaker(app, in_clouds)
    app.add_exception_handler(SlipwayError, _refuse)
    app.add_exception_handler(HTTPException, _refuse_http)
    app.add_exception_handler(ClientDisconnect, _nobody)
    app.add_exception_handler(Exception, _fail)
    for prefix, names in _MODEL.items():
        describe_infer(app, f"{prefix}/infer", *names)
    return InferFirst(app, caller)


def _add_server(app: FastAPI, deployment: CurrentModel, stopping: Callable[[], bool]) -> None:
    @app.get("/v2", summary="The server's metadata", tags=["server"])
    async def server_metadata() -> Response:
        extensions = ["binary_tensor_data", *EXTENSIONS]
        return JSONResponse({"name": "slipway-inference", "version": __version__, "extensions": extensions})

    @app.get("/v2/health/live", summary="Does it run?", tags=["server"])
    async def server_live() -> Response:
        return JSONResponse({"live": True})

    @app.get("/v2/health/ready", summary="Is a version loaded?", tags=["server"])
    async def server_ready() -> Response:
        ready = bool(deployment.loaded) and not stopping()
        return JSONResponse({"ready": ready}, 200 if ready else _NOT_READY)


def _add_model(
    app: FastAPI, prefix: str, names: dict[str, Any], predictor: Predictor, deployment: CurrentModel
) -> None:
    @app.get(prefix, summary="The model's metadata", tags=["model"], openapi_extra=names)
    async def model_metadata(request: Request) -> Response:
        return JSONResponse(_metadata(predictor.model(*_named(request)), deployment))

    @app.get(f"{prefix}/ready", summary="Is it loaded?", tags=["model"], openapi_extra=names)
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


def _metadata(model: LoadedModel, deployment: CurrentModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "versions": [loaded.version for loaded in deployment.loaded],
        "platform": PLATFORM,
        "inputs": [
            {"name": column.name, "datatype": column.datatype, "shape": [-1]} for column in model.contract.inputs
        ],
        "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1]}],
    }


async def _refuse(request: Request, error: Exception) -> Response:  # noqa: ARG001  the framework passes it
    assert isinstance(error, SlipwayError)
    return _error(str(error), http_status_of(error))


async def _refuse_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path[:200]}"
    return _error(f"{where}: {error.detail}", error.status_code, error.headers)


async def _nobody(request: Request, error: Exception) -> Response:  # noqa: ARG001  as above
    return Response(status_code=_CLIENT_IS_GONE)


async def _fail(request: Request, error: Exception) -> Response:  # noqa: ARG001  as above; uvicorn logs the error
    return _error(INTERNAL, 500)


def _error(text: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return Response(error_body(text), status, headers, media_type="application/json")
