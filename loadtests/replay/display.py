"""For people: the progress bar, and the books as a table."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from loadtests.replay.plan import Progress, Tell
from loadtests.replay.totals import Totals

_SMOOTHING = 0.2


@contextmanager
def progress_bar(console: Console, begins: datetime, until: datetime) -> Iterator[Tell]:
    """A bar over event time; what is yielded keeps it up to date."""
    bar = Bar(
        TextColumn("{task.fields[moment]}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}"),
        console=console,
    )
    with bar:
        task = bar.add_task("replay", total=max((until - begins).total_seconds(), 1), moment=_minute(begins), words="")
        rate = _Rate()

        def tell(progress: Progress) -> None:
            done = (min(progress.reached, until) - begins).total_seconds()
            bar.update(task, completed=done, moment=_minute(progress.reached), words=_words(progress, rate))

        yield tell


def books(totals: Totals) -> Table:
    """What was sent, asked and answered since the replay began."""
    table = Table(title="Since the replay began", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, count in (*sorted(totals.sent.items()), *sorted(totals.mess.items())):
        table.add_row(f"sent: {name}", f"{count:,}")
    table.add_row("sent: heartbeats", f"{totals.kinds['heartbeat']:,}")
    if again := totals.sent_again.total():
        table.add_row("sent once more after a crash", f"{again:,}")
    for version, count in sorted(totals.answered.items()):
        table.add_row(f"answered by {version}", f"{count:,}")
    for status, count in sorted(totals.failed.items()):
        table.add_row(f"failed: {status}", f"{count:,}")
    if totals.answered:
        for share in (0.5, 0.99):
            table.add_row(f"latency p{share * 100:.0f}", f"{totals.latencies.quantile_s(share) * 1000:.1f} ms")
        table.add_row("missing features", f"{totals.missing_features:,}")
    return table


def _words(progress: Progress, rate: _Rate) -> str:
    totals = progress.totals
    words = f"{rate.of(totals.records):,.0f} records/s · {totals.answered.total():,} answered"
    if failed := totals.failed.total():
        words += f" · {failed:,} failed"
    return words + (f" · waiting for {progress.waiting_for}" if progress.waiting_for else "")


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


class _Rate:
    """Records per second, smoothed."""

    def __init__(self) -> None:
        self._before: tuple[float, int] | None = None
        self._rate = 0.0

    def of(self, records: int) -> float:
        now_s = time.monotonic()
        if self._before is not None and now_s > self._before[0]:
            latest = (records - self._before[1]) / (now_s - self._before[0])
            self._rate += _SMOOTHING * (latest - self._rate)
        self._before = (now_s, records)
        return self._rate
