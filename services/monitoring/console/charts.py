"""The pictures, as ECharts options: pure functions of the view and the theme. Colours are Okabe and Ito's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.chassis.clock import from_proto, from_us
from services.contracts.router.v1 import router_pb2
from services.monitoring.console.view import HeatMap, View
from services.monitoring.console.words import UNKNOWN
from services.monitoring.history import RELEASING
from services.monitoring.quality_book import Group, version_order

CHAMPION, CHALLENGER, TRIGGER = "#0072B2", "#E69F00", "#CC79A7"
_DARK_CHAMPION = "#56B4E9"
_BAND_Z = 1.96

Options = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Theme:
    """What depends on light or dark."""

    text: str
    faint: str
    surface: str
    calm: str
    champion: str

    def of(self, variant: str) -> str:
        """A variant's colour."""
        return self.champion if variant == "champion" else CHALLENGER


LIGHT = Theme(text="#1f2933", faint="#d5dbe1", surface="#ffffff", calm="#dce8ef", champion=CHAMPION)
DARK = Theme(text="#e4e9ee", faint="#3a444e", surface="#1a2027", calm="#2c3c49", champion=_DARK_CHAMPION)


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure that the big picture can show."""

    key: str
    title: str
    better: str


AUC = Measure("auc", "AUC", "higher is better")
LOG_LOSS = Measure("log_loss", "log loss (nats)", "lower is better")


def quality(view: View, measure: Measure, theme: Theme) -> Options:
    """The measure by version over event time with its 95 % band, releases as lines, retrain requests as dots."""
    lines: dict[tuple[str, str], list[Group]] = {}
    for group in view.quality:
        if getattr(group.scored, measure.key) is not None:
            lines.setdefault((group.version, group.variant), []).append(group)
    ordered = sorted(lines, key=lambda key: (version_order(key[0]), key[1]))
    series = [part for key in ordered for part in _line(key, lines[key], measure, theme)]
    lowest, highest = _range(lines.values(), measure)
    series.append(_release_marks(view, theme))
    series.append(_trigger_dots(view, lowest))
    return {
        "animation": False,
        "textStyle": {"color": theme.text},
        "grid": {"left": 56, "right": 24, "top": 56, "bottom": 64},
        "tooltip": {"trigger": "item", "confine": True, **_box(theme)},
        "legend": {"type": "scroll", "top": 0, "textStyle": {"color": theme.text}, "data": _legend(ordered)},
        "xAxis": _time_axis(theme),
        "yAxis": {
            "type": "value",
            "min": lowest,
            "max": highest,
            "axisLabel": {"color": theme.text, "showMinLabel": False, "showMaxLabel": False},
            "splitLine": {"lineStyle": {"color": theme.faint}},
        },
        "dataZoom": [
            {"type": "inside", "filterMode": "none"},
            {"type": "slider", "height": 18, "bottom": 8, "filterMode": "none", "textStyle": {"color": theme.text}},
        ],
        "series": series,
    }


def split(release: router_pb2.Release, until: datetime | None, theme: Theme) -> Options:
    """Who got how much over event time as a stacked band, drawn on to `until` while it goes on."""
    points = [(_ms(from_proto(_moment(t))), t.challenger_weight / 100) for t in release.transitions]
    if until is not None:
        points.append((_ms(until), release.challenger_weight / 100))
    points.sort(key=lambda point: point[0])
    before = release.champion_version or UNKNOWN
    shares = {
        f"challenger v{release.challenger_version}": (CHALLENGER, [[at, share] for at, share in points]),
        f"champion v{before}": (
            theme.champion,
            [[at, 100 - share] for at, share in points],
        ),
    }
    return {
        "animation": False,
        "textStyle": {"color": theme.text},
        "grid": {"left": 46, "right": 16, "top": 34, "bottom": 26},
        "tooltip": {"trigger": "axis", "confine": True, **_box(theme)},
        "legend": {"top": 0, "textStyle": {"color": theme.text}},
        "xAxis": _time_axis(theme),
        "yAxis": {
            "type": "value",
            "max": 100,
            "axisLabel": {"color": theme.text, "formatter": "{value} %"},
            "splitLine": {"lineStyle": {"color": theme.faint}},
        },
        "series": [
            {
                "name": name,
                "type": "line",
                "step": "end",
                "stack": "all",
                "symbol": "none",
                "lineStyle": {"width": 0},
                "areaStyle": {"opacity": 0.85},
                "color": colour,
                "data": data,
            }
            for name, (colour, data) in shares.items()
        ],
    }


def heat(heat_map: HeatMap, threshold: float, theme: Theme) -> Options:
    """PSI by feature and window; what passed the threshold is the strong colour."""
    columns = [f"{start:%Y-%m-%d}" for start in heat_map.starts]
    cells = [
        [x, y, round(value, 3)]
        for y, row in enumerate(heat_map.psi)
        for x, value in enumerate(row)
        if value is not None
    ]
    pieces = [
        {"lt": threshold / 2, "label": f"below {threshold / 2:g}", "color": theme.calm},
        {"gte": threshold / 2, "lte": threshold, "label": f"{threshold / 2:g} to {threshold:g}", "color": "#56B4E9"},
        {"gt": threshold, "lt": 2 * threshold, "label": f"over {threshold:g}: drifted", "color": "#E69F00"},
        {"gte": 2 * threshold, "label": f"over {2 * threshold:g}", "color": "#D55E00"},
    ]
    return {
        "animation": False,
        "textStyle": {"color": theme.text},
        "grid": {"left": 8, "right": 16, "top": 34, "bottom": 12, "containLabel": True},
        "tooltip": {"confine": True, **_box(theme)},
        "xAxis": {"type": "category", "data": columns, "position": "bottom", "axisLabel": {"color": theme.text}},
        "yAxis": {
            "type": "category",
            "inverse": True,
            "data": list(heat_map.features),
            "axisLabel": {"color": theme.text, "fontSize": 11, "interval": 0, "width": 190, "overflow": "truncate"},
        },
        "visualMap": {
            "type": "piecewise",
            "orient": "horizontal",
            "top": 0,
            "left": "left",
            "pieces": pieces,
            "textStyle": {"color": theme.text},
        },
        "series": [
            {
                "name": "PSI",
                "type": "heatmap",
                "data": cells,
                "itemStyle": {"borderColor": theme.surface, "borderWidth": 1},
            }
        ],
    }


def sparkline(values: Sequence[float], label: str) -> str:
    """An SVG of a rate over ten minutes; it takes the text's colour."""
    if len(values) < 2:
        return '<svg class="spark" viewBox="0 0 120 28" role="img" aria-label="no history yet"></svg>'
    step = max(1, len(values) // 60)
    kept = [sum(values[i : i + step]) / len(values[i : i + step]) for i in range(0, len(values), step)]
    most = max(*kept, 1e-9)
    last = max(len(kept) - 1, 1)
    points = " ".join(f"{120 * i / last:.1f},{26 - 24 * value / most:.1f}" for i, value in enumerate(kept))
    return (
        f'<svg class="spark" viewBox="0 0 120 28" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="1.5" '
        'vector-effect="non-scaling-stroke"/></svg>'
    )


def _line(key: tuple[str, str], groups: Sequence[Group], measure: Measure, theme: Theme) -> Iterable[Options]:
    """One version as one variant: its line and, behind it, the band as two stacked areas."""
    name, colour = _name(key), theme.of(key[1])
    values: list[Any] = []
    low: list[Any] = []
    height: list[Any] = []
    for before, group in zip([None, *groups], groups, strict=False):
        if before is not None and group.from_us > before.to_us:
            values.append([_ms(from_us(before.to_us)), None])
        middle = _ms(from_us((group.from_us + group.to_us) // 2))
        value, margin = getattr(group.scored, measure.key), _BAND_Z * (getattr(group.scored, f"{measure.key}_se") or 0)
        values.append(
            {
                "value": [middle, round(value, 4)],
                "name": f"{name}: {measure.title} {value:.3f} ± {margin:.3f}, n = {group.scored.labels:,}",
            }
        )
        low.append([middle, round(value - margin, 4)])
        height.append([middle, round(2 * margin, 4)])
    band = {"type": "line", "stack": f"band {name}", "symbol": "none", "silent": True, "lineStyle": {"opacity": 0}}
    yield {**band, "name": name, "color": colour, "data": low, "tooltip": {"show": False}, "stackStrategy": "all"}
    yield {
        **band,
        "name": name,
        "color": colour,
        "data": height,
        "stackStrategy": "all",
        "areaStyle": {"color": colour, "opacity": 0.18},
        "tooltip": {"show": False},
    }
    yield {
        "name": name,
        "type": "line",
        "color": colour,
        "symbol": "circle" if key[1] == "champion" else "diamond",
        "symbolSize": 6,
        "lineStyle": {"width": 2.5, "type": "solid" if key[1] == "champion" else "dashed"},
        "data": values,
        "tooltip": {"formatter": "{b}"},
        "endLabel": {"show": key[1] == "champion", "formatter": f"v{key[0]}", "color": theme.text},
    }


def _release_marks(view: View, theme: Theme) -> Options:
    marks = []
    for release in view.releases:
        moments = [_moment(t) for t in release.transitions]
        if not moments:
            continue
        succeeded = release.phase == router_pb2.PHASE_SUCCESSFUL
        word = "serves" if succeeded else _going(release)
        marks.append(
            {
                "xAxis": _ms(from_proto(moments[-1])),
                "label": {"formatter": f"v{release.challenger_version} {word}", "color": theme.text, "fontSize": 11},
                "lineStyle": {
                    "color": theme.text if succeeded else "#D55E00",
                    "type": "solid" if succeeded else "dotted",
                },
            }
        )
    line = {"silent": True, "symbol": "none", "label": {"position": "end", "rotate": 0, "distance": 4}, "data": marks}
    return {"name": "releases", "type": "line", "data": [], "markLine": line}


def _trigger_dots(view: View, level: float) -> Options:
    data = [
        {"value": [_ms(trigger.event_time), level], "name": f"retrain asked for: {trigger.reason}"}
        for trigger in view.triggers
    ]
    return {
        "name": "retrain requests",
        "type": "scatter",
        "color": TRIGGER,
        "symbol": "triangle",
        "symbolSize": 13,
        "data": data,
        "tooltip": {"formatter": "{b}"},
        "z": 5,
    }


def _legend(keys: Iterable[tuple[str, str]]) -> list[str]:
    return [*(_name(key) for key in keys), "retrain requests"]


def _name(key: tuple[str, str]) -> str:
    return f"v{key[0]} {key[1]}"


def _range(lines: Iterable[Sequence[Group]], measure: Measure) -> tuple[float, float]:
    """A quiet vertical range: the points with some air, whole hundredths."""
    values = [getattr(group.scored, measure.key) for groups in lines for group in groups if group.scored.labels > 20]
    if not values:
        return 0.0, 1.0
    air = 0.25 * (max(values) - min(values)) + 0.02
    return max(0.0, round(min(values) - air, 2)), round(max(values) + air, 2)


def _time_axis(theme: Theme) -> Options:
    return {
        "type": "time",
        "axisLabel": {"color": theme.text, "hideOverlap": True},
        "axisLine": {"lineStyle": {"color": theme.faint}},
    }


def _box(theme: Theme) -> Options:
    return {"backgroundColor": theme.surface, "borderColor": theme.faint, "textStyle": {"color": theme.text}}


def _moment(transition: router_pb2.Transition) -> Any:
    return transition.event_time if transition.HasField("event_time") else transition.processed_at


def _going(release: router_pb2.Release) -> str:
    if release.phase in RELEASING:
        return f"at {release.challenger_weight / 100:g} %"
    return router_pb2.Phase.Name(release.phase).removeprefix("PHASE_").lower()


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
