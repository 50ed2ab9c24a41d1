"""What the page says: the sentence, the empty states, and that nothing told by others becomes markup."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.contracts.router.v1 import router_pb2
from services.monitoring.console import charts, markup, words
from services.monitoring.console.platform import Platform, Process, Series
from services.monitoring.console.router_client import RouterClient, Split
from services.monitoring.console.state import Level, sentence
from services.monitoring.console.stations import stations, track
from services.monitoring.console.view import HeatMap, View
from services.monitoring.drift import FeatureDrift
from services.monitoring.joiner import Counts
from services.monitoring.mlflow_client import Version
from services.monitoring.quality import Scored
from services.monitoring.quality_book import DAY_US, Group
from services.problem import load_recipe
from tests.support import PARCELS

AT = datetime(2013, 5, 2, tzinfo=UTC)
EMPTY = View(AT)
RECIPE = load_recipe(PARCELS)
CANARY = router_pb2.Release(
    release_id="r1",
    champion_version="7",
    challenger_version="8",
    phase=router_pb2.PHASE_RUNNING,
    challenger_weight=2500,
    waiting_for="412 of ≈ 900 labels",
    transitions=[router_pb2.Transition(challenger_weight=2500, why="<script>alert(1)</script>")],
)


@pytest.fixture
async def platform() -> Platform:
    router = RouterClient("127.0.0.1:9")
    platform = Platform({}, "127.0.0.1:9", router)
    track(platform, Counts)
    platform.processes = {"ingestion": Process(""), "lake": Process("")}
    platform.split = Split("7", "8", 0.25, "r1", applied=True)
    return platform


def level(view: View, platform: Platform) -> Level:
    return max(part.level for part in sentence(view, platform, "m"))


async def test_the_sentence_says_what_serves_and_what_a_release_waits_for(platform: Platform) -> None:
    text = " · ".join(part.text for part in sentence(replace(EMPTY, releases=[CANARY]), platform, "m"))

    assert text.startswith("Serving m v7 (champion) · canary v8 at 25 %, holding: 412 of ≈ 900 labels")
    assert "all processes ready" in text


async def test_a_silent_process_is_broken_and_named(platform: Platform) -> None:
    platform.processes["lake"] = Process("does not answer on 127.0.0.1:9202")

    assert level(EMPTY, platform) is Level.BAD
    assert "lake does not answer" in [part.text for part in sentence(EMPTY, platform, "m")]


async def test_an_idle_challenger_is_not_broken(platform: Platform) -> None:
    platform.processes["inference-challenger"] = Process("model (no version yet)")

    assert level(EMPTY, platform) is Level.GOOD


async def test_drift_is_worth_a_look(platform: Platform) -> None:
    drifted = FeatureDrift("load", psi=0.4, threshold=0.25, missing_share=0, rows=10)

    assert level(replace(EMPTY, drift=[drifted]), platform) is Level.LOOK


async def test_what_is_unknown_is_a_dash(platform: Platform) -> None:
    events = stations(platform, Counts(), None)[0]

    assert events.rate == words.UNKNOWN
    assert dict(events.facts)["dead letters"] == words.UNKNOWN


def test_empty_sections_teach() -> None:
    assert "slipway release start" in markup.release(EMPTY)
    assert "slipway train" in markup.models(EMPTY, "m")
    assert "slipway train" in markup.runs(EMPTY)
    assert "trained on" in markup.drift(EMPTY, RECIPE)


def test_what_others_told_is_text_not_markup() -> None:
    hostile = Version("1", "run", AT, tags={"slipway.onnx_sha256": "<b>"}, aliases=("<i>",))
    view = replace(EMPTY, releases=[CANARY], versions=[hostile], registry_problem="<u>")

    pages = [markup.release(view), markup.releases(view), markup.models(view, "m"), markup.models(EMPTY, "m")]

    assert not [tag for tag in ("<script", "<b>alert", "<i>", "<u>") if tag in "".join(pages)]
    assert "&lt;script&gt;" in markup.release(view)


@pytest.mark.parametrize(
    ("aliases", "stage"),
    [(("champion",), "Production"), (("challenger",), "Staging"), ((), "Archived")],
)
def test_a_stage_follows_from_aliases_and_releases(aliases: tuple[str, ...], stage: str) -> None:
    assert markup.stage(Version("8", "run", AT, aliases=aliases), [CANARY]) == stage


def test_the_big_picture_has_a_line_and_a_band_for_each_version_and_skips_the_unknown() -> None:
    known = Scored(labels=50, auc=0.75, auc_se=0.02, log_loss=0.4, log_loss_se=0.01)
    groups = [
        Group("1", "champion", 0, DAY_US, 60, known),
        Group("1", "champion", DAY_US, 2 * DAY_US, 60, Scored(labels=0)),
        Group("1", "champion", 2 * DAY_US, 3 * DAY_US, 60, known),
    ]

    options = charts.quality(replace(EMPTY, quality=groups), charts.AUC, charts.LIGHT)

    line = next(series for series in options["series"] if series["name"] == "v1 champion" and "endLabel" in series)
    # The gap of the day without labels is drawn as one.
    assert [point["value"][1] if isinstance(point, dict) else point[1] for point in line["data"]] == [0.75, None, 0.75]
    assert line["color"] == charts.CHAMPION


def test_the_heat_map_leaves_unknown_cells_empty() -> None:
    heat = HeatMap(starts=[AT, AT], features=["load"], psi=[[0.3, None]])

    assert charts.heat(heat, 0.25, charts.DARK)["series"][0]["data"] == [[0, 0, 0.3]]


def test_the_split_goes_on_to_the_present_only_while_it_is_in_progress() -> None:
    ongoing = charts.split(CANARY, AT, charts.LIGHT)["series"][0]["data"]

    assert ongoing[-1][1] == 25
    assert len(charts.split(CANARY, None, charts.LIGHT)["series"][0]["data"]) == len(ongoing) - 1


def test_a_rate_is_the_growth_of_a_counter_and_a_restart_begins_anew() -> None:
    series = Series()
    for second, value in ((0, 0), (5, 50), (10, 100)):
        series.add(second, value)
    assert series.rate() == 10

    series.add(12, 3)
    assert series.rate() is None


@pytest.mark.parametrize(
    ("value", "text"), [(None, words.UNKNOWN), (0, "0 %"), (0.034, "3.4 %"), (0.25, "25 %"), (1, "100 %")]
)
def test_shares_in_words(value: float | None, text: str) -> None:
    assert words.share(value) == text
