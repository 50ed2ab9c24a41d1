"""What is predicted, when, and how the model is made."""

from datetime import timedelta

from label import LABEL

from services.problem import Canary, Gate, ModelRecipe, Retrain, Spine

RECIPE = ModelRecipe(
    name="flight-delay",
    feature_service="flight_delay_v1",
    spine=Spine(event_type="flight.scheduled", time_field="scheduled_departure", lead=timedelta(hours=1)),
    label=LABEL,
    gate=Gate(min_auc=0.70, max_log_loss_increase=0.0),
    retrain=Retrain(
        psi_threshold=0.25,
        drifted_features=0.25,
        log_loss_increase=0.04,
        min_labels=3000,
        window=timedelta(days=14),
        cool_down=timedelta(days=56),
        history=timedelta(days=365),
    ),
    canary=Canary(),
    parameters={
        "objective": "binary",
        "learning_rate": 0.08,
        "num_leaves": 31,
        "min_data_in_leaf": 200,
        "feature_fraction": 0.6,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 5.0,
        "max_bin": 63,
        "num_boost_round": 200,
    },
    search={"num_leaves": [31, 63], "learning_rate": [0.05, 0.08], "min_data_in_leaf": [100, 300]},
    trials=2,
)
