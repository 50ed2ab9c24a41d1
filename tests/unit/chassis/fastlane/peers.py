"""The other end of a connection: a transport that keeps what is written, and a client by other code."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import h2.config
import h2.connection
import h2.events
from h2.settings import SettingCodes

from services.chassis.fastlane.call import Call
from services.chassis.fastlane.connection import Connection, Method
from services.chassis.fastlane.frames import PREFACE, frame, settings
from services.chassis.fastlane.limits import Limits

ECHO, HOLD = "/test.Test/Echo", "/test.Test/Hold"
HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", ECHO),
    (":authority", "test"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]


def message(content: bytes, *, flag: int = 0) -> bytes:
    return bytes([flag]) + len(content).to_bytes(4) + content


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False
        self.reading = True

    def write(self, data: Any) -> None:
        assert not self.closed
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Server:
    """A connection with an echo, and a method that holds its calls until it is told."""

    def __init__(
        self, limits: Limits | None = None, methods: Mapping[str, Method] | None = None, **named: Method
    ) -> None:
        self.transport = Transport()
        self.held: list[Call] = []
        self.batches: list[int] = []
        found: dict[str, Method] = {ECHO: self._echo, HOLD: self.held.extend}
        self.connection = Connection(
            {**found, **(methods or {}), **{f"/test.Test/{name}": method for name, method in named.items()}},
            limits or Limits(),
            lambda _: None,
            lambda _: None,
            tls=False,
        )
        self.connection.connection_made(self.transport)

    def _echo(self, calls: Sequence[Call]) -> None:
        self.batches.append(len(calls))
        for call in calls:
            call.answer(call.message)

    def send(self, data: bytes) -> None:
        if not self.transport.closed:
            self.connection.data_received(data)

    def take(self) -> bytes:
        written = b"".join(self.transport.written)
        self.transport.written.clear()
        return written


@dataclass
class Answer:
    """What came back on one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    reset: int | None = None

    @property
    def status(self) -> str | None:
        return (self.headers | self.trailers).get("grpc-status")

    @property
    def message(self) -> str | None:
        return (self.headers | self.trailers).get("grpc-message")


class Client:
    """The `h2` library against a Server."""

    def __init__(self, server: Server, *, window: int | None = None) -> None:
        self.server = server
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.answers: dict[int, Answer] = {}
        self.closed: int | None = None
        self.auto_window = window is None
        self.h2.initiate_connection()
        if window is not None:
            self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.exchange()

    def call(self, body: bytes, path: str = ECHO, extra: Sequence[tuple[str, str]] = (), *, end: bool = True) -> int:
        """Sends one call; `exchange` lets the server see it."""
        stream = self.h2.get_next_available_stream_id()
        headers = [(name, path if name == ":path" else value) for name, value in HEADERS]
        self.h2.send_headers(stream, [*headers, *extra])
        self.answers[stream] = Answer()
        at = 0
        while len(body) - at > self.h2.local_flow_control_window(stream) - 1:
            at = self._send_part(stream, body, at)
        while at < len(body) - 16_000:
            at = self._send_part(stream, body, at)
        self.h2.send_data(stream, body[at:], end_stream=end)
        return stream

    def _send_part(self, stream: int, body: bytes, at: int) -> int:
        part = body[at : at + min(16_000, self.h2.local_flow_control_window(stream))]
        self.h2.send_data(stream, part)
        self.exchange()
        return at + len(part)

    def exchange(self) -> None:
        """Bytes to and fro, until both have said all."""
        while sent := self.h2.data_to_send():
            self.server.send(sent)
            for event in self.h2.receive_data(self.server.take()):
                self._see(event)

    def see(self) -> None:
        """What the server has written since."""
        for event in self.h2.receive_data(self.server.take()):
            self._see(event)
        self.exchange()

    def _see(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                self.answers[event.stream_id].headers = dict(event.headers or ())  # type: ignore[arg-type]
            case h2.events.DataReceived():
                self.answers[event.stream_id].body += event.data or b""
                if self.auto_window and event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.TrailersReceived():
                self.answers[event.stream_id].trailers = dict(event.headers or ())  # type: ignore[arg-type]
            case h2.events.StreamReset():
                self.answers[event.stream_id].reset = event.error_code
            case h2.events.ConnectionTerminated():
                self.closed = int(event.error_code or 0)
            case _:
                pass


def greeting() -> bytes:
    """What a client says first, and its acknowledgement of what the server says."""
    return PREFACE + settings({}) + frame(4, 1, 0)
