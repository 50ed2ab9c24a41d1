"""The gRPC edge: versions by number, streams, and the model repository."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NoReturn

import grpc
import pytest

from services.chassis.errors import Conflict
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.inference.predictor import Predictor
from services.inference.scorer import Limits
from services.inference.servicer import InferenceServicer
from tests.unit.inference.fakes import (
    MODEL,
    NOW,
    FakeDeployment,
    FakeFeatures,
    FakeRecords,
    infer_request,
    make_metrics,
    make_model,
)


class AbortedCall(Exception):
    """What a caller would get."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(f"{code.name}: {details}")


class FakeContext:
    def __init__(self) -> None:
        self.trailing: dict[str, str] = {}

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def time_remaining(self) -> None:
        return None

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self.trailing = dict(metadata)

    async def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        raise AbortedCall(code, details)


class FakeRepository(FakeDeployment):
    """Remembers what it was asked to do; fails as told."""

    def __init__(self) -> None:
        super().__init__(make_model("8"), previous=make_model("7"))
        self.wanted = "8"
        self.asked: list[str] = []
        self.failure: Exception | None = None

    async def load_now(self) -> None:
        self.asked.append("load")
        if self.failure:
            raise self.failure

    async def unload(self, version: str = "") -> None:
        self.asked.append(f"unload {version}")
        if self.failure:
            raise self.failure


class Bench:
    def __init__(self) -> None:
        self.repository = FakeRepository()
        self.records = FakeRecords()
        self.metrics = make_metrics()
        predictor = Predictor(
            MODEL,
            "champion",
            deployment=self.repository,
            fetch=FakeFeatures().fetch,
            records=self.records,
            metrics=self.metrics,
            now=lambda: NOW,
            limits=Limits(),
            max_call_rows=4,
        )
        self.servicer = InferenceServicer(predictor, self.repository, self.metrics)

    async def call(self, method: str, request: Any) -> Any:
        return await getattr(self.servicer, method)(request, FakeContext())

    async def index(self, **asked: Any) -> list[tuple[str, str, str, str]]:
        answer = await self.call("RepositoryIndex", v2.RepositoryIndexRequest(**asked))
        return [(model.name, model.version, model.state, model.reason) for model in answer.models]


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_call_may_name_the_version_before(bench: Bench) -> None:
    answers = [await bench.call("ModelInfer", infer_request(model_version=version)) for version in ("7", "8", "", "7")]

    assert [answer.model_version for answer in answers] == ["7", "8", "8", "7"]
    assert [record.model_version for record in bench.records.added] == ["7", "8", "8", "7"]


async def test_a_version_that_is_not_loaded_is_refused_and_those_that_are_named(bench: Bench) -> None:
    with pytest.raises(AbortedCall, match=r"NOT_FOUND: version '6' of .* is not loaded; '8' and '7' are"):
        await bench.call("ModelInfer", infer_request(model_version="6"))


async def test_metadata_and_readiness_know_every_loaded_version(bench: Bench) -> None:
    metadata = await bench.call("ModelMetadata", v2.ModelMetadataRequest(name=MODEL, version="7"))
    ready = [
        (await bench.call("ModelReady", v2.ModelReadyRequest(name=MODEL, version=version))).ready
        for version in ("", "8", "7", "6")
    ]

    assert list(metadata.versions) == ["8", "7"] and ready == [True, True, True, False]


async def test_the_server_tells_its_extensions(bench: Bench) -> None:
    answer = await bench.call("ServerMetadata", v2.ServerMetadataRequest())

    assert list(answer.extensions) == ["model_repository"]


async def test_a_stream_answers_each_request_in_order_and_goes_on_after_a_bad_one(bench: Bench) -> None:
    async def requests() -> AsyncIterator[v2.ModelInferRequest]:
        yield infer_request(id="a")
        yield infer_request(id="b", model_version="6")
        yield infer_request(id="c", rows=2)

    answers = [each async for each in bench.servicer.ModelStreamInfer(requests(), FakeContext())]  # type: ignore[arg-type]

    assert [answer.infer_response.id for answer in answers] == ["a", "b", "c"]
    assert [bool(answer.error_message) for answer in answers] == [False, True, False]
    assert "version '6'" in answers[1].error_message
    assert len(answers[2].infer_response.outputs[0].contents.fp32_contents) == 2


async def test_the_index_lists_what_is_loaded(bench: Bench) -> None:
    assert await bench.index() == [(MODEL, "8", "READY", ""), (MODEL, "7", "READY", "")]


async def test_the_index_tells_why_the_aliases_version_is_not_loaded(bench: Bench) -> None:
    bench.repository.wanted, bench.repository.detail = "9", "version 9 was refused: no"

    assert await bench.index() == [
        (MODEL, "8", "READY", ""),
        (MODEL, "7", "READY", ""),
        (MODEL, "9", "UNAVAILABLE", "version 9 was refused: no"),
    ]
    assert [version for _, version, _, _ in await bench.index(ready=True)] == ["8", "7"]


