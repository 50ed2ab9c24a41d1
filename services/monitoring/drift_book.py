"""Histograms of what each version was asked, in buckets of event time, so that any window is a sum.

They are made from the stored vectors, behind the joins: a prediction that came before its version's reference is
counted once that is here. A histogram and the mark of what it holds move in one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from services.monitoring import drift
from services.monitoring.database import Database, upsert
from services.monitoring.schema import histograms, predictions, versions

_PORTION = 5000


@dataclass(frozen=True, slots=True)
class Histogram:
    """One version's histograms of one bucket `[bucket_us, bucket_us + length)`."""

    version: str
    bucket_us: int
    rows: int
    counts: drift.Counts


class DriftBook:
    """Keeps the histograms. `bucket_us` is the buckets' length, which every window must be a multiple of."""

    def __init__(self, database: Database, bucket_us: int, threshold: float) -> None:
        self._database = database
        self.bucket_us = bucket_us
        self._threshold = threshold
        self._parsed: dict[str, drift.Reference] = {}

    def keep(self, version: str, features_json: str, reference_json: str) -> None:
        """Stores what MLflow holds of a version, once. Raises Invalid if it cannot be read."""
        drift.load_reference(version, features_json, reference_json)
        with self._database.write() as connection:
            if connection.execute(sa.select(versions.c.version).where(versions.c.version == version)).first():
                return
            row = {"version": version, "features_json": features_json, "reference_json": reference_json}
            connection.execute(sa.insert(versions).values(**row, binned_seq=0))

    def reference(self, version: str) -> drift.Reference | None:
        """What the version was trained on; None until MLflow told it."""
        if version not in self._parsed:
            with self._database.read() as connection:
                row = connection.execute(sa.select(versions).where(versions.c.version == version)).first()
            if row is None:
                return None
            self._parsed[version] = drift.load_reference(version, row.features_json, row.reference_json)
        return self._parsed[version]

    def known_versions(self) -> list[str]:
        """The versions with a reference."""
        with self._database.read() as connection:
            return list(connection.execute(sa.select(versions.c.version)).scalars())

    def catch_up(self) -> None:
        """Counts the predictions that came since, of every version with a reference."""
        for version in self.known_versions():
            reference = self.reference(version)
            while reference is not None and self._bin_portion(reference) == _PORTION:
                pass

    def window(self, reference: drift.Reference, from_us: int, to_us: int) -> list[drift.FeatureDrift]:
        """The drift of each feature over the buckets in `[from_us, to_us)`; empty without a prediction in it."""
        rows = self.buckets(from_us, to_us, reference.version)
        if not rows:
            return []
        return drift.compare(reference, np.sum([row.counts for row in rows], axis=0), self._threshold)

    def buckets(self, from_us: int, to_us: int, version: str | None = None) -> list[Histogram]:
        """The histograms of the buckets that begin in `[from_us, to_us)`, oldest first."""
        query = sa.select(histograms).where(histograms.c.bucket_us >= from_us, histograms.c.bucket_us < to_us)
        if version is not None:
            query = query.where(histograms.c.version == version)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(histograms.c.bucket_us)).all()
        return [Histogram(r.version, r.bucket_us, r.rows, np.frombuffer(r.counts, "<i8")) for r in rows]

    def compare(self, version: str, counts: drift.Counts) -> list[drift.FeatureDrift]:
        """The drift of summed histograms against the version's own reference."""
        reference = self.reference(version)
        return [] if reference is None else drift.compare(reference, counts, self._threshold)

    def _bin_portion(self, reference: drift.Reference) -> int:
        """Counts up to a portion of predictions; returns how many were read."""
        version = reference.version
        columns = (predictions.c.seq, predictions.c.as_of_us, predictions.c.vector)
        with self._database.write() as connection:
            binned = sa.select(versions.c.binned_seq).where(versions.c.version == version).scalar_subquery()
            fresh = connection.execute(
                sa.select(*columns)
                .where(predictions.c.version == version, predictions.c.seq > binned)
                .order_by(predictions.c.seq)
                .limit(_PORTION)
            ).all()
            if fresh:
                self._add(connection, reference, fresh)
                mark = sa.update(versions).where(versions.c.version == version)
                connection.execute(mark.values(binned_seq=fresh[-1].seq))
        return len(fresh)

    def _add(self, connection: sa.Connection, reference: drift.Reference, rows: Sequence[Any]) -> None:
        width = 4 * len(reference.features)
        # A row without a whole vector (a client may send none) says nothing of the features.
        whole = [row for row in rows if len(row.vector) == width and width]
        by_bucket: dict[int, list[bytes]] = {}
        for row in whole:
            by_bucket.setdefault(row.as_of_us // self.bucket_us * self.bucket_us, []).append(row.vector)
        stored = {
            row.bucket_us: row
            for row in connection.execute(
                sa.select(histograms).where(
                    histograms.c.version == reference.version, histograms.c.bucket_us.in_(by_bucket)
                )
            )
        }
        updated = []
        for bucket_us, vectors in by_bucket.items():
            matrix = np.frombuffer(b"".join(vectors), "<f4").reshape(len(vectors), -1)
            counts, count = drift.histogram(reference, matrix), len(vectors)
            if bucket_us in stored:
                counts = counts + np.frombuffer(stored[bucket_us].counts, "<i8")
                count += stored[bucket_us].rows
            updated.append(
                {
                    "version": reference.version,
                    "bucket_us": bucket_us,
                    "rows": count,
                    "counts": counts.astype("<i8").tobytes(),
                }
            )
        upsert(connection, histograms, updated)
