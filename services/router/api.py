"""The HTTP edge: REST for people and scripts, and Envoy's route discovery. Its schema is at /openapi.json.

Answers are the messages of `router.proto` in their JSON form.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from pydantic import BaseModel, ConfigDict

from services.chassis.errors import Conflict, Invalid, NotFound, SlipwayError, Unavailable
from services.contracts.router.v1 import router_pb2 as pb
from services.router import metrics
from services.router.commands import Commands
from services.router.envoy_polls import EnvoyPolls
from services.router.queries import Queries
from services.router.releases import Account, Strategy
from services.router.routes import discovery_response
from services.router.translate import release_to_proto

_STATUS: dict[type[SlipwayError], int] = {Invalid: 400, NotFound: 404, Conflict: 409, Unavailable: 503}


class StartBody(BaseModel):
    """A release by hand."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    model: str = ""
    version: str = ""
    """Not set: the version that carries the alias challenger."""
    strategy: Strategy = Strategy.AUTO
    actor: str = ""
    reason: str = ""


class WhyBody(BaseModel):
    """Who does it, and why."""

    model_config = ConfigDict(extra="forbid")

    actor: str = ""
    why: str = ""


class WeightBody(WhyBody):
    """The challenger's share."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    challenger_weight: int
    """Basis points, 0..10000."""


def make_api(*, commands: Commands, queries: Queries, polls: EnvoyPolls, model: str, call_timeout: str) -> FastAPI:
    """The application. FastAPI's own /docs page loads its scripts from elsewhere, so it is off."""
    api = FastAPI(title="Slipway router", docs_url=None, redoc_url=None)
    api.add_exception_handler(SlipwayError, _refuse)
    _add_reads(api, queries, model)
    _add_commands(api, commands, queries)
    _add_discovery(api, queries, polls, call_timeout)
    return api


def _add_reads(api: FastAPI, queries: Queries, model: str) -> None:
    @api.get("/v1/split")
    async def get_split() -> dict[str, Any]:
        served = await queries.served()
        return _json(
            pb.GetSplitResponse(
                model=model,
                champion_version=served.champion_version,
                challenger_version=served.challenger_version,
                challenger_weight=served.split.challenger_weight,
                release_id=served.split.release_id,
                applied=served.applied,
            )
        )

    @api.get("/v1/releases")
    async def list_releases() -> dict[str, Any]:
        return _json(pb.ListReleasesResponse(releases=[release_to_proto(*one) for one in queries.releases()]))

    @api.get("/v1/releases/{release_id}")
    async def get_release(release_id: str) -> dict[str, Any]:
        return _json(release_to_proto(*queries.release(release_id)))


def _add_commands(api: FastAPI, commands: Commands, queries: Queries) -> None:
    def told(account: Account) -> dict[str, Any]:
        return _json(release_to_proto(*queries.release(account.release.release_id)))

    @api.post("/v1/releases", status_code=201)
    async def start_release(body: StartBody) -> dict[str, Any]:
        return told(await commands.start(**dict(body)))

    @api.post("/v1/releases/{release_id}:promote")
    async def promote_release(release_id: str, body: WhyBody) -> dict[str, Any]:
        return told(commands.promote(release_id, body.actor, body.why))

    @api.post("/v1/releases/{release_id}:abort")
    async def abort_release(release_id: str, body: WhyBody) -> dict[str, Any]:
        return told(commands.abort(release_id, body.actor, body.why))

    @api.post("/v1/releases/{release_id}:pause")
    async def pause_release(release_id: str, body: WhyBody) -> dict[str, Any]:
        return told(commands.pause(release_id, body.actor, body.why))

    @api.post("/v1/releases/{release_id}:resume")
    async def resume_release(release_id: str, body: WhyBody) -> dict[str, Any]:
        return told(commands.resume(release_id, body.actor, body.why))

    @api.post("/v1/releases/{release_id}:set-weight")
    async def set_weight(release_id: str, body: WeightBody) -> dict[str, Any]:
        return told(commands.set_weight(release_id, body.challenger_weight, body.actor, body.why))


def _add_discovery(api: FastAPI, queries: Queries, polls: EnvoyPolls, call_timeout: str) -> None:
    @api.post("/v3/discovery:routes", include_in_schema=False)
    async def discover_routes(request: Request) -> Response:
        """Envoy names the version that it accepted last, so a poll is also the answer to the one before."""
        asked = await request.json()
        accepted = asked.get("version_info", "")
        polls.saw(asked.get("node", {}).get("id", ""), accepted)
        split = queries.split()
        if accepted == split.version:
            metrics.ENVOY_POLLS.labels("unchanged").inc()
            return Response(status_code=304)
        metrics.ENVOY_POLLS.labels("changed").inc()
        return JSONResponse(discovery_response(split, call_timeout))


async def _refuse(_: Request, error: Exception) -> Response:
    status = next((code for cause, code in _STATUS.items() if isinstance(error, cause)), 500)
    return JSONResponse({"detail": str(error)}, status)


def _json(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
