"""How many predictions a second the platform can give, asked by a generator that costs nearly nothing (h2load).

`python -m loadtests.ceilings`: against Envoy and against inference itself in turns, so that what drifts meets both;
medians over the rounds, and the CPU that each process spent on a request. One request is sent over and over: the same
entity at the same moment, under one id.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated
from urllib.request import ProxyHandler, build_opener

import grpc
import typer
from rich.console import Console
from rich.table import Table

from deploy.local.home import local_feature_repo
from deploy.local.ports import address
from deploy.local.processes import Platform, local_platform
from deploy.local.supervise import status
from loadtests.journeys import questions
from loadtests.replay.client import CHANNEL, INFER, METADATA, ROUTING_KEY, RequestForm
from loadtests.replay.command import FLIGHTS, load_source
from services.chassis.clock import from_proto
from services.chassis.errors import SlipwayError, Unavailable
from services.contracts.features.v1 import features_pb2, features_pb2_grpc
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.problem import load_recipe

PROCESSES = ("envoy", "inference-champion", "inference-challenger", "features", "redis", "kafka")
_TIMEOUT_S = 10.0
_ANSWERED = re.compile(r'^slipway_inference_requests_total\{code="OK"\} (\S+)$', re.MULTILINE)
_RATE = re.compile(r"finished in \S+, ([\d.]+) req/s")


@dataclass(frozen=True, slots=True)
class Round:
    """One run of h2load: predictions a second, and CPU microseconds a request by process."""

    per_second: float
    cpu_us: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Load:
    """How h2load asks."""

    requests: int
    connections: int
    streams: int


def ceilings(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each target.")] = 3,
    requests: Annotated[int, typer.Option(min=1, help="Requests of a round.")] = 5000,
    connections: Annotated[int, typer.Option(min=1)] = 4,
    streams: Annotated[int, typer.Option(min=1, help="Calls in flight on each connection.")] = 16,
    source: Annotated[str, typer.Option(help="module:function that returns the source of events.")] = FLIGHTS,
) -> None:
    """Predictions per second through Envoy and of inference itself, and what each process spends on one."""
    platform, load = local_platform(), Load(requests, connections, streams)
    targets = {
        "through Envoy": address(platform.ports.envoy),
        "inference itself": address(platform.ports.inference_champion_grpc),
    }
    measured: dict[str, list[Round]] = {name: [] for name in targets}
    try:
        with tempfile.NamedTemporaryFile(suffix=".grpc") as body:
            body.write(framed(_request(platform, source)))
            body.flush()
            for _ in range(rounds):
                for name, target in targets.items():
                    measured[name].append(_measure(platform, target, Path(body.name), load))
    except (SlipwayError, grpc.RpcError) as error:
        Console(stderr=True).print(str(error), style="red", highlight=False)
        raise typer.Exit(1) from error
    Console().print(_table(measured))


def framed(message: bytes) -> bytes:
    """A gRPC message as it is on the wire: not compressed, its length, itself."""
    return struct.pack(">BI", 0, len(message)) + message


def read_rate(output: str) -> float:
    """Requests a second, from what h2load prints. Raises Unavailable if it did not get through."""
    found = _RATE.search(output)
    if found is None:
        raise Unavailable(f"h2load measured nothing:\n{output[-1000:]}")
    return float(found.group(1))


def _request(platform: Platform, source: str) -> bytes:
    """A real question of the problem, as of the features' present moment."""
    features = grpc.insecure_channel(address(platform.ports.features_grpc), options=CHANNEL)
    stub = features_pb2_grpc.FeaturesServiceStub(features)  # type: ignore[no-untyped-call]
    answer = stub.GetWatermark(features_pb2.GetWatermarkRequest(), timeout=_TIMEOUT_S)
    as_of = from_proto(answer.watermark) if answer.HasField("watermark") else None
    (question,) = questions(load_source(source), local_feature_repo(), 1, as_of)
    describe = grpc.insecure_channel(address(platform.ports.envoy), options=CHANNEL).unary_unary(
        METADATA, v2.ModelMetadataRequest.SerializeToString, v2.ModelMetadataResponse.FromString
    )
    model = load_recipe(local_feature_repo()).name
    return RequestForm(describe(v2.ModelMetadataRequest(name=model), timeout=_TIMEOUT_S)).fill(question)


def _measure(platform: Platform, target: str, body: Path, load: Load) -> Round:
    pids = {each.name: each.pid for each in status(platform) if each.name in PROCESSES and each.pid is not None}
    answered, cpu_s = _answered(platform), {name: _cpu_s(pid) for name, pid in pids.items()}
    rate = read_rate(h2load(target, body, load))
    spent_us = {name: (_cpu_s(pid) - cpu_s[name]) * 1e6 / load.requests for name, pid in pids.items()}
    # h2load sees HTTP's 200 also where gRPC's trailers say that the call failed: inference knows what it answered.
    if _answered(platform) - answered != load.requests:
        raise Unavailable(f"{target}: of {load.requests} requests {_answered(platform) - answered} were answered")
    return Round(rate, spent_us)


def h2load(target: str, body: Path, load: Load) -> str:
    """Sends the framed request in `body` over and over; what h2load printed. Raises Unavailable if it is not there."""
    program = shutil.which("h2load")
    if program is None:
        raise Unavailable("h2load is not installed; apt-get install nghttp2-client")
    command = [
        *(program, "-n", str(load.requests), "-c", str(load.connections), "-m", str(load.streams), "-t", "1"),
        *("-d", str(body), "-H", "content-type: application/grpc", "-H", "te: trailers"),
        *("-H", f"{ROUTING_KEY}: ceilings", f"http://{target}{INFER}"),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _answered(platform: Platform) -> int:
    """Calls that both deployments have answered since they started."""
    ports = (platform.ports.inference_champion_ops, platform.ports.inference_challenger_ops)
    found = [_ANSWERED.search(_metrics(port)) for port in ports]
    return sum(int(float(match.group(1))) for match in found if match is not None)


def _metrics(port: int) -> str:
    try:
        with build_opener(ProxyHandler({})).open(f"http://{address(port)}/metrics", timeout=_TIMEOUT_S) as answer:
            text: str = answer.read().decode()
            return text
    except OSError as error:
        raise Unavailable(f"{address(port)} does not answer ({error}); is the platform up?") from error


def _cpu_s(pid: int) -> float:
    """User and system time of a process, seconds (proc(5), fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _table(measured: Mapping[str, Sequence[Round]]) -> Table:
    table = Table(title="Medians over the rounds")
    for name in ("", "predictions/s", *(f"{process}, CPU-µs" for process in PROCESSES)):
        table.add_column(name, justify="right" if name else "left")
    for target, rounds in measured.items():
        spent = [f"{median(each.cpu_us.get(process, 0.0) for each in rounds):.0f}" for process in PROCESSES]
        table.add_row(target, f"{median(each.per_second for each in rounds):.0f}", *spent)
    return table


if __name__ == "__main__":
    typer.run(ceilings)
