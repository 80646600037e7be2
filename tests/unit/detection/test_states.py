"""State inference: what is reported wins; else power, water and temperature tell."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from domain.catalogue.model import ModelCard
from domain.clock import to_ms
from domain.detection.engine import Detector
from domain.detection.states import StateInference
from domain.readings import Reading
from tests.unit.detection.traces import FAU, SMM, SMM_60, T0, Trace

SAMPLES = Path(os.environ.get("BREWAIR_SAMPLES", Path(__file__).parents[4] / "shared" / "data"))
DISHWASHER = SAMPLES / "tracebase-dishwasher-995BAC-2012-06-11.csv"


def states(readings: list[Reading] | Trace, card: ModelCard = SMM) -> list[str]:
    inference = StateInference(card)
    return [inference.step(reading) for reading in readings]


def spans(names: list[str]) -> list[tuple[str, int]]:
    out: list[tuple[str, int]] = []
    for name in names:
        out[-1:] = [(name, out[-1][1] + 1)] if out and out[-1][0] == name else [*out[-1:], (name, 1)]
    return out


@pytest.fixture(scope="module")
def dishwasher() -> list[Reading]:
    if not DISHWASHER.exists():
        pytest.skip(f"no recorded trace {DISHWASHER}")
    readings = []
    for line in DISHWASHER.read_text().splitlines():
        at, watts, _ = line.split(";")
        moment = datetime.strptime(at, "%d/%m/%Y %H:%M:%S").replace(tzinfo=UTC)
        readings.append(Reading("D1", "soymilk", to_ms(moment), {"power_w": float(watts)}))
    return readings


def test_a_real_dishwasher_fills_heats_pumps_and_rests(dishwasher: list[Reading]) -> None:
    card = ModelCard(key="dishwasher", type="soymilk", p_heat_w=2083, p_motor_w=125)
    detector = Detector(card, "D1")
    found, seconds, said = [], {}, {}
    for reading in dishwasher:
        found += detector.fold(reading)
        clock = datetime.fromtimestamp(reading.ts / 1000, UTC).strftime("%H:%M")
        said[clock] = detector.state
        seconds[detector.state] = seconds.get(detector.state, 0) + 1
    assert found == []
    assert {said[m] for m in ("14:05", "14:15", "14:25", "14:45", "15:05")} == {"heating"}
    assert {said[m] for m in ("14:28", "14:30", "14:36", "14:38")} == {"grinding"}
    assert {said[m] for m in ("03:00", "13:00", "15:30", "23:00")} == {"standby"}
    assert set(seconds) == {"filling", "heating", "grinding", "standby"}
    # the heater ran 1530 s and 1505 s; the file misses one second in twenty-five
    assert 2800 <= seconds["heating"] <= 3060


def test_a_reported_state_wins() -> None:
    trace = Trace().phase(30, {"run_state": "soaking", "power_w": 6000.0})
    assert set(states(trace)) == {"soaking"}


def test_an_unknown_reported_state_is_no_state() -> None:
    trace = Trace().phase(30, {"run_state": "brewing", "power_w": 6000.0})
    assert set(states(trace)) == {"heating"}


def test_a_lost_element_is_still_heating() -> None:
    trace = Trace().phase(60, {"power_w": 8.0}).phase(300, {"power_w": 4000.0})
    assert spans(states(trace)) == [("standby", 14), ("heating", 58)]


def test_a_sag_of_the_mains_is_normalised() -> None:
    # 1300 W at 187 V are 1799 W at 220 V: between the motor's 1.3×1500 and a fifth of the heater's 6000
    quiet = Trace().phase(60, {"power_w": 1400.0, "voltage_v": 187.0})
    inference = StateInference(SMM)
    for reading in quiet:
        inference.step(reading)
    assert inference.pn == pytest.approx(1400 * (220 / 187) ** 2)


def test_a_voltage_of_its_own_object_normalises_the_next_power() -> None:
    inference = StateInference(SMM)
    inference.step(Reading("M1", "soymilk", T0, {"voltage_v": 200.0}))
    inference.step(Reading("M1", "soymilk", T0 + 30_000, {"power_w": 5000.0}))
    assert inference.pn == pytest.approx(5000 * (220 / 200) ** 2)
    inference.step(Reading("M1", "soymilk", T0 + 200_000, {"power_w": 5000.0}))
    assert inference.pn == 5000.0


def test_phase_voltage_against_neutral_is_understood() -> None:
    inference = StateInference(SMM_60)
    inference.step(Reading("M1", "soymilk", T0, {"voltage_v": 219.4, "power_w": 9000.0}))
    assert inference.pn == pytest.approx(9000, rel=1e-3)


def test_the_cycle_by_power_water_and_temperature() -> None:
    trace = Trace()
    trace.phase(60, {"power_w": 8.0, "water_flow_lpm": 0.0, "temp_c": 20.0})
    trace.phase(120, {"power_w": 20.0, "water_flow_lpm": 6.0, "temp_c": 20.0})
    trace.phase(90, {"power_w": 1500.0, "water_flow_lpm": 0.0, "temp_c": 22.0})
    for i in range(120):
        trace.sample({"power_w": 6000.0, "water_flow_lpm": 0.0, "temp_c": 22.0 + i * 75 / 120})
    for i in range(72):
        trace.sample({"power_w": 6000.0 if i % 8 < 4 else 8.0, "water_flow_lpm": 0.0, "temp_c": 99.0})
    trace.phase(600, {"power_w": 8.0, "water_flow_lpm": 0.0, "temp_c": 85.0})
    for _ in range(3):
        trace.phase(30, {"power_w": 6000.0, "temp_c": 80.0}).phase(270, {"power_w": 8.0, "temp_c": 81.0})
    trace.phase(600, {"power_w": 8.0, "water_flow_lpm": 0.0, "temp_c": 50.0})
    trace.phase(60, {"power_w": 1500.0, "water_flow_lpm": 5.0, "temp_c": 30.0})
    names = [name for name, count in spans(states(trace))]
    assert names == [
        "standby", "filling", "grinding", "heating", "boil_hold", "standby", "keep_warm", "standby", "cleaning",
    ]  # fmt: skip


def test_thermostat_cycling_without_a_probe_is_boil_hold() -> None:
    trace = Trace().phase(60, {"power_w": 8.0}).phase(600, {"power_w": 6000.0})
    for i in range(120):
        trace.sample({"power_w": 6000.0 if i % 8 < 4 else 8.0})
    trace.phase(300, {"power_w": 8.0})
    assert (states(trace)[120], states(trace)[-100], states(trace)[-1]) == ("heating", "boil_hold", "standby")


def test_a_motor_near_its_own_power_is_grinding_even_where_a_heater_could_be() -> None:
    # SMM-60: 2200 W is its motor, and more than a fifth of its 9000 W heater
    trace = Trace().phase(60, {"power_w": 10.0}).phase(60, {"power_w": 2210.0})
    assert states(trace, SMM_60)[-1] == "grinding"


def test_a_spike_does_not_change_the_state() -> None:
    trace = Trace().phase(60, {"power_w": 8.0}).phase(5, {"power_w": 6000.0}).phase(60, {"power_w": 8.0})
    assert set(states(trace)) == {"standby"}


def test_a_missing_power_changes_nothing() -> None:
    trace = Trace().phase(60, {"power_w": 6000.0}).phase(60, {"temp_c": 50.0})
    assert states(trace)[-1] == "heating"


def test_a_fresh_air_unit_by_power() -> None:
    trace = Trace("freshair").phase(60, {"power_w": 3.0}).phase(60, {"power_w": 35.0}).phase(60, {"power_w": 0.5})
    names = states(trace, FAU)
    assert (names[5], names[20], names[-1]) == ("standby", "running", "off")


def test_a_fan_that_is_commanded_on_but_draws_nothing_is_running() -> None:
    trace = Trace("freshair").phase(60, {"power_w": 3.0, "level": 2.0})
    assert states(trace, FAU)[-1] == "running"


def test_an_electric_heater_is_preheating() -> None:
    trace = Trace("freshair").phase(60, {"power_w": 900.0, "level": 2.0})
    assert states(trace, FAU)[-1] == "preheating"


def test_memory_survives_json() -> None:
    trace = Trace().phase(60, {"power_w": 8.0}).phase(300, {"power_w": 6000.0})
    for i in range(60):
        trace.sample({"power_w": 6000.0 if i % 8 < 4 else 8.0})
    whole = states(trace)
    first = StateInference(SMM)
    for reading in trace.readings[:100]:
        first.step(reading)
    second = StateInference(SMM)
    second.restore(first.dump())
    assert [second.step(reading) for reading in trace.readings[100:]] == whole[100:]


def test_no_supply_normalises_nothing() -> None:
    inference = StateInference(SMM)
    inference.step(Reading("M1", "soymilk", T0, {"power_w": 8.0, "voltage_v": 5.0}))
    assert inference.pn == 8.0


def test_a_slow_feed_is_believed_at_once_and_a_fast_one_after_ten_seconds() -> None:
    slow = Trace(step_s=300).phase(900, {"power_w": 8.0}).phase(900, {"power_w": 6000.0})
    assert states(slow) == ["standby"] * 3 + ["heating"] * 3
    fast = Trace(step_s=1).phase(60, {"power_w": 8.0}).phase(60, {"power_w": 6000.0})
    assert spans(states(fast)) == [("standby", 70), ("heating", 50)]


@pytest.mark.parametrize(("ripple", "expected"), [(0.0, "heating"), (250.0, "grinding")])
def test_ripple_tells_a_motor_from_a_heater_of_the_same_power(ripple: float, expected: str) -> None:
    # SMM-60: 2650 W may be its motor under load, or the rest of its heater
    trace = Trace().phase(60, {"power_w": 10.0})
    for i in range(24):
        trace.sample({"power_w": 2650.0 + (ripple if i % 2 else -ripple) / 2 * (1 + i % 3)})
    assert states(trace, SMM_60)[-1] == expected


def test_heating_twice_within_ten_minutes_is_not_boil_hold() -> None:
    trace = Trace().phase(60, {"power_w": 8.0})
    for _ in range(2):
        trace.phase(60, {"power_w": 6000.0}).phase(280, {"power_w": 8.0})
    trace.phase(60, {"power_w": 6000.0})
    assert "boil_hold" not in states(trace)


def test_a_heater_that_is_nearly_always_on_heats() -> None:
    trace = Trace().phase(60, {"power_w": 8.0})
    for _ in range(8):
        trace.phase(85, {"power_w": 6000.0}).phase(15, {"power_w": 8.0})
    assert "boil_hold" not in states(trace)


def test_water_while_grinding_is_cleaning_only_after_a_heat() -> None:
    wet = {"power_w": 1500.0, "water_flow_lpm": 4.0, "temp_c": 25.0}
    assert states(Trace().phase(60, {"power_w": 8.0}).phase(60, wet))[-1] == "grinding"


def test_an_open_lid_pauses_what_was_running() -> None:
    trace = Trace().phase(60, {"power_w": 8.0, "lid_open": True}).phase(120, {"power_w": 1500.0, "lid_open": False})
    trace.phase(60, {"power_w": 8.0, "lid_open": True}).phase(60, {"power_w": 8.0, "lid_open": False})
    assert [name for name, _ in spans(states(trace))] == ["standby", "grinding", "paused", "standby"]


def test_commands_win_over_what_the_power_looks_like() -> None:
    rest = Trace().phase(60, {"power_w": 10.0})
    assert states(rest.phase(60, {"power_w": 2210.0, "motor_on": False}), SMM_60)[-1] == "heating"
    rest = Trace().phase(60, {"power_w": 10.0})
    assert states(rest.phase(60, {"power_w": 2700.0, "heater_on": False}), SMM_60)[-1] == "grinding"
    rest = Trace().phase(60, {"power_w": 8.0})
    assert states(rest.phase(60, {"power_w": 8.0, "heater_on": True}))[-1] == "heating"
    rest = Trace().phase(60, {"power_w": 8.0})
    assert states(rest.phase(60, {"power_w": 8.0, "motor_on": True}))[-1] == "grinding"
    rest = Trace().phase(60, {"power_w": 8.0})
    assert states(rest.phase(60, {"power_w": 8.0, "inlet_valve": True, "water_flow_lpm": 0.0}))[-1] == "filling"
    assert states(Trace().phase(60, {"power_w": 8.0}).phase(60, {"heater_on": True}))[-1] == "heating"
