"""The replay against a real broker and ingestion."""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from loadtests.flights import flights
from loadtests.replay import Plan, Progress, Replay, Totals
from loadtests.replay.mess import HOLD, Mess, Sending
from loadtests.replay.sequence import sequence
from loadtests.upstream import Upstream
from services.chassis.clock import parse_rfc3339
from services.chassis.errors import Invalid
from services.chassis.settings import KafkaSettings
from services.contracts.events.v1.events_pb2 import EventRecord
from services.problem import load_event_types
from services.topics import UPSTREAM, dead_letters, events_topic
from tests.integration.loadtests.conftest import RunPlatform
from tests.integration.loadtests.platform import CountingPlatform, records_of, wait_for_records
from tests.problems.parcels.upstream import START, two_days
from tests.support import FLIGHTS, PARCELS
from tests.support.parts import empty_kafka
from tests.support.process import Running, start_process

MakePlan = Callable[..., Plan]
DAY = datetime(2013, 3, 8, 5, tzinfo=UTC)


@pytest.fixture
def plan(kafka: KafkaSettings, tmp_path: Path) -> MakePlan:
    """A plan for two days of parcels; `name` tells replays apart."""

    def make(running: CountingPlatform, name: str = "one", **changes: Any) -> Plan:
        told: dict[str, Any] = {
            "source": two_days(),
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
        assert answers(of_parcels).keys() == ordered == running.routing_keys
        assert {request_id.partition("/")[0] for request_id in running.asked} == ordered
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


def test_a_replay_killed_again_and_again_sends_all_of_it_once_and_counts_right(
    platform: RunPlatform, plan: MakePlan, kafka: KafkaSettings
):
    with platform(PARCELS) as running:
        killed = plan(running, mess_share=0.2, mess_seed=3)
        for records in (150, 900, 901, 2000):
            replaying = _command(killed, running, "--speed", "30000")
            wait_for_records(kafka, records)
            assert replaying.process.poll() is None, replaying.output
            replaying.kill()
        last = _command(killed, running)
        assert last.process.wait(60) == 0, last.output

        with Replay(killed) as again:
            totals = again.totals
        sent = [record.value for record in records_of(kafka, UPSTREAM)]
        assert sent == [sending.event.value for sending in _all_of(killed)]
        assert totals.records == len(sent)
        assert totals.kinds == Counter(sending.kind for sending in _all_of(killed))
        ordered = {event.event_id.split("/")[0] for event in _events(killed) if event.type == "parcel.ordered"}
        assert totals.asked == totals.answered.total() == len(ordered)
        assert answers(killed).keys() == ordered


def test_interrupted_it_keeps_its_position_and_goes_on(platform: RunPlatform, plan: MakePlan, kafka: KafkaSettings):
    with platform(PARCELS) as running:
        interrupted = plan(running)
        replaying = _command(interrupted, running, "--speed", "30000")
        wait_for_records(kafka, 300)
        replaying.process.send_signal(signal.SIGINT)
        assert replaying.process.wait(30) == 130, replaying.output
        with Replay(interrupted) as replay:
            assert replay.totals.records == len(records_of(kafka, UPSTREAM))
            totals = replay.run(interrupted.source.ends)

    assert totals.sent.total() == len(_events(interrupted))
    assert totals.answered.total() == len(answers(interrupted)) == len(_moments(interrupted))


def test_the_books_of_a_messy_replay_add_up(platform: RunPlatform, plan: MakePlan, kafka: KafkaSettings):
    with platform(PARCELS) as running:
        messy = plan(running, mess_share=0.5, mess_seed=1)
        totals = play(messy, messy.source.ends + HOLD)

    assert totals.sent.total() == len(_events(messy))
    dead = Counter(
        dict(record.headers)["slipway-reason"].decode() for record in records_of(kafka, dead_letters(UPSTREAM))
    )
    assert dead == totals.dead_letters
    assert set(dead) == {"malformed", "envelope", "unknown_type", "schema", "expectation"}
    for name in load_event_types(PARCELS):
        assert len(_accepted(kafka, name)) == totals.sent[name]
    assert all(totals.mess[kind] > 0 for kind in ("late", "out_of_order", "duplicate"))


def test_predictions_begin_with_the_run_that_wants_them(platform: RunPlatform, plan: MakePlan):
    with platform(PARCELS) as running:
        of_parcels = plan(running)
        noon, evening = START + timedelta(hours=12), START + timedelta(hours=18)
        with Replay(of_parcels) as replay:
            replay.run(noon, predict=False)
            assert not running.asked
            assert replay.totals.skipped > 200
            replay.run(evening)
        with Replay(of_parcels) as replay:
            replay.run(evening + timedelta(hours=1))

    asked_for = [parse_rfc3339(line["as_of"]) for line in answers(of_parcels).values()]
    assert min(asked_for) >= noon
    assert min(asked_for) < noon + timedelta(minutes=20)
    assert max(asked_for) < evening + timedelta(hours=1)
    assert len(asked_for) == sum(noon <= at < evening + timedelta(hours=1) for at in _moments(of_parcels))


def test_it_pauses_between_records_and_tells_why(platform: RunPlatform, plan: MakePlan):
    told: list[Progress] = []
    paused_at: list[int] = []

    def pause() -> bool:
        if not paused_at and told and told[-1].totals.records > 100:
            paused_at.append(told[-1].totals.records)
        return len(paused_at) == 1 and not any(progress.waiting_for == "pause" for progress in told)

    with platform(PARCELS) as running:
        of_parcels = plan(running, speed=50_000.0)
        totals = play(of_parcels, of_parcels.source.ends, pause=pause, tell=told.append)

    assert "pause" in {progress.waiting_for for progress in told}
    assert totals.answered.total() == len(_moments(of_parcels))
    assert [progress.reached for progress in told] == sorted(progress.reached for progress in told)
    assert told[-1].reached == of_parcels.source.ends


def test_an_outage_of_inference_delays_the_answers_and_changes_none(platform: RunPlatform, plan: MakePlan):
    with platform(PARCELS) as running:
        running.outage.set()
        of_parcels = plan(running)
        waiting: list[Progress] = []

        def tell(progress: Progress) -> None:
            waiting.append(progress)
            if progress.waiting_for == "predictions" and progress.totals.retried == 0 and len(waiting) > 3:
                running.outage.clear()

        totals = play(of_parcels, of_parcels.source.ends, tell=tell)

    assert totals.failed == {}
    assert totals.retried > 0
    assert totals.answered.total() == len(_moments(of_parcels))
    oldest = min(_moments(of_parcels))
    held = next(progress for progress in waiting if progress.waiting_for == "predictions")
    assert held.reached <= oldest + of_parcels.room


def test_an_outage_longer_than_its_patience_is_counted_by_status(platform: RunPlatform, plan: MakePlan):
    with platform(PARCELS) as running:
        running.outage.set()
        totals = play(plan(running, patience_s=0.2), START + timedelta(hours=4))

    assert totals.answered == {}
    assert totals.failed.keys() == {"UNAVAILABLE"}
    assert totals.failed.total() > 0


def test_the_position_of_another_replay_is_refused(platform: RunPlatform, plan: MakePlan):
    with platform(PARCELS) as running:
        play(plan(running), START + timedelta(hours=1))

        with pytest.raises(Invalid, match="another replay"):
            play(plan(running, mess_share=0.1), START + timedelta(hours=2))


def _command(of: Plan, running: CountingPlatform, *options: str) -> Running:
    """The command as a process."""
    command = [
        *(sys.executable, "-m", "loadtests.replay", "--source", "tests.problems.parcels.upstream:two_days"),
        *("--kafka", of.kafka.bootstrap_servers, "--features", running.address, "--inference", running.address),
        *("--state", str(of.state), "--answers", str(of.answers)),
        *("--mess", str(of.mess_share), "--mess-seed", str(of.mess_seed), *options),
    ]
    return start_process(command, env={"SLIPWAY_FEATURE_REPO": str(PARCELS)}, ops_port=0)


def _accepted(kafka: KafkaSettings, event_type: str) -> set[str]:
    """Ids of what ingestion published."""
    records = records_of(kafka, events_topic(event_type).name)
    messages = [EventRecord.FromString(record.value or b"") for record in records]
    return {message.event.event_id for message in messages if message.HasField("event")}


def _events(of: Plan) -> list[Upstream]:
    return list(of.source.after(of.source.begins))


def _moments(of: Plan) -> list[datetime]:
    """When a prediction is asked for: ten minutes before each pickup."""
    data = [json.loads(event.value)["data"] for event in _events(of) if event.type == "parcel.ordered"]
    return [parse_rfc3339(each["pickup_at"]) - timedelta(minutes=10) for each in data]


def _all_of(of: Plan) -> list[Sending]:
    """Every record of a replay until the end of its source."""
    begins = of.source.begins
    mess = Mess(load_event_types(PARCELS), of.mess_share, of.mess_seed)
    whole = sequence(of.source, mess, begins=begins, after=begins)
    return list(takewhile(lambda sending: sending.due <= of.source.ends + HOLD, whole))
