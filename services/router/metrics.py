"""What the router counts."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from services.router.evidence import Evidence, compare_log_loss
from services.router.releases import FULL_WEIGHT, Calls, Phase, Release

WEIGHT = Gauge("slipway_router_challenger_weight_ratio", "Share of traffic that goes to the challenger.")
PHASE = Gauge("slipway_router_release_phase_info", "1 for the phase of the last release.", ["phase"])
DECISIONS = Counter(
    "slipway_router_decisions_total", "Looks at the release in progress by what came of them.", ["action"]
)
TRANSITIONS = Counter(
    "slipway_router_transitions_total", "Transitions of releases by the phase they led to.", ["phase"]
)
LABELS = Gauge("slipway_router_evidence_labels", "Labels at the present step.", ["variant"])
LOG_LOSS_INCREASE = Gauge("slipway_router_evidence_log_loss_increase_nats", "Challenger minus champion; NaN: unknown.")
LOG_LOSS_INCREASE_SE = Gauge("slipway_router_evidence_log_loss_increase_se_nats", "Standard error of the increase.")
ERROR_RATE = Gauge("slipway_router_evidence_error_ratio", "Failed calls at the present step.", ["variant"])
ENVOY_POLLS = Counter("slipway_router_envoy_polls_total", "Envoy's route polls by answer.", ["answer"])
RUNS = Counter("slipway_router_training_runs_total", "Records of training.runs.v1 by what was done.", ["result"])
UNPUBLISHED = Gauge("slipway_router_unpublished_transitions", "Transitions that Kafka has not acknowledged.")

for unknown in (LOG_LOSS_INCREASE, LOG_LOSS_INCREASE_SE):
    unknown.set(float("nan"))


def show_release(release: Release) -> None:
    """At the start, and after each change of a release."""
    WEIGHT.set(release.challenger_weight / FULL_WEIGHT)
    for phase in Phase:
        PHASE.labels(phase.value).set(phase is release.phase)


def show_evidence(evidence: Evidence) -> None:
    """After each look."""
    if evidence.steps:
        LABELS.labels("champion").set(evidence.steps[-1].champion.labels)
        LABELS.labels("challenger").set(evidence.steps[-1].challenger.labels)
    compared = compare_log_loss(evidence.steps)
    LOG_LOSS_INCREASE.set(compared.log_loss if compared else float("nan"))
    LOG_LOSS_INCREASE_SE.set(compared.se if compared else float("nan"))
    ERROR_RATE.labels("champion").set(_rate(evidence.champion_calls))
    ERROR_RATE.labels("challenger").set(_rate(evidence.challenger_calls))


def _rate(calls: Calls) -> float:
    return calls.errors / calls.total if calls.total else 0.0
