"""`slipway up`, `down` and `status`: the processes of this machine."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.live import Live
from rich.markup import escape

from deploy.local import supervise
from deploy.local.processes import Platform, local_platform
from deploy.local.supervise import Status
from services.chassis.errors import SlipwayError
from services.cli.display import coloured, err, out, table
from services.cli.failures import FAILED, INTERRUPTED, REFUSED, fail
from services.cli.log_files import LogFiles
from services.cli.log_view import show, show_until

READY_WITHIN_S = 240.0
_LAST_LINES = 15


def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when it is ready; it runs on.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds in which everything must be ready.")] = READY_WITHIN_S,
) -> None:
    """Start the platform, wait until it is ready, show its logs; Ctrl-C stops all of it.

    Its data lie in `SLIPWAY_HOME` (default `.slipway/`) and are found again by the next start.

    Examples: `slipway up` · `slipway up --detach` · `SLIPWAY_PORT_OFFSET=1000 SLIPWAY_HOME=/tmp/second slipway up`
    """
    platform = local_platform()
    if supervise.manager_pid(platform) is not None:
        out().print(f"The platform of {platform.home.root} runs already; waiting until it is ready.")
        _wait_ready(platform, timeout, LogFiles.of(platform))
        return
    _refuse(supervise.obstacles(platform))
    with stops_on_signals():
        with _stopped_unless_it_works(platform):
            _start(platform, timeout)
        _say_where(platform)
        if not detach:
            _watch(platform)


def down(
    kill: Annotated[bool, typer.Option(help="SIGKILL at once, as a crash would.")] = False,
) -> None:
    """Stop the platform: services first, then Envoy, MLflow, Redis and Kafka."""
    platform = local_platform()
    if supervise.manager_pid(platform) is None:
        out().print(f"Nothing to stop: no platform of {platform.home.root} is running.")
    elif kill:
        supervise.kill(platform)
        out().print("Killed.")
    else:
        _stop(platform)


def status(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Every process, whether it is ready and what it waits for. Exit code 0 only if all are ready."""
    now = supervise.status(local_platform())
    if as_json:
        typer.echo(json.dumps([asdict(each) | {"ready": each.ready} for each in now], indent=2))
    else:
        out().print(_statuses(now))
    if not all(each.ready for each in now):
        raise typer.Exit(FAILED)


def _start(platform: Platform, timeout_s: float) -> None:
    with err().status("preparing Kafka's storage and the configuration"):
        try:
            supervise.prepare(platform)
            lines = LogFiles.of(platform, from_end=True)
            supervise.start(platform)
        except (OSError, RuntimeError) as error:
            raise SlipwayError(str(error)) from error
    _wait_ready(platform, timeout_s, lines)


def _watch(platform: Platform) -> None:
    """Shows the logs until Ctrl-C, which stops the platform."""
    out().print("Ctrl-C stops it.\n")
    try:
        show_until(LogFiles.of(platform, from_end=True), lambda: supervise.manager_pid(platform) is None)
    except KeyboardInterrupt:
        _stop(platform)
        return
    fail(f"supervisord has ended, and with it every process; see {platform.home.run / 'supervisord.log'}")


@contextmanager
def _stopped_unless_it_works(platform: Platform) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        _stop(platform)
        raise typer.Exit(INTERRUPTED) from None
    except Exception:
        _stop(platform)
        raise


def _refuse(problems: list[str]) -> None:
    if problems:
        for problem in problems[:-1]:
            err().print(f"[bold red]error:[/] {escape(problem)}")
        fail(problems[-1], REFUSED)


def _wait_ready(platform: Platform, timeout_s: float, lines: LogFiles) -> None:
    """Shows how it goes. Raises SlipwayError after the last lines of what was not ready in time."""
    try:
        if out().is_terminal:
            with Live(console=out(), refresh_per_second=4, transient=True) as live:
                supervise.wait_ready(platform, timeout_s, lambda now: live.update(_statuses(now)))
        else:
            supervise.wait_ready(platform, timeout_s, _tell_once())
    except TimeoutError as error:
        late = {each.name for each in supervise.status(platform) if not each.ready}
        show(line for line in lines.last(_LAST_LINES) if line.process in late)
        raise SlipwayError(str(error)) from error


def _tell_once() -> Callable[[list[Status]], None]:
    """A line for each process when it is ready."""
    told: set[str] = set()

    def tell(now: list[Status]) -> None:
        for each in now:
            if each.ready and each.name not in told:
                told.add(each.name)
                out().print(f"{each.name} is ready")

    return tell


def _say_where(platform: Platform) -> None:
    ports = platform.ports
    out().print(
        f"[bold green]ready[/]  console http://127.0.0.1:{ports.monitoring_http}  "
        f"MLflow http://127.0.0.1:{ports.mlflow}  predictions 127.0.0.1:{ports.envoy} (gRPC)  "
        f"events http://127.0.0.1:{ports.ingestion_http}/docs"
    )


def _stop(platform: Platform) -> None:
    """A second Ctrl-C does not wait for anybody."""
    try:
        with err().status("stopping; Ctrl-C again kills"):
            supervise.stop(platform)
    except KeyboardInterrupt:
        supervise.kill(platform)
    except TimeoutError as error:
        fail(f"{error}. `slipway down --kill` ends it")
    out().print("Stopped.")


@contextmanager
def stops_on_signals() -> Iterator[None]:
    """SIGTERM and a closed terminal do what Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {signum: signal.signal(signum, interrupt) for signum in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _statuses(now: list[Status]) -> RenderableType:
    made = table("process", "state", "waiting for", "ports")
    for each in now:
        state = "ready" if each.ready else each.state.lower()
        ports = " ".join(
            str(port) if kind == each.name else f"{kind} {port}" for kind, port in sorted(each.ports.items())
        )
        made.add_row(each.name, coloured(state), escape(each.waiting_for or ""), ports)
    return made
