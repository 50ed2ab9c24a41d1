"""The problems that tests run on."""

from deploy.local.home import REPOSITORY

FLIGHTS = REPOSITORY / "feature_repo"
PARCELS = REPOSITORY / "tests" / "problems" / "parcels" / "feature_repo"
