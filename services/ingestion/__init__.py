"""Takes events from upstream, checks and publishes them, and keeps them in the lake."""
