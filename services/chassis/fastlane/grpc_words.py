"""gRPC's own words on HTTP/2: timeouts, message frames, statuses (the protocol's PROTOCOL-HTTP2.md). Pure."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from urllib.parse import quote

import grpc

from services.chassis.fastlane.header_blocks import Headers, field

PREFIX_BYTES = 5
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_MOST_DIGITS = 8
_LONGEST_DETAILS = 4096
_INFLATES = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_UNESCAPED = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")

# 0x88 is `:status: 200` in HPACK's static table.
ANSWER_BLOCK = b"\x88" + field(b"content-type", b"application/grpc")
OK_BLOCK = field(b"grpc-status", b"0")


class Refused(Exception):
    """The call cannot be taken: the status it ends with."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


class NoCall(Exception):
    """The request is no gRPC call: the status of HTTP that it ends with, three digits."""

    def __init__(self, http_status: bytes) -> None:
        super().__init__(http_status.decode())
        self.http_status = http_status


def read_request(headers: Headers) -> tuple[str, float | None]:
    """The path, and the timeout in seconds, if there is one. Raises NoCall, Refused, and Malformed as Headers does."""
    if headers.get(b":method") != "POST":
        raise NoCall(b"405")
    kind = headers.get(b"content-type") or ""
    if kind != "application/grpc" and not kind.startswith(("application/grpc+", "application/grpc;")):
        raise NoCall(b"415")
    timeout = headers.get(b"grpc-timeout")
    return headers.get(b":path") or "", None if timeout is None else timeout_s(timeout)


def timeout_s(text: str) -> float:
    """Seconds of a `grpc-timeout` value. Raises Refused."""
    digits, unit = text[:-1], text[-1:]
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= _MOST_DIGITS and unit in _SECONDS):
        raise Refused(grpc.StatusCode.INTERNAL, f"grpc-timeout: {text!r} is no timeout")
    return int(digits) * _SECONDS[unit]


def status_block(code: grpc.StatusCode, details: str) -> bytes:
    """The trailers of an error; `details` percent-encoded as UTF-8."""
    number: int = code.value[0]
    return field(b"grpc-status", str(number).encode()) + field(b"grpc-message", _escaped(details).encode())


def _escaped(details: str) -> str:
    """Percent-encoded, no longer than a frame bears, and cut between two characters."""
    kept = details[:_LONGEST_DETAILS]
    while len(escaped := quote(kept, safe=_UNESCAPED)) > _LONGEST_DETAILS:
        kept = kept[: len(kept) // 2]
    return escaped if kept == details else f"{escaped}..."


def message_of(body: bytes, metadata: Callable[[str], str | None], most_bytes: int) -> bytes:
    """The one message of a unary call's body: a flag, the length in four bytes, the message. Raises Refused."""
    if len(body) < PREFIX_BYTES:
        raise Refused(grpc.StatusCode.INTERNAL, "the call ended before its message was whole")
    flag, length = body[0], int.from_bytes(body[1:PREFIX_BYTES])
    check_length(length, most_bytes)
    if len(body) != PREFIX_BYTES + length:
        found = len(body) - PREFIX_BYTES
        raise Refused(grpc.StatusCode.INTERNAL, f"expected one message of {length} bytes, got {found} bytes")
    if flag == 0:
        return body[PREFIX_BYTES:]
    if flag != 1:
        raise Refused(grpc.StatusCode.INTERNAL, f"expected 0 or 1 as flag of the message, got {flag}")
    return _inflated(body[PREFIX_BYTES:], metadata("grpc-encoding"), most_bytes)


def check_length(length: int, most_bytes: int) -> None:
    """Raises Refused if a message of that length is not taken."""
    if length > most_bytes:
        raise Refused(
            grpc.StatusCode.RESOURCE_EXHAUSTED, f"expected a message of at most {most_bytes} bytes, got {length}"
        )


def _inflated(packed: bytes, encoding: str | None, most_bytes: int) -> bytes:
    if encoding in (None, "identity"):
        raise Refused(grpc.StatusCode.INTERNAL, "the message is packed, but grpc-encoding does not say how")
    window = _INFLATES.get(encoding or "")
    if window is None:
        raise Refused(grpc.StatusCode.UNIMPLEMENTED, f"grpc-encoding: expected gzip or deflate, got {encoding!r}")
    inflate = zlib.decompressobj(window)
    try:
        message = inflate.decompress(packed, most_bytes + 1)
    except zlib.error as error:
        raise Refused(grpc.StatusCode.INTERNAL, f"the message does not inflate: {error}") from error
    check_length(len(message), most_bytes)
    if not inflate.eof:
        raise Refused(grpc.StatusCode.INTERNAL, "the message does not inflate: it ends early")
    return message
