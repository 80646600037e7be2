"""Whatever machines send: detection is the same function of it, however it is cut, doubled or delayed."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.catalogue.registry import EQUIPMENT
from domain.detection.engine import Detector
from domain.findings import Finding
from domain.readings import Reading, Value

T0 = 1_763_776_800_000
CARDS = {"soymilk": EQUIPMENT["soymilk"].cards["SMM-25"], "freshair": EQUIPMENT["freshair"].cards["FAU-300"]}

INTERESTING: dict[str, dict[str, list[Value]]] = {
    "soymilk": {
        "run_state": [
            "standby",
            "filling",
            "grinding",
            "heating",
            "boil_hold",
            "keep_warm",
            "dispensing",
            "paused",
            "odd",
        ],
        "power_w": [0.0, 8.0, 20.0, 200.0, 1500.0, 4000.0, 6000.0],
        "voltage_v": [150.0, 190.0, 220.0, 240.0, 290.0],
        "water_flow_lpm": [0.0, 0.2, 6.0],
        "temp_c": [20.0, 55.0, 97.0, 99.5, 127.0],
        "overflow_electrode": [True, False],
        "lid_open": [True, False],
        "inlet_valve": [True, False],
        "heater_on": [True, False],
        "motor_on": [True, False],
        "fault_code": ["E4", "E9", "", "0"],
    },
    "freshair": {
        "run_state": ["standby", "starting", "running", "preheating", "off"],
        "power_w": [0.5, 3.0, 18.0, 60.0, 900.0],
        "voltage_v": [190.0, 220.0, 240.0],
        "level": [0.0, 1.0, 3.0],
        "pm25_in_ugm3": [0.0, 30.0, 150.0, 999.0],
        "pm25_out_ugm3": [0.0, 8.0, 90.0, 300.0],
        "fan_supply_rpm": [0.0, 900.0, 2200.0],
        "filter_dp_pa": [10.0, 80.0, 210.0],
        "airflow_m3h": [0.0, 120.0, 300.0],
        "fault_code": ["2", "0"],
    },
}


@st.composite
def traces(draw: st.DrawFn) -> list[Reading]:
    """Up to a few hours of one machine: phases of constant values, irregular steps, holes, missing channels."""
    kind = draw(st.sampled_from(sorted(INTERESTING)))
    numbered = draw(st.booleans())
    readings: list[Reading] = []
    at = T0
    for _ in range(draw(st.integers(1, 7))):
        chosen = draw(st.sets(st.sampled_from(sorted(INTERESTING[kind])), min_size=1))
        values = {channel: draw(st.sampled_from(INTERESTING[kind][channel])) for channel in sorted(chosen)}
        step = draw(st.sampled_from([1_000, 5_000, 30_000, 60_000]))
        for _ in range(draw(st.integers(1, 80))):
            readings.append(
                Reading("M1", kind, at, values, boot="b" if numbered else None, seq=len(readings) if numbered else None)
            )
            at += step
        at += draw(st.sampled_from([0, 0, 0, 45_000, 600_000]))
    return readings


def told(detector: Detector, readings: list[Reading]) -> list[Finding]:
    return [f for r in readings for f in (*detector.tick(r.ts, peers_online=None), *detector.fold(r))]


def fresh(readings: list[Reading]) -> Detector:
    return Detector(CARDS[readings[0].type], "M1")


@given(traces(), st.data())
@settings(max_examples=150, deadline=None)
def test_cut_anywhere_and_restored_it_goes_on_alike(readings: list[Reading], data: st.DataObject) -> None:
    whole, first = fresh(readings), fresh(readings)
    expected = told(whole, readings)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(readings)), min_size=1, max_size=4)))
    said, detector = [], first
    for start, stop in zip([0, *cuts], [*cuts, len(readings)], strict=True):
        said += told(detector, readings[start:stop])
        detector = Detector.load(
            CARDS[readings[0].type], "M1", json.loads(json.dumps(detector.dump(), allow_nan=False))
        )
    assert said == expected
    assert detector.open_findings == whole.open_findings
    assert detector.state == whole.state


@given(traces(), st.data())
@settings(max_examples=100, deadline=None)
def test_redelivery_has_no_effect(readings: list[Reading], data: st.DataObject) -> None:
    expected = told(fresh(readings), readings)
    doubled: list[Reading] = []
    for i, reading in enumerate(readings):
        doubled.append(reading)
        if data.draw(st.integers(0, 9)) == 0:
            doubled += readings[max(0, i - data.draw(st.integers(0, 100))) : i + 1]
    said = told(fresh(readings), doubled)
    assert said == expected
    assert told(fresh(readings), readings + readings)[: len(expected)] == expected


@given(traces())
@settings(max_examples=60, deadline=None)
def test_it_is_a_function_of_its_inputs_and_marks_do_not_matter(readings: list[Reading]) -> None:
    expected = told(fresh(readings), readings)
    assert told(fresh(readings), [replace(r, simulated=True) for r in readings]) == expected
    assert fresh(readings).dump() == fresh(readings).dump()


@given(traces())
@settings(max_examples=60, deadline=None)
def test_backfill_never_raises_but_silence_ends(readings: list[Reading]) -> None:
    said = told(fresh(readings), [replace(r, backfill=True) for r in readings])
    assert all(f.rule == "R01" for f in said)


@given(traces())
@settings(max_examples=100, deadline=None)
def test_episodes_are_well_formed(readings: list[Reading]) -> None:
    detector = fresh(readings)
    open_now: dict[str, Finding] = {}
    for finding in told(detector, readings):
        if finding.cleared_at is None:
            assert finding.episode_key not in open_now
            open_now[finding.episode_key] = finding
        else:
            assert finding.cleared_at >= finding.raised_at
            del open_now[finding.episode_key]
    assert set(open_now) == {f.episode_key for f in detector.open_findings}
