"""The event types that the airline's and the weather service's systems send, with their expectations."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints, computed_field

from services.problem import EventType, Payload

LATE_AFTER_MINUTES = 15

Airport = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
Carrier = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{2}$")]
Instant = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
Tailnum = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{3,7}$")]
DelayMinutes = Annotated[float, Field(ge=-180, le=3000)]


def _clipped(delay_minutes: float) -> float:
    """Delays between -20 and 180 minutes: one stranded aircraft must not drown an airport's mean."""
    return min(max(delay_minutes, -20.0), 180.0)


class _Flight(Payload):
    flight_id: Annotated[str, Field(min_length=8, max_length=40)]
    carrier: Carrier
    tailnum: Tailnum | None
    origin: Airport
    destination: Airport
    scheduled_departure: Instant


class FlightScheduled(_Flight):
    """Published hours before departure."""

    scheduled_arrival: Instant
    distance_miles: Annotated[float, Field(ge=10, le=10_000)]


class FlightDeparted(_Flight):
    """Off the gate."""

    departure_delay_minutes: DelayMinutes

    @computed_field  # type: ignore[prop-decorator]
    @property
    def departure_delay_clipped(self) -> float:
        return _clipped(self.departure_delay_minutes)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def departed_late(self) -> int:
        return int(self.departure_delay_minutes > LATE_AFTER_MINUTES)


class FlightLanded(_Flight):
    """At the gate of the destination."""

    arrival_delay_minutes: DelayMinutes

    @computed_field  # type: ignore[prop-decorator]
    @property
    def arrival_delay_clipped(self) -> float:
        return _clipped(self.arrival_delay_minutes)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def arrived_late(self) -> int:
        return int(self.arrival_delay_minutes > LATE_AFTER_MINUTES)


class FlightCancelled(_Flight):
    """It will not fly."""


class WeatherObserved(Payload):
    """An hourly observation at an airport; what the station did not report is null."""

    origin: Airport
    temperature_f: Annotated[float, Field(ge=-60, le=140)] | None
    dew_point_f: Annotated[float, Field(ge=-80, le=100)] | None
    humidity_percent: Annotated[float, Field(ge=0, le=110)] | None
    wind_direction_deg: Annotated[float, Field(ge=0, le=360)] | None
    wind_speed_mph: Annotated[float, Field(ge=0, le=1200)] | None
    wind_gust_mph: Annotated[float, Field(ge=0, le=1200)] | None
    precipitation_in: Annotated[float, Field(ge=0, le=10)] | None
    pressure_mb: Annotated[float, Field(ge=850, le=1100)] | None
    visibility_miles: Annotated[float, Field(ge=0, le=20)] | None


EVENT_TYPES = [
    EventType("flight.scheduled", FlightScheduled, key="flight_id"),
    EventType("flight.departed", FlightDeparted, key="flight_id"),
    EventType("flight.landed", FlightLanded, key="flight_id"),
    EventType("flight.cancelled", FlightCancelled, key="flight_id"),
    EventType("weather.observed", WeatherObserved, key="origin"),
]
