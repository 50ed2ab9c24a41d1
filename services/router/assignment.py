"""Who gets which variant: a pure function of release, routing key and weight that anyone can recompute.

Envoy computes the same: its header hash is xxh64 (seed 0) of the salted header, taken modulo the total weight, and the
clusters' weights are walked in the order in which they are listed, challenger first. Raising the weight therefore only
ever moves keys from the champion to the challenger.
"""

from __future__ import annotations

import xxhash

CHAMPION = "champion"
CHALLENGER = "challenger"
TOTAL_WEIGHT = 10_000
SALT_SEPARATOR = "|"


def salt(release_id: str) -> str:
    """What is put before the routing key, so that each release draws its users anew."""
    return release_id + SALT_SEPARATOR


def variant(release_id: str, routing_key: str, challenger_weight: int) -> str:
    """`champion` or `challenger`. `challenger_weight` is in basis points, 0..10000."""
    drawn = xxhash.xxh64_intdigest((salt(release_id) + routing_key).encode()) % TOTAL_WEIGHT
    return CHALLENGER if drawn < challenger_weight else CHAMPION
