"""Zigbee2MQTT: a whole state without a time, and an age whose unit the message does not say."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.messages import Status
from tests.unit.gateway.adapters.bound import NOW, Bound, unit

FOUND = (
    b'{"fan_state":"ON","fan_mode":"auto","fan_speed":4,"pm25":12,"air_quality":"good","replace_filter":false,'
    b'"filter_age":72000,"linkquality":120}'
)
VALUES = {"run_state": "running", "mode": "auto", "level": 4.0, "pm25_out_ugm3": 12.0}


@pytest.fixture
def bound() -> Bound:
    return Bound(unit("FA-1", "freshair", "zigbee2mqtt", "purifier"), unit("SM-1", "soymilk", "zigbee2mqtt", "plug"))


def devices(unit_of_age: Any) -> list[Any]:
    exposes = [{"property": "pm25", "unit": "µg/m³"}, {"property": "filter_age", "unit": unit_of_age}]
    return [
        {"friendly_name": "Coordinator", "definition": None},
        {"friendly_name": "purifier", "definition": {"exposes": exposes}},
    ]


def test_the_purifier_as_found_whose_filter_age_has_no_unit(bound: Bound) -> None:
    reading = bound.reading("zigbee2mqtt/purifier", FOUND)
    assert (reading.serial, reading.ts, dict(reading.values)) == ("FA-1", NOW, VALUES)
    assert bound.unknown == {"air_quality": 1, "replace_filter": 1, "filter_age": 1, "linkquality": 1}


@pytest.mark.parametrize(
    ("unit_of_age", "age", "hours"), [("minutes", 72_000, 1200.0), ("days", 50, 1200.0), ("h", 1200, 1200.0)]
)
def test_exposes_say_the_unit_of_the_filters_age(bound: Bound, unit_of_age: str, age: int, hours: float) -> None:
    assert bound.all("zigbee2mqtt/bridge/devices", devices(unit_of_age), retained=True) == []
    found = bound.values("zigbee2mqtt/purifier", {"filter_age": age})
    assert found == {"filter_used_h": pytest.approx(hours)}
    bound.all("zigbee2mqtt/bridge/devices", devices("fortnights"))
    assert bound.values("zigbee2mqtt/purifier", {"filter_age": age}) == {}, "a newer list replaces the older"


@pytest.mark.parametrize(
    "odd", [None, 7, {}, [None, {"friendly_name": 7}, {"friendly_name": "x", "definition": 3}], devices(7)]
)
def test_odd_lists_of_devices_are_no_lists(bound: Bound, odd: Any) -> None:
    assert bound.all("zigbee2mqtt/bridge/devices", odd) == []


def test_a_plug(bound: Bound) -> None:
    said = {"state": "ON", "power": 1800, "voltage": 229, "current": 7.9, "energy": 12.34, "power_factor": 0.99}
    assert bound.values("zigbee2mqtt/plug", said) == {
        "power_w": 1800.0, "voltage_v": 229.0, "current_a": 7.9, "energy_kwh": 12.34, "pf": 0.99,
    }  # fmt: skip


def test_retained_states_are_news_of_the_past(bound: Bound) -> None:
    assert bound.all("zigbee2mqtt/purifier", FOUND, retained=True) == []


@pytest.mark.parametrize(
    ("payload", "online"),
    [(b"online", True), (b"offline", False), (b'{"state":"online"}', True), (b'{"state":"offline"}', False)],
)
def test_availability(bound: Bound, payload: bytes, online: bool) -> None:
    assert bound.one("zigbee2mqtt/purifier/availability", payload) == Status("FA-1", online, NOW)


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("zigbee2mqtt/purifier", b"[]", "wrong_type"),
        ("zigbee2mqtt/purifier", b'{"pm25":"12"}', "wrong_type"),
        ("zigbee2mqtt/purifier", b"", "unreadable"),
        ("zigbee2mqtt/purifier/availability", b'{"state":["online"]}', "wrong_type"),
        ("zigbee2mqtt/purifier/availability", b"away", "unreadable"),
        ("zigbee2mqtt/stranger", b"{}", "unknown_serial"),
        ("zigbee2mqtt/bridge/logging", b"{}", "unknown_topic"),
    ],
)
def test_what_cannot_be_used_says_why(bound: Bound, topic: str, payload: bytes, reason: str) -> None:
    assert bound.reason(topic, payload) == reason
