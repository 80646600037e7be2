"""How the criteria of soy-milk machines are measured (equipment.md §7.1, rulings §7.5)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf

from domain.catalogue.plan_model import Criterion
from domain.verification.measure import EPSILON, Measured, inside, judged, pending, sparse, unknowable
from domain.verification.reasons import also, say
from domain.verification.statistics import Picked, slope
from domain.verification.timeline import GAP_MS, HELD_MS, MAX_INTERVAL_MS, Timeline, View

IDLE = ("standby", "dispensing")
AFTER_FILLING = ("grinding", "heating", "boil_hold", "keep_warm", "filtering", "dispensing", "cleaning")


def heating_power(view: View, criterion: Criterion) -> Measured:
    """#2: median Pn with the heater on, and how often the heater is on without its power."""
    limits, rated = criterion.limits, view.card.p_heat_w
    if not rated:
        return unknowable(say("no_card_value", field="p_heat_w"))
    line = view.line
    rows = [i for i in view.rows if line.heater_on[i]]
    power = view.pick(rows, line.normalised)
    if power.seconds < limits["min_s"]:
        seen, needed = f"{power.seconds:.0f}", f"{limits['min_s']:.0f}"
        return pending(say("heating_seen", seen=seen, needed=needed), samples=power.count)
    if not power.dense:
        return pending(sparse(power), samples=power.count)
    low, high = limits["low"] * rated, limits["high"] * rated
    own = view.run.baseline.pn_w.get("heating")
    if own:
        low, high = max(low, limits["base_low"] * own), min(high, limits["base_high"] * own)
    settled = view.pick(_after_grace(view, rows, limits["dip_grace_s"] * 1000), line.normalised)
    dips = settled.share(limits["dip"] * rated * (1 - EPSILON))
    ok = inside(power.median, low, high)
    reason = say("heating_power", value=f"{power.median:.0f}", low=f"{low:.0f}", high=f"{high:.0f}")
    reason = reason if own else also(reason, say("no_baseline"))
    if dips > limits["dip_share"] + EPSILON:
        ok = False
        share, watt, allowed = f"{dips:.0%}", f"{limits['dip'] * rated:.0f}", f"{limits['dip_share']:.0%}"
        reason = say("heater_dips", share=share, watt=watt, allowed=allowed)
    return judged(ok, reason, value=power.median, low=low, high=high, samples=power.count)


def phase_balance(view: View, criterion: Criterion) -> Measured:
    """#3: median (max − min)/mean of the three currents with the heater on."""
    line = view.line
    phases = [line.numbers(channel) for channel in criterion.channels]
    spread: list[float | None] = []
    for row in zip(*phases, strict=True):
        given = [v for v in row if v is not None]
        mean = sum(given) / len(given) if len(given) == len(phases) else 0.0
        spread.append(100.0 * (max(given) - min(given)) / mean if mean > 0 else None)
    share = view.pick([i for i in view.rows if line.heater_on[i]], spread)
    if share.seconds < criterion.limits["min_s"] or not share.dense:
        return pending(say("three_currents"), samples=share.count)
    high = criterion.limits["high"]
    return judged(
        inside(share.median, None, high),
        say("phase_balance", value=f"{share.median:.1f}", high=f"{high:.0f}"),
        value=share.median, high=high, samples=share.count,
    )  # fmt: skip


def grinds(view: View, min_s: float) -> list[tuple[int, int]]:
    """(first, last row) of each grind that lasted at least ``min_s``."""
    return [(a, b) for _, a, b in view.runs("grinding") if view.seconds(range(a, b + 1)) >= min_s]


def _ground(view: View, stays: Sequence[tuple[int, int]], inrush_s: float) -> Picked:
    """Power of these grinds without the first seconds of each."""
    ts = view.line.ts
    rows = [i for a, b in stays for i in range(a, b + 1) if ts[i] - ts[a] >= inrush_s * 1000]
    return view.pick(rows, view.line.numbers("power_w"))


