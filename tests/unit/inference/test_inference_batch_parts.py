"""What a batch run asks of MLflow and of the features service, and what it makes of their answers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import httpx
import pytest

from services.chassis.clock import from_proto
from services.chassis.errors import Conflict, Invalid, NotFound, Overloaded, SlipwayError, Unavailable
from services.contracts.features.v1 import features_pb2, features_pb2_grpc
from services.inference.batch.feature_sets import FeatureSet, FeatureSetsClient
from services.inference.batch.version import find_version
from services.inference.registry import ModelRegistry
from tests.support import free_port
from tests.unit.inference.batches import HOUR, NOON
from tests.unit.inference.fake_mlflow import FakeMlflow
from tests.unit.inference.fakes import MODEL


class FakeService(features_pb2_grpc.FeaturesServiceServicer):
    """Two stages and a set, or a refusal."""

    def __init__(self, code: grpc.StatusCode | None = None, *, built: bool = True) -> None:
        self._code = code
        self._built = built
        self.asked: list[Any] = []

    def BuildTrainingSet(self, request: Any, context: Any) -> Iterator[features_pb2.BuildTrainingSetResponse]:
        self.asked.append(request)
        if self._code is not None:
            context.abort(self._code, "known_by: is ahead of the lake")
        for stage in ("rows", "features"):
            yield features_pb2.BuildTrainingSetResponse(stage=stage)
        if self._built:
            built = features_pb2.TrainingSet(uri="file:///sets/a.parquet", features=["a", "b"])
            yield features_pb2.BuildTrainingSetResponse(stage="built", training_set=built)


@contextmanager
def _client(service: FakeService) -> Iterator[FeatureSetsClient]:
    server = grpc.server(ThreadPoolExecutor(2))
    features_pb2_grpc.add_FeaturesServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    client = FeatureSetsClient(f"127.0.0.1:{port}")
    try:
        yield client
    finally:
        client.close()
        server.stop(None)


def test_every_row_of_the_range_is_asked_for_and_the_stages_are_heard() -> None:
    heard: list[str] = []
    with _client(service := FakeService()) as client:
        built = client.build(NOON, NOON + HOUR, heard.append)

    assert built == FeatureSet("file:///sets/a.parquet", ("a", "b"))
    assert heard == ["rows", "features"]
    (request,) = service.asked
    assert from_proto(getattr(request, "from")) == NOON and from_proto(request.to) == NOON + HOUR
    assert request.without_labels and not request.HasField("known_by")


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("FAILED_PRECONDITION", Conflict),
        ("INVALID_ARGUMENT", Invalid),
        ("RESOURCE_EXHAUSTED", Overloaded),
        ("UNAVAILABLE", Unavailable),
        ("INTERNAL", Unavailable),
    ],
)
def test_a_refusal_comes_with_its_cause_and_words(code: str, cause: type[SlipwayError]) -> None:
    with _client(FakeService(grpc.StatusCode[code])) as client, pytest.raises(cause, match="is ahead of the lake"):
        client.build(NOON, NOON + HOUR, str)


def test_an_answer_that_ends_without_a_set_is_none() -> None:
    with _client(FakeService(built=False)) as client, pytest.raises(Unavailable, match="ended its answer without"):
        client.build(NOON, NOON + HOUR, str)


def test_a_features_service_that_is_not_there_is_named() -> None:
    address = f"127.0.0.1:{free_port()}"
    client = FeatureSetsClient(address)

    with pytest.raises(Unavailable, match=f"features service at {address} does not answer"):
        client.schema("parcel_delay_v1")
    client.close()


async def _found(mlflow: FakeMlflow, asked: str) -> str:
    async with httpx.AsyncClient(transport=mlflow, base_url="http://mlflow.test") as http:
        return (await find_version(ModelRegistry(http), MODEL, asked, 1_000_000)).version


async def test_a_version_goes_by_its_alias_or_its_number() -> None:
    mlflow = FakeMlflow(MODEL)
    for number in ("1", "2"):
        mlflow.register(number)

    assert await _found(mlflow, "champion") == "2"
    assert await _found(mlflow, "1") == "1"
    with pytest.raises(NotFound, match="--model: 'parcel-delay' has no alias 'challenger'"):
        await _found(mlflow, "challenger")


async def test_a_version_that_fails_a_check_scores_nothing() -> None:
    mlflow = FakeMlflow(MODEL)
    mlflow.register("1", digest="0" * 64)

    with pytest.raises(Invalid, match=r"model\.onnx has digest"):
        await _found(mlflow, "1")
