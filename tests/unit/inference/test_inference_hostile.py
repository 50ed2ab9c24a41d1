"""Whatever the alias names: what fails a check never serves, the version before goes on, and why is told."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pytest

from services.chassis.errors import Conflict
from services.chassis.lifecycle import Lifecycle
from services.inference.artifacts import Artifacts
from services.inference.deployment import Deployment
from services.inference.inspection import OPSETS
from services.inference.loaded_model import ort
from services.inference.loading import VersionLoader
from services.inference.model_cache import ModelCache
from services.inference.registry import ModelRegistry
from tests.support.tiny_models import logistic_onnx, onnx_of
from tests.unit.inference.fake_mlflow import FakeMlflow, Sent
from tests.unit.inference.fakes import MODEL, make_metrics, make_model
from tests.unit.inference.hostile import HOSTILE, MAX_BYTES
from tests.unit.inference.test_inference_deployment import FakeSchemas

ROWS = np.array([[1, 2, 3], [np.nan, 0, 1]], np.float32)


class Bench:
    def __init__(self, folder: Path) -> None:
        self.mlflow = FakeMlflow(MODEL)
        self.metrics = make_metrics()
        self.lifecycle = Lifecycle()
        registry = ModelRegistry(httpx.AsyncClient(transport=self.mlflow, base_url="http://mlflow"))
        self.deployment = Deployment(
            MODEL,
            "champion",
            registry=registry,
            loader=VersionLoader(
                registry,
                ModelCache(folder),
                FakeSchemas(),  # type: ignore[arg-type]
                max_model_bytes=MAX_BYTES,
                prove=self.prove,
            ),
            metrics=self.metrics,
            lifecycle=self.lifecycle,
            refused_retry_s=1000.0,
        )

    async def prove(self, artifacts: Artifacts, onnx: bytes) -> None:
        """Trials have tests of their own."""

    def refusals(self) -> dict[str, float]:
        (metric,) = self.metrics.refusals.collect()
        return {s.labels["check"]: s.value for s in metric.samples if s.name.endswith("_total")}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_version_is_refused_and_the_one_before_serves_on(tmp_path: Path, name: str) -> None:
    hostile = HOSTILE[name]
    bench = Bench(tmp_path)
    bench.mlflow.register("1")
    await bench.deployment.poll()
    serving = bench.deployment.current
    assert serving is not None
    before = serving.probabilities(ROWS)

    bench.mlflow.register("2", hostile.onnx, **hostile.told)
    await bench.deployment.poll()

    assert bench.deployment.loaded == (serving,)
    np.testing.assert_array_equal(serving.probabilities(ROWS), before)
    assert bench.deployment.detail.startswith("version 2 was refused: ")
    assert hostile.reason in bench.deployment.detail
    assert bench.refusals() == {hostile.check: 1.0}
    assert bench.lifecycle.waiting_for == {}
    for sent in (hostile.onnx, hostile.told.get("contract")):
        assert not isinstance(sent, Sent) or sent.sent <= 5_000_000, "what comes is bounded, whatever it claims"


async def test_after_a_hostile_version_a_good_one_takes_over(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.mlflow.register("1", b"junk")
    await bench.deployment.poll()
    assert bench.deployment.current is None and "refused" in bench.lifecycle.waiting_for["model"]
    with pytest.raises(Conflict, match="version 1 was refused: model"):
        await bench.deployment.load_now()

    bench.mlflow.register("2")
    await bench.deployment.poll()

    assert bench.deployment.detail == "" and bench.lifecycle.waiting_for == {}


async def test_a_download_that_breaks_off_is_tried_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    good = logistic_onnx()
    bench.mlflow.register("1", Sent(iter([good[:50]]), {"content-length": str(len(good))}, breaks=True))
    await bench.deployment.poll()
    assert "does not answer: peer closed connection" in bench.deployment.detail and bench.refusals() == {}

    bench.mlflow.register("1")
    await bench.deployment.poll()

    assert bench.deployment.current is not None


def test_a_good_model_with_branches_loops_and_both_domains_loads() -> None:
    """What the inspection walks through is not refused as such."""
    assert make_model(onnx=_with_a_branch()).probabilities(ROWS) == pytest.approx([0.5, 0.5])


def _with_a_branch() -> bytes:
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415  only here

    half = helper.make_node("Constant", [], ["half"], value=numpy_helper.from_array(np.array(0.5, np.float32)))
    branch = helper.make_graph([half], "b", [], [helper.make_tensor_value_info("half", TensorProto.FLOAT, [])])
    nodes = [
        helper.make_node("If", ["yes"], ["chosen"], then_branch=branch, else_branch=branch),
        helper.make_node("IsNaN", ["features"], ["gaps"]),
        helper.make_node("Where", ["gaps", "zero", "features"], ["known"]),
        helper.make_node("Binarizer", ["known"], ["bits"], domain="ai.onnx.ml", threshold=0.0),
        helper.make_node("ReduceMin", ["bits"], ["low"], axes=[1], keepdims=0),
        helper.make_node("Mul", ["low", "zero"], ["none"]),
        helper.make_node("Add", ["none", "chosen"], ["probability"]),
    ]
    constants = [
        numpy_helper.from_array(np.array(True), "yes"),
        numpy_helper.from_array(np.array(0, np.float32), "zero"),
    ]
    return onnx_of(nodes, constants, opsets={"": 17, "ai.onnx.ml": 3})


@pytest.mark.parametrize("domain", OPSETS)
def test_the_opsets_are_those_of_this_onnxruntime(domain: str) -> None:
    """When the runtime is raised, this tells the new bound."""
    newest = OPSETS[domain].stop - 1

    assert _loads(domain, newest) and not _loads(domain, newest + 1)


def _loads(domain: str, version: int) -> bool:
    from onnx import helper  # noqa: PLC0415  only here

    nodes = [helper.make_node("Identity", ["features"], ["probability"])]
    onnx = onnx_of(nodes, outputs=[], opsets={"": 17} | {"" if domain == "ai.onnx" else domain: version})
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    except Exception:  # the library has no base for them
        return False
    return True
