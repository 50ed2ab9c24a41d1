"""Events into windowed features: kept fresh online, the same offline."""
