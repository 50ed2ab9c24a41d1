"""The fast lane: unary gRPC over a small, strict HTTP/2 server of our own, for methods where each microsecond counts.

A call of `grpcio` costs some 170 µs of CPU before any work; here it is a tenth. Everything that came in one read is
handed to its method at once and answered in one write. What is not unary, and health, reflection and the rest, is
`chassis.grpc_server`'s (decision 0008).
"""

from services.chassis.fastlane.call import Call
from services.chassis.fastlane.limits import Limits
from services.chassis.fastlane.server import Method, fastlane_server

__all__ = ["Call", "Limits", "Method", "fastlane_server"]
