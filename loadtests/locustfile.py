"""Load with targets: `locust -f loadtests/locustfile.py` and its web page, or `--headless -u 20 -r 20 -t 60s`.

One class of users for each journey; name some of them to run only those (`… EntityUser RestUser`). The targets stand in
the classes, and the exit code is 1 if one is missed. Addresses default to the local platform's.
"""

from __future__ import annotations

# gevent replaces the sockets before anything else uses them.
import grpc.experimental.gevent as grpc_gevent  # isort: skip

grpc_gevent.init_gevent()

import random  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator, Mapping, Sequence  # noqa: E402
from dataclasses import replace  # noqa: E402
from itertools import count  # noqa: E402
from typing import Any, ClassVar  # noqa: E402
from uuid import uuid4  # noqa: E402

import gevent  # type: ignore[import-untyped]  # noqa: E402
import grpc  # noqa: E402
import numpy as np  # noqa: E402
from locust import FastHttpUser, User, constant_throughput, events, task  # noqa: E402

from deploy.local.ports import address, local_ports  # noqa: E402
from loadtests.asked import Asked  # noqa: E402
from loadtests.ceilings.requests import binary_call, read_binary, read_grpc, read_v2_json, v2_json_call  # noqa: E402
from loadtests.journeys import Target, documents, in_one_call, with_id  # noqa: E402
from loadtests.replay.client import INFER, ROUTING_KEY  # noqa: E402
from loadtests.replay.command import FLIGHTS  # noqa: E402

PER_USER_AND_SECOND = 10
_SIZES, _CHANCES = (1, 10, 100), (80, 15, 5)
_TIMEOUT_S = 10.0
_RUN, _NUMBERS = uuid4().hex, count()


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_arguments(parser: Any) -> None:
    """Where the platform is, and which problem's events are used."""
    ports = local_ports()
    parser.add_argument("--inference", default=address(ports.envoy), help="Envoy")
    parser.add_argument("--rest", default=f"http://{address(ports.inference_champion_http)}", help="inference's REST")
    parser.add_argument("--features", default=address(ports.features_grpc), help="FeaturesService")
    parser.add_argument("--ingestion", default=f"http://{address(ports.ingestion_http)}", help="ingestion's HTTP edge")
    parser.add_argument("--source", default=FLIGHTS, help="module:function that returns the source of events")
    parser.add_argument("--p95-ms", type=float, help="instead of the targets' own, for a slower machine")


@events.init.add_listener  # type: ignore[untyped-decorator]
def prepare(environment: Any, **_: Any) -> None:
    """Loads what the users ask and send, once."""
    options = environment.parsed_options
    asked = Asked(options.inference, options.features, options.source)
    RestUser.host, PublishUser.host = options.rest, options.ingestion
    for user in environment.user_classes:
        user.prepare(asked)
    # gevent's clock stood still during all this and the imports; a run's time limit would begin that long ago.
    gevent.get_hub().loop.update_now()


class GrpcUser(User):
    """Asks over gRPC through Envoy, one call at a time, and reads what comes back."""

    abstract = True
    wait_time = constant_throughput(PER_USER_AND_SECOND)
    channel: grpc.Channel

    @classmethod
    def prepare(cls, asked: Asked) -> None:
        """Loads what it asks."""
        cls.channel = asked.inference

    def ask(self, name: str, request: bytes, rows: int, key: str) -> None:
        """One call; it fails also if it is not answered with a probability for each row."""
        infer: Any = self.channel.unary_unary(INFER)
        began, error, size = time.perf_counter(), None, 0
        try:
            reply = infer(request, metadata=((ROUTING_KEY, key),), timeout=_TIMEOUT_S)
            size = len(reply)
            _check(read_grpc(reply), rows)
        except (grpc.RpcError, ValueError) as failed:
            error = failed
        self.environment.events.request.fire(
            request_type="gRPC",
            name=name,
            response_time=(time.perf_counter() - began) * 1000,
            response_length=size,
            exception=error,
            context={},
        )


class EntityUser(GrpcUser):
    """Keys in: the features are fetched."""

    targets: ClassVar = {("gRPC", "entity"): Target(p95_ms=100, error_rate=0.001)}
    questions: ClassVar[Sequence[tuple[str, bytes]]] = ()

    @classmethod
    def prepare(cls, asked: Asked) -> None:
        super().prepare(asked)
        cls.questions = asked.entity_requests

    @task
    def entity(self) -> None:
        key, request = random.choice(self.questions)
        self.ask("entity", with_id(request, _next_id()), 1, key)


