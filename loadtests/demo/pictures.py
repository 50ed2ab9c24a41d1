"""The reckoning as a picture on one axis of event time: quality per version, the split, how labels moved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import date2num
from matplotlib.figure import Figure

from loadtests.books.joins import Score
from loadtests.demo.platform import Chronicle
from loadtests.demo.reckoning import Reckoning
from services.chassis.clock import from_proto
from services.contracts.router.v1 import router_pb2

# Okabe and Ito's palette, told apart also by the colour-blind.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# A week with fewer labels says little.
_MIN_LABELS = 150


def draw(reckoning: Reckoning, path: Path) -> Path:
    """Writes a PNG; returns its path."""
    mpl.use("agg")
    figure = Figure(figsize=(12, 9), layout="constrained")
    quality, split, share = figure.subplots(3, 1, sharex=True, height_ratios=[3, 1, 1])
    _quality(quality, reckoning.weekly)
    _marks(quality, reckoning.chronicle)
    _split(split, reckoning.chronicle)
    _share(share, reckoning.weekly)
    share.xaxis_date()
    share.set_xlabel("event time (UTC)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def _quality(axes: Axes, weekly: Sequence[Score]) -> None:
    versions = list(dict.fromkeys(score.version for score in weekly))
    for colour, version in zip(_cycle(len(versions)), versions, strict=True):
        shown = [score for score in weekly if score.version == version and score.labels >= _MIN_LABELS]
        axes.plot([_x(s.since) for s in shown], [s.auc for s in shown], "o-", color=colour, label=f"v{version}")
    axes.set_ylabel("AUC of the week")
    axes.set_title("Served quality of each version, from joined labels")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", title="version")


def _marks(axes: Axes, chronicle: Chronicle) -> None:
    """Releases as vertical lines, triggers as crosses on the lower edge."""
    for release in chronicle.releases:
        good = release.phase == router_pb2.PHASE_SUCCESSFUL
        phase = router_pb2.Phase.Name(release.phase).removeprefix("PHASE_").lower()
        at = _x(from_proto(release.started_at))
        axes.axvline(at, color="grey", linestyle="-" if good else ":", linewidth=1)
        axes.annotate(
            f"v{release.challenger_version} {phase}",
            (at, 1),
            xycoords=("data", "axes fraction"),
            xytext=(2, -5),
            textcoords="offset points",
            rotation=90,
            va="top",
            fontsize=8,
        )
    for trigger in chronicle.triggers:
        at = _x(from_proto(trigger.event_time))
        axes.plot([at], [0], "x", color="#000000", clip_on=False, transform=axes.get_xaxis_transform())
        axes.annotate(
            trigger.kind,
            (at, 0),
            xycoords=("data", "axes fraction"),
            xytext=(2, 4),
            textcoords="offset points",
            fontsize=8,
        )


def _split(axes: Axes, chronicle: Chronicle) -> None:
    # Stable: what happened at one event time stays in its order.
    steps = sorted(_weights(chronicle), key=itemgetter(0))
    axes.step([at for at, _ in steps], [weight for _, weight in steps], where="post", color=_COLOURS[1])
    axes.fill_between(
        [at for at, _ in steps],
        [weight for _, weight in steps],
        step="post",
        color=_COLOURS[1],
        alpha=0.25,
    )
    axes.set_ylabel("challenger's\nshare, %")
    axes.set_ylim(0, 105)
    axes.grid(alpha=0.3)


def _weights(chronicle: Chronicle) -> Iterator[tuple[float, float]]:
    for release in chronicle.releases:
        for each in release.transitions:
            if each.HasField("event_time"):
                yield _x(from_proto(each.event_time)), each.challenger_weight / 100


def _share(axes: Axes, weekly: Sequence[Score]) -> None:
    weeks = sorted(weekly, key=lambda score: score.since)
    shares = []
    for since, group in groupby(weeks, key=lambda score: score.since):
        scores = list(group)
        labels = sum(score.labels for score in scores)
        shares.append((since, sum(score.labels * score.positive_rate for score in scores) / labels))
    axes.plot([_x(since) for since, _ in shares], [100 * share for _, share in shares], "o-", color=_COLOURS[0])
    axes.set_ylabel("positive\nlabels, %")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)


def _x(moment: datetime) -> float:
    """Days, as Matplotlib counts them."""
    return float(date2num(moment))  # type: ignore[no-untyped-call]


def _cycle(count: int) -> list[str]:
    return [_COLOURS[n % len(_COLOURS)] for n in range(count)]
