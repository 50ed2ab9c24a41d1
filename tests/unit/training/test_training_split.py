"""The split by time and what a training set must be, with words that a person can act on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.chassis.errors import Invalid
from services.training.dataset import Dataset, read_dataset
from services.training.split import split
from services.training.validation import check_dataset, check_parts, check_told, without_values
from tests.unit.training.fakes import FEATURES, REQUEST, dataset, write


def test_parts_follow_each_other_in_time_and_have_their_shares() -> None:
    parts = split(dataset(1000), 0.15, 0.2)

    assert [len(part) for part in (parts.fit, parts.valid, parts.holdout)] == [650, 150, 200]
    assert parts.fit.as_of_us[-1] < parts.valid.as_of_us[0]
    assert parts.valid.as_of_us[-1] < parts.holdout.as_of_us[0]


def test_rows_of_one_moment_stay_together_in_the_later_part() -> None:
    parts = split(dataset(1000, per_moment=70), 0.15, 0.15)

    assert [len(part) for part in (parts.fit, parts.valid, parts.holdout)] == [700, 140, 160]
    assert not set(parts.fit.as_of_us) & set(parts.valid.as_of_us)
    assert not set(parts.valid.as_of_us) & set(parts.holdout.as_of_us)


@pytest.mark.parametrize(
    ("rows", "per_moment", "holdout_share"), [(1000, 1000, 0.15), (1000, 500, 0.15), (3, 1, 0.15), (1000, 1, 0.0)]
)
def test_an_empty_part_is_refused(rows: int, per_moment: int, holdout_share: float) -> None:
    with pytest.raises(Invalid, match="cannot be split into fit, valid"):
        split(dataset(rows, per_moment=per_moment), 0.15, holdout_share)


def test_a_part_of_one_class_is_named() -> None:
    rows = dataset(1000)
    rows.labels[850:] = 1

    with pytest.raises(Invalid, match="all 150 rows of the hold-out part have the label 1"):
        check_parts(split(rows, 0.15, 0.15))


def _with(**changes: object) -> Dataset:
    return replace(dataset(), **changes)  # type: ignore[arg-type]


def _labels(**at: float) -> Dataset:
    rows = dataset()
    for position, value in at.items():
        rows.labels[int(position[1:])] = value
    return rows


def _values(value: float) -> Dataset:
    rows = dataset()
    rows.values[3:5, 1] = value
    return rows


WRONG = {
    "no label": (_labels(_7=np.nan), "label: 1 of 600 rows are neither 0 nor 1"),
    "infinite label": (_labels(_7=np.inf, _8=0.5), "label: 2 of 600 rows are neither 0 nor 1"),
    "one class": (_with(labels=np.ones(600, np.float32)), "all 600 rows from 2024-03-01 00:00 .* have the label 1"),
    "infinite value": (_values(-np.inf), "b: 2 of 600 values are infinite"),
    "order": (_with(as_of_us=dataset().as_of_us[::-1]), "is not in the order of as_of"),
    "no rows": (dataset(0), "no rows with a label from 2024-03-01 00:00 to 2024-03-11 00:00 .*at least 200 are needed"),
    "few rows": (dataset(199), r"only 199 rows .*\(3,210 more have no label yet\); widen it"),
}


@pytest.mark.parametrize("what", WRONG)
def test_rows_that_cannot_be_used_are_named(what: str, tmp_path: Path) -> None:
    rows, words = WRONG[what]
    told = replace(write(dataset(), tmp_path / "set"), rows=len(rows), unlabelled_rows=3210)

    with pytest.raises(Invalid, match=words):
        check_dataset(rows, told, REQUEST, 200)


def test_fewer_rows_than_told_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"has 600 rows, the features service said 601"):
        check_dataset(dataset(), replace(write(dataset(), tmp_path / "set"), rows=601), REQUEST, 200)


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (("a", "b", "c", "d"), "lacks d, has in addition nothing"),
        (("a", "b"), "lacks nothing, has in addition c"),
        (("b", "a", "c"), "in another order"),
    ],
)
def test_other_features_than_the_feature_services_are_named(features: tuple[str, ...], words: str) -> None:
    told = write(dataset(10), Path("/dev/null"))

    check_told(told, FEATURES)
    with pytest.raises(Invalid, match=words):
        check_told(told, features)


def test_a_set_without_a_digest_is_refused() -> None:
    with pytest.raises(Invalid, match="has no digest"):
        check_told(replace(write(dataset(10), Path("/dev/null")), digest=""), FEATURES)


def test_features_without_any_value_are_listed() -> None:
    rows = dataset()
    rows.values[:, 2] = np.nan

    assert without_values(dataset()) == []
    assert without_values(rows) == ["c"]


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = dataset()

    found = read_dataset(write(rows, tmp_path / "set.parquet"))

    assert found.values.dtype == np.float32
    np.testing.assert_array_equal(found.values, rows.values)
    np.testing.assert_array_equal(found.labels, rows.labels)
    np.testing.assert_array_equal(found.as_of_us, rows.as_of_us)
    with_scheme = replace(write(rows, tmp_path / "set.parquet"), uri=f"file://{tmp_path}/set.parquet")
    assert len(read_dataset(with_scheme)) == 600


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    told = write(dataset(), tmp_path / "set.parquet")

    with pytest.raises(Invalid, match="lacks the columns d"):
        read_dataset(replace(told, features=("a", "d")))
    with pytest.raises(Invalid, match="training and features must share that folder"):
        read_dataset(replace(told, uri=str(tmp_path / "gone.parquet")))


def test_columns_are_picked_by_name() -> None:
    rows = dataset(20)

    np.testing.assert_array_equal(rows.columns(["c", "a"]), rows.values[:, [2, 0]])
    assert rows.columns(["c", "z"]) is None
