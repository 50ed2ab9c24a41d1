"""What the couriers' systems would send: seeded, in the order in which it became known, with a shift halfway.

A courier has good and bad hours (an AR(1) mood), which the features over recent deliveries can see. After `shift_at`
every courier is slower, which drifts the features and spoils a model of before.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from loadtests.upstream import Listed, Upstream, cloud_event, heartbeat, instant

__all__ = ["Upstream", "heartbeat", "parcels", "two_days"]

START = datetime(2024, 3, 1, tzinfo=UTC)
SHOPS, COURIERS = 6, 12
TO_PICKUP, TO_DOOR = timedelta(hours=2), timedelta(hours=1)
KNOWN_AFTER = timedelta(seconds=30)
LOST_KNOWN_AFTER = timedelta(hours=6)


def parcels(
    *,
    until: datetime,
    since: datetime = START,
    shift_at: datetime | None = None,
    per_hour: int = 24,
    seed: int = 7,
) -> list[Upstream]:
    """All events of the parcels ordered in [since, until), by the time at which they became known."""
    return sorted(
        _events(since, until, shift_at, per_hour, seed), key=lambda event: (event.recorded_at, event.event_id)
    )


def two_days() -> Listed:
    """The parcels of the first two days, as a source for the replay."""
    return Listed(parcels(until=START + timedelta(days=2)))


def _events(
    since: datetime, until: datetime, shift_at: datetime | None, per_hour: int, seed: int
) -> Iterator[Upstream]:
    chance = random.Random(seed)
    mood = [0.0] * COURIERS
    hour, number = since, 0
    while hour < until:
        mood = [0.85 * m + chance.gauss(0, 12) for m in mood]
        slower = 30.0 if shift_at is not None and hour >= shift_at else 0.0
        for _ in range(per_hour):
            number += 1
            courier = chance.randrange(COURIERS)
            delay = chance.gauss(-8, 12) + mood[courier] + slower
            ordered_at = hour + timedelta(seconds=chance.randrange(3600))
            yield from _parcel(chance, f"parcel-{number:06d}", courier, ordered_at, delay)
        hour += timedelta(hours=1)


def _parcel(
    chance: random.Random, parcel_id: str, courier: int, ordered_at: datetime, delay_minutes: float
) -> Iterator[Upstream]:
    who = {
        "parcel_id": parcel_id,
        "shop": f"shop-{chance.randrange(SHOPS)}",
        "courier": f"courier-{courier}" if chance.random() > 0.01 else None,
    }
    pickup_at = ordered_at + TO_PICKUP
    ordered = who | {"pickup_at": instant(pickup_at), "weight_kg": round(chance.uniform(0.1, 20.0), 2)}
    yield _cloud_event(f"{parcel_id}/ordered", "parcel.ordered", ordered_at, ordered_at + KNOWN_AFTER, ordered)
    if chance.random() < 0.02:
        lost_at = pickup_at + LOST_KNOWN_AFTER
        yield _cloud_event(f"{parcel_id}/lost", "parcel.lost", lost_at, lost_at, who)
        return
    delay = round(max(delay_minutes, -50.0), 1)
    delivered_at = pickup_at + TO_DOOR + timedelta(minutes=delay)
    delivered = who | {"delay_minutes": delay}
    yield _cloud_event(
        f"{parcel_id}/delivered", "parcel.delivered", delivered_at, delivered_at + KNOWN_AFTER, delivered
    )


def _cloud_event(event_id: str, kind: str, time: datetime, recorded_at: datetime, data: dict[str, object]) -> Upstream:
    return cloud_event(event_id, kind, "/parcels", time=time, recorded_at=recorded_at, data=data)
