"""Gathering: one question for many calls, and nobody pays for a neighbour's mistake."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import numpy as np
import pytest

from services.chassis.errors import DeadlineExceeded, Invalid, OutOfRange, Overloaded, Unavailable
from services.inference import scorer as scorer_module
from services.inference.contract import ModelContract
from services.inference.feature_client import EntityRows, Vectors
from services.inference.scorer import Limits, Scorer
from tests.unit.inference.fakes import FakeFeatures, make_metrics, make_model, vector_of


def rows(*couriers: int) -> EntityRows:
    count = len(couriers)
    columns = (["shop-1"] * count, [f"courier-{n}" for n in couriers], ["2026-05-04T13:00:00Z"] * count, [1.0] * count)
    return EntityRows(columns, [0] * count)


class HeldFeatures(FakeFeatures):
    """Answers when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()

    async def fetch(self, contract: ModelContract, calls: Sequence[EntityRows]) -> Vectors:
        answer = await super().fetch(contract, calls)
        await self.go.wait()
        return answer


def make_scorer(features: FakeFeatures, **limits: int) -> Scorer:
    model = make_model()
    return Scorer(model, lambda calls: features.fetch(model.contract, calls), Limits(**limits), make_metrics())


def asked(features: FakeFeatures) -> list[list[int]]:
    """Rows of each call of each question."""
    return [[call.count for call in question] for question in features.questions]


