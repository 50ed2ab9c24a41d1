"""Latencies in fixed memory: buckets that grow by 2 %, so a quantile is right to 2 %."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

_GROWTH = math.log(1.02)
_SMALLEST_S = 1e-6


@dataclass(slots=True)
class Latencies:
    """Counts by bucket."""

    buckets: Counter[int] = field(default_factory=Counter)

    def observe(self, seconds: float) -> None:
        self.buckets[max(0, math.ceil(math.log(max(seconds, _SMALLEST_S) / _SMALLEST_S) / _GROWTH))] += 1

    def quantile_s(self, share: float) -> float:
        """The upper bound of the bucket that holds the quantile, seconds; NaN if nothing was observed."""
        wanted, seen = share * self.buckets.total(), 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= wanted:
                return _SMALLEST_S * math.exp(bucket * _GROWTH)
        return math.nan
