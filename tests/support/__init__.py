"""What tests of several levels share."""

from tests.support.eventually import eventually
from tests.support.parts import free_port
from tests.support.process import run_service
from tests.support.repos import FLIGHTS, PARCELS

__all__ = ["FLIGHTS", "PARCELS", "eventually", "free_port", "run_service"]
