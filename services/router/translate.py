"""Between our values and the router's protobuf messages."""

from __future__ import annotations

from services.chassis.clock import to_proto
from services.chassis.errors import Invalid
from services.contracts.router.v1 import router_pb2 as pb
from services.router.releases import Account, Phase, Release, Strategy, Transition

_PHASES = {
    Phase.PENDING: pb.PHASE_PENDING,
    Phase.RUNNING: pb.PHASE_RUNNING,
    Phase.PAUSED: pb.PHASE_PAUSED,
    Phase.SUCCESSFUL: pb.PHASE_SUCCESSFUL,
    Phase.FAILED: pb.PHASE_FAILED,
    Phase.ERROR: pb.PHASE_ERROR,
    Phase.INCONCLUSIVE: pb.PHASE_INCONCLUSIVE,
    Phase.ABORTED: pb.PHASE_ABORTED,
}
_STRATEGIES = {
    Strategy.AUTO: pb.STRATEGY_UNSPECIFIED,
    Strategy.CANARY: pb.STRATEGY_CANARY,
    Strategy.BLUE_GREEN: pb.STRATEGY_BLUE_GREEN,
}


def strategy_from_proto(strategy: pb.Strategy) -> Strategy:
    """Unspecified is left to the router. Raises Invalid."""
    for ours, theirs in _STRATEGIES.items():
        if theirs == strategy:
            return ours
    raise Invalid(f"strategy: {strategy} is none of canary (1) and blue-green (2)")


def release_to_proto(account: Account, waiting_for: str = "") -> pb.Release:
    """With its transitions."""
    release = account.release
    message = _header(release)
    message.waiting_for = waiting_for
    message.transitions.extend(_transition(transition) for transition in account.transitions)
    return message


def to_record(account: Account) -> bytes:
    """The value on router.releases.v1."""
    return pb.ReleaseRecord(release=release_to_proto(account)).SerializeToString()


def _header(release: Release) -> pb.Release:
    return pb.Release(
        release_id=release.release_id,
        model=release.model,
        champion_version=release.champion_version,
        challenger_version=release.challenger_version,
        strategy=_STRATEGIES[release.strategy],
        phase=_PHASES[release.phase],
        challenger_weight=release.challenger_weight,
        started_by=release.started_by,
        reason=release.reason,
        started_at=to_proto(release.started_at),
        ended_at=to_proto(release.ended_at) if release.ended_at else None,
    )


def _transition(transition: Transition) -> pb.Transition:
    return pb.Transition(
        processed_at=to_proto(transition.processed_at),
        event_time=to_proto(transition.event_time) if transition.event_time else None,
        phase=_PHASES[transition.phase],
        challenger_weight=transition.challenger_weight,
        actor=transition.actor,
        why=transition.why,
        evidence_json=transition.evidence_json,
    )
