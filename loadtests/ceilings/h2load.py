"""h2load, the native generator: sends one request over and over, and what came back, counted to the byte."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.ceilings.cores import pinned
from services.chassis.errors import Unavailable

_RATE = re.compile(r"finished in \S+, ([\d.]+) req/s")
_REQUESTS = re.compile(r"requests: (\d+) total")
_GOOD = re.compile(r"status codes: (\d+) 2xx")
_BODY_BYTES = re.compile(r"traffic:.* \((\d+)\) data$", re.MULTILINE)
_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Call:
    """What is sent: the body as it is on the wire (gRPC's frame included), and to where."""

    url: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    http1: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """How much is in flight: calls at the same time on each of the connections."""

    connections: int = 8
    streams: int = 4

    @property
    def in_flight(self) -> int:
        """Calls at the same time, in all."""
        return self.connections * self.streams


ONE_AT_A_TIME = Shape(1, 1)


@dataclass(frozen=True, slots=True)
class Answered:
    """What h2load saw. `good` have a 2xx status, which a failed gRPC call has too; its body has no bytes."""

    per_second: float
    requests: int
    good: int
    body_bytes: int

    def misses(self, reply_bytes: int) -> str:
        """How the replies differ from as many of `reply_bytes` each; "" if they do not."""
        if self.good != self.requests:
            return f"{self.requests - self.good} of {self.requests} calls failed"
        expected = self.requests * reply_bytes
        if self.body_bytes != expected:
            return f"the replies have {self.body_bytes} bytes, {self.requests} right ones have {expected}"
        return ""


def require() -> str:
    """The program. Raises Unavailable, saying how to get it."""
    program = shutil.which("h2load")
    if program is None:
        raise Unavailable("h2load is not installed; Debian: apt-get install nghttp2-client")
    return program


def framed(message: bytes) -> bytes:
    """A gRPC message as it is on the wire: not compressed, its length, itself."""
    return struct.pack(">BI", 0, len(message)) + message


def send(call: Call, requests: int, shape: Shape, core: int | None = None) -> Answered:
    """Sends `requests` calls from one core. Raises Unavailable if they did not get through."""
    with tempfile.TemporaryDirectory(prefix="slipway-h2load-") as folder:
        return read(_run(call, requests, shape, core, Path(folder)))


def latencies_us(call: Call, requests: int, core: int | None = None) -> tuple[Answered, list[int]]:
    """The same one call at a time, and how long each took, in microseconds."""
    with tempfile.TemporaryDirectory(prefix="slipway-h2load-") as folder:
        log = Path(folder) / "log"
        answered = read(_run(call, requests, ONE_AT_A_TIME, core, Path(folder), "--log-file", str(log)))
        return answered, read_log(log.read_text())


def read(output: str) -> Answered:
    """What h2load prints. Raises Unavailable if it did not get through."""
    rate, requests = _RATE.search(output), _REQUESTS.search(output)
    good, body_bytes = _GOOD.search(output), _BODY_BYTES.search(output)
    if not (rate and requests and good and body_bytes):
        raise Unavailable(f"h2load measured nothing:\n{output[-1000:]}")
    return Answered(float(rate[1]), int(requests[1]), int(good[1]), int(body_bytes[1]))


def read_log(log: str) -> list[int]:
    """Microseconds of each call, from h2load's log: when it began, HTTP's status, microseconds."""
    return [int(line.split("\t")[2]) for line in log.splitlines()]


def _run(call: Call, requests: int, shape: Shape, core: int | None, folder: Path, *more: str) -> str:
    body = folder / "body"
    body.write_bytes(call.body)
    command = pinned(core, _command(call, requests, shape, body, more))
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{call.url}: {requests} calls were not answered within {_TIMEOUT_S:.0f} s") from error
    return done.stdout + done.stderr


def _command(call: Call, requests: int, shape: Shape, body: Path, more: Sequence[str]) -> list[str]:
    headers = [part for name, value in call.headers.items() for part in ("-H", f"{name}: {value}")]
    return [
        *(require(), "-n", str(requests), "-c", str(shape.connections), "-m", str(shape.streams), "-t", "1"),
        *(("--h1",) if call.http1 else ()),
        *("-d", str(body), *headers, *more, call.url),
    ]
