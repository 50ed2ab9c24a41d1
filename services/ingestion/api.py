"""The HTTP edge: CloudEvents by POST, one or a batch, and its documentation without a CDN."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ConfigDict, Field
from starlette.applications import Starlette

from services.chassis.errors import Invalid, SlipwayError, Unavailable
from services.ingestion.intake import Answer, Intake

MAX_BODY_BYTES = 16 * 1024 * 1024
_SINGLE = ("application/cloudevents+json", "application/json")
_BATCH = ("application/cloudevents-batch+json", "application/json")
_EDGE = "http"
_STATUS: dict[type[SlipwayError], int] = {Invalid: 400, Unavailable: 503}
_CLOUD_EVENT = {
    "type": "object",
    "required": ["specversion", "id", "source", "type", "time", "data"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "description": "Unique for one occurrence."},
        "source": {"type": "string"},
        "type": {"type": "string", "example": "order.placed"},
        "time": {"type": "string", "format": "date-time", "description": "When it happened."},
        "recordedtime": {"type": "string", "format": "date-time", "description": "When you knew it."},
        "datacontenttype": {"type": "string", "example": "application/json"},
        "data": {"type": "object"},
    },
}


class Result(BaseModel):
    """The answer for one event."""

    model_config = ConfigDict(frozen=True)

    outcome: Literal["accepted", "rejected"]
    event_id: Annotated[str, Field(description="Empty if the event had none that could be read.")]
    reason: Annotated[str, Field(description="malformed, envelope, unknown_type, schema or expectation.")] = ""
    detail: Annotated[str, Field(description="What is wrong, with the field's name.")] = ""


class Results(BaseModel):
    """The answers in the order of the request."""

    model_config = ConfigDict(frozen=True)

    results: list[Result]


class Refusal(BaseModel):
    """Why the request as a whole was not taken."""

    detail: str


_REFUSALS: dict[int | str, dict[str, Any]] = {
    413: {"model": Refusal, "description": f"More than {MAX_BODY_BYTES} bytes"},
    415: {"model": Refusal, "description": "Another content type"},
    503: {"model": Refusal, "description": "Kafka does not confirm; send the same events again"},
}


class _Refused(Exception):
    def __init__(self, status: int, detail: str) -> None:
        self.status, self.detail = status, detail


def make_api(intake: Intake) -> Starlette:
    """The ASGI application."""
    # The page's own validator would send the schema to swagger.io.
    app = FastAPIOffline(
        title="Slipway ingestion",
        description="Takes CloudEvents 1.0 in structured JSON mode. What is accepted lies on the broker (acks=all).",
        version="1",
        redoc_url=None,
        swagger_ui_parameters={"validatorUrl": "none"},
    )

    @app.post(
        "/v1/events",
        status_code=202,
        response_model=Result,
        summary="One event",
        responses={422: {"model": Result, "description": "Rejected"}, **_REFUSALS},
        openapi_extra=_request_body(_SINGLE, _CLOUD_EVENT),
    )
    async def publish_event(request: Request, response: Response) -> Result:
        body = await _body(request, _SINGLE)
        (answer,) = await run_in_threadpool(intake.publish, [body], _EDGE)
        response.status_code = 202 if answer.accepted else 422
        return _result(answer)

    @app.post(
        "/v1/events:batch",
        response_model=Results,
        summary="A batch; each event is answered on its own",
        responses={400: {"model": Refusal, "description": "Not a JSON array"}, **_REFUSALS},
        openapi_extra=_request_body(_BATCH, {"type": "array", "items": _CLOUD_EVENT}),
    )
    async def publish_events(request: Request) -> Results:
        body = await _body(request, _BATCH)
        answers = await run_in_threadpool(lambda: intake.publish(_elements(body), _EDGE))
        return Results(results=[_result(answer) for answer in answers])

    app.add_exception_handler(_Refused, _refusal)
    app.add_exception_handler(SlipwayError, _refusal)
    return app


def _result(answer: Answer) -> Result:
    return Result(
        outcome="accepted" if answer.accepted else "rejected",
        event_id=answer.event_id,
        reason=answer.reason,
        detail=answer.detail,
    )


def _request_body(content_types: tuple[str, ...], schema: dict[str, Any]) -> dict[str, Any]:
    content = {content_type: {"schema": schema} for content_type in content_types}
    return {"requestBody": {"required": True, "content": content}}


async def _body(request: Request, content_types: tuple[str, ...]) -> bytes:
    """Raises _Refused for another content type or too many bytes."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in content_types:
        raise _Refused(415, f"content-type: {content_type!r}; expected {' or '.join(content_types)}")
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise _Refused(413, f"more than {MAX_BODY_BYTES} bytes; send smaller batches")
        chunks.append(chunk)
    return b"".join(chunks)


def _elements(body: bytes) -> list[bytes]:
    """Each element as a document of its own. Raises Invalid if the body is not a JSON array."""
    try:
        batch = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"not JSON: {error}") from error
    if not isinstance(batch, list):
        raise Invalid("expected a JSON array of CloudEvents")
    return [json.dumps(element).encode() for element in batch]


async def _refusal(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001  the framework passes it
    status = error.status if isinstance(error, _Refused) else _status_of(error)
    detail = error.detail if isinstance(error, _Refused) else str(error)
    return JSONResponse({"detail": detail}, status)


def _status_of(error: Exception) -> int:
    return next((status for cause, status in _STATUS.items() if isinstance(error, cause)), 500)
