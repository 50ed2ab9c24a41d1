"""MLflow: each run with its trials, the registered versions and their aliases."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Read by MLflow at each call. A part that is down is waited for by the run, which says so, and not inside a call.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException, RestException
from requests import HTTPError, RequestException

from services.chassis.clock import rfc3339
from services.chassis.errors import Conflict, SlipwayError, Unavailable
from services.training.onnx_model import sha256
from services.training.runs import Run

CHAMPION, CHALLENGER = "champion", "challenger"
RUN_ID, DETAIL = "slipway.run_id", "slipway.detail"
ONNX_SHA256, DATASET_DIGEST = "slipway.onnx_sha256", "slipway.dataset_digest"
FROM, TO, HOLDOUT_FROM = "slipway.from", "slipway.to", "slipway.holdout_from"
_FOLDER = "model"
_ONNX, _CONTRACT, _REFERENCE = "model.onnx", "contract.json", "reference.json"
_MISSING, _EXISTS = "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"
_TAG_CHARACTERS = 4000


@dataclass(frozen=True, slots=True)
class Artifacts:
    """What a version is made of."""

    onnx: bytes
    contract: Mapping[str, Any]
    reference: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version. `detail`: why it was let through."""

    version: str
    mlflow_run_id: str
    onnx_sha256: str
    detail: str


@dataclass(frozen=True, slots=True)
class Champion:
    """The version that carries the alias. `holdout_from` is RFC 3339, "" if the version does not tell."""

    version: str
    onnx: bytes
    features: tuple[str, ...]
    holdout_from: str


