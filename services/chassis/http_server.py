"""An ASGI application on uvicorn, inside a process whose signals belong to its lifecycle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn

from services.chassis.errors import Unavailable

_START_PAUSE_S = 0.02


class _Server(uvicorn.Server):
    """Leaves the signals to the process's lifecycle."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def http_server(app: Any, host: str, port: int, *, grace_s: int = 2) -> AsyncIterator[None]:
    """Serves the application until the block ends; requests in progress then get `grace_s` seconds.

    Raises Unavailable if the address is taken.
    """
    config = uvicorn.Config(
        app, host=host, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=grace_s
    )
    server = _Server(config)
    serving = asyncio.create_task(_serve(server))
    try:
        while not server.started:
            if serving.done():
                raise Unavailable(f"{host}:{port} cannot be bound; is it taken?")
            await asyncio.sleep(_START_PAUSE_S)
        yield
    finally:
        server.should_exit = True
        await serving


async def _serve(server: uvicorn.Server) -> None:
    try:
        await server.serve()
    except SystemExit:
        # uvicorn's way to say that it could not bind; who awaits `started` says it better.
        return
