from __future__ import annotations

from services.ingestion.lake.known_ids import DayIds, KnownIds
from services.ingestion.lake.pacing import MAX_QUIET_PAUSE_S, Pacing
from services.ingestion.lake.rows import Origin, Row
from services.ingestion.lake.sorting import Waiting, sort_out


def _row(event_id: str, offset: int, day: int = 0) -> Row:
    return Row(event_id, 0, 0, 0, ("upstream", 0, offset), day, b"{}")


def _new(*rows: Row) -> list[Waiting]:
    return [Waiting(row, covered=False) for row in rows]


def _sort(waiting: list[Waiting], known: DayIds | None = None) -> tuple[list[int], list[int], int]:
    result = sort_out("some.thing", waiting, lambda _: known or DayIds())
    return (
        [row.origin[2] for row in result.rows],
        [each.origin[2] for each in result.duplicates],
        result.redeliveries,
    )


def test_the_first_record_with_an_id_is_its_row():
    assert _sort(_new(_row("a", 1), _row("b", 2), _row("a", 3))) == ([1, 2], [3], 0)


def test_the_same_coordinates_are_a_redelivery_of_a_row_or_of_a_duplicate():
    known = DayIds({"a": ("upstream", 0, 1)}, {("upstream", 0, 3)})

    assert _sort(_new(_row("a", 1), _row("a", 3), _row("a", 4), _row("a", 4)), known) == ([], [4], 3)


def test_what_a_commit_has_taken_in_becomes_no_row_again_but_its_duplicates_are_completed():
    known = DayIds({"a": ("upstream", 0, 1)})
    waiting = [Waiting(_row("a", 1), True), Waiting(_row("a", 2), True), Waiting(_row("deleted", 3), True)]

    assert _sort(waiting, known) == ([], [2], 2)


def test_the_days_used_last_stay_in_memory():
    loaded: list[int] = []

    def load(event_type: str, day: int) -> DayIds:
        loaded.append(day)
        origin: Origin = ("upstream", 0, day)
        return DayIds({f"{day}-{n}": origin for n in range(4)})

    known = KnownIds(load, max_ids=10)
    for day in (1, 2, 1, 3):
        known.of("some.thing", day)
    known.shrink()
    for day in (1, 3, 2):
        known.of("some.thing", day)

    assert loaded == [1, 2, 3, 2]


def _pacing() -> Pacing:
    return Pacing(flush_s=2, flush_rows=100, flush_share=0.1, last_s=0)


def test_rows_wait_no_longer_than_told_and_not_at_all_when_they_are_many():
    pacing = _pacing()

    assert not pacing.due(0, False, 1000)
    assert not pacing.due(1, False, 1.9)
    assert pacing.due(1, False, 2)
    assert pacing.due(100, False, 0.1)


def test_dear_commits_are_made_less_often():
    pacing = _pacing()
    pacing.done(50, cpu_s=0.5, now_s=0)

    assert not pacing.due(50, True, 4.9)
    assert pacing.due(50, True, 5)


def test_a_watermark_without_rows_is_committed_ever_less_often():
    pacing, now, pauses = _pacing(), 0.0, []
    for _ in range(12):
        began = now
        while not pacing.due(0, True, now):
            now += 1
        pauses.append(now - began)
        pacing.done(0, 0.0, now)

    assert pauses[:4] == [2, 4, 8, 16]
    assert pauses[-1] == MAX_QUIET_PAUSE_S
    assert pacing.due(1, True, now + 2)
