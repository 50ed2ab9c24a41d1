"""The features: windows over events, and what is computed from a request.

Delays are minutes, negative when early. `*_clipped` columns are kept between -20 and 180, so that one stranded
aircraft does not drown an airport's mean.
"""

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from data_sources import cancelled, departed, landed, request, weather
from entities import aircraft, carrier, destination, origin
from feast import Aggregation, Entity, Field, KafkaSource, StreamFeatureView
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
DEPARTURES_ARE_IN = ZoneInfo("America/New_York")


def _view(
    name: str, entities: list[Entity], source: KafkaSource, ttl: timedelta, aggregations: list[Aggregation]
) -> StreamFeatureView:
    return StreamFeatureView(
        name=name,
        entities=entities,
        source=source,
        timestamp_field="event_time",
        ttl=ttl,
        schema=[Field(name=aggregation.name, dtype=Float64) for aggregation in aggregations],
        aggregations=aggregations,
    )


origin_congestion = _view(
    "origin_congestion",
    [origin],
    departed,
    DAY,
    [
        Aggregation("departure_delay_minutes", "count", HOUR, MINUTE, name="departures_1h"),
        Aggregation("departure_delay_minutes", "count", 3 * HOUR, MINUTE, name="departures_3h"),
        Aggregation("departure_delay_clipped", "mean", HOUR, MINUTE, name="delay_mean_1h"),
        Aggregation("departure_delay_clipped", "mean", 3 * HOUR, MINUTE, name="delay_mean_3h"),
        Aggregation("departure_delay_minutes", "max", HOUR, MINUTE, name="delay_max_1h"),
        Aggregation("departure_delay_minutes", "max", 3 * HOUR, MINUTE, name="delay_max_3h"),
        Aggregation("departed_late", "mean", HOUR, MINUTE, name="late_share_1h"),
    ],
)

origin_cancellations = _view(
    "origin_cancellations",
    [origin],
    cancelled,
    30 * DAY,
    [
        Aggregation("scheduled_departure", "count", 3 * HOUR, MINUTE, name="cancelled_3h"),
        Aggregation("scheduled_departure", "count", DAY, HOUR, name="cancelled_24h"),
    ],
)

destination_arrivals = _view(
    "destination_arrivals",
    [destination],
    landed,
    7 * DAY,
    [
        Aggregation("arrival_delay_clipped", "mean", 3 * HOUR, MINUTE, name="delay_mean_3h"),
        Aggregation("arrival_delay_clipped", "mean", DAY, HOUR, name="delay_mean_24h"),
    ],
)

carrier_day = _view(
    "carrier_day",
    [carrier],
    departed,
    2 * DAY,
    [
        Aggregation("departure_delay_clipped", "mean", 3 * HOUR, MINUTE, name="delay_mean_3h"),
        Aggregation("departure_delay_clipped", "mean", 12 * HOUR, MINUTE, name="delay_mean_12h"),
    ],
)

carrier_at_origin = _view(
    "carrier_at_origin",
    [carrier, origin],
    departed,
    2 * DAY,
    [
        Aggregation("departure_delay_clipped", "mean", 3 * HOUR, MINUTE, name="delay_mean_3h"),
        Aggregation("departure_delay_minutes", "count", 12 * HOUR, MINUTE, name="departures_12h"),
    ],
)

route_weeks = _view(
    "route_weeks",
    [origin, destination],
    landed,
    28 * DAY,
    [
        Aggregation("arrived_late", "mean", 7 * DAY, DAY, name="late_share_7d"),
        Aggregation("arrived_late", "mean", 28 * DAY, DAY, name="late_share_28d"),
    ],
)

carrier_route_weeks = _view(
    "carrier_route_weeks",
    [carrier, origin, destination],
    landed,
    28 * DAY,
    [Aggregation("arrived_late", "mean", 28 * DAY, DAY, name="late_share_28d")],
)

inbound_aircraft = _view(
    "inbound_aircraft",
    [aircraft],
    landed,
    7 * DAY,
    [
        Aggregation("arrival_delay_minutes", "last", DAY, HOUR, name="delay_last"),
        Aggregation("arrival_delay_clipped", "mean", DAY, HOUR, name="delay_mean_24h"),
        Aggregation("event_time", "last", DAY, HOUR, name="landed_at_last"),
    ],
)

outbound_aircraft = _view(
    "outbound_aircraft",
    [aircraft],
    departed,
    7 * DAY,
    [Aggregation("event_time", "last", DAY, HOUR, name="departed_at_last")],
)

latest_weather = _view(
    "latest_weather",
    [origin],
    weather,
    3 * HOUR,
    [
        Aggregation("temperature_f", "last", 6 * HOUR, HOUR, name="temperature_f"),
        Aggregation("dew_point_f", "last", 6 * HOUR, HOUR, name="dew_point_f"),
        Aggregation("humidity_percent", "last", 6 * HOUR, HOUR, name="humidity_percent"),
        Aggregation("wind_direction_deg", "last", 6 * HOUR, HOUR, name="wind_direction_deg"),
        Aggregation("wind_speed_mph", "last", 6 * HOUR, HOUR, name="wind_speed_mph"),
        Aggregation("pressure_mb", "last", 6 * HOUR, HOUR, name="pressure_mb"),
        Aggregation("visibility_miles", "last", 6 * HOUR, HOUR, name="visibility_miles"),
        Aggregation("precipitation_in", "sum", 6 * HOUR, HOUR, name="precipitation_6h_in"),
    ],
)


@on_demand_feature_view(
    sources=[request, inbound_aircraft, outbound_aircraft],
    schema=[
        Field(name="minute_of_day", dtype=Float64),
        Field(name="day_of_week", dtype=Float64),
        Field(name="distance_miles", dtype=Float64),
        Field(name="duration_minutes", dtype=Float64),
        Field(name="minutes_since_landed", dtype=Float64),
        Field(name="minutes_since_departed", dtype=Float64),
    ],
    mode="python",
)
def flight(inputs: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The schedule in the passenger's clock, and how long ago the aircraft was last heard of."""
    local = [departure.astimezone(DEPARTURES_ARE_IN) for departure in inputs["scheduled_departure"]]

    def minutes_since(last: list[float | None]) -> list[float | None]:
        return [
            None if moment is None else (as_of.timestamp() - moment) / 60
            for as_of, moment in zip(inputs["as_of"], last, strict=True)
        ]

    return {
        "minute_of_day": [float(moment.hour * 60 + moment.minute) for moment in local],
        "day_of_week": [float(moment.weekday()) for moment in local],
        "distance_miles": list(inputs["distance_miles"]),
        "duration_minutes": [
            (arrival - departure).total_seconds() / 60
            for arrival, departure in zip(inputs["scheduled_arrival"], inputs["scheduled_departure"], strict=True)
        ],
        "minutes_since_landed": minutes_since(inputs["landed_at_last"]),
        "minutes_since_departed": minutes_since(inputs["departed_at_last"]),
    }
