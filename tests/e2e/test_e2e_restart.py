"""Two platforms see the same five days. One is killed in the middle of the history and later replayed at a pace; nobody
can tell afterwards: same features, same model, same answers, whole books."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.local import supervise
from deploy.local.processes import Platform
from loadtests.books.topics import record_count
from loadtests.demo.platform import PlatformClient, platform_client
from loadtests.demo.reckoning import Reckoning, reckon
from loadtests.demo.story import DEMO
from loadtests.replay import Replay
from services.contracts.features.v1.features_pb2 import FEATURE_STATUS_PRESENT
from services.contracts.training.v1 import training_pb2
from services.problem import load_recipe
from services.topics import UPSTREAM
from tests.e2e import sources
from tests.e2e.platforms import kafka_of, plan, replay_process, running_platform, start, vectors
from tests.support import PARCELS, eventually

pytestmark = pytest.mark.timeout(900)

SOURCE = "tests.e2e.sources:steady"
MESS = {"mess_share": 0.02, "mess_seed": 5}
PACE = 3600.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What a platform shows after the five days."""

    vectors: tuple[bytes, bytes]
    onnx_sha256: str
    answers: dict[str, float]
    reckoning: Reckoning


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """Flat out, undisturbed."""
    folder = tmp_path_factory.mktemp("clean")
    with running_platform(folder / "home") as platform:
        yield _play(platform, folder, speed=None)


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """Everything gets SIGKILL in the middle of the history; the fifth day runs at a pace."""
    folder = tmp_path_factory.mktemp("disturbed")
    with running_platform(folder / "home") as platform:
        history = sources.FIRST_MODEL.strftime("%Y-%m-%d")
        mess = ("--mess", str(MESS["mess_share"]), "--mess-seed", str(MESS["mess_seed"]))
        with replay_process(platform, SOURCE, "--to", history, "--no-predict", *mess) as replaying:
            eventually(lambda: record_count(kafka_of(platform), UPSTREAM) > 1500, "the replay is under way", 60.0)
            assert replaying.poll() is None, "the replay was over before it could be killed"
            replaying.kill()
            supervise.kill(platform)
        start(platform)
        yield _play(platform, folder, speed=PACE)


def test_features_are_those_of_a_clean_run(clean: Seen, disturbed: Seen) -> None:
    _, statuses = clean.vectors
    assert statuses.count(FEATURE_STATUS_PRESENT) > 0.9 * len(statuses)
    assert disturbed.vectors == clean.vectors


def test_the_same_data_make_the_same_model(clean: Seen, disturbed: Seen) -> None:
    assert disturbed.onnx_sha256 == clean.onnx_sha256


def test_a_replay_at_a_pace_gets_the_answers_of_one_that_runs_flat_out(clean: Seen, disturbed: Seen) -> None:
    assert len(clean.answers) > 400
    assert disturbed.answers == clean.answers


@pytest.mark.parametrize("which", ["clean", "disturbed"])
def test_the_books_balance(which: str, request: pytest.FixtureRequest) -> None:
    seen: Seen = request.getfixturevalue(which)

    assert [account for account in seen.reckoning.accounts if not account.balanced] == []
    assert seen.reckoning.events.stored > 4000


def _play(platform: Platform, folder: Path, *, speed: float | None) -> Seen:
    """History (what of it is not there yet), a model, one day of predictions."""
    answers = folder / "answers.jsonl"
    with platform_client(platform.ports) as client:
        with Replay(plan(platform, sources.steady(), **MESS)) as replay:
            replay.run(sources.FIRST_MODEL, predict=False)
        features = vectors(platform, sources.FIRST_MODEL)
        run = _train(client)
        with Replay(plan(platform, sources.steady(), speed=speed, answers=answers, **MESS)) as replay:
            totals = replay.run(sources.ONE_DAY)
        reckoning = reckon(platform, client, totals, replay.reached, (sources.FIRST_MODEL, sources.ONE_DAY))
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    return Seen(features, run.onnx_sha256, {row["entity_id"]: row["probability"] for row in rows}, reckoning)


def _train(client: PlatformClient) -> training_pb2.Run:
    model = load_recipe(PARCELS).name
    run_id = client.train(model, sources.START, sources.FIRST_MODEL, "the first model", DEMO)
    run = client.wait_for_run(run_id, lambda _: None, 180.0)
    assert run.state == training_pb2.RUN_STATE_REGISTERED, run.detail
    client.wait_for_champion(run.model_version, 60.0)
    return run
