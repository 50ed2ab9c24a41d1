"""Envoy's counters of inference calls: how many went to each cluster, and how many the server failed."""

from __future__ import annotations

import re

import httpx

from services.chassis.errors import Unavailable
from services.router.assignment import CHALLENGER, CHAMPION
from services.router.releases import Calls

_FILTER = r"^cluster\.(champion|challenger)\.grpc\..*\.ModelInfer\.\d+$"
_NAME = re.compile(r"^cluster\.(champion|challenger)\..*\.(\d+)$")
# UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS: the server's fault.
# What the caller did wrong (INVALID_ARGUMENT, CANCELLED ...) says nothing about a version.
_SERVERS_FAULT = frozenset({2, 4, 8, 12, 13, 14, 15})


class EnvoyCounters:
    """Of one Envoy behind its admin port."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def read(self) -> tuple[Calls, Calls]:
        """Champion's and challenger's calls since Envoy started. Raises Unavailable if Envoy does not answer."""
        try:
            response = await self._client.get("/stats", params={"filter": _FILTER, "format": "json"})
            response.raise_for_status()
        except httpx.HTTPError as error:
            raise Unavailable(f"Envoy's admin port does not answer: {error or type(error).__name__}") from error
        counted = {CHAMPION: Calls(), CHALLENGER: Calls()}
        for stat in response.json()["stats"]:
            named = _NAME.match(stat.get("name", ""))
            if named:
                variant, status = named[1], int(named[2])
                counted[variant] = _add(counted[variant], int(stat["value"]), failed=status in _SERVERS_FAULT)
        return counted[CHAMPION], counted[CHALLENGER]


def _add(calls: Calls, count: int, *, failed: bool) -> Calls:
    return Calls(calls.total + count, calls.errors + (count if failed else 0))
