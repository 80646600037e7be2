"""How the criteria of fresh-air units are measured (equipment.md §7.2, §4, rulings §7.5).

Judged at the highest level that ran for at least 180 s, against the card's values of that level. A unit that does not report
its level is held against the highest level's values, and a miss is then not assessable.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from domain.catalogue.freshair.efficiency import eta_min
from domain.catalogue.plan_model import Criterion
from domain.verdicts import CriterionState, Reason
from domain.verification.measure import EPSILON, Measured, inside, judged, pending, sparse, unknowable
from domain.verification.reasons import also, say
from domain.verification.statistics import Picked
from domain.verification.timeline import GAP_MS, View

PM_IN, PM_OUT = "pm25_in_ugm3", "pm25_out_ugm3"


def levels(view: View, min_s: float) -> dict[int | None, Sequence[int]]:
    """Settled rows by level, for each level that ran at least ``min_s``; under None all, where no level is reported."""
    rows = view.settled
    if not any(level is not None for level in view.line.levels[view.start : view.stop + 1]):
        return {None: rows} if view.seconds(rows) >= min_s else {}
    by_level: dict[int | None, list[int]] = {}
    for i in rows:
        level = view.line.levels[i]
        if level is not None:
            by_level.setdefault(level, []).append(i)
    return {level: found for level, found in by_level.items() if view.seconds(found) >= min_s}


def judged_level(view: View, min_s: float) -> tuple[int | None, Sequence[int]] | None:
    """The highest level of ``levels`` and its rows; None where none ran long enough."""
    found = levels(view, min_s)
    return max(found.items(), key=lambda item: item[0] or 0) if found else None


def _rated(values: Sequence[float], level: int | None) -> float:
    """The card's value at a level (the highest where none is reported); 0 where the card has none."""
    index = (len(values) if level is None else level) - 1
    return values[index] if 0 <= index < len(values) else 0.0


def _at(level: int | None) -> Reason:
    return say("unreported_level") if level is None else say("level", level=f"{level}")


def _no_card_value(field: str, level: int | None) -> Measured:
    return pending(say("no_card_value_at", field=field, at=_at(level)))


def _short(min_s: float) -> Measured:
    return pending(say("no_level", needed=f"{min_s:.0f}"))


def _held_against(level: int | None, picked: Picked, result: Measured) -> Measured:
    """A miss at a level that nobody knows is no miss."""
    if level is None and result.state is CriterionState.FAIL:
        return pending(
            say("level_unreported", reason=result.reason or say("unreported_level")), samples=result.samples, value=result.value,
            retry_ms=picked.recovers_ms(50.0, result.low, result.high),
        )  # fmt: skip
    return result


def _without_heater(view: View, rows: Sequence[int]) -> list[int]:
    """Rows whose power is the fan's alone."""
    heater = view.line.column("ptc_on")
    return [i for i in rows if heater[i] is not True and view.line.states[i] != "preheating"]


def fan_power(view: View, criterion: Criterion) -> Measured:
    """#2: median power of each level that ran at least 180 s."""
    limits = criterion.limits
    found = levels(view, limits["min_s"])
    if not found:
        return _short(limits["min_s"])
    if "each_level" in limits and (short := _shown_too_short(view, found)):
        return pending(say("level_short", level=f"{short}", needed=f"{limits['min_s']:.0f}"))
    results = [_power_at(view, criterion, level, rows) for level, rows in found.items()]
    order = ("fail", "pending", "not_assessable", "pass")
    return min(reversed(results), key=lambda r: order.index(r.state))


def _shown_too_short(view: View, found: dict[int | None, Sequence[int]]) -> int | None:
    """A level that the run dwells on (30 s, EJ: more than a passage) without reaching the time that each level needs."""
    return next((level for level in levels(view, 30.0) if level is not None and level not in found), None)


