"""ONNX with the native model's answers, byte for byte the same from the same rows."""

from __future__ import annotations

import lightgbm as lgb
import numpy as np
import onnx
import pytest

from services.training import boosting, onnx_model
from services.training.dataset import Dataset
from services.training.onnx_model import Parity, compare, export, parity, run, sha256
from tests.unit.training.fakes import FEATURES, dataset, recipe

PARAMETERS = recipe().parameters


def _grown(rows: Dataset, threads: int = 1, rounds: int = 20, **parameters: object) -> lgb.Booster:
    return boosting.grow({**PARAMETERS, **parameters}, rounds, rows, threads, lambda: None)


def test_the_graph_has_one_input_and_one_output() -> None:
    content = export(_grown(dataset()), len(FEATURES))

    model = onnx.load_from_string(content)
    onnx.checker.check_model(model)
    assert [tensor.name for tensor in model.graph.input] == ["features"]
    assert [tensor.name for tensor in model.graph.output] == ["probability"]
    for rows in (1, 5):
        told = run(content, np.zeros((rows, len(FEATURES)), np.float32))
        assert (told.shape, told.dtype) == ((rows,), np.float32)


def test_the_same_rows_give_the_same_bytes_with_one_thread_or_two() -> None:
    parameters = {"feature_fraction": 0.6, "bagging_fraction": 0.8, "bagging_freq": 1}
    digests = {sha256(export(_grown(dataset(3000), threads, **parameters), len(FEATURES))) for threads in (1, 2, 1)}

    assert len(digests) == 1
    assert sha256(export(_grown(dataset(3000, seed=1), **parameters), len(FEATURES))) not in digests


def test_probabilities_are_the_native_models_with_and_without_missing_values() -> None:
    rows = dataset(3000)
    booster = _grown(rows)

    found = compare(booster, export(booster, len(FEATURES)), rows.values)

    assert found.rows == 5000
    assert found.holds
    assert found.max_difference < 1e-6


def test_a_feature_that_was_never_missing_may_be_so_later() -> None:
    rows = dataset(2000)
    rows.values[:] = np.nan_to_num(rows.values, nan=1.5)
    booster = _grown(rows)

    blank = np.full((3, len(FEATURES)), np.nan, np.float32)

    np.testing.assert_allclose(run(export(booster, len(FEATURES)), blank), booster.predict(blank), atol=1e-6)


def test_values_between_which_no_float32_lies_stay_on_their_side() -> None:
    """Unix seconds as float32 are 128 apart: a threshold between two of them must not be rounded onto the higher."""
    chance = np.random.default_rng(0)
    steps = chance.integers(0, 60, 4000)
    values = (np.float32(1.7e9) + (128 * steps)[:, None]).astype(np.float32)
    labels = (steps % 2).astype(np.float32)
    rows = Dataset(("seen_at",), values, labels, np.arange(4000))
    booster = _grown(rows, min_data_in_leaf=1, num_leaves=63)

    content = export(booster, 1)

    assert ((booster.predict(values) > 0.5) == labels).all()
    assert compare(booster, content, values).holds


def test_differences_flips_and_ties_are_told_apart() -> None:
    native = np.array([0.2, 0.4, 0.5000001, 0.6])
    near = native.astype(np.float32)
    flipped = np.array([0.2, 0.6, 0.5, 0.6], np.float32)
    tied = np.array([0.2, 0.4, 0.4999999, 0.6], np.float32)

    assert parity(native, near).holds
    assert parity(native, tied).flips == 0 and parity(native, tied).holds
    assert parity(native, flipped) == Parity(4, pytest.approx(0.2), 1)
    assert not parity(native, flipped).holds
    assert not parity(native, near + np.float32(2e-5)).holds
    assert not parity(native, np.array([np.nan, 0.4, 0.5, 0.6], np.float32)).holds


def test_a_recipe_for_another_kind_of_model_is_refused() -> None:
    with pytest.raises(boosting.Invalid, match=r"recipe.parameters\['objective'\]: 'regression' is not supported"):
        boosting.complete({"objective": "regression"})


def test_trees_stop_when_valid_no_longer_gets_better() -> None:
    rows = dataset(2000)

    found = boosting.measure(
        {**PARAMETERS, "num_boost_round": 500, "early_stopping_round": 5},
        rows.part(slice(0, 1500)),
        rows.part(slice(1500, 2000)),
        1,
        lambda: None,
    )

    assert 1 <= found.rounds < 100
    assert 0 < found.log_loss < np.log(2)


def test_each_round_may_end_the_training() -> None:
    rounds = []

    def third() -> None:
        rounds.append(1)
        if len(rounds) == 3:
            raise KeyError("enough")

    with pytest.raises(KeyError):
        boosting.grow(PARAMETERS, 50, dataset(), 1, third)
    assert len(rounds) == 3


def test_digests_are_of_the_bytes() -> None:
    assert onnx_model.sha256(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
