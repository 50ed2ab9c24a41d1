"""A gRPC server with health and reflection, and the one table that turns our errors into status codes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any, TypeVar

import grpc
from google.protobuf.internal import api_implementation
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

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
from services.chassis.logging import get_logger

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Two processes must never answer on one port by accident.
    ("grpc.so_reuseport", 0),
]

_STATUS: dict[type[SlipwayError], grpc.StatusCode] = {
    Invalid: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    Conflict: grpc.StatusCode.FAILED_PRECONDITION,
    OutOfRange: grpc.StatusCode.OUT_OF_RANGE,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
}

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Any]])
StreamHandler = TypeVar("StreamHandler", bound=Callable[..., AsyncIterator[Any]])


def status_of(error: SlipwayError) -> grpc.StatusCode:
    """The gRPC status of an error by its cause."""
    return next((code for cause, code in _STATUS.items() if isinstance(error, cause)), grpc.StatusCode.INTERNAL)


def unary(handler: Handler) -> Handler:
    """For servicer methods `async def Method(self, request, context)`: our errors become statuses, others INTERNAL."""

    @wraps(handler)
    async def translated(self: Any, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        async with _statuses(handler.__name__, context):
            return await handler(self, request, context)

    return translated  # type: ignore[return-value]


def streaming(handler: StreamHandler) -> StreamHandler:
    """The same for methods that answer with a stream: `async def Method(self, request, context)` with `yield`."""

    @wraps(handler)
    async def translated(self: Any, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        async with _statuses(handler.__name__, context):
            async for answer in handler(self, request, context):
                yield answer

    return translated  # type: ignore[return-value]


@asynccontextmanager
async def _statuses(method: str, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    try:
        yield
    except SlipwayError as error:
        await context.abort(status_of(error), str(error))
    except grpc.aio.AbortError:
        raise
    except Exception:
        get_logger().exception("call_failed", method=method)
        await context.abort(grpc.StatusCode.INTERNAL, "internal error; the server's log has the details")


@asynccontextmanager
async def grpc_server(
    address: str,
    register: Callable[[grpc.aio.Server], None],
    service_names: Sequence[str],
    *,
    grace_s: float = 5.0,
    health: health_aio.HealthServicer | None = None,
) -> AsyncIterator[int]:
    """Serves until the block ends; yields the bound port (`host:0` binds any free one).

    `register` adds the servicers; `service_names` are their full names, for health and reflection. Who has more to say
    of health than that these services are there passes `health`.
    On the way out health says NOT_SERVING, then calls in progress get `grace_s` seconds.
    Raises RuntimeError if protobuf runs in pure Python or the address is taken.
    """
    if api_implementation.Type() != "upb":
        raise RuntimeError(f"protobuf runs on {api_implementation.Type()!r}, not on upb: slow and unsafe; reinstall it")
    server = grpc.aio.server(options=OPTIONS)
    register(server)
    health = health or health_aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    reflection.enable_server_reflection([*service_names, reflection.SERVICE_NAME], server)
    port = server.add_insecure_port(address)
    await server.start()
    for name in ("", *service_names):
        await health.set(name, health_pb2.HealthCheckResponse.SERVING)
    try:
        yield port
    finally:
        await health.enter_graceful_shutdown()
        await server.stop(grace_s)
