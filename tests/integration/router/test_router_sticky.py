"""Stickiness through the real Envoy, on the router's own routes: 100,000 keys against the offline function.

Plain HTTP/1.1 on both sides, because Python's gRPC would take minutes; Envoy's choice does not depend on it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from math import sqrt
from pathlib import Path

import pytest

from services.router.assignment import CHALLENGER, CHAMPION, variant
from services.router.routes import Split, discovery_response
from tests.integration.router.parts import Envoy, running_envoy

KEYS = [f"user-{number}" for number in range(100_000)]
RELEASE = "v2-0badcafe"
_CLIENTS, _PIPELINED = 32, 25
_PATH = b"POST /inference.GRPCInferenceService/ModelInfer HTTP/1.1\r\nhost: envoy\r\ncontent-length: 0\r\n"
_EMPTY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_KEY, _LENGTH = re.compile(rb"x-routing-key: (\S+)"), re.compile(rb"content-length: (\d+)")


class Backend(asyncio.Protocol):
    """A deployment that notes each request's routing key in `served`."""

    def __init__(self, served: list[str]) -> None:
        self._served = served
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *heads, self._received = (self._received + data).split(b"\r\n\r\n")
        for head in heads:
            found = _KEY.search(head)
            self._served.append(found[1].decode() if found else "")
            self._transport.write(_EMPTY)


class Discovery(asyncio.Protocol):
    """Gives Envoy the routes of `board.split` and notes which version it has accepted."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, complete, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not complete or length is None or len(body) < int(length[1]):
            return
        self._received = b""
        self._board.saw(json.loads(body).get("version_info", ""))
        answer = json.dumps(discovery_response(self._board.split)).encode()
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(answer), answer))


class Board:
    """Envoy between two backends, led by `split`."""

    def __init__(self) -> None:
        self.split = Split()
        self._accepted = asyncio.Event()
        self.served: dict[str, list[str]] = {CHAMPION: [], CHALLENGER: []}
        self.envoy: Envoy

    async def lead(self, weight: int, release_id: str = RELEASE) -> None:
        self.split = Split(release_id, weight)
        self._accepted.clear()
        async with asyncio.timeout(30):
            await self._accepted.wait()

    def saw(self, accepted: str) -> None:
        if accepted == self.split.version:
            self._accepted.set()

    async def call(self, keys: list[str | None]) -> dict[str, set[str]]:
        """One call for each key; the keys that each variant served."""
        for served in self.served.values():
            served.clear()
        await asyncio.gather(*(self._client(keys[first::_CLIENTS]) for first in range(_CLIENTS)))
        assert sum(map(len, self.served.values())) == len(keys), "each call is served once"
        return {name: set(served) for name, served in self.served.items()}

    async def _client(self, keys: list[str | None]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.envoy.port)
        for first in range(0, len(keys), _PIPELINED):
            batch = keys[first : first + _PIPELINED]
            writer.write(b"".join(_request(key) for key in batch))
            for _ in batch:
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200"), head
        writer.close()
        await writer.wait_closed()


def _request(key: str | None) -> bytes:
    return _PATH + (b"" if key is None else b"x-routing-key: %b\r\n" % key.encode()) + b"\r\n"


@pytest.fixture
async def board(tmp_path: Path) -> AsyncIterator[Board]:
    loop, led = asyncio.get_running_loop(), Board()
    async with AsyncExitStack() as stack:

        async def listen(make: type[Backend | Discovery], argument: object) -> int:
            server = await loop.create_server(lambda: make(argument), "127.0.0.1", 0)  # type: ignore[arg-type]
            stack.callback(server.close)
            return int(server.sockets[0].getsockname()[1])

        ports = {name: await listen(Backend, served) for name, served in led.served.items()}
        ports["router"] = await listen(Discovery, led)
        led.envoy = stack.enter_context(running_envoy(tmp_path, upstream_http1=True, **ports))
        yield led


def _offline(keys: list[str], weight: int) -> set[str]:
    return {key for key in keys if variant(RELEASE, key, weight) == CHALLENGER}


async def test_100_000_keys_get_the_variant_that_anyone_can_recompute(board: Board) -> None:
    await board.lead(2500)

    served = await board.call(list(KEYS))

    share, n = 0.25, len(KEYS)
    assert served[CHALLENGER] == _offline(KEYS, 2500)
    assert served[CHAMPION] == set(KEYS) - served[CHALLENGER]
    assert abs(len(served[CHALLENGER]) - n * share) < 4 * sqrt(n * share * (1 - share))


async def test_raising_the_weight_moves_no_key_back(board: Board) -> None:
    keys = KEYS[:5000]
    before: set[str] = set()
    for weight in (0, 500, 2500, 2500, 10_000):
        await board.lead(weight)
        served = (await board.call(list(keys)))[CHALLENGER]
        assert before <= served == _offline(keys, weight)
        before = served
    assert before == set(keys)


async def test_without_a_key_each_call_is_drawn_anew(board: Board) -> None:
    await board.lead(5000)

    await board.call([None] * 1000)

    assert abs(len(board.served[CHALLENGER]) - 500) < 4 * sqrt(250)


async def test_a_new_release_draws_its_users_anew(board: Board) -> None:
    keys = KEYS[:2000]
    await board.lead(5000)
    one = (await board.call(list(keys)))[CHALLENGER]
    await board.lead(5000, "v3-5ca1ab1e")
    other = (await board.call(list(keys)))[CHALLENGER]

    assert 400 < len(one & other) < 600
