"""The composition root of a batch run: read it top to bottom."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from services.chassis.errors import AlreadyExists, Conflict, Unavailable
from services.inference.batch.feature_sets import FeatureSets, FeatureSetsClient
from services.inference.batch.order import Order, Range
from services.inference.batch.outputs import output_at
from services.inference.batch.progress import Progress
from services.inference.batch.scoring import BatchScorer, score_part
from services.inference.batch.sources import FileSource, RangeSource, Source
from services.inference.batch.version import find_version
from services.inference.batch.work import Plan, Work, opened
from services.inference.loaded_model import LoadedModel
from services.inference.registry import ModelRegistry
from services.inference.settings import InferenceSettings

_MLFLOW_TIMEOUT_S = 10.0

FindModel = Callable[[str], LoadedModel]
"""By alias or number."""


def run(settings: InferenceSettings, order: Order, progress: Progress) -> None:
    """Returns when the output is there. Raises a SlipwayError; what is scored stays for the next run of the order."""
    with ExitStack() as stack:
        sets = FeatureSetsClient(settings.features)
        stack.callback(sets.close)
        predict(order, lambda asked: asyncio.run(_find(settings, asked)), sets, progress)


async def _find(settings: InferenceSettings, asked: str) -> LoadedModel:
    async with httpx.AsyncClient(base_url=settings.mlflow, trust_env=False, timeout=_MLFLOW_TIMEOUT_S) as http:
        return await find_version(ModelRegistry(http), settings.model, asked, settings.max_model_bytes)


def predict(order: Order, find: FindModel, sets: FeatureSets, progress: Progress) -> None:
    """1. What another run left: of the same order it is gone on with, on the version that it began with.
    2. The model, and the rows slice by slice; each becomes a part, whole or not at all.
    3. All parts become the output in one step, and the folder of parts goes.
    """
    output = output_at(order.out)
    with opened(order.work) as work:
        earlier = _earlier(work, order)
        source = _source(order, sets, earlier)
        if earlier and earlier.content != source.content:
            if not order.overwrite:
                raise Conflict("--in: changed since the unfinished run began with it; --overwrite begins anew")
            earlier = None
        model = find(earlier.version if earlier else order.model)
        plan = _plan(order, source, model)
        if earlier and earlier != plan:
            raise Conflict(f"version {model.version} of {model.name!r} has another model.onnx than when the run began")
        if not order.overwrite:
            if output.holds(plan):
                work.remove()
                progress.ends(order.out, rows=0, version=model.version, new=False)
                return
            output.check_free()
        source.check(model.contract)
        work.begin(plan)
        rows = _score(work, source, model, progress)
        progress.stage(f"writing {order.out}")
        output.write(plan, work.parts, overwrite=order.overwrite)
        work.remove()
        progress.ends(order.out, rows=rows, version=model.version, new=True)


def _earlier(work: Work, order: Order) -> Plan | None:
    """The plan that this run goes on with. Raises AlreadyExists if it is another's."""
    left = work.plan
    if left is None or left.told == order.told:
        return left
    if order.overwrite:
        return None
    told = " ".join(f"{name}={value}" for name, value in left.told.items())
    raise AlreadyExists(
        f"--out: another run to {order.out} was not finished ({told}); give its options again to go on with it, or "
        "--overwrite to throw away what it scored"
    )


def _source(order: Order, sets: FeatureSets, earlier: Plan | None) -> Source:
    if isinstance(order.rows, Range):
        return RangeSource(order.rows, sets)
    return FileSource(order.rows, earlier.content if earlier else "")


def _plan(order: Order, source: Source, model: LoadedModel) -> Plan:
    return Plan(
        told=order.told,
        content=source.content,
        model=model.name,
        version=model.version,
        onnx_sha256=model.onnx_sha256,
    )


def _score(work: Work, source: Source, model: LoadedModel, progress: Progress) -> int:
    """The rows that this run scored."""
    done, rows = len(work.parts), 0
    progress.begins(model.name, model.version, done=done, of=source.slices)
    for number in range(source.slices):
        if not work.has(number):
            try:
                with work.writing(number) as path:
                    rows += _write_part(path, source, number, model, progress)
            except (OSError, pa.ArrowException) as error:
                raise Unavailable(f"slice {number + 1} of {source.slices}: {error}") from error
            done += 1
            progress.scored(done=done, of=source.slices, rows=rows)
    return rows


def _write_part(path: Path, source: Source, number: int, model: LoadedModel, progress: Progress) -> int:
    reader = source.read(number, progress.stage)
    scorer = BatchScorer(model, reader.schema)
    rows = 0
    with pq.ParquetWriter(path, scorer.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(score_part(scorer, batch, rows))
            rows += batch.num_rows
    return rows
