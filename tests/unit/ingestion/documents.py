"""CloudEvents of the tiny problem, to be spoilt."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from services.problem import load_event_types
from tests.support import PARCELS

EVENT_TYPES = load_event_types(PARCELS)
NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)
DELIVERED = {"parcel_id": "parcel-1", "shop": "shop-1", "courier": None, "delay_minutes": 4.5}


def cloud_event(**changes: Any) -> dict[str, Any]:
    """A good parcel.delivered; an attribute given as None is left out."""
    event = {
        "specversion": "1.0",
        "id": "parcel-1/delivered",
        "source": "/parcels",
        "type": "parcel.delivered",
        "time": "2024-03-01T10:00:00Z",
        "recordedtime": "2024-03-01T10:00:30Z",
        "datacontenttype": "application/json",
        "data": DELIVERED,
    }
    return {name: value for name, value in (event | changes).items() if value is not None}


def document(**changes: Any) -> bytes:
    """The same as JSON."""
    return json.dumps(cloud_event(**changes)).encode()


def delivered(**changes: Any) -> bytes:
    """A parcel.delivered with changed data; a field given as `...` is left out."""
    data = {name: value for name, value in (DELIVERED | changes).items() if value is not ...}
    return document(data=data)
