"""The load generators as processes, against a real ingestion and an inference by rule."""

from __future__ import annotations

import sys

from loadtests.ceilings.h2load import Shape, send
from loadtests.ceilings.requests import grpc_call
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


def test_locust_walks_both_journeys_and_passes(platform: RunPlatform):
    with platform(PARCELS) as running:
        load = _locust(running)
        code = load.process.wait(60)

    assert code == 0, load.output
    assert "target missed" not in load.output
    assert running.asked.total() == len(running.asked) > 20
    assert all(request_id.startswith("load/") for request_id in running.asked)


def test_locust_fails_when_a_target_is_missed(platform: RunPlatform):
    with platform(PARCELS) as running:
        running.outage.set()
        load = _locust(running)
        code = load.process.wait(60)

    assert code == 1, load.output
    assert "target missed: predict: 100.00% failed" in load.output
    assert "target missed: publish: 1" not in load.output
