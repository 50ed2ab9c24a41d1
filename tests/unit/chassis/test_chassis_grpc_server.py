"""A gRPC server: errors become statuses by their cause, health tells the truth, a port has one owner."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.chassis import errors
from services.chassis.grpc_server import grpc_server, status_of, unary
from services.contracts.ingestion.v1 import ingestion_pb2 as pb
from services.contracts.ingestion.v1 import ingestion_pb2_grpc as rpc

SERVICE = "slipway.ingestion.v1.IngestionService"
CAUSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.SlipwayError)]


class _Raising(rpc.IngestionServiceServicer):
    """Raises what it is given; answers if that is None."""

    def __init__(self, error: BaseException | None) -> None:
        self._error = error

    @unary
    async def PublishEvents(self, request: pb.PublishEventsRequest, context: Any) -> pb.PublishEventsResponse:
        if self._error is not None:
            raise self._error
        return pb.PublishEventsResponse(results=[pb.EventResult(event_id="e-1")])


async def _ask(error: BaseException | None) -> pb.PublishEventsResponse:
    def register(server: grpc.aio.Server) -> None:
        rpc.add_IngestionServiceServicer_to_server(_Raising(error), server)

    async with (
        grpc_server("127.0.0.1:0", register, [SERVICE], grace_s=0.1) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        return await rpc.IngestionServiceStub(channel).PublishEvents(pb.PublishEventsRequest())


@pytest.fixture
async def address() -> AsyncIterator[str]:
    """Of a server that answers."""

    def register(server: grpc.aio.Server) -> None:
        rpc.add_IngestionServiceServicer_to_server(_Raising(None), server)

    async with grpc_server("127.0.0.1:0", register, [SERVICE], grace_s=0.1) as port:
        yield f"127.0.0.1:{port}"


def test_every_cause_has_a_status_of_its_own() -> None:
    specific = [cause for cause in CAUSES if cause is not errors.SlipwayError]
    statuses = [status_of(cause("words")) for cause in specific]

    assert grpc.StatusCode.INTERNAL not in statuses
    assert len(set(statuses)) == len(specific) > 5


def test_the_tree_in_the_docstring_names_every_cause() -> None:
    for cause in CAUSES:
        assert cause.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize(
    "cause", [errors.Invalid, errors.NotFound, errors.Overloaded], ids=lambda cause: cause.__name__
)
async def test_an_error_of_ours_reaches_the_caller_with_its_words(cause: type[errors.SlipwayError]) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await _ask(cause("field x: is wrong"))

    assert raised.value.code() is status_of(cause("field x: is wrong"))
    assert raised.value.details() == "field x: is wrong"


async def test_a_bug_is_internal_and_tells_the_caller_nothing_of_it() -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await _ask(RuntimeError("password 1234"))

    assert raised.value.code() is grpc.StatusCode.INTERNAL
    assert "1234" not in (raised.value.details() or "")


async def test_an_answer_passes_unchanged() -> None:
    assert (await _ask(None)).results[0].event_id == "e-1"


async def test_health_says_serving_for_the_server_and_its_service(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", SERVICE):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_the_service(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = [answer async for answer in stub.ServerReflectionInfo(iter([request]))]

    listed = [service.name for service in answers[0].list_services_response.service]
    assert SERVICE in listed


async def test_a_port_that_is_taken_is_refused(address: str) -> None:
    with pytest.raises(RuntimeError):
        async with grpc_server(address, lambda _server: None, []):
            pass
