"""Predictions and outcomes meet once, whatever the order."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.clock import to_us
from services.monitoring.database import Database
from services.monitoring.joiner import Batch, Counts, Joiner, Outcome, Prediction, begin, read_counts
from services.monitoring.schema import Status, outcomes, predictions

T0 = datetime(2013, 5, 1, tzinfo=UTC)
LABELS = "events.parcel.delivered.v1"
OTHER_LABELS = "events.parcel.lost.v1"
HORIZON = timedelta(hours=12)


def us(hours: float) -> int:
    return to_us(T0 + timedelta(hours=hours))


def predicted(number: int, entity: str = "", at: float = 0, release: str = "") -> Prediction:
    return Prediction(f"p{number}", entity or f"e{number}", "1", "champion", release, us(at), 0.5)


def told(number: int, label: float | None = 1.0, at: float = 1) -> Outcome:
    return Outcome(f"e{number}", label, us(at))


def marks(hours: float) -> Batch:
    """Both label topics say that they told all until then."""
    return Batch(watermarks={(LABELS, 0): us(hours), (OTHER_LABELS, 0): us(hours)}, next_offsets=OFFSETS)


OFFSETS = {(LABELS, 0): 1, (OTHER_LABELS, 0): 1}


class Joins:
    def __init__(self) -> None:
        self.database = Database("sqlite://")
        self.joiner = Joiner(HORIZON, [LABELS, OTHER_LABELS], margin=timedelta(days=1))
        begin(self.database, list(OFFSETS))

    def apply(self, *batches: Batch) -> Counts:
        for batch in batches:
            with self.database.write() as connection:
                self.joiner.apply(connection, batch)
        with self.database.read() as connection:
            return read_counts(connection)

    def by_rows(self) -> dict[str, int]:
        """The counts as the rows say, independent of the counters."""
        query = sa.select(predictions.c.status, sa.func.count()).group_by(predictions.c.status)
        with self.database.read() as connection:
            found = {Status(status).name.lower(): count for status, count in connection.execute(query)}
        return {name: found.get(name, 0) for name in ("joined", "void", "pending", "expired")}

    def outcomes(self) -> int:
        with self.database.read() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(outcomes)).scalar_one())


@pytest.fixture
def joins() -> Joins:
    return Joins()


@pytest.mark.parametrize("label_first", [True, False])
def test_a_prediction_and_its_label_meet_in_either_order(joins: Joins, label_first: bool) -> None:
    batches = [Batch(predictions=[predicted(1)]), Batch(outcomes=[told(1)])]

    counts = joins.apply(*(reversed(batches) if label_first else batches))

    assert (counts.recorded, counts.joined, counts.pending) == (1, 1, 0)


def test_they_meet_within_one_batch(joins: Joins) -> None:
    counts = joins.apply(Batch(predictions=[predicted(1)], outcomes=[told(1)]))

    assert counts.joined == 1


def test_an_outcome_without_a_label_makes_it_void(joins: Joins) -> None:
    counts = joins.apply(Batch(predictions=[predicted(1)]), Batch(outcomes=[told(1, label=None)]))

    assert (counts.void, counts.joined) == (1, 0)


def test_records_seen_again_are_counted_and_ignored(joins: Joins) -> None:
    batch = Batch(predictions=[predicted(1), predicted(1)], outcomes=[told(1), told(1)])

    counts = joins.apply(batch, batch)

    assert (counts.recorded, counts.joined) == (1, 1)
    assert (counts.duplicate_predictions, counts.duplicate_labels) == (3, 3)


def test_the_first_outcome_of_an_entity_stands(joins: Joins) -> None:
    joins.apply(Batch(outcomes=[told(1, 1.0), told(1, 0.0)]), Batch(outcomes=[told(1, None)]))

    joins.apply(Batch(predictions=[predicted(1)]))

    with joins.database.read() as connection:
        assert connection.execute(sa.select(predictions.c.label)).scalar_one() == 1.0


def test_one_outcome_settles_every_prediction_of_its_entity(joins: Joins) -> None:
    counts = joins.apply(Batch(predictions=[predicted(1, "e1"), predicted(2, "e1", at=1)]), Batch(outcomes=[told(1)]))

    assert (counts.recorded, counts.joined) == (2, 2)


def test_it_expires_once_the_watermark_is_past_its_horizon_and_not_before(joins: Joins) -> None:
    assert joins.apply(Batch(predictions=[predicted(1)]), marks(12)).pending == 1

    assert joins.apply(marks(12.001)).expired == 1


def test_the_slowest_label_topic_decides(joins: Joins) -> None:
    ahead = Batch(watermarks={(LABELS, 0): us(100)}, next_offsets=OFFSETS)

    assert joins.apply(Batch(predictions=[predicted(1)]), ahead).expired == 0

    behind = Batch(watermarks={(OTHER_LABELS, 0): us(13)}, next_offsets=OFFSETS)
    assert joins.apply(behind).expired == 1


def test_a_watermark_never_goes_back(joins: Joins) -> None:
    joins.apply(marks(20), marks(5))

    with joins.database.read() as connection:
        assert joins.joiner.watermark_us(connection) == us(20)


def test_a_label_after_expiry_is_counted_late_and_changes_nothing(joins: Joins) -> None:
    counts = joins.apply(Batch(predictions=[predicted(1)]), marks(13), Batch(outcomes=[told(1, at=13)]))

    assert (counts.expired, counts.joined, counts.late_labels) == (1, 0, 1)


def test_an_old_outcome_is_forgotten_unless_a_prediction_has_it(joins: Joins) -> None:
    joins.apply(Batch(predictions=[predicted(1)], outcomes=[told(1), told(2), told(3, at=30)]), marks(40))

    with joins.database.write() as connection:
        assert joins.joiner.prune(connection) == 1
    assert joins.outcomes() == 2


def test_the_offsets_move_with_the_rows_or_not_at_all(joins: Joins) -> None:
    batch = Batch(predictions=[predicted(1)], next_offsets={(LABELS, 0): 77})
    with suppress(ZeroDivisionError), joins.database.write() as connection:
        joins.joiner.apply(connection, batch)
        raise ZeroDivisionError

    assert joins.apply().recorded == 0
    assert begin(joins.database, [(LABELS, 0)]) == {(LABELS, 0): None}


_PREDICTIONS = [predicted(n, f"e{n % 5}", at=n) for n in range(8)]
_OUTCOMES = [told(0, 1.0, 1), told(1, 0.0, 12.5), told(2, None, 3), told(3, 1.0, 15.5)]
_WATERMARK_HOURS = 16


@given(st.permutations([*_PREDICTIONS, *_OUTCOMES, *_PREDICTIONS[:2], *_OUTCOMES[:2]]), st.integers(1, 5))
def test_every_order_and_batching_ends_in_the_same_counts(records: list[Prediction | Outcome], size: int) -> None:
    joins = Joins()

    for start in range(0, len(records), size):
        part = records[start : start + size]
        batch = Batch(
            predictions=[record for record in part if isinstance(record, Prediction)],
            outcomes=[record for record in part if isinstance(record, Outcome)],
        )
        counts = joins.apply(batch)
        assert counts.recorded == counts.joined + counts.void + counts.pending + counts.expired
    counts = joins.apply(marks(_WATERMARK_HOURS))

    # e0: p0 and p5 joined. e1: known at 12.5 h, in time for p1 (till 13 h) and p6. e2: p2 and p7 void.
    # e3: known at 15.5 h, past p3's 15 h: late, expired. e4 (p4, till 16 h): nothing came, not over yet.
    assert joins.by_rows() == {"joined": 4, "void": 2, "pending": 1, "expired": 1}
    assert counts == Counts(
        recorded=8,
        joined=4,
        void=2,
        pending=1,
        expired=1,
        duplicate_predictions=2,
        duplicate_labels=2,
        late_labels=1,
        labels=6,
    )