def _power_at(view: View, criterion: Criterion, level: int | None, rows: Sequence[int]) -> Measured:
    limits, rated = criterion.limits, _rated(view.card.p_fan_w, level)
    if not rated:
        return _no_card_value("p_fan_w", level)
    power = view.pick(_without_heater(view, rows), view.line.numbers("power_w"))
    if power.seconds < limits["min_s"] or not power.dense:
        seconds, needed = f"{power.seconds:.0f}", f"{limits['min_s']:.0f}"
        short = say("fan_power_short", at=_at(level), seconds=seconds, needed=needed)
        return pending(short, samples=power.count)
    own = view.run.baseline.pn_w.get(f"running:{level}" if level else "running")
    low = max(limits["low"] * rated, limits["base_low"] * own if own else 0.0)
    high = limits["high_large" if rated > limits["large_w"] else "high"] * rated
    reason = say("fan_power", value=f"{power.median:.0f}", at=_at(level), low=f"{low:.0f}", high=f"{high:.0f}")
    reason = reason if own else also(reason, say("no_baseline"))
    ok = inside(power.median, low, high)
    return _held_against(level, power, judged(ok, reason, value=power.median, low=low, high=high, samples=power.count))


def fan_speed(view: View, criterion: Criterion) -> Measured:
    """#3: median and steadiness of the supply fan's speed."""
    limits = criterion.limits
    at = judged_level(view, limits["min_s"])
    if at is None:
        return _short(limits["min_s"])
    level, rows = at
    rated = _rated(view.card.rpm, level)
    if not rated:
        return _no_card_value("rpm", level)
    column = view.line.numbers("fan_supply_rpm")
    speed = view.pick(rows, column)
    steady = view.pick(_after_change(view, rows, limits["settle_s"] * 1000), column)
    if not speed.dense or not steady.count:
        return pending(sparse(steady if speed.dense else speed), samples=speed.count)
    low, high, wobble = limits["low"] * rated, limits["high"] * rated, 100.0 * steady.variation
    if wobble > limits["cv_pct"] + EPSILON:
        reason = say("unsteady", share=f"{wobble:.1f}", allowed=f"{limits['cv_pct']:.0f}")
        return judged(False, reason, value=speed.median, low=low, high=high, samples=speed.count)
    reason = also(
        say("fan_speed", value=f"{speed.median:.0f}", at=_at(level), low=f"{low:.0f}", high=f"{high:.0f}"),
        say("varies", share=f"{wobble:.1f}"),
    )
    ok = inside(speed.median, low, high)
    return _held_against(level, speed, judged(ok, reason, value=speed.median, low=low, high=high, samples=speed.count))


def _after_change(view: View, rows: Sequence[int], settle_ms: float) -> list[int]:
    """Rows without the first moments after a change of level: a fan has inertia (EJ)."""
    ts = view.line.ts
    changed = [i for i in view.rows if i > view.start and view.line.levels[i] != view.line.levels[i - 1]]
    latest = [bisect_right(changed, i) - 1 for i in rows]
    return [i for i, k in zip(rows, latest, strict=True) if k < 0 or ts[i] - ts[changed[k]] >= settle_ms]


def airflow(view: View, criterion: Criterion) -> Measured:
    """#4: median airflow; never below 0.70 of the level's for 5 min."""
    limits, column = criterion.limits, view.line.numbers("airflow_m3h")
    starved = _starved(view, column, limits["never"], limits["never_s"] * 1000)
    if starved is not None:
        reason = say("starved", share=f"{limits['never']:.0%}", seconds=f"{limits['never_s']:.0f}")
        return judged(False, reason, value=column[starved], at=starved)
    at = judged_level(view, limits["min_s"])
    if at is None:
        return _short(limits["min_s"])
    level, rows = at
    rated = _rated(view.card.airflow_m3h, level)
    if not rated:
        return _no_card_value("airflow_m3h", level)
    flow = view.pick(rows, column)
    if not flow.dense:
        return pending(sparse(flow), samples=flow.count)
    low = limits["low"] * rated
    reason = say("airflow", value=f"{flow.median:.0f}", at=_at(level), low=f"{low:.0f}")
    ok = inside(flow.median, low, None)
    return _held_against(level, flow, judged(ok, reason, value=flow.median, low=low, samples=flow.count))


