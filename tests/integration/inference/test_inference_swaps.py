"""Versions swap at steady load: no call fails, and each is answered by a version that was loaded then.

SLIPWAY_SWAPS tells how many swaps (15; the full dose is 100).
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2_grpc as v2_grpc
from tests.integration.inference.conftest import RunInference
from tests.integration.inference.platform import MODEL, Inference, Versions, entity_request
from tests.support import eventually
from tests.support.tiny_models import logistic_onnx

SWAPS = int(os.environ.get("SLIPWAY_SWAPS", "15"))
BIASES = (-1.0, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Answer:
    """Times on the monotonic clock."""

    asked_at: float
    answered_at: float
    version: str
    probability: float


@dataclass(frozen=True, slots=True)
class Swap:
    """The alias moved after `from_`; at `done` the version before had ceased to serve."""

    version: str
    from_: float
    done: float


class Load:
    """A thread for each of these ways to call, without pause, until it is stopped."""

    def __init__(self, running: Inference) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.failures: list[grpc.RpcError] = []
        self._enough = threading.Event()
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channels = [grpc.insecure_channel(running.address, options)]
        self._channels.append(grpc.insecure_channel(running.fast_address, options))
        stubs = dict(zip(("grpcio", "fast"), map(v2_grpc.GRPCInferenceServiceStub, self._channels), strict=True))
        ways = {
            f"{port} {what}": (stub, request)
            for port, stub in stubs.items()
            for what, request in (("vector", vector_request()), ("entity", entity_request("courier-1")))
        }
        self._threads = [threading.Thread(target=self._call, args=(way, *told)) for way, told in ways.items()]
        for thread in self._threads:
            thread.start()

    def _call(self, way: str, stub: v2_grpc.GRPCInferenceServiceStub, request: v2.ModelInferRequest) -> None:
        answers = self.answers[way] = []
        while not self._enough.is_set():
            asked_at = time.monotonic()
            try:
                response = stub.ModelInfer(request, timeout=10)
            except grpc.RpcError as error:
                self.failures.append(error)
                return
            answers.append(Answer(asked_at, time.monotonic(), response.model_version, probability(response)))

    def stop(self) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join(20)
        for channel in self._channels:
            channel.close()


def vector_request() -> v2.ModelInferRequest:
    request = v2.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name="features", datatype="FP32", shape=[1, 3])
    request.raw_input_contents.append(struct.pack("<3f", 1, float("nan"), 2))
    return request


def probability(response: v2.ModelInferResponse) -> float:
    if response.raw_output_contents:
        (value,) = struct.unpack("<f", response.raw_output_contents[0])
        return float(value)
    return float(response.outputs[0].contents.fp32_contents[0])


def expected(bias: float) -> float:
    """Of courier-1 with 2 kg and of the vector, which say the same."""
    return float(1 / (1 + np.exp(-(0.5 * 1 + 0.125 * 2 + bias))))


@pytest.mark.timeout(600)
def test_no_call_fails_and_each_is_answered_by_a_version_that_was_loaded(
    inference: RunInference, versions: Versions, with_all: Mapping[str, str]
) -> None:
    biases = {versions.register(logistic_onnx(bias=bias), alias="spare"): bias for bias in BIASES}
    names = list(biases)
    with inference(with_all) as running:
        swaps = [swap(running, versions, names[0])]
        load = Load(running)
        for number in range(1, SWAPS + 1):
            before, version = swaps[-1].version, names[number % len(names)]
            swaps.append(swap(running, versions, version))
            named = entity_request("courier-1", model_version=before)
            assert running.infer(named).model_version == before, "the version before stays warm"
        load.stop()

    assert load.failures == []
    assert all(len(answers) >= SWAPS for answers in load.answers.values())
    answers = [answer for each in load.answers.values() for answer in each]
    assert [answer for answer in answers if answer.version not in serving(answer, swaps)] == []
    assert {answer.version for answer in answers} == set(names)
    for answer in answers:
        assert answer.probability == pytest.approx(expected(biases[answer.version]), abs=1e-6)


def swap(running: Inference, versions: Versions, version: str) -> Swap:
    """Moves the alias and asks to look at it at once."""
    from_ = time.monotonic()
    versions.point("champion", version)
    running.stub.RepositoryModelLoad(v2.RepositoryModelLoadRequest(model_name=MODEL), timeout=20)
    assert running.serves(version)
    return Swap(version, from_, time.monotonic())


def serving(answer: Answer, swaps: Sequence[Swap]) -> set[str]:
    """The versions that served at some moment between question and answer."""
    ends = [each.done for each in swaps[1:]] + [float("inf")]
    return {
        each.version
        for each, end in zip(swaps, ends, strict=True)
        if each.from_ <= answer.answered_at and answer.asked_at <= end
    }


def test_health_and_the_repository_follow_what_is_loaded(
    inference: RunInference, versions: Versions, with_mlflow: Mapping[str, str]
) -> None:
    version = versions.register()
    with inference(with_mlflow) as running:
        health = health_pb2_grpc.HealthStub(running.channel)
        index = [running.stub.RepositoryIndex(v2.RepositoryIndexRequest(), timeout=10)]
        unload = v2.RepositoryModelUnloadRequest(model_name=MODEL)
        refused = code_of(lambda: running.stub.RepositoryModelUnload(unload, timeout=10))
        statuses = [health.Check(health_pb2.HealthCheckRequest(service=MODEL), timeout=10).status]

        bad = versions.register(b"junk")
        eventually(lambda: "was refused" in running.detail(), "the refusal is told")
        load = v2.RepositoryModelLoadRequest(model_name=MODEL)
        refused_load = code_of(lambda: running.stub.RepositoryModelLoad(load, timeout=20))
        index.append(running.stub.RepositoryIndex(v2.RepositoryIndexRequest(), timeout=10))
        still = running.infer(entity_request("courier-1")).model_version

        versions.withdraw("champion")
        running.stub.RepositoryModelUnload(unload, timeout=10)
        statuses.append(health.Check(health_pb2.HealthCheckRequest(service=MODEL), timeout=10).status)
        index.append(running.stub.RepositoryIndex(v2.RepositoryIndexRequest(), timeout=10))
        gone, _ = running.refusal(entity_request("courier-1"))

    assert statuses == [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]
    assert [[(model.version, model.state) for model in each.models] for each in index] == [
        [(version, "READY")],
        [(version, "READY"), (bad, "UNAVAILABLE")],
        [("", "UNAVAILABLE")],
    ]
    assert "is damaged or no ONNX file" in index[1].models[1].reason
    assert refused == refused_load == "FAILED_PRECONDITION"
    assert (still, gone) == (version, "UNAVAILABLE")


def code_of(call: object) -> str:
    """Of a call that must fail."""
    assert callable(call)
    with pytest.raises(grpc.RpcError) as failed:
        call()
    return str(failed.value.code().name)  # type: ignore[attr-defined]
