"""Alink: a value or {value, time}, a time that counts within 24 h only, and batches."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.messages import Quarantined, Reason
from tests.unit.gateway.adapters.bound import NOW, Bound, unit

POST = "/sys/pk/dn/thing/event/property/post"
BATCH = "/sys/pk/dn/thing/event/property/batch/post"
TIMED = (
    b'{"id":"123","version":"1.0","sys":{"ack":0},"params":{"Power":{"value":"on","time":1524448722000},'
    b'"WF":{"value":23.6,"time":1524448722000}},"method":"thing.event.property.post"}'
)
BARE = b'{"params":{"Temperature":1,"PM25":3,"Humidity":2}}'


@pytest.fixture
def fresh() -> Bound:
    return Bound(unit("FA-1", "freshair", "alink", "pk/dn"))


@pytest.fixture
def soy() -> Bound:
    return Bound(unit("SM-1", "soymilk", "alink", "pk/dn"))


def test_the_timed_form_as_found_whose_names_nobody_has_explained(fresh: Bound) -> None:
    reading = fresh.reading(POST, TIMED, 1_524_448_722_400)
    assert (reading.serial, reading.ts, reading.device_ts) == ("FA-1", 1_524_448_722_000, None)
    assert dict(reading.values) == {}, "a switch that is called Power is not watts"
    assert fresh.unknown == {"Power": 1, "WF": 1}


def test_the_bare_form_as_found(fresh: Bound) -> None:
    reading = fresh.reading(POST, BARE)
    assert dict(reading.values) == {"temp_room_c": 1.0, "pm25_out_ugm3": 3.0, "rh_room_pct": 2.0}
    assert (reading.ts, reading.device_ts) == (NOW, None)


def test_identifiers_that_are_channels_are_these_in_both_forms(soy: Bound) -> None:
    said = {"power_w": {"value": 8890.0, "time": NOW - 700}, "heater_on": {"value": 1, "time": NOW - 700}}
    reading = soy.reading(POST, {"params": said})
    assert (dict(reading.values), reading.ts) == ({"power_w": 8890.0, "heater_on": True}, NOW - 700)
    assert soy.values(POST, {"params": {"voltage_v": 229.6, "motor_on": 0}}) == {"voltage_v": 229.6, "motor_on": False}


@pytest.mark.parametrize(("age_ms", "believed"), [(86_400_000, True), (86_400_001, False), (-60_000, True)])
def test_a_time_counts_within_a_day(soy: Bound, age_ms: int, believed: bool) -> None:
    time = NOW - age_ms
    reading = soy.reading(POST, {"params": {"power_w": {"value": 1.5, "time": time}}})
    assert reading.device_ts == (None if believed else time)
    assert reading.ts == time if believed else NOW - 1000 < reading.ts <= NOW


def test_properties_of_different_times_are_different_samples(soy: Bound) -> None:
    said = {
        "power_w": {"value": 2.0, "time": NOW - 1000},
        "temp_c": {"value": 20.0, "time": NOW - 5000},
        "voltage_v": {"value": 380.0, "time": NOW - 1000},
    }
    found: list[Any] = soy.all(POST, {"params": said})
    assert [(r.ts - NOW, dict(r.values)) for r in found] == [
        (-5000, {"temp_c": 20.0}),
        (-1000, {"power_w": 2.0, "voltage_v": 380.0}),
    ]


def test_a_batch_and_a_bad_sample_in_it(soy: Bound) -> None:
    times = [NOW - 20_000, NOW - 10_000, NOW]
    powers = [{"value": value, "time": time} for value, time in zip((1.0, "much", 3.0), times, strict=True)]
    volts = [{"value": 380.0, "time": time} for time in times]
    body = {"params": {"properties": {"power_w": powers, "voltage_v": volts}, "events": {"alarm": []}}}
    found = soy.all(BATCH, body)
    good: list[Any] = [one for one in found if not isinstance(one, Quarantined)]
    assert [(r.ts, r.values["power_w"]) for r in good] == [(times[0], 1.0), (times[2], 3.0)]
    assert [(q.reason, q.part) for q in found if isinstance(q, Quarantined)] == [(Reason.WRONG_TYPE, 1)]
    assert soy.unknown == {"events": 1}


def test_null_is_absent_and_what_is_retained_has_no_time_of_receipt(soy: Bound) -> None:
    assert soy.values(POST, {"params": {"power_w": None, "temp_c": {"value": None}, "pf": 0.9}}) == {"pf": 0.9}
    assert soy.all(POST, {"params": {"power_w": 5.0}}, retained=True) == []


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        (POST, {"id": "1"}, "wrong_type"),
        (POST, [], "wrong_type"),
        (POST, {"params": {"power_w": {"time": NOW}}}, "wrong_type"),
        (POST, {"params": {"power_w": {"value": 1.0, "time": "today"}}}, "wrong_type"),
        (POST, {"params": {"power_w": "on"}}, "wrong_type"),
        (BATCH, {"params": {"properties": {"power_w": {"value": 1.0}}}}, "wrong_type"),
        (BATCH, {"params": {"properties": {"power_w": [{}] * 1001}}}, "too_many"),
        ("/sys/pk/other/thing/event/property/post", {"params": {}}, "unknown_serial"),
        ("/sys/pk/dn/thing/event/alarm/post", {"params": {}}, "unknown_topic"),
    ],
)
def test_what_cannot_be_used_says_why(soy: Bound, topic: str, payload: Any, reason: str) -> None:
    assert soy.reason(topic, payload) == reason
