"""What a server refuses is an error by its cause, with the server's words."""

from __future__ import annotations

import grpc
import pytest

from services.chassis.errors import AlreadyExists, Conflict, Invalid, NotFound, SlipwayError
from services.cli.rpc import calls
from services.contracts.training.v1 import training_pb2 as pb
from services.contracts.training.v1 import training_pb2_grpc as rpc
from tests.unit.cli.fakes import Fake, serving


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, Invalid),
        (grpc.StatusCode.NOT_FOUND, NotFound),
        (grpc.StatusCode.ALREADY_EXISTS, AlreadyExists),
        (grpc.StatusCode.FAILED_PRECONDITION, Conflict),
        (grpc.StatusCode.INTERNAL, SlipwayError),
    ],
    ids=lambda value: value.name if isinstance(value, grpc.StatusCode) else "",
)
def test_a_refusal_is_an_error_by_its_cause(code: grpc.StatusCode, cause: type[SlipwayError]) -> None:
    fake = Fake(StartRun=(code, "request_id: 'x' is what it is"))

    with (
        serving(rpc.add_TrainingServiceServicer_to_server, fake) as address,
        pytest.raises(SlipwayError, match=r"^training: request_id: 'x' is what it is$") as refused,
        calls("training", address, rpc.TrainingServiceStub) as stub,
    ):
        stub.StartRun(pb.StartRunRequest())

    assert type(refused.value) is cause
