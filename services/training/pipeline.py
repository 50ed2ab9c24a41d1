"""One run from its range to its version, or to the reason why there is none. Read `_train` top to bottom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import lightgbm as lgb

from services.chassis.clock import from_us, parse_rfc3339, rfc3339, to_us
from services.chassis.errors import Conflict, SlipwayError
from services.chassis.logging import get_logger
from services.problem import ModelRecipe
from services.training import boosting, metrics, onnx_model
from services.training.contract import FeatureSchema, contract
from services.training.dataset import Dataset, TrainingSet, read_dataset
from services.training.features_client import FeaturesClient
from services.training.gate import Rival, judge
from services.training.journal import Journal, Stopped
from services.training.mlflow_tracker import (
    DATASET_DIGEST,
    DETAIL,
    FROM,
    HOLDOUT_FROM,
    ONNX_SHA256,
    TO,
    Artifacts,
    Champion,
    MlflowTracker,
    Version,
)
from services.training.quality import Quality, assess
from services.training.reference import reference
from services.training.runs import RunState, Stage
from services.training.search import Trial, search
from services.training.split import Parts, split
from services.training.validation import check_dataset, check_parts, check_told, without_values

_PACKAGES = ("lightgbm", "onnxmltools", "onnx", "numpy")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ends. `version` and `onnx_sha256` are set if it registered one."""

    state: RunState
    detail: str
    version: str = ""
    onnx_sha256: str = ""


