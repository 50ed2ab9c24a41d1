"""`POST /v2/models/<model>[/versions/<version>]/infer`, ahead of the framework: most calls are this one.

FastAPI's way to a route and back costs as much CPU as all the rest of a one-row call.
"""

from __future__ import annotations

import re

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from services.chassis.errors import SlipwayError
from services.chassis.logging import get_logger
from services.inference.rest.bodies import Headers, read_body
from services.inference.rest.caller import INTERNAL, Caller, error_body, http_status_of
from services.inference.rest.open_inference import HEADER_LENGTH, read_request, write_response

_PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")
_JSON, _BINARY = (b"content-type", b"application/json"), (b"content-type", b"application/octet-stream")

Answer = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, headers, body."""


class InferFirst:
    """An ASGI application that answers this one path itself and leaves all others to another application."""

    def __init__(self, others: ASGIApp, caller: Caller) -> None:
        self._others = others
        self._caller = caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = _PATH.fullmatch(scope["path"]) if scope["type"] == "http" else None
        if found is None:
            await self._others(scope, receive, send)
            return
        try:
            status, headers, body = await self._answer(scope["method"], found, dict(scope["headers"]), receive)
        except ClientDisconnect:
            return
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, method: str, found: re.Match[str], headers: Headers, receive: Receive) -> Answer:
        if method != "POST":
            return 405, [_JSON, (b"allow", b"POST")], error_body(f"{method} {found[0][:200]}: expected POST")
        try:
            with self._caller.counted():
                body = await read_body(receive, headers)
                request = read_request(found[1], found[2] or "", body, headers.get(HEADER_LENGTH))
                content, head = write_response(request, await self._caller.infer(request, headers))
        except SlipwayError as error:
            return http_status_of(error), [_JSON], error_body(str(error))
        except ClientDisconnect:
            raise
        except Exception:
            get_logger().exception("call_failed", method="infer")
            return 500, [_JSON], error_body(INTERNAL)
        return 200, [_JSON] if head is None else [_BINARY, (HEADER_LENGTH, b"%d" % head)], content
