"""Batch runs of rows that lie in files: which columns, which types, what of a file that changes."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from services.chassis.errors import Conflict, Invalid, NotFound
from services.inference.batch.app import predict
from services.inference.batch.order import InputFile, file_order
from services.inference.batch.sources import CHUNK_ROWS, FileSource
from tests.support.tiny_models import FEATURES
from tests.unit.inference.batches import Bench, FakeSets, Told
from tests.unit.inference.fakes import make_model

ONE, TWO, THREE = FEATURES
VECTORS = np.array([[1, 2, 4], [np.nan, 0, 8], [3, 1, 0]], np.float32)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "out").mkdir()
    return Bench(tmp_path / "out", FakeSets(tmp_path / "sets"))


def _by_name(vectors: np.ndarray = VECTORS, **more: Any) -> pa.Table:
    return pa.table(more | {name: pa.array(vectors[:, place]) for place, name in enumerate(FEATURES)})


def _written(path: Path, table: pa.Table, **options: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table, path, **options)
    return path


def _expected(vectors: np.ndarray = VECTORS) -> list[float]:
    return [float(value) for value in make_model().probabilities(vectors)]


def test_feature_columns_go_by_name_and_the_others_go_along(bench: Bench, tmp_path: Path) -> None:
    table = _by_name(who=["a", "b", "c"], note=[1, None, 3]).select([THREE, "who", ONE, TWO, "note"])

    scored = bench.score_file(_written(tmp_path / "rows.parquet", table))

    assert scored.column_names == ["who", "note", "probability", "missing_features", "model_version"]
    assert scored["who"].to_pylist() == ["a", "b", "c"] and scored["note"].to_pylist() == [1, None, 3]
    assert scored["probability"].to_pylist() == _expected()
    assert scored["missing_features"].to_pylist() == [0, 1, 0]


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float32(), len(FEATURES))]
)
def test_the_whole_vector_may_be_one_column(bench: Bench, tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.table({"who": ["a", "b", "c"], "features": pa.array(VECTORS.tolist(), kind)})

    scored = bench.score_file(_written(tmp_path / "rows.parquet", table))

    assert scored["probability"].to_pylist() == _expected()
    assert scored.column_names[0] == "who"


def test_numbers_of_any_type_are_taken_and_null_is_missing(bench: Bench, tmp_path: Path) -> None:
    table = pa.table(
        {
            ONE: pa.array([1, None], pa.int64()),
            TWO: pa.array([True, False]),
            THREE: pa.array([Decimal("2.5"), Decimal("-1.5")]),
        }
    )

    scored = bench.score_file(_written(tmp_path / "rows.parquet", table))

    vectors = np.array([[1, 1, 2.5], [np.nan, 0, -1.5]], np.float32)
    assert scored["probability"].to_pylist() == _expected(vectors)
    assert scored["missing_features"].to_pylist() == [0, 1]


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({ONE: [1.0], "weight": [2.0]}, f"rows: lack the features {TWO}, {THREE}; expected a column for each of the 3"),
        ({ONE: [1.0], TWO: ["x"], THREE: [1.0]}, f"rows: '{TWO}' is string, expected numbers"),
        ({"features": [1.0]}, "rows: 'features' is double, expected lists of numbers"),
        ({"features": [["x"]]}, r"rows: 'features' is list<.*string>, expected lists of numbers"),
        ({"features": [[1.0, 2.0, 3.0], [1.0]]}, "rows: 'features' of row 1: expected 3 numbers, got 1 numbers"),
        ({"features": [[1.0, 2.0, 3.0], None]}, "rows: 'features' of row 1: expected 3 numbers, got null"),
        ({"features": [[1.0, 2.0, 3.0]], "probability": [0.5]}, "'probability' would be overwritten by the score"),
    ],
)
def test_rows_that_are_none_of_the_model_are_refused_by_name(
    bench: Bench, tmp_path: Path, columns: Mapping[str, Any], complaint: str
) -> None:
    path = _written(tmp_path / "rows.parquet", pa.table(dict(columns)))

    with pytest.raises(Invalid, match=complaint):
        bench.score_file(path)
    assert bench.left() == []


def test_what_cannot_be_read_is_named(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("no rows")
    (tmp_path / "empty").mkdir()

    with pytest.raises(NotFound, match=r"nothing\.parquet: does not exist"):
        bench.score_file(tmp_path / "nothing.parquet")
    with pytest.raises(Invalid, match=r"text\.parquet: cannot be read"):
        bench.score_file(tmp_path / "text.parquet")
    with pytest.raises(Invalid, match="holds no Parquet file"):
        bench.score_file(tmp_path / "empty")


def test_a_folder_is_read_file_by_file_in_the_order_of_names(bench: Bench, tmp_path: Path) -> None:
    for name, who in (("b", "second"), ("a", "first"), ("c", "third")):
        _written(tmp_path / "rows" / f"{name}.parquet", _by_name(VECTORS[:1], who=[who]))

    scored = bench.score_file(tmp_path / "rows")

    assert scored["who"].to_pylist() == ["first", "second", "third"]


def test_a_file_that_lacks_a_column_of_the_others_is_refused(bench: Bench, tmp_path: Path) -> None:
    _written(tmp_path / "rows" / "a.parquet", _by_name())
    _written(tmp_path / "rows" / "b.parquet", _by_name().drop([TWO]))

    with pytest.raises(Invalid, match=rf"b\.parquet: lacks the column '{TWO}'"):
        bench.score_file(tmp_path / "rows")


def test_rows_come_in_bounded_batches_and_slices_of_row_groups(tmp_path: Path) -> None:
    rows = 20 * CHUNK_ROWS + 5
    vectors = np.zeros((rows, len(FEATURES)), np.float32)
    path = _written(tmp_path / "rows.parquet", _by_name(vectors, n=np.arange(rows)), row_group_size=3 * CHUNK_ROWS)

    source = FileSource(InputFile(str(path)))

    assert source.slices == 3
    batches = [batch for number in range(source.slices) for batch in source.read(number, lambda _: None)]
    assert max(batch.num_rows for batch in batches) <= CHUNK_ROWS
    assert np.array_equal(np.concatenate([batch["n"].to_numpy() for batch in batches]), np.arange(rows))


def test_a_file_without_rows_is_an_output_without_rows(bench: Bench, tmp_path: Path) -> None:
    assert bench.score_file(_written(tmp_path / "rows.parquet", _by_name(VECTORS[:0]))).num_rows == 0


class Killed(Told):
    """A run that does not outlive its first slice."""

    def stage(self, words: str) -> None:
        if "(2 of" in words:
            raise KeyboardInterrupt


def _killed(bench: Bench, rows: Path) -> None:
    order = file_order(str(rows), model="champion", out=str(bench.folder / "out.parquet"))
    with pytest.raises(KeyboardInterrupt):
        predict(order, bench.find, bench.sets, Killed())


def test_a_file_that_changed_under_an_unfinished_run_begins_anew_only_if_told(bench: Bench, tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    for name in ("a", "b"):
        _written(rows / f"{name}.parquet", _by_name())
    _killed(bench, rows)
    _written(rows / "a.parquet", _by_name(VECTORS[:2]))

    with pytest.raises(Conflict, match="--in: changed since the unfinished run began with it"):
        bench.score_file(rows)
    assert bench.score_file(rows, overwrite=True).num_rows == 5


@pytest.mark.parametrize("partition_by", [None, ["day"]])
def test_a_delta_table_is_read_as_it_was_when_the_run_began(
    bench: Bench, tmp_path: Path, partition_by: list[str] | None
) -> None:
    rows = tmp_path / "rows"
    for day in ("x", "y"):
        write_deltalake(str(rows), _by_name(day=[day] * 3), mode="append", partition_by=partition_by)
    _killed(bench, rows)
    write_deltalake(str(rows), _by_name(day=["z"] * 3), mode="append", partition_by=partition_by)

    scored = bench.score_file(rows)

    assert sorted(scored["day"].to_pylist()) == ["x"] * 3 + ["y"] * 3
    assert sorted(scored["probability"].to_pylist()) == sorted(2 * _expected())


def test_scores_of_a_delta_table_go_to_a_delta_table(bench: Bench, tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "rows"), _by_name(who=["a", "b", "c"]))
    order = file_order(str(tmp_path / "rows"), model="champion", out=str(bench.folder / "table"))

    predict(order, bench.find, bench.sets, Told())

    scored = DeltaTable(str(bench.folder / "table")).to_pyarrow_table().sort_by("who")
    assert scored["probability"].to_pylist() == _expected()
