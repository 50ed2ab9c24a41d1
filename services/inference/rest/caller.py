"""One call on its way from HTTP to the predictor: its headers, its deadline, its count, its error as a status."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager

import grpc
from pydantic_core import to_json
from starlette.requests import ClientDisconnect

from services.chassis.errors import (
    AlreadyExists,
    Conflict,
    DeadlineExceeded,
    Invalid,
    NotFound,
    OutOfRange,
    Overloaded,
    SlipwayError,
    Unavailable,
)
from services.chassis.grpc_server import status_of
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.inference.metrics import InferenceMetrics
from services.inference.predictor import Predictor
from services.inference.rest.bodies import Headers, TooLarge, TooSlow, UnknownContent
from services.inference.rest.together import Together

# Found from the top: the finer causes come first.
_STATUS: dict[type[SlipwayError], int] = {
    TooLarge: 413,
    UnknownContent: 415,
    TooSlow: 408,
    Invalid: 400,
    OutOfRange: 400,
    NotFound: 404,
    AlreadyExists: 409,
    Conflict: 409,
    Overloaded: 429,
    Unavailable: 503,
    DeadlineExceeded: 504,
}
INTERNAL = "internal error; the server's log has the details"
_LONGEST_ERROR = 2000
_TOLD = tuple(
    (name.encode(), name) for name in ("x-slipway-variant", "x-slipway-release", "x-slipway-weight", "x-routing-key")
)
_TIMEOUT_US = "timeout"
_ENVOY_TIMEOUT_MS = b"x-envoy-expected-rq-timeout-ms"


def http_status_of(error: SlipwayError) -> int:
    """The HTTP status of an error by its cause."""
    return next((status for cause, status in _STATUS.items() if isinstance(error, cause)), 500)


def error_body(text: str) -> bytes:
    """What the protocol answers instead."""
    return to_json({"error": text[:_LONGEST_ERROR]})


class Caller:
    """Calls the predictor as the gRPC edge does: the same metadata, by header, and the same count."""

    def __init__(self, predictor: Predictor, metrics: InferenceMetrics) -> None:
        self._together = Together(predictor)
        self._metrics = metrics

    def counted(self) -> AbstractContextManager[None]:
        """Counts what happens within as one call, under the gRPC code of its outcome."""
        return _Counted(self._metrics)

    async def infer(self, request: v2.ModelInferRequest, headers: Headers) -> v2.ModelInferResponse:
        """The predictor's answer. Raises SlipwayError."""
        told = {name: headers[key].decode("latin-1") for key, name in _TOLD if key in headers}
        try:
            return await self._together.infer(request, told.get, time_left_s(request, headers))
        except asyncio.CancelledError:
            # Only the end of the process cancels a call, once its time to drain is over.
            raise Unavailable("the process ends and has no more time for this call; ask again") from None


class _Counted(AbstractContextManager[None]):
    __slots__ = ("_metrics",)

    def __init__(self, metrics: InferenceMetrics) -> None:
        self._metrics = metrics

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._metrics.requests.labels(_code_of(error).name).inc()


def _code_of(error: BaseException | None) -> grpc.StatusCode:
    if error is None:
        return grpc.StatusCode.OK
    if isinstance(error, SlipwayError):
        return status_of(error)
    gone = isinstance(error, ClientDisconnect | asyncio.CancelledError)
    return grpc.StatusCode.CANCELLED if gone else grpc.StatusCode.INTERNAL


def time_left_s(request: v2.ModelInferRequest, headers: Headers) -> float | None:
    """By Triton's request parameter `timeout` (µs; 0: none) and by what Envoy says it will wait. None: no limit."""
    limits = []
    if _TIMEOUT_US in request.parameters:
        parameter = request.parameters[_TIMEOUT_US]
        if parameter.WhichOneof("parameter_choice") != "int64_param" or parameter.int64_param < 0:
            raise Invalid("parameter timeout: expected microseconds, a whole number from 0")
        if parameter.int64_param:
            limits.append(parameter.int64_param / 1e6)
    in_ms = headers.get(_ENVOY_TIMEOUT_MS, b"")
    if in_ms.isdigit():
        limits.append(int(in_ms[:12]) / 1e3)
    return min(limits, default=None)
