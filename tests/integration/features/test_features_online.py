"""From events on Kafka to vectors over gRPC, against the oracle."""

from __future__ import annotations

from datetime import timedelta

from tests.integration.features.platform import Platform, Row
from tests.problems.parcels.upstream import COURIERS, SHOPS, START, parcels
from tests.support import eventually

END = START + timedelta(days=3)
HOUR = timedelta(hours=1)


def _rows(*moments) -> list[Row]:
    return [
        Row(f"shop-{number % SHOPS}", f"courier-{number % COURIERS}", moment)
        for number, moment in enumerate(moments)
    ]


def test_vectors_are_what_the_semantics_say_as_of_any_moment_of_the_history(platform: Platform):
    platform.publish(parcels(until=END))
    platform.watermark(END)
    with platform.stream(), platform.serve():
        eventually(lambda: platform.reached(END), "all is worked in")
        platform.assert_right(_rows(*(END - 0.7 * HOUR * number for number in range(34))))
        platform.assert_right(_rows(*(END + 2.1 * HOUR * number for number in range(60))))