async def test_the_index_of_a_deployment_without_a_version_tells_why(bench: Bench) -> None:
    bench.repository.current = bench.repository.previous = bench.repository.wanted = None
    bench.repository.detail = "no alias yet"

    assert await bench.index() == [(MODEL, "", "UNAVAILABLE", "no alias yet")]
    assert await bench.index(ready=True) == []


async def test_load_and_unload_reach_the_deployment(bench: Bench) -> None:
    loaded = await bench.call("RepositoryModelLoad", v2.RepositoryModelLoadRequest(model_name=MODEL))
    request = v2.RepositoryModelUnloadRequest(model_name=MODEL)
    request.parameters["unload_dependents"].bool_param = False
    unloaded = await bench.call("RepositoryModelUnload", request)
    request.parameters["version"].string_param = "7"
    await bench.call("RepositoryModelUnload", request)

    assert (loaded.model_name, loaded.isLoaded, unloaded.isUnloaded) == (MODEL, True, True)
    assert bench.repository.asked == ["load", "unload ", "unload 7"]


async def test_the_name_is_found_where_kserves_clients_put_it(bench: Bench) -> None:
    """Their message has the model's name as field 1."""
    wire = v2.ModelReadyRequest(name=MODEL).SerializeToString()

    await bench.call("RepositoryModelLoad", v2.RepositoryModelLoadRequest.FromString(wire))
    await bench.call("RepositoryModelUnload", v2.RepositoryModelUnloadRequest.FromString(wire))

    assert bench.repository.asked == ["load", "unload "]


async def test_what_the_deployment_forbids_is_a_failed_precondition(bench: Bench) -> None:
    bench.repository.failure = Conflict("the alias decides")

    for method, request in (
        ("RepositoryModelLoad", v2.RepositoryModelLoadRequest(model_name=MODEL)),
        ("RepositoryModelUnload", v2.RepositoryModelUnloadRequest(model_name=MODEL)),
    ):
        with pytest.raises(AbortedCall, match="FAILED_PRECONDITION: the alias decides"):
            await bench.call(method, request)


def with_parameter(name: str, **value: Any) -> dict[str, v2.ModelRepositoryParameter]:
    return {name: v2.ModelRepositoryParameter(**value)}


@pytest.mark.parametrize(
    ("method", "request_", "complaint"),
    [
        ("RepositoryIndex", v2.RepositoryIndexRequest(repository_name="r"), "INVALID_ARGUMENT: repository_name: .*'r'"),
        (
            "RepositoryModelLoad",
            v2.RepositoryModelLoadRequest(repository_name="r", model_name=MODEL),
            "INVALID_ARGUMENT: repository_name: .*'r'",
        ),
        ("RepositoryModelLoad", v2.RepositoryModelLoadRequest(model_name="other"), "NOT_FOUND: model 'other'"),
        ("RepositoryModelLoad", v2.RepositoryModelLoadRequest(), "NOT_FOUND: model '' is not served here"),
        (
            "RepositoryModelLoad",
            v2.RepositoryModelLoadRequest(
                model_name=MODEL, parameters=with_parameter("file:1/model.onnx", bytes_param=b"\0")
            ),
            "INVALID_ARGUMENT: parameters: expected none, got file:1/model.onnx",
        ),
        ("RepositoryModelUnload", v2.RepositoryModelUnloadRequest(model_name="other"), "NOT_FOUND: model 'other'"),
        (
            "RepositoryModelUnload",
            v2.RepositoryModelUnloadRequest(model_name=MODEL, parameters=with_parameter("version", int64_param=7)),
            "INVALID_ARGUMENT: parameter version: expected a string_param",
        ),
    ],
)
async def test_what_is_wrong_is_named(bench: Bench, method: str, request_: Any, complaint: str) -> None:
    with pytest.raises(AbortedCall, match=complaint):
        await bench.call(method, request_)

    assert bench.repository.asked == []


@pytest.mark.parametrize("parameter", ["classification", "shared_memory_region"])
async def test_an_output_in_another_form_or_place_is_refused(bench: Bench, parameter: str) -> None:
    request = infer_request()
    request.outputs.add(name="probability").parameters[parameter].int64_param = 1

    with pytest.raises(AbortedCall, match=f"INVALID_ARGUMENT: output 'probability': parameter {parameter}"):
        await bench.call("ModelInfer", request)


async def test_parameters_that_ask_for_what_is_given_anyway_are_ignored(bench: Bench) -> None:
    request = infer_request()
    request.parameters["priority"].int64_param = 1
    request.outputs.add(name="probability").parameters["binary_data"].bool_param = True

    answer = await bench.call("ModelInfer", request)

    assert [output.name for output in answer.outputs] == ["probability"]
