"""One HTTP/2 connection of the fast lane: bytes to calls and answers to bytes (RFC 9113, a server of unary gRPC)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import cast

import grpc

from services.chassis.errors import Invalid
from services.chassis.fastlane import frames
from services.chassis.fastlane.call import Call
from services.chassis.fastlane.floods import Floods
from services.chassis.fastlane.frames import ErrorCode, Kind, PeerError, Setting, StreamError
from services.chassis.fastlane.grpc_words import NoCall, Refused, read_request
from services.chassis.fastlane.header_blocks import BlockReader, Headers, Malformed
from services.chassis.fastlane.inbox import CONNECTION_WINDOW, STREAM_WINDOW, Inbox
from services.chassis.fastlane.limits import Limits
from services.chassis.fastlane.outbox import Outbox
from services.chassis.logging import get_logger

Method = Callable[[Sequence[Call]], None]
"""Gets the calls that came in one read; owes each an answer, now or later."""

_DRAIN_PING = b"draining"
_SWEEP_S, _FLOOD_SWEEPS = 1.0, 10
_END_STREAM, _END_HEADERS, _PADDED = frames.END_STREAM, frames.END_HEADERS, frames.PADDED
_DATA, _HEADERS, _CONTINUATION = int(Kind.DATA), int(Kind.HEADERS), int(Kind.CONTINUATION)


class Connection(asyncio.Protocol):
    """Belongs to one event loop. `methods` by path; `opened` and `closed` are told."""

    def __init__(
        self,
        methods: Mapping[str, Method],
        limits: Limits,
        opened: Callable[[Connection], None],
        closed: Callable[[Connection], None],
        *,
        tls: bool,
    ) -> None:
        self._methods = methods
        self._limits = limits
        self._opened = opened
        self._closed = closed
        self._tls = tls
        self._transport: asyncio.Transport | None = None
        self._preface_timer: asyncio.TimerHandle | None = None
        self._others: dict[int, Callable[[int, int, bytes], None]] = {
            Kind.PRIORITY: self._take_priority,
            Kind.RST_STREAM: self._take_rst_stream,
            Kind.SETTINGS: self._take_settings,
            Kind.PUSH_PROMISE: self._take_push_promise,
            Kind.PING: self._take_ping,
            Kind.GOAWAY: self._take_goaway,
            Kind.WINDOW_UPDATE: self._take_window_update,
            Kind.CONTINUATION: self._take_continuation,
        }
        self._unread = b""
        self._greeted = False
        self._told_settings = False
        self._blocks = BlockReader(limits.header_bytes, limits.headers)
        self._block: tuple[int, int, bytes] | None = None
        self._calls: dict[int, Call] = {}
        self._last_stream = 0
        self._ready: list[Call] = []
        self._ready_bytes = 0
        self._floods = Floods(limits.idle_frames)
        self._sweeps = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._outbox = Outbox(self._finished)
        self._inbox = Inbox(limits, self._outbox, self._calls)
        self._reading = False
        self._flush_is_scheduled = False
        self._pinged = False
        self._draining = False
        self._over = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._opened(self)
        secured = transport.get_extra_info("ssl_object")
        if self._tls and (secured is None or secured.selected_alpn_protocol() != "h2"):
            self._transport.abort()
            return
        _notice_dead_peer(self._transport)
        loop = asyncio.get_running_loop()
        self._preface_timer = loop.call_later(self._limits.preface_s, self._transport.abort)
        self._sweeper = loop.call_later(_SWEEP_S, self._sweep)
        ours = {
            Setting.HEADER_TABLE_SIZE: 0,
            Setting.MAX_CONCURRENT_STREAMS: self._limits.concurrent_calls,
            Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            Setting.MAX_HEADER_LIST_SIZE: self._limits.header_bytes,
        }
        more = CONNECTION_WINDOW - frames.DEFAULT_WINDOW
        self._transport.write(frames.settings(ours) + frames.window_update(0, more))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        self._over = True
        for timer in (self._preface_timer, self._sweeper):
            if timer is not None:
                timer.cancel()
        calls, self._calls = list(self._calls.values()), {}
        for call in calls:
            call.give_up()
        self._closed(self)

    def pause_writing(self) -> None:
        """The peer reads too slowly: what it sends is not read either."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None and not self._over:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        self._reading = True
        try:
            self._read(self._unread + data if self._unread else data)
            self._hand_over()
        except PeerError as error:
            self._give_up(error.code, error.reason)
        finally:
            self._reading = False
            self._flush()

    # What the peer sends

    def _read(self, data: bytes) -> None:
        at, end = 0, len(data)
        if not self._greeted:
            if len(data) < len(frames.PREFACE) and frames.PREFACE.startswith(data):
                self._unread = data
                return
            at = self._greet(data)
        unpack = frames.HEAD.unpack_from
        while end - at >= frames.HEAD_BYTES:
            high, length, kind, flags, stream = unpack(data, at)
            if high or length > frames.MAX_FRAME_BYTES:
                raise PeerError(ErrorCode.FRAME_SIZE_ERROR, f"a frame is longer than {frames.MAX_FRAME_BYTES} bytes")
            start = at + frames.HEAD_BYTES
            if end - start < length:
                break
            at = start + length
            try:
                self._take(kind, flags, stream & 0x7FFFFFFF, data[start:at])
            except StreamError as error:
                self._reset(error.stream, error.code)
                self._floods.reset()
        self._unread = data[at:]

    def _greet(self, data: bytes) -> int:
        if not data.startswith(frames.PREFACE):
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "expected the preface of HTTP/2")
        self._greeted = True
        return len(frames.PREFACE)

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._block is not None and kind != _CONTINUATION:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "a header block was not continued")
        if not self._told_settings and kind != Kind.SETTINGS:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if kind == _DATA:
            self._take_data(flags, stream, payload)
        elif kind == _HEADERS:
            self._take_headers(flags, stream, payload)
        else:
            self._floods.idle()
            take = self._others.get(kind)
            if take is not None:
                take(flags, stream, payload)

    def _take_headers(self, flags: int, stream: int, payload: bytes) -> None:
        if not stream % 2:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream that no client may open")
        if flags & _PADDED:
            payload = frames.unpadded(payload)
        if flags & frames.PRIORITY:
            if len(payload) < 5:
                raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "HEADERS: too short for its priority")
            if int.from_bytes(payload[:4]) & 0x7FFFFFFF == stream:
                raise PeerError(ErrorCode.PROTOCOL_ERROR, "a stream depends on itself")
            payload = payload[5:]
        if flags & _END_HEADERS:
            self._begin(flags, stream, payload)
        else:
            self._block = (flags, stream, payload)

    def _take_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if self._block is None or self._block[1] != stream:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of no header block")
        first_flags, _, begun = self._block
        block = begun + payload
        if len(block) > self._limits.header_bytes:
            raise PeerError(ErrorCode.ENHANCE_YOUR_CALM, f"a header block is longer than {self._limits.header_bytes}")
        self._block = (first_flags, stream, block)
        if flags & _END_HEADERS:
            self._block = None
            self._begin(first_flags, stream, block)

    def _begin(self, flags: int, stream: int, block: bytes) -> None:
        """A whole header block: of a new call, or the trailers of one that is being read."""
        try:
            headers = self._blocks.read(block)
        except Malformed:
            headers = None
        if stream <= self._last_stream:
            self._take_trailers(flags, stream)
            return
        if self._draining:
            return
        self._last_stream = stream
        if headers is None:
            raise StreamError(stream, ErrorCode.PROTOCOL_ERROR)
        if len(self._calls) >= self._limits.concurrent_calls:
            raise StreamError(stream, ErrorCode.REFUSED_STREAM)
        call = Call(self, stream, headers, STREAM_WINDOW, self._outbox.stream_window)
        self._calls[stream] = call
        if flags & _END_STREAM:
            call.sending = False
        self._open(call, headers)
        if flags & _END_STREAM:
            self._complete(call, b"")

    def _open(self, call: Call, headers: Headers) -> None:
        """What can be said against a call before its message is there is said at once."""
        try:
            request = read_request(headers)
        except Malformed as error:
            raise StreamError(call.stream, ErrorCode.PROTOCOL_ERROR) from error
        except NoCall as error:
            self._refuse(call, error.http_status)
            return
        except Refused as refused:
            call.fail(refused.code, refused.details)
            return
        call.method, timeout_s = request
        if timeout_s is not None:
            call.deadline = monotonic() + timeout_s
        if call.method not in self._methods:
            call.fail(grpc.StatusCode.UNIMPLEMENTED, f"{call.method} is not served on this port")

    def _refuse(self, call: Call, http_status: bytes) -> None:
        call.done = True
        self._outbox.http_error(call, http_status)

    def _take_trailers(self, flags: int, stream: int) -> None:
        call = self._calls.get(stream)
        if call is None:
            self._floods.idle()
            return
        if not call.sending:
            raise StreamError(stream, ErrorCode.STREAM_CLOSED)
        if not flags & _END_STREAM:
            raise StreamError(stream, ErrorCode.PROTOCOL_ERROR)
        self._complete(call, b"")

    def _take_data(self, flags: int, stream: int, payload: bytes) -> None:
        size = len(payload)
        self._inbox.pay(size)
        call = self._calls.get(stream)
        if call is None:
            if (stream > self._last_stream and not self._draining) or not stream:
                raise PeerError(ErrorCode.PROTOCOL_ERROR, "DATA on a stream that was not opened")
            self._floods.idle()
            return
        if not call.sending:
            raise StreamError(stream, ErrorCode.STREAM_CLOSED)
        last = flags & _END_STREAM
        self._inbox.pay_stream(call, size, more=not last)
        if flags & _PADDED:
            payload = frames.unpadded(payload)
        if last:
            self._complete(call, payload)
        elif payload:
            self._inbox.keep(call, payload)
        else:
            self._floods.idle()

    def _complete(self, call: Call, payload: bytes) -> None:
        """The peer has sent all of the call."""
        call.sending = False
        self._floods.excuse()
        if call.done:
            # It was refused before its end, and has its status.
            return
        try:
            call.message = self._inbox.message(call, payload)
        except Refused as refused:
            call.fail(refused.code, refused.details)
        except Invalid as error:
            call.fail(grpc.StatusCode.INTERNAL, str(error))
        else:
            self._ready.append(call)
            self._ready_bytes += len(call.message)
            if self._ready_bytes > self._limits.message_bytes:
                # What was packed small may be large: never much of it at once.
                self._hand_over()

    def _take_priority(self, _flags: int, stream: int, payload: bytes) -> None:
        """Only checked: all calls are equal."""
        if not stream:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "PRIORITY of no stream")
        if len(payload) != 5:
            raise StreamError(stream, ErrorCode.FRAME_SIZE_ERROR)
        if int.from_bytes(payload[:4]) & 0x7FFFFFFF == stream:
            raise StreamError(stream, ErrorCode.PROTOCOL_ERROR)

    def _take_rst_stream(self, _flags: int, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM: the length is not 4")
        if not stream or (stream > self._last_stream and not self._draining):
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "RST_STREAM of a stream that was not opened")
        call = self._calls.get(stream)
        if call is not None:
            self._forget(call)
            call.give_up()
            self._floods.reset()

    def _take_settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & frames.ACK:
            if payload:
                raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS: an acknowledgement with settings")
            self._blocks.forget_table()
            return
        self._told_settings = True
        if self._preface_timer is not None:
            self._preface_timer.cancel()
        told = dict(frames.read_settings(payload))
        # What is sent by the new settings comes after the acknowledgement of them.
        self._outbox.put(frames.frame(Kind.SETTINGS, frames.ACK, 0))
        if Setting.INITIAL_WINDOW_SIZE in told:
            self._outbox.resize_streams(told[Setting.INITIAL_WINDOW_SIZE], self._calls.values())

    def _take_ping(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "PING: the length is not 8")
        if not flags & frames.ACK:
            self._outbox.put(frames.frame(Kind.PING, frames.ACK, 0, payload))
        elif payload == _DRAIN_PING and self._pinged:
            self._stop_taking()

    def _take_goaway(self, _flags: int, stream: int, payload: bytes) -> None:
        """The peer begins no more calls; those in progress are answered."""
        if stream or len(payload) < 8:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "GOAWAY: on a stream, or too short")
        self._draining = True
        self._close_if_done()

    def _take_window_update(self, _flags: int, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE: the length is not 4")
        increment = int.from_bytes(payload) & frames.MAX_WINDOW
        if stream > self._last_stream and not self._draining:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of a stream that was not opened")
        call = self._calls.get(stream)
        freed = False
        if not stream:
            freed = self._outbox.widen(increment)
        elif call is not None:
            freed = self._outbox.widen_stream(call, increment)
        if freed:
            self._floods.excuse()

    def _take_push_promise(self, _flags: int, _stream: int, _payload: bytes) -> None:
        raise PeerError(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    # Calls and their answers

    def _hand_over(self) -> None:
        """All calls that came in this read, to their methods."""
        if not self._ready:
            return
        ready, self._ready, self._ready_bytes = self._ready, [], 0
        by_method: dict[str, list[Call]] = {}
        for call in ready:
            if not call.done:
                by_method.setdefault(call.method, []).append(call)
        for path, calls in by_method.items():
            try:
                self._methods[path](calls)
            except Exception:
                get_logger().exception("call_failed", method=path)
                for call in calls:
                    call.fail(grpc.StatusCode.INTERNAL, "internal error; the server's log has the details")

    def send_answer(self, call: Call, message: bytes) -> None:
        """For Call."""
        self._outbox.answer(call, message)
        self._flush_soon()

    def send_status(self, call: Call, code: grpc.StatusCode, details: str) -> None:
        """For Call."""
        self._outbox.status(call, code, details)
        self._flush_soon()

    def _finished(self, call: Call) -> None:
        if call.sending:
            # The peer is still sending: it need not go on.
            self._outbox.put(frames.rst_stream(call.stream, ErrorCode.NO_ERROR))
        self._forget(call)

    def _forget(self, call: Call) -> None:
        self._calls.pop(call.stream, None)
        if call.unsent:
            self._outbox.forget(call)
        if call.body:
            self._inbox.forget(call)
        if self._draining:
            self._close_if_done()

    def _reset(self, stream: int, code: ErrorCode) -> None:
        self._outbox.put(frames.rst_stream(stream, code))
        call = self._calls.get(stream)
        if call is not None:
            self._forget(call)
            call.give_up()

    def _sweep(self) -> None:
        """Each second: ends what its caller waits for no more, or does not send to its end."""
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)
        self._sweeps += 1
        if self._sweeps % _FLOOD_SWEEPS == 0:
            self._floods.new_period()
        now = monotonic()
        for call in list(self._calls.values()):
            call.sweeps += 1
            if call.deadline is not None and now > call.deadline + _SWEEP_S:
                self._end_late(call)
            elif call.sending and call.sweeps > self._limits.message_s:
                call.fail(grpc.StatusCode.DEADLINE_EXCEEDED, "the message did not come to its end")

    def _end_late(self, call: Call) -> None:
        if call.done:
            # Its answer waits for a window that does not come.
            self._reset(call.stream, ErrorCode.CANCEL)
        else:
            call.give_up_work()
            call.fail(grpc.StatusCode.DEADLINE_EXCEEDED, "the call's deadline has passed")
        self._flush_soon()

    # The end

    def drain(self) -> None:
        """No new calls after a round trip; ends when those in progress are answered."""
        self._outbox.put(frames.goaway(frames.MAX_WINDOW, ErrorCode.NO_ERROR))
        self._outbox.put(frames.frame(Kind.PING, 0, 0, _DRAIN_PING))
        self._pinged = True
        self._flush_soon()

    def abort(self) -> None:
        """Ends at once."""
        if self._transport is not None:
            self._transport.abort()

    def _stop_taking(self) -> None:
        self._draining = True
        self._outbox.put(frames.goaway(self._last_stream, ErrorCode.NO_ERROR))
        self._close_if_done()

    def _close_if_done(self) -> None:
        if not self._calls and not self._over:
            self._flush_soon()
            asyncio.get_running_loop().call_soon(self._close)

    def _close(self) -> None:
        if not self._calls and self._transport is not None:
            self._flush()
            self._transport.close()

    def _give_up(self, code: ErrorCode, reason: str) -> None:
        get_logger().info("http2_peer_error", code=code.name, reason=reason)
        self._outbox.put(frames.goaway(self._last_stream, code, reason))
        self._flush()
        self._over = True
        if self._transport is not None:
            self._transport.close()

    def _flush_soon(self) -> None:
        if not self._reading and not self._flush_is_scheduled:
            self._flush_is_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_scheduled = False
        written = self._outbox.take()
        if written and self._transport is not None and not self._over:
            self._transport.write(written)


def _notice_dead_peer(transport: asyncio.Transport) -> None:
    """A peer that is gone without a word is noticed by the kernel within minutes."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000)
