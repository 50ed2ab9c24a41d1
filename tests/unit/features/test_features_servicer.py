"""The edge: deadlines, training sets one at a time, callers that leave, a process that stops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import grpc
import pytest

from services.chassis.clock import to_proto, utc_now
from services.chassis.errors import Overloaded, Unavailable
from services.contracts.features.v1 import features_pb2
from services.features.builds import Builds
from services.features.lake import Tell
from services.features.metrics import StatusCounts
from services.features.servicer import FeaturesServicer
from services.features.training_sets import TrainingSet
from tests.support import eventually
from tests.unit.features.fakes import FakeServing, FakeStore

MOMENT = datetime(2024, 3, 1, tzinfo=UTC)
RANGE = (MOMENT, MOMENT, MOMENT)
BUILT = TrainingSet("file:///set", "digest", 3, 1, ("feature",))


class Refused(Exception):
    """What `abort` raises."""


@dataclass
class FakeContext:
    """Of a call with so much time left; None: no deadline."""

    left_s: float | None = None
    code: grpc.StatusCode | None = None
    details: str = ""

    def time_remaining(self) -> float | None:
        return self.left_s

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        self.code, self.details = code, details
        raise Refused


@dataclass
class SlowBuild:
    """Tells a stage whenever it is let, until it is told to end or tell raises."""

    done: threading.Event = field(default_factory=threading.Event)
    begun: int = 0
    running: int = 0
    most_running: int = 0
    labels: list[bool] = field(default_factory=list)

    def __call__(self, from_: datetime, to: datetime, known_by: datetime, tell: Tell, *, labels: bool) -> TrainingSet:
        self.begun += 1
        self.labels.append(labels)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            while not self.done.wait(0.01):
                tell("a stage")
            return BUILT
        finally:
            self.running -= 1


def _servicer(builds: Builds) -> FeaturesServicer:
    return FeaturesServicer({}, FakeServing(FakeStore()), builds, StatusCounts(), utc_now, max_rows=10, max_calls=2)


def _request(**moments: datetime) -> features_pb2.BuildTrainingSetRequest:
    given = {"from": MOMENT, "to": MOMENT} | moments
    return features_pb2.BuildTrainingSetRequest(**{name: to_proto(moment) for name, moment in given.items()})


async def _until(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(eventually, condition, "it happens")


@pytest.mark.parametrize(("left_s", "code"), [(0.0, "DEADLINE_EXCEEDED"), (5.0, "NOT_FOUND"), (None, "NOT_FOUND")])
def test_a_call_whose_deadline_has_passed_is_not_begun(left_s, code):
    context = FakeContext(left_s)

    async def call() -> None:
        with pytest.raises(Refused):
            await _servicer(Builds(SlowBuild())).GetVectors(
                features_pb2.GetVectorsRequest(feature_service="nothing"), context
            )

    asyncio.run(call())
    assert context.code is grpc.StatusCode[code]


def test_stages_and_then_the_training_set_are_told():
    build = SlowBuild()

    async def call() -> list[features_pb2.BuildTrainingSetResponse]:
        answers = []
        async for answer in _servicer(Builds(build)).BuildTrainingSet(_request(), FakeContext()):
            answers.append(answer)
            build.done.set()
        return answers

    first, *_, last = asyncio.run(call())
    assert first.stage == "a stage"
    assert (last.training_set.uri, last.training_set.rows) == (BUILT.uri, BUILT.rows)


@pytest.mark.parametrize("without", [False, True])
def test_rows_are_asked_for_with_their_labels_or_without(without):
    build = SlowBuild()
    build.done.set()

    async def call() -> None:
        request = _request()
        request.without_labels = without
        async for _ in _servicer(Builds(build)).BuildTrainingSet(request, FakeContext()):
            pass

    asyncio.run(call())
    assert build.labels == [not without]


@pytest.mark.parametrize("name", ["from", "to", "known_by"])
def test_a_moment_that_is_no_instant_is_named(name):
    request, context = _request(known_by=MOMENT), FakeContext()
    getattr(request, name).seconds = 10**15

    async def call() -> None:
        async for _ in _servicer(Builds(SlowBuild())).BuildTrainingSet(request, context):
            pass

    with pytest.raises(Refused):
        asyncio.run(call())
    assert context.code is grpc.StatusCode.INVALID_ARGUMENT
    assert context.details.startswith(f"{name}: no instant")


def test_a_build_ends_when_its_caller_leaves_and_only_then_the_next_begins():
    build = SlowBuild()

    async def leave() -> None:
        servicer = _servicer(Builds(build))

        async def call() -> None:
            async for _ in servicer.BuildTrainingSet(_request(), FakeContext()):
                pass

        first, second = asyncio.create_task(call()), asyncio.create_task(call())
        await _until(lambda: build.running == 1)
        first.cancel()
        await _until(lambda: build.begun == 2)
        build.done.set()
        with suppress(asyncio.CancelledError):
            await first
        await second

    asyncio.run(leave())
    assert build.most_running == 1


def test_a_process_that_stops_waits_for_no_build():
    build = SlowBuild()

    async def stop() -> None:
        builds = Builds(build)
        running = asyncio.create_task(builds.run(*RANGE, str))
        await _until(lambda: build.running == 1)
        builds.stop()
        with pytest.raises(Unavailable, match="the server stops"):
            await running

    # It joins the thread.
    asyncio.run(stop())
    assert build.running == 0


def test_few_callers_wait_and_more_are_refused():
    build = SlowBuild()

    async def many() -> None:
        builds, told = Builds(build), []
        running = asyncio.create_task(builds.run(*RANGE, str))
        await _until(lambda: build.running == 1)
        waiting = [asyncio.create_task(builds.run(*RANGE, told.append)) for _ in range(4)]
        await _until(lambda: len(told) == 4)
        with pytest.raises(Overloaded, match="4 calls wait"):
            await builds.run(*RANGE, str)

        waiting[0].cancel()
        await asyncio.gather(waiting[0], return_exceptions=True)
        waiting[0] = asyncio.create_task(builds.run(*RANGE, told.append))
        build.done.set()
        assert await asyncio.gather(running, *waiting) == [BUILT] * 5
        assert told[0] == "waiting for another training set to be built"

    asyncio.run(many())
    assert (build.begun, build.most_running) == (5, 1)
