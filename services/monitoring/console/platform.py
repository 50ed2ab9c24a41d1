"""What the other processes say of themselves: readiness and metrics, the split, the training runs.

Each is asked over loopback while the console runs; one that does not answer is shown as such and waited for by nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import grpc
import httpx
from prometheus_client.parser import text_string_to_metric_families

from services.chassis.errors import SlipwayError
from services.chassis.lifecycle import Lifecycle
from services.contracts.training.v1 import training_pb2, training_pb2_grpc
from services.monitoring.console.router_client import RouterClient, Split

WATCHED_S, UNWATCHED_S = 2.0, 10.0
_STILL_WATCHED_S = 15.0
_HISTORY_S = 600.0
_TIMEOUT_S = 2.0

SILENT = "does not answer"

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Process:
    """One process. `problem` is "" when it is ready; `samples` are its own metrics by (name, labels)."""

    problem: str
    samples: tuple[tuple[str, Labels, float], ...] = ()

    def sum(self, name: str, **labels: str) -> float | None:
        """The sum of the samples of that name whose labels match; None if it has none."""
        wanted = labels.items()
        found = [value for sample, of, value in self.samples if sample == name and wanted <= of.items()]
        return sum(found) if found else None

    def each(self, name: str, label: str) -> dict[str, float]:
        """The samples of that name by one label."""
        return {of.get(label, ""): value for sample, of, value in self.samples if sample == name}


@dataclass(slots=True)
class Series:
    """A counter over the last ten minutes: (monotonic seconds, value)."""

    points: deque[tuple[float, float]] = field(default_factory=deque)

    def add(self, at: float, value: float) -> None:
        """Appends a reading and forgets those older than ten minutes."""
        if self.points and value < self.points[-1][1]:
            self.points.clear()
        self.points.append((at, value))
        while at - self.points[0][0] > _HISTORY_S:
            self.points.popleft()

    @property
    def rates(self) -> list[float]:
        """Growth per second between readings, oldest first."""
        pairs = zip(self.points, list(self.points)[1:], strict=False)
        return [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairs if b[0] > a[0]]

    def rate(self, over_s: float = 10.0) -> float | None:
        """Growth per second over the last seconds; None until there are two readings."""
        if len(self.points) < 2:
            return None
        at, value = self.points[-1]
        before = next((p for p in reversed(self.points) if at - p[0] >= over_s), self.points[0])
        return (value - before[1]) / (at - before[0]) if at > before[0] else None


class Platform:
    """The last answers of everybody. Lives in the event loop."""

    def __init__(self, ops: Mapping[str, str], training: str, router: RouterClient) -> None:
        self._ops = dict(ops)
        self._http = httpx.AsyncClient(timeout=_TIMEOUT_S)
        self._channel = grpc.aio.insecure_channel(training)
        self._training = training_pb2_grpc.TrainingServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._router = router
        self._watched_at = float("-inf")
        self._counters: dict[str, Callable[[], float | None]] = {}
        self.processes: dict[str, Process] = {}
        self.series: dict[str, Series] = {}
        self.split: Split | None = None
        self.split_problem = "the router was not asked yet"
        self.runs: list[training_pb2.Run] | None = None

    def track(self, name: str, reading: Callable[[], float | None]) -> None:
        """Keeps ten minutes of a counter under `name`."""
        self._counters[name] = reading
        self.series[name] = Series()

    def watch(self) -> None:
        """Somebody looks: ask more often for a while."""
        self._watched_at = time.monotonic()

    @property
    def watched(self) -> bool:
        """Whether somebody looked lately."""
        return time.monotonic() - self._watched_at < _STILL_WATCHED_S

    async def follow(self, lifecycle: Lifecycle) -> None:
        """Asks everybody until the process stops."""
        while not lifecycle.stopping.is_set():
            await self.refresh()
            for _ in range(int(UNWATCHED_S / WATCHED_S)):
                await asyncio.sleep(WATCHED_S)
                if self.watched:
                    break

    async def refresh(self) -> None:
        """Asks everybody once."""
        answers = await asyncio.gather(*(self._ask(address) for address in self._ops.values()))
        self.processes = dict(zip(self._ops, answers, strict=True))
        await asyncio.gather(self._ask_router(), self._ask_training())
        for name, reading in self._counters.items():
            value = reading()
            if value is not None:
                self.series[name].add(time.monotonic(), value)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()
        await self._channel.close()

    async def _ask(self, address: str) -> Process:
        try:
            ready = await self._http.get(f"http://{address}/ready")
            metrics = await self._http.get(f"http://{address}/metrics")
            waiting = {} if ready.is_success else ready.json().get("waiting_for", {})
        except (httpx.HTTPError, ValueError):
            return Process(f"{SILENT} on {address}")
        problem = "; ".join(f"{part} ({why})" for part, why in waiting.items())
        return Process(problem, _own_samples(metrics.text))

    async def _ask_router(self) -> None:
        try:
            self.split, self.split_problem = await self._router.split(), ""
        except SlipwayError as error:
            self.split, self.split_problem = None, str(error)

    async def _ask_training(self) -> None:
        try:
            answer = await self._training.ListRuns(training_pb2.ListRunsRequest(), timeout=_TIMEOUT_S)
            self.runs = list(answer.runs)
        except grpc.aio.AioRpcError:
            self.runs = None


def _own_samples(exposition: str) -> tuple[tuple[str, Labels, float], ...]:
    """The samples named slipway_*, without histogram buckets; the rest is not worth parsing."""
    lines = (line for line in exposition.splitlines() if line.startswith("slipway_") and "_bucket{" not in line)
    families = text_string_to_metric_families("\n".join(lines) + "\n")
    return tuple((s.name, s.labels, s.value) for family in families for s in family.samples)
