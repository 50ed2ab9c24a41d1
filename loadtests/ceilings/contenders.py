"""Who takes part: the reference, each way into inference, and the same through Envoy."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploy.local.ports import address
from deploy.local.probes import tcp_open
from loadtests.ceilings.h2load import Call, Shape
from loadtests.ceilings.model import Served, run, vectors
from loadtests.ceilings.platform import Running, second_envoy
from loadtests.ceilings.processes import free_port, started, wait_ready
from loadtests.ceilings.requests import Reader, binary_call, grpc_call, read_binary, read_grpc, vector_request
from loadtests.ceilings.rounds import Contender, InProcess, Server

REFERENCE = "grpc.aio, 30 lines"
GRPC, FAST = "inference, grpcio", "inference, fast lane"
ENVOY, ENVOY_GRPC = "Envoy + inference", "Envoy + inference, fast lane off"
REST = "inference, REST V2 binary"
IN_PROCESS_100, GRPC_100, FAST_100 = "100 rows, session.run", "100 rows, grpcio", "100 rows, fast lane"
ENTITY_GRPC, ENTITY_FAST = "entity call, grpcio", "entity call, fast lane"

HTTP1 = Shape(32, 1)
"""As much in flight over HTTP/1.1, which has one call at a time on a connection."""

_HUNDRED, _READY_S = 100, 30.0


@dataclass(frozen=True, slots=True)
class Cores:
    """One for what is measured, one for the generator and all else; None: nothing is pinned."""

    server: int | None
    generator: int | None


@contextmanager
def reference(model: Served, cores: Cores, folder: Path) -> Iterator[Server]:
    """The plain server over the model, on the core of all that is measured; `folder` gets its log."""
    port = free_port()
    command = [sys.executable, "-m", "loadtests.ceilings.reference", str(model.onnx), str(port)]
    with started("reference", command, environment={}, core=cores.server, folder=folder) as process:
        wait_ready("reference", process, tcp_open(port), _READY_S, folder)
        rows = vectors(1, model.width)
        yield Server(
            REFERENCE,
            grpc_call(address(port), vector_request(model.name, rows)),
            read_grpc,
            run(model.onnx.read_bytes(), rows),
            {"reference": process.pid},
            generator_core=cores.generator,
        )


class Field:
    """Makes the contenders of one platform."""

    def __init__(self, platform: Running, cores: Cores) -> None:
        self._platform = platform
        self._model = platform.model
        self._cores = cores
        self._onnx = platform.model.onnx.read_bytes()
        self._one = vectors(1, platform.model.width)

    def vectors(self) -> list[Contender]:
        """One row, over each gRPC port that the champion has, and through Envoy."""
        champion = self._platform.pids_of("inference-champion")
        lanes = self._lanes({"grpc": GRPC, "fast": FAST})
        return [
            *(self._grpc(name, at, self._one, champion) for name, at in lanes),
            self._through_envoy(ENVOY, self._platform.platform.ports.envoy, self._platform.pids["envoy"]),
        ]

    @contextmanager
    def envoy_without_fast_lane(self) -> Iterator[list[Contender]]:
        """A second Envoy with the same split that sends all to grpcio; none if that is what the first one does."""
        if not self._lanes({"fast": FAST}):
            yield []
            return
        with second_envoy(self._platform.platform, self._cores.server) as (port, pid):
            yield [self._through_envoy(ENVOY_GRPC, port, pid)]

    def rest(self) -> list[Contender]:
        """REST V2 with binary data, if the champion has HTTP."""
        champion = self._platform.pids_of("inference-champion")
        return [
            self._server(
                name, binary_call(at, self._model.name, self._one), read_binary, self._one, champion, shape=HTTP1
            )
            for name, at in self._lanes({"http": REST})
        ]

    def hundred(self) -> list[Contender]:
        """A hundred rows in one call, and onnxruntime alone."""
        rows = vectors(_HUNDRED, self._model.width)
        champion = self._platform.pids_of("inference-champion")
        return [
            InProcess(IN_PROCESS_100, self._model.onnx, _HUNDRED, self._cores.server),
            *(
                self._grpc(name, at, rows, champion, one_at_a_time=False)
                for name, at in self._lanes({"grpc": GRPC_100, "fast": FAST_100})
            ),
        ]

    def entities(self) -> list[Contender]:
        """Keys in, features fetched: inference, features and Redis together."""
        together = self._platform.pids_of("inference-champion", "features", "redis")
        return [
            self._server(
                name, grpc_call(at, self._platform.entity_request), read_grpc, self._platform.entity_vector, together
            )
            for name, at in self._lanes({"grpc": ENTITY_GRPC, "fast": ENTITY_FAST})
        ]

    def _through_envoy(self, name: str, port: int, pid: int) -> Server:
        both = self._platform.pids_of("inference-champion", "inference-challenger")
        return self._grpc(name, address(port), self._one, {"envoy": pid} | both)

    def _lanes(self, names: dict[str, str]) -> list[tuple[str, str]]:
        """Names with addresses, of the kinds of ports that the champion has and listens on."""
        found = []
        for kind, name in names.items():
            port = self._platform.platform.ports.of("inference-champion").get(kind)
            if port is not None and tcp_open(port)() is None:
                found.append((name, address(port)))
        return found

    def _grpc(
        self, name: str, at: str, rows: NDArray[np.float32], pids: Mapping[str, int], *, one_at_a_time: bool = True
    ) -> Server:
        call = grpc_call(at, vector_request(self._model.name, rows))
        return self._server(name, call, read_grpc, rows, pids, one_at_a_time=one_at_a_time)

    def _server(
        self,
        name: str,
        call: Call,
        read: Reader,
        rows: NDArray[np.float32],
        pids: Mapping[str, int],
        *,
        shape: Shape | None = None,
        one_at_a_time: bool = True,
    ) -> Server:
        return Server(
            name,
            call,
            read,
            run(self._onnx, rows),
            pids,
            shape=shape or Shape(),
            generator_core=self._cores.generator,
            one_at_a_time=one_at_a_time,
        )
