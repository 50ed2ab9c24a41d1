"""`slipway batch-predict`: what it says of a run that it starts, and of one that it cannot start."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

from services.cli.batch_predict import Shown
from tests.support import PARCELS
from tests.unit.cli.fakes import slipway

RANGE = ("--from", "2024-03-01", "--to", "2024-03-02")


def _line(event: str, **keys: object) -> str:
    return json.dumps({"event": event, **keys}) + "\n"


BEGINS = _line("batch_begins", model="parcel-delay", version="3", done=2, of=4)
ENDS = {"out": "may.parquet", "rows": 1234, "version": "3"}


def _shown(*lines: str, code: int = 0) -> None:
    with Shown() as shown:
        shown.follow(lines)
    shown.end(code)


@pytest.mark.parametrize("options", [[], [*RANGE, "--in", "rows.parquet"], ["--from", "2024-03-01"]])
def test_the_rows_are_a_range_or_a_file(options: list[str]) -> None:
    done = slipway("batch-predict", "--out", "scores", *options)

    assert done.exit_code == 1
    assert done.stderr == "error: give the rows: either --from and --to, or --in\n"


def test_a_run_is_followed_slice_by_slice(capfd: pytest.CaptureFixture[str]) -> None:
    stages = [_line("batch_stage", stage="rows"), _line("batch_scored", done=3, of=4, rows=1000)]
    _shown(BEGINS, *stages, _line("something_else"), _line("batch_ends", **ENDS, new=True))

    out, err = capfd.readouterr()
    assert err.splitlines() == ["parcel-delay version 3: 2 of 4 done", "3 of 4, 1,000 rows"]
    assert out == "may.parquet: 1,234 rows scored by version 3\n"


def test_a_run_that_had_nothing_to_do_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    _shown(_line("batch_ends", **ENDS | {"rows": 0}, new=False))

    assert "had been scored before by version 3" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([BEGINS, _line("batch_fails", error="[is] ahead of the lake")], "error: [is] ahead of the lake\n"),
        ([_line("batch_fails", error="MLflow at x does not answer")], "`slipway up` starts it\n"),
        ([BEGINS, "what a library prints\n"], "what a library prints\n"),
        ([], "error: python -m services.inference.batch ended with 1"),
    ],
)
def test_a_run_that_fails_says_why(capfd: pytest.CaptureFixture[str], lines: list[str], words: str) -> None:
    with pytest.raises(typer.Exit) as ended:
        _shown(*lines, code=1)

    assert ended.value.exit_code == 1
    assert words in capfd.readouterr().err


def test_a_platform_that_does_not_run_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    pq.write_table(pa.table({"features": [[1.0]]}), tmp_path / "rows.parquet")
    into = str(tmp_path / "out.parquet")

    done = slipway("batch-predict", "--in", str(tmp_path / "rows.parquet"), "--out", into)

    assert done.exit_code == 1
    assert done.stderr.startswith("error: MLflow at http://127.0.0.1:")
    assert "`slipway up`" in done.stderr and done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


def test_a_run_that_is_stopped_says_how_it_goes_on(tmp_path: Path) -> None:
    pq.write_table(pa.table({"features": [[1.0]]}), tmp_path / "rows.parquet")
    options = ["--in", str(tmp_path / "rows.parquet"), "--out", str(tmp_path / "out.parquet")]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        told = {"SLIPWAY_MLFLOW": f"http://127.0.0.1:{silent.getsockname()[1]}", "SLIPWAY_FEATURE_REPO": str(PARCELS)}
        running = subprocess.Popen(
            [sys.executable, "-m", "services.cli", "batch-predict", *options],
            env=os.environ | told,
            stderr=subprocess.PIPE,
            text=True,
        )
        asked, _ = silent.accept()
        running.terminate()
        _, words = running.communicate(timeout=20)
        # The run has ended, too.
        asked.settimeout(20)
        while asked.recv(4096):
            pass
        asked.close()

    assert running.returncode == 130
    assert words.splitlines()[-1] == "error: stopped; the same command goes on where it was"
