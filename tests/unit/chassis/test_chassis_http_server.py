"""An ASGI application served inside a process."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from services.chassis.errors import Unavailable
from services.chassis.http_server import http_server
from tests.support import free_port


async def _hello(scope: dict[str, Any], _receive: Any, send: Any) -> None:
    assert scope["type"] in {"http", "lifespan"}
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})


async def test_it_answers_while_the_block_lasts_and_not_after() -> None:
    port = free_port()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        async with http_server(_hello, "127.0.0.1", port, grace_s=1):
            assert (await client.get("/")).text == "hello"

        with pytest.raises(httpx.HTTPError):
            await client.get("/")


async def test_a_port_that_is_taken_is_said_in_words() -> None:
    port = free_port()
    async with http_server(_hello, "127.0.0.1", port, grace_s=1):
        with pytest.raises(Unavailable, match=f"127.0.0.1:{port} cannot be bound"):
            async with http_server(_hello, "127.0.0.1", port, grace_s=1):
                pass
