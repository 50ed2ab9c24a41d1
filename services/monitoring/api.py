"""The HTTP edge: the console on FastAPI, served on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from fastapi import FastAPI

from services.chassis.errors import Unavailable
from services.monitoring.console.page import Console

_GRACE_S = 1


class _Server(uvicorn.Server):
    """Leaves the signals to the process's lifecycle."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def http_server(console: Console, host: str, port: int) -> AsyncIterator[None]:
    """Serves the console until the block ends. Raises Unavailable if the address is taken."""
    app = FastAPI(title="Slipway console", docs_url=None, redoc_url=None, openapi_url=None)
    console.mount(app)
    config = uvicorn.Config(app, host, port, log_level="warning", access_log=False, timeout_graceful_shutdown=_GRACE_S)
    server = _Server(config)
    serving = asyncio.create_task(_serve(server))
    try:
        while not server.started:
            if serving.done():
                raise Unavailable(f"http_port: {host}:{port} cannot be bound; is it taken?")
            await asyncio.sleep(0.02)
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
