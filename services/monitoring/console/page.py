"""The page: lays the sections out once, then fills each anew where its content changed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI

# NiceGUI makes a folder where it is imported unless it is told another; nothing of ours is stored in it.
os.environ.setdefault("NICEGUI_STORAGE_PATH", str(Path(tempfile.gettempdir()) / "slipway-console"))
from nicegui import ui

from services.chassis.errors import SlipwayError
from services.contracts.router.v1 import router_pb2
from services.monitoring.console import charts, markup
from services.monitoring.console.router_client import RouterClient
from services.monitoring.console.state import sentence
from services.monitoring.console.view import View, Viewer
from services.monitoring.console.words import UNKNOWN, rate, share

_REFRESH_S = 1.5
_HEAT_FRAME_PX, _HEAT_ROW_PX = 70, 19
_STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
_IS_DARK = "window.matchMedia('(prefers-color-scheme: dark)').matches"
_ON_THEME = (
    "window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', e => emitEvent('theme', e.matches))"
)


class Console:
    """Builds a page for each browser; all of them read the one view."""

    def __init__(self, model: str, viewer: Viewer, router: RouterClient) -> None:
        self._model = model
        self._viewer = viewer
        self._router = router

    def mount(self, app: FastAPI) -> None:
        """Adds the page to `app`."""

        @ui.page("/", title=f"Slipway · {self._model}")
        async def index() -> None:
            self._viewer.platform.watch()
            ui.add_css(_STYLE)
            await _Page(self._model, self._viewer, self._router).build()

        ui.run_with(app, dark=None, tailwind=False, show_welcome_message=False, favicon="⛵")


class _Page:
    """One browser's page."""

    def __init__(self, model: str, viewer: Viewer, router: RouterClient) -> None:
        self._model = model
        self._viewer = viewer
        self._router = router
        self._theme = charts.LIGHT
        self._measure = charts.AUC
        self._filled: list[Callable[[View], None]] = []

    async def build(self) -> None:
        """Lays out the sections, then asks the browser for its theme and begins to refresh."""
        with ui.element("main"):
            self._head()
            self._quality()
            self._release()
            self._more()
        self._fill()
        await ui.context.client.connected()
        self._set_theme(bool(await ui.run_javascript(_IS_DARK)))
        ui.run_javascript(_ON_THEME)
        ui.on("theme", lambda event: self._set_theme(bool(event.args)))
        ui.timer(_REFRESH_S, self._fill)

    def _head(self) -> None:
        with ui.element("header").classes("top"):
            ui.html(f"<h1>Slipway · {self._model}</h1>", sanitize=False)
            self._html(markup.clocks, "clocks")
        with ui.element("section").classes("card"):
            self._html(lambda view: markup.sentence(sentence(view, self._viewer.platform, self._model)))
        with ui.element("section").props('id=flow aria-label="Flow"'):
            self._html(lambda view: markup.flow(view.stations))

    def _quality(self) -> None:
        with ui.element("section").classes("card").props("id=quality"):
            with ui.element("div").classes("head"):
                self._html(_quality_title)
                measures = {"auc": charts.AUC, "log_loss": charts.LOG_LOSS}
                toggle = ui.toggle({"auc": "AUC", "log_loss": "Log loss"}, value="auc")
                toggle.props('no-caps toggle-color=chosen toggle-text-color=chosen aria-label="Measure"')
                toggle.on_value_change(lambda event: self._choose(measures[event.value]))
            empty = self._html(_quality_empty)
            picture = self._chart("tall", lambda view: charts.quality(view, self._measure, self._theme))
            self._filled.append(lambda view: _show(picture, bool(view.quality)))
            self._filled.append(lambda view: _show(empty, not view.quality))

    def _release(self) -> None:
        with ui.element("section").classes("card").props("id=release"):
            with ui.element("div").classes("head"):
                self._html(lambda view: f"<h2>{'Release in progress' if view.releasing else 'Last release'}</h2>")
                with ui.element("div").classes("buttons") as buttons:
                    self._button("Pause", "pause", _paused_hidden)
                    self._button("Resume", "resume", lambda view: not _paused_hidden(view))
                    self._button("Promote", "promote")
                    self._button("Abort", "abort")
                self._filled.append(lambda view: _show(buttons, view.releasing))
            with ui.element("div").classes("two"):
                self._html(markup.release)
                picture = self._chart("low", self._split)
            self._filled.append(lambda view: _show(picture, view.release is not None))

    def _more(self) -> None:
        with ui.element("section").classes("card"):
            sections = {
                "models": ("Models", lambda view: markup.models(view, self._model)),
                "releases": ("Releases", markup.releases),
                "drift": ("Drift", lambda view: markup.drift(view, self._viewer.recipe)),
                "features": ("Features", lambda view: markup.features(view, self._viewer.platform)),
                "runs": ("Training runs", markup.runs),
            }
            with ui.tabs().props("no-caps align=left dense outside-arrows mobile-arrows") as tabs:
                for name, (title, _) in sections.items():
                    ui.tab(name, label=title)
            with ui.tab_panels(tabs, value="models", animated=False):
                for name, (_, content) in sections.items():
                    with ui.tab_panel(name).props(f"id={name}"):
                        self._html(content)
                        if name == "drift":
                            self._heat()
        # A link of the sentence to a tab opens it.
        ui.add_body_html(
            "<script>addEventListener('hashchange', () => emitEvent('section', location.hash.slice(1)))</script>"
        )
        ui.on("section", lambda event: tabs.set_value(event.args) if event.args in sections else None)

    def _heat(self) -> None:
        threshold = self._viewer.recipe.retrain.psi_threshold
        picture = self._chart("heat", lambda view: charts.heat(view.heat, threshold, self._theme))
        self._filled.append(lambda view: _show(picture, bool(view.heat.features)))
        self._filled.append(lambda view: _set_height(picture, _HEAT_FRAME_PX + _HEAT_ROW_PX * len(view.heat.features)))

    def _split(self, view: View) -> charts.Options:
        release = view.release
        if release is None:
            return {}
        until = view.watermark if view.releasing and view.watermark is not None else None
        return charts.split(release, until, self._theme)

    def _html(self, content: Callable[[View], str], classes: str = "") -> Any:
        """An element that holds `content(view)`, sent again only when that changes."""
        element = ui.html("", sanitize=False).classes(classes)
        self._filled.append(lambda view: _fill_html(element, content(view)))
        return element

    def _chart(self, classes: str, options: Callable[[View], charts.Options]) -> Any:
        """A chart of `options(view)`, sent again only when they change."""
        chart = ui.echart({}).classes(classes)
        sent: dict[str, Any] = {}

        def fill(view: View) -> None:
            wanted = options(view)
            if wanted != sent.get("options"):
                sent["options"] = wanted
                chart.options.clear()
                chart.options.update(wanted)
                chart.update()

        self._filled.append(fill)
        return chart

    def _button(self, title: str, action: str, hidden: Callable[[View], bool] | None = None) -> None:
        # Colours of our own: Quasar's are too weak on the dark surface.
        button = ui.button(title, on_click=lambda: self._confirm(title, action), color=None)
        button.props("no-caps outline").classes("action dangerous" if action == "abort" else "action")
        if hidden is not None:
            self._filled.append(lambda view: _show(button, not hidden(view)))

    async def _confirm(self, title: str, action: str) -> None:
        """Says in numbers what will happen, asks once, then calls the router."""
        view = self._viewer.view
        release = view.release
        if release is None:
            return
        calls = rate(self._viewer.platform.series["predictions"].rate())
        with ui.dialog() as dialog, ui.card():
            ui.label(_consequence(action, release, calls))
            with ui.row():
                yes = ui.button(f"Yes, {title.lower()}", on_click=lambda: dialog.submit(True), color=None)
                yes.props("no-caps outline").classes("action dangerous" if action == "abort" else "action")
                no = ui.button("No", on_click=lambda: dialog.submit(False), color=None)
                no.props("no-caps flat autofocus").classes("action")
        if not await dialog:
            return
        try:
            await self._router.act(action, release.release_id)
            ui.notify(f"{title}: the router took it", type="positive")
        except SlipwayError as error:
            ui.notify(str(error), type="negative", timeout=10_000)

    def _choose(self, measure: charts.Measure) -> None:
        self._measure = measure
        self._fill()

    def _set_theme(self, dark: bool) -> None:
        self._theme = charts.DARK if dark else charts.LIGHT
        self._fill()

    def _fill(self) -> None:
        self._viewer.platform.watch()
        view = self._viewer.view
        for fill in self._filled:
            fill(view)


