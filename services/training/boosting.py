"""LightGBM, led so that the same rows and parameters give the same trees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from services.chassis.errors import Invalid
from services.training.dataset import Dataset

Parameters = Mapping[str, Any]
EachRound = Callable[[], None]

ROUNDS, PATIENCE = "num_boost_round", "early_stopping_round"
_DEFAULTS: dict[str, Any] = {"seed": 0, ROUNDS: 200, PATIENCE: 30}
_FIXED: dict[str, Any] = {
    "objective": "binary",
    "metric": "binary_logloss",
    "boosting": "gbdt",
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


@dataclass(frozen=True, slots=True)
class Measured:
    """How well parameters do on `valid`: the best number of rounds, and the log loss there (nats)."""

    rounds: int
    log_loss: float


def complete(parameters: Parameters) -> dict[str, Any]:
    """The recipe's parameters over our defaults. Raises Invalid if they ask for another kind of model."""
    for name in ("objective", "boosting"):
        asked = parameters.get(name, _FIXED[name])
        if asked != _FIXED[name]:
            raise Invalid(f"recipe.parameters[{name!r}]: {asked!r} is not supported, only {_FIXED[name]!r}")
    return _DEFAULTS | dict(parameters) | _FIXED


def measure(parameters: Parameters, fit: Dataset, valid: Dataset, threads: int, each_round: EachRound) -> Measured:
    """Grows trees on `fit` until `valid` no longer gets better. `each_round` may raise to stop it."""
    settings = complete(parameters)
    rounds, patience = settings.pop(ROUNDS), settings.pop(PATIENCE)
    train = lgb.Dataset(fit.values, fit.labels)
    booster = lgb.train(
        settings | {"num_threads": threads},
        train,
        num_boost_round=rounds,
        valid_sets=[lgb.Dataset(valid.values, valid.labels, reference=train)],
        valid_names=["valid"],
        callbacks=[lgb.early_stopping(patience, verbose=False), lambda _: each_round()],
    )
    return Measured(int(booster.best_iteration), float(booster.best_score["valid"]["binary_logloss"]))


def grow(parameters: Parameters, rounds: int, rows: Dataset, threads: int, each_round: EachRound) -> lgb.Booster:
    """A model of exactly `rounds` trees."""
    settings = complete(parameters)
    del settings[ROUNDS], settings[PATIENCE]
    return lgb.train(
        settings | {"num_threads": threads},
        lgb.Dataset(rows.values, rows.labels),
        num_boost_round=rounds,
        callbacks=[lambda _: each_round()],
    )


def probabilities(booster: lgb.Booster, dataset: Dataset) -> NDArray[np.float64]:
    """float64 [N]."""
    return np.asarray(booster.predict(dataset.values), np.float64)


def together(first: Dataset, second: Dataset) -> Dataset:
    """The rows of both, one after the other."""
    return Dataset(
        first.features,
        np.concatenate([first.values, second.values]),
        np.concatenate([first.labels, second.labels]),
        np.concatenate([first.as_of_us, second.as_of_us]),
    )
