"""Calls to the platform's gRPC servers; what they refuse becomes an error with their words and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from services.chassis.errors import (
    AlreadyExists,
    Conflict,
    DeadlineExceeded,
    Invalid,
    NotFound,
    SlipwayError,
    Unavailable,
)

TIMEOUT_S = 10.0
# A proxy of the environment is not meant for the loopback.
_OPTIONS = [("grpc.enable_http_proxy", 0)]
_CAUSES: dict[grpc.StatusCode, type[SlipwayError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: Invalid,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: Conflict,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
}
_NOT_REACHED = ("failed to connect", "Connection refused", "recvmsg", "Socket closed")
IS_IT_RUNNING = "Is the platform running? `slipway status` tells, `slipway up` starts it"


@contextmanager
def calls(who: str, address: str, make_stub: Callable[[grpc.Channel], Any]) -> Iterator[Any]:
    """A stub whose failures inside the block are raised as errors of ours that name `who`."""
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        try:
            yield make_stub(channel)
        except grpc.RpcError as error:
            raise _named(error, who, address) from error


def _named(error: Any, who: str, address: str) -> SlipwayError:
    code, words = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE and any(sign in words for sign in _NOT_REACHED):
        return Unavailable(f"{who} does not answer on {address}. {IS_IT_RUNNING}")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded(f"{who} on {address} did not answer in time. {IS_IT_RUNNING}")
    return _CAUSES.get(code, SlipwayError)(f"{who}: {words or code.name}")
