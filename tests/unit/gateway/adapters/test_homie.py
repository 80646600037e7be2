"""Homie: one property a message; a sample is everything said in the session so far, what is retained is none."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.messages import Status
from tests.unit.gateway.adapters.bound import NOW, Bound, unit


@pytest.fixture
def soy() -> Bound:
    return Bound(unit("SM-1", "soymilk", "homie", "kitchen"))


def test_a_sample_grows_with_what_is_said(soy: Bound) -> None:
    assert soy.values("homie/kitchen/meter/power-w", b"1800.5") == {"power_w": 1800.5}
    assert soy.values("homie/kitchen/meter/voltage-v", b"229") == {"power_w": 1800.5, "voltage_v": 229.0}
    reading = soy.reading("homie/kitchen/pot/heater-on", b"true", NOW + 40)
    assert (reading.ts, reading.values["heater_on"], reading.values["power_w"]) == (NOW + 40, True, 1800.5)
    assert soy.values("homie/kitchen/pot/run-state", b"heating")["run_state"] == "heating"


def test_ids_that_are_no_channels_are_counted(soy: Bound) -> None:
    assert soy.all("homie/kitchen/meter/power", b"1800") == [], "of which unit?"
    assert soy.all("homie/kitchen/$stats/interval", b"60") == []
    assert soy.unknown == {"meter.power": 1, "$stats.interval": 1}
    assert soy.values("homie/kitchen/$stats/uptime", b"60") == {"uptime_s": 60.0}
    assert soy.values("homie/kitchen/$fw/version", b"1.4.2") == {"uptime_s": 60.0, "fw": "1.4.2"}


def test_attributes_and_broadcasts_are_no_samples(soy: Bound) -> None:
    for topic in ("homie/kitchen/meter/$name", "homie/other/meter/$properties", "homie/$broadcast/alert/x"):
        assert soy.all(topic, b"x") == []
    assert soy.unknown == {}


def test_what_is_retained_is_remembered_and_no_sample(soy: Bound) -> None:
    assert soy.all("homie/kitchen/meter/power-w", b"1800", retained=True) == []
    assert soy.values("homie/kitchen/meter/voltage-v", b"229") == {"power_w": 1800.0, "voltage_v": 229.0}
    soy.all("homie/kitchen/meter/power-w", b"", retained=True)
    assert soy.values("homie/kitchen/meter/pf", b"1") == {"voltage_v": 229.0, "pf": 1.0}


@pytest.mark.parametrize("end", [b"init", b"lost", b"disconnected"])
def test_a_session_that_ends_is_forgotten(soy: Bound, end: bytes) -> None:
    soy.all("homie/kitchen/meter/power-w", b"1800")
    soy.all("homie/kitchen/$state", b"ready")
    assert soy.values("homie/kitchen/meter/pf", b"1") == {"power_w": 1800.0, "pf": 1.0}
    soy.all("homie/kitchen/$state", end)
    assert soy.values("homie/kitchen/meter/pf", b"1") == {"pf": 1.0}


def test_a_value_out_of_range_does_not_leave_the_old_one(soy: Bound) -> None:
    soy.all("homie/kitchen/meter/power-w", b"1800")
    reading = soy.reading("homie/kitchen/meter/power-w", b"-1")
    assert (dict(reading.values), dict(reading.rejected)) == ({}, {"power_w": -1.0})
    assert soy.values("homie/kitchen/meter/pf", b"1") == {"pf": 1.0}


def test_a_property_that_had_to_be_refused_does_not_leave_the_old_one(soy: Bound) -> None:
    soy.all("homie/kitchen/meter/power-w", b"1800")
    soy.all("homie/kitchen/meter/voltage-v", b"229")
    assert soy.reason("homie/kitchen/meter/power-w", b"much") == "wrong_type"
    assert soy.values("homie/kitchen/meter/pf", b"1") == {"voltage_v": 229.0, "pf": 1.0}


@pytest.mark.parametrize(
    ("state", "online"),
    [
        (b"ready", True), (b"alert", True), (b"lost", False), (b"disconnected", False), (b"init", None), (b"sleeping", None),
        (b"", None),
    ],
)  # fmt: skip
def test_states(soy: Bound, state: bytes, online: bool | None) -> None:
    expected = [] if online is None else [Status("SM-1", online, NOW)]
    assert soy.all("homie/kitchen/$state", state) == expected


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("homie/kitchen/$state", b"tired", "wrong_type"),
        ("homie/kitchen/meter/power-w", b"1_800", "wrong_type"),
        ("homie/kitchen/meter/power-w", b"nan", "wrong_type"),
        ("homie/kitchen/meter/power-w", b"1e999", "not_finite"),
        ("homie/kitchen/meter/power-w", b"\xff", "unreadable"),
        ("homie/kitchen/meter/power-w", b"1" * 2000, "oversize"),
        ("homie/kitchen/pot/heater-on", b"1", "wrong_type"),
        ("homie/kitchen/pot/recipe", b"a\nb", "wrong_type"),
        ("homie/stranger/pot/temp-c", b"1", "unknown_serial"),
        ("homie/kitchen", b"1", "unknown_topic"),
    ],
)
def test_what_cannot_be_used_says_why(soy: Bound, topic: str, payload: Any, reason: str) -> None:
    assert soy.reason(topic, payload) == reason