class Pipeline:
    """Carries out runs of one recipe, one at a time."""

    def __init__(
        self, *, recipe: ModelRecipe, features: FeaturesClient, tracker: MlflowTracker, min_rows: int, threads: int
    ) -> None:
        self._recipe = recipe
        self._features = features
        self._tracker = tracker
        self._min_rows = min_rows
        self._threads = threads

    def carry_out(self, journal: Journal) -> Outcome:
        """Raises SlipwayError if the run cannot be carried out, Stopped if the process ends."""
        published = self._left_registered(journal)
        if published is not None:
            return published
        journal.opened(journal.patiently(lambda: self._tracker.begin(journal.run)))
        try:
            outcome = self._train(journal)
        except Stopped:
            raise
        except Exception as error:
            journal.raise_if_stopping()
            self._tell_failure(journal.run.mlflow_run_id, str(error) or repr(error))
            raise
        if outcome.state is RunState.REFUSED:
            journal.patiently(
                lambda: self._tracker.end(journal.run.mlflow_run_id, RunState.REFUSED.value, outcome.detail)
            )
        return outcome

    def give_up(self, journal: Journal, why: str) -> Outcome:
        """How a run ends that is not carried out again: by its version if it has one, else as an error.

        Raises SlipwayError if MLflow cannot be asked, Stopped if the process ends.
        """
        published = self._left_registered(journal)
        if published is not None:
            return published
        if journal.run.mlflow_run_id:
            self._tell_failure(journal.run.mlflow_run_id, why)
        return Outcome(RunState.ERROR, why)

    def _left_registered(self, journal: Journal) -> Outcome | None:
        """A crash came between the registration and its being written down. None: it did not."""
        registered = journal.patiently(lambda: self._tracker.version_of(journal.run.run_id))
        return None if registered is None else self._publish(journal, registered)

    def _train(self, journal: Journal) -> Outcome:
        journal.stage(Stage.DATASET, "asks the features service")
        schema, told = self._training_set(journal)
        dataset = read_dataset(told)

        journal.stage(Stage.VALIDATE, f"{len(dataset):,} rows")
        notes = self._validate(journal, dataset, told)

        journal.stage(Stage.SPLIT)
        parts = split(dataset, self._recipe.valid_share, self._recipe.holdout_share)
        check_parts(parts)
        holdout_from = rfc3339(from_us(int(parts.holdout.as_of_us[0])))
        self._tag(journal, {DATASET_DIGEST: told.digest, HOLDOUT_FROM: holdout_from, **_packages()})

        journal.stage(Stage.TUNE, f"{len(parts.fit):,} rows to fit, {len(parts.valid):,} to choose by")
        best = self._tune(journal, parts)

        journal.stage(Stage.FIT, f"{best.measured.rounds} trees")
        rows = boosting.together(parts.fit, parts.valid)
        booster = boosting.grow(best.parameters, best.measured.rounds, rows, self._threads, journal.raise_if_stopping)

        journal.stage(Stage.EVALUATE, f"{len(parts.holdout):,} hold-out rows")
        quality = assess(parts.holdout.labels, boosting.probabilities(booster, parts.holdout))
        rival = self._rival(journal, parts.holdout)
        self._measured(journal, _measures(quality, rival))
        metrics.HOLDOUT_AUC.set(quality.auc)

        journal.stage(Stage.GATE)
        verdict = judge(self._recipe.gate, quality, rival)
        detail = "; ".join([verdict.words, *notes])
        if not verdict.passed:
            return Outcome(RunState.REFUSED, detail)

        journal.stage(Stage.EXPORT)
        onnx, parity = self._export(journal, booster, parts.holdout)
        if not parity.holds:
            return Outcome(RunState.REFUSED, _parity_words(parity))

        journal.stage(Stage.REGISTER, detail)
        recent = boosting.together(parts.valid, parts.holdout)
        artifacts = Artifacts(onnx, contract(self._recipe, schema), reference(recent, quality))
        tags = {
            ONNX_SHA256: onnx_model.sha256(onnx),
            DATASET_DIGEST: told.digest,
            FROM: rfc3339(journal.run.request.begin),
            TO: rfc3339(journal.run.request.end),
            HOLDOUT_FROM: holdout_from,
            DETAIL: detail,
        }
        return self._publish(journal, self._register(journal, artifacts, tags))

    def _training_set(self, journal: Journal) -> tuple[FeatureSchema, TrainingSet]:
        request = journal.run.request
        schema = journal.patiently(lambda: self._features.schema(self._recipe.feature_service))
        told = journal.patiently(lambda: self._features.build_training_set(request.begin, request.end, journal.say))
        check_told(told, schema.features)
        return schema, told

    def _validate(self, journal: Journal, dataset: Dataset, told: TrainingSet) -> list[str]:
        """What is no error, but a person should know."""
        check_dataset(dataset, told, journal.run.request, self._min_rows)
        empty = without_values(dataset)
        self._measured(journal, {"dataset_rows": len(dataset), "features_without_values": len(empty)})
        return [f"warning: no value in any row of {', '.join(empty)}"] if empty else []

    def _tune(self, journal: Journal, parts: Parts) -> Trial:
        def measure(number: int, parameters: Mapping[str, Any]) -> boosting.Measured:
            measured = boosting.measure(parameters, parts.fit, parts.valid, self._threads, journal.raise_if_stopping)
            journal.say(f"trial {number + 1} of {self._recipe.trials}: log loss {measured.log_loss:.4f} on valid")
            told = {"valid_log_loss": measured.log_loss, "rounds": float(measured.rounds)}
            run = journal.run
            journal.patiently(
                lambda: self._tracker.log_trial(run.mlflow_run_id, run.run_id, number, dict(parameters), **told)
            )
            return measured

        best = search(self._recipe.parameters, self._recipe.search, self._recipe.trials, measure)
        chosen = {**boosting.complete(best.parameters), "best_rounds": best.measured.rounds, "best_trial": best.number}
        run_id = journal.run.mlflow_run_id
        journal.patiently(lambda: self._tracker.log(run_id, chosen, valid_log_loss=best.measured.log_loss))
        return best

    def _rival(self, journal: Journal, holdout: Dataset) -> Rival | None:
        champion = journal.patiently(self._tracker.champion)
        if champion is None:
            return None
        vectors = holdout.columns(champion.features)
        if vectors is None:
            lacking = [name for name in champion.features if name not in holdout.features]
            return Rival(champion.version, None, f"the training set has no {', '.join(lacking)}")
        try:
            told = onnx_model.run(champion.onnx, vectors, self._threads)
        except Exception as error:  # onnxruntime's classes have no common base
            raise Conflict(f"champion version {champion.version} could not be scored: {error}") from error
        return Rival(champion.version, assess(holdout.labels, told), _seen_before(champion, holdout))

    def _export(self, journal: Journal, booster: lgb.Booster, holdout: Dataset) -> tuple[bytes, onnx_model.Parity]:
        onnx = onnx_model.export(booster, len(holdout.features))
        parity = onnx_model.compare(booster, onnx, holdout.values, self._threads)
        told = {
            "parity_rows": parity.rows,
            "parity_max_difference": parity.max_difference,
            "parity_flips": parity.flips,
        }
        self._measured(journal, told)
        return onnx, parity

    def _register(self, journal: Journal, artifacts: Artifacts, tags: Mapping[str, str]) -> Version:
        run = journal.run
        journal.patiently(lambda: self._tracker.keep(run.mlflow_run_id, artifacts))
        return journal.patiently(lambda: self._tracker.register(run.mlflow_run_id, run.run_id, tags))

    def _publish(self, journal: Journal, made: Version) -> Outcome:
        journal.opened(made.mlflow_run_id)
        journal.patiently(lambda: self._tracker.make_challenger(made.version))
        self._tell_success(journal, made)
        return Outcome(RunState.REGISTERED, made.detail, made.version, made.onnx_sha256)

    def _measured(self, journal: Journal, measures: Mapping[str, float]) -> None:
        run_id = journal.run.mlflow_run_id
        journal.measured(measures)
        journal.patiently(lambda: self._tracker.log(run_id, {}, **measures))

    def _tag(self, journal: Journal, tags: Mapping[str, str]) -> None:
        run_id = journal.run.mlflow_run_id
        journal.patiently(lambda: self._tracker.tag(run_id, tags))

    def _tell_success(self, journal: Journal, made: Version) -> None:
        """Inference loads the version by now: whatever MLflow says of its own run, ours is no error."""
        try:
            journal.patiently(lambda: self._tracker.end(made.mlflow_run_id, RunState.REGISTERED.value, made.detail))
        except SlipwayError as error:
            get_logger().warning("mlflow_run_left_open", mlflow_run_id=made.mlflow_run_id, error=str(error))

    def _tell_failure(self, mlflow_run_id: str, why: str) -> None:
        """Once: the run's end does not wait for MLflow to hear of it."""
        try:
            self._tracker.end(mlflow_run_id, RunState.ERROR.value, why, failed=True)
        except SlipwayError:
            metrics.RETRIES.inc()


