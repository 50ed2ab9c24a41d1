"""The flow in four stations: what each process tells, as one line for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.chassis.clock import from_us
from services.monitoring.console.platform import Platform, Process
from services.monitoring.console.words import UNKNOWN, count, duration, moment, rate
from services.monitoring.joiner import Counts

ACCEPTED = "slipway_ingestion_events_total"
DEAD_LETTERS = "slipway_ingestion_dead_letters_total"
INGESTION_LAG, LAKE_LAG = "slipway_ingestion_lag_records", "slipway_lake_lag_records"
FEATURE_EVENTS = "slipway_features_events_total"
FEATURE_WATERMARK = "slipway_features_watermark_seconds"
ROWS = "slipway_inference_rows_total"
MISSING = "slipway_inference_missing_features_total"
STALE = "slipway_inference_stale_features_total"
LATENCY = "slipway_inference_latency_seconds"

_NOT_ASKED = Process("was not asked yet")


@dataclass(frozen=True, slots=True)
class Station:
    """One of the four. `problem` is "" when all is well; `facts` are (what, value)."""

    name: str
    says: str
    rate: str
    problem: str
    facts: Sequence[tuple[str, str]]
    trend: Sequence[float]


def track(platform: Platform, counts: Callable[[], Counts]) -> None:
    """Has the platform keep ten minutes of each station's counter."""
    platform.track("events", lambda: _process(platform, "ingestion").sum(ACCEPTED))
    platform.track("features", lambda: _process(platform, "features-stream").sum(FEATURE_EVENTS))
    platform.track("predictions", lambda: float(counts().recorded))
    platform.track("labels", lambda: float(counts().labels))


def stations(platform: Platform, counts: Counts, watermark: datetime | None) -> list[Station]:
    """Events, features, predictions, labels."""
    return [
        _events(platform),
        _features(platform, watermark),
        _predictions(platform, counts),
        _labels(platform, counts, watermark),
    ]


def feature_watermark(platform: Platform) -> datetime | None:
    """How far the stream was worked into the online store."""
    seconds = _process(platform, "features-stream").sum(FEATURE_WATERMARK)
    return None if not seconds else from_us(int(seconds * 1e6))


def dead_letters(platform: Platform) -> dict[str, float]:
    """Dead letters by reason."""
    told = _process(platform, "ingestion").each(DEAD_LETTERS, "reason")
    return {reason: amount for reason, amount in told.items() if amount}


def data_health(platform: Platform) -> tuple[float | None, float | None, float | None]:
    """Rows answered, and values missing and stale in them, since the deployments started."""
    return _served(platform, ROWS), _served(platform, MISSING), _served(platform, STALE)


def _events(platform: Platform) -> Station:
    process = _process(platform, "ingestion")
    letters = dead_letters(platform)
    facts = [
        ("accepted", count(process.sum(ACCEPTED))),
        ("waiting", count(process.sum(INGESTION_LAG))),
        ("waiting for the lake", count(_process(platform, "lake").sum(LAKE_LAG))),
        ("dead letters", _letters(process, letters)),
    ]
    return _station(platform, "events", "what upstream sent, checked", ("ingestion", "lake"), facts)


def _features(platform: Platform, watermark: datetime | None) -> Station:
    reached = feature_watermark(platform)
    facts = [("complete to", moment(reached))]
    if reached is not None and watermark is not None:
        ahead = (reached - watermark).total_seconds()
        facts.append(("against labels", "level" if abs(ahead) < 60 else f"{duration(abs(ahead))} {_side(ahead)}"))
    return _station(platform, "features", "windows over events, online", ("features-stream", "features"), facts)


def _predictions(platform: Platform, counts: Counts) -> Station:
    spent, calls = _served(platform, f"{LATENCY}_sum"), _served(platform, f"{LATENCY}_count")
    latency = f"{1000 * spent / calls:.1f} ms" if spent is not None and calls else UNKNOWN
    facts = [("recorded", count(counts.recorded)), ("mean latency", latency)]
    return _station(platform, "predictions", "answers that were served", ("inference-champion",), facts)


def _labels(platform: Platform, counts: Counts, watermark: datetime | None) -> Station:
    facts = [
        ("joined", count(counts.joined + counts.void)),
        ("waiting", count(counts.pending)),
        ("expired", count(counts.expired)),
        ("complete to", moment(watermark)),
    ]
    return _station(platform, "labels", "outcomes, joined to predictions", ("monitoring",), facts)


def _station(platform: Platform, name: str, says: str, of: Sequence[str], facts: Sequence[tuple[str, str]]) -> Station:
    series = platform.series[name]
    problems = [f"{process}: {problem}" for process in of if (problem := _process(platform, process).problem)]
    return Station(name, says, rate(series.rate()), "; ".join(problems), facts, series.rates)


def _letters(process: Process, letters: dict[str, float]) -> str:
    if process.sum(DEAD_LETTERS) is None:
        return UNKNOWN
    reasons = ", ".join(f"{reason} {amount:,.0f}" for reason, amount in sorted(letters.items()))
    return f"{sum(letters.values()):,.0f}" + (f" ({reasons})" if reasons else "")


def _served(platform: Platform, name: str) -> float | None:
    told = [_process(platform, f"inference-{variant}").sum(name) for variant in ("champion", "challenger")]
    known = [value for value in told if value is not None]
    return sum(known) if known else None


def _process(platform: Platform, name: str) -> Process:
    return platform.processes.get(name, _NOT_ASKED)


def _side(ahead: float) -> str:
    return "ahead" if ahead > 0 else "behind"
