"""`slipway logs`: what the processes write, in one stream."""

from __future__ import annotations

from typing import Annotated

import typer

from deploy.local.processes import local_platform, processes
from services.chassis.errors import Invalid
from services.cli.log_files import LogFiles
from services.cli.log_view import show, show_until


def logs(
    names: Annotated[list[str] | None, typer.Argument(metavar="[PROCESS]...", help="Default: all.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes; Ctrl-C ends it.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Last lines of each process.")] = 20,
) -> None:
    """Show the processes' logs, merged by time.

    Examples: `slipway logs router -f` · `slipway logs ingestion lake -n 100`
    """
    platform = local_platform()
    known = [process.name for process in processes(platform)]
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        raise Invalid(f"no process {unknown[0]!r}; there are {', '.join(known)}")
    files = LogFiles.of(platform, names or ())
    show(files.last(lines) if lines else files.new()[:0])
    if follow:
        try:
            show_until(files, lambda: False)
        except KeyboardInterrupt:
            return
