"""What the load generators ask and send, and how a run is judged."""

from __future__ import annotations

import json
import math
from itertools import islice

from loadtests.journeys import Target, documents, questions
from services.chassis.clock import utc_now
from services.ingestion.validation import Accepted, Validator
from services.problem import load_event_types
from tests.problems.parcels.upstream import START, two_days
from tests.support import PARCELS


def test_a_target_names_what_was_missed():
    target = Target(p95_ms=50, error_rate=0.01)
    assert target.misses(requests=1000, failures=10, p95_ms=50) == []
    assert target.misses(requests=1000, failures=11, p95_ms=50) == ["1.10% failed, at most 1.00% may"]
    assert target.misses(requests=1000, failures=0, p95_ms=51) == ["p95 is 51 ms, at most 50 ms may be"]
    assert len(target.misses(requests=10, failures=10, p95_ms=math.nan)) == 2
    assert target.misses(requests=0, failures=0, p95_ms=math.nan) == ["no request was made"]


def test_the_entities_that_are_asked_about_are_nobodys():
    asked = questions(two_days(), PARCELS, 5, START)
    assert len({each.entity_id for each in asked}) == 5
    for each in asked:
        assert each.as_of == START
        assert each.entity_id == each.payload.parcel_id  # type: ignore[attr-defined]
        assert each.entity_id.startswith("load/parcel-")
    assert questions(two_days(), PARCELS, 1, None)[0].as_of > START


def test_the_documents_are_good_events_with_ids_of_their_own():
    validator = Validator(load_event_types(PARCELS), utc_now, recordedtime_required=True)
    made = [*islice(documents(two_days(), 3), 10), *islice(documents(two_days(), 3), 10)]
    assert all(isinstance(validator.check(document), Accepted) for document in made)
    assert len({json.loads(document)["id"] for document in made}) == 20
