"""Translations: Envoy's polls and counters, MLflow's answers, deployments' words, HTTP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.chassis.clock import to_proto
from services.chassis.errors import Conflict, Unavailable
from services.contracts.monitoring.v1 import monitoring_pb2 as pb
from services.router.api import make_api
from services.router.envoy_counters import EnvoyCounters
from services.router.envoy_polls import EnvoyPolls
from services.router.evidence import Arm, StepEvidence
from services.router.mlflow_registry import MlflowRegistry
from services.router.quality import Quality
from services.router.queries import Queries
from services.router.releases import Calls, Phase, Release, Stage, StepBegun, Strategy
from tests.unit.router.fakes import T0, Desk, FakeRegistry

RELEASE = Release("v2-a", "m", "1", "2", Strategy.CANARY, Phase.RUNNING, Stage.STEPPING, 2500, "router", "", T0)
Answer = Callable[[httpx.Request], httpx.Response]


def client(answer: Answer) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url="http://part", transport=httpx.MockTransport(answer))


class TestEnvoyPolls:
    def test_applied_once_every_envoy_has_it(self) -> None:
        polls = EnvoyPolls(lambda: 0.0)
        assert not polls.applied("none@0"), "nobody has asked"

        polls.saw("one", "none@0")
        polls.saw("other", "")
        assert not polls.applied("none@0")
        polls.saw("other", "none@0")

        assert polls.applied("none@0")
        assert not polls.applied("v2@500")

    def test_an_envoy_that_asks_no_more_does_not_count(self) -> None:
        now = [0.0]
        polls = EnvoyPolls(lambda: now[0])
        polls.saw("gone", "none@0")
        now[0] = 10.0
        assert not polls.applied("none@0")

        polls.saw("here", "v2@500")

        assert polls.applied("v2@500")


class TestEnvoyCounters:
    async def test_only_the_servers_faults_are_errors(self) -> None:
        prefix = "grpc.inference.GRPCInferenceService.ModelInfer"
        stats: list[dict[str, Any]] = [
            {"name": f"cluster.champion.{prefix}.0", "value": 90},
            {"name": f"cluster.challenger.{prefix}.0", "value": 7},
            {"name": f"cluster.challenger.{prefix}.3", "value": 5},
            {"name": f"cluster.challenger.{prefix}.14", "value": 2},
            {"name": f"cluster.challenger.{prefix}.total", "value": 99},
            {"name": "cluster.champion-http.upstream_rq_200", "value": 10},
            {"name": "cluster.champion-http.upstream_rq_429", "value": 1},
            {"name": "cluster.challenger-http.upstream_rq_400", "value": 3},
            {"name": "cluster.challenger-http.upstream_rq_503", "value": 4},
            {"name": "cluster.challenger-http.upstream_rq_5xx", "value": 4},
            {"histograms": {}},
        ]
        counters = EnvoyCounters(client(lambda _: httpx.Response(200, json={"stats": stats})))

        assert await counters.read() == (Calls(101, 1), Calls(21, 6))

    async def test_an_envoy_that_is_down_is_unavailable(self) -> None:
        def refuse(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("refused", request=request)

        with pytest.raises(Unavailable, match="Envoy's admin port"):
            await EnvoyCounters(client(refuse)).read()


class TestMlflowRegistry:
    async def test_without_a_registered_model_there_are_no_aliases(self) -> None:
        missing = httpx.Response(404, json={"error_code": "RESOURCE_DOES_NOT_EXIST"})
        registry = MlflowRegistry(client(lambda _: missing), "m")

        assert await registry.aliases() == {}
        assert not await registry.has_version("1")
        await registry.delete_alias("challenger")
        with pytest.raises(Conflict, match="version 1 of m is not registered"):
            await registry.set_alias("champion", "1")

    async def test_aliases_name_versions(self) -> None:
        listed = {"registered_model": {"aliases": [{"alias": "champion", "version": 3}]}}
        registry = MlflowRegistry(client(lambda _: httpx.Response(200, json=listed)), "m")

        assert await registry.aliases() == {"champion": "3"}

    @pytest.mark.parametrize(
        ("answer", "error"),
        [(httpx.Response(503), Unavailable), (httpx.Response(400, text="no"), Conflict)],
        ids=["its fault", "ours"],
    )
    async def test_other_answers_are_errors(self, answer: httpx.Response, error: type[Exception]) -> None:
        with pytest.raises(error, match="MLflow"):
            await MlflowRegistry(client(lambda _: answer), "m").aliases()


class Monitoring:
    """A channel with monitoring at its end, which has these arms."""

    def __init__(self, *windows: pb.Quality) -> None:
        self.answer = pb.GetQualityResponse(windows=windows, watermark=to_proto(T0))

    def unary_unary(self, _path: str, **_serializers: Any) -> Callable[..., Any]:
        async def call(request: pb.GetQualityRequest, **_options: Any) -> pb.GetQualityResponse:
            assert request.by_weight
            return self.answer

        return call


def arm(version: str, variant: str, weight: int, log_loss: float) -> pb.Quality:
    return pb.Quality(
        model_version=version,
        variant=variant,
        challenger_weight=weight,
        labels=100,
        log_loss=log_loss,
        log_loss_se=0.01,
    )


class TestQuality:
    async def test_an_arm_of_a_step_is_what_was_assigned_at_its_weight(self) -> None:
        """A prediction of the step before that came in late, or of another version, is nobody's evidence here."""
        monitoring = Monitoring(
            arm("1", "champion", 500, 0.3),
            arm("2", "challenger", 500, 0.31),
            arm("1", "champion", 2500, 0.5),
            arm("3", "challenger", 2500, 0.9),
        )
        release = replace(RELEASE, steps=(StepBegun(500, T0), StepBegun(2500, T0)))

        watermark, steps = await Quality(monitoring).of(release)  # type: ignore[arg-type]

        assert watermark == T0
        assert steps == (
            StepEvidence(500, Arm(100, 0.3, 0.01), Arm(100, 0.31, 0.01)),
            StepEvidence(2500, Arm(100, 0.5, 0.01), Arm()),
        )

    async def test_a_weight_that_was_set_twice_is_counted_once_and_is_the_present_step(self) -> None:
        monitoring = Monitoring(arm("2", "challenger", 500, 0.31), arm("2", "challenger", 1000, 0.4))
        release = replace(RELEASE, steps=tuple(StepBegun(weight, T0) for weight in (500, 1000, 500)))

        _, steps = await Quality(monitoring).of(release)  # type: ignore[arg-type]

        assert [(step.weight, step.challenger.log_loss) for step in steps] == [(1000, 0.4), (500, 0.31)]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, FakeRegistry({"1", "2"}, champion="1"))


