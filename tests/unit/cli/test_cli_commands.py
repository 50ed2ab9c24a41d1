"""The command line beside servers that answer what the test says."""

from __future__ import annotations

from datetime import UTC, datetime

import grpc
import pytest

from services.chassis.clock import from_proto, to_proto
from services.cli.display import UNKNOWN
from services.contracts.monitoring.v1 import monitoring_pb2, monitoring_pb2_grpc
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2_grpc as v2_grpc
from services.contracts.router.v1 import router_pb2, router_pb2_grpc
from services.contracts.training.v1 import training_pb2, training_pb2_grpc
from services.problem import load_recipe
from tests.support import PARCELS
from tests.unit.cli.fakes import Fake, mlflow, serving, slipway

MODEL = load_recipe(PARCELS).name
MAY = datetime(2013, 5, 1, tzinfo=UTC)
RELEASE = router_pb2.Release(
    release_id="v2-abc",
    model=MODEL,
    champion_version="1",
    challenger_version="2",
    strategy=router_pb2.STRATEGY_CANARY,
    phase=router_pb2.PHASE_RUNNING,
    challenger_weight=2500,
    waiting_for="120 of 300 labels",
    started_at=to_proto(MAY),
    transitions=[router_pb2.Transition(phase=router_pb2.PHASE_RUNNING, challenger_weight=2500, why="step 2")],
)


def router(fake: Fake) -> object:
    return serving(router_pb2_grpc.add_RouterServiceServicer_to_server, fake)


def training(fake: Fake) -> object:
    return serving(training_pb2_grpc.add_TrainingServiceServicer_to_server, fake)


def monitoring(fake: Fake) -> object:
    return serving(monitoring_pb2_grpc.add_MonitoringServiceServicer_to_server, fake)


def envoy(fake: Fake) -> object:
    return serving(v2_grpc.add_GRPCInferenceServiceServicer_to_server, fake)


