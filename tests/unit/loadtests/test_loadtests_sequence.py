"""What a replay sends, and the mess in it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from itertools import takewhile
from pathlib import Path

import pytest

from loadtests.flights import Flights
from loadtests.replay.mess import DEAD, FIRST, HOLD, Kind, Mess, Sending
from loadtests.replay.sequence import sequence
from loadtests.upstream import GRID, Source, Upstream
from services.chassis.clock import parse_rfc3339, utc_now
from services.chassis.errors import Invalid
from services.ingestion.validation import Accepted, Heartbeat, Rejected, Validator
from services.problem import load_event_types
from tests.problems.parcels.upstream import two_days
from tests.support import FLIGHTS, PARCELS

PROBLEMS = pytest.mark.parametrize("problem", [FLIGHTS, PARCELS], ids=["flights", "parcels"])


def play(source: Source, mess: Mess, *, after: datetime | None = None, days: float = 2) -> list[Sending]:
    begins = source.begins
    until = begins + timedelta(days=days)
    whole = sequence(source, mess, begins=begins, after=after or begins)
    return list(takewhile(lambda sending: sending.due <= until, whole))


def _until(source: Source, moment: datetime) -> list[Upstream]:
    return list(takewhile(lambda event: event.recorded_at <= moment, source.after(source.begins)))


@pytest.fixture
def source(problem: Path, year_of_flights: Flights) -> Source:
    return year_of_flights if problem == FLIGHTS else two_days()


def mess_of(problem: Path, share: float, seed: int = 1) -> Mess:
    return Mess(load_event_types(problem), share, seed)


@PROBLEMS
def test_without_mess_it_is_the_source_and_a_heartbeat_at_each_moment_of_the_grid(problem: Path, source: Source):
    sent = play(source, mess_of(problem, 0))

    events = [sending.event for sending in sent if sending.kind is not Kind.HEARTBEAT]
    assert events == _until(source, sent[-1].due)
    beats = [sending.due for sending in sent if sending.kind is Kind.HEARTBEAT]
    assert beats == [source.begins + GRID * count for count in range(1, len(beats) + 1)]


@PROBLEMS
def test_a_heartbeat_comes_after_all_that_was_known_by_then_and_before_the_rest(problem: Path, source: Source):
    known_by = source.begins
    for sending in play(source, mess_of(problem, 0)):
        if sending.kind is Kind.HEARTBEAT:
            known_by = sending.due
        else:
            assert known_by < sending.due <= known_by + GRID


@pytest.mark.parametrize("share", [0, 0.3, 1])
@PROBLEMS
def test_entered_anywhere_it_goes_on_byte_for_byte(problem: Path, source: Source, share: float):
    mess = mess_of(problem, share)
    whole = play(source, mess, days=1)
    for count in (1, 11, 12, 13, 100, 200):
        after = source.begins + count * GRID
        assert play(source, mess, after=after, days=1) == [sending for sending in whole if sending.due > after]


@PROBLEMS
def test_each_kind_of_mess_meets_the_fate_that_it_is_named_after(problem: Path, source: Source):
    validator = Validator(load_event_types(problem), utc_now, recordedtime_required=True)
    fates: defaultdict[Kind, Counter[str]] = defaultdict(Counter)
    for sending in play(source, mess_of(problem, 1)):
        verdict = validator.check(sending.event.value)
        fates[sending.kind][verdict.reason if isinstance(verdict, Rejected) else type(verdict).__name__] += 1

    assert fates.keys() == set(Kind)
    for kind, fate in fates.items():
        expected = kind.value if kind in DEAD else Heartbeat.__name__ if kind is Kind.HEARTBEAT else Accepted.__name__
        assert fate.keys() == {expected}, kind
        assert fate.total() > 20


@PROBLEMS
def test_the_mess_takes_no_event_away_and_repeats_none_but_its_duplicates(problem: Path, source: Source):
    sent = play(source, mess_of(problem, 0.5), days=3)
    last_due = sent[-1].due

    first = Counter(sending.event_id for sending in sent if sending.kind in FIRST)
    assert set(first.values()) == {1}
    expected = {event.event_id for event in _until(source, last_due - HOLD)}
    assert expected <= first.keys()
    accepted_before: set[str] = set()
    for sending in sent:
        if sending.kind is Kind.DUPLICATE:
            assert sending.event_id in accepted_before
        accepted_before.add(sending.event_id)


@PROBLEMS
def test_late_events_say_so_and_out_of_order_ones_do_not(problem: Path, source: Source):
    truth = {event.event_id: event for event in _until(source, source.begins + timedelta(days=3))}
    newest = source.begins
    seen = Counter[Kind]()
    for sending in play(source, mess_of(problem, 0.4)):
        if sending.kind is Kind.LATE:
            said, meant = json.loads(sending.event.value), json.loads(truth[sending.event_id].value)
            assert said | {"recordedtime": meant["recordedtime"]} == meant
            assert sending.due == parse_rfc3339(said["recordedtime"])
            assert timedelta(0) < sending.due - truth[sending.event_id].recorded_at <= HOLD
        elif sending.kind is Kind.OUT_OF_ORDER:
            assert sending.event == truth[sending.event_id]
            seen[sending.kind] += sending.event.recorded_at < newest
        newest = max(newest, sending.due)
        seen[Kind.LATE] += sending.kind is Kind.LATE
    assert min(seen[Kind.LATE], seen[Kind.OUT_OF_ORDER]) > 20


@PROBLEMS
def test_the_seed_chooses_the_mess_and_the_share_how_much(problem: Path, source: Source):
    some = Counter(sending.kind for sending in play(source, mess_of(problem, 0.2)))
    assert play(source, mess_of(problem, 0.2)) == play(source, mess_of(problem, 0.2))
    assert play(source, mess_of(problem, 0.2, seed=2)) != play(source, mess_of(problem, 0.2))
    messy = some.total() - some[Kind.EVENT] - some[Kind.HEARTBEAT]
    originals = sum(some[kind] for kind in FIRST)
    assert messy == pytest.approx(0.2 * originals, rel=0.2)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_is_from_zero_to_one(share: float):
    with pytest.raises(Invalid, match="share from 0 to 1"):
        mess_of(PARCELS, share)
