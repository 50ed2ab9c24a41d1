"""The peers: what each needs, how it is started, and how it is asked. Versions and switches are part of the result."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadtests.ceilings.contenders import HTTP1
from loadtests.ceilings.h2load import Call, Shape
from loadtests.ceilings.model import OUTPUT, Served, vectors
from loadtests.ceilings.requests import (
    Reader,
    binary_call,
    grpc_call,
    json_call,
    read_binary,
    read_grpc,
    read_v2_json,
    v2_json_call,
    vector_request,
)
from services.chassis.errors import Unavailable

MODELS = Path(__file__).parent / "models"
ONNXRUNTIME = "onnxruntime==1.32.0"
MLSERVER_GRPC, MLSERVER_REST = "MLServer, gRPC", "MLServer, REST V2"
KSERVE_GRPC, KSERVE_REST, KSERVE_BINARY = "KServe, gRPC", "KServe, REST V2", "KServe, REST V2 binary"
TRITON = "Triton, Python backend, gRPC"
LITSERVE, BENTOML, MLFLOW = "LitServe, HTTP", "BentoML, HTTP", "mlflow models serve, HTTP"


@dataclass(frozen=True, slots=True)
class Site:
    """What a peer finds: its interpreter, a folder of its own, the model, and ports that nobody has."""

    python: Path
    folder: Path
    model: Served
    grpc_port: int
    http_port: int

    @property
    def grpc(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def http(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.http_port}"

    @property
    def vector(self) -> NDArray[np.float32]:
        """The one row that all are asked about."""
        return vectors(1, self.model.width)

    @property
    def environment(self) -> dict[str, str]:
        """What the files in `models/` read."""
        return {
            "PYTHONPATH": str(MODELS),
            "PATH": f"{self.python.parent}:/usr/local/bin:/usr/bin:/bin",
            "PEER_MODEL": self.model.name,
            "PEER_ONNX": str(self.model.onnx),
            "PEER_GRPC_PORT": str(self.grpc_port),
            "PEER_HTTP_PORT": str(self.http_port),
        }

    def program(self, name: str) -> str:
        """A script of the environment."""
        return str(self.python.parent / name)

    def inference(self) -> Call:
        """The same bytes over gRPC for all who speak the protocol."""
        return grpc_call(self.grpc, vector_request(self.model.name, self.vector))


@dataclass(frozen=True, slots=True)
class Way:
    """One way to ask a peer: a row of the table."""

    name: str
    call: Call
    read: Reader
    shape: Shape = field(default_factory=Shape)


@dataclass(frozen=True, slots=True)
class Start:
    """How it is started in its folder."""

    command: Sequence[str]
    ways: Sequence[Way]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Peer:
    """`start` writes what the peer wants to find."""

    name: str
    requirements: tuple[str, ...]
    start: Callable[[Site], Start]


def mlserver(site: Site, runtime: str) -> list[str]:
    """Its command for a runtime of `models/`, without worker processes: they cost it half of what it can do."""
    settings = {
        "host": "127.0.0.1",
        "grpc_port": site.grpc_port,
        "http_port": site.http_port,
        "metrics_endpoint": None,
        "parallel_workers": 0,
        "debug": False,
    }
    (site.folder / "settings.json").write_text(json.dumps(settings))
    described = {"name": site.model.name, "implementation": runtime}
    (site.folder / "model-settings.json").write_text(json.dumps(described))
    return [site.program("mlserver"), "start", "."]


def _mlserver(site: Site) -> Start:
    ways = [
        Way(MLSERVER_GRPC, site.inference(), read_grpc),
        Way(MLSERVER_REST, v2_json_call(site.http, site.model.name, site.vector), read_v2_json, HTTP1),
    ]
    return Start(mlserver(site, "mlserver_model.Runtime"), ways)


def _kserve(site: Site) -> Start:
    name, vector = site.model.name, site.vector
    ways = [
        Way(KSERVE_GRPC, site.inference(), read_grpc),
        Way(KSERVE_REST, v2_json_call(site.http, name, vector), read_v2_json, HTTP1),
        Way(KSERVE_BINARY, binary_call(site.http, name, vector), read_binary, HTTP1),
    ]
    return Start([str(site.python), str(MODELS / "kserve_server.py")], ways)


def _triton(site: Site) -> Start:
    """The binary that nvidia-pytriton carries, without PyTriton's own proxy; its batcher on."""
    installed = _site_packages(site)
    server = installed / "pytriton" / "tritonserver"
    backends, version = site.folder / "backends", f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copytree(server / "backends", backends)
    shutil.copy(server / "python_backend_stubs" / version / "triton_python_backend_stub", backends / "python")
    repository = site.folder / "repository" / site.model.name
    (repository / "1").mkdir(parents=True)
    # Its stub takes modules from the model's folder and from the PATH's environment; it reads no PYTHONPATH.
    shutil.copy(MODELS / "triton_model.py", repository / "1" / "model.py")
    shutil.copy(MODELS / "onnx_model.py", repository / "1")
    (repository / "config.pbtxt").write_text(_TRITON_CONFIG % {"width": site.model.width})
    command = [
        *(str(server / "bin" / "tritonserver"), "--model-repository", str(repository.parent)),
        *("--backend-directory", str(backends), "--grpc-port", str(site.grpc_port), "--grpc-address", "127.0.0.1"),
        *("--allow-http", "false", "--allow-metrics", "false", "--log-verbose", "0"),
    ]
    # Else it takes the system's Python library for this interpreter's.
    libraries = [installed / "nvidia_pytriton.libs", Path(sys.base_prefix) / "lib"]
    environment = {"LD_LIBRARY_PATH": ":".join(map(str, libraries))}
    return Start(command, [Way(TRITON, site.inference(), read_grpc)], environment)


