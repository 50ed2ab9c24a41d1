"""What a connection has to write: answers as far as flow control allows (RFC 9113, 5.2), joined in one write."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from struct import Struct

import grpc

from services.chassis.fastlane import frames
from services.chassis.fastlane.call import Call
from services.chassis.fastlane.frames import ErrorCode, Kind, PeerError, StreamError
from services.chassis.fastlane.grpc_words import ANSWER_BLOCK, OK_BLOCK, PREFIX_BYTES, status_block

_DATA, _HEADERS = int(Kind.DATA), int(Kind.HEADERS)
_END_HEADERS, _LAST = frames.END_HEADERS, frames.END_HEADERS | frames.END_STREAM
_EMPTY_TABLE = b"\x20"
_MOST_AT_ONCE = frames.MAX_FRAME_BYTES
# Most answers are sent in one piece: frame heads up to the stream's number, and DATA's head with gRPC's before it.
_ANSWER_HEAD = frames.frame(_HEADERS, _END_HEADERS, 0, ANSWER_BLOCK)[:5]
_OK_HEAD = frames.frame(_HEADERS, _LAST, 0, OK_BLOCK)[:5]
_DATA_HEAD = Struct(frames.HEAD.format + "BI")


class Outbox:
    """`finished` is told each call whose answer is written to its end."""

    def __init__(self, finished: Callable[[Call], None]) -> None:
        self._finished = finished
        self._out: list[bytes] = []
        self._blocked: dict[int, Call] = {}
        self._window = frames.DEFAULT_WINDOW
        self._opening = _EMPTY_TABLE
        self.stream_window = frames.DEFAULT_WINDOW
        """What the peer takes on a new stream."""

    def put(self, frame: bytes) -> None:
        """A frame that no window holds back."""
        self._out.append(frame)

    def take(self) -> bytes:
        """All that may be written now."""
        written = b"".join(self._out)
        self._out.clear()
        return written

    def answer(self, call: Call, message: bytes) -> None:
        """Headers, the message, and trailers that say OK."""
        size = PREFIX_BYTES + len(message)
        if size <= _MOST_AT_ONCE and size <= self._window and size <= call.send_window and not self._opening:
            self._window -= size
            stream = call.stream.to_bytes(4)
            data = _DATA_HEAD.pack(0, size, _DATA, 0, call.stream, 0, len(message))
            self._out += (_ANSWER_HEAD, stream, ANSWER_BLOCK, data, message, _OK_HEAD, stream, OK_BLOCK)
            self._finished(call)
        else:
            self._out.append(frames.frame(_HEADERS, _END_HEADERS, call.stream, self._block(ANSWER_BLOCK)))
            call.unsent = memoryview(b"\x00" + len(message).to_bytes(4) + message)
            self._blocked[call.stream] = call
            self._send(call)

    def status(self, call: Call, code: grpc.StatusCode, details: str) -> None:
        """An error without a message."""
        block = self._block(ANSWER_BLOCK + status_block(code, details))
        self._out.append(frames.frame(_HEADERS, _LAST, call.stream, block))
        self._finished(call)

    def http_error(self, call: Call, status: bytes) -> None:
        """For what is no gRPC call at all; `status` is three digits."""
        # 0x08: a field with the name of the static table's 8th, `:status`, and this value.
        block = self._block(b"\x08" + bytes([len(status)]) + status)
        self._out.append(frames.frame(_HEADERS, _LAST, call.stream, block))
        self._finished(call)

    def widen(self, increment: int) -> bool:
        """The peer takes that many bytes more on the connection. Whether that set bytes free; raises PeerError."""
        if not increment:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
        self._window += increment
        if self._window > frames.MAX_WINDOW:
            raise PeerError(ErrorCode.FLOW_CONTROL_ERROR, "WINDOW_UPDATE: the window grows above 2^31 - 1")
        return self._send_blocked()

    def widen_stream(self, call: Call, increment: int) -> bool:
        """The peer takes that many bytes more of this answer. Whether that set bytes free; raises StreamError."""
        if not increment:
            raise StreamError(call.stream, ErrorCode.PROTOCOL_ERROR)
        call.send_window += increment
        if call.send_window > frames.MAX_WINDOW:
            raise StreamError(call.stream, ErrorCode.FLOW_CONTROL_ERROR)
        return call.stream in self._blocked and self._send(call)

    def resize_streams(self, size: int, calls: Iterable[Call]) -> None:
        """The peer has changed its window of each stream, of those in progress too. Raises PeerError."""
        more, self.stream_window = size - self.stream_window, size
        for call in calls:
            call.send_window += more
            if call.send_window > frames.MAX_WINDOW:
                raise PeerError(ErrorCode.FLOW_CONTROL_ERROR, "SETTINGS: a window grows above 2^31 - 1")
        self._send_blocked()

    def forget(self, call: Call) -> None:
        """Nothing more of it is sent."""
        self._blocked.pop(call.stream, None)

    def _block(self, block: bytes) -> bytes:
        """The first block that we send says that our table is empty, whatever the peer allows."""
        if self._opening:
            opening, self._opening = self._opening, b""
            return opening + block
        return block

    def _finish(self, call: Call) -> None:
        self._out.append(frames.frame(_HEADERS, _LAST, call.stream, OK_BLOCK))
        self._finished(call)

    def _send_blocked(self) -> bool:
        """What the windows allow of the waiting answers, oldest first. Whether that was anything."""
        sent = False
        for call in list(self._blocked.values()):
            if self._window <= 0:
                break
            sent |= call.send_window > 0 and self._send(call)
        return sent

    def _send(self, call: Call) -> bool:
        unsent, sent = call.unsent, 0
        while size := min(len(unsent) - sent, _MOST_AT_ONCE, max(self._window, 0), max(call.send_window, 0)):
            self._out.append(frames.frame(_DATA, 0, call.stream, bytes(unsent[sent : sent + size])))
            sent += size
            self._window -= size
            call.send_window -= size
        call.unsent = unsent[sent:]
        if not call.unsent:
            del self._blocked[call.stream]
            self._finish(call)
        return sent > 0
