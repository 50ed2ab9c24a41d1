"""Where the fast lane listens."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from services.chassis.fastlane.connection import Connection, Method
from services.chassis.fastlane.limits import Limits

__all__ = ["Method", "fastlane_server"]


@asynccontextmanager
async def fastlane_server(
    address: str,
    methods: Mapping[str, Method],
    *,
    limits: Limits | None = None,
    tls: ssl.SSLContext | None = None,
    grace_s: float = 5.0,
) -> AsyncIterator[int]:
    """Serves until the block ends; yields the bound port (`host:0` binds any free one).

    `methods` by path, as `/package.Service/Method`; whatever else is asked for is UNIMPLEMENTED. On the way out each
    peer is told to go elsewhere, then calls in progress get `grace_s` seconds. Raises OSError if the address is taken.
    """
    connections: set[Connection] = set()
    bounds = limits or Limits()
    if tls is not None:
        tls.set_alpn_protocols(["h2"])

    def accept() -> Connection:
        return Connection(methods, bounds, connections.add, connections.discard, tls=tls is not None)

    host, _, port = address.rpartition(":")
    # Two processes must never answer on one port by accident.
    server = await asyncio.get_running_loop().create_server(
        accept,
        host.strip("[]"),
        int(port),
        ssl=tls,
        ssl_handshake_timeout=bounds.preface_s if tls else None,
        reuse_port=False,
        backlog=1024,
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in list(connections):
            connection.drain()
        await _all_closed(connections, grace_s)
        for connection in list(connections):
            connection.abort()


async def _all_closed(connections: set[Connection], within_s: float) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while connections and loop.time() < deadline:  # noqa: ASYNC110  a closing connection is nobody's event but the loop's
        await asyncio.sleep(0.01)
