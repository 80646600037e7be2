"""The soy-milk machine obeys its balances of litres, watts and joules."""

from __future__ import annotations

from dataclasses import replace
from statistics import median
from typing import Any

import pytest

from device_sim.profiles import CARDS
from device_sim.profiles.soymilk import Soymilk
from device_sim.profiles.soymilk_programs import Phase
from device_sim.site import Site
from domain.catalogue.model import ModelCard
from domain.catalogue.soymilk.channels import CHANNELS, STATES
from tests.unit.device_sim.machines import SITE, START, machine, objects, soymilk

HEATING = (Phase("heating"), Phase("boil_hold"))
BIG = replace(CARDS["soymilk"]["SMM-60"], key="SMM-100", p_heat_w=12_000, batch_l=100)


def run(physics: Soymilk, seconds: int, now_ms: int = START) -> int:
    """Step second by second; returns the time afterwards."""
    for _ in range(seconds):
        physics.step(now_ms, 1000)
        now_ms += 1000
    return now_ms


def heat_up(physics: Soymilk, litres: float, until_c: float = 98.0) -> tuple[float, float]:
    """Minutes from 20 °C to ``until_c`` and the mean power on the way, in W."""
    physics.volume_l, physics.temp_c = litres, 20.0
    physics.begin("heat", HEATING)
    seconds, joules, now = 0, 0.0, START
    while physics.temp_c < until_c:
        now = run(physics, 1, now)
        seconds += 1
        joules += physics.heat_w
    return seconds / 60.0, joules / seconds


@pytest.mark.parametrize(
    ("card", "minutes"),
    [
        (CARDS["soymilk"]["SMM-10"], 26.0),
        (CARDS["soymilk"]["SMM-25"], 24.0),
        (CARDS["soymilk"]["SMM-60"], 38.0),
        (BIG, 48.0),
    ],
    ids=lambda x: x.key if isinstance(x, ModelCard) else str(x),
)
def test_a_full_batch_boils_in_the_time_of_the_worked_table(card: ModelCard, minutes: float) -> None:
    needed, power = heat_up(soymilk(card), card.batch_l)
    at_rated_power = needed * power / card.p_heat_w
    assert at_rated_power == pytest.approx(minutes, rel=0.05)


def test_power_follows_the_square_of_the_voltage() -> None:
    normal, low = soymilk(), soymilk()
    low.condition.mains_factor = 0.9
    for physics in (normal, low):
        physics.volume_l = 18.0
        physics.begin("heat", HEATING)
        run(physics, 30)
    assert low.heat_w / normal.heat_w == pytest.approx((low.voltage_v / normal.voltage_v) ** 2, rel=1e-3)
    assert low.voltage_v / normal.voltage_v == pytest.approx(0.9, abs=0.005)


def test_one_of_three_elements_takes_a_third_of_power_and_one_phase_current() -> None:
    physics = soymilk()
    physics.volume_l = 18.0
    physics.begin("heat", HEATING)
    now = run(physics, 30)
    whole = physics.sample(now)
    physics.condition.elements_open = 1
    now = run(physics, 30, now)
    part = physics.sample(now)
    assert float(part["power_w"]) / float(whole["power_w"]) == pytest.approx(2 / 3, rel=0.02)
    assert float(part["current_a_a"]) < 0.1 * float(part["current_a_b"])
    assert float(whole["current_a_a"]) == pytest.approx(float(whole["current_a_b"]), rel=0.02)


def test_an_open_heater_gives_no_heat_and_the_board_gives_up_with_e4() -> None:
    physics = soymilk()
    physics.condition.heater_open = True
    physics.volume_l = 18.0
    physics.begin("heat", HEATING)
    run(physics, 60)
    assert physics.power_w == pytest.approx(physics.card.p_standby_w)
    run(physics, 3600)
    assert (physics.state, physics.fault_code) == ("fault", "E4")
    assert [notice.fault_code for notice in physics.notices()] == ["E4"]
    assert physics.notices() == []