def grind_power(view: View, criterion: Criterion) -> Measured:
    """#4: median and 99th percentile of grinding power."""
    limits, rated = criterion.limits, view.card.p_motor_w
    if not rated:
        return unknowable(say("no_card_value", field="p_motor_w"))
    if not grinds(view, limits["min_s"]):
        return pending(say("no_grind", needed=f"{limits['min_s']:.0f}"))
    power = _ground(view, [(a, b) for _, a, b in view.runs("grinding")], limits["inrush_s"])
    if not power.dense:
        return pending(sparse(power), samples=power.count)
    low, high, peak = limits["low"] * rated, limits["high"] * rated, power.percentile(99)
    reason = also(
        say("grind_power", value=f"{power.median:.0f}", low=f"{low:.0f}", high=f"{high:.0f}"),
        say("percentile_99", value=f"{peak:.0f}"),
    )
    ok = inside(power.median, low, high) and inside(peak, None, limits["peak"] * rated)
    return judged(ok, reason, value=power.median, low=low, high=high, samples=power.count)


def grind_drift(view: View, criterion: Criterion) -> Measured:
    """Motor plan: grinding power of the last grind against the first."""
    limits = criterion.limits
    stays = grinds(view, limits["min_s"])
    if len(stays) < limits["grinds"]:
        seconds, needed = f"{limits['min_s']:.0f}", f"{limits['grinds']:.0f}"
        return pending(say("grinds_seen", count=f"{len(stays)}", seconds=seconds, needed=needed))
    first, last = (_ground(view, [stay], limits["inrush_s"]) for stay in (stays[0], stays[-1]))
    if not (first.dense and last.dense and first.median > 0):
        return pending(say("grind_samples"), samples=first.count + last.count)
    drift = 100.0 * (last.median / first.median - 1.0)
    reason = say("grind_drift", drift=f"{drift:+.1f}", first=f"{first.median:.0f}", last=f"{last.median:.0f}")
    high = limits["high"]
    return judged(
        inside(drift, -high, high), reason, value=drift, low=-high, high=high, samples=first.count + last.count
    )


@dataclass
class Batch:
    """The fills since the last heat, and the heat that follows. ``closed``: work has begun, no more water is expected."""

    fills: list[tuple[int, int]] = field(default_factory=list)
    heats: list[tuple[int, int]] = field(default_factory=list)
    closed: bool = False


def batches(view: View) -> list[Batch]:
    """The batches of a view in order; one whose water came before the view has no fills."""
    found: list[Batch] = []
    current: Batch | None = None
    for state, first, last in view.runs():
        if current and state in AFTER_FILLING:
            current.closed = True
        if state == "filling":
            if current is None or current.heats:
                current = Batch()
                found.append(current)
            current.fills.append((first, last))
            current.closed = False
        elif state in ("heating", "boil_hold", "keep_warm"):
            if current is None:
                current = Batch()
                found.append(current)
            current.heats.append((first, last))
        elif state in ("dispensing", "cleaning"):
            current = None  # emptied: what comes next is another batch
    return found


def litres(view: View, batch: Batch) -> float | None:
    """V of a batch: by the counter, else by the flow; None where a fill was not seen whole."""
    if not batch.fills:
        return None
    total = 0.0
    for first, last in batch.fills:
        poured = _poured(view, first, last)
        if poured is None:
            return None
        total += poured
    return total


def _poured(view: View, first: int, last: int) -> float | None:
    line = view.line
    if last >= view.stop:
        return None
    around = range(max(first - 1, 0), last + 1)
    if any(line.gap[i] > MAX_INTERVAL_MS for i in around):
        return None
    counter = line.numbers("water_total_l")
    if line.exists("water_total_l"):
        before = next((counter[i] for i in range(first - 1, -1, -1) if counter[i] is not None), None)
        if before is None:
            before = next((counter[i] for i in range(first, last + 1) if counter[i] is not None), None)
        after = next((counter[i] for i in range(last + 1, view.stop + 1) if counter[i] is not None), None)
        return None if before is None or after is None or after < before else after - before
    flow = line.numbers("water_flow_lpm")
    known = [i for i in range(first, last + 1) if flow[i] is not None]
    if not known or known[0] != first or line.ts[last + 1] - line.ts[known[-1]] > MAX_INTERVAL_MS:
        return None
    if any(line.ts[b] - line.ts[a] > MAX_INTERVAL_MS for a, b in pairwise(known)):
        return None
    ends = [*known[1:], last + 1]
    return sum((flow[i] or 0.0) * (line.ts[end] - line.ts[i]) for i, end in zip(known, ends, strict=True)) / 60_000


