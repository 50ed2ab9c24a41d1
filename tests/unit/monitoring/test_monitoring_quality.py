"""The formulas against scikit-learn, the windows against rows counted by hand."""

from datetime import timedelta

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from services.chassis.errors import Invalid
from services.monitoring import quality
from services.monitoring.database import Database
from services.monitoring.joiner import Batch, Joiner, Outcome, Prediction
from services.monitoring.quality_book import DAY_US, QualityBook, Window, total

RNG = np.random.default_rng(7)
SCORES = np.round(RNG.beta(2, 5, 2000), 2)  # rounded, so that there are ties
LABELS = (RNG.random(2000) < SCORES).astype(float)


def test_auc_log_loss_and_brier_are_those_of_scikit_learn() -> None:
    scored = quality.score(LABELS, SCORES)

    assert scored.auc == pytest.approx(roc_auc_score(LABELS, SCORES))
    assert scored.log_loss == pytest.approx(log_loss(LABELS, SCORES))
    assert scored.brier == pytest.approx(brier_score_loss(LABELS, SCORES))
    assert scored.positive_rate == pytest.approx(LABELS.mean())


def test_the_standard_error_of_log_loss_is_that_of_a_mean() -> None:
    losses = [log_loss([label], [score], labels=[0, 1]) for label, score in zip(LABELS, SCORES, strict=True)]

    assert quality.score(LABELS, SCORES).log_loss_se == pytest.approx(np.std(losses, ddof=1) / np.sqrt(2000))


def test_the_standard_error_of_auc_covers_what_resampling_shows() -> None:
    areas = []
    for _ in range(300):
        rows = RNG.integers(0, 2000, 2000)
        areas.append(quality.auc(LABELS[rows], SCORES[rows]))

    assert quality.score(LABELS, SCORES).auc_se == pytest.approx(np.std(areas), rel=0.15)


def test_calibration_error_by_hand() -> None:
    labels, scores = np.array([0.0, 1.0, 1.0, 1.0]), np.array([0.12, 0.18, 0.91, 1.0])

    # Bin 0.1..0.2: mean label 0.5, mean score 0.15. Bin 0.9..1: mean label 1, mean score 0.955.
    assert quality.calibration_error(labels, scores) == pytest.approx(0.5 * 0.35 + 0.5 * 0.045)


def test_one_class_has_a_log_loss_but_no_auc() -> None:
    scored = quality.score(np.ones(3), np.array([0.5, 0.6, 0.7]))

    assert scored.auc is None
    assert scored.log_loss is not None


def test_no_labels_have_no_quality() -> None:
    assert quality.score(np.zeros(0), np.zeros(0)) == quality.Scored(labels=0)


def test_a_sure_mistake_is_a_finite_loss() -> None:
    assert np.isfinite(quality.score(np.array([1.0, 0.0]), np.array([0.0, 1.0])).log_loss or np.inf)


class Written:
    """A book over predictions of three days, one each six hours: v1 and, in release r, v2."""

    def __init__(self) -> None:
        self.database = Database("sqlite://")
        self.book = QualityBook(self.database)
        self.joiner = Joiner(timedelta(days=2), ["labels"], timedelta(days=1))
        self.write(
            predictions=[
                Prediction(
                    f"p{n}", f"e{n}", "2" if n % 4 == 3 else "1", _variant(n), "r" * (n > 7), n * DAY_US // 4, 0.3
                )
                for n in range(12)
            ]
        )

    def write(self, **records: list) -> None:
        with self.database.write() as connection:
            joined = self.joiner.apply(connection, Batch(**records))
        self.book.note(joined)


def _variant(n: int) -> str:
    return "challenger" if n % 4 == 3 else "champion"


def test_windows_are_aligned_to_the_epoch_by_version_and_variant() -> None:
    groups = Written().book.windows(Window(), DAY_US)

    found = [(g.version, g.variant, g.from_us // DAY_US, g.predictions, g.scored.labels) for g in groups]
    assert found == [
        (version, variant, day, count, 0)
        for day in range(3)
        for version, variant, count in (("1", "champion", 3), ("2", "challenger", 1))
    ]


def test_a_window_asked_before_shows_the_labels_that_came_since() -> None:
    written = Written()
    assert sum(g.scored.labels for g in written.book.windows(Window(), DAY_US)) == 0

    written.write(outcomes=[Outcome("e0", 1.0, 5), Outcome("e3", None, 5), Outcome("e11", 0.0, 3 * DAY_US)])

    assert [g.scored.labels for g in written.book.windows(Window(), DAY_US)] == [1, 0, 0, 0, 0, 1]
    assert [g.scored.labels for g in written.book.groups(Window(release_id="r"))] == [0, 1]


def test_a_release_holds_only_its_own_predictions() -> None:
    groups = Written().book.groups(Window(release_id="r"))

    assert [(g.version, g.predictions) for g in groups] == [("1", 3), ("2", 1)]


def test_by_weight_each_weight_of_a_release_is_apart() -> None:
    written = Written()
    written.write(
        predictions=[
            Prediction(
                f"w{n}", f"w{n}", "2", _variant(n), "s", n * DAY_US, 0.3, challenger_weight=2500 if n < 6 else 5000
            )
            for n in range(12)
        ]
    )

    groups = written.book.groups(Window(release_id="s", by_weight=True))

    assert [(g.variant, g.challenger_weight, g.predictions) for g in groups] == [
        ("challenger", 2500, 1),
        ("challenger", 5000, 2),
        ("champion", 2500, 5),
        ("champion", 5000, 4),
    ]
    assert [g.predictions for g in written.book.groups(Window(release_id="s"))] == [3, 9]


def test_bounds_cut_the_first_and_the_last_window() -> None:
    groups = Written().book.windows(Window(DAY_US // 4, DAY_US + 1), DAY_US)

    assert [(g.version, g.predictions) for g in groups] == [("1", 2), ("2", 1), ("1", 1)]


def test_too_many_windows_are_refused() -> None:
    with pytest.raises(Invalid, match="window_s"):
        Written().book.windows(Window(), 1_000_000)


def test_loss_over_groups_is_weighted_by_their_labels() -> None:
    written = Written()
    written.write(outcomes=[Outcome(f"e{n}", float(n == 1), 5) for n in (0, 1, 4)])

    labels, loss = total(written.book.windows(Window(), DAY_US))

    assert labels == 3
    assert loss == pytest.approx(log_loss([0, 1, 0], [0.3, 0.3, 0.3]))
