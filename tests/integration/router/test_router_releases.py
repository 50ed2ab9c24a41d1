"""Releases from the registered run to their end, through real Kafka, MLflow and Envoy."""

from __future__ import annotations

import threading

import grpc
import pytest

from services.contracts.router.v1 import router_pb2 as pb
from tests.integration.router.conftest import Stage
from tests.support import eventually
from tests.support.process import Running


@pytest.mark.usefixtures("router")
def test_the_first_version_is_blue_green_and_the_next_steps_up_as_evidence_comes(stage: Stage) -> None:
    """All the while a client calls: no call fails."""
    stop, failed = threading.Event(), []
    first = stage.first_champion()
    assert stage.release().strategy == pb.STRATEGY_BLUE_GREEN
    assert stage.registry.aliases["champion"] == first

    def call_all_the_time() -> None:
        while not stop.is_set():
            try:
                stage.infer(("x-routing-key", f"user-{stage.sent % 200}"))
            except grpc.RpcError as error:
                failed.append(error)

    client = threading.Thread(target=call_all_the_time)
    client.start()
    try:
        second = stage.register()
        at_25 = stage.wait_for(second, phase="RUNNING", weight=2500)
        eventually(lambda: "0 of 30 labels" in stage.release().waiting_for, "no data means hold")

        stage.monitoring.tell(first, second, increase=-0.01)
        eventually(lambda: "of 2:00:00" in stage.release().waiting_for, "the hold time is not over")
        stage.monitoring.pass_time(hours=2)
        stage.wait_for(second, phase="RUNNING", weight=10_000)
        eventually(lambda: "of 2:00:00" in stage.release().waiting_for, "the last step has begun")
        stage.monitoring.pass_time(hours=2)
        done = stage.wait_for(second, phase="SUCCESSFUL", weight=0)
    finally:
        stop.set()
        client.join()

    assert not failed
    assert stage.registry.aliases["champion"] == second
    eventually(lambda: "challenger" not in stage.registry.aliases, "the alias challenger is taken away")
    assert [each.challenger_weight for each in done.transitions] == [0, 0, 2500, 10_000, 10_000, 0]
    assert done.release_id == at_25.release_id
    served = stage.split()
    assert (served.champion_version, served.challenger_weight, served.release_id) == (second, 0, "")
    _each_transition_is_a_record(stage)


def _each_transition_is_a_record(stage: Stage) -> None:
    releases = stage.router.ListReleases(pb.ListReleasesRequest()).releases
    expected = sorted((each.release_id, n + 1) for each in releases for n in range(len(each.transitions)))

    def told() -> bool:
        records = stage.records()
        return sorted((record.release_id, len(record.transitions)) for record in records) == expected

    eventually(told, "each transition is a record on Kafka")


@pytest.mark.usefixtures("router")
def test_what_cannot_be_measured_holds_and_a_worse_log_loss_is_rolled_back(stage: Stage) -> None:
    first = stage.first_champion()
    stage.monitoring.down = True
    second = stage.register()
    stage.wait_for(second, phase="RUNNING", weight=2500)
    eventually(lambda: "could not measure: monitoring" in stage.release().waiting_for, "it says what is missing")

    stage.monitoring.down = False
    stage.monitoring.tell(first, second, increase=0.3)

    failed = stage.wait_for(second, phase="FAILED", weight=0)
    assert "log loss of version 2 is +0.3000" in failed.transitions[-1].why
    assert "0.7" in failed.transitions[-1].evidence_json
    eventually(lambda: stage.registry.aliases == {"champion": first}, "the alias challenger is taken away")


@pytest.mark.usefixtures("router")
def test_errors_of_the_challenger_are_rolled_back(stage: Stage) -> None:
    stage.first_champion()
    stage.challenger.failing = True
    second = stage.register()
    stage.wait_for(second, phase="RUNNING", weight=2500)
    eventually(lambda: "labels" in stage.release().waiting_for, "the step has begun")

    for user in range(100):
        try:
            stage.infer(("x-routing-key", f"user-{user}"))
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.INTERNAL  # noqa: PT017

    failed = stage.wait_for(second, phase="FAILED", weight=0)
    assert "calls to the challenger failed" in failed.transitions[-1].why
    assert stage.infer()


