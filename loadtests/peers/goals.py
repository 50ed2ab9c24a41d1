"""Ours against the peers, in one run."""

from __future__ import annotations

from collections.abc import Sequence

from loadtests.ceilings import contenders as c
from loadtests.ceilings.goals import ENTITY_SHARE, REST_SHARE, VECTOR_US, Verdict, at_least, at_most, first, of, ratio
from loadtests.ceilings.rounds import Outcome
from loadtests.peers.catalogue import KSERVE_BINARY, KSERVE_GRPC, KSERVE_REST, MLSERVER_REST, TRITON
from loadtests.peers.stock import STOCK

TIMES_TRITON, TIMES_KSERVE = 2, 10
ENTITY_P50_SHARE = 0.3
_NO_PEERS = (c.FAST, c.GRPC, c.ENVOY, c.ENVOY_GRPC, c.REST, c.REFERENCE, c.ENTITY_FAST, c.ENTITY_GRPC, STOCK)


def verdicts(outcomes: Sequence[Outcome]) -> list[Verdict]:
    """Of the fast lane where the platform has it, else of grpcio. CPU-µs a call, saturated."""
    by_name = {outcome.name: outcome for outcome in outcomes}
    ours = of(first(by_name, c.FAST, c.GRPC), "cpu_us")
    entity = first(by_name, c.ENTITY_FAST, c.ENTITY_GRPC)
    theirs = [cost for each in outcomes if each.name not in _NO_PEERS and (cost := each.median("cpu_us")) is not None]
    rest = [cost for name in (KSERVE_REST, KSERVE_BINARY, MLSERVER_REST) if (cost := of(by_name.get(name), "cpu_us"))]
    return [
        at_most("1-row vector", ours, VECTOR_US, f"at most {VECTOR_US} CPU-µs"),
        at_most("the same", ratio(ours, min(theirs, default=None)), 1.0, "less than every peer", "of the best peer"),
        at_least(
            "the same", ratio(of(by_name.get(TRITON), "cpu_us"), ours), TIMES_TRITON, *_times(TIMES_TRITON, "Triton")
        ),
        at_least(
            "the same",
            ratio(of(by_name.get(KSERVE_GRPC), "cpu_us"), ours),
            TIMES_KSERVE,
            *_times(TIMES_KSERVE, "KServe"),
        ),
        at_most(
            "REST V2, 1 row",
            ratio(of(by_name.get(c.REST), "cpu_us"), min(rest, default=None)),
            REST_SHARE,
            f"at most {REST_SHARE} of the better of KServe and MLServer",
            "of the better",
        ),
        at_most(
            "call by keys, with features and Redis",
            ratio(of(entity, "cpu_us"), of(by_name.get(STOCK), "cpu_us")),
            ENTITY_SHARE,
            f"at most 1/20 of the CPU of {STOCK}",
            "of the stock parts",
        ),
        at_most(
            "the same, one at a time",
            ratio(of(entity, "p50_us"), of(by_name.get(STOCK), "p50_us")),
            ENTITY_P50_SHARE,
            f"p50 at most {ENTITY_P50_SHARE} of that of {STOCK}",
            "of the stock parts",
        ),
    ]


def _times(bound: int, peer: str) -> tuple[str, str]:
    return f"at least {bound} times as many calls a core as {peer}", f"times {peer}"
