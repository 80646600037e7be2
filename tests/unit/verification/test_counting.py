"""What counts, what restarts, what ends a run, and what samples are worth (equipment.md §7.0, §7.5)."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from domain.catalogue.model import ModelCard
from domain.catalogue.plans import PLANS
from domain.readings import Reading
from domain.verdicts import CriterionState, Outcome, Verdict
from domain.verification.judge import judge
from domain.verification.timeline import Run
from domain.verification.windows import course
from tests.unit.verification.traces import (
    BATCH,
    FAU,
    SMM,
    T0,
    Leg,
    Values,
    changed,
    freshair,
    hole,
    readings,
    soymilk,
    without,
)

AIR, HEAT = PLANS["freshair:operator"], PLANS["soymilk:heating"]


def air(rows: list[Values], **given: object) -> Verdict:
    return judge(AIR, FAU, readings(rows, FAU), **given)  # type: ignore[arg-type]


def heat(rows: list[Values], **given: object) -> Verdict:
    return judge(HEAT, SMM, readings(rows), **given)  # type: ignore[arg-type]


def stopped(seconds: float, state: str = "paused", at: float = 500) -> list[Values]:
    return changed(
        freshair(1800), lambda r: at <= float(r["_t"]) < at + seconds, run_state=state, level=0.0, power_w=3.0
    )


def test_nothing_at_all() -> None:
    verdict = judge(HEAT, SMM, [])
    assert (verdict.outcome, verdict.decided_at, verdict.net_active_s, verdict.coverage) == (
        Outcome.INCONCLUSIVE, None, 0.0, 0.0,
    )  # fmt: skip
    assert judge(HEAT, SMM, [], ended=False).outcome is Outcome.PENDING
    assert judge(AIR, FAU, readings(freshair(0), FAU)).outcome is Outcome.INCONCLUSIVE


def test_one_second_too_little() -> None:
    assert air(freshair(900)).outcome is Outcome.PASSED
    assert air(freshair(895)).outcome is Outcome.INCONCLUSIVE
    assert air(freshair(895)).net_active_s == 895


@pytest.mark.parametrize(("seconds", "decided_s"), [(60, 950), (61, 1461)])
def test_a_gap_of_more_than_60_s_restarts_the_count(seconds: int, decided_s: int) -> None:
    """A gap of 60 s credits 10 s of it, so that the 900 s end 50 s later; behind one of 61 s they begin anew."""
    verdict = air(hole(freshair(1800), 500, seconds - 5))
    assert (verdict.outcome, verdict.decided_at) == (Outcome.PASSED, T0 + decided_s * 1000)


@pytest.mark.parametrize("state", ["paused", "standby", "fault", "test", "defrost"])
def test_a_stop_of_more_than_60_s_restarts_the_count(state: str) -> None:
    assert air(stopped(60, state)).decided_at == T0 + 960_000
    assert air(stopped(65, state)).decided_at == T0 + 565_000 + 900_000


def test_a_stop_after_the_time_is_reached_restarts_nothing() -> None:
    long_heat = [*BATCH[:4], Leg("heating", 850), Leg("paused", 90), Leg("heating", 100), *BATCH[5:]]
    rows = soymilk(long_heat, litres=5.5)
    verdict = heat(rows)
    assert verdict.outcome is Outcome.PASSED
    early = [*BATCH[:4], Leg("heating", 350), Leg("paused", 90), Leg("heating", 600), *BATCH[5:]]
    assert heat(soymilk(early, litres=5.5)).outcome is Outcome.INCONCLUSIVE


def test_a_restart_never_forgets_a_fail() -> None:
    weak = changed(freshair(3000), lambda r: float(r["_t"]) < 500, airflow_m3h=240.0)
    verdict = air(hole(weak, 500, 100))
    assert (verdict.outcome, verdict.decided_at) == (Outcome.FAILED, T0 + 605_000)
    # 180 s at the level are a measurement; 175 s are none, and nothing is held against the unit: the last sample lasts 0 s
    brief = changed(freshair(3000), lambda r: float(r["_t"]) <= 300, airflow_m3h=240.0)
    assert air(hole(brief, 300, 100)).outcome is Outcome.FAILED
    assert air(hole(brief, 295, 100)).outcome is Outcome.PASSED
    weak = changed(soymilk(), lambda r: r["heater_on"] is True and float(r["_t"]) < 310, power_w=0.88 * SMM.p_heat_w)
    assert heat(hole(weak, 310, 100)).outcome is Outcome.FAILED
    assert heat(hole(weak, 305, 100)).outcome is Outcome.INCONCLUSIVE


def test_an_alarm_is_heard_while_nothing_counts() -> None:
    trapped = changed(soymilk(), lambda r: float(r["_t"]) < 460, run_state="standby")
    leaking = changed(trapped, lambda r: float(r["_t"]) < 400, water_flow_lpm=0.5)  # R08, P1, after 300 s
    verdict = heat(leaking)
    assert (verdict.outcome, verdict.decided_at) == (Outcome.FAILED, T0 + 300_000)
    assert [c.key for c in verdict.criteria if c.state is CriterionState.FAIL] == ["alarms"]


def test_a_restart_forgets_every_pass() -> None:
    verdict = heat(hole(soymilk(), 700, 70))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "restarted" in " ".join(verdict.reasons)


def test_samples_that_end_early_out_of_limits_fail() -> None:
    assert air(changed(freshair(600), lambda r: True, airflow_m3h=240.0)).outcome is Outcome.FAILED
    assert air(changed(freshair(200), lambda r: True, airflow_m3h=240.0)).outcome is Outcome.INCONCLUSIVE


def test_no_waiting_for_better_data() -> None:
    late = changed(freshair(1800), lambda r: float(r["_t"]) < 700, airflow_m3h=240.0)
    verdict = air(late)
    assert (verdict.outcome, verdict.decided_at) == (Outcome.FAILED, T0 + 900_000)


def test_what_comes_after_the_decision_does_not_matter() -> None:
    dead = changed(freshair(1800), lambda r: float(r["_t"]) > 905, power_w=0.0, fan_supply_rpm=0.0, airflow_m3h=0.0)
    assert air(dead).decided_at == T0 + 900_000
    assert air(dead).outcome is Outcome.PASSED


@pytest.mark.parametrize(
    ("step_s", "outcome"), [(10, "passed"), (10.4, "passed"), (11, "inconclusive"), (30, "inconclusive")]
)
def test_sampling_interval(step_s: float, outcome: str) -> None:
    assert air(freshair(2600, step_s=step_s)).outcome == outcome


@pytest.mark.parametrize(("keep", "outcome"), [(12, "passed"), (6, "inconclusive")])
def test_coverage(keep: int, outcome: str) -> None:
    """Every twelfth sample missing leaves 92 %, every sixth 83 %."""
    rows = [row for i, row in enumerate(freshair(2600)) if i % keep]
    assert air(rows).outcome == outcome


def test_cap_ends_the_run() -> None:
    rows = changed(freshair(4000), lambda r: float(r["_t"]) < 1850, run_state="standby", level=0.0, power_w=3.0)
    assert air(rows).outcome is Outcome.INCONCLUSIVE  # 2700 s from the first sample leave 850 s
    rows = changed(freshair(4000), lambda r: float(r["_t"]) < 1790, run_state="standby", level=0.0, power_w=3.0)
    assert air(rows).outcome is Outcome.PASSED


def test_cap_ends_a_live_run_too() -> None:
    rows = changed(freshair(4000), lambda r: True, run_state="standby", level=0.0, power_w=3.0)
    assert air([r for r in rows if float(r["_t"]) <= 2700], ended=False).outcome is Outcome.PENDING
    assert air(rows, ended=False).outcome is Outcome.INCONCLUSIVE


def test_a_rest_phase_that_began_before_the_cap_may_end_after_it() -> None:
    standby_from_5370 = heat(soymilk([Leg("standby", 4220), *BATCH[1:]]))
    assert (standby_from_5370.outcome, standby_from_5370.decided_at) == (Outcome.PASSED, T0 + 5_470_000)
    assert heat(soymilk([Leg("standby", 4260), *BATCH[1:]])).outcome is Outcome.INCONCLUSIVE  # at work when it strikes


def test_the_rest_phase_restarts_and_the_count_does_not() -> None:
    rows = soymilk([*BATCH[:-1], Leg("standby", 1000)])
    plain = heat(rows).decided_at
    assert plain == T0 + 1_270_000
    silent = heat(hole(rows, 1200, 65))
    assert (silent.outcome, silent.decided_at) == (Outcome.PASSED, T0 + 1_270_000 + 300_000)
    off = heat(changed(rows, lambda r: 1200 <= float(r["_t"]) < 1290, run_state="off"))
    assert (off.outcome, off.decided_at) == (Outcome.PASSED, T0 + 1_590_000)
    opened = heat(changed(rows, lambda r: float(r["_t"]) == 1200, inlet_valve=True))
    assert (opened.outcome, opened.decided_at) == (Outcome.PASSED, T0 + 1_505_000)


def test_a_leak_in_a_rest_phase_that_broke_still_fails() -> None:
    rows = soymilk([*BATCH[:-1], Leg("standby", 1000)])
    wet = changed(rows, lambda r: 1000 <= float(r["_t"]) < 1200, water_flow_lpm=0.3)
    for row in wet:
        row["inlet_valve"] = row["inlet_valve"] or row["_t"] == 1200
    assert heat(wet).outcome is Outcome.FAILED


def test_the_meter_may_lag_behind_the_valve_by_one_sample() -> None:
    rows = soymilk([*BATCH[:-1], Leg("standby", 1000)])
    rows = changed(rows, lambda r: float(r["_t"]) == 1200, inlet_valve=True, water_flow_lpm=3.0)
    lagging = without(changed(rows, lambda r: float(r["_t"]) == 1205, water_flow_lpm=3.0), "water_total_l")
    assert heat(lagging).outcome is Outcome.PASSED
    running = without(
        changed(rows, lambda r: float(r["_t"]) in (1205, 1210, 1215), water_flow_lpm=3.0), "water_total_l"
    )
    assert heat(running).outcome is Outcome.FAILED


def test_there_is_no_pass_before_the_rest_phase_is_over() -> None:
    rows = [r for r in soymilk() if float(r["_t"]) < 1270]
    assert heat(rows).outcome is Outcome.INCONCLUSIVE
    assert heat(rows, ended=False).outcome is Outcome.PENDING
    assert heat(rows, ended=False).phase == "rest"


def test_the_rest_phase_has_its_length_and_60_s_of_standby() -> None:
    rows = without(soymilk([*BATCH[:5], Leg("boil_hold", 200), Leg("standby", 420)]), "temp_c")
    verdict = judge(PLANS["soymilk:operator"], SMM, readings(rows), entries={"switch": True})
    assert verdict.decided_at == T0 + 920_000 + 300_000
    warm = soymilk([*BATCH[:-2], Leg("keep_warm", 200), Leg("standby", 100)])
    assert heat(warm).decided_at == T0 + 1_310_000 + 60_000


def test_an_alarm_after_the_count_broke() -> None:
    rows = soymilk([*BATCH[:4], Leg("heating", 300), Leg("standby", 600)])
    leaking = changed(rows, lambda r: float(r["_t"]) >= 600, water_flow_lpm=0.5)
    assert (heat(leaking).outcome, heat(leaking).decided_at) == (Outcome.FAILED, T0 + 900_000)


def test_the_first_moment_at_which_the_supply_is_good_enough() -> None:
    """55 s of bad supply are less than 5 % of the settled time from 1100 s of it on."""
    rows = changed(freshair(2000), lambda r: 300 <= float(r["_t"]) < 355, voltage_v=195.0)
    assert air(rows).decided_at == T0 + (120 + 1105) * 1000


def test_when_the_plans_conditions_are_seen() -> None:
    def done_at(plan: str, legs: list[Leg], card: ModelCard = SMM) -> float | None:
        samples = tuple(readings(soymilk(legs)))
        row = course(Run(PLANS[plan], card, samples, frozenset())).windows[0].done_at
        return None if row is None else (samples[row].ts - T0) / 1000

    short = [Leg("filling", 60), Leg("grinding", 90), Leg("soaking", 20), Leg("grinding", 25), Leg("soaking", 20)]
    assert done_at("soymilk:motor", [*short, Leg("grinding", 60), Leg("heating", 60)]) is None
    assert done_at("soymilk:motor", [*short, Leg("grinding", 60), Leg("soaking", 20), Leg("grinding", 60)]) == 325
    plain = done_at("soymilk:heating", list(BATCH))
    assert plain is not None
    assert done_at("soymilk:heating", list(BATCH), replace(SMM, t_boil_hold_s=400.0)) == plain + 100


def test_the_rest_phase_ends_in_standby() -> None:
    rows = changed(soymilk(), lambda r: float(r["_t"]) > 1100 and r["run_state"] == "standby", run_state="off")
    assert heat(rows).outcome is Outcome.INCONCLUSIVE


def test_a_live_run_is_pending_until_it_is_decided() -> None:
    rows = soymilk()
    seen: list[tuple[Outcome, str]] = []
    for end in range(10, len(rows), 20):
        verdict = heat(rows[:end], ended=False)
        if not seen or seen[-1] != (verdict.outcome, verdict.phase):
            seen.append((verdict.outcome, verdict.phase))
    assert seen == [
        (Outcome.PENDING, "active"),
        (Outcome.PENDING, "extended"),
        (Outcome.PENDING, "rest"),
        (Outcome.PASSED, "decided"),
    ]
    assert heat(rows[:3], ended=False).phase == "waiting"


def test_a_live_run_out_of_limits_that_may_recover_is_pending() -> None:
    rows = changed(freshair(600), lambda r: True, airflow_m3h=240.0)
    verdict = air(rows, ended=False)
    assert verdict.outcome is Outcome.PENDING
    assert {c.state for c in verdict.criteria} <= {
        CriterionState.PASS,
        CriterionState.PENDING,
        CriterionState.NOT_ASSESSABLE,
    }
    assert "Out of limits so far" in next(c.reason for c in verdict.criteria if c.key == "airflow")


def test_a_hard_failure_ends_a_live_run_at_once() -> None:
    rows = soymilk()[:151]
    rows[150]["overflow_electrode"] = True
    verdict = heat(rows, ended=False)
    assert (verdict.outcome, verdict.decided_at) == (Outcome.FAILED, T0 + 750_000)


def test_the_decision_of_a_live_run_is_that_of_the_whole() -> None:
    rows, whole = soymilk(), heat(soymilk())
    live = next(
        v for end in range(200, len(rows)) if (v := heat(rows[:end], ended=False)).outcome is not Outcome.PENDING
    )
    assert (live.outcome, live.decided_at, live.criteria) == (whole.outcome, whole.decided_at, whole.criteria)


# what samples are worth


def test_simulated_samples_pass_on_demo_sites_only() -> None:
    samples = [replace(r, simulated=True) for r in readings(freshair(), FAU)]
    assert judge(AIR, FAU, samples, demo_site=True).outcome is Outcome.PASSED
    assert judge(AIR, FAU, samples).outcome is Outcome.INCONCLUSIVE
    one = readings(freshair(), FAU)
    one[50] = replace(one[50], simulated=True)
    assert judge(AIR, FAU, one).outcome is Outcome.INCONCLUSIVE


def test_samples_of_1970_make_it_inconclusive_unless_the_rest_fails() -> None:
    samples = [*readings(freshair(), FAU), replace(readings(freshair(), FAU)[0], ts=5_000)]
    verdict = judge(AIR, FAU, samples)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "before 2000" in verdict.reasons[0]
    dead = readings(changed(freshair(), lambda r: float(r["_t"]) > 400, power_w=3.0, fan_supply_rpm=0.0), FAU)
    assert judge(AIR, FAU, [*dead, samples[-1]]).outcome is Outcome.FAILED
    assert (
        judge(AIR, FAU, [replace(r, ts=r.ts - T0) for r in readings(freshair(), FAU)]).outcome is Outcome.INCONCLUSIVE
    )


def test_a_clock_that_runs_backwards() -> None:
    samples = readings(freshair(2000), FAU, seq=True)
    back = [replace(r, ts=r.ts - 300_000) if (r.seq or 0) > 150 else r for r in samples]
    verdict = judge(AIR, FAU, back)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "backwards" in verdict.reasons[0]
    late = [replace(r, ts=r.ts - 300_000) if (r.seq or 0) > 250 else r for r in samples]
    assert judge(AIR, FAU, late).outcome is Outcome.INCONCLUSIVE  # nobody may choose which of the two times to believe
    small = [replace(r, ts=r.ts - 8_000) if (r.seq or 0) > 150 else r for r in samples]
    assert judge(AIR, FAU, small).outcome is Outcome.PASSED


def received(samples: list[Reading], offset_ms: int) -> list[Reading]:
    return [replace(r, recv_ms=r.ts + offset_ms + 200) for r in samples]


def test_a_constant_skew_is_taken_out_and_noted() -> None:
    verdict = judge(AIR, FAU, received(readings(freshair(), FAU), 3_600_000))
    assert verdict.outcome is Outcome.PASSED
    assert verdict.decided_at == T0 + 900_000 + 3_600_200
    assert any("time of receipt" in reason for reason in verdict.reasons)
    ahead = judge(AIR, FAU, received(readings(freshair(), FAU), -7_200_000))
    assert ahead.decided_at == T0 + 900_000 - 7_199_800
    assert judge(AIR, FAU, received(readings(freshair(), FAU), 20_000)).decided_at == T0 + 900_000


def test_a_device_time_that_the_gateway_replaced() -> None:
    samples = received(readings(freshair(), FAU), 0)
    ahead = [replace(r, device_ts=r.ts + 86_400_000) for r in samples]
    verdict = judge(AIR, FAU, ahead)
    assert (verdict.outcome, verdict.decided_at) == (Outcome.PASSED, T0 + 900_200)  # a constant skew
    assert judge(AIR, FAU, [replace(r, device_ts=r.ts - T0) for r in samples]).outcome is Outcome.INCONCLUSIVE
    mixed = [replace(r, device_ts=r.ts + 86_400_000) if i > 100 else r for i, r in enumerate(samples)]
    assert judge(AIR, FAU, mixed).outcome is Outcome.INCONCLUSIVE


def test_a_clock_that_leaps_ahead() -> None:
    samples = received(readings(freshair(3000), FAU), 0)
    leap = [replace(r, ts=r.ts + 600_000) if i > 150 else r for i, r in enumerate(samples)]
    verdict = judge(AIR, FAU, leap)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "jumps" in verdict.reasons[0]
    one = [replace(r, ts=r.ts + 50_000_000) if i == 100 else r for i, r in enumerate(samples)]
    assert judge(AIR, FAU, one).outcome is Outcome.INCONCLUSIVE


def test_a_queue_that_drains_is_no_leap() -> None:
    samples = received(readings(freshair(), FAU), 0)
    queued = [replace(r, recv_ms=max(r.recv_ms or 0, T0 + 600_000)) for r in samples]
    assert judge(AIR, FAU, queued).outcome is Outcome.PASSED
    stored = [replace(r, backfill=True, recv_ms=T0 + 9_000_000) if i < 120 else r for i, r in enumerate(samples)]
    assert judge(AIR, FAU, stored).outcome is Outcome.PASSED


def test_rows_of_one_moment_are_merged() -> None:
    whole = readings(freshair(), FAU)
    parts = [
        replace(r, values={k: v for k, v in r.values.items() if (k in ("power_w", "voltage_v")) == half})
        for r in whole
        for half in (True, False)
    ]
    assert judge(AIR, FAU, parts) == judge(AIR, FAU, whole)


def test_the_later_seq_wins_and_a_conflict_without_one_drops_the_channel() -> None:
    good = readings(freshair(), FAU, seq=True)
    wrong = [replace(r, seq=(r.seq or 0) * 2, values={**r.values, "airflow_m3h": 10.0}) for r in good]
    right = [replace(r, seq=(r.seq or 0) * 2 + 1) for r in good]
    assert judge(AIR, FAU, [*right, *wrong]).outcome is Outcome.PASSED
    swapped = [replace(r, seq=(r.seq or 0) + 1) for r in wrong] + [replace(r, seq=(r.seq or 0) - 1) for r in right]
    assert judge(AIR, FAU, swapped).outcome is Outcome.FAILED
    unordered = [replace(r, boot=None, seq=None) for r in (*right, *wrong)]
    verdict = judge(AIR, FAU, unordered)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert next(c for c in verdict.criteria if c.key == "airflow").samples == 0


def test_two_values_of_one_seq_are_a_conflict() -> None:
    good = readings(freshair(), FAU, seq=True)
    wrong = [replace(r, values={**r.values, "airflow_m3h": 10.0}) for r in good]
    for both in ([*good, *wrong], [*wrong, *good]):
        assert next(c for c in judge(AIR, FAU, both).criteria if c.key == "airflow").samples == 0


@pytest.mark.parametrize(("missing", "outcome"), [(2, "passed"), (3, "inconclusive")])
def test_two_samples_of_a_short_phase_may_be_missing(missing: int, outcome: str) -> None:
    rows = soymilk()
    for row in [r for r in rows if r["run_state"] == "grinding"][4 : 4 + missing]:
        del row["power_w"]
    assert heat(rows).outcome == outcome


def test_a_short_look_at_the_air_is_no_measurement() -> None:
    dirty = freshair(900, eta=0.3)
    assert air([r for r in dirty if float(r["_t"]) <= 500]).outcome is Outcome.INCONCLUSIVE
    assert air([r for r in dirty if float(r["_t"]) <= 520]).outcome is Outcome.FAILED  # 80 samples


def test_order_and_duplicates_change_nothing() -> None:
    samples = readings(soymilk())
    shuffled = [*samples, *samples[50:100]]
    random.Random(7).shuffle(shuffled)
    assert judge(HEAT, SMM, shuffled) == judge(HEAT, SMM, samples)
