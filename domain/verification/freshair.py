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
from domain.verdicts import CriterionState
from domain.verification.measure import EPSILON, Measured, inside, judged, pending, unknowable
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


def _at(level: int | None) -> str:
    return "at an unreported level" if level is None else f"at level {level}"


def _no_card_value(field: str, level: int | None) -> Measured:
    return pending(f"The card has no {field} {_at(level)}")


def _short(min_s: float) -> Measured:
    return pending(f"No level has run for {min_s:.0f} s yet")


def _held_against(level: int | None, picked: Picked, result: Measured) -> Measured:
    """A miss at a level that nobody knows is no miss."""
    if level is None and result.state is CriterionState.FAIL:
        return pending(
            f"The level is not reported: {result.reason}", samples=result.samples, value=result.value,
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
        return pending(f"Level {short} was shown, but not for {limits['min_s']:.0f} s")
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
        return pending(f"Too little fan power {_at(level)} without the heater", samples=power.count)
    own = view.run.baseline.pn_w.get(f"running:{level}" if level else "running")
    low = max(limits["low"] * rated, limits["base_low"] * own if own else 0.0)
    high = limits["high_large" if rated > limits["large_w"] else "high"] * rated
    reason = f"Median {power.median:.0f} W {_at(level)}, limits {low:.0f}…{high:.0f} W" + ("" if own else _NO_BASELINE)
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
        return pending(_sparse(speed), samples=speed.count)
    low, high, wobble = limits["low"] * rated, limits["high"] * rated, 100.0 * steady.variation
    if wobble > limits["cv_pct"] + EPSILON:
        reason = f"Unsteady: varies by {wobble:.1f} %, {limits['cv_pct']:.0f} % allowed"
        return judged(False, reason, value=speed.median, low=low, high=high, samples=speed.count)
    reason = f"Median {speed.median:.0f} rpm {_at(level)}, limits {low:.0f}…{high:.0f}; varies by {wobble:.1f} %"
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
        reason = f"Below {limits['never']:.0%} of the level's airflow for {limits['never_s']:.0f} s"
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
        return pending(_sparse(flow), samples=flow.count)
    low = limits["low"] * rated
    reason = f"Median {flow.median:.0f} m³/h {_at(level)}, at least {low:.0f}"
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
        return unknowable("The card has no dp_clean_pa")
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
        return pending(_sparse(drop), samples=drop.count)
    low = limits["low_clean"] * card.dp_clean_pa
    high = limits["high_clean"] * card.dp_clean_pa if "high_clean" in limits else card.dp_final_pa or None
    ok = inside(drop.median, low, high) and ("high_clean" in limits or high is None or drop.median < high)
    reason = f"Median {drop.median:.0f} Pa {'at rated flow' if corrected else 'uncorrected'}, limits {low:.0f}…"
    return judged(
        ok, reason + (f"{high:.0f} Pa" if high else ""), value=drop.median, low=low, high=high, samples=drop.count
    )


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
        return unknowable("PM2.5 is not measured before and after the filter")
    if card.pm25_out_at == "room":
        return unknowable("The second PM2.5 sensor is in the room, not in the supply air")
    if not card.eta_pm25:
        return unknowable("The card has no eta_pm25")
    at = judged_level(view, limits["min_s"])
    if at is None:
        return _short(limits["min_s"])
    into, out = _pairs(view, at[1])
    if not into.enough(view.complete):
        return pending(_sparse(into), samples=into.count)
    cin = into.median
    if cin < limits["assessable_ugm3"]:
        return unknowable(f"Clean air: intake {cin:.0f} µg/m³, {limits['assessable_ugm3']:.0f} needed", probation=True)
    efficiency, least = 1.0 - out.median / cin, eta_min(cin, card.eta_pm25, card.sensor_err_abs, card.sensor_err_rel)
    weak = cin < limits["strict_ugm3"]
    reason = f"{efficiency:.2f} at {cin:.0f} µg/m³ intake, at least {least:.2f}" + ("; weak check" if weak else "")
    return judged(
        inside(efficiency, least, None), reason, value=efficiency, low=least, samples=into.count, probation=weak
    )


def supply_pm25(view: View, criterion: Criterion) -> Measured:
    """#7: supply air over the last 5 min is not dirtier than the intake."""
    limits, line = criterion.limits, view.line
    if not (line.exists(PM_IN) and line.exists(PM_OUT)):
        return unknowable("PM2.5 is measured on one side only", reached=False)
    if view.card.pm25_out_at == "room":
        return unknowable("The second PM2.5 sensor is in the room, not in the supply air", reached=False)
    rows = view.settled
    since = view.now - limits["last_s"] * 1000 if view.rows else 0
    if not rows or line.ts[rows[0]] > since:
        return pending(f"{limits['last_s']:.0f} s of settled running needed")
    into, out = _pairs(view, [i for i in rows if line.ts[i] >= since])
    whole = replace(into, expected=limits["last_s"] * 1000 / (view.interval_ms or 1))
    if not whole.dense:
        return pending(_sparse(whole), samples=into.count)
    high = into.median + limits["above_in"]
    reason = f"Median {out.median:.0f} µg/m³, at most {high:.0f}; target {limits['target']:.0f}"
    return judged(inside(out.median, None, high), reason, value=out.median, high=high, samples=out.count)


def sensors_alive(view: View, criterion: Criterion) -> Measured:
    """#8: each sensor moves within any 10 min, or agrees with its partner."""
    limits, line, rows = criterion.limits, view.line, view.settled
    present = [channel for channel in criterion.channels if line.exists(channel)]
    for channel in present:
        frozen = _frozen(view, channel, rows, limits["flat_s"] * 1000, limits["partner_ugm3"])
        if frozen is not None:
            name = "intake" if channel == PM_IN else "supply"
            return judged(False, f"The {name} sensor has not moved for {limits['flat_s']:.0f} s", value=0.0, at=frozen)
    seen = [view.pick(rows, line.numbers(channel)) for channel in present]
    short = next((p for p in seen if p.seconds < limits["flat_s"] or not p.dense), None)
    if short is not None:
        return pending(f"{short.seconds:.0f} s of each sensor, {limits['flat_s']:.0f} s needed", samples=short.count)
    moves = [max(p.values) - min(p.values) for p in seen]
    if not moves:
        return pending("No PM2.5 sensor has reported yet")
    return judged(
        True,
        f"The stiller sensor moved by {min(moves):.0f} µg/m³",
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
        return pending(_sparse(seen), samples=seen.count)
    lowest, highest = min(seen.values), max(seen.values)
    ok = inside(lowest, limits["low"], None) and inside(highest, None, limits["high"])
    reason = f"{lowest:.0f}…{highest:.0f} ppm"
    return judged(ok, reason, value=seen.median, low=limits["low"], high=limits["high"], samples=seen.count)


def supply_temp(view: View, criterion: Criterion) -> Measured:
    """#10: lowest and highest supply temperature; with the heater on, at least 3 K above the intake."""
    limits, line, rows = criterion.limits, view.line, view.settled
    low, high = limits["low"], limits["high"]
    column = line.numbers("temp_supply_c")
    for i in rows:
        temp = column[i]
        if temp is not None and not inside(temp, low, high):
            return judged(False, f"{temp:.1f} °C, limits {low:.0f}…{high:.0f} °C", value=temp, low=low, high=high, at=i)
    seen = view.pick(rows, column)
    if not seen.enough(view.complete):
        return pending(_sparse(seen), samples=seen.count)
    reason = f"{min(seen.values):.1f}…{max(seen.values):.1f} °C, limits {low:.0f}…{high:.0f} °C"
    outside = line.numbers("temp_out_c")
    rises = [None if a is None or b is None else a - b for a, b in zip(column, outside, strict=True)]
    heated = [i for i in rows if line.column("ptc_on")[i] is True or line.states[i] == "preheating"]
    rise = view.pick(heated, rises)
    if rise.seconds >= limits["ptc_min_s"] and rise.dense:
        least = limits["ptc_rise_k"]
        reason += f"; heater lifts it by {rise.median:.1f} K, at least {least:.0f} K"
        if not inside(rise.median, least, None):
            return judged(False, reason, value=rise.median, low=least, samples=rise.count)
    elif "ptc_required" in limits:
        return pending(f"{rise.seconds:.0f} s with the heater on and both temperatures", samples=rise.count)
    return judged(True, reason, value=seen.median, low=low, high=high, samples=seen.count)


def fan_drift(view: View, criterion: Criterion) -> Measured:
    """Fan plan: power and speed of the last third of the run against the first, at the judged level."""
    limits = criterion.limits
    at = judged_level(view, 180.0)
    if at is None or not view.complete:
        return pending("Known when the run is long enough")
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
            return pending(_sparse(first), samples=first.count)
        drifts.append(100.0 * (last.median / first.median - 1.0))
        count += first.count + last.count
    drift = max(drifts, key=abs)
    high = limits["high"]
    reason = f"{drift:+.1f} % from the first third to the last, {high:.0f} % allowed"
    return judged(inside(drift, -high, high), reason, value=drift, low=-high, high=high, samples=count)


def filter_life(view: View, criterion: Criterion) -> Measured:
    """Filter plan: the life counter was reset."""
    low = criterion.limits["low"]
    seen = [v for i in view.rows if (v := view.line.numbers("filter_life_pct")[i]) is not None]
    if not seen:
        return pending("The counter has not reported yet")
    reason = f"{seen[-1]:.0f} %, {low:.0f} % after a reset"
    if round(seen[-1]) < low and not view.complete:
        return pending(reason, samples=len(seen), value=seen[-1])
    return judged(round(seen[-1]) >= low, reason, value=seen[-1], low=low, samples=len(seen))


def _sparse(picked: Picked) -> str:
    return f"Too few samples: {picked.count} of {picked.expected:.0f} expected"


_NO_BASELINE = "; no baseline of this unit, that half is left out"
