"""The engine: event time, windows, guards, holes, redelivery, clocks, memory."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from domain.detection.engine import Detector
from domain.findings import Kind
from domain.readings import Reading, Value
from tests.unit.detection.traces import FAU, HEATING, RUNNING, SMM, STANDBY, T0, Trace, findings, raised

HIGH: dict[str, Value] = {**STANDBY, "voltage_v": 240.0}
"""A supply that is too high: R02."""


def rested(step_s: float = 5.0, **more: str | None) -> Trace:
    return Trace(step_s=step_s, **more).phase(300, STANDBY)


def poor_filter(trace: Trace, seconds: float) -> Trace:
    for i in range(round(seconds / 30)):
        trace.sample({**RUNNING, "pm25_in_ugm3": 150.0 + i % 5, "pm25_out_ugm3": 90.0 + i % 3})
    return trace


# --- windows -----------------------------------------------------------------------------------------------------------------


def test_raises_after_its_duration_and_not_before() -> None:
    trace = rested().phase(120, HIGH)
    finding = findings(trace)[0]
    assert finding.raised_at == T0 + 300_000 + 60_000
    assert findings(rested().phase(60, HIGH)) == []


def test_one_false_sample_in_five_is_forgiven_two_are_not() -> None:
    forgiving, strict = rested(), rested()
    for i in range(120):
        forgiving.sample(STANDBY if i % 6 == 3 else HIGH)
        strict.sample(STANDBY if i % 3 == 1 else HIGH)
    assert raised(forgiving) == ["R02/P3"]
    assert raised(strict) == []


def test_a_window_begins_with_a_sample_that_agrees() -> None:
    trace = rested().phase(5, HIGH).phase(15, STANDBY).phase(120, HIGH)
    assert findings(trace)[0].raised_at == T0 + 300_000 + 20_000 + 60_000


def test_flapping_does_not_raise() -> None:
    trace = rested()
    for _ in range(60):
        trace.phase(20, HIGH).phase(15, STANDBY)
    assert raised(trace) == []


def test_a_spike_does_not_clear() -> None:
    trace = rested().phase(120, HIGH).phase(10, STANDBY).phase(300, HIGH)
    assert [f.cleared_at for f in findings(trace)] == [None]


def test_it_takes_three_samples() -> None:
    assert raised(rested(40).phase(80, HIGH)) == []
    assert raised(rested(40).phase(120, HIGH)) == ["R02/P3"]


def test_samples_must_cover_the_window() -> None:
    # within 60 s only the first and the last 15 s were heard
    sparse = rested().phase(15, HIGH).silence(35).phase(15, HIGH)
    assert raised(sparse) == []
    assert raised(rested().phase(15, HIGH).silence(35).phase(75, HIGH)) == ["R02/P3"]


def test_a_hole_inside_a_pending_window_never_fires() -> None:
    for hole in (61, 300, 7200):
        assert raised(rested().phase(55, HIGH).silence(hole).phase(55, HIGH)) == []
    assert raised(rested().phase(55, HIGH).silence(300).phase(70, HIGH)) == ["R02/P3"]


def test_a_channel_that_falls_silent_is_no_evidence_either_way() -> None:
    detector = Detector(SMM, "M1")
    findings(rested().phase(120, HIGH), detector=detector)
    later = Trace(start=T0 + 420_000, boot="b2").phase(600, STANDBY, voltage_v=None)
    assert findings(later, detector=detector) == []
    assert [f.rule for f in detector.open_findings] == ["R02"]
    assert raised(rested().phase(40, HIGH).phase(90, STANDBY, voltage_v=None).phase(40, HIGH)) == []


def test_partial_objects_count_where_they_speak() -> None:
    trace = rested()
    for _ in range(20):
        trace.sample({"voltage_v": 240.0}).sample({"run_state": "standby", "power_w": 8.0})
    assert raised(trace) == ["R02/P3"]


def test_two_objects_of_one_moment_are_one_sample() -> None:
    trace = Trace("freshair", step_s=30)
    for i in range(240):
        wave = float(i % 5)
        trace.sample({**RUNNING, "pm25_in_ugm3": 150.0 + wave})
        trace.at -= trace.step_ms
        trace.sample({"pm25_out_ugm3": 70.0 + wave})
    assert raised(trace, FAU) == ["R20/P3"]


def test_two_objects_of_one_moment_count_once() -> None:
    trace = rested()
    for _ in range(2):
        trace.sample({**STANDBY, "temp_c": 127.0})
        trace.at -= trace.step_ms
        trace.sample({"lid_open": False})
    assert raised(trace) == []


def test_absence_is_not_zero() -> None:
    quiet: dict[str, Value] = {"run_state": "heating"}
    assert (
        raised(rested().phase(900, quiet).phase(900, {"run_state": "filling"}).phase(900, {"run_state": "grinding"}))
        == []
    )
    assert raised(Trace("freshair").phase(1800, {"run_state": "running"}), FAU) == []


def test_simulated_readings_are_judged_like_others() -> None:
    trace = rested().phase(120, HIGH)
    assert findings(replace(r, simulated=True) for r in trace) == findings(trace)


# --- guards ------------------------------------------------------------------------------------------------------------------


def test_a_change_of_state_silences_for_a_minute() -> None:
    finding = findings(rested().phase(300, HEATING, power_w=4000.0))[0]
    assert finding.raised_at == T0 + 300_000 + 60_000 + 60_000


def test_the_guard_pauses_a_window_and_does_not_forget_it() -> None:
    trace = rested().phase(35, HIGH).phase(300, {**HEATING, "voltage_v": 240.0, "power_w": 7140.0})
    assert findings(trace)[0].raised_at == T0 + 300_000 + 60_000 + 60_000


def test_a_start_silences_for_two_minutes() -> None:
    trace = Trace("freshair").phase(300, STANDBY).phase(300, {**RUNNING, "voltage_v": 240.0})
    assert findings(trace, FAU)[0].raised_at == T0 + 300_000 + 120_000 + 60_000


def test_stop_and_safety_rules_are_exempt() -> None:
    leak = Trace().phase(400, STANDBY, water_flow_lpm=1.0)
    assert findings(leak)[0].raised_at == T0 + 300_000
    stall = rested().phase(30, {"run_state": "grinding", "power_w": 5000.0})
    assert findings(stall)[0].raised_at == T0 + 300_000 + 15_000
    dead = Trace("freshair").phase(300, STANDBY).phase(90, RUNNING, fan_supply_rpm=0.0)
    assert findings(dead, FAU)[0].raised_at == T0 + 300_000 + 60_000


def test_pm_sensors_warm_up_for_ten_minutes() -> None:
    trace = Trace("freshair", step_s=30)
    for i in range(120):
        trace.sample({**RUNNING, "pm25_in_ugm3": 150.0 + i % 5, "pm25_out_ugm3": 90.0 + i % 3})
    at = findings(trace, FAU)[0].raised_at
    # ten minutes of warming, three samples for the first median, half an hour
    assert at == T0 + (600 + 60 + 1800) * 1000


# --- episodes ----------------------------------------------------------------------------------------------------------------


def test_a_cleared_rule_holds_its_peace_for_half_an_hour() -> None:
    trace = rested().phase(120, HIGH).phase(120, STANDBY).phase(2100, HIGH)
    said = findings(trace)
    assert [f.cleared_at is None for f in said] == [True, False, True]
    assert said[2].raised_at == said[1].cleared_at + 1_800_000


def test_a_clear_names_its_episode() -> None:
    first, cleared = findings(rested().phase(120, HIGH).phase(120, STANDBY))
    assert first.episode_key == cleared.episode_key
    assert cleared.cleared_at == T0 + 420_000 + 60_000


def test_rearming_closes_what_is_open() -> None:
    detector = Detector(SMM, "M1")
    trace = rested().phase(120, HIGH)
    findings(trace, detector=detector)
    assert [(f.rule, f.cleared_at) for f in detector.rearm(trace.at)] == [("R02", trace.at)]
    assert detector.open_findings == ()
    more = Trace(start=trace.at, boot="b2").phase(1700, HIGH)
    assert findings(more, detector=detector) == []
    again = Trace(start=more.at, boot="b3").phase(200, HIGH)
    assert [f.rule for f in findings(again, detector=detector)] == ["R02"]


# --- redelivery, order, clocks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("boot", ["b1", None])
def test_every_reading_twice_changes_nothing(boot: str | None) -> None:
    trace = rested(boot=boot).phase(120, HIGH).phase(200, STANDBY).phase(300, HEATING, power_w=4000.0)
    once = findings(trace)
    assert len(once) == 3
    assert findings(r for reading in trace for r in (reading, reading)) == once


@pytest.mark.parametrize("boot", ["b1", None])
def test_a_whole_redelivered_stretch_changes_nothing(boot: str | None) -> None:
    trace = rested(boot=boot).phase(45, HIGH)
    for repeats in (trace.readings * 3, trace.readings[:60] + trace.readings[40:]):
        assert findings(repeats) == []
    trace.phase(75, HIGH)
    assert [f.cleared_at for f in findings(trace.readings * 3)] == [None]


def test_a_redelivered_sample_with_a_new_time_is_known_by_its_number() -> None:
    # the gateway dates samples of a machine with a broken clock by their receipt
    trace = rested().phase(10, STANDBY, temp_c=127.0)
    again = [replace(trace.readings[-1], ts=trace.at + 5000 * i) for i in range(3)]
    assert findings([*trace, *again]) == []


def test_a_hole_is_a_hole_even_where_the_coverage_would_do() -> None:
    # R20 asks for half an hour; four minutes of silence in it leave 87 % of the samples
    for hole, expected in ((0, 1), (60, 1), (240, 0)):
        trace = poor_filter(Trace("freshair", step_s=30), 660 + 1200).silence(hole)
        assert len(findings(poor_filter(trace, 900), FAU)) == expected
    trace = poor_filter(Trace("freshair", step_s=30), 660 + 1200).silence(240)
    assert len(findings(poor_filter(trace, 2000), FAU)) == 1


def test_late_samples_feed_no_rule() -> None:
    trace = rested().phase(40, HIGH)
    late = [replace(r, ts=r.ts - 100_000, seq=r.seq + 0) for r in trace.readings[-6:]]
    assert findings([*trace, *late, *[replace(r, seq=None, ts=r.ts - 3000) for r in late]]) == []


def test_backfill_raises_nothing_and_proves_presence() -> None:
    detector = Detector(SMM, "M1")
    detector.interval_s = 5
    trace = rested()
    findings(trace, detector=detector)
    assert [f.rule for f in detector.tick(trace.at + 600_000, peers_online=True)] == ["R01"]
    stored = [replace(r, backfill=True) for r in Trace(start=trace.at, boot="b2").phase(300, HIGH)]
    said = findings(stored, detector=detector)
    assert [(f.rule, f.cleared_at is not None) for f in said] == [("R01", True)]


def test_a_clock_set_back_starts_counting_anew() -> None:
    trace = rested().phase(40, HIGH)
    back = [replace(r, ts=r.ts - 3_600_000, seq=(r.seq or 0) + 1000) for r in Trace(start=trace.at).phase(300, HIGH)]
    said = findings([*trace, *back])
    assert [f.rule for f in said] == ["R02"]
    # the change of state that the new beginning is, then the rule's own minute
    assert said[0].raised_at == back[0].ts + 60_000 + 60_000


def test_samples_of_an_earlier_boot_are_late_not_a_clock_set_back() -> None:
    first = rested().phase(40, HIGH)
    second = Trace(start=first.at, boot="b2").phase(15, HIGH)
    assert findings([*first, *second, *first.readings[:30]]) == []
    second.phase(60, HIGH)
    # the old rest would clear what the new boot raised
    assert [f.cleared_at for f in findings([*first, *second, *first.readings[:50]])] == [None]


def test_a_clock_that_jumps_ahead_is_a_hole() -> None:
    trace = rested().phase(40, HIGH)
    ahead = [replace(r, ts=r.ts + 86_400_000, seq=(r.seq or 0) + 1000) for r in Trace(start=trace.at).phase(40, HIGH)]
    assert findings([*trace, *ahead]) == []


# --- silence -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peers", "kind", "cause"),
    [(True, Kind.FALSE, "no_power"), (False, Kind.UNDECIDED, "network"), (None, Kind.UNDECIDED, "")],
)
def test_silence_is_raised_once_at_a_moment_of_its_own(peers: bool | None, kind: Kind, cause: str) -> None:
    detector = Detector(SMM, "M1")
    trace = rested(30)
    findings(trace, detector=detector)
    last = trace.readings[-1].ts
    assert detector.tick(last + 269_999, peers_online=peers) == ()
    (finding,) = detector.tick(last + 500_000, peers_online=peers)
    assert (finding.raised_at, finding.kind, finding.cause) == (last + 270_000, kind, cause)
    assert detector.state == "offline"
    assert detector.tick(last + 900_000, peers_online=peers) == ()
    (back,) = detector.fold(Reading("M1", "soymilk", last + 1_000_000, STANDBY))
    assert (back.episode_key, back.cleared_at) == (finding.episode_key, last + 1_000_000)
    assert detector.state == "standby"


def test_patience_is_three_intervals() -> None:
    for declared, patience in ((None, 900), (30, 90), (300, 900)):
        detector = Detector(SMM, "M1")
        detector.interval_s = declared
        detector.fold(Reading("M1", "soymilk", T0, STANDBY))
        assert detector.tick(T0 + (patience + 180) * 1000 - 1, peers_online=None) == ()
        assert len(detector.tick(T0 + (patience + 180) * 1000, peers_online=None)) == 1


def test_a_machine_never_heard_of_is_not_silent() -> None:
    assert Detector(SMM, "M1").tick(T0, peers_online=True) == ()
    assert Detector(SMM, "M1").state == "offline"


def test_silence_is_measured_in_the_time_of_receipt() -> None:
    detector = Detector(SMM, "M1")
    detector.interval_s = 30
    detector.fold(Reading("M1", "soymilk", T0, STANDBY, recv_ms=T0 + 240_000))
    assert detector.tick(T0 + 400_000, peers_online=True) == ()
    assert detector.tick(T0 + 510_000, peers_online=True)[0].raised_at == T0 + 510_000


# --- memory ------------------------------------------------------------------------------------------------------------------


def test_memory_is_strict_json_and_open_episodes_survive_it() -> None:
    detector = Detector(SMM, "M1")
    findings(rested().phase(120, HIGH, temp_c=20.0), detector=detector)
    detector.tick(T0 + 10_000_000, peers_online=False)
    text = json.dumps(detector.dump(), allow_nan=False)
    again = Detector.load(SMM, "M1", json.loads(text))
    assert again.open_findings == detector.open_findings
    assert {f.rule for f in again.open_findings} == {"R01", "R02"}
    assert json.dumps(again.dump(), allow_nan=False) == text


def test_memory_of_rules_that_are_gone_is_left_out() -> None:
    detector = Detector(SMM, "M1")
    findings(rested().phase(120, HIGH), detector=detector)
    again = Detector.load(SMM, "M1", detector.dump(), rules=())
    assert again.open_findings == ()
    assert again.tick(T0 + 10_000_000, peers_online=None) == ()