@pytest.fixture
def http(desk: Desk) -> httpx.AsyncClient:
    queries = Queries(store=desk.store, conductor=desk.conductor, world=desk.world, registry=desk.registry)
    api = make_api(commands=desk.commands, queries=queries, polls=EnvoyPolls(), model="m", call_timeout="5s")
    return httpx.AsyncClient(base_url="http://router", transport=httpx.ASGITransport(api))


class TestHttp:
    async def test_envoy_is_told_only_what_it_does_not_have(self, desk: Desk, http: httpx.AsyncClient) -> None:
        first = await http.post("/v3/discovery:routes", json={"node": {"id": "envoy"}})
        assert first.json()["version_info"] == "none@0"
        poll = {"node": {"id": "envoy"}, "version_info": "none@0"}
        assert (await http.post("/v3/discovery:routes", json=poll)).status_code == 304

        desk.register("2")
        await desk.tick(2)
        changed = (await http.post("/v3/discovery:routes", json=poll)).json()

        assert changed["version_info"] == f"{desk.last().release_id}@2500"

    async def test_errors_say_what_is_wrong(self, http: httpx.AsyncClient) -> None:
        missing = await http.get("/v1/releases/v9")
        assert (missing.status_code, missing.json()["detail"]) == (404, "release_id: there is no release 'v9'")
        assert (await http.post("/v1/releases", json={"version": "1"})).status_code == 409
        assert (await http.post("/v1/releases", json={"versoin": "2"})).status_code == 422

    async def test_no_page_that_loads_from_elsewhere(self, http: httpx.AsyncClient) -> None:
        assert (await http.get("/docs")).status_code == 404
        assert "/v1/releases/{release_id}:promote" in (await http.get("/openapi.json")).json()["paths"]

    async def test_without_mlflow_the_split_names_the_last_promoted(self, desk: Desk, http: httpx.AsyncClient) -> None:
        desk.register("2")
        await desk.tick(12)
        desk.registry.fails_at = desk.registry.calls

        told = (await http.get("/v1/split")).json()

        assert told["champion_version"] == "2"
        assert told["challenger_weight"] == 0
