"""The search: the plain recipe first, then each combination at most once, the same ones each time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.training.boosting import Measured
from services.training.search import Trial, search

PLAIN = {"leaves": 3, "rate": 0.5}
CHOICES = {"leaves": [1, 2, 3], "rate": [0.1, 0.5]}


def _search(losses: Any, trials: int, choices: Mapping[str, Any] = CHOICES) -> tuple[Trial, list[dict[str, Any]]]:
    tried: list[dict[str, Any]] = []

    def measure(number: int, parameters: Mapping[str, Any]) -> Measured:
        assert number == len(tried)
        tried.append(dict(parameters))
        return Measured(10 + number, losses(parameters))

    return search(PLAIN, choices, trials, measure), tried


def test_the_plain_parameters_are_tried_first_and_no_combination_twice() -> None:
    _, tried = _search(lambda _: 0.5, 100)

    assert tried[0] == PLAIN
    assert len(tried) == 6
    assert all(tried.count(each) == 1 for each in tried)


def test_no_more_trials_are_made_than_asked_for() -> None:
    assert [len(_search(lambda _: 0.5, trials)[1]) for trials in (1, 2, 3)] == [1, 2, 3]
    assert len(_search(lambda _: 0.5, 4, {})[1]) == 1


def test_the_lowest_log_loss_wins_and_of_equal_ones_the_first() -> None:
    best, tried = _search(lambda told: told["leaves"] + told["rate"], 100)

    assert best.parameters == {"leaves": 1, "rate": 0.1}
    assert best.measured.rounds == 10 + tried.index(dict(best.parameters))
    assert _search(lambda _: 0.5, 100)[0].number == 0


def test_two_searches_try_the_same_in_the_same_order() -> None:
    assert _search(lambda _: 0.5, 4)[1] == _search(lambda _: 0.5, 4)[1]


def test_parameters_outside_the_choices_are_kept() -> None:
    _, tried = _search(lambda _: 0.5, 100, {"rate": [0.1, 0.2]})

    assert tried[0] == PLAIN
    assert {each["leaves"] for each in tried} == {3}
    assert sorted(each["rate"] for each in tried) == [0.1, 0.2, 0.5]
