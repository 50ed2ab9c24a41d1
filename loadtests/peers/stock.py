"""The stock parts for a call by keys: MLServer whose runtime asks `feast serve`, over the platform's own Redis.

It gets the same bytes as ours. Feast gives values as they were last written, not as of the moment, and nothing that is
computed from the request: so its answer is checked against onnxruntime on what Feast gives.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import yaml  # type: ignore[import-untyped]
from numpy.typing import NDArray

from deploy.local.ports import address
from deploy.local.probes import tcp_open
from loadtests.ceilings.contenders import Cores
from loadtests.ceilings.model import run
from loadtests.ceilings.platform import Running
from loadtests.ceilings.processes import free_port, started, wait_ready
from loadtests.ceilings.requests import grpc_call, read_grpc
from loadtests.ceilings.rounds import Server
from loadtests.peers.catalogue import MLSERVER, Site, mlserver
from loadtests.peers.environments import python_of
from services.chassis.errors import Unavailable
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2

STOCK = "entity call, MLServer + feast serve"
_READY_S, _TIMEOUT_S = 120.0, 10.0


@dataclass(frozen=True, slots=True)
class Question:
    """What Feast is asked: `view:feature` with its place in the vector, and the join keys' values."""

    features: dict[str, int]
    width: int
    keys: dict[str, str]


@contextmanager
def stock_parts(platform: Running, cores: Cores, folder: Path) -> Iterator[Server]:
    """Both servers, on the core of all that is measured; Redis counts too, as with ours."""
    folder.mkdir()
    question, port = _question(platform), free_port()
    with started("feast", _feast(platform, folder, port), environment={}, core=cores.server, folder=folder) as feast:
        wait_ready("feast", feast, tcp_open(port), _READY_S, folder)
        url = f"http://{address(port)}"
        vector = ask_feast(url, question)
        python = python_of(MLSERVER.name, MLSERVER.requirements)
        site = Site(python, folder, platform.model, free_port(), free_port())
        environment = site.environment | {
            "STOCK_FEAST": url,
            "STOCK_FEATURES": json.dumps(question.features),
            "STOCK_JOIN_KEYS": json.dumps(list(question.keys)),
            "STOCK_WIDTH": str(question.width),
        }
        command = mlserver(site, "stock_runtime.Runtime")
        with started("stock", command, environment=environment, core=cores.server, folder=folder) as process:
            wait_ready("stock", process, tcp_open(site.grpc_port), _READY_S, folder)
            yield Server(
                STOCK,
                grpc_call(site.grpc, platform.entity_request),
                read_grpc,
                run(platform.model.onnx.read_bytes(), vector),
                {"mlserver": process.pid, "feast": feast.pid} | platform.pids_of("redis"),
                generator_core=cores.generator,
            )


def ask_feast(url: str, question: Question) -> NDArray[np.float32]:
    """The vector of what Feast gives, float32 [1, width]; NaN elsewhere. Raises Unavailable if it gives nothing."""
    asked = {
        "features": list(question.features),
        "entities": {name: [value] for name, value in question.keys.items()},
        "full_feature_names": True,
    }
    answer = httpx.post(f"{url}/get-online-features", json=asked, timeout=_TIMEOUT_S, trust_env=False)
    if not answer.is_success:
        raise Unavailable(f"feast serve: {answer.status_code} {answer.text[:500]}")
    document = answer.json()
    columns = dict(zip(document["metadata"]["feature_names"], document["results"], strict=True))
    vector = np.full((1, question.width), np.nan, np.float32)
    for feature, position in question.features.items():
        (value,) = columns[feature.replace(":", "__")]["values"]
        vector[0, position] = np.nan if value is None else value
    if np.isnan(vector).all():
        raise Unavailable("feast serve knows none of the features; does the question name entities with a history?")
    return vector


def _question(platform: Running) -> Question:
    """The one of the platform's entity call, as far as stream views have it."""
    from feast import StreamFeatureView  # noqa: PLC0415  seconds, and only here

    from services.problem import load_module  # noqa: PLC0415  what it loads imports Feast

    contract = json.loads(platform.model.onnx.with_name("contract.json").read_text())
    module = load_module(platform.platform.feature_repo, "features")
    views = {each.name for each in vars(module).values() if isinstance(each, StreamFeatureView)}
    names = [name.partition("__") for name in contract["features"]]
    features = {f"{view}:{feature}": at for at, (view, _, feature) in enumerate(names) if view in views}
    request = v2.ModelInferRequest.FromString(platform.entity_request)
    told = {tensor.name: raw for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)}
    # A BYTES element is its length, 4 bytes, and its content.
    keys = {each["name"]: told[each["name"]][4:].decode() for each in contract["join_keys"]}
    return Question(features, len(names), keys)


def _feast(platform: Running, folder: Path, port: int) -> list[str]:
    """The command, and the configuration that it finds: the platform's registry and Redis."""
    ports, home = platform.platform.ports, platform.platform.home
    stated = yaml.safe_load((platform.platform.feature_repo / "feature_store.yaml").read_text())
    online = {"type": "redis", "connection_string": address(ports.redis)}
    stated |= {"registry": str(home.registry), "online_store": online}
    (folder / "feature_store.yaml").write_text(yaml.safe_dump(stated))
    return [
        *(str(Path(sys.executable).with_name("feast")), "--chdir", str(folder), "serve"),
        *("--host", "127.0.0.1", "--port", str(port), "--no-access-log"),
        # By itself it restarts its only worker each thousand requests.
        *("--max-requests", "0", "--max-requests-jitter", "0"),
    ]