def heat_rate(view: View, criterion: Criterion) -> Measured:
    """#5: regression of temperature over heating below boiling, over the rate that the rated power should give."""
    limits, line, card = criterion.limits, view.line, view.card
    if not card.p_heat_w:
        return unknowable(say("no_card_value", field="p_heat_w"))
    temps, ceiling = line.numbers("temp_c"), card.boiling_c - limits["below_boiling_k"]
    ratios: list[tuple[float, float, float]] = []
    count, longest, volume_missing = 0, 0.0, False
    for batch in batches(view):
        stays = [
            [i for i in range(a, b + 1) if line.states[i] == "heating" and _below(temps[i], ceiling)]
            for a, b in batch.heats
        ]
        rows = [i for stay in stays for i in stay]
        temp, volts = view.pick(rows, temps), view.pick(rows, line.volts_near)
        longest = max(longest, temp.seconds)
        if temp.seconds < limits["min_s"] or not temp.dense or not volts.count:
            continue
        rate = slope([(line.ts[i] / 60_000, t) for i in stay if (t := temps[i]) is not None] for stay in stays if stay)
        volume = litres(view, batch)
        if not volume or rate is None:
            volume_missing = True
            continue
        heat_w = card.p_heat_w * (volts.median / card.rated_v) ** 2 * limits["efficiency"]
        expected = heat_w * 60.0 / (volume * limits["j_per_l_k"])
        ratios.append((rate / expected, rate, expected))
        count += temp.count
    if not ratios:
        if volume_missing:
            return pending(say("volume_unknown"))
        seen, needed = f"{longest:.0f}", f"{limits['min_s']:.0f}"
        return pending(say("heating_below", seen=seen, temp=f"{ceiling:.0f}", needed=needed))
    ratio, rate, expected = max(ratios, key=lambda r: abs(r[0] - 1.0))
    low, high = limits["low"], limits["high"]
    reason = say(
        "heat_rate",
        rate=f"{rate:.2f}",
        expected=f"{expected:.2f}",
        ratio=f"{ratio:.2f}",
        low=f"{low:.2f}",
        high=f"{high:.2f}",
    )
    return judged(inside(ratio, low, high), reason, value=ratio, low=low, high=high, samples=count)


def _below(temp: float | None, ceiling: float) -> bool:
    return temp is None or temp < ceiling


@dataclass(frozen=True)
class Hold:
    """The boil so far: credited ms of the run that ends at each row, and the same if holes counted in full."""

    credited: Sequence[int]
    hopeful: Sequence[int]


