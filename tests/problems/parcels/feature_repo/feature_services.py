"""The vector that the model sees, in order."""

from feast import FeatureService
from features import courier_recent, pair_days, parcel_request, shop_days

parcel_delay_v1 = FeatureService(
    name="parcel_delay_v1",
    features=[
        courier_recent[["delivered_1h", "delay_mean_6h", "delay_max_6h", "delay_last"]],
        shop_days,
        pair_days,
        parcel_request,
    ],
)
