"""Training sets of the tiny problem: which rows, which labels, what lies in the file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from services.chassis.errors import Conflict, Invalid, Unavailable
from services.features.definitions import Definitions, load_definitions
from services.features.lake import Lake
from services.features.training_files import digest_of
from services.features.training_sets import TrainingSet, TrainingSets
from services.problem import ModelRecipe, load_recipe
from tests.support import PARCELS
from tests.support.event_lake import EventLake, TypedEvent

ORDERED, DELIVERED, LOST = "parcel.ordered", "parcel.delivered", "parcel.lost"
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
MICROSECOND, SECOND = timedelta(microseconds=1), timedelta(seconds=1)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LEAD, HORIZON = 10 * MINUTE, 12 * HOUR
ALL = (NOON - DAY, NOON + DAY)


@pytest.fixture(scope="module")
def definitions() -> Definitions:
    return load_definitions(PARCELS)


class Parcels:
    """A lake to fill and the training sets of it."""

    def __init__(self, definitions: Definitions, folder: Path, recipe: ModelRecipe) -> None:
        self._definitions = definitions
        self._recipe = recipe
        self.folder = folder
        self.lake = EventLake(folder / "lake", definitions.event_types)
        self.told: list[str] = []

    def ordered(
        self, parcel: str, pickup_at: datetime = NOON, known: datetime | None = None, at: str = "", **data: Any
    ) -> TypedEvent:
        """To be collected at `pickup_at`, whose text `at` replaces."""
        at = at or pickup_at.isoformat().replace("+00:00", "Z")
        data = {"shop": "shop-1", "courier": "courier-1", "weight_kg": 2.5, "pickup_at": at} | data
        known = known or pickup_at - 2 * HOUR
        event_id = f"{parcel}/ordered/{known.isoformat()}"
        return self.lake.accepted(ORDERED, event_id, known - MINUTE, known, parcel_id=parcel, **data)

    def delivered(
        self, parcel: str, known: datetime = NOON + HOUR, delay: float = 5.0, time: datetime | None = None, **data: Any
    ) -> TypedEvent:
        data = {"shop": "shop-1", "courier": "courier-1"} | data
        event_id = f"{parcel}/delivered/{known.isoformat()}"
        time = time or known - MINUTE
        return self.lake.accepted(DELIVERED, event_id, time, known, parcel_id=parcel, delay_minutes=delay, **data)

    def lost(self, parcel: str, known: datetime = NOON + HOUR) -> TypedEvent:
        return self.lake.accepted(LOST, f"{parcel}/lost", known, known, parcel_id=parcel, shop="shop-1", courier=None)

    def build(
        self,
        *events: TypedEvent,
        span: tuple[datetime, datetime] = ALL,
        known_by: datetime | None = None,
        labels: bool = True,
    ) -> TrainingSet:
        self.lake.add(events)
        self.lake.reached(known_by or span[1])
        return self.sets().build(*span, known_by, self.told.append, labels=labels)

    def sets(self) -> TrainingSets:
        return TrainingSets(
            self._definitions, self._recipe, Lake(str(self.lake.folder)), self.folder / "sets", wait_s=0
        )

    def rows(self, *events: TypedEvent, **build: Any) -> list[dict[str, Any]]:
        return read(self.build(*events, **build)).to_pylist()


@pytest.fixture
def parcels(definitions: Definitions, tmp_path: Path) -> Parcels:
    return Parcels(definitions, tmp_path, load_recipe(PARCELS))


def read(built: TrainingSet) -> pa.Table:
    return pq.read_table(unquote(urlparse(built.uri).path))


def test_the_file_has_the_request_the_vector_and_the_label(parcels: Parcels):
    earlier = parcels.delivered("p0", NOON - HOUR, delay=-4.0)
    built = parcels.build(parcels.ordered("p1"), parcels.delivered("p1"), earlier)

    table = read(built)
    assert table.column_names == [
        "parcel_id",
        "as_of",
        "courier",
        "shop",
        "pickup_at",
        "weight_kg",
        *built.features,
        "label",
    ]
    assert {table.schema.field(name).type for name in (*built.features, "label")} == {pa.float32()}
    assert table.schema.field("as_of").type == pa.timestamp("us", tz="UTC")
    (row,) = table.to_pylist()
    assert (row["parcel_id"], row["as_of"], row["pickup_at"]) == ("p1", NOON - LEAD, "2024-03-01T12:00:00Z")
    assert row["label"] == 1.0
    assert row["courier_recent__delivered_1h"] == 1.0
    assert row["courier_recent__delay_last"] == -4.0
    assert row["parcel_request__minutes_since_delivery"] == 51.0
    assert (row["parcel_request__pickup_hour"], row["parcel_request__weight"]) == (12.0, 2.5)
    assert math.isnan(row["shop_days__delay_std_3d"])
    assert (built.rows, built.unlabelled_rows) == (1, 0)


def test_the_vector_is_in_the_order_of_the_feature_service(parcels: Parcels, definitions: Definitions):
    built = parcels.build(parcels.ordered("p1"), parcels.delivered("p1"))

    expected = [each.name for each in definitions.service("parcel_delay_v1").features]
    assert list(built.features) == expected
    assert "courier_recent__delivered_at_last" not in built.features


def test_rows_lie_in_the_half_open_range_ordered_by_moment_and_entity(parcels: Parcels):
    moments = {"p4": NOON + HOUR, "p3": NOON, "p2": NOON, "p1": NOON + MINUTE, "p0": NOON - MINUTE}
    events = [parcels.ordered(name, as_of + LEAD) for name, as_of in moments.items()]
    outcomes = [parcels.delivered(name, NOON + 2 * HOUR) for name in moments]

    rows = parcels.rows(*events, *outcomes, span=(NOON, NOON + HOUR), known_by=NOON + DAY)

    assert [row["parcel_id"] for row in rows] == ["p2", "p3", "p1"]


def test_an_event_that_became_known_after_its_moment_gives_no_row(parcels: Parcels):
    events = [
        parcels.ordered("just", known=NOON - LEAD),
        parcels.ordered("after", known=NOON - LEAD + timedelta(microseconds=1)),
    ]

    rows = parcels.rows(*events, parcels.delivered("just"), parcels.delivered("after"))

    assert [row["parcel_id"] for row in rows] == ["just"]


def test_an_update_replaces_what_was_known_before_the_moment(parcels: Parcels):
    events = [
        parcels.ordered("p1", NOON, known=NOON - 5 * HOUR, weight_kg=1.0),
        parcels.ordered("p1", NOON + HOUR, known=NOON - 4 * HOUR, weight_kg=2.0),
    ]

    rows = parcels.rows(*events, parcels.delivered("p1", NOON + 2 * HOUR))

    assert [(row["as_of"], row["weight_kg"]) for row in rows] == [(NOON + HOUR - LEAD, 2.0)]


def test_an_update_that_comes_after_the_moment_does_not_reach_back(parcels: Parcels):
    events = [
        parcels.ordered("p1", NOON, weight_kg=1.0),
        parcels.ordered("p1", NOON, known=NOON - LEAD + MINUTE, weight_kg=2.0),
    ]

    rows = parcels.rows(*events, parcels.delivered("p1"))

    assert [(row["as_of"], row["weight_kg"]) for row in rows] == [(NOON - LEAD, 1.0)]


def test_an_order_whose_moment_is_no_instant_gives_no_row(parcels: Parcels):
    events = [parcels.ordered("p1"), parcels.ordered("p2", at="2024-02-31T12:00:00Z")]

    rows = parcels.rows(*events, parcels.delivered("p1"), parcels.delivered("p2"))

    assert [row["parcel_id"] for row in rows] == ["p1"]


def test_the_label_is_the_first_outcome_that_became_known(parcels: Parcels):
    orders = [parcels.ordered(name) for name in ("late", "punctual", "lost first", "lost later")]
    outcomes = [
        parcels.delivered("late", NOON + 2 * HOUR, delay=9),
        parcels.delivered("late", NOON + 3 * HOUR, delay=-9),
        parcels.delivered("punctual", NOON + 2 * HOUR, delay=9),
        parcels.delivered("punctual", NOON + HOUR, delay=-9),
        parcels.lost("lost first", NOON + HOUR),
        parcels.delivered("lost first", NOON + 2 * HOUR),
        parcels.delivered("lost later", NOON + HOUR),
        parcels.lost("lost later", NOON + 2 * HOUR),
    ]

    built = parcels.build(*orders, *outcomes)

    labels = {row["parcel_id"]: row["label"] for row in read(built).to_pylist()}
    assert labels == {"late": 1.0, "punctual": 0.0, "lost later": 1.0}
    assert built.unlabelled_rows == 1


def test_an_outcome_counts_until_the_horizon_as_in_monitoring(parcels: Parcels):
    over = NOON - LEAD + HORIZON
    events = [
        *(parcels.ordered(name) for name in ("in time", "too late")),
        parcels.delivered("in time", over),
        parcels.delivered("too late", over + MINUTE),
    ]

    built = parcels.build(*events)

    assert [row["parcel_id"] for row in read(built).to_pylist()] == ["in time"]
    assert built.unlabelled_rows == 1


def test_a_row_whose_horizon_is_not_over_before_the_cut_is_left_out_though_its_outcome_came(parcels: Parcels):
    over = NOON - LEAD + HORIZON
    events = [
        parcels.ordered("earlier", NOON - SECOND),
        *(parcels.ordered(name) for name in ("soon", "at last")),
        parcels.delivered("earlier", NOON + HOUR),
        parcels.delivered("soon", NOON + HOUR),
        parcels.delivered("at last", over),
    ]
    span = (NOON - HOUR, NOON + MINUTE)

    built = parcels.build(*events, span=span, known_by=over)
    assert [row["parcel_id"] for row in read(built).to_pylist()] == ["earlier"]
    assert (built.rows, built.unlabelled_rows) == (1, 2)
    assert "2 of 3 rows left out: 12:00:00 after their moment was not before 2024-03-01T23:50:00Z" in parcels.told

    assert parcels.build(span=span, known_by=over + MICROSECOND).rows == 3


def test_a_row_without_a_key_has_no_values_of_that_key(parcels: Parcels):
    history = [parcels.delivered("p0", NOON - HOUR), parcels.delivered("p00", NOON - HOUR, courier=None)]
    order = parcels.ordered("p1", courier=None)

    (row,) = parcels.rows(order, *history, parcels.delivered("p1"))

    assert row["courier"] is None
    assert math.isnan(row["courier_recent__delivered_1h"])
    assert math.isnan(row["pair_days__late_sum_3d"])
    assert row["shop_days__late_share_3d"] == 1.0


def test_an_idle_entity_counts_zero_and_an_unknown_one_nothing(parcels: Parcels):
    orders = [parcels.ordered("p1"), parcels.ordered("p2", courier="courier-9")]
    history = parcels.delivered("p0", NOON - 100 * DAY)

    rows = parcels.rows(*orders, history, parcels.delivered("p1"), parcels.delivered("p2"))

    counts = [row["courier_recent__delivered_1h"] for row in rows]
    assert counts[0] == 0.0 and math.isnan(counts[1])


def _a_days_events(parcels: Parcels) -> Iterator[TypedEvent]:
    for n in range(1, 41):
        who = {"courier": f"courier-{n % 3}", "shop": f"shop-{n % 2}"}
        yield parcels.ordered(f"p{n}", NOON + n * 20 * MINUTE, **who)
        yield parcels.delivered(f"p{n}", NOON + n * 20 * MINUTE + HOUR, delay=(n * 37 % 11 - 5) / 7, **who)


def test_the_same_events_give_the_same_digest_however_the_lake_holds_them(parcels: Parcels, definitions: Definitions):
    other = Parcels(definitions, parcels.folder / "other", load_recipe(PARCELS))
    span = (NOON, NOON + DAY)
    known_by = NOON + 2 * DAY
    at_once = parcels.build(*_a_days_events(parcels), span=span, known_by=known_by)
    for each in reversed(list(_a_days_events(other))):
        other.lake.add([each])
    one_by_one = other.build(span=span, known_by=known_by)
    for name in (ORDERED, DELIVERED):
        DeltaTable(str(other.lake.folder / name)).optimize.compact()
    compacted = other.sets().build(*span, known_by)

    assert at_once.rows == 40
    assert at_once.digest == one_by_one.digest == compacted.digest
    assert (parcels.folder / "sets" / f"{at_once.digest}.parquet").is_file()


def test_other_values_give_another_digest(parcels: Parcels):
    first = parcels.build(parcels.ordered("p1"), parcels.delivered("p1"))

    with_history = parcels.build(parcels.delivered("p0", NOON - HOUR, delay=1.0))

    assert with_history.digest != first.digest
    assert with_history.rows == first.rows


def test_nothing_else_stays_in_the_folder(parcels: Parcels):
    built = parcels.build(parcels.ordered("p1"), parcels.delivered("p1"))

    assert [path.name for path in (parcels.folder / "sets").iterdir()] == [f"{built.digest}.parquet"]
    metadata = read(built).schema.metadata
    assert metadata[b"slipway.from"] == b"2024-02-29T12:00:00Z"
    assert metadata[b"slipway.version of parcel.ordered"] == b"2"


def test_a_build_that_is_told_to_end_leaves_nothing_behind(parcels: Parcels):
    parcels.build(parcels.ordered("p1"), parcels.delivered("p1"))
    before = list((parcels.folder / "sets").iterdir())
    parcels.lake.add([parcels.delivered("p0", NOON - HOUR)])

    def tell(stage: str) -> None:
        if "shop_days" in stage:
            raise Unavailable("end")

    with pytest.raises(Unavailable, match="end"):
        parcels.sets().build(*ALL, tell=tell)
    assert list((parcels.folder / "sets").iterdir()) == before


def test_progress_is_told_in_words(parcels: Parcels):
    parcels.build(parcels.ordered("p1"), parcels.delivered("p1"))

    assert parcels.told == [
        "rows of parcel.ordered, outcomes of parcel.delivered, parcel.lost",
        "windowed features of courier_recent (1 of 3)",
        "windowed features of shop_days (2 of 3)",
        "windowed features of pair_days (3 of 3)",
        "on-demand features of parcel_request",
        "writing 1 rows of 10 features",
    ]


def test_a_range_without_rows_is_refused_with_what_was_found(parcels: Parcels):
    with pytest.raises(
        Invalid, match=r"no parcel\.ordered has its prediction moment in \[2024-02-29T12:00:00Z, 2024-03"
    ):
        parcels.build()


def test_rows_without_any_label_are_refused_with_what_was_found(parcels: Parcels):
    with pytest.raises(Invalid, match=r"2 rows of parcel\.ordered .* but parcel\.delivered, parcel\.lost tell none"):
        parcels.build(parcels.ordered("p1"), parcels.ordered("p2"), parcels.lost("p2"))


def test_without_labels_every_row_of_the_range_is_there_whatever_came_of_it(parcels: Parcels):
    events = [
        *(parcels.ordered(name) for name in ("lost", "open", "punctual")),
        parcels.lost("lost"),
        parcels.delivered("punctual", delay=-3.0),
        parcels.ordered("no instant", at="2024-02-31T12:00:00Z"),
    ]
    labelled = parcels.build(*events)

    built = parcels.build(labels=False)

    table = read(built)
    assert [row["parcel_id"] for row in table.to_pylist()] == ["lost", "open", "punctual"]
    assert table.column_names == [name for name in read(labelled).column_names if name != "label"]
    assert (built.rows, built.unlabelled_rows) == (3, 0)
    assert parcels.told[-5:-4] == ["windowed features of courier_recent (1 of 3)"]


def test_a_row_has_the_same_vector_with_a_label_and_without(parcels: Parcels):
    events = [parcels.delivered("p0", NOON - HOUR, delay=-4.0), parcels.ordered("p1"), parcels.delivered("p1")]
    labelled = parcels.build(*events)

    built = parcels.build(labels=False)

    assert built.digest == digest_of(read(labelled).drop(["label"]))


def test_without_labels_a_row_counts_before_its_horizon_is_over(parcels: Parcels):
    built = parcels.build(parcels.ordered("p1"), span=(NOON - HOUR, NOON), labels=False)

    assert built.rows == 1


def test_without_labels_a_range_without_rows_is_an_empty_set(parcels: Parcels):
    filled = parcels.build(parcels.ordered("p1"), span=(NOON - HOUR, NOON), labels=False)

    empty = parcels.build(span=(NOON, NOON + HOUR), labels=False)

    assert (empty.rows, read(empty).schema.remove_metadata()) == (0, read(filled).schema.remove_metadata())


def test_without_labels_the_outcomes_are_not_waited_for(parcels: Parcels, definitions: Definitions):
    parcels.lake.add([parcels.ordered("p1")])
    parcels.lake.reached(ALL[1], ORDERED, DELIVERED)

    assert parcels.sets().build(*ALL, labels=False).rows == 1
    with pytest.raises(Conflict, match="is ahead of the lake"):
        parcels.sets().build(*ALL)


def test_a_cut_before_the_ranges_end_is_refused(parcels: Parcels):
    for span, known_by in [((NOON, NOON), NOON), ((NOON, NOON + HOUR), NOON)]:
        with pytest.raises(Invalid, match="they must be from < to <= known_by"):
            parcels.sets().build(*span, known_by)


def test_a_cut_ahead_of_the_lake_is_a_conflict(parcels: Parcels):
    parcels.build(parcels.ordered("p1"), parcels.delivered("p1"))

    with pytest.raises(Conflict, match="it has come to 2024-03-02T12:00:00Z"):
        parcels.sets().build(*ALL, NOON + 2 * DAY)


def test_a_request_field_that_would_hide_a_column_of_the_file_is_refused(definitions: Definitions, tmp_path: Path):
    recipe = load_recipe(PARCELS)
    named = replace(recipe, label=replace(recipe.label, entity_id="label"))

    with pytest.raises(Invalid, match="'label' is taken in training sets"):
        TrainingSets(definitions, named, Lake(str(tmp_path)), tmp_path)