def _measures(quality: Quality, rival: Rival | None) -> dict[str, float]:
    told = {
        "rows": quality.rows,
        "positive_rate": quality.positive_rate,
        "auc": quality.auc,
        "log_loss": quality.log_loss,
        "brier": quality.brier,
        "calibration_error": quality.calibration_error,
    }
    if rival is not None and rival.quality is not None:
        told |= {"champion_auc": rival.quality.auc, "champion_log_loss": rival.quality.log_loss}
    return told


def _seen_before(champion: Champion, holdout: Dataset) -> str:
    """A warning if the champion was fitted on some of these rows: it then looks better than it is."""
    if not champion.holdout_from:
        return ""
    seen = int((holdout.as_of_us < to_us(parse_rfc3339(champion.holdout_from))).sum())
    if not seen:
        return ""
    return f"of these rows {seen:,} are earlier than the champion's own hold-out, which favours the champion"


def _parity_words(parity: onnx_model.Parity) -> str:
    return (
        f"ONNX differs from LightGBM by {parity.max_difference:.2e} (at most {onnx_model.MAX_DIFFERENCE:.0e}) with "
        f"{parity.flips:,} flips at 0.5 on {parity.rows:,} rows; the converter does not fit this model"
    )


def _packages() -> dict[str, str]:
    return {"slipway.packages": ", ".join(f"{name} {version(name)}" for name in _PACKAGES)}
