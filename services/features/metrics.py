"""What the two processes count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from services.features.reading import MISSING, STALE, Statuses

EVENTS = Counter(
    "slipway_features_events_total",
    "Events by what became of them in a view: counted, duplicate, too_late, no_key.",
    ["view", "outcome"],
)
UNREADABLE = Counter("slipway_features_unreadable_total", "Records that are no EventRecord, passed over.")
BATCH = Histogram("slipway_features_batch_seconds", "From a batch polled to its effect in the online store.")
ENTITIES = Counter("slipway_features_entities_total", "Entity hashes written.")
LAG = Gauge("slipway_features_lag_records", "Records that wait to be worked into the online store.")
WATERMARK = Gauge("slipway_features_watermark_seconds", "The watermark, Unix seconds.")
REDIS_ERRORS = Counter("slipway_features_redis_errors_total", "Times that the online store did not answer.")
ROWS = Counter("slipway_features_vector_rows_total", "Rows answered.", ["feature_service"])
CALL = Histogram("slipway_features_vectors_seconds", "A GetVectors call.", ["feature_service"])


class StatusCounts(Collector):
    """Missing and stale values by feature: an array per feature service, put into words only when scraped."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[Sequence[str], np.ndarray[tuple[int, int], np.dtype[np.int64]]]] = {}

    def count(self, service: str, features: Sequence[str], statuses: Statuses) -> None:
        """`statuses` [rows, features]."""
        if service not in self._counts:
            self._counts[service] = (features, np.zeros((2, len(features)), np.int64))
        counts = self._counts[service][1]
        counts[0] += np.count_nonzero(statuses == MISSING, axis=0)
        counts[1] += np.count_nonzero(statuses == STALE, axis=0)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """For the registry."""
        for row, name in enumerate(("missing", "stale")):
            family = CounterMetricFamily(
                f"slipway_features_{name}", f"Values that were {name}.", labels=["feature_service", "feature"]
            )
            for service, (features, counts) in self._counts.items():
                for feature, count in zip(features, counts[row].tolist(), strict=True):
                    family.add_metric([service, feature], count)
            yield family