def test_a_killed_router_goes_on_where_it_was(stage: Stage, router: Running) -> None:
    """At a step, and while the champion deployment loads; meanwhile Envoy keeps its last routes."""
    first = stage.first_champion()
    second = stage.register()
    stage.monitoring.tell(first, second, increase=0)
    stage.wait_for(second, phase="RUNNING", weight=2500)
    eventually(lambda: "of 2:00:00" in stage.release().waiting_for, "the step has begun")
    before = stage.release()

    router.kill()
    calls = {stage.infer(("x-routing-key", f"user-{user}")) for user in range(40)}
    assert calls <= stage.champion.served_to.keys() | stage.challenger.served_to.keys()
    assert calls & stage.challenger.served_to.keys()
    again = stage.start_router()

    assert list(stage.release().transitions) == list(before.transitions)
    stage.monitoring.pass_time(hours=2)
    stage.wait_for(second, phase="RUNNING", weight=10_000)
    stage.champion.stuck = True
    eventually(lambda: "of 2:00:00" in stage.release().waiting_for, "the last step has begun")
    stage.monitoring.pass_time(hours=2)
    eventually(lambda: "champion deployment" in stage.release().waiting_for, "the champion deployment loads")
    assert stage.registry.aliases["champion"] == second

    again.kill()
    stage.start_router()

    assert stage.split().challenger_weight == 10_000
    stage.champion.stuck = False
    stage.wait_for(second, phase="SUCCESSFUL", weight=0)


@pytest.mark.usefixtures("router")
def test_of_versions_registered_meanwhile_the_newest_is_next(stage: Stage) -> None:
    stage.first_champion()
    running = stage.register()
    stage.wait_for(running, phase="RUNNING", weight=2500)

    skipped, newest = stage.register(), stage.register()

    assert "came before its turn" in stage.wait_for(skipped, phase="ABORTED").transitions[-1].why
    assert stage.wait_for(newest, phase="PENDING").waiting_for == "waits for its turn"
    eventually(lambda: stage.registry.aliases["challenger"] == running, "the release keeps its challenger")
    with pytest.raises(grpc.RpcError) as refused:
        stage.router.StartRelease(pb.StartReleaseRequest(version=newest))
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    stage.router.AbortRelease(pb.AbortReleaseRequest(actor="ann", why="seen enough"))
    stage.wait_for(running, phase="ABORTED")
    stage.wait_for(newest, phase="RUNNING", weight=2500)
    assert stage.registry.aliases["challenger"] == newest
    stage.tell_run("run-1", "1")
    stage.tell_run(f"run-{newest}", newest)
    assert len(stage.router.ListReleases(pb.ListReleasesRequest()).releases) == 4


@pytest.mark.usefixtures("router")
def test_a_person_leads_a_release_over_rest(stage: Stage) -> None:
    first = stage.first_champion()
    second = stage.registry.register()
    started = stage.http.post("/v1/releases", json={"actor": "ann", "reason": "a hunch"})
    assert started.status_code == 201, started.text
    release_id = started.json()["release_id"]
    stage.wait_for(second, phase="RUNNING", weight=2500)

    def post(verb: str, **body: object) -> tuple[int, object]:
        answer = stage.http.post(f"/v1/releases/{release_id}:{verb}", json={"actor": "ann", **body})
        return answer.status_code, answer.json().get("phase", answer.json().get("detail"))

    assert post("resume") == (409, f"release {release_id} is running, not paused")
    assert post("pause") == (200, "PHASE_PAUSED")
    assert post("set-weight", challenger_weight=10_001)[0] == 400
    assert post("set-weight", challenger_weight=6000) == (200, "PHASE_PAUSED")
    stage.wait_for(second, phase="PAUSED", weight=6000)
    assert stage.http.get("/v1/split").json()["challenger_weight"] == 6000
    assert post("resume") == (200, "PHASE_RUNNING")
    assert post("promote", why="good enough") == (200, "PHASE_RUNNING")
    told = stage.wait_for(second, phase="SUCCESSFUL", weight=0)
    assert post("abort")[0] == 409
    assert stage.registry.aliases["champion"] == second
    assert {each.actor for each in told.transitions} == {"ann", "router"}
    assert stage.http.get("/v1/releases/v9-none").status_code == 404
    again = stage.http.post("/v1/releases", json={"version": first, "strategy": "blue_green", "actor": "ann"})
    assert again.status_code == 201
    eventually(lambda: stage.registry.aliases["champion"] == first, "going back is a release too")


@pytest.mark.usefixtures("router")
def test_a_client_cannot_forge_its_variant(stage: Stage) -> None:
    forged = [("x-slipway-variant", "forged"), ("x-slipway-release", "forged"), ("x-slipway-weight", "1")]
    stage.first_champion()

    quiet = stage.champion.served_to[stage.infer(*forged)]

    assert (quiet["x-slipway-variant"], quiet["x-slipway-weight"]) == ("champion", "10000")
    assert "x-slipway-release" not in quiet
    second = stage.register()
    release = stage.wait_for(second, phase="RUNNING", weight=2500)
    for user in range(40):
        stage.infer(("x-routing-key", f"user-{user}"), *forged)
    last = [f"call-{2 + user}" for user in range(40)]
    for deployment, weight in ((stage.champion, "7500"), (stage.challenger, "2500")):
        told = [deployment.served_to[call] for call in last if call in deployment.served_to]
        assert told
        assert {each["x-slipway-release"] for each in told} == {release.release_id}
        assert {each["x-slipway-weight"] for each in told} == {weight}
