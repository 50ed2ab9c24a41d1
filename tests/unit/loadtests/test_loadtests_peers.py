"""The peers' environments, what they are given and how the table is judged; none is started here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from loadtests.ceilings import contenders as c
from loadtests.ceilings.model import Served, vectors
from loadtests.ceilings.requests import read_grpc
from loadtests.ceilings.rounds import Outcome, Sample
from loadtests.peers import catalogue
from loadtests.peers.catalogue import PEERS, Site
from loadtests.peers.command import chosen, peers
from loadtests.peers.environments import python_of
from loadtests.peers.goals import verdicts
from loadtests.peers.stock import STOCK
from services.chassis.errors import Invalid, Unavailable

BY_NAME = {peer.name: peer for peer in PEERS}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Without an environment: what a peer is given before it is started."""
    return Site(tmp_path / "venv" / "bin" / "python", tmp_path, Served("parcel-delay", tmp_path / "m.onnx", 3), 1, 2)


def test_an_environment_is_kept_until_its_requirements_change(tmp_path: Path):
    (tmp_path / "made" / "bin").mkdir(parents=True)
    (tmp_path / "made" / "requirements.txt").write_text("a==1\nb==2")
    assert python_of("made", ("a==1", "b==2"), tmp_path) == tmp_path / "made" / "bin" / "python"
    with pytest.raises(Unavailable, match="the environment of made could not be made"):
        python_of("made", ("a==1", "b==3"), tmp_path, interpreter="false")
    assert not (tmp_path / "made").exists()


def test_a_peer_is_chosen_by_name():
    assert [peer.name for peer in chosen(["kserve"])] == ["kserve"]
    assert chosen([]) == list(PEERS)
    with pytest.raises(Invalid, match="--only tritn: expected one of mlserver, kserve, triton"):
        chosen(["tritn"])


def test_all_who_speak_the_protocol_get_the_same_bytes(site: Site):
    bodies = {
        way.call.body
        for name in ("mlserver", "kserve")
        for way in BY_NAME[name].start(site).ways
        if way.read is read_grpc
    }
    assert bodies == {site.inference().body}


def test_mlserver_is_told_where_to_listen_and_to_work_alone(site: Site):
    BY_NAME["mlserver"].start(site)
    settings = json.loads((site.folder / "settings.json").read_text())
    assert (settings["grpc_port"], settings["http_port"], settings["parallel_workers"]) == (1, 2, 0)
    assert json.loads((site.folder / "model-settings.json").read_text())["name"] == "parcel-delay"


def test_json_peers_are_asked_about_the_same_row(site: Site):
    (way,) = BY_NAME["litserve"].start(site).ways
    asked = json.loads(way.call.body)["features"]
    assert np.array_equal(np.array(asked, np.float32), vectors(1, 3))
    assert way.read(b'{"probability": [0.25]}').tolist() == [0.25]


def _outcome(name: str, cpu_us: float) -> Outcome:
    return Outcome(name, 1, [Sample(per_second=1.0, cpu_us=cpu_us)])


def _words(*outcomes: Outcome) -> list[str]:
    return [verdict.word for verdict in verdicts(outcomes)]


def test_ours_is_judged_against_the_peers_of_the_same_run():
    theirs = [
        _outcome(catalogue.TRITON, 50),
        _outcome(catalogue.KSERVE_GRPC, 250),
        _outcome(catalogue.KSERVE_REST, 340),
        _outcome(catalogue.KSERVE_BINARY, 320),
        _outcome(catalogue.MLSERVER_REST, 300),
    ]
    assert _words(_outcome(c.FAST, 25), _outcome(c.REST, 150), *theirs)[:5] == ["yes"] * 5
    assert _words(_outcome(c.FAST, 25.1), _outcome(c.REST, 151), *theirs)[:5] == ["no", "yes", "no", "no", "no"]
    assert _words(_outcome(c.FAST, 51), _outcome(c.REST, 151), *theirs)[1] == "no"


def test_a_call_by_keys_is_judged_against_the_stock_parts():
    stock = Outcome(STOCK, 1, [Sample(per_second=1.0, cpu_us=3000, p50_us=1000)])

    def words(cpu_us: float, p50_us: float) -> list[str]:
        return _words(Outcome(c.ENTITY_FAST, 1, [Sample(per_second=1.0, cpu_us=cpu_us, p50_us=p50_us)]), stock)[5:]

    assert words(150, 300) == ["yes", "yes"]
    assert words(151, 301) == ["no", "no"]


def test_our_own_rows_are_no_peers_and_what_is_missing_is_not_measured():
    ours = [_outcome(c.REFERENCE, 1), _outcome(c.GRPC, 300), _outcome(c.FAST, 20), _outcome(c.ENVOY, 1)]
    assert _words(*ours) == ["yes", *["not measured"] * 6]
    failed = Outcome("triton", 1, failed="it did not start")
    assert _words(*ours, failed) == ["yes", *["not measured"] * 6]


def test_the_command_refuses_an_unknown_peer():
    app = typer.Typer()
    app.command()(peers)
    result = CliRunner().invoke(app, ["--only", "nobody"])
    assert result.exit_code == 1
    assert "--only nobody: expected one of" in result.output + result.stderr
