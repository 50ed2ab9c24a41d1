"""A request's body: bounded in bytes and in time, also when it came compressed."""

from __future__ import annotations

import asyncio
import zlib

from starlette.requests import Request

from services.chassis.errors import DeadlineExceeded, Invalid
from services.chassis.grpc_server import MAX_MESSAGE_BYTES

MAX_BODY_BYTES = MAX_MESSAGE_BYTES
"""As much as a gRPC message may have."""
BODY_WITHIN_S = 30.0
# zlib's window bits say which header is expected: gzip's, or its own (which HTTP calls deflate).
_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class TooLarge(Invalid):
    """The body has more bytes than we take."""


class TooSlow(DeadlineExceeded):
    """The body did not come in time."""


class UnknownContent(Invalid):
    """A content type or encoding that we do not read."""


async def read_body(request: Request) -> bytes:
    """All of it, decompressed. Raises TooLarge, TooSlow, UnknownContent, or Invalid if it does not decompress."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", *_WINDOW_BITS):
        raise UnknownContent(f"content-encoding: expected gzip, deflate or none, got {encoding!r}")
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            body = await _received(request)
    except TimeoutError:
        raise TooSlow(f"body: expected within {BODY_WITHIN_S:g} s") from None
    return body if encoding == "identity" else decompressed(body, encoding)


async def _received(request: Request) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise TooLarge(f"body: expected at most {MAX_BODY_BYTES} bytes; send fewer rows at a time")
        chunks.append(chunk)
    return b"".join(chunks)


def decompressed(body: bytes, encoding: str) -> bytes:
    """Raises TooLarge before more than the bound is in memory, Invalid if it is not what it says to be."""
    stream = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        content = stream.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise Invalid(f"body: expected {encoding}: {error}") from error
    if len(content) > MAX_BODY_BYTES:
        raise TooLarge(f"body: expected at most {MAX_BODY_BYTES} bytes when decompressed; send fewer rows at a time")
    if not stream.eof or stream.unused_data:
        raise Invalid(f"body: expected one whole {encoding} stream, got {'more' if stream.eof else 'less'}")
    return content
