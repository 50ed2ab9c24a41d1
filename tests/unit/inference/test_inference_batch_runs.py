"""Batch runs of a past range: what they write, and what becomes of one that is killed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from services.chassis.errors import AlreadyExists, Conflict, Invalid, NotFound, Unavailable
from services.inference.batch.app import predict
from services.inference.batch.order import file_order, range_order
from services.inference.batch.work import opened
from tests.support.tiny_models import FEATURES, logistic_onnx, moody_onnx
from tests.unit.inference.batches import HOUR, NOON, Bench, FakeSets, Told
from tests.unit.inference.fakes import make_model


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "out").mkdir()
    return Bench(tmp_path / "out", FakeSets(tmp_path / "sets"))


def _killed_at(bench: Bench, hour: int, out: str = "out.parquet", **options: object) -> None:
    """A run that ends before the slice of that hour is scored."""
    bench.sets.fails_at = {NOON + hour * HOUR}
    with pytest.raises(Unavailable):
        bench.score_range(out, **options)  # type: ignore[arg-type]
    bench.sets.fails_at = set()
    bench.sets.built.clear()


def test_every_row_of_the_range_is_scored_by_the_model(bench: Bench) -> None:
    told = bench.score_range("out.parquet")

    table = bench.read("out.parquet")
    rows = bench.sets.table(NOON, NOON + 2 * HOUR)
    vectors = np.column_stack([rows[name].to_numpy() for name in FEATURES])
    assert table.column_names == ["parcel_id", "as_of", "probability", "missing_features", "model_version"]
    assert table["parcel_id"].to_pylist()[:4] == rows["parcel_id"].to_pylist()
    assert table["probability"].to_pylist()[:4] == make_model().probabilities(vectors).tolist()
    assert table["missing_features"].to_pylist()[:4] == [1, 0, 1, 0]
    assert set(table["model_version"].to_pylist()) == {"1"}
    assert told.scored_ == [(1, 5, 2), (2, 5, 4), (3, 5, 4), (4, 5, 6), (5, 5, 8)]
    assert told.ends_ == [(8, "1", True)]


def test_a_range_of_no_whole_slices_ends_where_it_was_told(bench: Bench) -> None:
    bench.score_range("out.parquet", slice_=2 * HOUR)

    assert bench.sets.built == [NOON, NOON + 2 * HOUR, NOON + 4 * HOUR]
    assert bench.read("out.parquet")["as_of"].to_pylist()[-1] == NOON + 4.5 * HOUR


def test_a_range_without_rows_is_an_output_without_rows(bench: Bench, tmp_path: Path) -> None:
    out = tmp_path / "out" / "none.parquet"
    order = range_order(NOON + 2 * HOUR, NOON + 3 * HOUR, model="champion", out=str(out))

    predict(order, bench.find, bench.sets, Told())

    assert pq.read_table(out).num_rows == 0
    assert "probability" in pq.read_schema(out).names


def test_a_killed_run_goes_on_where_it_was_and_ends_with_the_same_bytes(bench: Bench) -> None:
    bench.score_range("clean.parquet")
    _killed_at(bench, 3)

    told = bench.score_range("out.parquet")

    assert bench.sets.built == [NOON + 3 * HOUR, NOON + 4 * HOUR]
    assert told.scored_ == [(4, 5, 2), (5, 5, 4)]
    assert (bench.folder / "out.parquet").read_bytes() == (bench.folder / "clean.parquet").read_bytes()


def test_there_is_no_output_before_all_of_it_is_there_and_nothing_else_after(bench: Bench) -> None:
    _killed_at(bench, 4)
    assert bench.left() == [".out.parquet.scored"]

    bench.score_range("out.parquet")
    assert bench.left() == ["out.parquet"]


def test_a_run_that_scored_nothing_leaves_nothing(bench: Bench) -> None:
    _killed_at(bench, 0)

    assert bench.left() == []


def test_a_run_that_was_killed_before_its_first_slice_stands_in_nobodys_way(bench: Bench) -> None:
    _killed_at(bench, 1)
    (bench.folder / ".out.parquet.scored" / "000000.parquet").unlink()

    bench.score_range("out.parquet", hours=2)

    assert bench.left() == ["out.parquet"]


def test_a_half_written_part_is_scored_again(bench: Bench) -> None:
    bench.score_range("clean.parquet")
    _killed_at(bench, 3)
    (bench.folder / ".out.parquet.scored" / ".000003.parquet.part").write_bytes(b"half")

    bench.score_range("out.parquet")

    assert (bench.folder / "out.parquet").read_bytes() == (bench.folder / "clean.parquet").read_bytes()


def test_a_run_keeps_the_version_that_the_alias_named_when_it_began(bench: Bench) -> None:
    _killed_at(bench, 2)
    bench.champion, bench.versions["2"] = "2", make_model("2", logistic_onnx(bias=1.0))

    bench.score_range("out.parquet")

    assert bench.asked == ["champion", "1"]
    assert set(bench.read("out.parquet")["model_version"].to_pylist()) == {"1"}


def test_a_version_whose_bytes_are_others_now_does_not_go_on(bench: Bench) -> None:
    _killed_at(bench, 2)
    bench.versions["1"] = make_model("1", logistic_onnx(bias=1.0))

    with pytest.raises(Conflict, match=r"version 1 of 'parcel-delay' has another model\.onnx"):
        bench.score_range("out.parquet")


def test_what_another_run_left_is_not_thrown_away_unless_told(bench: Bench) -> None:
    _killed_at(bench, 2)

    with pytest.raises(AlreadyExists, match=r"not finished \(model=champion from=2024-03-01T12:00:00Z to=2024"):
        bench.score_range("out.parquet", hours=4)

    bench.score_range("out.parquet", hours=4, overwrite=True)
    assert bench.sets.built == [NOON + hour * HOUR for hour in range(4)]


def test_a_run_that_overwrites_goes_on_too(bench: Bench) -> None:
    _killed_at(bench, 3, overwrite=True)

    bench.score_range("out.parquet", overwrite=True)

    assert bench.sets.built == [NOON + 3 * HOUR, NOON + 4 * HOUR]


def test_a_finished_run_is_not_done_again(bench: Bench) -> None:
    bench.score_range("out.parquet")
    before = (bench.folder / "out.parquet").stat()

    told = bench.score_range("out.parquet", model="1")

    assert told.ends_ == [(0, "1", False)]
    assert (bench.folder / "out.parquet").stat() == before


def test_an_output_of_another_run_is_replaced_only_if_told(bench: Bench) -> None:
    bench.score_range("out.parquet", hours=2)
    bench.sets.built.clear()

    with pytest.raises(AlreadyExists, match=r"out\.parquet is there already, of another run; --overwrite"):
        bench.score_range("out.parquet")
    assert bench.sets.built == []

    bench.score_range("out.parquet", overwrite=True)
    assert bench.read("out.parquet").num_rows == 8


def test_two_runs_do_not_write_to_one_output(bench: Bench) -> None:
    with opened(bench.folder / ".out.parquet.scored"), pytest.raises(Conflict, match="another run writes to that"):
        bench.score_range("out.parquet")

    bench.score_range("out.parquet")


def test_a_folder_for_parts_that_is_given_keeps_what_else_is_in_it(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "mine").touch()
    one, other = (
        range_order(NOON, NOON + HOUR, model="champion", out=out, work=tmp_path / "work") for out in ("a/x", "b/x")
    )

    assert one.work.parent == other.work.parent == tmp_path / "work"
    assert one.work != other.work


def test_an_output_that_is_not_here_needs_a_folder_for_parts() -> None:
    with pytest.raises(Invalid, match="--work: must be given"):
        file_order("rows.parquet", model="champion", out="s3://bucket/scores")


def test_delta_gets_all_rows_in_one_commit_and_more_with_the_next_run(bench: Bench) -> None:
    _killed_at(bench, 2, "table")
    assert not DeltaTable.is_deltatable(str(bench.folder / "table"))

    bench.score_range("table")
    bench.score_range("table", hours=2)

    table = DeltaTable(str(bench.folder / "table"))
    assert [commit["operation"] for commit in table.history()] == ["WRITE", "WRITE"]
    assert table.history()[0]["slipway.model_version"] == "1"
    assert table.to_pyarrow_table().num_rows == 8 + 4


def test_a_run_that_was_killed_between_its_commit_and_its_end_is_committed_once(bench: Bench) -> None:
    _killed_at(bench, 4, "table")
    parts = bench.folder / ".table.scored"
    parts.rename(bench.folder / "kept")
    bench.score_range("table")
    (bench.folder / "kept").rename(parts)

    told = bench.score_range("table")

    assert told.ends_ == [(0, "1", False)]
    assert DeltaTable(str(bench.folder / "table")).to_pyarrow_table().num_rows == 8
    assert bench.left() == ["table"]


def test_a_run_whose_rows_were_overwritten_is_done_again(bench: Bench) -> None:
    bench.score_range("table")
    bench.score_range("table", hours=2, overwrite=True)
    assert DeltaTable(str(bench.folder / "table")).to_pyarrow_table().num_rows == 4

    bench.score_range("table")

    assert DeltaTable(str(bench.folder / "table")).to_pyarrow_table().num_rows == 4 + 8


def test_a_folder_that_is_no_table_does_not_become_one(bench: Bench) -> None:
    (bench.folder / "mine").mkdir()
    (bench.folder / "mine" / "notes.txt").touch()

    with pytest.raises(AlreadyExists, match="is no Delta table"):
        bench.score_range("mine")


def test_a_model_of_other_features_is_refused_before_anything_is_built(bench: Bench) -> None:
    bench.sets.features = tuple(reversed(FEATURES))

    with pytest.raises(Invalid, match="they differ at position 0"):
        bench.score_range("out.parquet")
    assert (bench.sets.built, bench.left()) == ([], [])


def test_sets_of_another_entity_are_refused(bench: Bench) -> None:
    bench.sets.entity_id = "order_id"

    with pytest.raises(Invalid, match="with 'order_id', the model was trained on 3 of 'parcel_id'"):
        bench.score_range("out.parquet")


def test_no_nonsense_is_written_as_a_probability(bench: Bench) -> None:
    bench.versions["1"] = make_model("1", moody_onnx(1.5))

    with pytest.raises(Conflict, match=r"rows from 0 of the slice: .*gives 1\.5 for row 1, expected a probability"):
        bench.score_range("out.parquet")
    assert bench.left() == [".out.parquet.scored"]


def test_a_set_that_cannot_be_reached_says_what_must_be_shared(bench: Bench) -> None:
    class Elsewhere(FakeSets):
        def build(self, begin, end, tell):  # type: ignore[no-untyped-def]
            built = super().build(begin, end, tell)
            for path in self.folder.iterdir():
                path.unlink()
            return built

    bench.sets = Elsewhere(bench.sets.folder)

    with pytest.raises(NotFound, match="the features service must share that folder"):
        bench.score_range("out.parquet")


@pytest.mark.parametrize(
    ("since", "until", "complaint"),
    [
        (NOON, NOON, "--to: 2024-03-01T12:00:00Z does not lie after --from"),
        (NOON, NOON + 300_000 * HOUR, "--slice: 1:00:00 cuts the range into more than 100000 pieces"),
    ],
)
def test_a_range_that_is_none_is_refused(since, until, complaint: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Invalid, match=complaint):
        range_order(since, until, HOUR, model="champion", out="out.parquet")