async def turns(count: int = 5) -> None:
    """Lets the loop work off what is runnable."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_calls_of_one_turn_share_one_question_and_each_gets_its_own_rows() -> None:
    features = FakeFeatures()
    scorer = make_scorer(features)

    first, second, third = await asyncio.gather(
        scorer.score_entities(rows(1)), scorer.score_entities(rows(2, 3)), scorer.score_entities(rows(4))
    )

    assert asked(features) == [[1, 2, 1]]
    expected = np.array([vector_of("courier-2", 1.0), vector_of("courier-3", 1.0)], np.float32)
    np.testing.assert_array_equal(second.vectors, expected)
    np.testing.assert_array_equal(second.probabilities, scorer.model.probabilities(expected))
    assert second.statuses == bytes([1, 2, 3, 1, 2, 3])
    assert first.vectors[0][0] == 1 and third.vectors[0][0] == 4
    assert first.watermark == "2026-05-04T11:59:00Z"


async def test_what_comes_while_a_question_is_out_waits_for_the_next() -> None:
    features = HeldFeatures()
    scorer = make_scorer(features)
    calls = [asyncio.create_task(scorer.score_entities(rows(1)))]
    await turns()

    for courier in (2, 3):
        calls.append(asyncio.create_task(scorer.score_entities(rows(courier))))
        await turns()
    assert asked(features) == [[1]]
    features.go.set()
    await asyncio.gather(*calls)

    assert asked(features) == [[1], [1, 1]]


async def test_a_full_batch_does_not_wait_and_calls_are_never_split() -> None:
    features = HeldFeatures()
    scorer = make_scorer(features, batch_rows=3, questions=2)
    calls = [asyncio.create_task(scorer.score_entities(rows(*range(size)))) for size in (2, 2, 5, 1)]

    await turns()
    assert asked(features) == [[2], [2]]
    features.go.set()
    await asyncio.gather(*calls)

    assert asked(features) == [[2], [2], [5], [1]]


@pytest.mark.parametrize("error", [Invalid("row is bad"), OutOfRange("too long ago")])
async def test_only_the_caller_with_the_bad_row_fails(error: Exception) -> None:
    features = FakeFeatures()
    features.failures["courier-3"] = error
    scorer = make_scorer(features)

    answers = await asyncio.gather(*(scorer.score_entities(rows(n)) for n in range(8)), return_exceptions=True)

    assert answers[3] is error
    assert [answer.vectors[0][0] for n, answer in enumerate(answers) if n != 3] == [0, 1, 2, 4, 5, 6, 7]  # type: ignore[union-attr]


async def test_a_service_that_is_down_is_asked_once_for_all() -> None:
    features = FakeFeatures()
    features.failures["courier-3"] = Unavailable("down")

    scorer = make_scorer(features)
    answers = await asyncio.gather(*(scorer.score_entities(rows(n)) for n in range(8)), return_exceptions=True)

    assert all(isinstance(answer, Unavailable) for answer in answers)
    assert len(features.questions) == 1


async def test_an_error_of_ours_reaches_every_caller_and_the_next_batch_works() -> None:
    features = FakeFeatures()
    features.failures["courier-3"] = ZeroDivisionError()
    scorer = make_scorer(features)

    answers = await asyncio.gather(*(scorer.score_entities(rows(n)) for n in (3, 4)), return_exceptions=True)

    assert [type(answer) for answer in answers] == [ZeroDivisionError, ZeroDivisionError]
    assert (await scorer.score_entities(rows(5))).vectors[0][0] == 5


async def test_a_passed_deadline_is_refused_before_any_work() -> None:
    features = FakeFeatures()

    with pytest.raises(DeadlineExceeded):
        await make_scorer(features).score_entities(rows(1), deadline=time.monotonic())

    assert features.questions == []


async def test_a_deadline_that_passes_while_waiting_is_answered_without_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features = HeldFeatures()
    scorer = make_scorer(features)
    first = asyncio.create_task(scorer.score_entities(rows(1)))
    await turns()
    clock = [100.0]
    monkeypatch.setattr(scorer_module, "monotonic", lambda: clock[0])
    late = asyncio.create_task(scorer.score_entities(rows(2), deadline=101.0))
    await turns()
    clock[0] = 102.0
    features.go.set()
    await first

    with pytest.raises(DeadlineExceeded):
        await late
    assert asked(features) == [[1]]


async def test_a_caller_that_went_away_costs_nothing() -> None:
    features = HeldFeatures()
    scorer = make_scorer(features)
    first = asyncio.create_task(scorer.score_entities(rows(1)))
    await turns()
    gone, stays = (asyncio.create_task(scorer.score_entities(rows(n))) for n in (2, 3))
    await turns()
    gone.cancel()
    features.go.set()

    assert (await stays).vectors[0][0] == 3
    await first
    assert asked(features) == [[1], [1]]


async def test_more_than_may_wait_is_refused_early() -> None:
    features = HeldFeatures()
    scorer = make_scorer(features, waiting_rows=3)
    held = [asyncio.create_task(scorer.score_entities(rows(1)))]
    await turns()
    held.append(asyncio.create_task(scorer.score_entities(rows(1, 2))))
    await turns()

    with pytest.raises(Overloaded, match="2 rows wait already, at most 3 may"):
        await scorer.score_entities(rows(1, 2))

    features.go.set()
    await asyncio.gather(*held)
    await scorer.score_entities(rows(1, 2))


async def test_callers_that_gave_up_take_nobodys_room() -> None:
    features = HeldFeatures()
    scorer = make_scorer(features, waiting_rows=3)
    first = asyncio.create_task(scorer.score_entities(rows(1)))
    await turns()
    gone = asyncio.create_task(scorer.score_entities(rows(1, 2, 3)))
    await turns()
    gone.cancel()
    await turns()

    waits = asyncio.create_task(scorer.score_entities(rows(1, 2)))
    await turns()
    features.go.set()

    await asyncio.gather(first, waits)


def test_a_vector_that_the_caller_brought_is_scored_as_it_is() -> None:
    vectors = np.array([[1, np.nan, 3]], np.float32)
    scorer = make_scorer(FakeFeatures())

    scored = scorer.score_vectors(vectors)

    np.testing.assert_array_equal(scored.probabilities, scorer.model.probabilities(vectors))
    assert scored.statuses == bytes([1, 2, 1]) and scored.watermark == ""
