"""The split in Envoy's words: the one RouteConfiguration that the router gives out (REST xDS, version 3).

A call without `x-routing-key` is drawn by its `x-request-id`, which Envoy makes up for each call: random, not sticky.
`x-slipway-*` headers of a client never reach a model: they are overwritten or removed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from services.router.assignment import CHALLENGER, CHAMPION, TOTAL_WEIGHT, salt

ROUTE_CONFIG = "slipway"
ROUTE_TYPE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
ROUTING_KEY = "x-routing-key"
_REQUEST_ID = "x-request-id"
_VARIANT, _RELEASE, _WEIGHT = "x-slipway-variant", "x-slipway-release", "x-slipway-weight"
_INFERENCE = "/inference.GRPCInferenceService/"
_HOT = f"{_INFERENCE}ModelInfer"
_REST = "/v2"
_ALL_METHODS, _HTTP = "-grpc", "-http"
# Loading is a matter of one deployment, and of its operators.
_OPERATORS = rf"{re.escape(_INFERENCE)}RepositoryModel(Load|Unload)|/v2/repository/models/[^/]+/(load|unload)"
_NOT_HERE = "versions are loaded and unloaded at a deployment itself, not through the split\n"
_ONLY_INFERENCE = "only the Open Inference Protocol is served here: inference.GRPCInferenceService, and /v2 over HTTP\n"


@dataclass(frozen=True, slots=True)
class Split:
    """What Envoy is told. `release_id` is "" while no release has traffic; weight in basis points."""

    release_id: str = ""
    challenger_weight: int = 0

    @property
    def version(self) -> str:
        """Names this configuration to Envoy; the same split has the same version in every process."""
        return f"{self.release_id or 'none'}@{self.challenger_weight}"


def discovery_response(split: Split, timeout: str = "5s") -> dict[str, Any]:
    """The answer to `POST /v3/discovery:routes`. `timeout` bounds each call, as a protobuf duration."""
    return {
        "version_info": split.version,
        "type_url": ROUTE_TYPE,
        "resources": [{"@type": ROUTE_TYPE, **route_configuration(split, timeout)}],
    }


def route_configuration(split: Split, timeout: str) -> dict[str, Any]:
    """Inference calls by weight, ModelInfer and REST to clusters of their own; loading 403, everything else 404."""
    return {
        "name": ROUTE_CONFIG,
        "virtual_hosts": [
            {
                "name": "inference",
                "domains": ["*"],
                "routes": [
                    {"match": {"safe_regex": {"regex": _OPERATORS}}, "direct_response": _answer(403, _NOT_HERE)},
                    {"match": {"path": _HOT}, "route": _weighted_route(split, timeout)},
                    {"match": {"prefix": _INFERENCE}, "route": _weighted_route(split, timeout, _ALL_METHODS)},
                    {"match": {"path_separated_prefix": _REST}, "route": _weighted_route(split, timeout, _HTTP)},
                    {"match": {"prefix": "/"}, "direct_response": _answer(404, _ONLY_INFERENCE)},
                ],
            }
        ],
    }


def _answer(status: int, text: str) -> dict[str, Any]:
    return {"status": status, "body": {"inline_string": text}}


def _weighted_route(split: Split, timeout: str, clusters: str = "") -> dict[str, Any]:
    challenger = _cluster(CHALLENGER, split.challenger_weight, split.release_id, clusters)
    champion = _cluster(CHAMPION, TOTAL_WEIGHT - split.challenger_weight, split.release_id, clusters)
    return {
        "timeout": timeout,
        "hash_policy": [_salted_hash(ROUTING_KEY, split.release_id), _salted_hash(_REQUEST_ID, split.release_id)],
        # Without use_hash_policy the split would be random for each call; the challenger is first so that raising its
        # weight only adds keys to it.
        "weighted_clusters": {"clusters": [challenger, champion], "use_hash_policy": True},
    }


def _salted_hash(header: str, release_id: str) -> dict[str, Any]:
    """`^` is an empty match at the start: the salt is put before the value, whatever bytes it has."""
    rewrite = {"pattern": {"regex": "^"}, "substitution": salt(release_id)}
    return {"header": {"header_name": header, "regex_rewrite": rewrite}, "terminal": True}


def _cluster(variant: str, weight: int, release_id: str, suffix: str) -> dict[str, Any]:
    headers = {_VARIANT: variant, _WEIGHT: str(weight)} | ({_RELEASE: release_id} if release_id else {})
    return {
        "name": variant + suffix,
        "weight": weight,
        "request_headers_to_remove": [] if release_id else [_RELEASE],
        "request_headers_to_add": [
            {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in headers.items()
        ],
    }
