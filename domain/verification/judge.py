"""The judge of a test run: a plan, a model card and samples in, a verdict out (equipment.md §7; §7.5 decides).

Pure and repeatable: the same plan copy and the same samples, in any order, give the same verdict for ever. A run is decided at
the first moment at which everything is fulfilled, or at the first failure that nothing can heal. Failed outranks Inconclusive,
Inconclusive outranks Passed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from domain.catalogue.model import ModelCard
from domain.catalogue.plan_model import Criterion, TestPlan
from domain.detection.baseline import Baseline
from domain.findings import Finding
from domain.readings import Reading
from domain.verdicts import CriterionResult, CriterionState, Outcome, Reason, Verdict
from domain.verification import common, freshair, soymilk
from domain.verification.common import Measure
from domain.verification.evidence import Evidence, prepare
from domain.verification.measure import Measured
from domain.verification.reasons import in_english, listed, say
from domain.verification.statistics import COVERAGE, MIN_SAMPLES
from domain.verification.timeline import MAX_INTERVAL_MS, Run, View
from domain.verification.windows import Check, Course, Window, course

_COMMON: Mapping[str, Measure] = {"voltage": common.voltage, "entry": common.entry}
_SOYMILK: Mapping[str, Measure] = {
    "heating_power": soymilk.heating_power,
    "phase_balance": soymilk.phase_balance,
    "grind_power": soymilk.grind_power,
    "grind_drift": soymilk.grind_drift,
    "heat_rate": soymilk.heat_rate,
    "boil_hold": soymilk.boil_hold,
    "overflow_trips": soymilk.overflow_trips,
    "water_fill": soymilk.water_fill,
    "leak": soymilk.leak,
    "keep_warm": soymilk.keep_warm,
    "standby_power": soymilk.standby_power,
    "probe_alive": soymilk.probe_alive,
}
_FRESHAIR: Mapping[str, Measure] = {
    "fan_power": freshair.fan_power,
    "fan_speed": freshair.fan_speed,
    "fan_drift": freshair.fan_drift,
    "airflow": freshair.airflow,
    "filter_pressure": freshair.filter_pressure,
    "filter_life": freshair.filter_life,
    "pm25_efficiency": freshair.pm25_efficiency,
    "supply_pm25": freshair.supply_pm25,
    "sensors_alive": freshair.sensors_alive,
    "co2": freshair.co2,
    "supply_temp": freshair.supply_temp,
}
MEASURES: Mapping[str, Measure] = {**_COMMON, **_SOYMILK, **_FRESHAIR}
"""Criterion key → how it is measured; ``alarms`` is made for each run."""

LASTING = ("overflow_trips", "probe_alive", "keep_warm", "airflow", "sensors_alive", "supply_temp")
"""Criteria whose failure no further sample can heal."""
RESTING = ("leak", "standby_power")
"""Criteria that are judged when a rest phase ends too early."""
_OPEN = (CriterionState.PENDING, CriterionState.NOT_ASSESSABLE)


def judge(
    plan: TestPlan,
    card: ModelCard,
    samples: Sequence[Reading],
    *,
    baseline: Baseline | None = None,
    original_rule: str | None = None,
    entries: Mapping[str, float | bool] | None = None,
    demo_site: bool = False,
    target_l: float | None = None,
    ended: bool = True,
    probation_wanted: bool = False,
) -> Verdict:
    """The verdict on ``samples`` of one machine.

    ``original_rule``: the rule of the finding that was repaired; its firing fails the run at any severity. ``entries``: what the
    technician typed, by the keys of ``plan.entries``. ``target_l``: batch volume typed in, used where the machine reports none.
    ``ended`` False: samples are still coming, and what they can still bring is PENDING. ``demo_site``: simulated samples count.
    ``probation_wanted``: a pass is on probation whatever the air (the plan may ask for it too).
    """
    evidence = prepare(samples, demo_site=demo_site)
    run = Run(
        plan=plan, card=card, readings=evidence.readings, channels=evidence.channels, baseline=baseline or Baseline(),
        entries=entries or {}, target_l=target_l, original_rule=original_rule,
    )  # fmt: skip
    return _Judgement(run, evidence, ended=ended, probation_wanted=probation_wanted or plan.probation).verdict()


class _Blocked(NamedTuple):
    """A required criterion that cannot be judged yet, in this rest phase, and not before the time ``until``."""

    key: str
    rest: int | None
    until: int


class _Judgement:
    """The walk through one run; lives for one call of :func:`judge`."""

    def __init__(self, run: Run, evidence: Evidence, *, ended: bool, probation_wanted: bool) -> None:
        self.run, self.evidence, self.probation_wanted = run, evidence, probation_wanted
        self.course: Course = course(run)
        # what a bad clock or a simulator sends never reaches the cap: nobody shall wait for a pass that cannot come
        hopeless = bool(evidence.obstacles) and evidence.span_ms > run.plan.cap_s * 1000
        self.ended = ended or self.course.capped or hopeless
        self.criteria = {c.key: c for c in run.plan.criteria}
        self.alarm: tuple[int, Finding] | None = None
        if "alarms" in self.criteria:
            self.alarm = common.first_alarm(run, self.course.last)
        self.measures = {**MEASURES, "alarms": common.alarms(self.alarm)}

    def verdict(self) -> Verdict:
        """Walk through the windows in order of time and stop at the first decision."""
        for window in self.course.windows:
            decided = self._before(window.start) or self._in(window)
            if decided:
                return decided
        return self._before(self.run.line.size) or self._at_the_end()

    def _before(self, row: int) -> Verdict | None:
        """An alarm between two windows."""
        if self.alarm and self.alarm[0] < row:
            return self._failed(self._view_at(self.alarm[0]), self.alarm[0])
        return None

    def _in(self, window: Window) -> Verdict | None:
        fatal = self._first_lasting_failure(window)
        blocked: _Blocked | None = None
        for check in window.checks:
            if fatal is not None and check.row >= fatal:
                break
            view = self._view(window, check.stop, check.rest)
            if check.kind == "candidate":
                if self.evidence.obstacles or (blocked and self._still(blocked, view)):
                    continue
                found = self._candidate(view, check)
                if isinstance(found, Verdict):
                    return found
                blocked = found
            else:
                keys = RESTING if check.kind == "rest_broken" else tuple(self.criteria)
                if any(self._measure(key, view).state is CriterionState.FAIL for key in keys if key in self.criteria):
                    return self._failed(view, check.row)
        return None if fatal is None else self._failed(self._view(window, fatal, self._rest_at(window, fatal)), fatal)

    def _still(self, blocked: _Blocked, view: View) -> bool:
        """Whether what stood in the way a moment ago still does; saves the rest of the work."""
        if view.rest == blocked.rest and view.now < blocked.until:
            return True
        return self._blocks(blocked.key, self._measure(blocked.key, view))

    def _first_lasting_failure(self, window: Window) -> int | None:
        """Row of the first failure in this window that no further sample can heal."""
        whole = self._view(window, window.last, window.rest)
        rows = [self._measure(key, whole).at for key in LASTING if key in self.criteria]
        rows.append(self.alarm[0] if self.alarm and self.alarm[0] <= window.last else None)
        return min((row for row in rows if row is not None), default=None)

    def _candidate(self, view: View, check: Check) -> Verdict | _Blocked | None:
        """The verdict if all is fulfilled, else the criterion that stands in the way; None where the samples are too thin."""
        if _too_thin(view):
            return None
        found = {key: self._measure(key, view) for key in self.criteria}
        for key, measured in found.items():
            if self._blocks(key, measured):
                return _Blocked(key, view.rest, view.now + measured.retry_ms)
        if any(m.state is CriterionState.FAIL for m in found.values()):
            return self._failed(view, check.row)
        asked = self.criteria.keys() & set(self.run.plan.required)
        probation = self.probation_wanted or any(m.probation for key, m in found.items() if key in asked)
        return self._verdict(Outcome.PASSED, view, self._now(check.row), (), probation=probation)

    def _blocks(self, key: str, measured: Measured) -> bool:
        """Whether a required criterion is not yet, or cannot be, judged; clean air does not block, it brings probation."""
        return measured.state in _OPEN and not measured.probation and self._required(self.criteria[key], measured)

    def _required(self, criterion: Criterion, measured: Measured) -> bool:
        plan, line = self.run.plan, self.run.line
        match criterion.when:
            case "always":
                return True
            case "channel":
                return any(line.exists(channel) for channel in criterion.channels)
            case "three_phase":
                return self.run.card.phases == 3 and all(line.exists(channel) for channel in criterion.channels)
            case "reached":
                return measured.reached
            case "entry":
                return bool(plan.entries)
            case _:
                return criterion.key in plan.required

    def _measure(self, key: str, view: View) -> Measured:
        return self.measures[key](view, self.criteria[key])

    def _view(self, window: Window, stop: int, rest: int | None) -> View:
        return View(self.run, window.start, stop, rest, window.rest_from if rest is not None else None)

    def _rest_at(self, window: Window, row: int) -> int | None:
        """The rest phase that was in force at ``row``, as far as the window's checks remember it."""
        return next((c.rest for c in window.checks if c.rest is not None and c.rest <= row <= c.row), None)

    def _view_at(self, row: int) -> View:
        """The last window that had begun by ``row``, as it stood then; empty before the first."""
        begun = [w for w in self.course.windows if w.start <= row]
        if not begun:
            return View(self.run, 0, -1, after=row)
        window = begun[-1]
        return replace(self._view(window, min(row, window.last), self._rest_at(window, row)), after=row)

    def _now(self, row: int) -> int:
        return self.run.line.ts[row]

    def _failed(self, view: View, row: int) -> Verdict:
        return self._verdict(Outcome.FAILED, view, self._now(row), ())

    def _at_the_end(self) -> Verdict:
        """The samples are over, for now or for good."""
        windows, last = self.course.windows, self.course.last
        open_window = windows[-1] if windows and windows[-1].following > last else None
        view = (
            self._view(open_window, open_window.last, open_window.rest)
            if open_window
            else View(self.run, last + 1, last)
        )
        if self.ended and any(self._measure(key, view).state is CriterionState.FAIL for key in self.criteria):
            return self._failed(view, last)
        why = [*self.evidence.obstacles]
        if any(check.kind == "broken" for w in windows for check in w.checks):
            why.append(say("restarted"))
        if not view.complete:
            done, wanted = f"{view.net_active_ms / 1000:.0f}", f"{self.run.plan.min_active_s:.0f}"
            why.append(say("net_active", done=done, wanted=wanted))
        elif open_window and open_window.done_at is None:
            what = [Reason(key, {"count": f"{count:.0f}"}) for key, count in self.run.plan.done_when.items()]
            why.append(say("not_seen", what=listed(what)))
        why += _too_thin(view)
        outcome = Outcome.INCONCLUSIVE if self.ended else Outcome.PENDING
        return self._verdict(outcome, view, None, tuple(why), window=open_window)

    def _verdict(
        self,
        outcome: Outcome,
        view: View,
        decided_at: int | None,
        why: tuple[Reason, ...],
        *,
        probation: bool = False,
        window: Window | None = None,
    ) -> Verdict:
        measured = {key: self._measure(key, view) for key in self.criteria}
        results = tuple(self._result(c, measured[c.key], outcome) for c in self.run.plan.criteria)
        wanted = CriterionState.FAIL if outcome is Outcome.FAILED else None
        deciding = [r for r in results if r.state is wanted or (wanted is None and r.required and r.state in _OPEN)]
        said = (
            why + tuple(say("criterion", name=r.key, reason=r.said) for r in deciding if r.said) + self.evidence.notes
        )
        if outcome is Outcome.PASSED and not said:
            said = (say("all_fulfilled"),)
        return Verdict(
            outcome=outcome, decided_at=decided_at, net_active_s=view.net_active_ms / 1000,
            min_active_s=self.run.plan.min_active_s, coverage=view.coverage, criteria=results,
            reasons=tuple(in_english(reason) for reason in said), said=said,
            probation=probation, phase=_phase(outcome, window),
        )  # fmt: skip

    def _result(self, criterion: Criterion, measured: Measured, outcome: Outcome) -> CriterionResult:
        state, reason = measured.state, measured.reason
        if outcome is Outcome.PENDING and state is CriterionState.FAIL:
            state, reason = CriterionState.PENDING, say("out_so_far", reason=reason) if reason else None
        elif outcome is not Outcome.PENDING and state is CriterionState.PENDING:
            state = CriterionState.NOT_ASSESSABLE
        return CriterionResult(
            key=criterion.key, state=state, required=self._required(criterion, measured), value=measured.value,
            unit=criterion.unit, low=measured.low, high=measured.high, samples=measured.samples,
            reason=in_english(reason) if reason else "", said=reason,
        )  # fmt: skip


def _too_thin(view: View) -> list[Reason]:
    """Why the samples of the window cannot carry a pass: interval, coverage, and the two channels that must exist."""
    why: list[Reason] = []
    if view.interval_ms > MAX_INTERVAL_MS:
        why.append(say("interval", interval=f"{view.interval_ms / 1000:.1f}"))
    if view.coverage < COVERAGE:
        why.append(say("coverage", share=f"{view.coverage:.0%}", needed=f"{COVERAGE:.0%}"))
    for name, column in (("power_w", view.line.numbers("power_w")), ("voltage_v", view.line.volts[0])):
        picked = view.pick(view.counted, column)
        if not picked.dense or picked.count < MIN_SAMPLES:
            needed = f"{picked.needed(complete=False)}"
            why.append(say("too_few_of", channel=name, count=f"{picked.count}", needed=needed))
    return why


def _phase(outcome: Outcome, window: Window | None) -> str:
    """Where a live run stands: waiting, active, extended (time reached, conditions not yet), rest, decided."""
    if outcome is not Outcome.PENDING:
        return "decided"
    if window is None:
        return "waiting"
    if window.complete_at is None:
        return "active"
    return "extended" if window.rest_from is None else "rest"
