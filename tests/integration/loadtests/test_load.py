"""The load generators as processes, against a real ingestion and an inference by rule."""

from __future__ import annotations

import sys
from pathlib import Path

from loadtests.ceilings.contenders import Cores, reference
from loadtests.ceilings.h2load import Shape, send
from loadtests.ceilings.model import Served, forest
from loadtests.ceilings.requests import grpc_call
from loadtests.ceilings.rounds import Server, measure
from loadtests.journeys import questions
from loadtests.replay.client import RequestForm
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from tests.integration.loadtests.conftest import RunPlatform
from tests.integration.loadtests.platform import CountingPlatform
from tests.problems.parcels.upstream import two_days
from tests.support import PARCELS
from tests.support.process import Running, start_process


def _locust(running: CountingPlatform, *options: str) -> Running:
    command = [
        *(sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless", "--only-summary"),
        *("-u", "4", "-r", "4", "-t", "4s", "--p95-ms", "5000"),
        *("--source", "tests.problems.parcels.upstream:two_days"),
        *("--inference", running.address, "--features", running.address, "--ingestion", running.ingestion, *options),
    ]
    return start_process(command, env={"SLIPWAY_FEATURE_REPO": str(PARCELS)}, ops_port=0)


def test_h2load_sends_requests_that_inference_reads(platform: RunPlatform):
    with platform(PARCELS) as running:
        metadata = running.ModelMetadata(v2.ModelMetadataRequest(name="parcel-delay"), None)
        (question,) = questions(two_days(), PARCELS, 1, None)
        call = grpc_call(running.address, RequestForm(metadata).fill(question))

        answered = send(call, 200, Shape(connections=2, streams=8))
        running.outage.set()
        failing = send(call, 200, Shape(connections=2, streams=8))

    assert answered.per_second > 0
    assert answered.misses(answered.body_bytes // 200) == ""
    assert failing.good == 200, "a failed gRPC call has HTTP's 200"
    assert "the replies have 0 bytes" in failing.misses(answered.body_bytes // 200)
    assert running.asked == {question.id: 200}
    assert running.routing_keys == {"ceilings"}


def test_the_reference_is_measured_and_one_that_answers_otherwise_is_not(tmp_path: Path):
    model = Served("m", tmp_path / "model.onnx", 3)
    model.onnx.write_bytes(forest(3))
    with reference(model, Cores(server=None, generator=None), tmp_path) as right:
        wrong = Server("wrong", right.call, right.read, right.expected + 0.01, right.pids)
        measured, refused = measure([right, wrong], rounds=1, seconds=0.2, tell=lambda _: None)

    (sample,) = measured.samples
    assert measured.failed == ""
    assert sample.per_second > 100
    assert sample.cpu_us is not None and 10 < sample.cpu_us < 1e6 / sample.per_second * 2
    assert sample.p50_us is not None and sample.p99_us is not None and 10 < sample.p50_us <= sample.p99_us
    assert (refused.samples, refused.failed[:13]) == ((), "wrong answers")


def test_locust_walks_the_journeys_it_is_told_and_passes(platform: RunPlatform):
    with platform(PARCELS) as running:
        load = _locust(running, "EntityUser", "VectorUser", "MixedUser", "PublishUser")
        code = load.process.wait(60)

    assert code == 0, load.output
    assert "target missed" not in load.output
    assert running.asked.total() == len(running.asked) > 20
    assert all(request_id.startswith("load/") for request_id in running.asked)
    sizes = {request.inputs[0].shape[0] for request in running.requests}
    assert 1 in sizes and sizes <= {1, 10, 100}
    assert any(request.inputs[0].name == "features" for request in running.requests)


def test_locust_fails_when_a_target_is_missed(platform: RunPlatform):
    with platform(PARCELS) as running:
        running.outage.set()
        load = _locust(running, "EntityUser", "PublishUser")
        code = load.process.wait(60)

    assert code == 1, load.output
    assert "target missed: entity: 100.00% failed" in load.output
    assert "target missed: publish: 1" not in load.output
