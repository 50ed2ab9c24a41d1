"""What serving must reach, and whether this run shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from loadtests.ceilings import contenders as c
from loadtests.ceilings.rounds import Outcome

STOCK_ENTITY_US, STOCK_ENTITY = 3100, "an MLServer runtime that asks `feast serve`, measured apart"
BEST_REST_US, BEST_REST = 309, "MLServer over REST, measured apart"
VECTOR_US, ENVOY_US = 25, 60
P50_SHARE, ROWS_SHARE, REST_SHARE, ENTITY_SHARE = 0.5, 0.8, 0.5, 1 / 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line of the targets. `reached` is None if the run has no number for it."""

    work: str
    goal: str
    measured: str
    reached: bool | None

    @property
    def word(self) -> str:
        """yes, no, or not measured."""
        return {True: "yes", False: "no", None: "not measured"}[self.reached]


def verdicts(outcomes: Sequence[Outcome]) -> list[Verdict]:
    """Of the fast lane where the platform has it, else of grpcio."""
    by_name = {outcome.name: outcome for outcome in outcomes}
    ours = first(by_name, c.FAST, c.GRPC)
    entity, hundred = first(by_name, c.ENTITY_FAST, c.ENTITY_GRPC), first(by_name, c.FAST_100, c.GRPC_100)
    reference, in_process = by_name.get(c.REFERENCE), by_name.get(c.IN_PROCESS_100)
    return [
        at_most("1-row vector, saturated", of(ours, "cpu_us"), VECTOR_US, f"at most {VECTOR_US} CPU-µs"),
        at_most(
            "the same, one at a time",
            ratio(of(ours, "p50_us"), of(reference, "p50_us")),
            P50_SHARE,
            f"p50 at most {P50_SHARE} of that of {c.REFERENCE}",
            "of the reference",
        ),
        at_most("the same through Envoy", of(by_name.get(c.ENVOY), "cpu_us"), ENVOY_US, f"at most {ENVOY_US} CPU-µs"),
        at_most(
            "entity call, inference + features + Redis",
            of(entity, "cpu_us"),
            STOCK_ENTITY_US * ENTITY_SHARE,
            f"at most {STOCK_ENTITY_US * ENTITY_SHARE:.0f} CPU-µs: 1/20 of {STOCK_ENTITY_US} ({STOCK_ENTITY})",
        ),
        at_least(
            "100 rows in one call",
            ratio(of(hundred, "per_second"), of(in_process, "per_second")),
            ROWS_SHARE,
            f"at least {ROWS_SHARE} of session.run's rows/s",
            "of session.run",
        ),
        at_most(
            "REST V2, 1 row, binary",
            of(by_name.get(c.REST), "cpu_us"),
            BEST_REST_US * REST_SHARE,
            f"at most {BEST_REST_US * REST_SHARE:.0f} CPU-µs: half of {BEST_REST_US} ({BEST_REST})",
        ),
    ]


def at_most(work: str, measured: float | None, bound: float, goal: str, unit: str = "CPU-µs") -> Verdict:
    """The bound holds up to it; None was not measured."""
    return _verdict(work, measured, lambda found: found <= bound, goal, unit)


def at_least(work: str, measured: float | None, bound: float, goal: str, unit: str) -> Verdict:
    """The bound holds from it on; None was not measured."""
    return _verdict(work, measured, lambda found: found >= bound, goal, unit)


def _verdict(work: str, measured: float | None, holds: Callable[[float], bool], goal: str, unit: str) -> Verdict:
    if measured is None:
        return Verdict(work, goal, "-", None)
    return Verdict(work, goal, f"{_rounded(measured)} {unit}", holds(measured))


def first(outcomes: Mapping[str, Outcome], *names: str) -> Outcome | None:
    """The first of these that took part."""
    return next((outcomes[name] for name in names if name in outcomes), None)


def of(outcome: Outcome | None, what: str) -> float | None:
    """One of its medians."""
    return None if outcome is None else outcome.median(what)


def ratio(of: float | None, to: float | None) -> float | None:
    """None if either is missing."""
    return None if of is None or not to else of / to


def _rounded(measured: float) -> str:
    return f"{measured:,.0f}" if measured >= 100 else f"{measured:.3g}"
