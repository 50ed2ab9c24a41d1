"""Measuring in turns, A B A B …, so that what drifts meets all alike; medians over the rounds.

Before the first round and after the last each server's reply is compared with onnxruntime's; in between every reply
must have exactly that reply's bytes. A gRPC call that failed has none, so no error can hide.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deploy.local.home import REPOSITORY
from loadtests.ceilings import h2load
from loadtests.ceilings.cores import family_cpu_s, pinned, wait_at_rest
from loadtests.ceilings.h2load import Call, Shape
from loadtests.ceilings.requests import Reader, ask
from services.chassis.errors import Conflict, SlipwayError, Unavailable

TOLERANCE = 1e-5
"""Between a server's probability and onnxruntime's."""

_FIRST, _WARM_S = 64, 0.5
_ONE_AT_A_TIME_SHARE = 0.5

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sample:
    """One round. `cpu_us` is of a call; `busy` the share of one core; p50 and p99 are of calls one at a time."""

    per_second: float
    cpu_us: float | None = None
    busy: float | None = None
    p50_us: float | None = None
    p99_us: float | None = None
    parts_us: Mapping[str, float] = field(default_factory=dict)
    """What `cpu_us` is made of, by process."""


class Contender(Protocol):
    """What takes part."""

    @property
    def name(self) -> str:
        """Of its row."""

    @property
    def rows(self) -> int:
        """Of one call."""

    def prepare(self, seconds: float) -> None:
        """Checks the answer, warms up, and learns how many calls fill so many seconds."""

    def take(self) -> Sample:
        """One round."""

    def finish(self) -> None:
        """Checks the answer again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """All rounds of a contender, or why it has none (`failed`)."""

    name: str
    rows: int
    samples: Sequence[Sample] = ()
    failed: str = ""

    def median(self, what: str) -> float | None:
        """Of one of Sample's fields; None if it was not measured."""
        values = [getattr(sample, what) for sample in self.samples]
        return None if not values or None in values else median(values)

    def parts_us(self) -> dict[str, float]:
        """Medians of the processor time of a call, by process."""
        names = self.samples[0].parts_us if self.samples else ()
        return {name: median(sample.parts_us[name] for sample in self.samples) for name in names}

    def spread(self, what: str) -> tuple[float, float] | None:
        """The least and the most."""
        values = [getattr(sample, what) for sample in self.samples]
        return None if not values or None in values else (min(values), max(values))


@dataclass(slots=True)
class Server:
    """A contender that is asked by h2load. `pids`, by name: the processes whose families' time is its own."""

    name: str
    call: Call
    read: Reader
    expected: NDArray[np.float32]
    pids: Mapping[str, int]
    shape: Shape = field(default_factory=Shape)
    generator_core: int | None = None
    one_at_a_time: bool = True
    _requests: int = _FIRST
    _single_requests: int = _FIRST
    _reply_bytes: int = 0

    @property
    def rows(self) -> int:
        """Of one call."""
        return len(self.expected)

    def check(self) -> int:
        """Bytes of the reply. Raises Conflict if it is not onnxruntime's, Unavailable if there is none."""
        content, size = ask(self.call)
        found = np.asarray(self.read(content), np.float32).ravel()
        if found.shape != self.expected.shape or not np.allclose(found, self.expected, rtol=0, atol=TOLERANCE):
            raise Conflict(f"{self.name} answers {found[:3]}, onnxruntime says {self.expected[:3]}")
        return size

    def prepare(self, seconds: float) -> None:
        self._reply_bytes = self.check()
        rate = self._send(_FIRST).per_second
        rate = self._send(self._fill(rate, _WARM_S)).per_second
        self._requests = self._fill(rate, seconds)
        if self.one_at_a_time:
            answered, _ = h2load.latencies_us(self.call, _FIRST, self.generator_core)
            self._single_requests = max(_FIRST, int(answered.per_second * seconds * _ONE_AT_A_TIME_SHARE))

    def take(self) -> Sample:
        before = self._cpu_s()
        answered = self._send(self._requests)
        took_s = answered.requests / answered.per_second
        spent_s = sum(self._cpu_s().values()) - sum(before.values())
        wait_at_rest(self.pids.values())
        parts_us = {name: (now - before[name]) * 1e6 / answered.requests for name, now in self._cpu_s().items()}
        p50_us, p99_us = self._percentiles() if self.one_at_a_time else (None, None)
        return Sample(answered.per_second, sum(parts_us.values()), spent_s / took_s, p50_us, p99_us, parts_us)

    def finish(self) -> None:
        size = self.check()
        if size != self._reply_bytes:
            raise Conflict(f"{self.name}: the reply had {self._reply_bytes} bytes before and has {size} after the load")

    def _cpu_s(self) -> dict[str, float]:
        return {name: family_cpu_s(pid) for name, pid in self.pids.items()}

    def _percentiles(self) -> tuple[float, float]:
        answered, latencies = h2load.latencies_us(self.call, self._single_requests, self.generator_core)
        self._check_replies(answered)
        hundredths = quantiles(latencies, n=100)
        return hundredths[49], hundredths[98]

    def _fill(self, rate: float, seconds: float) -> int:
        """Calls of so many seconds; as many on each connection."""
        each = max(1, round(rate * seconds / self.shape.connections))
        return max(each * self.shape.connections, _FIRST)

    def _send(self, requests: int) -> h2load.Answered:
        answered = h2load.send(self.call, requests, self.shape, self.generator_core)
        self._check_replies(answered)
        return answered

    def _check_replies(self, answered: h2load.Answered) -> None:
        if missed := answered.misses(self._reply_bytes):
            raise Conflict(f"{self.name}: {missed}")


@dataclass(slots=True)
class InProcess:
    """onnxruntime itself in a process of its own, on the core that the servers have."""

    name: str
    onnx: Path
    rows: int
    core: int | None
    _seconds: float = 1.0

    def prepare(self, seconds: float) -> None:
        self._seconds = seconds

    def take(self) -> Sample:
        options = [str(self.onnx), str(self.rows), str(self._seconds)]
        command = pinned(self.core, [sys.executable, "-m", "loadtests.ceilings.in_process", *options])
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
        if done.returncode:
            raise Unavailable(f"{self.name}: {done.stderr[-500:]}")
        per_second, cpu_us = map(float, done.stdout.split())
        return Sample(per_second, cpu_us, per_second * cpu_us / 1e6)

    def finish(self) -> None:
        """There is no server that could have changed."""


def measure(contenders: Sequence[Contender], rounds: int, seconds: float, tell: Tell) -> list[Outcome]:
    """All of them in turns. One that fails is left out from then on, and its outcome says why."""
    failed: dict[str, str] = {}
    samples: dict[str, list[Sample]] = {contender.name: [] for contender in contenders}

    def attempt(contender: Contender, step: Callable[[], None]) -> None:
        if contender.name not in failed:
            try:
                step()
            except SlipwayError as error:
                failed[contender.name] = str(error)
                tell(f"{contender.name} failed: {error}")

    def take(contender: Contender) -> None:
        samples[contender.name].append(contender.take())

    for contender in contenders:
        tell(f"warm-up: {contender.name}")
        attempt(contender, lambda: contender.prepare(seconds))  # noqa: B023  called at once
    for number in range(rounds):
        for contender in contenders:
            tell(f"round {number + 1} of {rounds}: {contender.name}")
            attempt(contender, lambda: take(contender))  # noqa: B023  as above
    for contender in contenders:
        attempt(contender, contender.finish)
    return [
        Outcome(each.name, each.rows, () if each.name in failed else samples[each.name], failed.get(each.name, ""))
        for each in contenders
    ]
