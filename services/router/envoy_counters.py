"""Envoy's counters of inference calls: how many went to each cluster, and how many the server failed."""

from __future__ import annotations

import re

import httpx

from services.chassis.errors import Unavailable
from services.router.assignment import CHALLENGER, CHAMPION
from services.router.releases import Calls

_FILTER = r"^cluster\.(champion|challenger)(\.grpc\..*\.ModelInfer\.\d+|-http\.upstream_rq_\d{3})$"
_GRPC = re.compile(r"^cluster\.(champion|challenger)\.grpc\..*\.(\d+)$")
_HTTP = re.compile(r"^cluster\.(champion|challenger)-http\.upstream_rq_(\d{3})$")
# UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS: the server's fault.
# What the caller did wrong (INVALID_ARGUMENT, CANCELLED ...) says nothing about a version.
_GRPC_FAULTS = frozenset({2, 4, 8, 12, 13, 14, 15})
_HTTP_FAULTS = frozenset({429, *range(500, 600)})


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
            for names, faults in ((_GRPC, _GRPC_FAULTS), (_HTTP, _HTTP_FAULTS)):
                if named := names.match(stat.get("name", "")):
                    variant, status = named[1], int(named[2])
                    counted[variant] = _add(counted[variant], int(stat["value"]), failed=status in faults)
        return counted[CHAMPION], counted[CHALLENGER]


def _add(calls: Calls, count: int, *, failed: bool) -> Calls:
    return Calls(calls.total + count, calls.errors + (count if failed else 0))