@pytest.mark.parametrize(
    ("arguments", "who"),
    [
        (["release", "status"], "router"),
        (["release", "list"], "router"),
        (["runs"], "training"),
        (["train", "--from", "2013-01-01", "--to", "2013-02-01"], "training"),
        (["quality"], "monitoring"),
        (["counts"], "monitoring"),
        (["predict", "a=b"], "inference"),
        (["models"], "MLflow"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)
def test_a_platform_that_does_not_run_is_one_line_that_says_what_to_do(arguments: list[str], who: str) -> None:
    done = slipway(*arguments)

    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: {who} does not answer on")
    assert "`slipway up`" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_release_is_shown_with_its_split_and_changes() -> None:
    split = router_pb2.GetSplitResponse(
        model=MODEL, champion_version="1", challenger_version="2", challenger_weight=2500, release_id="v2-abc"
    )
    fake = Fake(GetSplit=split, GetRelease=router_pb2.GetReleaseResponse(release=RELEASE))
    with router(fake) as address:
        done = slipway("release", "status", ROUTER=address)

    assert done.exit_code == 0
    for words in ("2 (25 %)", "v2-abc", "1 → 2", "canary", "120 of 300 labels", "step 2", "has not taken this over"):
        assert words in done.stdout


def test_no_release_yet_is_no_error() -> None:
    fake = Fake(
        GetSplit=router_pb2.GetSplitResponse(model=MODEL), ListReleases=router_pb2.ListReleasesResponse(releases=[])
    )
    with router(fake) as address:
        done = slipway("release", "status", ROUTER=address)

    assert done.exit_code == 0
    assert "none yet" in done.stdout


def test_a_share_is_sent_in_basis_points_with_who_and_why() -> None:
    fake = Fake(SetWeight=router_pb2.SetWeightResponse(release=RELEASE))
    with router(fake) as address:
        done = slipway("release", "weight", "12.5%", "--why", "careful", ROUTER=address)

    assert done.exit_code == 0, done.output
    ((method, request, _),) = fake.asked
    assert (method, request.challenger_weight, request.why) == ("SetWeight", 1250, "careful")
    assert request.actor


@pytest.mark.parametrize(
    ("command", "method"),
    [
        ("promote", "PromoteRelease"),
        ("abort", "AbortRelease"),
        ("pause", "PauseRelease"),
        ("resume", "ResumeRelease"),
    ],
)
def test_a_release_is_steered_by_its_id(command: str, method: str) -> None:
    answer = getattr(router_pb2, f"{method}Response")(release=RELEASE)
    fake = Fake(**{method: answer})
    with router(fake) as address:
        done = slipway("release", command, "v2-abc", "--why", "so", ROUTER=address)

    assert done.exit_code == 0, done.output
    ((asked, request, _),) = fake.asked
    assert (asked, request.release_id, request.why) == (method, "v2-abc", "so")


def test_a_start_names_model_version_and_strategy() -> None:
    fake = Fake(StartRelease=router_pb2.StartReleaseResponse(release=RELEASE))
    with router(fake) as address:
        slipway("release", "start", "2", "--strategy", "blue-green", ROUTER=address)

    ((_, request, _),) = fake.asked
    assert (request.model, request.version, request.strategy) == (MODEL, "2", router_pb2.STRATEGY_BLUE_GREEN)


def test_a_refusal_is_shown_in_the_services_own_words() -> None:
    fake = Fake(AbortRelease=(grpc.StatusCode.FAILED_PRECONDITION, "release v2-abc has ended: successful"))
    with router(fake) as address:
        done = slipway("release", "abort", ROUTER=address)

    assert done.exit_code == 1
    assert done.stderr == "error: router: release v2-abc has ended: successful\n"


def _run(state: int, **more: object) -> training_pb2.GetRunResponse:
    return training_pb2.GetRunResponse(run=training_pb2.Run(run_id="r-1", state=state, **more))


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (_run(training_pb2.RUN_STATE_REGISTERED, model_version="4", metrics={"auc": 0.7312}), 0),
        (_run(training_pb2.RUN_STATE_REFUSED, stage="gate", detail="AUC 0.69 < 0.70"), 1),
        (_run(training_pb2.RUN_STATE_ERROR, stage="dataset", detail="no rows"), 1),
    ],
    ids=["registered", "refused", "error"],
)
def test_waiting_for_a_run_ends_with_its_end(end: training_pb2.GetRunResponse, code: int) -> None:
    fake = Fake(
        StartRun=training_pb2.StartRunResponse(run_id="r-1"),
        GetRun=[_run(training_pb2.RUN_STATE_RUNNING), (grpc.StatusCode.UNAVAILABLE, "restarting"), end],
    )
    counts = Fake(GetCounts=monitoring_pb2.GetCountsResponse(watermark=to_proto(MAY)))
    with training(fake) as address, monitoring(counts) as told:
        arguments = ("train", "--from", "2013-01-01", "--to", "2013-02-01T12:00:00Z", "--wait")
        done = slipway(*arguments, TRAINING=address, MONITORING=told)

    assert done.exit_code == code, done.output
    request = fake.asked[0][1].request
    assert request.model == MODEL
    assert from_proto(getattr(request, "from")) == datetime(2013, 1, 1, tzinfo=UTC)
    assert from_proto(request.to) == datetime(2013, 2, 1, 12, tzinfo=UTC)
    assert from_proto(request.requested_at) == MAY
    assert end.run.detail in done.stdout


def test_a_run_can_be_asked_for_while_monitoring_is_down() -> None:
    fake = Fake(StartRun=training_pb2.StartRunResponse(run_id="r-1"))
    with training(fake) as address:
        done = slipway("train", "--from", "2013-01-01", "--to", "2013-02-01", TRAINING=address)

    assert done.exit_code == 0, done.output
    assert not fake.asked[0][1].request.HasField("requested_at")


