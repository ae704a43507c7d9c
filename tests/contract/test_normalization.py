"""Plain data is read as the API server reads it."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_contract.normalization import normalize
from finetune_contract.spec import FineTuneJob


@pytest.mark.parametrize(
    ("spec", "read"),
    [
        ({"training": None}, {}),
        ({"training": {"epochs": None, "maxSteps": 3.0}}, {"training": {"maxSteps": 3}}),
        ({"training": {"epochs": 1.5, "seed": 1e300}}, {"training": {"epochs": 1.5, "seed": 1e300}}),
        ({"trainig": None}, {"trainig": None}),
        ({"pod": {"labels": {"a": None, "b": "c"}}}, {"pod": {"labels": {"b": "c"}}}),
        ({"pod": {"affinity": {"a": None, "b": 2.0}}}, {"pod": {"affinity": {"a": None, "b": 2.0}}}),
        ({"pod": {"topologySpread": [{"a": None}]}}, {"pod": {"topologySpread": [{"a": None}]}}),
        ({"pod": {"env": [{"name": "A", "value": None}, None]}}, {"pod": {"env": [{"name": "A"}, None]}}),
        ([None], [None]),
    ],
)
def test_nulls_vanish_and_whole_floats_become_integers_outside_of_free_objects(spec: Any, read: Any) -> None:
    assert normalize({"spec": spec}, FineTuneJob) == {"spec": read}
