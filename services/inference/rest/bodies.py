"""A request's body: bounded in bytes and in time, also when it came compressed."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from services.chassis.errors import DeadlineExceeded, Invalid
from services.chassis.grpc_server import MAX_MESSAGE_BYTES

Headers = Mapping[bytes, bytes]
"""A request's headers as ASGI has them, by name in lower case."""

MAX_BODY_BYTES = MAX_MESSAGE_BYTES
"""As much as a gRPC message may have."""
BODY_WITHIN_S = 30.0
# zlib's window bits say which header is expected: gzip's, or its own (which HTTP calls deflate).
_WINDOW_BITS = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}


class TooLarge(Invalid):
    """The body has more bytes than we take."""


class TooSlow(DeadlineExceeded):
    """The body did not come in time."""


class UnknownContent(Invalid):
    """A content type or encoding that we do not read."""


async def read_body(receive: Receive, headers: Headers, within_s: float = BODY_WITHIN_S) -> bytes:
    """All of it, decompressed.

    Raises TooLarge, TooSlow, UnknownContent, Invalid if it does not decompress, and ClientDisconnect.
    """
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding != b"identity" and encoding not in _WINDOW_BITS:
        raise UnknownContent(f"content-encoding: expected gzip, deflate or none, got {encoding.decode('latin-1')!r}")
    try:
        async with asyncio.timeout(within_s):
            body = await _received(receive)
    except TimeoutError:
        raise TooSlow(f"body: expected within {within_s:g} s") from None
    return body if encoding == b"identity" else _decompressed(body, encoding)


async def _received(receive: Receive) -> bytes:
    chunks, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise TooLarge(f"body: expected at most {MAX_BODY_BYTES} bytes; send fewer rows at a time")
        chunks.append(chunk)
    return b"".join(chunks)


def _decompressed(body: bytes, encoding: bytes) -> bytes:
    """Never holds more than the bound."""
    name = encoding.decode()
    stream = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        content = stream.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise Invalid(f"body: expected {name}: {error}") from error
    if len(content) > MAX_BODY_BYTES:
        raise TooLarge(f"body: expected at most {MAX_BODY_BYTES} bytes when decompressed; send fewer rows at a time")
    if not stream.eof or stream.unused_data:
        raise Invalid(f"body: expected one whole {name} stream, got {'more' if stream.eof else 'less'}")
    return content
