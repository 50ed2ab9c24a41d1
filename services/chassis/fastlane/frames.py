"""HTTP/2 frames as bytes (RFC 9113, sections 4 and 6). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from struct import Struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES = 9
MAX_FRAME_BYTES = 16_384
"""The length up to which every peer takes frames, and we."""
MAX_WINDOW = 2**31 - 1
DEFAULT_WINDOW = 65_535

HEAD = Struct(">BHBBI")
"""High byte of the length, the rest of it, kind, flags, stream (the highest bit is reserved)."""

END_STREAM = ACK = 0x01
END_HEADERS = 0x04
PADDED = 0x08
PRIORITY = 0x20


class Kind(IntEnum):
    """What a frame is; others are ignored."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Setting(IntEnum):
    """What peers tell each other."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class ErrorCode(IntEnum):
    """RFC 9113, section 7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class PeerError(Exception):
    """The peer broke HTTP/2: the connection ends."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class StreamError(Exception):
    """The peer broke HTTP/2 on one stream: that stream ends."""

    def __init__(self, stream: int, code: ErrorCode) -> None:
        super().__init__(code.name)
        self.stream = stream
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame. `payload` is at most MAX_FRAME_BYTES long."""
    length = len(payload)
    assert length <= MAX_FRAME_BYTES
    return HEAD.pack(length >> 16, length & 0xFFFF, kind, flags, stream) + payload


def settings(values: Mapping[Setting, int]) -> bytes:
    """A SETTINGS frame."""
    payload = b"".join(int(name).to_bytes(2) + value.to_bytes(4) for name, value in values.items())
    return frame(Kind.SETTINGS, 0, 0, payload)


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """The pairs of a SETTINGS payload, unknown ones too. Raises PeerError if one has a value that it may not have."""
    if len(payload) % 6:
        raise PeerError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS: the length is no multiple of 6")
    pairs = []
    for at in range(0, len(payload), 6):
        name, value = int.from_bytes(payload[at : at + 2]), int.from_bytes(payload[at + 2 : at + 6])
        if name == Setting.ENABLE_PUSH and value > 1:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "SETTINGS: ENABLE_PUSH is neither 0 nor 1")
        if name == Setting.INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise PeerError(ErrorCode.FLOW_CONTROL_ERROR, "SETTINGS: INITIAL_WINDOW_SIZE is above 2^31 - 1")
        if name == Setting.MAX_FRAME_SIZE and not MAX_FRAME_BYTES <= value < 2**24:
            raise PeerError(ErrorCode.PROTOCOL_ERROR, "SETTINGS: MAX_FRAME_SIZE is not in [2^14, 2^24)")
        pairs.append((name, value))
    return pairs


def window_update(stream: int, increment: int) -> bytes:
    """Gives the peer that many bytes more."""
    return frame(Kind.WINDOW_UPDATE, 0, stream, increment.to_bytes(4))


def rst_stream(stream: int, code: ErrorCode) -> bytes:
    """Ends one stream at once."""
    return frame(Kind.RST_STREAM, 0, stream, int(code).to_bytes(4))


def goaway(last_stream: int, code: ErrorCode, reason: str = "") -> bytes:
    """Nothing above `last_stream` was or will be looked at."""
    return frame(Kind.GOAWAY, 0, 0, last_stream.to_bytes(4) + int(code).to_bytes(4) + reason.encode()[:256])


def unpadded(payload: bytes) -> bytes:
    """What a frame with the PADDED flag carries. Raises PeerError if the padding is longer than the frame."""
    if not payload or payload[0] >= len(payload):
        raise PeerError(ErrorCode.PROTOCOL_ERROR, "the padding is longer than the frame")
    return payload[1 : len(payload) - payload[0]]
