"""What the platform tells over gRPC while the demo plays, and what the demo asks of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import grpc

from deploy.local.ports import Ports, address
from services.chassis.clock import to_proto
from services.chassis.errors import SlipwayError, Unavailable
from services.contracts.monitoring.v1 import monitoring_pb2, monitoring_pb2_grpc
from services.contracts.router.v1 import router_pb2, router_pb2_grpc
from services.contracts.training.v1 import training_pb2, training_pb2_grpc

T = TypeVar("T")

_TIMEOUT_S = 10.0
_LOOK_EVERY_S = 0.25
_GOING_ON = (training_pb2.RUN_STATE_QUEUED, training_pb2.RUN_STATE_RUNNING)
_OPEN = (router_pb2.PHASE_PENDING, router_pb2.PHASE_RUNNING, router_pb2.PHASE_PAUSED)


@dataclass(frozen=True, slots=True)
class Chronicle:
    """What happened: runs, releases and triggers, each oldest first."""

    runs: Sequence[training_pb2.Run]
    releases: Sequence[router_pb2.Release]
    triggers: Sequence[monitoring_pb2.Trigger]


class PlatformClient:
    """Training, router and monitoring of one platform. Every method raises Unavailable if one does not answer."""

    def __init__(self, training: grpc.Channel, router: grpc.Channel, monitoring: grpc.Channel) -> None:
        self._training = training_pb2_grpc.TrainingServiceStub(training)  # type: ignore[no-untyped-call]
        self._router = router_pb2_grpc.RouterServiceStub(router)  # type: ignore[no-untyped-call]
        self._monitoring = monitoring_pb2_grpc.MonitoringServiceStub(monitoring)  # type: ignore[no-untyped-call]

    def chronicle(self) -> Chronicle:
        """Everything so far."""
        runs = _told(self._training.ListRuns, training_pb2.ListRunsRequest()).runs
        releases = _told(self._router.ListReleases, router_pb2.ListReleasesRequest()).releases
        triggers = _told(self._monitoring.ListTriggers, monitoring_pb2.ListTriggersRequest()).triggers
        return Chronicle(runs[::-1], releases[::-1], triggers[::-1])

    def counts(self) -> monitoring_pb2.GetCountsResponse:
        """Where the predictions stand."""
        found: monitoring_pb2.GetCountsResponse = _told(self._monitoring.GetCounts, monitoring_pb2.GetCountsRequest())
        return found

    def split(self) -> router_pb2.GetSplitResponse:
        """Who serves."""
        found: router_pb2.GetSplitResponse = _told(self._router.GetSplit, router_pb2.GetSplitRequest())
        return found

    def train(self, model: str, since: datetime, until: datetime, reason: str, name: str) -> str:
        """A run over moments in [since, until); its id. One that goes on or was registered is not asked for again."""
        asked_as = f"{name}-{model}-{until:%Y%m%dT%H%M}"
        before = [run for run in self.chronicle().runs if run.request.request_id.startswith(asked_as)]
        if before and before[-1].state not in (training_pb2.RUN_STATE_REFUSED, training_pb2.RUN_STATE_ERROR):
            return before[-1].run_id
        request = training_pb2.RetrainRequest(
            request_id=f"{asked_as}-{len(before) + 1}", model=model, reason=reason, requested_by=name
        )
        getattr(request, "from").CopyFrom(to_proto(since))
        request.to.CopyFrom(to_proto(until))
        request.requested_at.CopyFrom(to_proto(until))
        run_id: str = _told(self._training.StartRun, training_pb2.StartRunRequest(request=request)).run_id
        return run_id

    def run(self, run_id: str) -> training_pb2.Run:
        """A run as it is now."""
        found: training_pb2.Run = _told(self._training.GetRun, training_pb2.GetRunRequest(run_id=run_id)).run
        return found

    def wait_for_run(self, run_id: str, tell: Callable[[str], None], timeout_s: float) -> training_pb2.Run:
        """The run once it has ended; `tell` hears of its stages. Raises Unavailable after `timeout_s`."""

        def ended() -> training_pb2.Run | None:
            now = self.run(run_id)
            tell(f"{now.stage}: {now.detail}" if now.detail else now.stage)
            return None if now.state in _GOING_ON else now

        return _wait(ended, f"training run {run_id} has not ended", timeout_s)

    def wait_for_champion(self, version: str, timeout_s: float) -> None:
        """Returns when `version` is the champion and its release is over. Raises Unavailable after `timeout_s`."""

        def serves() -> bool:
            return self.split().champion_version == version and not self.release_in_progress()

        _wait(serves, f"version {version} is not the champion", timeout_s)

    def release_in_progress(self) -> bool:
        """Whether a release is pending, running or paused."""
        return any(each.phase in _OPEN for each in self.chronicle().releases)

    def going_on(self) -> str:
        """What event time should wait for, in words: a requested training, or a version that is being loaded.

        Both take the same wall time whatever the speed of the replay; a year in minutes would give them weeks.
        """
        now = self.chronicle()
        known = {run.request.request_id for run in now.runs}
        released = {release.challenger_version for release in now.releases}
        waits = [
            f"request {each.request_id} to reach training" for each in now.triggers if each.request_id not in known
        ]
        waits += [f"training run {run.run_id}: {run.stage} {run.detail}" for run in now.runs if run.state in _GOING_ON]
        waits += [
            f"a release of version {run.model_version}"
            for run in now.runs
            if run.model_version and run.model_version not in released
        ]
        waits += [
            f"release of version {each.challenger_version}: {each.waiting_for}"
            for each in now.releases
            if each.phase in _OPEN and not each.challenger_weight
        ]
        return "; ".join(waits)


@contextmanager
def platform_client(ports: Ports) -> Iterator[PlatformClient]:
    """Clients of the platform on these ports."""
    numbers = (ports.training_grpc, ports.router_grpc, ports.monitoring_grpc)
    channels = [grpc.insecure_channel(address(port), options=[("grpc.enable_http_proxy", 0)]) for port in numbers]
    try:
        yield PlatformClient(*channels)
    finally:
        for channel in channels:
            channel.close()


def _told(call: Callable[..., T], request: object) -> T:
    try:
        return call(request, timeout=_TIMEOUT_S, wait_for_ready=True)
    except grpc.RpcError as error:
        code = getattr(error, "code", lambda: None)()
        cause = (
            Unavailable if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED) else SlipwayError
        )
        raise cause(f"the platform refused or did not answer: {error}. `slipway status` tells more") from error


def _wait(look: Callable[[], T | None], otherwise: str, timeout_s: float) -> T:
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        if time.monotonic() > deadline:
            raise Unavailable(f"{otherwise} after {timeout_s:.0f} s; `slipway status` and `slipway logs` tell more")
        time.sleep(_LOOK_EVERY_S)
    return found
