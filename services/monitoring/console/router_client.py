"""RouterService as the console uses it: what is served now, and the three buttons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc

from services.chassis.errors import Unavailable
from services.contracts.router.v1 import router_pb2, router_pb2_grpc

_TIMEOUT_S = 5.0
_WHY = "asked for on the console"


@dataclass(frozen=True, slots=True)
class Split:
    """Who gets how much. Weights are shares, 0..1; versions "" if there is none."""

    champion_version: str
    challenger_version: str
    challenger_share: float
    release_id: str
    applied: bool


class RouterClient:
    """Every method raises Unavailable with the router's own words if it cannot."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._stub = router_pb2_grpc.RouterServiceStub(self._channel)  # type: ignore[no-untyped-call]

    async def split(self) -> Split:
        """What is served now."""
        answer = await _answered(self._stub.GetSplit(router_pb2.GetSplitRequest(), timeout=_TIMEOUT_S))
        return Split(
            answer.champion_version,
            answer.challenger_version,
            answer.challenger_weight / 10_000,
            answer.release_id,
            answer.applied,
        )

    async def act(self, action: str, release_id: str) -> None:
        """`action`: promote, abort, pause or resume."""
        call, request = {
            "promote": (self._stub.PromoteRelease, router_pb2.PromoteReleaseRequest),
            "abort": (self._stub.AbortRelease, router_pb2.AbortReleaseRequest),
            "pause": (self._stub.PauseRelease, router_pb2.PauseReleaseRequest),
            "resume": (self._stub.ResumeRelease, router_pb2.ResumeReleaseRequest),
        }[action]
        await _answered(call(request(release_id=release_id, actor="console", why=_WHY), timeout=_TIMEOUT_S))

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()


async def _answered(call: Any) -> Any:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise Unavailable(f"router: {error.details()}") from error