_TRITON_CONFIG = """\
backend: "python"
max_batch_size: 256
input [{ name: "features" data_type: TYPE_FP32 dims: [%(width)d] }]
output [{ name: "probability" data_type: TYPE_FP32 dims: [1] }]
instance_group [{ count: 1 kind: KIND_CPU }]
dynamic_batching { }
"""


def _litserve(site: Site) -> Start:
    call = json_call(f"http://{site.http}/predict", {"features": site.vector.tolist()})
    return Start([str(site.python), str(MODELS / "litserve_server.py")], [Way(LITSERVE, call, _read_output, HTTP1)])


def _bentoml(site: Site) -> Start:
    shutil.copy(MODELS / "bentoml_service.py", site.folder)
    call = json_call(f"http://{site.http}/predict", {"features": site.vector.tolist()})
    command = [
        *(site.program("bentoml"), "serve", "bentoml_service:Served"),
        *("--host", "127.0.0.1", "--port", str(site.http_port)),
    ]
    environment = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(site.folder / "home")}
    return Start(command, [Way(BENTOML, call, _read_output, HTTP1)], environment)


def _mlflow(site: Site) -> Start:
    """One worker; the flavour gives back a column for each output."""
    saved = site.folder / "model"
    save = [str(site.python), str(MODELS / "save_for_mlflow.py"), str(saved)]
    done = subprocess.run(save, env=site.environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"mlflow: the model could not be saved: {done.stderr[-800:]}")
    call = json_call(f"http://{site.http}/invocations", {"inputs": site.vector.tolist()})
    command = [
        *(site.program("mlflow"), "models", "serve", "--model-uri", str(saved), "--env-manager", "local"),
        *("--host", "127.0.0.1", "--port", str(site.http_port), "--workers", "1"),
    ]
    return Start(command, [Way(MLFLOW, call, _read_predictions, HTTP1)], {"MLFLOW_DISABLE_TELEMETRY": "true"})


MLSERVER = Peer("mlserver", ("mlserver==1.7.1", "uvloop==0.21.0", "protobuf<7", ONNXRUNTIME), _mlserver)
PEERS = (
    MLSERVER,
    Peer("kserve", ("kserve==0.21.0", ONNXRUNTIME), _kserve),
    Peer("triton", ("nvidia-pytriton==0.7.0", ONNXRUNTIME), _triton),
    Peer("litserve", ("litserve==0.2.19", "numpy", ONNXRUNTIME), _litserve),
    Peer("bentoml", ("bentoml==1.4.39", "numpy", ONNXRUNTIME), _bentoml),
    Peer("mlflow", ("mlflow==3.17.2", "onnx==1.23.2", ONNXRUNTIME), _mlflow),
)


def _site_packages(site: Site) -> Path:
    (found,) = (site.python.parents[1] / "lib").glob("python*/site-packages")
    return found


def _read_output(content: bytes) -> NDArray[np.float32]:
    return np.array(json.loads(content)[OUTPUT], np.float32)


def _read_predictions(content: bytes) -> NDArray[np.float32]:
    return np.array(json.loads(content)["predictions"][OUTPUT], np.float32)
