"""Every criterion of fresh-air units at its limits (equipment.md §7.2, §4, §7.5)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from domain.catalogue.freshair.efficiency import eta_min
from domain.catalogue.model import ModelCard
from domain.catalogue.plans import PLANS
from domain.detection.baseline import Baseline
from domain.verdicts import CriterionResult, CriterionState, Outcome, Verdict
from domain.verification.judge import judge
from tests.unit.verification.traces import (
    FAU,
    T0,
    Values,
    changed,
    freshair,
    hole,
    noise,
    rated,
    readings,
    without,
)

PASS, FAIL, NA = CriterionState.PASS, CriterionState.FAIL, CriterionState.NOT_ASSESSABLE


def run(rows: list[Values], plan: str = "freshair:filter", card: ModelCard = FAU, **given: object) -> Verdict:
    return judge(PLANS[plan], card, readings(rows, card), entries={"cut_out": True}, **given)  # type: ignore[arg-type]


def line(verdict: Verdict, key: str) -> CriterionResult:
    return next(c for c in verdict.criteria if c.key == key)


def scaled(channel: str, factor: float):  # type: ignore[no-untyped-def]
    return lambda row: float(row[channel]) * factor


def after(seconds: float, until: float = 1e9):  # type: ignore[no-untyped-def]
    return lambda row: seconds <= float(row["_t"]) < until


def every(row: Values) -> bool:
    return True


def levels(*stays: tuple[int, float]) -> list[Values]:
    """Rows of several levels one after the other; no start between them."""
    rows: list[Values] = []
    for level, seconds in stays:
        t = float(rows[-1]["_t"]) + 5 if rows else 0.0
        part = freshair(seconds, level=level)
        rows += [
            {**row, "_t": t + float(row["_t"]), "run_state": row["run_state"] if not rows else "running"}
            for row in part
        ]
    return rows


def test_a_healthy_unit_passes_when_900_s_are_over() -> None:
    verdict = run(freshair())
    assert (verdict.outcome, verdict.probation, verdict.decided_at) == (Outcome.PASSED, False, T0 + 900_000)
    assert {c.key for c in verdict.criteria if c.state is not PASS} == set()


@pytest.mark.parametrize(("factor", "state"), [(0.69, FAIL), (0.71, PASS), (1.19, PASS), (1.21, FAIL)])
def test_fan_power_of_a_small_fan(factor: float, state: CriterionState) -> None:
    verdict = run(changed(freshair(), every, power_w=scaled("power_w", factor)))
    assert line(verdict, "fan_power").state is state
    assert (verdict.outcome is Outcome.PASSED) == (state is PASS)


@pytest.mark.parametrize(("factor", "state"), [(1.14, PASS), (1.16, FAIL)])
def test_fan_power_above_300_w(factor: float, state: CriterionState) -> None:
    card = rated(FAU, p_fan_w=(100.0, 250.0, 400.0))
    rows = changed(freshair(card=card), every, power_w=scaled("power_w", factor))
    assert line(run(rows, card=card), "fan_power").state is state


def test_fan_power_against_the_units_own_baseline() -> None:
    weak = changed(freshair(), every, power_w=scaled("power_w", 0.75))
    assert line(run(weak), "fan_power").state is PASS
    assert line(run(weak, baseline=Baseline(pn_w={"running:3": 60.0})), "fan_power").state is FAIL


def test_power_of_the_heater_is_not_the_fans() -> None:
    rows = changed(freshair(), after(300, 700), ptc_on=True, power_w=1060.0, temp_supply_c=25.0)
    assert line(run(rows), "fan_power").value == pytest.approx(60, rel=0.02)


def test_every_level_that_ran_180_s_is_judged() -> None:
    rows = levels((1, 400), (3, 600))
    assert run(rows).outcome is Outcome.PASSED
    bad = changed(rows, lambda r: r["level"] == 1.0, power_w=scaled("power_w", 1.4))
    assert line(run(bad), "fan_power").state is FAIL


def test_the_highest_level_of_180_s_is_the_one_that_counts() -> None:
    rows = levels((1, 700), (3, 100), (1, 300))
    verdict = run(rows)
    assert "level 1" in line(verdict, "fan_speed").reason
    assert verdict.outcome is Outcome.PASSED


def test_the_highest_of_several_levels_is_judged() -> None:
    for rows in (levels((1, 500), (3, 600)), levels((3, 500), (1, 600))):
        assert "level 3" in line(run(rows), "fan_speed").reason


def test_the_fan_plan_wants_180_s_of_each_level_that_it_shows() -> None:
    assert run(levels((3, 3700)), "freshair:fan").outcome is Outcome.PASSED
    assert run(levels((2, 350), (3, 3700)), "freshair:fan").outcome is Outcome.PASSED
    assert run(levels((3, 2000), (2, 100), (3, 1900)), "freshair:fan").outcome is Outcome.INCONCLUSIVE


def test_an_unreported_level_makes_a_miss_not_assessable() -> None:
    assert run(without(freshair(), "level")).outcome is Outcome.PASSED
    slow = without(changed(freshair(), every, fan_supply_rpm=1500.0), "level")
    verdict = run(slow)
    assert line(verdict, "fan_speed").state is NA
    assert verdict.outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(("factor", "state"), [(0.89, FAIL), (0.91, PASS), (1.09, PASS), (1.11, FAIL)])
def test_fan_speed(factor: float, state: CriterionState) -> None:
    rows = changed(freshair(), every, fan_supply_rpm=scaled("fan_supply_rpm", factor))
    assert line(run(rows), "fan_speed").state is state


@pytest.mark.parametrize(("swing", "state"), [(0.04, PASS), (0.06, FAIL)])
def test_a_hunting_fan(swing: float, state: CriterionState) -> None:
    rows = freshair()
    for i, row in enumerate(rows):
        row["fan_supply_rpm"] = 2200.0 * (1 + (swing if i % 2 else -swing))
    verdict = run(rows)
    assert line(verdict, "fan_speed").state is state
    assert (verdict.outcome is Outcome.PASSED) == (state is PASS)


def test_a_change_of_level_is_not_hunting() -> None:
    rows = levels((1, 400), (3, 600))
    for row in rows:
        if 405 <= float(row["_t"]) < 425:
            row["fan_supply_rpm"] = 1200.0
    assert line(run(rows), "fan_speed").state is PASS


@pytest.mark.parametrize(("factor", "state"), [(0.89, FAIL), (0.91, PASS)])
def test_airflow(factor: float, state: CriterionState) -> None:
    rows = changed(freshair(), every, airflow_m3h=scaled("airflow_m3h", factor))
    assert line(run(rows), "airflow").state is state


def test_airflow_never_below_070_for_five_minutes() -> None:
    starved = changed(freshair(), after(300, 605), airflow_m3h=0.69 * 300)
    verdict = run(starved, "freshair:operator")
    assert (verdict.outcome, verdict.decided_at) == (Outcome.FAILED, T0 + 600_000)
    briefly = changed(freshair(), after(300, 600), airflow_m3h=0.69 * 300)
    assert line(run(briefly), "airflow").state is PASS


@pytest.mark.parametrize(
    ("plan", "share", "state"),
    [
        ("freshair:filter", 0.49, FAIL),
        ("freshair:filter", 0.51, PASS),
        ("freshair:filter", 1.19, PASS),
        ("freshair:filter", 1.21, FAIL),
        ("freshair:operator", 0.49, FAIL),
        ("freshair:operator", 1.21, PASS),
        ("freshair:operator", 2.45, PASS),
        ("freshair:operator", 2.51, FAIL),
    ],
)
def test_filter_pressure(plan: str, share: float, state: CriterionState) -> None:
    """dp_clean 80 Pa, dp_final 200 Pa; only after a filter change must it be that of a clean one."""
    rows = changed(freshair(), every, filter_dp_pa=80.0 * share, airflow_m3h=300.0)
    assert line(run(rows, plan), "filter_pressure").state is state


def test_pressure_is_brought_to_rated_flow() -> None:
    rows = freshair(level=1)  # 120 m³/h: 20 Pa across a clean filter
    assert line(run(rows), "filter_pressure").value == pytest.approx(80, rel=0.05)
    assert line(run(without(rows, "airflow_m3h")), "filter_pressure").state is FAIL  # uncorrected (§7.5)


TABLE = {
    0.90: (0.46, 0.63, 0.73, 0.78, 0.82, 0.85),
    0.95: (0.53, 0.69, 0.79, 0.83, 0.87, 0.91),
    0.99: (0.59, 0.74, 0.84, 0.88, 0.92, 0.95),
}


@pytest.mark.parametrize("eta", TABLE)
def test_the_efficiency_table_of_section_4(eta: float) -> None:
    found = [round(eta_min(cin, eta) + 1e-9, 2) for cin in (35, 50, 75, 100, 150, 300)]
    assert found == pytest.approx(TABLE[eta], abs=0.011)


@pytest.mark.parametrize(("eta", "state"), [(0.84, FAIL), (0.87, PASS), (0.2, FAIL)])
def test_efficiency_at_120(eta: float, state: CriterionState) -> None:
    """η_min(120) of a 0.95 unit is 0.852."""
    verdict = run(freshair(eta=eta))
    assert line(verdict, "pm25_efficiency").state is state
    assert (verdict.outcome is Outcome.PASSED) == (state is PASS)


def test_efficiency_counts_in_every_plan_where_it_was_measured() -> None:
    verdict = run(freshair(eta=0.3), "freshair:operator")
    assert verdict.outcome is Outcome.FAILED
    assert not line(verdict, "pm25_efficiency").required


@pytest.mark.parametrize(("cin", "probation"), [(20, True), (34, True), (40, True), (74, True), (76, False)])
def test_clean_air_and_a_weak_check_bring_probation(cin: float, probation: bool) -> None:
    rows = changed(freshair(cin=cin), every, pm25_in_ugm3=lambda r: cin + round(noise(int(r["_t"]), 0.9)))
    verdict = run(rows)
    assert (verdict.outcome, verdict.probation) == (Outcome.PASSED, probation)
    assert not run(rows, "freshair:operator").probation  # this plan does not ask for it
    assert run(rows, "freshair:operator", probation_wanted=True).probation


def test_a_weak_check_can_fail() -> None:
    assert run(freshair(cin=60, eta=0.3)).outcome is Outcome.FAILED


def test_clean_air_does_not_excuse_anything_else() -> None:
    assert run(changed(freshair(cin=20), every, filter_dp_pa=10.0)).outcome is Outcome.FAILED
    assert run(changed(freshair(cin=20), every, filter_life_pct=3.0)).outcome is Outcome.FAILED
    assert run(without(freshair(cin=20), "voltage_v")).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("plan", ["freshair:filter", "freshair:sensor", "freshair:damper", "freshair:acceptance"])
def test_plans_that_need_the_efficiency(plan: str) -> None:
    rows = freshair(2000)
    assert run(rows, plan).outcome is Outcome.PASSED
    assert run(without(rows, "pm25_in_ugm3"), plan).outcome is Outcome.INCONCLUSIVE
    assert run(rows, plan, card=rated(FAU, pm25_out_at="room")).outcome is Outcome.INCONCLUSIVE
    assert run(rows, plan, card=rated(FAU, eta_pm25=0.0)).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("plan", ["freshair:operator", "freshair:fan"])
def test_plans_that_do_not(plan: str) -> None:
    rows = freshair(3700)
    assert run(without(rows, "pm25_in_ugm3", "pm25_out_ugm3"), plan).outcome is Outcome.PASSED


def test_in_and_out_must_come_together() -> None:
    rows = freshair()
    for i, row in enumerate(rows):
        del row["pm25_in_ugm3" if i % 2 else "pm25_out_ugm3"]
    assert line(run(rows), "pm25_efficiency").state is NA
    rows = freshair()
    for row in rows[::2]:
        del row["pm25_out_ugm3"]
    assert line(run(rows), "pm25_efficiency").state is NA


@pytest.mark.parametrize(("above", "state"), [(9, PASS), (12, FAIL)])
def test_supply_air_of_the_last_five_minutes(above: float, state: CriterionState) -> None:
    dirty = changed(freshair(cin=25), after(500), pm25_out_ugm3=lambda r: float(r["pm25_in_ugm3"]) + above)
    assert line(run(dirty, "freshair:operator"), "supply_pm25").state is state
    earlier = changed(freshair(cin=25), after(0, 500), pm25_out_ugm3=lambda r: float(r["pm25_in_ugm3"]) + above)
    assert line(run(earlier, "freshair:operator"), "supply_pm25").state is PASS


@pytest.mark.parametrize("channel", ["pm25_in_ugm3", "pm25_out_ugm3"])
def test_a_sensor_that_stands_still_for_ten_minutes(channel: str) -> None:
    stuck = changed(freshair(), after(200, 805), **{channel: 60.0})
    assert (run(stuck).outcome, run(stuck).decided_at) == (Outcome.FAILED, T0 + 800_000)
    briefly = changed(freshair(), after(200, 800), **{channel: 60.0})
    assert "moved" in line(run(briefly), "sensors_alive").reason
    assert line(run(briefly), "sensors_alive").state is PASS


def test_a_sensor_that_stands_still_beside_its_partner_is_excused() -> None:
    rows = changed(freshair(cin=8, eta=0.5), every, pm25_out_ugm3=4.0)
    assert line(run(rows), "sensors_alive").state is PASS


def test_co2_needs_usable_samples() -> None:
    assert line(run(freshair()), "co2").state is PASS
    given = [
        replace(r, values={k: v for k, v in r.values.items() if k != "co2_in_ppm"}, rejected={"co2_in_ppm": 250.0})
        for r in readings(freshair(), FAU)
    ]
    verdict = judge(PLANS["freshair:operator"], FAU, given)
    assert (verdict.outcome, line(verdict, "co2").required) == (Outcome.INCONCLUSIVE, True)


@pytest.mark.parametrize("celsius", [4.9, 45.1])
def test_supply_temperature(celsius: float) -> None:
    rows = freshair()
    rows[100]["temp_supply_c"] = celsius
    assert run(rows).decided_at == T0 + 500_000
    rows = freshair()
    rows[20]["temp_supply_c"] = celsius  # within the first 120 s
    assert run(rows).outcome is Outcome.PASSED


@pytest.mark.parametrize(("rise", "outcome"), [(3.2, "passed"), (2.8, "failed")])
def test_the_heater_must_warm_the_air(rise: float, outcome: str) -> None:
    warm = changed(
        freshair(2000),
        after(200, 900),
        ptc_on=True,
        temp_supply_c=lambda r: float(r["temp_out_c"]) + rise,
        power_w=1060.0,
    )
    assert run(warm, "freshair:ptc").outcome == outcome
    assert run(warm, "freshair:operator").outcome == outcome


def test_the_ptc_plan_wants_to_see_the_heater_and_the_cut_out() -> None:
    rows = freshair(2000)
    assert run(rows, "freshair:ptc").outcome is Outcome.INCONCLUSIVE
    warm = readings(changed(rows, after(200, 900), ptc_on=True, power_w=1060.0), FAU)
    assert judge(PLANS["freshair:ptc"], FAU, warm, entries={"cut_out": True}).outcome is Outcome.PASSED
    assert judge(PLANS["freshair:ptc"], FAU, warm).outcome is Outcome.INCONCLUSIVE
    assert judge(PLANS["freshair:ptc"], FAU, warm, entries={"cut_out": False}).outcome is Outcome.FAILED


def test_the_ptc_plan_judges_the_fan_by_180_s_without_the_heater_and_says_so() -> None:
    heated = changed(freshair(2400), lambda r: True, ptc_on=True, power_w=1060.0, temp_supply_c=25.0)
    never_off = judge(PLANS["freshair:ptc"], FAU, readings(heated, FAU), entries={"cut_out": True})
    assert never_off.outcome is Outcome.INCONCLUSIVE
    assert "fan_power: 0 s of fan power at level 3 without the heater, 180 s needed" in never_off.reasons
    alone = {"ptc_on": False, "power_w": FAU.p_fan_w[2], "temp_supply_c": 16.0}
    shown = changed(heated, after(2000, 2200), **alone)
    assert judge(PLANS["freshair:ptc"], FAU, readings(shown, FAU), entries={"cut_out": True}).outcome is Outcome.PASSED
    worn = changed(heated, after(2000, 2200), **(alone | {"power_w": 1.5 * FAU.p_fan_w[2]}))
    assert judge(PLANS["freshair:ptc"], FAU, readings(worn, FAU), entries={"cut_out": True}).outcome is Outcome.FAILED


@pytest.mark.parametrize("channel", ["power_w", "fan_supply_rpm"])
@pytest.mark.parametrize(("change", "outcome"), [(1.04, "passed"), (1.06, "failed"), (0.94, "failed")])
def test_fan_drift(channel: str, change: float, outcome: str) -> None:
    rows = changed(freshair(3700), after(2450), **{channel: scaled(channel, change)})
    assert run(rows, "freshair:fan").outcome == outcome


@pytest.mark.parametrize(("life", "outcome"), [(100.0, "passed"), (97.0, "failed")])
def test_the_filter_counter_was_reset(life: float, outcome: str) -> None:
    assert run(changed(freshair(), every, filter_life_pct=life)).outcome == outcome
    late = changed(freshair(1700), after(0, 700), filter_life_pct=2.0)
    assert run(late).outcome is Outcome.PASSED
    assert run(hole(late, 600, 100)).outcome is Outcome.PASSED  # no window was complete before the reset


def test_the_filter_counter_is_checked_where_it_is_reported() -> None:
    assert run(without(freshair(), "filter_life_pct")).outcome is Outcome.PASSED


def test_a_dead_fan_fails_by_its_alarm() -> None:
    rows = changed(freshair(), after(400), fan_supply_rpm=0.0, airflow_m3h=0.0, power_w=3.0)
    verdict = run(rows)
    assert line(verdict, "alarms").state is FAIL
    assert verdict.decided_at is not None
    assert 400_000 < verdict.decided_at - T0 <= 480_000


def test_the_first_120_s_after_each_start_are_left_out() -> None:
    rows = changed(freshair(1100), after(300, 330), run_state="standby", level=0.0, power_w=3.0)
    rows = changed(rows, after(330, 445), fan_supply_rpm=1000.0, airflow_m3h=120.0)
    assert line(run(rows), "fan_speed").state is PASS
    assert line(run(rows), "fan_speed").value == pytest.approx(2200, rel=0.01)


@pytest.mark.parametrize(
    "state", ["test", "defrost", "filter_service", "paused", "standby", "off", "fault", "sleepwalk"]
)
def test_only_running_counts(state: str) -> None:
    assert run(changed(freshair(), every, run_state=state)).outcome is Outcome.INCONCLUSIVE
