"""Events into windowed features: kept fresh online, the same offline."""

# Before Feast: whose import would have our metrics kept in files, as of one of several workers.
import prometheus_client  # noqa: F401
