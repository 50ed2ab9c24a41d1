"""The features: windows over events, and what is computed from a request."""

from datetime import timedelta
from typing import Any

from data_sources import parcel_delivered, request
from entities import courier, shop
from feast import Aggregation, Field, StreamFeatureView
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MINUTE = timedelta(minutes=1)

courier_recent = StreamFeatureView(
    name="courier_recent",
    entities=[courier],
    source=parcel_delivered,
    timestamp_field="event_time",
    ttl=DAY,
    schema=[
        Field(name="delivered_1h", dtype=Int64),
        Field(name="delay_mean_6h", dtype=Float64),
        Field(name="delay_max_6h", dtype=Float64),
        Field(name="delay_last", dtype=Float64),
        Field(name="delivered_at_last", dtype=Float64),
    ],
    aggregations=[
        Aggregation("delay_minutes", "count", HOUR, MINUTE, name="delivered_1h"),
        Aggregation("delay_minutes", "mean", 6 * HOUR, MINUTE, name="delay_mean_6h"),
        Aggregation("delay_minutes", "max", 6 * HOUR, MINUTE, name="delay_max_6h"),
        Aggregation("delay_minutes", "last", DAY, HOUR, name="delay_last"),
        Aggregation("event_time", "last", DAY, HOUR, name="delivered_at_last"),
    ],
)

shop_days = StreamFeatureView(
    name="shop_days",
    entities=[shop],
    source=parcel_delivered,
    timestamp_field="event_time",
    ttl=3 * DAY,
    schema=[Field(name="late_share_3d", dtype=Float64), Field(name="delay_std_3d", dtype=Float64)],
    aggregations=[
        Aggregation("late", "mean", 3 * DAY, HOUR, name="late_share_3d"),
        Aggregation("delay_minutes", "stddev", 3 * DAY, HOUR, name="delay_std_3d"),
    ],
)

pair_days = StreamFeatureView(
    name="pair_days",
    entities=[shop, courier],
    source=parcel_delivered,
    timestamp_field="event_time",
    ttl=3 * DAY,
    schema=[Field(name="late_sum_3d", dtype=Int64)],
    aggregations=[Aggregation("late", "sum", 3 * DAY, HOUR, name="late_sum_3d")],
)


@on_demand_feature_view(
    sources=[request, courier_recent],
    schema=[
        Field(name="pickup_hour", dtype=Float64),
        Field(name="weight", dtype=Float64),
        Field(name="minutes_since_delivery", dtype=Float64),
    ],
    mode="python",
)
def parcel_request(inputs: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {
        "pickup_hour": [float(moment.hour) for moment in inputs["pickup_at"]],
        "weight": list(inputs["weight_kg"]),
        "minutes_since_delivery": [
            None if last is None else (as_of.timestamp() - last) / 60
            for as_of, last in zip(inputs["as_of"], inputs["delivered_at_last"], strict=True)
        ],
    }
