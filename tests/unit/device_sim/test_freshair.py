"""The fresh-air unit: fan against filter, dust through the filter, sensors within their error."""

from __future__ import annotations

import random
from statistics import median, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_sim.faults import fault_named, inflict, mend
from device_sim.profiles import CARDS
from device_sim.profiles.freshair import DustSensor, FreshAir, flow_share
from device_sim.site import OutdoorAir, Site
from domain.catalogue.freshair.channels import CHANNELS, STATES
from domain.readings import Value
from tests.unit.device_sim.machines import START, freshair


def run(unit: FreshAir, minutes: float, now_ms: int = START) -> int:
    """Half-minute steps; returns the time afterwards."""
    for _ in range(round(minutes * 2)):
        unit.step(now_ms, 30_000)
        now_ms += 30_000
    return now_ms


def number(sample: dict[str, Value], key: str) -> float:
    """A channel as a float."""
    return float(sample[key])


@given(st.floats(0.05, 6.0), st.floats(0.05, 6.0))
def test_more_resistance_never_lets_more_air_through(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert flow_share(low) >= flow_share(high)


def test_a_clean_filter_passes_the_rated_airflow() -> None:
    assert flow_share(1.0) == pytest.approx(1.0, abs=1e-6)
    assert flow_share(0.12) > 1.1
    assert 0.6 < flow_share(3.0) < 0.8


@pytest.mark.parametrize("level", [1, 2, 3])
def test_each_level_runs_at_its_nameplate(level: int) -> None:
    unit = freshair(level=level)
    now = run(unit, 10)
    sample = unit.sample(now)
    card = unit.card
    assert sample["run_state"] == "running"
    assert sample["level"] == level
    assert number(sample, "power_w") == pytest.approx(card.p_fan_w[level - 1], rel=0.08)
    assert number(sample, "fan_supply_rpm") == pytest.approx(card.rpm[level - 1], rel=0.04)
    assert number(sample, "airflow_m3h") == pytest.approx(card.airflow_m3h[level - 1], rel=0.08)


def test_it_starts_for_a_minute_then_runs() -> None:
    unit = freshair()
    unit.step(START, 5000)
    assert unit.state == "starting"
    run(unit, 2, START + 5000)
    assert unit.state == "running"
    assert {"starting", "running", "standby", "off"} <= set(STATES)


def test_clogging_raises_pressure_with_the_flow_law_and_lowers_airflow() -> None:
    unit = freshair()
    now = run(unit, 10)
    clean_dp, clean_flow, clean_resistance = unit.dp_pa, unit.airflow_m3h, unit.resistance
    inflict(fault_named("filter_clogged", "freshair"), unit)
    run(unit, 120, now)
    corrected = unit.dp_pa * (clean_flow / unit.airflow_m3h) ** 1.5
    assert corrected / clean_dp == pytest.approx(unit.resistance / clean_resistance, rel=1e-6)
    assert corrected / clean_dp > 2.0
    assert unit.airflow_m3h < 0.85 * clean_flow


def test_a_new_filter_resets_life_and_pressure() -> None:
    unit = freshair()
    fault = fault_named("filter_clogged", "freshair")
    inflict(fault, unit)
    now = run(unit, 60)
    mend(fault, unit)
    now = run(unit, 5, now)
    assert unit.resistance == pytest.approx(1.0, abs=1e-3)
    assert unit.sample(now)["filter_life_pct"] == 100.0


@pytest.mark.parametrize("model", ["FAU-150", "FAU-300", "FAU-800D"])
def test_a_healthy_filter_holds_its_nameplate_efficiency(model: str) -> None:
    unit = freshair(model)
    run(unit, 20)
    efficiency = 1.0 - unit.pm25_supply / 150.0
    assert efficiency == pytest.approx(unit.card.eta_pm25, abs=0.02)


def test_without_a_filter_the_dust_comes_through_and_the_pressure_is_gone() -> None:
    unit = freshair()
    now = run(unit, 10)
    clean_dp = unit.dp_pa
    inflict(fault_named("filter_missing", "freshair"), unit)
    run(unit, 10, now)
    assert unit.pm25_supply > 0.9 * 150.0
    assert unit.dp_pa < 0.3 * clean_dp


def test_a_dead_fan_moves_nothing_and_draws_standby_power() -> None:
    unit = freshair()
    now = run(unit, 10)
    inflict(fault_named("fan_dead", "freshair"), unit)
    now = run(unit, 1, now)
    sample = unit.sample(now)
    assert sample["run_state"] == "running"
    assert sample["level"] == 3.0
    assert (sample["airflow_m3h"], sample["fan_supply_rpm"], sample["filter_dp_pa"]) == (0.0, 0.0, 0.0)
    assert number(sample, "power_w") == pytest.approx(unit.card.p_standby_w, abs=1.0)


def test_a_stuck_sensor_repeats_itself_while_the_other_lives() -> None:
    unit = freshair(pm25=None)
    now = run(unit, 10)
    unit.sample(now)
    inflict(fault_named("pm_sensor_stuck", "freshair"), unit)
    ins, outs = set(), set()
    for _ in range(60):
        now = run(unit, 1, now)
        sample = unit.sample(now)
        ins.add(sample["pm25_in_ugm3"])
        outs.add(sample["pm25_out_ugm3"])
    assert len(outs) == 1
    assert len(ins) > 5


def test_swapped_sensors_report_dirty_air_behind_the_filter() -> None:
    unit = freshair()
    now = run(unit, 10)
    inflict(fault_named("sensors_swapped", "freshair"), unit)
    sample = unit.sample(now)
    assert number(sample, "pm25_out_ugm3") > number(sample, "pm25_in_ugm3") + 50


@given(st.integers(0, 10_000), st.floats(0.0, 900.0))
def test_a_dust_sensor_stays_within_its_data_sheet(seed: int, true: float) -> None:
    rng, card = random.Random(seed), CARDS["freshair"]["FAU-300"]
    sensor = DustSensor.made(rng)
    for _ in range(20):
        read = sensor.read(true, card, rng)
        assert abs(read - true) <= max(10.0, 0.1 * true) + 0.5, "half a unit is the rounding"
        assert read >= 0.0


def test_the_worst_specimen_is_held_to_its_data_sheet_too() -> None:
    card, rng = CARDS["freshair"]["FAU-300"], random.Random(1)
    reads = [DustSensor(gain=0.06, offset=4.0).read(100.0, card, rng) for _ in range(500)]
    assert max(reads) == 110.0


def test_a_dust_sensor_has_a_bias_of_its_own_and_noise() -> None:
    card = CARDS["freshair"]["FAU-300"]
    means = []
    for seed in range(20):
        rng = random.Random(seed)
        sensor = DustSensor.made(rng)
        reads = [sensor.read(150.0, card, rng) for _ in range(100)]
        assert pstdev(reads) > 0.5
        means.append(median(reads))
    assert pstdev(means) > 2.0


def test_outdoor_air_is_the_same_for_a_site_and_moves_around_its_median() -> None:
    site = Site(name="a", pm25_median=72.0, seed=3)
    one, other = OutdoorAir(site), OutdoorAir(site)
    hours = [START + h * 3_600_000 for h in range(24 * 60)]
    values = [one.pm25(t) or 0.0 for t in hours]
    assert values == [other.pm25(t) for t in hours]
    assert median(values) == pytest.approx(72.0, rel=0.25)
    assert min(values) < 45.0
    assert max(values) > 110.0


def test_a_hole_in_the_recorded_air_leaves_both_dust_channels_out() -> None:
    unit = freshair()
    unit.outdoor.series = lambda now_ms: None
    now = run(unit, 5)
    assert "pm25_in_ugm3" not in unit.sample(now)
    assert "pm25_out_ugm3" not in unit.sample(now)


def test_people_raise_co2_and_air_lowers_it() -> None:
    weak, strong = freshair(level=1), freshair(level=3)
    for unit in (weak, strong):
        run(unit, 600)
    assert weak.co2_ppm > strong.co2_ppm > 420.0


def test_the_levels_program_shows_each_level_then_stays_at_the_top() -> None:
    unit = freshair(level=1)
    unit.start_test("levels", START)
    now, seen = START, {}
    for _ in range(300):
        unit.step(now, 5000)
        now += 5000
        seen[unit.level] = seen.get(unit.level, 0) + 5
    assert set(seen) == {1, 2, 3}
    assert min(seen.values()) >= 180
    assert unit.level == 3
    unit.end_test()
    run(unit, 1, now)
    assert unit.level == 1


def test_samples_are_channels_of_the_catalogue_within_their_ranges() -> None:
    unit = freshair(level=None, pm25=None)
    now = START
    for _ in range(100):
        now = run(unit, 15, now)
        for key, value in unit.sample(now).items():
            channel = CHANNELS[key]
            assert type(value) is {"float": float, "str": str, "bool": bool}[channel.kind], key
            assert channel.low is None or float(value) >= channel.low, key
            assert channel.high is None or float(value) <= channel.high, key
