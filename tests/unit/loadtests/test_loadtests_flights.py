"""The flights' times in UTC, and the events made of them."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from loadtests.flights import Flights, data_folder, read_flights
from loadtests.upstream import GRID, Upstream
from services.chassis.clock import parse_rfc3339, utc_now
from services.ingestion.validation import Accepted, Validator
from services.problem import load_event_types
from tests.support import FLIGHTS

HOUR = timedelta(hours=1)


@pytest.fixture
def source(year_of_flights: Flights) -> Flights:
    return year_of_flights


def between(source: Flights, since: datetime, until: datetime) -> list[Upstream]:
    found = []
    for event in source.after(since):
        if event.recorded_at > until:
            break
        found.append(event)
    return found


def day(month: int, day_of_month: int) -> datetime:
    return datetime(2013, month, day_of_month, tzinfo=UTC)


# Scheduled departure and arrival, departure and arrival, each by hand from the row's clocks.
BY_HAND = {
    "UA1545-EWR-20130101": ("01-01T10:15", "01-01T14:19", "01-01T10:17", "01-01T14:30"),
    # across midnight, to the west coast, hours late: 21:45 EDT, 01:05 PDT
    "AA185-JFK-20130410": ("04-11T01:45", "04-11T08:05", "04-11T05:17", "04-11T11:56"),
    # Honolulu, ten hours behind UTC and without summer time; the second left 1301 minutes late
    "HA51-JFK-20130101": ("01-01T14:00", "01-02T01:30", "01-01T13:57", "01-02T01:16"),
    "HA51-JFK-20130109": ("01-09T14:00", "01-10T01:30", "01-10T11:41", "01-10T22:42"),
    # Puerto Rico, over both of New York's switches
    "B6727-JFK-20130309": ("03-10T04:59", "03-10T08:38", "03-10T05:53", "03-10T09:04"),
    "B6745-JFK-20131102": ("11-03T03:59", "11-03T07:45", "11-03T03:46", "11-03T07:53"),
    # due before the switch to summer time, arrived after it: 00:34 EST, 03:03 EDT
    "B635-JFK-20130309": ("03-10T02:45", "03-10T05:34", "03-10T04:06", "03-10T07:03"),
    # the morning after the switch back
    "UA322-EWR-20131103": ("11-03T10:20", "11-03T14:00", "11-03T10:19", "11-03T13:51"),
}


@pytest.mark.parametrize("flight_id", BY_HAND)
def test_the_times_of_a_flight_are_right_in_utc(source: Flights, flight_id: str):
    departure, arrival, left, came = (parse_rfc3339(f"2013-{moment}:00Z") for moment in BY_HAND[flight_id])

    events = {
        event.type: (event.recorded_at, json.loads(event.value))
        for event in between(source, departure - 13 * HOUR, came + HOUR)
        if event.event_id.startswith(f"{flight_id}/")
    }

    assert events.keys() == {"flight.scheduled", "flight.departed", "flight.landed"}
    recorded_at, scheduled = events["flight.scheduled"]
    assert parse_rfc3339(scheduled["data"]["scheduled_departure"]) == departure
    assert parse_rfc3339(scheduled["data"]["scheduled_arrival"]) == arrival
    assert recorded_at == parse_rfc3339(scheduled["time"]) == departure - 12 * HOUR
    for kind, moment in (("flight.departed", left), ("flight.landed", came)):
        recorded_at, event = events[kind]
        assert parse_rfc3339(event["time"]) == moment
        assert recorded_at == parse_rfc3339(event["recordedtime"]) == moment + timedelta(minutes=1)


def test_every_flight_fits_its_distance_and_its_time_in_the_air():
    table = read_flights(data_folder())

    planned = (table["scheduled_arrival"] - table["scheduled_departure"]).dt.total_seconds() / 60
    expected = 35 + table["distance"] / 8
    assert (planned - expected).abs().max() < 120
    gate_to_gate = (table["arrival"] - table["departure"]).dt.total_seconds() / 60
    on_the_ground = (gate_to_gate - table["air_time"]).dropna()
    assert on_the_ground.between(5, 240).all()
    assert len(on_the_ground) == 327_346


def test_arrivals_read_as_the_clock_at_the_destination():
    table = read_flights(data_folder())
    for destination, zone in (
        ("LAX", "America/Los_Angeles"),
        ("SJU", "America/Puerto_Rico"),
        ("PHX", "America/Phoenix"),
    ):
        there = table[(table["dest"] == destination) & table["arrival"].notna()]
        local = there["arrival"].dt.tz_localize("UTC").dt.tz_convert(zone)
        assert (local.dt.hour * 100 + local.dt.minute == there["arr_time"] % 2400).all()


def test_the_year_is_complete_in_order_with_unique_ids_and_passes_ingestions_checks(source: Flights):
    """Every twentieth event is checked."""
    validator = Validator(load_event_types(FLIGHTS), utc_now, recordedtime_required=True)
    counts: Counter[str] = Counter()
    ids, last = set(), (source.begins, "")
    for number, event in enumerate(source.after(source.begins)):
        if number % 20 == 0:
            verdict = validator.check(event.value)
            assert isinstance(verdict, Accepted), (event.value, verdict)
            assert (verdict.event_id, verdict.type) == (event.event_id, event.type)
        assert last < (event.recorded_at, event.event_id)
        last = (event.recorded_at, event.event_id)
        counts[event.type] += 1
        ids.add(event.event_id)

    assert counts == {
        "flight.scheduled": 336_776,
        "flight.departed": 328_521,
        "flight.landed": 327_346,
        "flight.cancelled": 8_255,
        "weather.observed": 26_115,
    }
    assert len(ids) == counts.total()
    assert source.ends - GRID < last[0] <= source.ends


def test_a_cancelled_flight_is_known_at_its_scheduled_departure_and_a_diverted_one_never_lands(source: Flights):
    kinds: dict[str, dict[str, datetime]] = {"EV4308-EWR-20130101": {}, "EV3806-EWR-20130101": {}}
    for event in between(source, source.begins, day(1, 4)):
        flight_id, _, kind = event.event_id.partition("/")
        if flight_id in kinds:
            kinds[flight_id][kind] = event.recorded_at

    scheduled_departure = day(1, 1).replace(hour=21, minute=30)
    assert kinds["EV4308-EWR-20130101"] == {
        "scheduled": scheduled_departure - 12 * HOUR,
        "cancelled": scheduled_departure,
    }
    assert kinds["EV3806-EWR-20130101"].keys() == {"scheduled", "departed"}


def test_weather_is_known_five_minutes_after_its_hour_and_the_repeated_hour_is_two(source: Flights):
    observed = [
        event for event in between(source, day(11, 3), day(11, 3) + 8 * HOUR) if event.event_id.startswith("EWR/")
    ]

    # One o'clock came twice that night: at 05:00Z and at 06:00Z. The files have no midnight.
    assert [event.event_id for event in observed] == [f"EWR/2013-11-03T{hour:02}:00:00Z/observed" for hour in (5, 6, 7)]
    temperatures = [json.loads(event.value)["data"]["temperature_f"] for event in observed]
    assert temperatures == [51.98, 50.0, 51.08]
    assert [event.recorded_at.minute for event in observed] == [5, 5, 5]


def test_what_the_files_do_not_say_is_null(source: Flights):
    observed = next(
        event for event in source.after(source.begins) if event.event_id == "EWR/2013-01-01T06:00:00Z/observed"
    )
    data = json.loads(observed.value)["data"]
    assert data["wind_gust_mph"] is None
    assert data["wind_speed_mph"] == 10.35702

    tailnums = [
        json.loads(event.value)["data"]["tailnum"]
        for event in between(source, source.begins, day(1, 3))
        if event.type == "flight.cancelled"
    ]
    assert None in tailnums


@pytest.mark.parametrize("hours", [7, 24, 31.25])
def test_it_can_be_entered_at_any_moment(source: Flights, hours: float):
    middle, end = source.begins + hours * HOUR, source.begins + 60 * HOUR
    whole = between(source, source.begins, end)
    assert between(source, middle, end) == [event for event in whole if event.recorded_at > middle]
