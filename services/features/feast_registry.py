"""Feast's registry, so that stock Feast reads what we serve: written anew from the feature repository."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from feast import Entity, FeatureService, FeatureStore, KafkaSource, RequestSource, StreamFeatureView
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import RepoConfig

from services.problem import load_module

_MODULES = ("entities", "data_sources", "features", "feature_services")
_KINDS = (Entity, KafkaSource, RequestSource, StreamFeatureView, OnDemandFeatureView, FeatureService)


def feast_config(feature_repo: Path, registry: Path, redis: str) -> RepoConfig:
    """The repository's own configuration with the registry file and the Redis (`host:port`) of this platform."""
    stated = yaml.safe_load((feature_repo / "feature_store.yaml").read_text())
    ours = {"registry": str(registry.resolve()), "online_store": {"type": "redis", "connection_string": redis}}
    return RepoConfig(**(stated | ours), repo_path=feature_repo)


def write_registry(feature_repo: Path, registry: Path, redis: str) -> None:
    """Applies all of the repository. The file is there as a whole or as it was before."""
    registry.parent.mkdir(parents=True, exist_ok=True)
    new = registry.with_suffix(".new")
    new.unlink(missing_ok=True)
    with warnings.catch_warnings():
        # Feast calls stream and on-demand views experimental; they are what we use.
        warnings.simplefilter("ignore", RuntimeWarning)
        FeatureStore(config=feast_config(feature_repo, new, redis)).apply(_objects(feature_repo))
    new.replace(registry)


def _objects(feature_repo: Path) -> list[Any]:
    """Each once, though modules import them from each other."""
    modules = [load_module(feature_repo, name) for name in _MODULES]
    found = [each for module in modules for each in vars(module).values() if isinstance(each, _KINDS)]
    return list({(type(each), each.name): each for each in found}.values())
