"""The gRPC edge: RouterService."""

# ruff: noqa: ARG002  gRPC hands both arguments to every method

from __future__ import annotations

from typing import Any

import grpc

from services.chassis.grpc_server import unary
from services.contracts.router.v1 import router_pb2 as pb
from services.contracts.router.v1 import router_pb2_grpc as rpc
from services.router.commands import Commands
from services.router.queries import Queries
from services.router.releases import Account
from services.router.translate import release_to_proto, strategy_from_proto

Context = grpc.aio.ServicerContext[Any, Any]


class RouterServicer(rpc.RouterServiceServicer):
    """Only translates."""

    def __init__(self, *, commands: Commands, queries: Queries, model: str) -> None:
        self._commands = commands
        self._queries = queries
        self._model = model

    @unary
    async def StartRelease(self, request: pb.StartReleaseRequest, context: Context) -> pb.StartReleaseResponse:
        strategy = strategy_from_proto(request.strategy)
        started = await self._commands.start(
            model=request.model,
            version=request.version,
            strategy=strategy,
            actor=request.actor,
            reason=request.reason,
        )
        return pb.StartReleaseResponse(release=self._proto(started))

    @unary
    async def GetRelease(self, request: pb.GetReleaseRequest, context: Context) -> pb.GetReleaseResponse:
        return pb.GetReleaseResponse(release=release_to_proto(*self._queries.release(request.release_id)))

    @unary
    async def ListReleases(self, request: pb.ListReleasesRequest, context: Context) -> pb.ListReleasesResponse:
        return pb.ListReleasesResponse(releases=[release_to_proto(*one) for one in self._queries.releases()])

    @unary
    async def PromoteRelease(self, request: pb.PromoteReleaseRequest, context: Context) -> pb.PromoteReleaseResponse:
        changed = self._commands.promote(request.release_id, request.actor, request.why)
        return pb.PromoteReleaseResponse(release=self._proto(changed))

    @unary
    async def AbortRelease(self, request: pb.AbortReleaseRequest, context: Context) -> pb.AbortReleaseResponse:
        changed = self._commands.abort(request.release_id, request.actor, request.why)
        return pb.AbortReleaseResponse(release=self._proto(changed))

    @unary
    async def PauseRelease(self, request: pb.PauseReleaseRequest, context: Context) -> pb.PauseReleaseResponse:
        changed = self._commands.pause(request.release_id, request.actor, request.why)
        return pb.PauseReleaseResponse(release=self._proto(changed))

    @unary
    async def ResumeRelease(self, request: pb.ResumeReleaseRequest, context: Context) -> pb.ResumeReleaseResponse:
        changed = self._commands.resume(request.release_id, request.actor, request.why)
        return pb.ResumeReleaseResponse(release=self._proto(changed))

    @unary
    async def SetWeight(self, request: pb.SetWeightRequest, context: Context) -> pb.SetWeightResponse:
        weight = request.challenger_weight
        changed = self._commands.set_weight(request.release_id, weight, request.actor, request.why)
        return pb.SetWeightResponse(release=self._proto(changed))

    @unary
    async def GetSplit(self, request: pb.GetSplitRequest, context: Context) -> pb.GetSplitResponse:
        served = await self._queries.served()
        return pb.GetSplitResponse(
            model=self._model,
            champion_version=served.champion_version,
            challenger_version=served.challenger_version,
            challenger_weight=served.split.challenger_weight,
            release_id=served.split.release_id,
            applied=served.applied,
        )

    def _proto(self, account: Account) -> pb.Release:
        return release_to_proto(*self._queries.release(account.release.release_id))