def _starved(view: View, column: Sequence[float | None], share: float, for_ms: float) -> int | None:
    since: int | None = None
    last = 0
    for i in view.settled:
        flow, level = column[i], view.line.levels[i]
        if flow is None:
            continue
        rated = _rated(view.card.airflow_m3h, level) if level is not None else 0.0
        if flow >= share * rated * (1 - EPSILON) or (since is not None and view.line.ts[i] - last > GAP_MS):
            since = None
        if flow < share * rated * (1 - EPSILON):
            since = view.line.ts[i] if since is None else since
            if view.line.ts[i] - since >= for_ms:
                return i
        last = view.line.ts[i]
    return None


def filter_pressure(view: View, criterion: Criterion) -> Measured:
    """#5: median pressure drop, brought to rated flow where the flow is known."""
    limits, card, line = criterion.limits, view.card, view.line
    if not card.dp_clean_pa:
        return unknowable(say("no_card_value", field="dp_clean_pa"))
    at = judged_level(view, limits["min_s"])
    if at is None:
        return _short(limits["min_s"])
    _, rows = at
    column: Sequence[float | None] = line.numbers("filter_dp_pa")
    rated = max(card.airflow_m3h, default=0.0)
    corrected = bool(rated) and line.exists("airflow_m3h")
    if corrected:
        column = [
            None if dp is None or not flow else dp * (rated / flow) ** limits["exponent"]
            for dp, flow in zip(column, line.numbers("airflow_m3h"), strict=True)
        ]
    drop = view.pick(rows, column)
    if not drop.dense:
        return pending(sparse(drop), samples=drop.count)
    low = limits["low_clean"] * card.dp_clean_pa
    high = limits["high_clean"] * card.dp_clean_pa if "high_clean" in limits else card.dp_final_pa or None
    ok = inside(drop.median, low, high) and ("high_clean" in limits or high is None or drop.median < high)
    how = say("at_rated_flow") if corrected else say("uncorrected")
    if high:
        reason = say("pressure", value=f"{drop.median:.0f}", how=how, low=f"{low:.0f}", high=f"{high:.0f}")
    else:
        reason = say("pressure_least", value=f"{drop.median:.0f}", how=how, low=f"{low:.0f}")
    return judged(ok, reason, value=drop.median, low=low, high=high, samples=drop.count)


def _pairs(view: View, rows: Sequence[int]) -> tuple[Picked, Picked]:
    """In and out, of samples that have both."""
    into, out = view.line.numbers(PM_IN), view.line.numbers(PM_OUT)
    both = [a is not None and b is not None for a, b in zip(into, out, strict=True)]
    return (
        view.pick(rows, [v if ok else None for v, ok in zip(into, both, strict=True)]),
        view.pick(rows, [v if ok else None for v, ok in zip(out, both, strict=True)]),
    )


def pm25_efficiency(view: View, criterion: Criterion) -> Measured:
    """#6: 1 − median(out)/median(in) against what the sensors' error allows at this intake."""
    limits, card, line = criterion.limits, view.card, view.line
    if not (line.exists(PM_IN) and line.exists(PM_OUT)):
        return unknowable(say("no_pair"))
    if card.pm25_out_at == "room":
        return unknowable(say("room_sensor"))
    if not card.eta_pm25:
        return unknowable(say("no_card_value", field="eta_pm25"))
    at = judged_level(view, limits["min_s"])
    if at is None:
        return _short(limits["min_s"])
    into, out = _pairs(view, at[1])
    if not into.enough(view.complete):
        return pending(sparse(into, view.complete), samples=into.count)
    cin = into.median
    if cin < limits["assessable_ugm3"]:
        clean = say("clean_air", value=f"{cin:.0f}", needed=f"{limits['assessable_ugm3']:.0f}")
        return unknowable(clean, probation=True)
    efficiency, least = 1.0 - out.median / cin, eta_min(cin, card.eta_pm25, card.sensor_err_abs, card.sensor_err_rel)
    weak = cin < limits["strict_ugm3"]
    reason = say("efficiency", value=f"{efficiency:.2f}", intake=f"{cin:.0f}", low=f"{least:.2f}")
    reason = also(reason, say("weak")) if weak else reason
    return judged(
        inside(efficiency, least, None), reason, value=efficiency, low=least, samples=into.count, probation=weak
    )


