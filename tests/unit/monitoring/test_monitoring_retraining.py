"""From a batch to a filed request: when it is evaluated, filed once, delivered until Kafka has it."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from services.chassis.clock import from_proto, to_us
from services.chassis.errors import Unavailable
from services.contracts.router.v1 import router_pb2
from services.contracts.training.v1 import training_pb2
from services.monitoring.database import Database
from services.monitoring.drift_book import DriftBook
from services.monitoring.history import Told, keep_releases, keep_runs
from services.monitoring.joiner import Batch, Joiner, Prediction
from services.monitoring.quality_book import QualityBook
from services.monitoring.retraining import Retraining, bucket_us, read_triggers
from services.problem import load_recipe
from tests.support import PARCELS

T0 = datetime(2013, 5, 1, tzinfo=UTC)
_PARCELS = load_recipe(PARCELS)
_RULES = replace(_PARCELS.retrain, window=timedelta(hours=12), cool_down=timedelta(hours=24))
RECIPE = replace(_PARCELS, retrain=_RULES)
STEADY = {"edges": [0.0], "counts": [500, 500], "missing": 0}


class Loop:
    """Predictions whose one feature is always high; a model that was trained on both sides."""

    def __init__(self) -> None:
        self.database = Database("sqlite://")
        self.drift = DriftBook(self.database, bucket_us(RECIPE.retrain.window), RECIPE.retrain.psi_threshold)
        self.quality = QualityBook(self.database)
        self.joiner = Joiner(RECIPE.label.horizon, ["labels"], timedelta(days=1))
        self.sent: list[training_pb2.RetrainRequest] = []
        self.restart()
        self.drift.keep("1", json.dumps(["load"]), json.dumps({"features": {"load": STEADY}}))

    def restart(self) -> None:
        self.retraining = Retraining(
            database=self.database, recipe=RECIPE, drift=self.drift, quality=self.quality, champion=lambda: "1"
        )

    def until(self, hours: int, ask: bool = True) -> None:
        """The watermark moves on from hour to hour; twenty predictions in each."""
        for hour in range(hours - 12, hours):
            high = np.ones(1, "<f4").tobytes()
            told = [
                Prediction(f"{hour}-{n}", f"{hour}-{n}", "1", "champion", "", at(hour), 0.5, high)
                for n in range(20 * ask)
            ]
            with self.database.write() as connection:
                self.quality.note(self.joiner.apply(connection, Batch(predictions=told)))
            self.retraining.step(at(hour + 1))

    def triggers(self) -> list[datetime]:
        with self.database.read() as connection:
            return [trigger.event_time for trigger in reversed(read_triggers(connection))]

    def send(self, _key: bytes, value: bytes) -> None:
        self.sent.append(training_pb2.RetrainRequest.FromString(value))


def at(hours: float) -> int:
    return to_us(T0 + timedelta(hours=hours))


@pytest.fixture
def loop() -> Loop:
    loop = Loop()
    loop.retraining.step(at(0))
    return loop


def test_a_drift_is_filed_when_event_time_passes_the_window(loop: Loop) -> None:
    loop.until(12)

    assert loop.triggers() == [T0 + timedelta(hours=12)]


def test_it_is_filed_again_only_after_the_cool_down(loop: Loop) -> None:
    for hours in (12, 24, 36, 48):
        loop.until(hours)

    assert loop.triggers() == [T0 + timedelta(hours=12), T0 + timedelta(hours=36)]


def test_a_restart_files_nothing_twice(loop: Loop) -> None:
    loop.until(12)
    loop.restart()

    loop.retraining.step(at(12))

    assert len(loop.triggers()) == 1


def test_buckets_passed_in_one_leap_are_looked_at_one_by_one(loop: Loop) -> None:
    loop.until(12, ask=False)
    loop.until(24)
    leaping = Loop()
    leaping.retraining.step(at(0))
    with leaping.database.write() as connection:
        high = np.ones(1, "<f4").tobytes()
        told = [Prediction(f"{n}", f"{n}", "1", "champion", "", at(13), 0.5, high) for n in range(240)]
        leaping.joiner.apply(connection, Batch(predictions=told))

    leaping.retraining.step(at(100))

    assert leaping.triggers() == loop.triggers() == [T0 + timedelta(hours=24)]


@pytest.mark.parametrize("what", ["run", "release"])
def test_nothing_is_filed_while_a_run_or_a_release_is_in_progress(loop: Loop, what: str) -> None:
    with loop.database.write() as connection:
        if what == "run":
            keep_runs(connection, [Told("run-1", training_pb2.RUN_STATE_RUNNING, b"")], at(0))
        else:
            keep_releases(connection, [Told("release-1", router_pb2.PHASE_PAUSED, b"")], at(0))

    loop.until(12)

    assert loop.triggers() == []
    assert loop.retraining.verdict is not None
    assert f"{what}-1 is in progress" in loop.retraining.verdict.held_by


def test_the_cool_down_counts_from_the_end_of_the_last_run_too(loop: Loop) -> None:
    with loop.database.write() as connection:
        keep_runs(connection, [Told("run-1", training_pb2.RUN_STATE_RUNNING, b"")], at(0))
        keep_runs(connection, [Told("run-1", training_pb2.RUN_STATE_REFUSED, b"")], at(1))

    for hours in (12, 24, 36):
        loop.until(hours)

    assert loop.triggers() == [T0 + timedelta(hours=36)]


def test_a_request_is_delivered_until_it_was_taken_and_then_no_more(loop: Loop) -> None:
    loop.until(12)

    def refuse(_key: bytes, _value: bytes) -> None:
        raise Unavailable("Kafka is down")

    with pytest.raises(Unavailable):
        loop.retraining.deliver(refuse)
    loop.retraining.deliver(loop.send)
    loop.retraining.deliver(loop.send)

    [request] = loop.sent
    assert request.request_id == "parcel-delay-drift-20130501T1200"
    assert from_proto(request.to) == T0
    assert from_proto(getattr(request, "from")) == T0 - timedelta(days=10)
    assert "PSI of load" in request.reason
