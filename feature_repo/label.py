"""The outcome: did it arrive more than 15 minutes late?"""

from datetime import timedelta

from services.problem import Label

LABEL = Label(
    entity_id="flight_id",
    outcomes={"flight.landed": "arrived_late", "flight.cancelled": None},
    horizon=timedelta(hours=48),
)