def supply_pm25(view: View, criterion: Criterion) -> Measured:
    """#7: supply air over the last 5 min is not dirtier than the intake."""
    limits, line = criterion.limits, view.line
    if not (line.exists(PM_IN) and line.exists(PM_OUT)):
        return unknowable(say("one_side"), reached=False)
    if view.card.pm25_out_at == "room":
        return unknowable(say("room_sensor"), reached=False)
    rows = view.settled
    since = view.now - limits["last_s"] * 1000 if view.rows else 0
    if not rows or line.ts[rows[0]] > since:
        return pending(say("settled", seconds=f"{limits['last_s']:.0f}"))
    into, out = _pairs(view, [i for i in rows if line.ts[i] >= since])
    whole = replace(into, expected=limits["last_s"] * 1000 / (view.interval_ms or 1))
    if not whole.dense:
        return pending(sparse(whole), samples=into.count)
    high = into.median + limits["above_in"]
    reason = also(
        say("supply_pm25", value=f"{out.median:.0f}", high=f"{high:.0f}"),
        say("target", value=f"{limits['target']:.0f}"),
    )
    return judged(inside(out.median, None, high), reason, value=out.median, high=high, samples=out.count)


def sensors_alive(view: View, criterion: Criterion) -> Measured:
    """#8: each sensor moves within any 10 min, or agrees with its partner."""
    limits, line, rows = criterion.limits, view.line, view.settled
    present = [channel for channel in criterion.channels if line.exists(channel)]
    for channel in present:
        frozen = _frozen(view, channel, rows, limits["flat_s"] * 1000, limits["partner_ugm3"])
        if frozen is not None:
            seconds = f"{limits['flat_s']:.0f}"
            still = say("intake_frozen", seconds=seconds) if channel == PM_IN else say("supply_frozen", seconds=seconds)
            return judged(False, still, value=0.0, at=frozen)
    seen = [view.pick(rows, line.numbers(channel)) for channel in present]
    short = next((p for p in seen if p.seconds < limits["flat_s"] or not p.dense), None)
    if short is not None:
        seen_s, needed = f"{short.seconds:.0f}", f"{limits['flat_s']:.0f}"
        return pending(say("each_sensor", seconds=seen_s, needed=needed), samples=short.count)
    moves = [max(p.values) - min(p.values) for p in seen]
    if not moves:
        return pending(say("no_pm_sensor"))
    return judged(
        True,
        say("moved", value=f"{min(moves):.0f}"),
        value=min(moves),
        samples=sum(p.count for p in seen),
    )


def _frozen(view: View, channel: str, rows: Sequence[int], flat_ms: float, partner: float) -> int | None:
    """First row at which a sensor has stood still for 10 min, away from its partner."""
    line, column = view.line, view.line.numbers(channel)
    other = line.numbers(PM_OUT if channel == PM_IN else PM_IN)
    stay: list[int] = []
    for i in rows:
        value = column[i]
        if value is None:
            continue
        if stay and (value != column[stay[-1]] or line.ts[i] - line.ts[stay[-1]] > GAP_MS):
            stay = []
        stay.append(i)
        while len(stay) > 1 and line.ts[i] - line.ts[stay[1]] >= flat_ms:
            stay.pop(0)
        if line.ts[i] - line.ts[stay[0]] >= flat_ms:
            apart = [abs(value - o) for j in stay if (o := other[j]) is not None]
            if not apart or median(apart) > partner + EPSILON:
                return i
    return None