def _consequence(action: str, release: router_pb2.Release, calls: str) -> str:
    now, new, old = share(release.challenger_weight / 10_000), release.challenger_version, release.champion_version
    return {
        "pause": f"Pauses the steps: v{new} stays at {now} of traffic (all of it is about {calls}) until you resume.",
        "resume": f"Resumes the steps of v{new} from {now} of traffic (all of it is about {calls}).",
        "promote": f"Moves 100 % of traffic, about {calls}, to v{new} at once and makes it the champion.",
        "abort": f"Moves the {now} of traffic that v{new} gets back to v{old or UNKNOWN}; all of it is about {calls}.",
    }[action]


def _quality_title(view: View) -> str:
    days = view.window.total_seconds() / 86_400
    length = f"{days:g} d" if days >= 1 else f"{days * 24:g} h"
    labels = sum(group.scored.labels for group in view.quality)
    return (
        "<h2>Quality over time, by version</h2>"
        f"<p class='quiet'>Event time, windows of {length}, 95 % band, n = {labels:,} labels</p>"
    )


def _quality_empty(_view: View) -> str:
    return (
        "<p class='empty'>Nothing to judge yet: quality shows once served predictions have met their outcomes. "
        "Play events with <code>slipway replay</code>, train with <code>slipway train</code>.</p>"
    )


def _paused_hidden(view: View) -> bool:
    return view.release is not None and view.release.phase == router_pb2.PHASE_PAUSED


def _fill_html(element: Any, content: str) -> None:
    element.set_content(content)


def _set_height(element: Any, pixels: int) -> None:
    element.style(f"height: {pixels}px")


def _show(element: Any, visible: bool) -> None:
    element.set_visibility(visible)
