"""Shelly: changes are laid over the last state, absence is not 0, negative power is a transformer the wrong way round."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from domain.readings import Reading
from gateway.adapters.port import Command
from gateway.adapters.registry import ADAPTERS
from gateway.adapters.shelly import HOLE_MS
from gateway.messages import Status
from tests.unit.gateway.adapters.bound import NOW, Bound, unit

RPC = "shellyemg3-dcb4d9c564f4/events/rpc"
FOUND = (
    b'{"src":"shellyemg3-dcb4d9c564f4","dst":"shellyemg3/events","method":"NotifyStatus","params":{"ts":1788820998.37,'
    b'"em1:0":{"id":0,"current":16.714,"act_power":-1899.8,"voltage":117.6}}}'
)
FRAGMENT = (
    b'{"em1:1":{"id":1,"current":2.598,"voltage":234.9,"act_power":501.8,"aprt_power":612.4,"pf":0.84,"freq":50,'
    b'"calibration":"factory"}}'
)
FOUND_MS = 1_788_820_998_370


@pytest.fixture
def meter() -> Bound:
    """A meter with two transformers on two machines."""
    return Bound(
        unit("SM-1", "soymilk", "shelly", "shellyemg3-dcb4d9c564f4"),
        unit("SM-2", "soymilk", "shelly", "shellyemg3-dcb4d9c564f4/em1:1"),
    )


@pytest.fixture
def plug() -> Bound:
    return Bound(unit("SM-3", "soymilk", "shelly", "plug/switch:0"))


def notify(ts_ms: int, method: str = "NotifyStatus", **components: Any) -> dict[str, Any]:
    said = {name.replace("_", ":"): given for name, given in components.items()}
    return {"src": "x", "method": method, "params": {"ts": ts_ms / 1000, **said}}


def test_the_notification_as_found_is_flagged_not_a_value(meter: Bound) -> None:
    reading = meter.reading(RPC, FOUND, FOUND_MS + 200)
    assert (reading.serial, reading.ts) == ("SM-1", FOUND_MS), "ts is in s"
    assert dict(reading.values) == {"current_a": 16.714, "voltage_v": 117.6}
    assert dict(reading.rejected) == {"power_w": -1899.8}


def test_the_fragment_as_found_belongs_to_the_second_machine(meter: Bound) -> None:
    reading = meter.reading(RPC, FRAGMENT)
    assert (reading.serial, reading.ts) == ("SM-2", NOW)
    assert dict(reading.values) == {
        "current_a": 2.598, "voltage_v": 234.9, "power_w": 501.8, "pf": 0.84, "freq_hz": 50.0,
    }  # fmt: skip
    assert meter.unknown == {"em1.aprt_power": 1, "em1.calibration": 1}


def test_what_a_message_does_not_say_has_not_changed(plug: Bound) -> None:
    first = plug.values("plug/events/rpc", notify(NOW, switch_0={"apower": 1800.5, "voltage": 229.0, "current": 7.9}))
    assert first == {"power_w": 1800.5, "voltage_v": 229.0, "current_a": 7.9}
    minute = notify(NOW + 60_000, switch_0={"id": 0, "aenergy": {"by_minute": [1.0], "minute_ts": 1, "total": 1956.0}})
    assert plug.values("plug/events/rpc", minute, NOW + 60_000) == {**first, "energy_kwh": 1.956}
    off = notify(NOW + 90_000, switch_0={"apower": 0.0, "current": None})
    assert plug.values("plug/events/rpc", off, NOW + 90_000) == {
        "power_w": 0.0, "voltage_v": 229.0, "energy_kwh": 1.956,
    }  # fmt: skip


def test_absence_is_not_zero_and_a_restart_invents_nothing(plug: Bound) -> None:
    assert plug.values("plug/events/rpc", notify(NOW, switch_0={"aenergy": {"total": 5.0}})) == {"energy_kwh": 0.005}
    assert plug.all("plug/events/rpc", notify(NOW, sys={"uptime": 5})) == []


def test_a_plug_says_apower_and_a_meter_act_power(plug: Bound, meter: Bound) -> None:
    assert plug.values("plug/events/rpc", notify(NOW, switch_0={"act_power": 5.0, "voltage": 230})) == {
        "voltage_v": 230.0
    }
    assert meter.values(RPC, notify(NOW, em1_1={"apower": 5.0, "voltage": 230})) == {"voltage_v": 230.0}


def test_power_that_turns_negative_does_not_leave_the_old_one(meter: Bound) -> None:
    assert meter.values(RPC, notify(NOW, em1_1={"act_power": 500.0}))["power_w"] == 500.0
    turned = meter.reading(RPC, notify(NOW + 1000, em1_1={"act_power": -500.0}), NOW + 1000)
    assert (dict(turned.values), dict(turned.rejected)) == ({}, {"power_w": -500.0})


THREE = {
    "a_act_power": 1000.0, "b_act_power": 1100.0, "c_act_power": 1200.0, "total_act_power": 3300.0,
    "a_voltage": 230.1, "b_voltage": 230.2, "c_voltage": 230.3, "a_current": 4.1, "b_current": 4.2, "c_current": 4.3,
    "a_freq": 50.0,
}  # fmt: skip


def test_three_phases_and_one_of_them_the_wrong_way_round() -> None:
    three = Bound(unit("SM-1", "soymilk", "shelly", "pro3em"))
    assert three.values("pro3em/events/rpc", notify(NOW, em_0=THREE, emdata_0={"total_act": 12_500.0})) == {
        "power_w": 3300.0, "voltage_v_a": 230.1, "voltage_v_b": 230.2, "voltage_v_c": 230.3, "current_a_a": 4.1,
        "current_a_b": 4.2, "current_a_c": 4.3, "freq_hz": 50.0, "energy_kwh": 12.5,
    }  # fmt: skip
    wrong = notify(NOW + 1000, em_0={"b_act_power": -1100.0, "total_act_power": 1100.0})
    reading = three.reading("pro3em/events/rpc", wrong, NOW + 1000)
    assert reading.rejected == {"power_w": -1100.0}, "a total with such a phase in it is no total"
    assert "power_w" not in reading.values
    assert reading.values["voltage_v_b"] == 230.2


def test_a_full_status_begins_anew(plug: Bound) -> None:
    plug.all("plug/events/rpc", notify(NOW, switch_0={"apower": 1.0, "voltage": 229.0}))
    full = notify(NOW + 1000, "NotifyFullStatus", switch_0={"apower": 2.0})
    assert plug.values("plug/events/rpc", full, NOW + 1000) == {"power_w": 2.0}


def test_after_a_hole_or_a_reconnection_only_what_is_said_again_is_known(plug: Bound) -> None:
    topic = "plug/events/rpc"
    plug.all(topic, notify(NOW, switch_0={"apower": 1.0, "voltage": 229.0}))
    later = NOW + HOLE_MS
    assert plug.values(topic, notify(later, switch_0={"apower": 2.0}), later) == {"power_w": 2.0, "voltage_v": 229.0}
    later += HOLE_MS + 1
    assert plug.values(topic, notify(later, switch_0={"apower": 3.0}), later) == {"power_w": 3.0}
    plug.all(topic, notify(later, switch_0={"voltage": 230.0}), later)
    plug.all("plug/online", b"true", later, retained=True)
    assert plug.values(topic, notify(later, switch_0={"pf": 1}), later) == {
        "power_w": 3.0,
        "voltage_v": 230.0,
        "pf": 1.0,
    }
    assert plug.one("plug/online", b"false", later) == Status("SM-3", False, later)
    plug.all("plug/online", b"true", later)
    assert plug.values(topic, notify(later, switch_0={"apower": 4.0}), later) == {"power_w": 4.0}


def test_old_news_stand_alone(plug: Bound) -> None:
    topic = "plug/events/rpc"
    plug.all(topic, notify(NOW, switch_0={"apower": 1.0, "voltage": 229.0}))
    assert plug.values(topic, notify(NOW - 5000, switch_0={"apower": 9.0})) == {"power_w": 9.0}
    assert plug.values(topic, notify(NOW, switch_0={"pf": 1}))["power_w"] == 1.0


@pytest.mark.parametrize("bad", [b"{", notify(NOW, switch_0={"voltage": 229.0, "apower": "high"})])
def test_what_a_refused_message_said_is_not_taken_for_unchanged(plug: Bound, bad: Any) -> None:
    topic = "plug/events/rpc"
    plug.all(topic, notify(NOW, switch_0={"apower": 1.0}))
    assert plug.reason(topic, bad) in ("wrong_type", "unreadable")
    assert plug.values(topic, notify(NOW, switch_0={"pf": 0.5})) == {"pf": 0.5}


def test_a_device_without_a_clock_has_the_time_of_receipt(plug: Bound) -> None:
    body = {"method": "NotifyStatus", "params": {"ts": None, "switch:0": {"apower": 1.0}}}
    assert plug.reading("plug/events/rpc", body).ts == NOW
    wild: Reading = plug.reading("plug/events/rpc", notify(5000, switch_0={"apower": 1.0}))
    assert NOW - 1000 < wild.ts <= NOW
    assert wild.device_ts == 5000


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("plug/events/rpc", [], "wrong_type"),
        ("plug/events/rpc", {"method": "Shelly.Reboot"}, "wrong_type"),
        ("plug/events/rpc", {"method": "NotifyStatus"}, "wrong_type"),
        ("plug/events/rpc", notify(NOW, switch_0=7), "wrong_type"),
        ("plug/events/rpc", b'{"switch:0":{"apower":NaN}}', "not_finite"),
        ("plug/events/rpc", b'{"ts":1e308,"switch:0":{"apower":1}}', "wrong_type"),
        ("plug/online", b"yes", "wrong_type"),
        ("stranger/events/rpc", b"{}", "unknown_serial"),
        ("stranger/online", b"true", "unknown_serial"),
    ],
)
def test_what_cannot_be_used_says_why(plug: Bound, topic: str, payload: Any, reason: str) -> None:
    assert plug.reason(topic, payload) == reason


def test_a_pressed_button_is_no_sample(plug: Bound) -> None:
    assert plug.all("plug/events/rpc", {"method": "NotifyEvent", "params": {"ts": 1.0, "events": []}}) == []


def test_only_a_switch_can_be_switched_off() -> None:
    shelly, stop = ADAPTERS["shelly"], Command("1", "stop", {}, NOW)
    sent = shelly.command(unit("SM-3", "soymilk", "shelly", "plug/switch:2"), stop)
    assert sent is not None
    assert (sent.topic, sent.answers) == ("plug/rpc", False)
    assert orjson.loads(sent.payload)["params"] == {"id": 2, "on": False}
    assert shelly.command(unit("SM-3", "soymilk", "shelly", "plug/em1:0"), stop) is None
    assert shelly.command(unit("SM-3", "soymilk", "shelly", "plug"), stop) is None
    assert (
        shelly.command(unit("SM-3", "soymilk", "shelly", "plug/switch:0"), Command("1", "test_mode", {}, NOW)) is None
    )