def test_a_range_that_ends_before_it_begins_is_refused_here() -> None:
    done = slipway("train", "--from", "2013-02-01", "--to", "2013-01-01")

    assert done.exit_code == 1
    assert "--to: 2013-01-01 00:00:00 does not lie after --from 2013-02-01 00:00:00" in done.stderr


METADATA = v2.ModelMetadataResponse(
    name=MODEL,
    versions=["3"],
    inputs=[
        v2.ModelMetadataResponse.TensorMetadata(name="parcel_id", datatype="BYTES", shape=[-1]),
        v2.ModelMetadataResponse.TensorMetadata(name="stops", datatype="INT64", shape=[-1]),
        v2.ModelMetadataResponse.TensorMetadata(name="weight_kg", datatype="FP64", shape=[-1]),
    ],
)


def _answer() -> v2.ModelInferResponse:
    answer = v2.ModelInferResponse(model_name=MODEL, model_version="3", id="p-1")
    output = answer.outputs.add(name="probability", datatype="FP32", shape=[1])
    output.contents.fp32_contents.append(0.25)
    answer.parameters["variant"].string_param = "challenger"
    answer.parameters["missing_features"].int64_param = 2
    answer.parameters["missing_feature_names"].string_param = "a__x,a__y"
    return answer


def test_a_prediction_is_asked_for_with_the_models_own_datatypes() -> None:
    fake = Fake(ModelMetadata=METADATA, ModelInfer=_answer())
    with envoy(fake) as address:
        arguments = ("predict", "parcel_id=p-1", "weight_kg=1.5", "stops=3", "--key", "shop-7", "--as-of", "2013-05-01")
        done = slipway(*arguments, ENVOY=address)

    assert done.exit_code == 0, done.output
    _, request, headers = fake.asked[1]
    sent = {tensor.name: (tensor.datatype, tensor.contents) for tensor in request.inputs}
    assert sent["parcel_id"] == ("BYTES", v2.InferTensorContents(bytes_contents=[b"p-1"]))
    assert sent["stops"] == ("INT64", v2.InferTensorContents(int64_contents=[3]))
    assert sent["weight_kg"] == ("FP64", v2.InferTensorContents(fp64_contents=[1.5]))
    assert request.parameters["as_of"].string_param == "2013-05-01T00:00:00Z"
    assert headers["x-routing-key"] == "shop-7"
    for words in ("0.250000", "version 3", "challenger", "2  a__x,a__y"):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["parcel_id=p-1", "stops=3"], "missing: weight_kg (FP64). "),
        (["parcel_id=p-1", "stops=3", "weight_kg=1", "colour=red"], "unknown: colour. "),
        (["parcel_id=p-1", "stops=3.5", "weight_kg=1"], "stops: '3.5' is not of datatype INT64"),
    ],
)
def test_an_input_that_does_not_fit_is_named(arguments: list[str], words: str) -> None:
    fake = Fake(ModelMetadata=METADATA)
    with envoy(fake) as address:
        done = slipway("predict", *arguments, ENVOY=address)

    assert done.exit_code == 1
    assert words in done.stderr
    assert [method for method, *_ in fake.asked] == ["ModelMetadata"]


def test_without_inputs_the_model_says_what_it_wants_to_know() -> None:
    with envoy(Fake(ModelMetadata=METADATA)) as address:
        done = slipway("predict", ENVOY=address)

    assert done.exit_code == 0
    for tensor in METADATA.inputs:
        assert tensor.name in done.stdout
        assert tensor.datatype in done.stdout


def test_quality_that_is_not_computable_is_not_zero() -> None:
    window = monitoring_pb2.Quality(model_version="3", variant="champion", predictions=1200, labels=0, to=to_proto(MAY))
    fake = Fake(GetQuality=monitoring_pb2.GetQualityResponse(windows=[window], watermark=to_proto(MAY)))
    with monitoring(fake) as address:
        done = slipway("quality", "--from", "2013-04-01", "--window-days", "1", MONITORING=address)

    assert done.exit_code == 0, done.output
    row = next(line for line in done.stdout.splitlines() if "champion" in line)
    assert "1,200" in row
    assert row.count(UNKNOWN) >= 5
    request = fake.asked[0][1]
    assert request.window_s == 86_400
    assert not request.HasField("to")


