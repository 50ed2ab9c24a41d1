"""What a batch run stands between in its unit tests: a features service that builds by rule, and a registry."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from services.chassis.clock import rfc3339
from services.chassis.errors import Unavailable
from services.contracts.features.v1 import features_pb2
from services.inference.batch.app import predict
from services.inference.batch.feature_sets import FeatureSet, Tell
from services.inference.batch.order import file_order, range_order
from services.inference.batch.progress import Progress
from services.inference.loaded_model import LoadedModel
from tests.support.tiny_models import FEATURES
from tests.unit.inference.fakes import make_model

HOUR = timedelta(hours=1)
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


@dataclass
class FakeSets:
    """A row for each half hour of a range that does not begin at NOON + 2h; fails for a begin in `fails_at`."""

    folder: Path
    features: tuple[str, ...] = FEATURES
    entity_id: str = "parcel_id"
    fails_at: set[datetime] = field(default_factory=set)
    built: list[datetime] = field(default_factory=list)

    def schema(self, feature_service: str) -> features_pb2.GetFeatureServiceSchemaResponse:
        fields = {"shop": 1, "courier": 1, "pickup_at": 4, "weight_kg": 3}
        columns = [features_pb2.Field(name=name, data_type=kind) for name, kind in fields.items()]
        return features_pb2.GetFeatureServiceSchemaResponse(
            join_keys=columns[:2], request_fields=columns[2:], features=self.features
        )

    def build(self, begin: datetime, end: datetime, tell: Tell) -> FeatureSet:
        tell(f"building from {rfc3339(begin)}")
        if begin in self.fails_at:
            raise Unavailable("features service at test does not answer")
        self.built.append(begin)
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"{begin.timestamp():.0f}-{end.timestamp():.0f}.parquet"
        pq.write_table(self.table(begin, end), path)
        return FeatureSet(path.as_uri(), self.features)

    def table(self, begin: datetime, end: datetime) -> pa.Table:
        count = 0 if begin == NOON + 2 * HOUR else (end - begin) // (HOUR / 2)
        moments = [begin + number * HOUR / 2 for number in range(count)]
        numbers = np.array([(moment - NOON) / HOUR for moment in moments], np.float32)
        missing = np.where(numbers % 1 == 0, np.nan, numbers).astype(np.float32)
        columns = {
            self.entity_id: pa.array([f"p{number}" for number in numbers.tolist()], pa.string()),
            "as_of": pa.array(moments, pa.timestamp("us", "UTC")),
        }
        values = [numbers, missing, -numbers]
        return pa.table(columns | {name: pa.array(column) for name, column in zip(self.features, values, strict=True)})


@dataclass
class Told(Progress):
    """What a run told."""

    ends_: list[tuple[int, str, bool]] = field(default_factory=list)
    scored_: list[tuple[int, int, int]] = field(default_factory=list)

    def scored(self, *, done: int, of: int, rows: int) -> None:
        self.scored_.append((done, of, rows))

    def ends(self, out: str, *, rows: int, version: str, new: bool) -> None:
        self.ends_.append((rows, version, new))


@dataclass
class Bench:
    """Runs into `folder`. `versions` are the models by number."""

    folder: Path
    sets: FakeSets
    versions: dict[str, LoadedModel] = field(default_factory=lambda: {"1": make_model("1")})
    champion: str = "1"
    asked: list[str] = field(default_factory=list)

    def find(self, asked: str) -> LoadedModel:
        self.asked.append(asked)
        return self.versions[self.champion if asked == "champion" else asked]

    def score_range(
        self, out: str, *, hours: int = 5, model: str = "champion", overwrite: bool = False, slice_: timedelta = HOUR
    ) -> Told:
        where = str(self.folder / out)
        order = range_order(NOON, NOON + hours * HOUR, slice_, model=model, out=where, overwrite=overwrite)
        predict(order, self.find, self.sets, told := Told())
        return told

    def score_file(self, rows: Path, out: str = "out.parquet", *, overwrite: bool = False) -> pa.Table:
        order = file_order(str(rows), model="champion", out=str(self.folder / out), overwrite=overwrite)
        predict(order, self.find, self.sets, Told())
        return self.read(out)

    def read(self, out: str) -> pa.Table:
        return pq.read_table(self.folder / out)

    def left(self) -> list[str]:
        """The names of what is in the folder."""
        return sorted(path.name for path in self.folder.iterdir())
