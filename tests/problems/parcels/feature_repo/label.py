"""The outcome: did the parcel come late?"""

from datetime import timedelta

from services.problem import Label

LABEL = Label(
    entity_id="parcel_id",
    outcomes={"parcel.delivered": "late", "parcel.lost": None},
    horizon=timedelta(hours=12),
)
