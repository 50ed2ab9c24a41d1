"""Following an alias: what takes over, what never does, and what /ready says meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.chassis.errors import Conflict, NotFound, Unavailable
from services.chassis.lifecycle import Lifecycle
from services.contracts.features.v1 import features_pb2
from services.inference.artifacts import Artifacts, ModelVersion
from services.inference.deployment import Deployment
from services.inference.loading import VersionLoader
from services.inference.model_cache import ModelCache
from services.inference.refusal import Check, Refused
from tests.support.tiny_models import contract_json, logistic_onnx, sha256
from tests.unit.inference.fakes import MODEL, make_metrics
from tests.unit.inference.test_inference_models import schema


class FakeRegistry:
    """MLflow: versions by name, each with its artifacts and the digest that its tag claims."""

    def __init__(self) -> None:
        self.alias: str | None = None
        self.released: str | None = None
        self.down = False
        self.artifacts: dict[str, dict[str, bytes]] = {}
        self.digests: dict[str, str] = {}
        self.downloads: list[str] = []

    def register(
        self, version: str, *, onnx: bytes | None = None, digest: str | None = None, contract: bytes = b""
    ) -> None:
        onnx = logistic_onnx(bias=float(version)) if onnx is None else onnx
        self.artifacts[version] = {"model.onnx": onnx, "contract.json": contract or contract_json()}
        self.digests[version] = sha256(onnx) if digest is None else digest
        self.alias = version

    def _check(self) -> None:
        if self.down:
            raise Unavailable("MLflow does not answer")

    async def aliases(self, model: str) -> dict[str, str]:
        self._check()
        named = {"champion": self.alias, "challenger": self.released}
        return {alias: version for alias, version in named.items() if version is not None}

    async def describe(self, model: str, version: str) -> ModelVersion:
        self._check()
        return ModelVersion(model=model, version=version, run_id=version, onnx_sha256=self.digests[version])

    async def artifacts_of(self, version: ModelVersion) -> str:
        return version.run_id

    async def download(self, folder: str, name: str, max_bytes: int) -> bytes:
        self._check()
        self.downloads.append(name)
        content = self.artifacts[folder][name]
        if len(content) > max_bytes:
            raise Refused(Check.ARTIFACT, "too large")
        return content


class FakeSchemas:
    def __init__(self) -> None:
        self.answer: features_pb2.GetFeatureServiceSchemaResponse | Exception = schema()

    async def schema(self, feature_service: str) -> features_pb2.GetFeatureServiceSchemaResponse:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = FakeRegistry()
        self.schemas = FakeSchemas()
        self.start()

    def start(self, refused_retry_s: float = 1000.0, previous_kept_s: float = 1000.0) -> None:
        """As the process does."""
        self.proven: list[str] = []
        self.crash: Refused | None = None
        self.announced: list[bool] = []
        self.lifecycle = Lifecycle()
        self.metrics = make_metrics()
        self.deployment = Deployment(
            MODEL,
            "champion",
            registry=self.registry,  # type: ignore[arg-type]
            loader=VersionLoader(
                self.registry,  # type: ignore[arg-type]
                ModelCache(self.folder),
                self.schemas,  # type: ignore[arg-type]
                max_model_bytes=100_000,
                prove=self._prove,
            ),
            metrics=self.metrics,
            lifecycle=self.lifecycle,
            refused_retry_s=refused_retry_s,
            previous_kept_s=previous_kept_s,
            announce=self._announce,
        )

    async def _prove(self, artifacts: Artifacts, onnx: bytes) -> None:
        self.proven.append(artifacts.version.version)
        if self.crash:
            raise self.crash

    async def _announce(self, serves: bool) -> None:
        self.announced.append(serves)

    @property
    def version(self) -> str | None:
        return self.deployment.current.version if self.deployment.current else None

    @property
    def refusals(self) -> float:
        (metric,) = self.metrics.refusals.collect()
        return sum(sample.value for sample in metric.samples if sample.name.endswith("_total"))

    @property
    def versions(self) -> list[str]:
        return [model.version for model in self.deployment.loaded]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "cache")


async def test_before_the_first_look_it_is_not_ready(bench: Bench) -> None:
    assert bench.lifecycle.waiting_for == {"model": "looking up alias 'champion' of 'parcel-delay'"}


async def test_without_such_an_alias_the_process_is_ready_and_serves_nothing(bench: Bench) -> None:
    await bench.deployment.poll()

    assert bench.version is None and bench.lifecycle.waiting_for == {}
    assert bench.deployment.detail == "model 'parcel-delay' has no alias 'champion'"


async def test_it_follows_the_alias_forth_and_back(bench: Bench) -> None:
    bench.registry.register("1")
    await bench.deployment.poll()
    first = bench.deployment.current
    bench.registry.register("2")
    await bench.deployment.poll()
    assert (bench.version, bench.deployment.detail) == ("2", "")

    bench.registry.alias = "1"
    bench.registry.downloads.clear()
    await bench.deployment.poll()

    assert bench.deployment.current is first and bench.versions == ["1", "2"]
    assert bench.registry.downloads == [] and bench.proven == ["1", "2"], "it was warm"


async def test_the_version_before_stays_loaded_until_another_takes_over(bench: Bench) -> None:
    for version in ("1", "2", "3"):
        bench.registry.register(version)
        await bench.deployment.poll()

    assert bench.versions == ["3", "2"]


async def test_the_version_before_is_let_go_of_once_no_release_is_in_progress(bench: Bench) -> None:
    bench.start(previous_kept_s=0.0)
    for version in ("1", "2"):
        bench.registry.register(version)
        bench.registry.released = version
        await bench.deployment.poll()
    await bench.deployment.poll()
    assert bench.versions == ["2", "1"]
    bench.registry.released = None

    await bench.deployment.poll()

    assert bench.versions == ["2"]


async def test_the_version_before_stays_for_a_while_in_any_case(bench: Bench) -> None:
    for version in ("1", "2"):
        bench.registry.register(version)
        await bench.deployment.poll()

    await bench.deployment.poll()

    assert bench.versions == ["2", "1"]


async def test_what_is_no_longer_warm_comes_from_the_cache_and_is_not_tried_again(bench: Bench) -> None:
    for version in ("1", "2", "3"):
        bench.registry.register(version)
        await bench.deployment.poll()
    bench.registry.downloads.clear()
    bench.registry.alias = "1"

    await bench.deployment.poll()

    assert bench.version == "1" and bench.proven == ["1", "2", "3"]
    assert bench.registry.downloads == ["contract.json"], "the bytes are known by their digest"


async def test_a_version_whose_bytes_changed_is_not_the_warm_one(bench: Bench) -> None:
    for version in ("1", "2"):
        bench.registry.register(version)
        await bench.deployment.poll()
    bench.registry.register("1", onnx=logistic_onnx(bias=9.0))

    await bench.deployment.poll()

    assert bench.version == "1" and bench.versions == ["1", "2"]
    assert bench.deployment.current is not None
    assert bench.deployment.current.onnx_sha256 == sha256(logistic_onnx(bias=9.0))


async def test_going_back_is_refused_to_a_version_that_the_features_no_longer_fit(bench: Bench) -> None:
    for version in ("1", "2"):
        bench.registry.register(version)
        await bench.deployment.poll()
    bench.registry.alias = "1"
    bench.schemas.answer = schema(features=["other"])

    await bench.deployment.poll()

    assert bench.version == "2" and "they differ at position 0" in bench.deployment.detail


async def test_loading_by_hand_looks_at_the_alias_at_once_and_again_at_what_was_refused(bench: Bench) -> None:
    bench.schemas.answer = schema(features=["other"])
    bench.registry.register("1")
    await bench.deployment.poll()
    with pytest.raises(Conflict, match="version 1 was refused: feature service"):
        await bench.deployment.load_now()
    bench.schemas.answer = schema()

    await bench.deployment.load_now()

    assert bench.version == "1" and bench.refusals == 2


async def test_loading_by_hand_says_what_is_missing(bench: Bench) -> None:
    with pytest.raises(NotFound, match="has no alias 'champion'"):
        await bench.deployment.load_now()
    bench.registry.down = True

    with pytest.raises(Unavailable, match="MLflow does not answer"):
        await bench.deployment.load_now()


async def test_what_serves_by_the_alias_is_not_unloaded(bench: Bench) -> None:
    bench.registry.register("1")
    await bench.deployment.poll()

    for version in ("", "1"):
        with pytest.raises(Conflict, match="the alias 'champion' decides what serves, and it names version 1"):
            await bench.deployment.unload(version)

    assert bench.versions == ["1"]


async def test_what_serves_in_place_of_a_refused_version_is_not_unloaded(bench: Bench) -> None:
    bench.registry.register("1")
    await bench.deployment.poll()
    bench.registry.register("2", digest="wrong")
    await bench.deployment.poll()

    with pytest.raises(Conflict, match="it names version 2"):
        await bench.deployment.unload()

    assert bench.versions == ["1"]


async def test_the_version_before_may_be_unloaded(bench: Bench) -> None:
    for version in ("1", "2"):
        bench.registry.register(version)
        await bench.deployment.poll()
    with pytest.raises(NotFound, match="version '7' of 'parcel-delay' is not loaded"):
        await bench.deployment.unload("7")

    await bench.deployment.unload("1")

    assert bench.versions == ["2"]


async def test_without_the_alias_all_may_be_unloaded_and_that_is_announced(bench: Bench) -> None:
    for version in ("1", "2"):
        bench.registry.register(version)
        await bench.deployment.poll()
    bench.registry.alias = None

    await bench.deployment.unload()

    assert bench.versions == [] and bench.announced == [True, False]
    await bench.deployment.poll()
    bench.registry.alias = "2"
    await bench.deployment.poll()
    assert bench.version == "2" and bench.announced == [True, False, True]


async def test_while_mlflow_is_down_nothing_is_unloaded(bench: Bench) -> None:
    bench.registry.register("1")
    await bench.deployment.poll()
    bench.registry.down = True

    with pytest.raises(Unavailable):
        await bench.deployment.unload()

    assert bench.versions == ["1"]


async def test_nothing_is_downloaded_while_the_alias_stays(bench: Bench) -> None:
    bench.registry.register("1")
    await bench.deployment.poll()
    current, downloads = bench.deployment.current, list(bench.registry.downloads)

    await bench.deployment.poll()

    assert bench.deployment.current is current and bench.registry.downloads == downloads


async def test_an_alias_that_is_taken_away_leaves_what_is_loaded(bench: Bench) -> None:
    bench.registry.register("1")
    await bench.deployment.poll()
    bench.registry.alias = None

    await bench.deployment.poll()

    assert bench.version == "1" and bench.lifecycle.waiting_for == {}


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ({"digest": "0" * 64}, "the version's tag says 0000"),
        ({"digest": ""}, "the tag slipway.onnx_sha256 says nothing"),
        ({"onnx": b"junk"}, "model.onnx is damaged or no ONNX file"),
        ({"onnx": b"\0" * 100_001}, "too large"),
        ({"contract": b"{}"}, "contract.json"),
        ({"contract": contract_json(features=["a", "b", "c"])}, "they differ at position 0"),
    ],
)
async def test_a_version_that_fails_a_check_never_replaces_one_that_works(
    bench: Bench, bad: dict[str, bytes], complaint: str
) -> None:
    bench.registry.register("1")
    await bench.deployment.poll()
    bench.registry.register("2", **bad)  # type: ignore[arg-type]

    await bench.deployment.poll()

    assert bench.version == "1" and bench.lifecycle.waiting_for == {}
    assert bench.deployment.detail.startswith("version 2 was refused: ") and complaint in bench.deployment.detail
    assert bench.refusals == 1


async def test_a_version_that_fails_its_trial_is_not_loaded_at_all(bench: Bench) -> None:
    bench.crash = Refused(Check.TRIAL, "model.onnx ends the process of its trial with SIGSEGV")
    bench.registry.register("1")

    await bench.deployment.poll()

    assert bench.version is None and "SIGSEGV" in bench.deployment.detail


async def test_a_refused_version_is_left_alone_for_a_while(bench: Bench) -> None:
    bench.registry.register("1", digest="wrong")
    await bench.deployment.poll()
    bench.registry.downloads.clear()

    await bench.deployment.poll()

    assert bench.registry.downloads == [] and "refused" in bench.deployment.detail
    assert "refused" in bench.lifecycle.waiting_for["model"]


async def test_a_refused_version_is_tried_again_later(bench: Bench) -> None:
    bench.start(refused_retry_s=0.0)
    bench.schemas.answer = schema(features=["other"])
    bench.registry.register("1")
    await bench.deployment.poll()
    assert bench.version is None
    bench.schemas.answer = schema()

    await bench.deployment.poll()

    assert bench.version == "1"


async def test_a_version_waits_for_the_features_service(bench: Bench) -> None:
    bench.registry.register("1")
    bench.schemas.answer = Unavailable("features service is down")
    await bench.deployment.poll()
    assert bench.lifecycle.waiting_for == {"model": "features service is down"}
    assert bench.refusals == 0
    bench.schemas.answer = schema()

    await bench.deployment.poll()

    assert bench.version == "1" and bench.lifecycle.waiting_for == {}


async def test_while_mlflow_is_down_what_is_loaded_serves_on(bench: Bench) -> None:
    bench.registry.register("1")
    await bench.deployment.poll()
    bench.registry.down = True

    await bench.deployment.poll()

    assert bench.version == "1" and bench.lifecycle.waiting_for == {}
    assert bench.deployment.detail == "MLflow does not answer"


async def test_a_restart_without_mlflow_serves_what_was_served(bench: Bench) -> None:
    bench.registry.register("1")
    await bench.deployment.poll()
    bench.registry.register("2")
    await bench.deployment.poll()
    bench.registry.down = True
    bench.start()

    await bench.deployment.poll()

    assert bench.version == "2" and bench.lifecycle.waiting_for == {}


async def test_a_restart_without_mlflow_does_not_serve_a_damaged_file(bench: Bench) -> None:
    bench.registry.register("1")
    await bench.deployment.poll()
    (file,) = bench.folder.glob("*.onnx")
    file.write_bytes(file.read_bytes()[:-1])
    bench.registry.down = True
    bench.start()

    await bench.deployment.poll()

    assert bench.version is None
    assert bench.lifecycle.waiting_for == {
        "model": "MLflow does not answer, and the cached version 1 is damaged or gone"
    }
    bench.registry.down = False
    await bench.deployment.poll()
    assert bench.version == "1"


async def test_what_came_from_the_cache_is_confirmed_without_a_second_load(bench: Bench) -> None:
    bench.registry.register("1")
    await bench.deployment.poll()
    bench.registry.down = True
    bench.start()
    await bench.deployment.poll()
    cached = bench.deployment.current
    assert cached is not None and bench.deployment.detail == "MLflow does not answer"
    bench.registry.down = False

    await bench.deployment.poll()

    assert bench.deployment.loaded == (cached,) and bench.deployment.detail == ""


async def test_what_came_from_the_cache_is_looked_up_again_once_mlflow_answers(bench: Bench) -> None:
    bench.registry.register("1")
    await bench.deployment.poll()
    bench.registry.down = True
    bench.start()
    await bench.deployment.poll()
    bench.registry.down = False
    other = logistic_onnx(bias=-7.0)
    bench.registry.register("1", onnx=other)

    await bench.deployment.poll()

    assert bench.deployment.current is not None and bench.deployment.current.onnx_sha256 == sha256(other)


async def test_the_reason_of_a_refusal_outlives_an_outage(bench: Bench) -> None:
    bench.registry.register("1", digest="wrong")
    await bench.deployment.poll()
    bench.registry.down = True
    await bench.deployment.poll()
    bench.registry.down = False

    await bench.deployment.poll()

    assert "version 1 was refused" in bench.deployment.detail and bench.refusals == 1


async def test_a_first_start_without_mlflow_waits_and_says_so(bench: Bench) -> None:
    bench.registry.down = True

    await bench.deployment.poll()

    assert bench.version is None
    assert bench.lifecycle.waiting_for == {"model": "MLflow does not answer, and nothing was served before"}


async def test_a_disk_that_refuses_costs_the_cache_not_the_serving(bench: Bench) -> None:
    bench.folder.write_text("not a folder")
    bench.registry.register("1")

    await bench.deployment.poll()

    assert bench.version == "1"


async def test_an_error_of_ours_leaves_what_is_loaded(bench: Bench) -> None:
    bench.registry.register("1")
    await bench.deployment.poll()
    bench.registry.register("2")
    bench.schemas.answer = ZeroDivisionError("oops")

    await bench.deployment.poll()

    assert bench.version == "1" and bench.deployment.detail == "ZeroDivisionError: oops"
