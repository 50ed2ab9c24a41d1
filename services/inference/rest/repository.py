"""The protocol's model repository extension in REST: what is loaded, and a look at the alias now."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from services.chassis.errors import Invalid, NotFound
from services.inference.predictor import Predictor
from services.inference.rest.bodies import read_body
from services.inference.rest.documentation import described
from services.inference.rest.open_inference import JsonBody, Parameters, read_json
from services.inference.servicer import Repository, version_states

_TAG = "repository"
# Triton's client always says so; one model has no dependents.
_WITHOUT_EFFECT = "unload_dependents"


class _Index(JsonBody):
    ready: bool = False


class _Change(JsonBody):
    parameters: Parameters = Field(default_factory=dict)


def add_repository(app: FastAPI, predictor: Predictor, deployment: Repository) -> None:
    """Its three routes."""

    @app.post("/v2/repository/index", summary="Every version that is loaded or wanted", tags=[_TAG])
    async def repository_index(request: Request) -> Response:
        asked = read_json(_Index, await _body(request))
        return JSONResponse(_index(predictor.name, deployment, only_ready=asked.ready))

    @app.post(
        "/v2/repository/models/{model}/load",
        summary="Look at the alias now",
        tags=[_TAG],
        openapi_extra=described("model"),
    )
    async def repository_load(request: Request) -> Response:
        _check_name(request, predictor)
        given = read_json(_Change, await _body(request)).parameters
        if given:
            what = f"none, got {', '.join(sorted(given))[:80]}; a model comes from the registry, by its alias"
            raise Invalid(f"parameters: expected {what}")
        await deployment.load_now()
        return JSONResponse({})

    @app.post(
        "/v2/repository/models/{model}/unload",
        summary="Let go of what the alias does not name",
        tags=[_TAG],
        openapi_extra=described("model"),
    )
    async def repository_unload(request: Request) -> Response:
        _check_name(request, predictor)
        given = read_json(_Change, await _body(request)).parameters
        given.pop(_WITHOUT_EFFECT, None)
        version = given.pop("version", "")
        if given or not isinstance(version, str):
            what = f"at most version, a text, got {', '.join(sorted(given))[:80] or repr(version)[:80]}"
            raise Invalid(f"parameters: expected {what}")
        await deployment.unload(version)
        return JSONResponse({})


async def _body(request: Request) -> bytes:
    """An empty one asks for nothing in particular."""
    return await read_body(request.receive, dict(request.scope["headers"])) or b"{}"


def _check_name(request: Request, predictor: Predictor) -> None:
    name = request.path_params["model"]
    if name != predictor.name:
        raise NotFound(f"model {name!r} is not served here; expected {predictor.name!r}")


def _index(name: str, deployment: Repository, *, only_ready: bool) -> list[dict[str, Any]]:
    states = version_states(deployment, only_ready=only_ready)
    return [{"name": name, "version": version, "state": state, "reason": why} for version, state, why in states]
