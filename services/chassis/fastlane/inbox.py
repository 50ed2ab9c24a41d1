"""What a connection reads of messages: parts on their way, and the windows that let them come (RFC 9113, 5.2)."""

from __future__ import annotations

from collections.abc import Mapping

import grpc

from services.chassis.fastlane import frames
from services.chassis.fastlane.call import Call
from services.chassis.fastlane.frames import ErrorCode, PeerError, StreamError
from services.chassis.fastlane.grpc_words import PREFIX_BYTES, Refused, check_length, message_of
from services.chassis.fastlane.limits import Limits
from services.chassis.fastlane.outbox import Outbox

STREAM_WINDOW = 1 << 20
CONNECTION_WINDOW = 1 << 24


class Inbox:
    """`calls` are those of the connection, by stream; windows are given back through `outbox`."""

    def __init__(self, limits: Limits, outbox: Outbox, calls: Mapping[int, Call]) -> None:
        self._limits = limits
        self._outbox = outbox
        self._calls = calls
        self.window = CONNECTION_WINDOW
        self.buffered = 0
        """Bytes of messages whose rest has not come."""

    def pay(self, size: int) -> None:
        """Of the connection's window, which is given back by halves, whatever the bytes were. Raises PeerError."""
        self.window -= size
        if self.window < 0:
            raise PeerError(ErrorCode.FLOW_CONTROL_ERROR, "more data than the connection's window")
        if self.window < CONNECTION_WINDOW // 2:
            self._outbox.put(frames.window_update(0, CONNECTION_WINDOW - self.window))
            self.window = CONNECTION_WINDOW

    def pay_stream(self, call: Call, size: int, *, more: bool) -> None:
        """Of the call's window; given back if more is to come. Raises StreamError."""
        call.receive_window -= size
        if call.receive_window < 0:
            raise StreamError(call.stream, ErrorCode.FLOW_CONTROL_ERROR)
        if more and call.receive_window < STREAM_WINDOW // 2:
            self._outbox.put(frames.window_update(call.stream, STREAM_WINDOW - call.receive_window))
            call.receive_window = STREAM_WINDOW

    def keep(self, call: Call, part: bytes) -> None:
        """A part of a message. Fails the call if it is known to be too long before it is there."""
        if not call.body:
            call.body = bytearray()
        call.body += part
        self.buffered += len(part)
        if len(call.body) >= PREFIX_BYTES:
            told = int.from_bytes(call.body[1:PREFIX_BYTES])
            try:
                check_length(max(told, len(call.body) - PREFIX_BYTES), self._limits.message_bytes)
            except Refused as refused:
                call.fail(refused.code, refused.details)
        if self.buffered > self._limits.buffered_bytes:
            # Whoever asks for most makes room: behind a proxy it is not the same caller.
            largest = max(self._calls.values(), key=lambda each: len(each.body))
            why = "too many messages are half sent on this connection, and this is the largest"
            largest.fail(grpc.StatusCode.RESOURCE_EXHAUSTED, why)

    def message(self, call: Call, last_part: bytes) -> bytes:
        """The whole message. Raises Refused if it is none, and Invalid if its encoding is no text."""
        body = self.forget(call) + last_part if call.body else last_part
        return message_of(body, call.metadata, self._limits.message_bytes)

    def forget(self, call: Call) -> bytes:
        """What there is of it, which is kept no longer."""
        body = bytes(call.body)
        self.buffered -= len(body)
        call.body = b""
        return body
