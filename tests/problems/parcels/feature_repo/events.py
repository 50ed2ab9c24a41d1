"""Parcels: a problem small enough to follow by hand. Couriers collect parcels from shops; will one come late?"""

from typing import Annotated

from pydantic import Field, StringConstraints, computed_field

from services.problem import EventType, Payload

Instant = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]


class _Parcel(Payload):
    parcel_id: Annotated[str, Field(min_length=1, max_length=40)]
    shop: Annotated[str, StringConstraints(pattern=r"^shop-\d+$")]
    courier: Annotated[str, StringConstraints(pattern=r"^courier-\d+$")] | None


class ParcelOrdered(_Parcel):
    """A shop wants a parcel collected at `pickup_at`."""

    pickup_at: Instant
    weight_kg: Annotated[float, Field(gt=0, le=100)]


class ParcelDelivered(_Parcel):
    """It is there, `delay_minutes` after (negative: before) the promised time."""

    delay_minutes: Annotated[float, Field(ge=-600, le=6000)]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def late(self) -> int:
        return int(self.delay_minutes > 0)


class ParcelLost(_Parcel):
    """It will never come."""


EVENT_TYPES = [
    EventType("parcel.ordered", ParcelOrdered, key="parcel_id"),
    EventType("parcel.delivered", ParcelDelivered, key="parcel_id"),
    EventType("parcel.lost", ParcelLost, key="parcel_id"),
]