def test_counts_add_up_on_the_screen() -> None:
    counts = monitoring_pb2.GetCountsResponse(recorded=10, joined=6, void=1, pending=2, expired=1)
    with monitoring(Fake(GetCounts=counts)) as address:
        done = slipway("counts", MONITORING=address)

    shown = dict(line.rsplit(maxsplit=1) for line in done.stdout.splitlines())
    assert {name: shown[name] for name in ("recorded", "joined", "void", "pending", "expired")} == {
        "recorded": "10",
        "joined": "6",
        "void": "1",
        "pending": "2",
        "expired": "1",
    }


VERSIONS = {
    "registered-models/get": {
        "registered_model": {
            "aliases": [{"alias": "champion", "version": "2"}, {"alias": "challenger", "version": "10"}]
        }
    },
    "model-versions/search": {
        "model_versions": [
            {
                "version": version,
                "run_id": f"run{version}",
                "creation_timestamp": 1_367_366_400_000,
                "tags": [{"key": "slipway.onnx_sha256", "value": f"{version}fedcba9876543210"}],
            }
            for version in ("1", "2", "3", "10")
        ]
    },
    "runs/get": {"run": {"data": {"metrics": [{"key": "auc", "value": 0.7312}]}}},
}


def test_versions_are_listed_with_their_stage_newest_first() -> None:
    ended = router_pb2.Release(challenger_version="1", phase=router_pb2.PHASE_SUCCESSFUL, ended_at=to_proto(MAY))
    fake = Fake(ListReleases=router_pb2.ListReleasesResponse(releases=[ended]))
    with mlflow(VERSIONS) as url, router(fake) as address:
        done = slipway("models", MLFLOW=url, ROUTER=address)

    rows = [line.split()[:2] for line in done.stdout.splitlines()[1:]]
    assert rows == [["10", "challenger"], ["3", "registered"], ["2", "champion"], ["1", "archived"]]


def test_versions_are_listed_while_the_router_is_down() -> None:
    with mlflow(VERSIONS) as url:
        done = slipway("models", "show", "2", MLFLOW=url)

    assert done.exit_code == 0, done.output
    for words in ("champion", "slipway.onnx_sha256", "2fedcba9876543210", "auc", "0.7312", "run2"):
        assert words in done.stdout


def test_a_version_that_does_not_exist_names_those_that_do() -> None:
    with mlflow(VERSIONS) as url:
        done = slipway("models", "show", "7", MLFLOW=url)

    assert done.exit_code == 1
    assert "has no version '7'; it has 10, 3, 2, 1" in done.stderr


def test_a_model_that_was_never_registered_is_no_error() -> None:
    with mlflow({}) as url:
        done = slipway("models", MLFLOW=url)

    assert done.exit_code == 0
    assert "has no version yet" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["release", "weight", "25"], "expected a share such as 0.25 or 25%"),
        (["train", "--from", "January", "--to", "2013-02-01"], "expected 2013-01-31 or 2013-01-31T12:00:00Z"),
        (["predict", "weight_kg"], "expected name=value"),
        (["logs", "nobody"], "no process 'nobody'; there are kafka, redis"),
        (["dlq", "replay"], "name dead letters (partition:offset), or all of one --reason"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_was_typed_wrong_is_said(arguments: list[str], words: str) -> None:
    done = slipway(*arguments)

    assert done.exit_code in {1, 2}
    assert words in " ".join(done.stderr.replace("│", " ").split())


def test_a_wrong_variable_is_named() -> None:
    done = slipway("counts", KAFKA__PARTITIONS="none")

    assert done.exit_code == 1
    assert "SLIPWAY_KAFKA__PARTITIONS" in done.stderr
