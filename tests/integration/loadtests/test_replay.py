"""The replay against a real broker and ingestion."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from loadtests.flights import flights
from loadtests.replay import Plan, Replay, Totals
from loadtests.upstream import Listed
from services.chassis.settings import KafkaSettings
from services.topics import UPSTREAM
from tests.integration.loadtests.conftest import RunPlatform
from tests.integration.loadtests.platform import CountingPlatform, records_of
from tests.problems.parcels.upstream import START, parcels
from tests.support import FLIGHTS, PARCELS
from tests.support.parts import empty_kafka

MakePlan = Callable[..., Plan]
DAY = datetime(2013, 3, 8, 5, tzinfo=UTC)


@pytest.fixture
def plan(kafka: KafkaSettings, tmp_path: Path) -> MakePlan:
    """A plan for two days of parcels; `name` tells replays apart."""

    def make(running: CountingPlatform, name: str = "one", **changes: Any) -> Plan:
        told: dict[str, Any] = {
            "source": Listed(parcels(until=START + timedelta(days=2))),
            "feature_repo": PARCELS,
            "state": tmp_path / name / "position.json",
            "answers": tmp_path / name / "answers.jsonl",
            "kafka": kafka,
            "features": running.address,
            "inference": running.address,
        }
        return Plan(**(told | changes))

    return make


def answers(plan: Plan) -> dict[str, dict[str, Any]]:
    assert plan.answers is not None
    lines = [json.loads(line) for line in plan.answers.read_bytes().splitlines()]
    by_id = {line["entity_id"]: line for line in lines}
    assert len(by_id) == len(lines)
    return by_id


def play(plan: Plan, until: datetime, **options: Any) -> Totals:
    with Replay(plan) as replay:
        return replay.run(until, **options)


def test_each_event_is_sent_and_each_question_answered(platform: RunPlatform, plan: MakePlan, kafka: KafkaSettings):
    with platform(PARCELS) as running:
        of_parcels = plan(running)
        totals = play(of_parcels, of_parcels.source.ends)

        expected = list(of_parcels.source.after(of_parcels.source.begins))
        sent = [record.value for record in records_of(kafka, UPSTREAM)]
        events = [value for value in sent if b"slipway.heartbeat" not in (value or b"")]
        assert events == [event.value for event in expected]
        assert totals.sent.total() == len(expected)
        assert totals.records == len(sent)
        ordered = {json.loads(e.value)["data"]["parcel_id"] for e in expected if e.type == "parcel.ordered"}
        assert totals.answered == {"1/champion": len(ordered)}
        assert answers(of_parcels).keys() == ordered == running.asked.keys() == running.routing_keys
        assert totals.missing_features == 2 * len(ordered)
        assert 0 < totals.latencies.quantile_s(0.5) <= totals.latencies.quantile_s(0.99) < 10


def test_flat_out_and_paced_replays_of_a_day_of_flights_get_the_same_answers(
    platform: RunPlatform, plan: MakePlan, kafka: KafkaSettings
):
    def answers_at(speed: float | None) -> dict[str, dict[str, Any]]:
        empty_kafka(kafka)
        with platform(FLIGHTS) as running:
            of_flights = plan(
                running,
                f"at {speed}",
                source=flights(),
                feature_repo=FLIGHTS,
                begins=DAY,
                speed=speed,
                mess_share=0.1,
                mess_seed=5,
            )
            play(of_flights, DAY + timedelta(days=1))
            return answers(of_flights)

    flat_out = answers_at(None)

    assert len(flat_out) > 400
    assert len({answer["probability"] for answer in flat_out.values()}) > 100
    assert answers_at(5000.0) == flat_out