class VectorUser(GrpcUser):
    """A whole vector in: nothing is fetched."""

    targets: ClassVar = {("gRPC", "vector"): Target(p95_ms=50, error_rate=0.001)}
    vectors: ClassVar[Sequence[tuple[str, bytes]]] = ()

    @classmethod
    def prepare(cls, asked: Asked) -> None:
        super().prepare(asked)
        cls.vectors = asked.vector_requests

    @task
    def vector(self) -> None:
        key, request = random.choice(self.vectors)
        self.ask("vector", with_id(request, _next_id()), 1, key)


class MixedUser(GrpcUser):
    """Keys of 1, 10 or 100 entities in one call."""

    targets: ClassVar = {
        ("gRPC", "mixed 1"): Target(p95_ms=100, error_rate=0.001),
        ("gRPC", "mixed 10"): Target(p95_ms=150, error_rate=0.001),
        ("gRPC", "mixed 100"): Target(p95_ms=300, error_rate=0.001),
    }
    questions: ClassVar[Sequence[tuple[str, bytes]]] = ()

    @classmethod
    def prepare(cls, asked: Asked) -> None:
        super().prepare(asked)
        cls.questions = asked.entity_requests

    @task
    def mixed(self) -> None:
        (rows,) = random.choices(_SIZES, _CHANCES)
        several = random.choices(self.questions, k=rows)
        request = in_one_call([request for _, request in several], _next_id())
        self.ask(f"mixed {rows}", request, rows, several[0][0])


class RestUser(FastHttpUser):
    """A whole vector over REST V2, as JSON and as binary data."""

    targets: ClassVar = {
        ("POST", "rest json"): Target(p95_ms=100, error_rate=0.001),
        ("POST", "rest binary"): Target(p95_ms=100, error_rate=0.001),
    }
    wait_time = constant_throughput(PER_USER_AND_SECOND)
    asked: Asked

    @classmethod
    def prepare(cls, asked: Asked) -> None:
        """Loads what it asks."""
        cls.asked = asked

    @task
    def as_json(self) -> None:
        call = v2_json_call("", self.asked.model, self._vector(), _next_id())
        self._post("rest json", call.body, call.headers, read_v2_json)

    @task
    def as_binary(self) -> None:
        call = binary_call("", self.asked.model, self._vector(), _next_id())
        self._post("rest binary", call.body, call.headers, read_binary)

    def _vector(self) -> Any:
        row = random.randrange(len(self.asked.vectors))
        return self.asked.vectors[row : row + 1]

    def _post(self, name: str, body: Any, headers: Mapping[str, str], read: Any) -> None:
        path = f"/v2/models/{self.asked.model}/infer"
        with self.client.post(path, data=body, headers=dict(headers), name=name, catch_response=True) as answer:
            try:
                answer.raise_for_status()
                _check(read(answer.content), 1)
            except Exception as error:  # whatever is wrong with the answer, it failed
                answer.failure(f"{type(error).__name__}: {error}")


class PublishUser(FastHttpUser):
    """Publishes one event at a time."""

    targets: ClassVar = {("POST", "publish"): Target(p95_ms=100, error_rate=0.001)}
    wait_time = constant_throughput(PER_USER_AND_SECOND)
    documents: Iterator[Any]

    @classmethod
    def prepare(cls, asked: Asked) -> None:
        """Loads what it sends."""
        cls.documents = documents(asked.source, asked.sample)

    @task
    def publish(self) -> None:
        headers = {"content-type": "application/cloudevents+json"}
        self.client.post("/v1/events", data=next(self.documents), headers=headers, name="publish")


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def judge(environment: Any, **_: Any) -> None:
    """Says what was missed, and makes it the exit code."""
    own_p95_ms = environment.parsed_options.p95_ms
    for user in environment.user_classes:
        for (method, name), target in user.targets.items():
            wanted = target if own_p95_ms is None else replace(target, p95_ms=own_p95_ms)
            seen = environment.stats.get(name, method)
            p95_ms = seen.get_response_time_percentile(0.95) or float("nan")
            for missed in wanted.misses(requests=seen.num_requests, failures=seen.num_failures, p95_ms=p95_ms):
                print(f"target missed: {name}: {missed}")  # noqa: T201  the run's verdict, for its terminal
                environment.process_exit_code = 1


def _check(found: Any, rows: int) -> None:
    """Raises ValueError unless there is a number for each row."""
    if len(found) != rows or not np.isfinite(found).all():
        raise ValueError(f"expected {rows} probabilities, got {len(found)}: {found[:3]}")


def _next_id() -> str:
    return f"load/{_RUN}/{next(_NUMBERS)}"
