"""The replay's parts: pace, books, position, questions, requests, and where a resume finds its place."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import pytest

from loadtests.replay.answers import AnswerFile
from loadtests.replay.asking import Asking
from loadtests.replay.client import Answer, Failed, RequestForm
from loadtests.replay.command import load_source, read_moment
from loadtests.replay.latency import Latencies
from loadtests.replay.mess import Kind, Mess, Sending
from loadtests.replay.pace import Pace
from loadtests.replay.position import Cursor, Position, PositionFile
from loadtests.replay.questions import Asker, Open, OpenQuestions, Question
from loadtests.replay.sender import Sender
from loadtests.replay.sequence import sequence
from loadtests.replay.totals import Totals
from loadtests.upstream import GRID, on_grid
from services.chassis.clock import to_us
from services.chassis.errors import Invalid
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.inference.call import CallReader
from services.inference.contract import ColumnContract, ModelContract
from services.problem import load_event_types, load_recipe
from tests.problems.parcels.upstream import START, two_days
from tests.support import PARCELS

MINUTE = timedelta(minutes=1)
SOURCE = two_days()


def question(number: int, minutes: int) -> Question:
    as_of = START + minutes * MINUTE
    return Question(as_of, f"parcel-{number}", as_of - 60 * MINUTE, None)  # type: ignore[arg-type]


def asker() -> Asker:
    return Asker(load_recipe(PARCELS), load_event_types(PARCELS))


def mess(share: float = 0.3) -> Mess:
    return Mess(load_event_types(PARCELS), share, 4)


def all_sendings(until: datetime, share: float = 0.3) -> list[Sending]:
    whole = sequence(SOURCE, mess(share), begins=SOURCE.begins, after=SOURCE.begins)
    return list(takewhile(lambda sending: sending.due <= until, whole))


def test_the_grid_has_a_moment_each_five_minutes_of_the_hour():
    assert on_grid(START + 3 * MINUTE) == START + 5 * MINUTE
    assert on_grid(START + 5 * MINUTE) == START + 5 * MINUTE


def test_pace_is_speed_times_the_clock_without_the_pauses():
    clock = [100.0]
    pace = Pace(60.0, START, monotonic=lambda: clock[0])
    clock[0] += 10
    assert pace.now() == START + 10 * MINUTE
    clock[0] += 10
    pace.hold()
    clock[0] += 1
    assert pace.now() == START + 11 * MINUTE
    assert Pace(None, START).now() > datetime(9000, 1, 1, tzinfo=UTC)


def test_quantiles_are_right_to_two_percent_in_fixed_memory():
    latencies = Latencies()
    for milliseconds in range(1, 10_001):
        latencies.observe(milliseconds / 1000)
    assert latencies.quantile_s(0.5) == pytest.approx(5.0, rel=0.021)
    assert latencies.quantile_s(0.99) == pytest.approx(9.9, rel=0.021)
    assert latencies.quantile_s(1) >= 10.0
    assert len(latencies.buckets) < 500
    assert math.isnan(Latencies().quantile_s(0.5))
    latencies.observe(0.0)


def test_totals_and_position_survive_the_file(tmp_path: Path):
    totals = Totals(skipped=3, retried=1, missing_features=7)
    for sending in all_sendings(START + 120 * MINUTE):
        totals.count_sent(sending)
    totals.answered["2/champion"] += 5
    totals.failed["OUT_OF_RANGE"] += 1
    totals.sent_again["event"] += 1
    totals.latencies.observe(0.02)
    known = Open(START, START + MINUTE, frozenset({"parcel-1", "parcel-2"}))
    position = Position(Cursor(START, 17), 1234, totals, known, 99)
    file = PositionFile(tmp_path / "deep" / "position.json", {"seed": 1})

    assert file.read() is None
    file.write(position)

    assert file.read() == position
    with pytest.raises(Invalid, match="another replay"):
        PositionFile(tmp_path / "deep" / "position.json", {"seed": 2}).read()


def test_totals_tell_what_must_become_of_the_records():
    totals = Totals()
    sendings = all_sendings(START + timedelta(hours=10))
    for sending in sendings:
        totals.count_sent(sending)

    assert totals.records == len(sendings)
    dead = [sending for sending in sendings if sending.event_id.endswith(tuple(totals.dead_letters))]
    assert sum(totals.dead_letters.values()) == len(dead) > 0
    assert totals.duplicates == sum(sending.kind is Kind.DUPLICATE for sending in sendings) > 0
    assert totals.sent.total() + len(dead) + totals.duplicates + totals.kinds["heartbeat"] == totals.records


def test_a_question_is_due_only_after_its_moment():
    questions = OpenQuestions()
    questions.add(question(1, 10))
    questions.add(question(2, 5))
    assert questions.take_due(START + 5 * MINUTE) == []
    assert [each.entity_id for each in questions.take_due(START + 11 * MINUTE)] == ["parcel-2", "parcel-1"]
    assert questions.take_due(START + 60 * MINUTE) == []


def test_the_oldest_open_question_is_known_whatever_order_they_settle_in():
    questions = OpenQuestions()
    one, two, three = (question(number, 10 * number) for number in (1, 2, 3))
    for each in (two, three, one):
        questions.add(each)
    questions.take_due(START + 25 * MINUTE)
    questions.settle(two)
    assert questions.oldest == one.as_of
    known = questions.snapshot()
    assert known == Open(one.due, one.as_of, frozenset({two.id}))
    assert [known.covers(each) for each in (one, two, three)] == [True, False, True]
    questions.settle(one)
    assert questions.oldest == three.as_of
    assert questions.skip_before(START + 60 * MINUTE) == 1
    assert questions.oldest is None
    assert questions.snapshot() is None


def test_only_the_first_sending_of_the_spines_event_raises_a_question():
    sendings = all_sendings(START + timedelta(hours=6))
    asked = [each for sending in sendings if (each := asker().question(sending)) is not None]

    ordered = [sending for sending in sendings if sending.event.type == "parcel.ordered"]
    assert {sending.kind for sending in ordered} == set(Kind) - {Kind.HEARTBEAT}
    assert len(asked) == len({each.entity_id for each in asked}) < len(ordered)
    first = asked[0]
    assert first.as_of == datetime.fromisoformat(getattr(first.payload, "pickup_at")) - 10 * MINUTE  # noqa: B009


def test_a_request_reads_as_the_question_in_inference():
    columns = {"shop": "BYTES", "courier": "BYTES", "pickup_at": "BYTES", "weight_kg": "FP64"}
    contracts = [ColumnContract(name=name, datatype=kind) for name, kind in columns.items()]  # type: ignore[arg-type]
    contract = ModelContract(
        model="m",
        feature_service="f",
        entity_id="parcel_id",
        join_keys=tuple(contracts[:2]),
        request_fields=tuple(contracts[2:]),
        features=("x",),
    )
    metadata = v2.ModelMetadataResponse(name="m")
    for column in contract.inputs:
        metadata.inputs.add(name=column.name, datatype=column.datatype, shape=[-1])
    asked = [each for sending in all_sendings(START + 600 * MINUTE, 0) if (each := asker().question(sending))]
    form = RequestForm(metadata)

    couriers = set()
    for each in asked:
        call = CallReader(contract, lambda: START, 1).read(v2.ModelInferRequest.FromString(form.fill(each)))
        payload: Any = each.payload
        assert call.entity_rows is not None
        assert call.entity_ids == (payload.parcel_id,)
        assert call.request_id == call.prediction_id == each.id
        assert call.as_of_us == to_us(each.as_of)
        values = [column[0] for column in call.entity_rows.columns]
        assert values == [payload.shop, payload.courier or "", payload.pickup_at, payload.weight_kg]
        couriers.add(payload.courier)
    assert None in couriers


class FakeTopic:
    """A topic in memory. `slow` are records of a killed replay that arrive only after the next look at the end."""

    def __init__(self, values: Iterable[bytes] = (), slow: Iterable[bytes] = ()) -> None:
        self.values = list(values)
        self._slow = list(slow)
        self._first: int | None = None

    def end(self) -> int:
        return len(self.values)

    def send(self, sendings: Iterable[Sending]) -> None:
        self.values += self._slow
        self._slow = []
        for sending in sendings:
            if self._first is None:
                self._first = len(self.values)
            self.values.append(sending.event.value)

    def flush(self) -> tuple[int, int] | None:
        first, self._first = self._first, None
        return None if first is None else (first, len(self.values))

    def already_there(self, offset: int, until: int, expected: Iterator[Sending]) -> Iterator[Sending]:
        wanted = next(expected, None)
        for value in self.values[offset:until]:
            if wanted is not None and value == wanted.event.value:
                yield wanted
                wanted = next(expected, None)


def sender(topic: FakeTopic, position: Position | None = None) -> Sender:
    position = position or Position(Cursor(SOURCE.begins), 0)
    return Sender(SOURCE, mess(), asker(), topic, begins=SOURCE.begins, position=position)  # type: ignore[arg-type]


UNTIL = START + timedelta(hours=20)


@pytest.mark.parametrize("crashed_after", [0, 1, 2, 30, 333, 334, 700])
@pytest.mark.parametrize("saved_after_hours", [0, 3, 9.4])
def test_a_resume_goes_on_exactly_after_what_the_topic_holds(saved_after_hours: float, crashed_after: int):
    topic = FakeTopic()
    before = sender(topic)
    before.resume()
    before.advance(START + saved_after_hours * 60 * MINUTE)
    before.flush()
    position = Position(before.cursor, before.offset, before.totals)
    expected = [sending.event.value for sending in all_sendings(UNTIL)]
    topic.values += [b"somebody else's", *expected[len(topic.values) :][:crashed_after], b"somebody else's"]

    after = sender(topic, position)
    after.resume()
    while after.reached < UNTIL:
        after.advance(UNTIL)
    after.flush()

    assert [value for value in topic.values if value != b"somebody else's"] == expected
    assert after.totals.records == len(expected)
    assert after.totals.sent_again.total() == 0
    assert after.offset == topic.end()


def test_records_of_the_killed_replay_that_arrive_after_the_look_are_counted_as_sent_again():
    expected = [sending.event.value for sending in all_sendings(UNTIL)]
    topic = FakeTopic(expected[:50], slow=expected[50:60])
    resumed = sender(topic)
    resumed.resume()
    resumed.advance(UNTIL)
    resumed.flush()

    assert resumed.totals.sent_again.total() == 10
    assert resumed.totals.records == len(topic.values) == len(expected) + 10


def test_one_entity_may_be_asked_about_for_two_moments():
    questions = OpenQuestions()
    first = question(1, 10)
    moved = first._replace(as_of=first.as_of + 20 * MINUTE)
    for each in (first, moved):
        questions.add(each)

    due = questions.take_due(START + 60 * MINUTE)
    for each in due:
        questions.settle(each)

    assert due == [first, moved]
    assert first.id != moved.id
    assert questions.oldest is None


def test_a_resume_brings_back_exactly_the_questions_that_are_open():
    topic = FakeTopic()
    first = sender(topic)
    raised = [*first.resume(), *first.advance(START + 10 * 60 * MINUTE).questions]
    questions = OpenQuestions()
    for each in raised:
        questions.add(each)
    due = questions.take_due(START + 7 * 60 * MINUTE)
    for each in due[:60] + due[63:70]:
        questions.settle(each)
    position = Position(first.cursor, len(topic.values), first.totals, questions.snapshot())
    topic.values += [sending.event.value for sending in islice(all_sendings(UNTIL), first.totals.records, None)][:40]

    brought_back = sender(topic, position).resume()

    unsettled = due[60:63] + due[70:] + [each for each in raised if each not in due]
    later = {each.entity_id for each in brought_back} - {each.entity_id for each in raised}
    assert {each.entity_id for each in brought_back} - later == {each.entity_id for each in unsettled}
    assert 0 < len(later) <= 40


def test_a_topic_that_holds_less_than_the_position_says_is_refused():
    with pytest.raises(Invalid, match="another broker"):
        sender(FakeTopic([b"x"]), Position(Cursor(SOURCE.begins), 2)).resume()


class FakeClient:
    """Answers what it is asked; entities in `refuse` fail."""

    def __init__(self, refuse: frozenset[str] = frozenset()) -> None:
        self.retried = 2
        self._refuse = refuse

    async def ask(self, asked: Question) -> Answer | Failed:
        if asked.entity_id in self._refuse:
            return Failed("OUT_OF_RANGE", "too old")
        return Answer(0.25, "3", "champion", 1, 0, 0.004)


async def test_what_comes_back_is_counted_and_written(tmp_path: Path):
    totals, file = Totals(), AnswerFile(tmp_path / "answers.jsonl", 0)

    async def watermark() -> datetime:
        return START + 15 * MINUTE

    client = FakeClient(refuse=frozenset({"parcel-2"}))
    asking = Asking(client=client, watermark=watermark, totals=totals, answers=file)
    asking.add([question(1, 10), question(2, 11), question(3, 20)])
    tasks = [asyncio.create_task(asking.follow()), asyncio.create_task(asking.work())]
    while asking.count > 1:  # noqa: ASYNC110  the counting is what we wait for
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert (totals.answered, totals.failed, totals.retried) == ({"3/champion": 1}, {"OUT_OF_RANGE": 1}, 2)
    assert asking.oldest == START + 20 * MINUTE
    known, length = asking.snapshot()
    file.close()
    written = (tmp_path / "answers.jsonl").read_bytes()
    assert known is not None
    assert len(written) == length
    assert b'"entity_id": "parcel-1"' in written


def test_answers_beyond_the_position_are_cut_off_before_it_goes_on(tmp_path: Path):
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b"known\nbeyond\n")
    file = AnswerFile(path, kept=6)
    file.add(question(1, 1), Answer(0.5, "1", "champion", 0, 0, 0.1))
    file.close()
    assert path.read_bytes().splitlines()[0] == b"known"
    assert b"beyond" not in path.read_bytes()


def test_moments_are_dates_or_rfc3339():
    assert read_moment("2013-03-01") == datetime(2013, 3, 1, tzinfo=UTC)
    assert read_moment("2013-03-01T02:00:00+01:00") == datetime(2013, 3, 1, 1, tzinfo=UTC)
    for wrong in ("yesterday", "2013-03-01T02:00:00"):
        with pytest.raises(Invalid, match=wrong):
            read_moment(wrong)


@pytest.mark.parametrize("name", ["nowhere:source", "loadtests.flights:nothing", "loadtests.flights"])
def test_a_source_that_is_none_is_refused_by_name(name: str):
    with pytest.raises(Invalid, match=name):
        load_source(name)


def test_a_listed_source_begins_before_its_first_event_and_ends_with_its_last():
    events = list(SOURCE.after(SOURCE.begins))
    assert SOURCE.begins < events[0].recorded_at <= SOURCE.begins + GRID
    assert SOURCE.ends - GRID < events[-1].recorded_at <= SOURCE.ends