def hold_from(line: Timeline, start: int, criterion: Criterion) -> Hold:
    """The boil hold of every row from ``start`` on: T ≥ Tb − 2, T a median of the last three, short shallow dips forgiven.

    A hole of 10–60 s credits 10 s, a longer one breaks the run (equipment.md §7.1 #6, §7.5).
    """
    limits = criterion.limits
    threshold = line.card.boiling_c - limits["below_boiling_k"]
    dip_ms, dip_k = limits["dip_s"] * 1000, limits["dip_k"]
    credited, hopeful = [0] * line.size, [0] * line.size
    recent: list[float] = []
    run = full = loan = full_loan = 0
    inside_run = False
    dip_since: int | None = None
    last: int | None = None
    for i, temp in enumerate(line.numbers("temp_c")[start:], start):
        if temp is not None:
            recent = [*recent[-2:], temp]
            smooth = sorted(recent)[(len(recent) - 1) // 2]
            step = line.ts[i] - line.ts[last] if last is not None else 0
            last = i
            if step > GAP_MS:
                inside_run, dip_since = False, None
            if inside_run:
                loan += min(step, HELD_MS)
                full_loan += step
                if dip_since is not None and line.ts[i] - dip_since > dip_ms:
                    inside_run, dip_since = False, None
            if smooth >= threshold - EPSILON:
                if not inside_run:
                    inside_run, run, full, loan, full_loan = True, 0, 0, 0, 0
                run, full, loan, full_loan, dip_since = run + loan, full + full_loan, 0, 0, None
            elif inside_run:
                dip_since = line.ts[i] if dip_since is None else dip_since
                inside_run = threshold - smooth <= dip_k + EPSILON
            if not inside_run:
                run = full = loan = full_loan = 0
                dip_since = None
        credited[i], hopeful[i] = run, full
    return Hold(credited, hopeful)


def hold_needed_s(view: View, criterion: Criterion) -> float:
    """The larger of the criterion's and the card's."""
    return max(criterion.limits["low"], view.card.t_boil_hold_s)


def boil_hold(view: View, criterion: Criterion) -> Measured:
    """#6: the longest run at boiling temperature."""
    limits, line = criterion.limits, view.line
    if not line.exists("temp_c"):
        return unknowable(say("no_probe"))
    held = hold_from(line, view.start, criterion)
    best_s = max((held.credited[i] for i in view.rows), default=0) / 1000
    hopeful_s = max((held.hopeful[i] for i in view.rows), default=0) / 1000
    need = hold_needed_s(view, criterion)
    temps = view.pick(view.rows, line.numbers("temp_c"))
    boiling = f"{view.card.boiling_c - limits['below_boiling_k']:.1f}"
    reason = say("boil_hold", seen=f"{best_s:.0f}", temp=boiling, needed=f"{need:.0f}")
    if not temps.dense:
        return pending(sparse(temps), samples=temps.count, value=best_s)
    if best_s >= need:
        return judged(True, reason, value=best_s, low=need, samples=temps.count)
    if "boil_hold" in view.run.plan.required and hopeful_s < need and _left_the_boil(view):
        return judged(False, reason, value=best_s, low=need, samples=temps.count)
    return pending(reason, samples=temps.count, value=best_s)


def _left_the_boil(view: View) -> bool:
    """From ``boil_hold`` into dispensing, or into standby for 60 s: the machine says that the batch is boiled."""
    boiled = False
    for state, first, last in view.runs():
        boiled = (boiled or state == "boil_hold") and state != "filling"
        stayed = view.line.ts[last] - view.line.ts[first]
        if boiled and state in IDLE and (state == "dispensing" or stayed >= GAP_MS):
            return True
    return False


def overflow_trips(view: View, criterion: Criterion) -> Measured:
    """#7: how often the overflow electrode tripped."""
    line, allowed = view.line, criterion.limits["high"]
    trips, wet, seen = 0, False, 0
    at: int | None = None
    for i in view.rows:
        recipe, electrode = line.column("recipe")[i], line.column("overflow_electrode")[i]
        if isinstance(recipe, str) and ("high" in recipe.casefold() or "高" in recipe):
            allowed = criterion.limits["high_recipe"]
        if electrode is None:
            continue
        seen += 1
        if electrode and not wet:
            trips += 1
            at = i if trips > allowed and at is None else at
        wet = bool(electrode)
    if not seen:
        return pending(say("no_electrode"))
    reason = say("trips", count=f"{trips}", allowed=f"{allowed:.0f}")
    return judged(at is None, reason, value=trips, high=allowed, samples=seen, at=at)


def water_fill(view: View, criterion: Criterion) -> Measured:
    """#8: flow while filling, and litres of each batch against the target where it is known."""
    line, tolerance, minimum = view.line, criterion.limits["tolerance"], view.card.fill_lpm_min
    stays = [(a, b) for _, a, b in view.runs("filling")]
    whole = [(a, b) for a, b in stays if b < view.stop]
    if not whole:
        return pending(say("no_fill"))
    flow = view.pick([i for a, b in stays for i in range(a, b + 1)], line.numbers("water_flow_lpm"))
    median = flow.median if flow.dense else None
    if not line.exists("water_flow_lpm"):
        poured = [(v, view.seconds(range(a, b + 1)) / 60) for a, b in whole if (v := _poured(view, a, b)) is not None]
        minutes = sum(m for _, m in poured)
        median = sum(v for v, _ in poured) / minutes if minutes else None
    if median is None:
        return pending(sparse(flow), samples=flow.count)
    rates = say("fill_rate", value=f"{median:.1f}", low=f"{minimum:.1f}")
    if not inside(median, minimum, None):
        return judged(False, rates, value=median, low=minimum, samples=flow.count)
    unknown = False
    worst: tuple[float, float] | None = None
    for batch in (b for b in batches(view) if b.fills and (b.closed or view.rest is not None)):
        target, volume = _target(view, batch), litres(view, batch)
        if target is None:
            continue
        if volume is None:
            unknown = True
        for filled in _volumes(view, batch, volume, target) if volume is not None else ():
            if worst is None or abs(filled / target - 1) > abs(worst[0] / worst[1] - 1):
                worst = filled, target
    if worst is None and unknown:
        return pending(also(rates, say("fill_not_whole")), samples=flow.count)
    if worst is None:
        if _any_target(view):
            return pending(also(rates, say("batch_incomplete")), samples=flow.count)
        return judged(True, also(rates, say("no_target")), value=median, low=minimum, samples=flow.count)
    volume, target = worst
    low, high = (1 - tolerance) * target, (1 + tolerance) * target
    ok = inside(volume, low, high)
    if ok and unknown:
        return pending(also(rates, say("other_fill_unknown")), samples=flow.count, value=volume)
    reason = also(say("volume", value=f"{volume:.1f}", target=f"{target:.1f}"), rates)
    return judged(ok, reason, value=volume, low=low, high=high, samples=flow.count)


def _volumes(view: View, batch: Batch, volume: float, target: float) -> list[float]:
    """What is held against the target: V, or each fill where the plan wants several and each was a whole one (#8 twice)."""
    single = [v for first, last in batch.fills if (v := _poured(view, first, last)) is not None]
    whole = [v for v in single if inside(v, 0.5 * target, None)]
    return single if "fills" in view.run.plan.done_when and len(whole) == len(single) else [volume]


def _target(view: View, batch: Batch) -> float | None:
    """The target reported nearest to the batch's first fill, else the one typed in."""
    reported, first = view.line.numbers("batch_target_l"), batch.fills[0][0]
    nearest = min((i for i in view.rows if reported[i]), key=lambda i: abs(i - first), default=None)
    return view.run.target_l if nearest is None else reported[nearest]


def _any_target(view: View) -> bool:
    return bool(view.run.target_l) or view.line.exists("batch_target_l")


def leak(view: View, criterion: Criterion) -> Measured:
    """#9: flow and litres with the valve shut, over the whole rest phase."""
    limits, line = criterion.limits, view.line
    if view.rest is None:
        return pending(say("no_rest"))
    # the meter may still show the water that ran when the valve closed
    rows = [i for i in range(view.rest, view.stop + 1) if line.ts[i] - line.ts[view.rest] >= HELD_MS]
    rested = (view.now - line.ts[view.rest]) / 1000
    if rested < limits["min_s"]:
        return pending(say("rest_so_far", seconds=f"{rested:.0f}"))
    flow = view.pick(rows, line.numbers("water_flow_lpm"))
    counted = [c for i in rows if (c := line.numbers("water_total_l")[i]) is not None]
    count = max(flow.count, len(counted))
    seen = [view.pick(rows, line.numbers(channel)).dense for channel in criterion.channels if line.exists(channel)]
    median = flow.median if flow.count else 0.0
    run = sum(v * w for v, w in zip(flow.values, flow.weights, strict=True)) / 60_000 if flow.count else 0.0
    total = max(run, counted[-1] - counted[0] if counted else 0.0)
    ok = inside(median, None, limits["flow_lpm"]) and inside(total, None, limits["total_l"])
    if not (all(seen) if ok else any(seen)):
        return pending(say("rest_samples"), samples=count)
    reason = say("leak", value=f"{median:.2f}", total=f"{total:.2f}", seconds=f"{rested:.0f}")
    return judged(ok, reason, value=median, high=limits["flow_lpm"], samples=count)


def keep_warm(view: View, criterion: Criterion) -> Measured:
    """#10: lowest temperature in keep_warm after the hold."""
    low, temps = criterion.limits["low"], view.line.numbers("temp_c")
    boiled, coldest, count = False, inf, 0
    at: int | None = None
    for i in view.rows:
        state, temp = view.line.states[i], temps[i]
        boiled = (boiled or state == "boil_hold") and state != "filling"
        if boiled and state == "keep_warm" and temp is not None:
            count, coldest = count + 1, min(coldest, temp)
            at = i if at is None and not inside(temp, low, None) else at
    if not count:
        return pending(say("not_reached"), reached=False)
    reason = say("keep_warm", value=f"{coldest:.1f}", low=f"{low:.0f}")
    return judged(at is None, reason, value=coldest, low=low, samples=count, at=at)


def standby_power(view: View, criterion: Criterion) -> Measured:
    """#12: median power of the last 60 s of the rest phase, in standby."""
    line, limits = view.line, criterion.limits
    if not view.card.p_standby_w:
        return unknowable(say("no_card_value", field="p_standby_w"))
    if view.rest is None:
        return pending(say("no_rest"))
    since = view.now - limits["last_s"] * 1000
    if line.ts[view.rest] > since:
        return pending(say("rest_short"))
    rows = [i for i in range(view.rest, view.stop + 1) if line.ts[i] >= since]
    # the row before the last 60 s reaches into them, where no row stands at their very beginning
    covered = range(rows[0] - (line.ts[rows[0]] > since), view.stop + 1)
    if any(line.states[i] != "standby" for i in covered):
        return pending(say("no_standby"))
    power = view.pick(rows, line.numbers("power_w"))
    if not power.dense:
        return pending(sparse(power), samples=power.count)
    high = limits["high"] * view.card.p_standby_w
    reason = say("standby_power", value=f"{power.median:.1f}", high=f"{high:.1f}")
    return judged(inside(power.median, None, high), reason, value=power.median, high=high, samples=power.count)


def probe_alive(view: View, criterion: Criterion) -> Measured:
    """#13: no jump, and not frozen: in heating below boiling, and over the whole rest phase."""
    limits, line = criterion.limits, view.line
    temps = line.numbers("temp_c")
    known = [i for i in view.rows if temps[i] is not None]
    if not known:
        return pending(say("probe_silent"))
    jump = _first_jump(view, temps, known, limits)
    flat = _first_flat(view, temps, limits)
    if jump is not None and (flat is None or jump <= flat):
        return judged(False, say("jump", step=f"{limits['step_k']:.0f}"), samples=len(known), at=jump)
    if flat is not None:
        reason = say("frozen_heating", range=f"{limits['flat_k']}", seconds=f"{limits['flat_s']:.0f}")
        return judged(False, reason, samples=len(known), at=flat)
    if view.rest is None or (view.now - line.ts[view.rest]) < view.run.plan.rest_s * 1000:
        return pending(say("rest_not_over"), samples=len(known))
    rest = view.pick(range(view.rest, view.stop + 1), temps)
    if not rest.dense:
        return pending(sparse(rest), samples=rest.count)
    span = max(rest.values) - min(rest.values)
    reason = say("rest_moved", span=f"{span:.1f}", needed=f"{limits['flat_k']}")
    return judged(span > limits["flat_k"] + EPSILON, reason, value=span, low=limits["flat_k"], samples=len(known))


_COOKING = ("heating", "boil_hold")


def _first_jump(
    view: View, temps: Sequence[float | None], known: Sequence[int], limits: Mapping[str, float]
) -> int | None:
    line = view.line
    for a, b in pairwise(known):
        if (
            line.states[b] in _COOKING
            and line.states[a] in _COOKING
            and line.ts[b] - line.ts[a] <= limits["step_s"] * 1000
        ):
            before, after = temps[a], temps[b]
            if before is not None and after is not None and abs(after - before) > limits["step_k"] + EPSILON:
                return b
    return None


def _first_flat(view: View, temps: Sequence[float | None], limits: Mapping[str, float]) -> int | None:
    """First row at which the probe has been within ``flat_k`` for ``flat_s`` of heating below boiling."""
    line, ceiling = view.line, view.card.boiling_c - limits["below_boiling_k"]
    for _, first, last in view.runs("heating"):
        stay = [(i, t) for i in range(first, last + 1) if (t := temps[i]) is not None]
        since = 0
        # Rows of the window that may still be its lowest and its highest: the first of each is, so no row is looked at twice.
        lows, highs = deque[tuple[int, float]](), deque[tuple[int, float]]()
        for place, (i, temp) in enumerate(stay):
            if temp >= ceiling:
                since = place + 1
                lows.clear()
                highs.clear()
                continue
            while lows and lows[-1][1] >= temp:
                lows.pop()
            while highs and highs[-1][1] <= temp:
                highs.pop()
            lows.append((place, temp))
            highs.append((place, temp))
            while highs[0][1] - lows[0][1] > limits["flat_k"] + EPSILON:
                since = min(lows[0][0], highs[0][0]) + 1
                for ends in (lows, highs):
                    while ends[0][0] < since:
                        ends.popleft()
            if line.ts[i] - line.ts[stay[since][0]] >= limits["flat_s"] * 1000:
                return i
    return None


def _after_grace(view: View, rows: Sequence[int], grace_ms: float) -> list[int]:
    """Heater-on rows without the first ms of each command."""
    ts = view.line.ts
    kept: list[int] = []
    since, before = 0, -1
    for i in rows:
        if before < 0 or i != before + 1:
            since = ts[i]
        if ts[i] - since >= grace_ms:
            kept.append(i)
        before = i
    return kept
