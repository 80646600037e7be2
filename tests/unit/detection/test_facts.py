"""Figures that are remembered over time: what makes them begin anew."""

from __future__ import annotations

from dataclasses import replace
from math import isnan

import pytest

from domain.catalogue.freshair.facts import FreshairFacts, RollingMedian
from domain.readings import Reading
from tests.unit.detection.traces import FAU, RUNNING, T0

MINUTE = 60_000


def breathing(facts: FreshairFacts, start: int, minutes: int, c_in: float, state: str = "running") -> FreshairFacts:
    for i in range(minutes * 2):
        values = {**RUNNING, "run_state": state, "pm25_in_ugm3": c_in, "pm25_out_ugm3": c_in / 10}
        facts.update(Reading("M1", "freshair", start + i * 30_000, values), state, 60.0)
    return facts


def test_a_card_of_zeros_gives_no_figures() -> None:
    facts = FreshairFacts(replace(FAU, p_fan_w=(0.0,), airflow_m3h=(0.0,), rpm=(0.0,)), {})
    values = {"fan_supply_rpm": 900.0, "airflow_m3h": 100.0, "filter_dp_pa": 80.0}
    facts.update(Reading("M1", "freshair", T0, values), "running", 60.0)
    assert (isnan(facts.spin), isnan(facts.draw), facts.dp) == (True, True, 80.0)


def test_the_median_forgets_a_spike_and_what_is_older_than_five_minutes() -> None:
    median = RollingMedian()
    shown = [median.add(T0 + i * 30_000, value) for i, value in enumerate([10, 900, 10, 12, 10, *[50.0] * 12])]
    assert isnan(shown[1])
    assert shown[2:5] == [10, 12, 10]
    assert shown[-1] == 50.0
    assert len(median.samples) == 11


@pytest.mark.parametrize(("hole_min", "remembered"), [(2, True), (20, False)])
def test_medians_begin_anew_after_a_hole(hole_min: int, remembered: bool) -> None:
    facts = breathing(FreshairFacts(FAU, {}), T0, 20, 150.0)
    assert facts.c_in == 150.0
    breathing(facts, T0 + (20 + hole_min) * MINUTE, 1, 20.0)
    assert (facts.c_in == 150.0) is remembered


def test_medians_begin_anew_after_a_rest() -> None:
    facts = breathing(FreshairFacts(FAU, {}), T0, 20, 150.0)
    breathing(facts, T0 + 20 * MINUTE, 2, 150.0, state="standby")
    assert isnan(facts.c_in)
    breathing(facts, T0 + 22 * MINUTE, 1, 20.0)
    assert isnan(facts.c_in)
    assert facts.still_in.since == T0 + 22 * MINUTE


def test_pressure_is_scaled_to_the_rated_flow() -> None:
    facts = FreshairFacts(FAU, {})
    for flow, scaled in ((300.0, 80.0), (150.0, 80.0 * 2**1.5), (90.0, None)):
        facts.update(Reading("M1", "freshair", T0, {"filter_dp_pa": 80.0, "airflow_m3h": flow}), "running", 60.0)
        assert isnan(facts.dp) if scaled is None else facts.dp == pytest.approx(scaled)
    facts.update(Reading("M1", "freshair", T0, {"filter_dp_pa": 80.0}), "running", 60.0)
    assert facts.dp == 80.0
