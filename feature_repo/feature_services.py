"""The vector that the model sees, in order."""

from feast import FeatureService
from features import (
    carrier_at_origin,
    carrier_day,
    carrier_route_weeks,
    destination_arrivals,
    flight,
    inbound_aircraft,
    latest_weather,
    origin_cancellations,
    origin_congestion,
    route_weeks,
)

flight_delay_v1 = FeatureService(
    name="flight_delay_v1",
    features=[
        origin_congestion,
        origin_cancellations,
        destination_arrivals,
        carrier_day,
        carrier_at_origin,
        route_weeks,
        carrier_route_weeks,
        inbound_aircraft[["delay_last", "delay_mean_24h"]],
        latest_weather,
        flight,
    ],
)
