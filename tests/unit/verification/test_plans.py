"""The plans of equipment.md §7.3 and the choice among them (§7.4)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from domain.catalogue.freshair.cards import CARDS as FRESHAIR
from domain.catalogue.plans import (
    CAUSES,
    FAMILY_PLAN,
    FAULTS,
    MEASURES,
    PLANS,
    named_plan,
    plan_for,
    plan_from_json,
    plan_to_json,
)
from domain.catalogue.registry import EQUIPMENT
from domain.errors import InvalidError, NotFoundError
from domain.verification.judge import MEASURES as MEASURED
from domain.verification.judge import judge
from domain.verification.windows import _DONE
from tests.unit.verification.traces import BATCH, FAU, SMM, changed, freshair, readings, soymilk, without

TABLE = {
    "soymilk:operator": (900, 2700, 300),
    "soymilk:heating": (900, 5400, 300),
    "soymilk:controller": (900, 5400, 300),
    "soymilk:motor": (900, 3600, 300),
    "soymilk:inlet": (900, 3600, 600),
    "soymilk:overflow": (900, 5400, 300),
    "soymilk:electrical": (3600, 7200, 300),
    "soymilk:acceptance": (900, 5400, 300),
    "freshair:filter": (900, 1800, 0),
    "freshair:fan": (3600, 9000, 0),
    "freshair:sensor": (1800, 3600, 0),
    "freshair:damper": (1800, 3600, 0),
    "freshair:ptc": (1800, 3600, 0),
    "freshair:acceptance": (900, 5400, 0),
}
SMM_ROWS = {
    "voltage", "heating_power", "phase_balance", "grind_power", "heat_rate", "boil_hold", "overflow_trips", "water_fill",
    "leak", "keep_warm", "alarms", "standby_power", "probe_alive",
}  # fmt: skip
FAU_ROWS = {
    "voltage", "fan_power", "fan_speed", "airflow", "filter_pressure", "pm25_efficiency", "supply_pm25", "sensors_alive",
    "co2", "supply_temp", "alarms",
}  # fmt: skip


@pytest.mark.parametrize("key", TABLE)
def test_durations_are_those_of_the_table(key: str) -> None:
    plan = PLANS[key]
    assert (plan.min_active_s, plan.cap_s, plan.rest_s) == TABLE[key]


def test_every_plan_has_every_row_of_its_type() -> None:
    for plan in PLANS.values():
        keys = [c.key for c in plan.criteria]
        assert (SMM_ROWS if plan.type == "soymilk" else FAU_ROWS) <= set(keys)
        assert len(keys) == len(set(keys))
        assert set(plan.required) <= set(keys)
        assert plan.done_when.keys() <= _DONE.keys()
        assert set(keys) - {"alarms"} <= MEASURED.keys()
        assert bool(plan.entries) == ("entry" in keys)


def test_channels_of_criteria_are_in_the_catalogue() -> None:
    for plan in PLANS.values():
        for criterion in plan.criteria:
            assert set(criterion.channels) <= EQUIPMENT[plan.type].channels.keys()


@pytest.mark.parametrize("key", PLANS)
def test_a_plan_survives_json(key: str) -> None:
    plan = PLANS[key]
    assert plan_from_json(plan_to_json(plan)) == plan
    assert plan_to_json(plan_from_json(plan_to_json(plan))) == plan_to_json(plan)


def test_the_copy_of_a_plan_replays_the_verdict() -> None:
    entries = {"switch": True, "insulation": 50.0, "forced_trip": 1.0, "cut_out": True}
    legs = [*BATCH, *BATCH[1:], *BATCH[1:]]
    traces = {
        "soymilk": (
            SMM,
            [soymilk(), soymilk(legs), without(soymilk(), "temp_c"), changed(soymilk(), lambda r: True, power_w=9.0)],
        ),
        "freshair": (FAU, [freshair(1900), freshair(3700, cin=20), changed(freshair(), lambda r: True, airflow_m3h=100.0)]),
    }  # fmt: skip
    for plan in PLANS.values():
        card, runs = traces[plan.type]
        for rows in runs:
            samples, copy = readings(rows, card), plan_from_json(plan_to_json(plan))
            assert judge(copy, card, samples, entries=entries) == judge(plan, card, samples, entries=entries)


def test_a_changed_limit_reaches_only_plans_copied_after_it() -> None:
    samples = readings(soymilk())
    plan = PLANS["soymilk:heating"]
    stricter = replace(
        plan,
        criteria=tuple(
            replace(c, limits={**c.limits, "low": 1.02}) if c.key == "heating_power" else c for c in plan.criteria
        ),
    )
    assert judge(plan, SMM, samples).outcome == "passed"
    assert judge(stricter, SMM, samples).outcome == "failed"


def test_every_measure_and_family_leads_to_a_plan_of_its_type() -> None:
    for measure in MEASURES.values():
        assert PLANS[measure.plan].type == measure.type
    for (equipment_type, _), key in FAMILY_PLAN.items():
        assert PLANS[key].type == equipment_type
    assert {f.type for f in FAULTS.values()} == {c.type for c in CAUSES.values()} == set(EQUIPMENT)
    assert len(FAULTS) == 19 + 16


@pytest.mark.parametrize(
    ("equipment_type", "family", "measure", "plan"),
    [
        ("soymilk", "heating", None, "soymilk:heating"),
        ("soymilk", "heating", "replace_element", "soymilk:heating"),
        ("soymilk", "lid", "close_lid", "soymilk:operator"),
        ("soymilk", "lid", "replace_element", "soymilk:heating"),  # the longer of the two
        ("soymilk", "heating", "reset_machine", "soymilk:heating"),  # a reset does not shorten the test of a heater
        ("soymilk", "heating", "dry_electrics", "soymilk:electrical"),
        ("soymilk", None, "replace_valve", "soymilk:inlet"),
        ("soymilk", None, None, "soymilk:operator"),
        ("freshair", "filter", None, "freshair:filter"),
        ("freshair", "filter", "repair_damper", "freshair:damper"),
        ("freshair", "fan", "replace_filter", "freshair:fan"),
        ("freshair", "connection", None, "freshair:operator"),
    ],
)
def test_measure_and_family_decide_the_plan(
    equipment_type: str, family: str | None, measure: str | None, plan: str
) -> None:
    card = SMM if equipment_type == "soymilk" else FAU
    assert plan_for(equipment_type, family, measure, card).key == plan


def test_large_fans_run_two_hours() -> None:
    large = replace(FRESHAIR["FAU-800D"], p_fan_w=(200.0, 501.0))
    assert plan_for("freshair", "fan", None, large).min_active_s == 7200
    assert plan_for("freshair", "fan", None, FRESHAIR["FAU-800D"]).min_active_s == 3600


def test_intermittent_faults_and_repeat_visits_run_an_hour_and_stay_on_probation() -> None:
    once, twice = (plan_for("soymilk", "heating", None, SMM, visits) for visits in (1, 2))
    assert (once.min_active_s, once.probation) == (900, False)
    assert (twice.min_active_s, twice.probation) == (3600, True)
    assert twice.cap_s > twice.min_active_s + twice.rest_s
    assert plan_for("soymilk", "heating", None, SMM, intermittent=True) == twice
    assert plan_for("freshair", "fan", None, replace(FAU, p_fan_w=(600.0,)), 3).min_active_s == 7200


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InvalidError, match="replace_moon"):
        plan_for("soymilk", None, "replace_moon", SMM)
    with pytest.raises(InvalidError):
        plan_for("soymilk", None, "replace_filter", SMM)
    with pytest.raises(NotFoundError, match="soymilk:heating"):
        named_plan("soymilk:moon")
