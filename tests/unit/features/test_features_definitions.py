"""A feature repository is taken as it is meant, or refused with the name of what is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from services.chassis.errors import Invalid, NotFound
from services.features.definitions import DataType, Function, load_definitions
from tests.support import PARCELS

HOUR_US = 3_600_000_000


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A copy of the parcels' repository, to be spoilt."""
    return Path(shutil.copytree(PARCELS, tmp_path / "feature_repo", ignore=shutil.ignore_patterns("__pycache__")))


def _change(repo: Path, module: str, before: str, after: str) -> None:
    path = repo / module
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def test_a_repository_in_plain_terms():
    definitions = load_definitions(PARCELS)
    plan = definitions.service("parcel_delay_v1")
    pair = definitions.views["pair_days"]

    assert definitions.project == "parcels"
    assert (pair.event_type, pair.join_keys, pair.ttl_us) == ("parcel.delivered", ("shop", "courier"), 72 * HOUR_US)
    (late,) = pair.aggregations
    assert (late.function, late.column, late.window_us, late.slide_us) == (Function.SUM, "late", 72 * HOUR_US, HOUR_US)
    assert late.integer
    assert [each.name for each in plan.features][:2] == [
        "courier_recent__delivered_1h",
        "courier_recent__delay_mean_6h",
    ]
    assert {each.name: each.data_type for each in plan.columns} == {
        "courier": DataType.STRING,
        "shop": DataType.STRING,
        "pickup_at": DataType.TIMESTAMP,
        "weight_kg": DataType.DOUBLE,
    }
    assert plan.on_demand[0].integers == {"courier_recent__delivered_1h"}
    with pytest.raises(NotFound, match=r"'v2' does not exist; there are parcel_delay_v1"):
        definitions.service("v2")


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ('"late", "mean", 3 * DAY, HOUR', '"late", "median", 3 * DAY, HOUR', "function 'median' of 'late_share_3d'"),
        ('"late", "mean", 3 * DAY, HOUR', '"colour", "mean", 3 * DAY, HOUR', "column 'colour' of 'late_share_3d'"),
        ('"late", "mean", 3 * DAY, HOUR', '"shop", "mean", 3 * DAY, HOUR', "'shop', which holds text"),
        ('"late", "mean", 3 * DAY, HOUR', '"late", "mean", 3 * DAY, 7 * HOUR', "a positive multiple of its slide"),
        ('Field(name="late_sum_3d", dtype=Int64)', 'Field(name="late_sum", dtype=Int64)', "must have 'late_sum_3d'"),
        (
            'schema=[Field(name="late_sum_3d", dtype=Int64)]',
            'schema=[Field(name="late_sum_3d", dtype=Int64), Field(name="more", dtype=Int64)]',
            "no aggregation computes 'more'",
        ),
        (
            'mode="python",\n)\ndef parcel_request(inputs: dict[str, list[Any]]) -> dict[str, list[Any]]:',
            'mode="pandas",\n)\ndef parcel_request(inputs):',
            'mode must be "python"',
        ),
    ],
)
def test_what_is_wrong_is_named(repo, before, after, says):
    _change(repo, "features.py", before, after)

    with pytest.raises(Invalid, match=says):
        load_definitions(repo)


def test_text_may_be_counted(repo):
    _change(repo, "features.py", '"late", "sum", 3 * DAY', '"courier", "count_distinct", 3 * DAY')

    assert load_definitions(repo).views["pair_days"].aggregations[0].function is Function.COUNT_DISTINCT


def test_a_key_is_of_the_type_of_its_column(repo):
    _change(
        repo,
        "entities.py",
        'join_keys=["shop"], value_type=ValueType.STRING',
        'join_keys=["shop"], value_type=ValueType.INT64',
    )

    with pytest.raises(Invalid, match=r"join key 'shop' is INT64, the column of 'parcel\.delivered' holds string"):
        load_definitions(repo)


@pytest.mark.parametrize(
    ("column", "holds"),
    [("float", "number"), ("bool", "boolean"), ("float | None", "number"), ("int | str", "integer or string")],
)
def test_a_number_that_is_a_key_is_a_whole_one(repo, column, holds):
    _key_by_number(repo, column)

    with pytest.raises(Invalid, match=rf"join key 'shop' is INT64, the column of 'parcel\.delivered' holds {holds}"):
        load_definitions(repo)


@pytest.mark.parametrize("column", ["int", "int | None"])
def test_a_whole_number_may_be_a_key(repo, column):
    _key_by_number(repo, column)

    assert load_definitions(repo).service("parcel_delay_v1").join_keys[1].data_type is DataType.INT64


def _key_by_number(repo: Path, column: str) -> None:
    _change(
        repo,
        "entities.py",
        'join_keys=["shop"], value_type=ValueType.STRING',
        'join_keys=["shop"], value_type=ValueType.INT64',
    )
    pattern = 'Annotated[str, StringConstraints(pattern=r"^shop-\\d+$")]'
    _change(repo, "events.py", f"shop: {pattern}", f"shop: {column}")
