"""The queue on disk: known requests once, the run in progress first, records until Kafka has them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from services.chassis.errors import AlreadyExists, Invalid, NotFound
from services.training.runs import Run, RunRequest, RunState, Stage, check_request
from services.training.store import RunStore
from services.training.translate import request_from_proto, run_to_proto, to_record
from tests.unit.training.fakes import REQUEST, T0

NUMBERS = count()


def _open(folder: Path) -> RunStore:
    return RunStore(folder, to_record, lambda: f"run-{next(NUMBERS)}")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    opened = _open(tmp_path)
    yield opened
    opened.close()


def _request(request_id: str) -> RunRequest:
    return replace(REQUEST, request_id=request_id)


def test_what_was_written_is_there_after_a_restart(store: RunStore, tmp_path: Path) -> None:
    run = store.queue(REQUEST)
    full = replace(
        run,
        state=RunState.REGISTERED,
        stage=Stage.REGISTER,
        detail="AUC 0.75",
        mlflow_run_id="m1",
        model_version="3",
        onnx_sha256="abc",
        metrics={"auc": 0.75},
        started_at=T0,
        ended_at=T0 + timedelta(seconds=1.5),
        attempts=2,
    )
    store.save(full, tell=True)

    again = _open(tmp_path)

    assert again.get(run.run_id) == full
    assert [record for _, _, record in again.unsent()] == [to_record(full)]
    again.close()


def test_a_known_request_is_refused_by_name(store: RunStore) -> None:
    run = store.queue(REQUEST)

    with pytest.raises(AlreadyExists, match=f"request_id: 'request-1' is run {run.run_id} already"):
        store.queue(replace(REQUEST, reason="again"))
    assert len(store.all()) == 1


def test_the_oldest_is_next_and_one_in_progress_comes_first(store: RunStore) -> None:
    one, two, three = (store.queue(_request(name)) for name in ("1", "2", "3"))
    assert store.queued() == 3
    assert store.next() == one
    started = store.save(replace(two, state=RunState.RUNNING))
    assert store.next() == started
    store.save(replace(two, state=RunState.REFUSED))
    store.save(replace(one, state=RunState.ERROR))
    assert store.next() == three
    store.save(replace(three, state=RunState.REGISTERED))

    assert store.next() is None
    assert store.queued() == 0
    assert [run.run_id for run in store.all()] == [three.run_id, two.run_id, one.run_id]


def test_records_are_due_in_order_and_kept_until_they_are_sent(store: RunStore, tmp_path: Path) -> None:
    run = store.queue(REQUEST)
    store.save(replace(run, detail="not told"))
    store.save(replace(run, state=RunState.RUNNING), tell=True)
    store.save(replace(run, state=RunState.ERROR), tell=True)

    first, second = store.unsent()
    assert (first[1], second[1]) == ("m", "m")
    store.drop_sent([first[0]])

    assert store.unsent() == [second]
    with closing(sqlite3.connect(tmp_path / "runs.sqlite")) as file:
        assert file.execute("SELECT record FROM records").fetchall() == [(second[2],)], "what was sent takes no room"
    store.drop_sent([second[0]])
    store.save(run, tell=True)
    assert [number for number, _, _ in store.unsent()] == [second[0] + 1], "a number is of one record for ever"


def test_an_unknown_run_is_not_found(store: RunStore) -> None:
    with pytest.raises(NotFound, match="run_id: there is no run 'x'"):
        store.get("x")


def test_requests_survive_the_wire() -> None:
    run = run_to_proto(Run("r", REQUEST, started_at=T0))

    assert request_from_proto(run.request) == REQUEST
    assert (run.started_at.seconds, run.HasField("ended_at")) == (int(T0.timestamp()), False)
    run.request.ClearField("to")
    with pytest.raises(Invalid, match="to: not set"):
        request_from_proto(run.request)


@pytest.mark.parametrize("field", ["from", "to", "requested_at"])
def test_a_time_that_is_none_is_refused_by_name(field: str) -> None:
    request = run_to_proto(Run("r", REQUEST)).request
    getattr(request, field).seconds = 10**15

    with pytest.raises(Invalid, match=f"{field}: .*1000000000000000 must be in range"):
        request_from_proto(request)


@pytest.mark.parametrize(
    ("changes", "cause", "words"),
    [
        ({"model": "other"}, NotFound, "model: 'other' is not trained here, only 'm'"),
        ({"request_id": ""}, Invalid, "request_id: empty"),
        ({"end": T0}, Invalid, "from, to: 2024-03-01T00:00:00Z is not before 2024-03-01T00:00:00Z"),
    ],
)
def test_requests_that_make_no_sense_are_refused_by_name(
    changes: dict[str, object], cause: type[Exception], words: str
) -> None:
    check_request(REQUEST, "m")
    with pytest.raises(cause, match=words):
        check_request(replace(REQUEST, **changes), "m")  # type: ignore[arg-type]
