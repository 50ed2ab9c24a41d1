"""The search for parameters: the recipe's own first, then combinations of its lists, each at most once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import optuna

from services.training.boosting import Measured

_SEED = 0

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True, slots=True)
class Trial:
    """`number` counts from 0, which is the recipe's plain parameters."""

    number: int
    parameters: Mapping[str, Any]
    measured: Measured


def search(
    plain: Mapping[str, Any],
    choices: Mapping[str, Sequence[Any]],
    trials: int,
    measure: Callable[[int, Mapping[str, Any]], Measured],
) -> Trial:
    """The trial with the lowest log loss, of equal ones the first.

    `measure(number, parameters)` is called for at most `trials` different ones. Their order is drawn with a fixed seed:
    with few trials a grid without repetition finds more than a sampler that first has to learn.
    """
    done = [Trial(0, dict(plain), measure(0, plain))]

    def objective(asked: optuna.Trial) -> float:
        chosen = {name: asked.suggest_categorical(name, list(values)) for name, values in choices.items()}
        parameters = {**plain, **chosen}
        if parameters == done[0].parameters:
            return done[0].measured.log_loss
        trial = Trial(len(done), parameters, measure(len(done), parameters))
        done.append(trial)
        return trial.measured.log_loss

    combinations = prod(len(values) for values in choices.values()) if choices else 0
    if trials > 1 and combinations:
        sampler = optuna.samplers.GridSampler({name: list(values) for name, values in choices.items()}, seed=_SEED)
        study = optuna.create_study(sampler=sampler)
        study.optimize(
            objective,
            n_trials=combinations,
            callbacks=[lambda study, _: study.stop() if len(done) >= trials else None],
        )
    return min(done, key=lambda trial: (trial.measured.log_loss, trial.number))
