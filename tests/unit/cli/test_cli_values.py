"""What people type."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import typer

from services.cli import values


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2013-01-31", datetime(2013, 1, 31, tzinfo=UTC)),
        ("2013-01-31T12:00:00Z", datetime(2013, 1, 31, 12, tzinfo=UTC)),
        ("2013-01-31T12:00:00+02:00", datetime(2013, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_a_date_or_a_moment_is_utc(text: str, moment: datetime) -> None:
    assert values.moment(text) == moment


@pytest.mark.parametrize("text", ["2013-02-30", "yesterday", "2013-01-31T12:00:00", ""])
def test_a_moment_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        values.moment(text)


@pytest.mark.parametrize(("text", "points"), [("0", 0), ("1", 10_000), ("0.05", 500), ("5%", 500), ("100%", 10_000)])
def test_a_share_is_basis_points(text: str, points: int) -> None:
    assert values.basis_points(text) == points


@pytest.mark.parametrize("text", ["25", "101%", "-0.1", "half", "%", "nan"])
def test_a_share_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        values.basis_points(text)


def test_a_value_may_hold_an_equals_sign_and_be_empty() -> None:
    assert values.assignments(["a=b=c", "d="]) == {"a": "b=c", "d": ""}


@pytest.mark.parametrize("pairs", [["a"], ["=b"], ["a=1", "a=2"]])
def test_arguments_that_are_no_pairs_are_refused(pairs: list[str]) -> None:
    with pytest.raises(typer.BadParameter):
        values.assignments(pairs)