class MlflowTracker:
    """Of one registered model; its tracking experiment has the same name.

    Every method raises Unavailable if MLflow does not answer, Conflict if it refuses; each may be called again.
    """

    def __init__(self, url: str, model: str) -> None:
        self._url = url
        self._model = model
        self._client = MlflowClient(tracking_uri=url, registry_uri=url)

    def begin(self, run: Run) -> str:
        """Opens a run of MLflow for it and returns its id; what an earlier attempt left open is marked failed."""
        request = run.request
        tags = {
            RUN_ID: run.run_id,
            "slipway.request_id": request.request_id,
            "slipway.reason": request.reason,
            "slipway.requested_by": request.requested_by,
            FROM: rfc3339(request.begin),
            TO: rfc3339(request.end),
        }
        with self._answers():
            experiment = self._tracking_experiment()
            for left in self._client.search_runs([experiment], f"tags.`{RUN_ID}` = '{run.run_id}'"):
                if left.info.status == "RUNNING":
                    self._client.set_tag(left.info.run_id, DETAIL, "abandoned: training started it again")
                    self._client.set_terminated(left.info.run_id, "FAILED")
            name = f"{request.begin:%Y-%m-%d}..{request.end:%Y-%m-%d} {run.run_id}"
            begun = self._client.create_run(experiment, tags=_cut(tags), run_name=name)
            return str(begun.info.run_id)

    def log(self, mlflow_run_id: str, parameters: Mapping[str, Any], **measures: float) -> None:
        """Parameters and metrics of a run."""
        now_ms = int(time.time() * 1000)
        with self._answers():
            self._client.log_batch(
                mlflow_run_id,
                metrics=[Metric(name, value, now_ms, 0) for name, value in measures.items()],
                params=[Param(name, str(value)) for name, value in parameters.items()],
            )

    def tag(self, mlflow_run_id: str, tags: Mapping[str, str]) -> None:
        """Sets tags of a run."""
        with self._answers():
            self._client.log_batch(mlflow_run_id, tags=[RunTag(name, text) for name, text in _cut(tags).items()])

    def log_trial(
        self, parent: str, run_id: str, number: int, parameters: Mapping[str, Any], **measures: float
    ) -> None:
        """A nested run, ended at once."""
        tags = {"mlflow.parentRunId": parent, RUN_ID: run_id}
        with self._answers():
            begun = self._client.create_run(self._tracking_experiment(), tags=tags, run_name=f"trial {number}")
        self.log(begun.info.run_id, parameters, **measures)
        with self._answers():
            self._client.set_terminated(begun.info.run_id, "FINISHED")

    def end(self, mlflow_run_id: str, outcome: str, detail: str, *, failed: bool = False) -> None:
        """Ends a run with what came of it."""
        self.tag(mlflow_run_id, {"slipway.outcome": outcome, DETAIL: detail})
        with self._answers():
            self._client.set_terminated(mlflow_run_id, "FAILED" if failed else "FINISHED")

    def keep(self, mlflow_run_id: str, artifacts: Artifacts) -> None:
        """Puts a version's files under `model/` of its run."""
        with self._answers(), tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / _ONNX).write_bytes(artifacts.onnx)
            (folder / _CONTRACT).write_text(json.dumps(artifacts.contract, indent=1))
            (folder / _REFERENCE).write_text(json.dumps(artifacts.reference, indent=1, allow_nan=False))
            self._client.log_artifacts(mlflow_run_id, str(folder), _FOLDER)

    def version_of(self, run_id: str) -> Version | None:
        """The version that a run has registered; None if it has not."""
        with self._answers():
            wanted = f"name = '{self._model}' and tags.`{RUN_ID}` = '{run_id}'"
            found = self._client.search_model_versions(wanted)
        if not found:
            return None
        return _version(found[0])

    def register(self, mlflow_run_id: str, run_id: str, tags: Mapping[str, str]) -> Version:
        """The run's version, made unless it is there already."""
        registered = self.version_of(run_id)
        if registered is not None:
            return registered
        with self._answers():
            self._ensure_registered_model()
            source = f"runs:/{mlflow_run_id}/{_FOLDER}"
            told = _cut({**tags, RUN_ID: run_id})
            made = self._client.create_model_version(
                self._model, source, mlflow_run_id, tags=told, await_creation_for=0
            )
            return _version(made)

    def make_challenger(self, version: str) -> None:
        """Gives the version the alias, which tells inference to load it."""
        with self._answers():
            self._client.set_registered_model_alias(self._model, CHALLENGER, version)

    def champion(self) -> Champion | None:
        """The champion with its checked bytes; None before the first. Raises Conflict if they are not its own."""
        with self._answers():
            version = self._aliases().get(CHAMPION)
            if version is None:
                return None
            described = self._client.get_model_version(self._model, version)
            onnx = self._download(described.run_id, _ONNX)
            features = _features(self._download(described.run_id, _CONTRACT), version)
        told, digest = described.tags.get(ONNX_SHA256, ""), sha256(onnx)
        if told != digest:
            raise Conflict(f"champion version {version}: model.onnx has digest {digest}, its tag says {told or 'none'}")
        return Champion(str(version), onnx, features, described.tags.get(HOLDOUT_FROM, ""))

    def _aliases(self) -> dict[str, str]:
        try:
            return dict(self._client.get_registered_model(self._model).aliases)
        except RestException as error:
            if error.error_code == _MISSING:
                return {}
            raise

    def _download(self, mlflow_run_id: str | None, name: str) -> bytes:
        if not mlflow_run_id:
            raise Conflict("the champion has no source run; give the alias to a version that training registered")
        with tempfile.TemporaryDirectory() as folder:
            return Path(self._client.download_artifacts(mlflow_run_id, f"{_FOLDER}/{name}", folder)).read_bytes()

    def _tracking_experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._model)
        return str(found.experiment_id if found is not None else self._client.create_experiment(self._model))

    def _ensure_registered_model(self) -> None:
        try:
            self._client.create_registered_model(self._model)
        except RestException as error:
            if error.error_code != _EXISTS:
                raise

    @contextmanager
    def _answers(self) -> Iterator[None]:
        try:
            yield
        except (MlflowException, RequestException) as error:
            raise self._cause(error) from error

    def _cause(self, error: Exception) -> SlipwayError:
        words = str(error).strip() or type(error).__name__
        if _is_refusal(error):
            return Conflict(f"MLflow refused: {words}")
        return Unavailable(f"MLflow at {self._url} does not answer: {words}")


def _is_refusal(error: Exception) -> bool:
    """Trying again would not help."""
    if isinstance(error, RestException):
        return 400 <= int(error.get_http_status_code()) < 500  # type: ignore[no-untyped-call]
    return isinstance(error, HTTPError) and error.response is not None and 400 <= error.response.status_code < 500


def _version(described: ModelVersion) -> Version:
    tags = described.tags
    return Version(str(described.version), described.run_id or "", tags.get(ONNX_SHA256, ""), tags.get(DETAIL, ""))


def _features(contract: bytes, version: str) -> tuple[str, ...]:
    try:
        return tuple(json.loads(contract)["features"])
    except (ValueError, KeyError, TypeError) as error:
        raise Conflict(f"champion version {version}: contract.json cannot be read: {error!r}") from error


def _cut(tags: Mapping[str, str]) -> dict[str, str]:
    """As long as MLflow takes them."""
    return {name: text[:_TAG_CHARACTERS] for name, text in tags.items()}