def test_a_batch_runs_through_its_states_in_order(two_hours: list[dict[str, Any]]) -> None:
    states: list[str] = []
    for sample in two_hours:
        if not states or states[-1] != sample["run_state"]:
            states.append(sample["run_state"])
    assert states[:7] == ["standby", "filling", "grinding", "heating", "boil_hold", "filtering", "keep_warm"]
    assert states[-2:] == ["cleaning", "standby"]
    assert set(states) <= set(STATES)


def test_fill_is_the_target_and_the_meter_counts_it(two_hours: list[dict[str, Any]]) -> None:
    before = two_hours[0]["water_total_l"]
    filled = next(s["water_total_l"] for s in two_hours if s["run_state"] == "grinding") - before
    assert filled == pytest.approx(18.0, rel=0.02)
    flow = median(s["water_flow_lpm"] for s in two_hours if s["run_state"] == "filling")
    assert flow >= CARDS["soymilk"]["SMM-60"].fill_lpm_min


def test_it_boils_for_the_hold_time_with_a_pulsing_heater(two_hours: list[dict[str, Any]]) -> None:
    hold = [s for s in two_hours if s["run_state"] == "boil_hold"]
    assert hold[-1]["ts"] - hold[0]["ts"] >= 300_000
    assert min(s["temp_c"] for s in hold) >= SITE.boiling_c - 2.0
    duty = sum(s["heater_on"] for s in hold) / len(hold)
    assert 0.2 <= duty <= 0.7


def test_grinding_is_rough_and_its_inrush_is_over_in_two_seconds(two_hours: list[dict[str, Any]]) -> None:
    rated = CARDS["soymilk"]["SMM-60"].p_motor_w
    grind = [s for s in two_hours if s["run_state"] == "grinding"]
    begin = grind[0]["ts"]
    assert grind[0]["power_w"] > 1.5 * rated
    settled = [s["power_w"] for s in grind if s["ts"] - begin > 2000]
    assert 0.5 * rated <= median(settled) <= 1.15 * rated
    mean = sum(settled) / len(settled)
    spread = (sum((p - mean) ** 2 for p in settled) / len(settled)) ** 0.5
    assert spread / mean > 0.05


def test_keep_warm_stays_hot_on_a_low_duty() -> None:
    physics = soymilk()
    physics.volume_l, physics.temp_c, physics._probe_c = 40.0, 85.0, 85.0
    physics.begin("warm", [Phase("keep_warm", 4 * 3600)])
    now, on, coldest = START, 0, 100.0
    for _ in range(3 * 720):
        physics.step(now, 5000)
        now += 5000
        on += physics.heater_on
        coldest = min(coldest, physics.temp_c)
    assert coldest > 75.0
    assert 0.0 < on / (3 * 720) < 0.25


def test_no_water_fills_nothing_until_the_tap_opens() -> None:
    physics = soymilk(batches=(1,))
    physics.condition.tap_open = False
    now = run(physics, 300)
    total = physics.metered_l
    assert physics.state == "filling"
    assert physics.flow_lpm == 0.0
    assert physics.sample(now)["water_pressure_mpa"] == 0.0
    physics.condition.tap_open = True
    run(physics, 240, now)
    assert physics.metered_l - total == pytest.approx(18.0, rel=0.02)


def test_an_open_lid_cuts_everything_and_pauses_the_program() -> None:
    physics = soymilk(batches=(1,), site=replace(SITE, tap_mpa=0.3))
    now = run(physics, 400)
    assert physics.state == "heating"
    physics.condition.lid_closed = False
    now = run(physics, 60, now)
    assert physics.state == "paused"
    assert physics.power_w == pytest.approx(physics.card.p_standby_w)
    physics.condition.lid_closed = True
    run(physics, 2, now)
    assert physics.state == "heating"


