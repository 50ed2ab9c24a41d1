"""What the ceilings count, judge and write; nothing is measured here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from loadtests.ceilings import contenders as c
from loadtests.ceilings.command import ceilings
from loadtests.ceilings.cores import check_cores, family, family_cpu_s, pinned
from loadtests.ceilings.goals import verdicts
from loadtests.ceilings.h2load import Answered, Call, Shape, framed, read, read_log, send
from loadtests.ceilings.model import forest, run, vectors
from loadtests.ceilings.processes import started
from loadtests.ceilings.report import Report
from loadtests.ceilings.requests import (
    binary_call,
    grpc_call,
    read_binary,
    read_grpc,
    read_v2_json,
    v2_json_call,
    vector_request,
)
from loadtests.ceilings.rounds import InProcess, Outcome, Sample, Server, measure
from services.chassis.errors import Conflict, Invalid, Unavailable
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from tests.support import eventually

PRINTED = """starting benchmark...
finished in 4.57s, 1093.51 req/s, 420.3KB/s
requests: 5000 total, 5000 started, 5000 done, 5000 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 5000 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 1.88MB (1970624) total, 24.61KB (25200) headers (space savings 97.27%), 1.71MB (1795000) data
"""


def test_a_grpc_frame_is_a_flag_a_length_and_the_message():
    assert framed(b"abc") == b"\x00\x00\x00\x00\x03abc"


def test_h2load_is_read_to_the_byte():
    assert read(PRINTED) == Answered(per_second=1093.51, requests=5000, good=5000, body_bytes=1795000)
    with pytest.raises(Unavailable, match="could not connect"):
        read("could not connect to host")
    with pytest.raises(Unavailable):
        read("\n".join(PRINTED.splitlines()[:2]))


def test_the_log_of_h2load_tells_the_microseconds_of_each_call():
    assert read_log("1700000000000000\t200\t312\n1700000000000400\t200\t287\n") == [312, 287]


def test_a_reply_that_is_shorter_or_longer_than_the_checked_one_is_seen():
    assert read(PRINTED).misses(359) == ""
    assert "5000 right ones have 1800000" in read(PRINTED).misses(360)
    assert read(PRINTED.replace("5000 2xx", "4990 2xx")).misses(359) == "10 of 5000 calls failed"


def test_the_model_is_the_same_bytes_each_time_and_takes_missing_values():
    onnx = forest(10)
    assert onnx == forest(10)
    rows = vectors(100, 10)
    rows[::7, 3] = np.nan
    found = run(onnx, rows)
    assert found.shape == (100,)
    assert ((found > 0) & (found < 1)).all() and len(set(found.tolist())) > 90


def test_onnxruntime_alone_is_counted_in_runs_and_their_processor_time(tmp_path: Path):
    model = tmp_path / "model.onnx"
    model.write_bytes(forest(3))
    contender = InProcess("alone", model, 2, None)
    contender.prepare(0.05)
    sample = contender.take()
    assert sample.cpu_us is not None and 1 < sample.cpu_us < 10_000
    assert sample.busy == pytest.approx(sample.per_second * sample.cpu_us / 1e6) and sample.busy < 1.1


def test_a_vector_goes_out_over_grpc_and_its_reply_is_read_raw_or_typed():
    call = grpc_call("127.0.0.1:1", vector_request("m", vectors(2, 3)))
    request = v2.ModelInferRequest.FromString(call.body[5:])
    assert np.array_equal(np.frombuffer(request.raw_input_contents[0], "<f4").reshape(2, 3), vectors(2, 3))
    raw = v2.ModelInferResponse(raw_output_contents=[np.array([0.5, 0.25], "<f4").tobytes()])
    typed = v2.ModelInferResponse()
    typed.outputs.add(name="probability").contents.fp32_contents.extend([0.5, 0.25])
    for response in (raw, typed):
        assert read_grpc(response.SerializeToString()).tolist() == [0.5, 0.25]


def test_a_vector_goes_out_over_rest_behind_its_header_and_the_binary_reply_is_read():
    call = binary_call("127.0.0.1:1", "m", vectors(1, 3))
    length = int(call.headers["inference-header-content-length"])
    assert json.loads(call.body[:length])["inputs"][0]["parameters"] == {"binary_data_size": 12}
    assert call.body[length:] == vectors(1, 3).tobytes()
    header = {"outputs": [{"name": "probability", "shape": [2], "parameters": {"binary_data_size": 8}}]}
    reply = json.dumps(header).encode() + np.array([0.5, 0.25], "<f4").tobytes()
    assert read_binary(reply).tolist() == [0.5, 0.25]
    assert json.loads(v2_json_call("127.0.0.1:1", "m", vectors(1, 3)).body)["inputs"][0]["shape"] == [1, 3]


def test_the_time_of_a_family_counts_its_children_even_those_that_ended():
    burn = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'sum(range(10**7))'], check=True); input()"
    with subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        sleeper = subprocess.Popen(["sleep", "60"])
        try:
            assert {os.getpid(), parent.pid, sleeper.pid} <= family(os.getpid())
        finally:
            sleeper.kill()
            sleeper.wait()
        parent.communicate(b"\n", timeout=60)
    assert family(parent.pid) == set()
    assert family_cpu_s(os.getpid()) > 0.05


def test_a_process_ends_with_the_workers_that_it_would_leave_behind(tmp_path: Path):
    leaves_one = ["sh", "-c", "sleep 300 & echo $! > worker; wait"]
    with started("leaves", leaves_one, environment={}, core=None, folder=tmp_path):
        eventually(lambda: (tmp_path / "worker").exists() and (tmp_path / "worker").read_text(), "the worker runs")
        worker = int((tmp_path / "worker").read_text())
        assert family(worker) == {worker}
    eventually(lambda: not family(worker), "the worker has ended")


def test_a_core_that_is_not_ours_is_refused():
    with pytest.raises(Unavailable, match="core 4096"):
        check_cores(0, 4096)
    assert pinned(1, ["x"]) == ["taskset", "--cpu-list", "1", "x"]
    assert pinned(None, ["x"]) == ["x"]


def test_without_h2load_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Unavailable, match="apt-get install nghttp2-client"):
        send(Call("http://127.0.0.1:1/", b""), 1, Shape())


class Steady:
    """Takes part without a server; `breaks_at` the step of that number."""

    rows = 1

    def __init__(self, name: str, log: list[str], breaks_at: int | None = None) -> None:
        self.name = name
        self._log = log
        self._steps_left = breaks_at

    def prepare(self, seconds: float) -> None:
        self._step("prepare")

    def take(self) -> Sample:
        self._step("take")
        parts_us = {"envoy": 4.0, "server": 6.0 + len(self._log)}
        return Sample(100.0 + len(self._log), 10.0, 0.9, 200.0, 300.0, parts_us)

    def finish(self) -> None:
        self._step("finish")

    def _step(self, name: str) -> None:
        self._log.append(f"{self.name} {name}")
        if self._steps_left is not None:
            self._steps_left -= 1
            if self._steps_left == 0:
                raise Conflict(f"{self.name} answers nonsense")


def test_contenders_take_turns_and_one_that_fails_leaves_with_its_reason():
    log: list[str] = []
    told: list[str] = []
    good, bad = measure([Steady("a", log), Steady("b", log, breaks_at=3)], 3, 1.0, told.append)
    assert log == [
        *("a prepare", "b prepare"),
        *("a take", "b take", "a take", "b take", "a take"),
        "a finish",
    ]
    assert (len(good.samples), good.failed) == (3, "")
    assert good.parts_us() == {"envoy": 4.0, "server": 11.0} and bad.parts_us() == {}
    assert good.median("per_second") == 105.0 and good.spread("per_second") == (103.0, 107.0)
    assert (bad.samples, bad.failed) == ((), "b answers nonsense")
    assert bad.median("per_second") is None and bad.spread("p50_us") is None
    assert "b failed: b answers nonsense" in told


def test_one_that_fails_its_last_check_has_no_numbers():
    (outcome,) = measure([Steady("a", [], breaks_at=3)], 1, 1.0, lambda _: None)
    assert (outcome.samples, outcome.failed) == ((), "a answers nonsense")


def _outcome(name: str, rows: int = 1, **measured: float) -> Outcome:
    return Outcome(name, rows, [Sample(**{"per_second": 1.0, **measured})])


def test_the_targets_are_judged_on_the_fast_lane_if_there_is_one():
    plain = [_outcome(c.REFERENCE, cpu_us=250, p50_us=240), _outcome(c.GRPC, cpu_us=300, p50_us=300)]
    fast = [*plain, _outcome(c.FAST, cpu_us=25.0, p50_us=120.0)]
    assert [verdict.word for verdict in verdicts(plain)] == ["no", "no", *["not measured"] * 4]
    assert [verdict.word for verdict in verdicts(fast)] == ["yes", "yes", *["not measured"] * 4]
    assert verdicts(fast)[1].measured == "0.5 of the reference"


def test_each_target_has_its_bound():
    def words(factor: float) -> list[str]:
        outcomes = [
            _outcome(c.REFERENCE, p50_us=200),
            _outcome(c.FAST, cpu_us=25 * factor, p50_us=100 * factor),
            _outcome(c.ENVOY, cpu_us=60 * factor),
            _outcome(c.ENTITY_FAST, cpu_us=155 * factor),
            _outcome(c.IN_PROCESS_100, 100, per_second=1000),
            _outcome(c.FAST_100, 100, per_second=800 / factor),
            _outcome(c.REST, cpu_us=154.5 * factor),
        ]
        return [verdict.word for verdict in verdicts(outcomes)]

    assert words(1.0) == ["yes"] * 6
    assert words(1.01) == ["no"] * 6


def test_a_failed_server_reaches_nothing_and_the_report_says_why(tmp_path: Path):
    outcomes = [Outcome(c.FAST, 1, failed="it answers nonsense"), _outcome(c.GRPC, cpu_us=1.0)]
    assert verdicts(outcomes)[0].word == "not measured"
    report = Report("Title", {"date": "today"}, outcomes, verdicts(outcomes))
    report.write(tmp_path / "out.md")
    written = (tmp_path / "out.md").read_text()
    assert "| inference, fast lane | failed |" in written and "- date: today" in written
    assert "- inference, fast lane failed: it answers nonsense" in written
    report.write(tmp_path / "out.json")
    loaded = json.loads((tmp_path / "out.json").read_text())
    assert loaded["outcomes"][1]["samples"][0]["cpu_us"] == 1.0
    with pytest.raises(Invalid, match=r"\.md or \.json"):
        report.write(tmp_path / "out.txt")


class Replies(BaseHTTPRequestHandler):
    """Answers 0.25 in REST V2, whatever it is asked."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"outputs": [{"name": "probability", "data": [0.25]}]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """To nobody."""


@pytest.fixture
def quarter() -> Iterator[str]:
    """`host:port` of a server whose every answer is 0.25."""
    with HTTPServer(("127.0.0.1", 0), Replies) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_server_that_does_not_answer_what_onnxruntime_says_is_refused(quarter: str):
    def outcome(probability: float) -> str:
        call, expected = v2_json_call(quarter, "m", vectors(1, 3)), np.array([probability], np.float32)
        server = Server("it", call, read_v2_json, expected, {})
        try:
            server.check()
        except Conflict as error:
            return str(error)
        return "right"

    assert outcome(0.25) == "right"
    assert outcome(0.2501) == "it answers [0.25], onnxruntime says [0.2501]"


def test_the_command_names_a_bad_output_before_it_starts_anything():
    app = typer.Typer()
    app.command()(ceilings)
    result = CliRunner().invoke(app, ["--out", "report.pdf"])
    assert result.exit_code == 1
    assert "expected a name that ends in .md or .json" in result.output + result.stderr