def co2(view: View, criterion: Criterion) -> Measured:
    """#9: CO₂ is plausible."""
    limits = criterion.limits
    seen = view.pick(view.settled, view.line.numbers("co2_in_ppm"))
    if not seen.enough(view.complete):
        return pending(sparse(seen, view.complete), samples=seen.count)
    lowest, highest = min(seen.values), max(seen.values)
    ok = inside(lowest, limits["low"], None) and inside(highest, None, limits["high"])
    reason = say("co2", low=f"{lowest:.0f}", high=f"{highest:.0f}")
    return judged(ok, reason, value=seen.median, low=limits["low"], high=limits["high"], samples=seen.count)


def supply_temp(view: View, criterion: Criterion) -> Measured:
    """#10: lowest and highest supply temperature; with the heater on, at least 3 K above the intake."""
    limits, line, rows = criterion.limits, view.line, view.settled
    low, high = limits["low"], limits["high"]
    column = line.numbers("temp_supply_c")
    for i in rows:
        temp = column[i]
        if temp is not None and not inside(temp, low, high):
            reason = say("supply_temp", value=f"{temp:.1f}", low=f"{low:.0f}", high=f"{high:.0f}")
            return judged(False, reason, value=temp, low=low, high=high, at=i)
    seen = view.pick(rows, column)
    if not seen.enough(view.complete):
        return pending(sparse(seen, view.complete), samples=seen.count)
    coldest, warmest = f"{min(seen.values):.1f}", f"{max(seen.values):.1f}"
    reason = say("supply_temps", coldest=coldest, warmest=warmest, low=f"{low:.0f}", high=f"{high:.0f}")
    outside = line.numbers("temp_out_c")
    rises = [None if a is None or b is None else a - b for a, b in zip(column, outside, strict=True)]
    heated = [i for i in rows if line.column("ptc_on")[i] is True or line.states[i] == "preheating"]
    rise = view.pick(heated, rises)
    if rise.seconds >= limits["ptc_min_s"] and rise.dense:
        least = limits["ptc_rise_k"]
        reason = also(reason, say("heater_lifts", rise=f"{rise.median:.1f}", low=f"{least:.0f}"))
        if not inside(rise.median, least, None):
            return judged(False, reason, value=rise.median, low=least, samples=rise.count)
    elif "ptc_required" in limits:
        return pending(say("heater_seconds", seconds=f"{rise.seconds:.0f}"), samples=rise.count)
    return judged(True, reason, value=seen.median, low=low, high=high, samples=seen.count)


def fan_drift(view: View, criterion: Criterion) -> Measured:
    """Fan plan: power and speed of the last third of the run against the first, at the judged level."""
    limits = criterion.limits
    at = judged_level(view, 180.0)
    if at is None or not view.complete:
        return pending(say("not_long_enough"))
    rows = _after_change(view, _without_heater(view, at[1]), limits["settle_s"] * 1000)
    third = len(rows) // 3
    drifts: list[float] = []
    count = 0
    for channel in ("power_w", "fan_supply_rpm"):
        if not view.line.exists(channel):
            continue
        column = view.line.numbers(channel)
        first, last = view.pick(rows[:third], column), view.pick(rows[len(rows) - third :], column)
        if not (first.dense and last.dense and first.median > 0):
            return pending(say("thirds_unusable"), samples=first.count)
        drifts.append(100.0 * (last.median / first.median - 1.0))
        count += first.count + last.count
    drift = max(drifts, key=abs)
    high = limits["high"]
    reason = say("fan_drift", drift=f"{drift:+.1f}", allowed=f"{high:.0f}")
    return judged(inside(drift, -high, high), reason, value=drift, low=-high, high=high, samples=count)


def filter_life(view: View, criterion: Criterion) -> Measured:
    """Filter plan: the life counter was reset."""
    low = criterion.limits["low"]
    seen = [v for i in view.rows if (v := view.line.numbers("filter_life_pct")[i]) is not None]
    if not seen:
        return pending(say("no_counter"))
    reason = say("filter_life", value=f"{seen[-1]:.0f}", low=f"{low:.0f}")
    if round(seen[-1]) < low and not view.complete:
        return pending(reason, samples=len(seen), value=seen[-1])
    return judged(round(seen[-1]) >= low, reason, value=seen[-1], low=low, samples=len(seen))