def test_a_locked_rotor_draws_thrice_its_rating_until_the_protector_opens() -> None:
    physics = soymilk(batches=(1,))
    physics.condition.motor_jammed = True
    now = run(physics, 5)
    while physics.state != "grinding":
        now = run(physics, 1, now)
    now = run(physics, 60, now)
    assert physics.motor_w == pytest.approx(3.0 * physics.card.p_motor_w)
    run(physics, 60, now)
    assert physics.state == "grinding"
    assert physics.motor_w == 0.0


def test_a_dirty_electrode_conducts_in_the_cold_and_stops_the_heater_with_e3() -> None:
    physics = soymilk(batches=(1,))
    physics.condition.electrode_dirty = True
    now = START
    assert physics.sample(now)["overflow_electrode"] is True
    while physics.state != "fault":
        now = run(physics, 1, now)
        assert physics.heat_w == 0.0
        assert now - START < 3_600_000
    assert physics.fault_code == "E3"
    physics.condition.electrode_dirty = False
    run(physics, 1, now)
    assert physics.state == "standby"


def test_a_stuck_valve_leaks_at_rest() -> None:
    physics = soymilk()
    physics.condition.inlet_stuck = True
    before = physics.metered_l
    run(physics, 600)
    assert not physics.inlet_valve
    assert physics.metered_l - before == pytest.approx(4.0, rel=0.05)
    assert physics.volume_l == 0.0, "runs off through the open drain"


def test_without_mains_nothing_works_and_the_pot_cools() -> None:
    physics = soymilk(batches=(1,))
    physics.volume_l, physics.temp_c = 30.0, 90.0
    physics.condition.powered = False
    run(physics, 1800)
    assert (physics.power_w, physics.voltage_v, physics.flow_lpm) == (0.0, 0.0, 0.0)
    assert 70.0 < physics.temp_c < 88.0


def test_water_boils_earlier_on_a_mountain() -> None:
    site = Site(name="Kunming", altitude_m=1890.0, tap_c=20.0)
    samples = objects(machine(soymilk(batches=(60,), site=site), interval_s=5).advance(START + 2_400_000))
    hold = [s["temp_c"] for s in samples if s["run_state"] == "boil_hold"]
    assert hold
    assert site.boiling_c == pytest.approx(93.7)
    assert median(hold) == pytest.approx(93.7, abs=0.7)


@pytest.mark.parametrize("program", ["cycle", "grinds", "fills", "full"])
def test_every_test_program_boils_what_it_ground_and_comes_to_rest(program: str) -> None:
    physics = soymilk("SMM-25")
    physics.start_test(program, START)
    states, now = [physics.state], START
    while physics.state != "standby":
        now = run(physics, 1, now)
        if states[-1] != physics.state:
            states.append(physics.state)
        assert now - START < 5_400_000
    assert states.index("boil_hold") > states.index("heating") > states.index("grinding")
    assert states.count("grinding") == (3 if program == "grinds" else 1)
    assert states.count("filling") == (2 if program == "fills" else 1)
    assert now - START >= 900_000


def test_samples_are_channels_of_the_catalogue_within_their_ranges(two_hours: list[dict[str, Any]]) -> None:
    for sample in two_hours:
        for key, value in sample.items():
            if key in ("ts", "boot", "seq"):
                continue
            channel = CHANNELS[key]
            assert type(value) is {"float": float, "str": str, "bool": bool}[channel.kind], key
            if channel.low is not None:
                assert value >= channel.low, key
            if channel.high is not None:
                assert value <= channel.high, key


def test_a_test_that_must_be_active_for_longer_keeps_warm_for_longer() -> None:
    physics = soymilk("SMM-10")
    physics.start_test("cycle", START, active_s=3600)
    now = START
    while physics.state != "standby":
        now = run(physics, 1, now)
        assert now - START < 5_400_000
    assert now - START == pytest.approx(3_600_000, abs=5_000)
