"""What is predicted, when, and how the model is made: small enough to train in a second."""

from datetime import timedelta

from label import LABEL

from services.problem import Canary, Gate, ModelRecipe, Retrain, Spine

RECIPE = ModelRecipe(
    name="parcel-delay",
    feature_service="parcel_delay_v1",
    spine=Spine(event_type="parcel.ordered", time_field="pickup_at", lead=timedelta(minutes=10)),
    label=LABEL,
    gate=Gate(min_auc=0.55, max_log_loss_increase=0.02),
    retrain=Retrain(
        psi_threshold=0.25,
        drifted_features=0.2,
        log_loss_increase=0.05,
        min_labels=200,
        window=timedelta(days=1),
        cool_down=timedelta(hours=36),
        history=timedelta(days=10),
    ),
    canary=Canary(steps=(0.25, 1.0), min_labels=30, hold=timedelta(hours=2), max_log_loss_increase=0.1),
    parameters={"objective": "binary", "num_leaves": 7, "min_data_in_leaf": 20, "num_boost_round": 30},
    search={"learning_rate": [0.1, 0.2]},
    trials=2,
)
