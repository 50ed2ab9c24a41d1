"""Load with targets: `locust -f loadtests/locustfile.py --headless -u 20 -r 20 -t 60s`; the run fails if one is missed.

One user for each journey: a client that asks for predictions over gRPC through Envoy, an upstream system that publishes
events over HTTP. Addresses default to the local platform's.
"""

from __future__ import annotations

# gevent replaces the sockets before anything else uses them.
import grpc.experimental.gevent as grpc_gevent  # isort: skip

grpc_gevent.init_gevent()

import random  # noqa: E402
import time  # noqa: E402
from dataclasses import replace  # noqa: E402
from itertools import count  # noqa: E402
from typing import Any  # noqa: E402
from uuid import uuid4  # noqa: E402

import gevent  # type: ignore[import-untyped]  # noqa: E402
import grpc  # noqa: E402
from locust import FastHttpUser, User, constant_throughput, events, task  # noqa: E402

from deploy.local.home import local_feature_repo  # noqa: E402
from deploy.local.ports import address, local_ports  # noqa: E402
from loadtests.journeys import Target, documents, questions  # noqa: E402
from loadtests.replay.client import CHANNEL, INFER, METADATA, ROUTING_KEY, RequestForm  # noqa: E402
from loadtests.replay.command import FLIGHTS, load_source  # noqa: E402
from services.chassis.clock import from_proto  # noqa: E402
from services.contracts.features.v1 import features_pb2, features_pb2_grpc  # noqa: E402
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2  # noqa: E402
from services.problem import load_recipe  # noqa: E402

TARGETS = {"predict": Target(p95_ms=100, error_rate=0.001), "publish": Target(p95_ms=100, error_rate=0.001)}
PER_USER_AND_SECOND = 10
_SAMPLE = 500
_TIMEOUT_S = 10.0


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_arguments(parser: Any) -> None:
    """Where the platform is, and which problem's events are used."""
    ports = local_ports()
    parser.add_argument("--inference", default=address(ports.envoy), help="Envoy")
    parser.add_argument("--features", default=address(ports.features_grpc), help="FeaturesService")
    parser.add_argument("--ingestion", default=f"http://{address(ports.ingestion_http)}", help="ingestion's HTTP edge")
    parser.add_argument("--source", default=FLIGHTS, help="module:function that returns the source of events")
    parser.add_argument("--p95-ms", type=float, help="instead of the targets' own, for a slower machine")


@events.init.add_listener  # type: ignore[untyped-decorator]
def prepare(environment: Any, **_: Any) -> None:
    """Loads what the users ask and send, once. The questions speak for the features' present moment."""
    options, feature_repo = environment.parsed_options, local_feature_repo()
    source = load_source(options.source)
    PredictUser.requests = questions(source, feature_repo, _SAMPLE, _watermark(options.features))
    PredictUser.channel = grpc.insecure_channel(options.inference, options=CHANNEL)
    PredictUser.form = _form(PredictUser.channel, load_recipe(feature_repo).name)
    PublishUser.host = options.ingestion
    PublishUser.documents = documents(source, _SAMPLE)
    # gevent's clock stood still during all this and the imports; a run's time limit would begin that long ago.
    gevent.get_hub().loop.update_now()


class PredictUser(User):
    """Asks for one prediction at a time."""

    wait_time = constant_throughput(PER_USER_AND_SECOND)
    channel: grpc.Channel
    form: RequestForm
    requests: Any = ()
    _run, _numbers = uuid4().hex, count()

    @task
    def predict(self) -> None:
        question = random.choice(self.requests)
        request = self.form.fill(question, f"load/{self._run}/{next(self._numbers)}")
        infer: Any = self.channel.unary_unary(INFER)
        began, error, size = time.perf_counter(), None, 0
        try:
            size = len(infer(request, metadata=((ROUTING_KEY, question.entity_id),), timeout=_TIMEOUT_S))
        except grpc.RpcError as failed:
            error = failed
        self.environment.events.request.fire(
            request_type="gRPC",
            name="predict",
            response_time=(time.perf_counter() - began) * 1000,
            response_length=size,
            exception=error,
            context={},
        )


class PublishUser(FastHttpUser):
    """Publishes one event at a time."""

    wait_time = constant_throughput(PER_USER_AND_SECOND)
    documents: Any = ()

    @task
    def publish(self) -> None:
        headers = {"content-type": "application/cloudevents+json"}
        self.client.post("/v1/events", data=next(self.documents), headers=headers, name="publish")


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def judge(environment: Any, **_: Any) -> None:
    """Says what was missed, and makes it the exit code."""
    own_p95_ms = environment.parsed_options.p95_ms
    for name, target in TARGETS.items():
        wanted = target if own_p95_ms is None else replace(target, p95_ms=own_p95_ms)
        method = "gRPC" if name == "predict" else "POST"
        seen = environment.stats.get(name, method)
        p95_ms = seen.get_response_time_percentile(0.95) or float("nan")
        for missed in wanted.misses(requests=seen.num_requests, failures=seen.num_failures, p95_ms=p95_ms):
            print(f"target missed: {name}: {missed}")  # noqa: T201  the run's verdict, for its terminal
            environment.process_exit_code = 1


def _watermark(address_of_features: str) -> Any:
    stub = features_pb2_grpc.FeaturesServiceStub(grpc.insecure_channel(address_of_features, options=CHANNEL))  # type: ignore[no-untyped-call]
    answer = stub.GetWatermark(features_pb2.GetWatermarkRequest(), timeout=_TIMEOUT_S)
    return from_proto(answer.watermark) if answer.HasField("watermark") else None


def _form(channel: grpc.Channel, model: str) -> RequestForm:
    call = channel.unary_unary(METADATA, v2.ModelMetadataRequest.SerializeToString, v2.ModelMetadataResponse.FromString)
    return RequestForm(call(v2.ModelMetadataRequest(name=model), timeout=_TIMEOUT_S))
