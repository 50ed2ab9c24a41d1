"""`slipway batch-predict`: starts `python -m services.inference.batch`, and draws what it tells of itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any, Self

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from services.chassis.clock import rfc3339
from services.chassis.errors import Invalid
from services.cli import values
from services.cli.display import err, out
from services.cli.failures import FAILED, INTERRUPTED, fail
from services.cli.others import module_environment
from services.cli.platform import stops_on_signals
from services.cli.rpc import IS_IT_RUNNING
from services.cli.settings import CliSettings, cli_settings

_MODULE = "services.inference.batch"


def batch_predict(
    *,
    into: Annotated[
        str, typer.Option("--out", metavar="PATH", help="A file that ends in .parquet, else a Delta table.")
    ],
    model: Annotated[str, typer.Option(metavar="VERSION", help="An alias, or the number of a version.")] = "champion",
    since: Annotated[
        datetime | None,
        typer.Option("--from", parser=values.moment, metavar="DATE", help="First prediction moment."),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--to", parser=values.moment, metavar="DATE", help="End; itself not included.")
    ] = None,
    rows: Annotated[
        str, typer.Option("--in", metavar="PATH", help="Instead of a range: rows in Parquet or a Delta table.")
    ] = "",
    piece: Annotated[str, typer.Option("--slice", help="What is built and scored at a time: 12h, 7d.")] = "",
    work: Annotated[str, typer.Option(metavar="FOLDER", help="For what is scored so far; default: beside --out.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Score every row of a past range with the features as of its moment, or the rows of a file.

    A run that was stopped goes on where it was when the same command is given again.

    Examples: `slipway batch-predict --from 2013-05-01 --to 2013-06-01 --out may.parquet` ·
    `slipway batch-predict --model 3 --in vectors.parquet --out scores/`
    """
    if bool(rows) == (since is not None and until is not None):
        raise Invalid("give the rows: either --from and --to, or --in")
    moments = {"--from": since, "--to": until}
    texts = {"--in": rows, "--slice": piece, "--work": work}
    options = {
        **{name: rfc3339(value) for name, value in moments.items() if value is not None},
        **{name: text for name, text in texts.items() if text},
        "--model": model,
        "--out": into,
    }
    arguments = [word for pair in options.items() for word in pair] + ["--overwrite"] * overwrite
    with _running(arguments, cli_settings()) as process, Shown() as shown:
        shown.follow(process.stdout or ())
        code = process.wait()
    shown.end(code)


@contextmanager
def _running(arguments: list[str], settings: CliSettings) -> Iterator[subprocess.Popen[str]]:
    """The run, with its log lines in a pipe. Ctrl-C and SIGTERM end both."""
    environment = module_environment() | {
        "SLIPWAY_MODEL": settings.recipe.name,
        "SLIPWAY_MLFLOW": settings.mlflow,
        "SLIPWAY_FEATURES": settings.features,
        "SLIPWAY_LOG_LEVEL": "INFO",
        "SLIPWAY_LOG_FORMAT": "json",
    }
    command = [sys.executable, "-m", _MODULE, *arguments]
    with stops_on_signals(), subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield process
        except KeyboardInterrupt:
            process.terminate()
            fail("stopped; the same command goes on where it was", INTERRUPTED)
        finally:
            process.terminate()


class Shown:
    """A bar on a terminal, else a line for each slice; and how it ended."""

    def __init__(self) -> None:
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rows]:,} rows"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        self._console = err()
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)
        self._task = self._bar.add_task("finding the version", total=None, rows=0)
        self._last: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def follow(self, lines: Iterable[str]) -> None:
        """Shows each log line as it comes."""
        for line in lines:
            told = _record(line)
            match told.get("event"):
                case "batch_begins":
                    self._bar.update(self._task, completed=told["done"], total=told["of"])
                    self._say(f"{told['model']} version {told['version']}: {told['done']} of {told['of']} done")
                case "batch_stage":
                    self._bar.update(self._task, description=escape(told["stage"]))
                case "batch_scored":
                    self._bar.update(self._task, completed=told["done"], rows=told["rows"])
                    self._say(f"{told['done']} of {told['of']}, {told['rows']:,} rows")
                case "batch_ends" | "batch_fails":
                    self._last = told
                case None:
                    self._console.print(escape(line.rstrip("\n")))

    def end(self, code: int) -> None:
        """Says what came of it, and ends the command as the run ended."""
        if self._last.get("event") == "batch_ends":
            version = escape(self._last["version"])
            what = f"{self._last['rows']:,} rows scored by" if self._last["new"] else "had been scored before by"
            out().print(f"{escape(self._last['out'])}: {what} version {version}")
        elif self._last:
            error = str(self._last["error"])
            fail(f"{error}. {IS_IT_RUNNING}" if "does not answer" in error else error, code or FAILED)
        elif code:
            fail(f"python -m {_MODULE} ended with {code}; its last words are above", FAILED)

    def _say(self, words: str) -> None:
        if not self._console.is_terminal:
            self._console.print(escape(words))


def _record(line: str) -> dict[str, Any]:
    """Empty for what is no log line."""
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
