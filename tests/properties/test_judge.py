"""What holds for every run: order, redelivery, and that less evidence never makes more of a verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.catalogue.model import ModelCard
from domain.catalogue.plans import PLANS
from domain.readings import Reading
from domain.verdicts import CriterionState, Outcome, Verdict
from domain.verification.judge import judge
from domain.verification.soymilk import probe_alive
from domain.verification.timeline import Run as WholeRun
from domain.verification.timeline import View
from tests.unit.verification.traces import BATCH, FAU, SMM, Leg, Values, freshair, readings, soymilk


class Run:
    """One run. Its rows do not fit on a screen: only what made it is shown."""

    def __init__(self, plan: str, card: ModelCard, samples: list[Reading], made: object) -> None:
        self.plan, self.card, self.samples, self.made = plan, card, samples, made

    def __repr__(self) -> str:
        return f"Run({self.plan}, {self.made})"

    def but(self, samples: list[Reading]) -> Run:
        """The same with other samples."""
        return Run(self.plan, self.card, samples, self.made)


ENTRIES = {"switch": True, "insulation": 50.0, "forced_trip": 1.0, "cut_out": True}
SLOW = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

_AIR = freshair(1100, step_s=10)
_BATCH = soymilk(step_s=10)
_SHORT = soymilk([*BATCH[:4], Leg("heating", 400), Leg("standby", 300), *BATCH[1:]], step_s=10)


def verdict(run: Run, **given: object) -> Verdict:
    return judge(PLANS[run.plan], run.card, run.samples, entries=ENTRIES, **given)  # type: ignore[arg-type]


def _power(factor: float) -> Callable[[Values], dict[str, object]]:
    return lambda row: {"power_w": float(row["power_w"]) * factor}


FAULTS: dict[str, Callable[[Values], dict[str, object]]] = {
    "weak": _power(0.8),
    "strong": _power(1.3),
    "dead": _power(0.02),
    "sag": lambda row: {"voltage_v": float(row["voltage_v"]) * 0.85},
    "paused": lambda row: {"run_state": "paused"},
    "stuck": lambda row: {"temp_c": 50.0, "pm25_out_ugm3": 50.0},
    "wet": lambda row: {"water_flow_lpm": 0.4},
    "dirty": lambda row: {"pm25_out_ugm3": 200.0, "overflow_electrode": True},
    "starved": lambda row: {"airflow_m3h": 150.0, "filter_dp_pa": 10.0},
}


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """A run of either type in which up to three stretches went wrong, and some samples were lost."""
    key = draw(st.sampled_from(sorted(PLANS)))
    base = _AIR if key.startswith("freshair") else draw(st.sampled_from([_BATCH, _SHORT]))
    rows = [dict(row) for row in base]
    stretch = st.tuples(st.sampled_from(sorted(FAULTS)), st.integers(0, len(rows) - 1), st.integers(1, 60))
    stretches = draw(st.lists(stretch, max_size=3))
    for fault, first, length in stretches:
        for row in rows[first : first + length]:
            row.update({k: v for k, v in FAULTS[fault](row).items() if k in row})  # type: ignore[misc]
    lost = draw(st.sets(st.integers(0, len(rows) - 1), max_size=12))
    card = FAU if key.startswith("freshair") else SMM
    kept = readings([row for i, row in enumerate(rows) if i not in lost], card)
    return Run(key, card, kept, (base is _SHORT, stretches, sorted(lost)))


@SLOW
@given(runs(), st.randoms(use_true_random=False), st.data())
def test_the_order_of_arrival_and_redelivery_change_nothing(
    run: Run, chance: st.DataObject, data: st.DataObject
) -> None:
    samples = run.samples
    again = data.draw(st.lists(st.sampled_from(samples), max_size=30))
    mixed = [*samples, *again]
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    assert verdict(run.but(mixed)) == verdict(run)


@SLOW
@given(runs())
def test_a_verdict_is_consistent_with_its_criteria(run: Run) -> None:
    found = verdict(run)
    states = {c.state for c in found.criteria}
    needed = [c for c in found.criteria if c.required]
    assert CriterionState.PENDING not in states
    assert found.outcome is not Outcome.PENDING
    assert (found.decided_at is None) == (found.outcome is Outcome.INCONCLUSIVE)
    assert (CriterionState.FAIL in states) == (found.outcome is Outcome.FAILED)
    if found.outcome is Outcome.PASSED:
        assert found.net_active_s >= found.min_active_s
        assert found.coverage >= 0.9
        assert all(c.state is CriterionState.PASS or found.probation for c in needed)


@SLOW
@given(runs(), st.integers(0, 119))
def test_a_live_verdict_stands(run: Run, cut: int) -> None:
    """What was decided while samples came in is what the whole run is decided as, unless the end of the samples decided it."""
    samples = run.samples
    live = verdict(run.but(samples[:cut]), ended=False)
    if live.outcome is not Outcome.PENDING:
        whole = verdict(run)
        assert (whole.outcome, whole.decided_at) == (live.outcome, live.decided_at)


@SLOW
@given(runs(), st.sampled_from(["power_w", "voltage_v"]))
def test_without_a_channel_that_must_exist_nothing_passes(run: Run, channel: str) -> None:
    samples = run.samples
    bare = [replace(r, values={k: v for k, v in r.values.items() if k != channel}) for r in samples]
    assert verdict(run.but(bare)).outcome is not Outcome.PASSED


@SLOW
@given(runs())
def test_nothing_passes_on_simulated_samples_or_a_bad_clock(run: Run) -> None:
    samples = run.samples
    simulated = [replace(r, simulated=True) for r in samples]
    assert verdict(run.but(simulated)).outcome is Outcome.INCONCLUSIVE
    assert verdict(run.but([replace(r, ts=r.ts % 86_400_000) for r in samples])).outcome is Outcome.INCONCLUSIVE
    assert verdict(run.but([*samples, replace(samples[0], ts=0)])).outcome is not Outcome.PASSED


@SLOW
@given(runs(), st.integers(2, 5))
def test_thinning_out_the_samples_never_makes_a_pass(run: Run, keep: int) -> None:
    """Every second sample of 10 s is one of 20 s: whatever it shows, it is not enough."""
    samples = run.samples
    assert verdict(run.but(samples[::keep])).outcome is not Outcome.PASSED


@SLOW
@given(runs())
def test_a_stop_of_the_samples_before_the_decision_never_makes_a_pass(run: Run) -> None:
    samples = run.samples
    whole = verdict(run)
    if whole.outcome is Outcome.PASSED:
        before = [r for r in samples if r.ts < (whole.decided_at or 0)]
        assert verdict(run.but(before)).outcome is not Outcome.PASSED


_TEMPS = st.one_of(st.none(), st.sampled_from([99.0, 98.0]), st.integers(500, 506).map(lambda tenths: tenths / 10))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(_TEMPS, st.integers(11, 60), st.sampled_from(["heating"] * 30 + ["grinding"])),
        min_size=1,
        max_size=90,
    )
)
def test_a_frozen_probe_is_found_at_the_row_that_every_window_looked_at_finds(
    rows: list[tuple[float | None, int, str]],
) -> None:
    """No two rows are within 10 s: nothing is a jump here."""
    ts, given_rows = 0, list[Values]()
    for temp, wait, state in rows:
        ts += wait
        given_rows.append({"_t": ts, "run_state": state, "temp_c": temp})
    plan = PLANS["soymilk:heating"]
    run = WholeRun(plan, SMM, tuple(readings(given_rows)), frozenset(("temp_c", "run_state")))
    view = View(run, 0, len(rows) - 1)
    criterion = next(c for c in plan.criteria if c.key == "probe_alive")
    assert probe_alive(view, criterion).at == _frozen_at(view, criterion.limits)


def _frozen_at(view: View, limits: Mapping[str, float]) -> int | None:
    ceiling, temps = view.card.boiling_c - limits["below_boiling_k"], view.line.numbers("temp_c")
    for _, first, last in view.runs("heating"):
        stay = [(i, temp) for i in range(first, last + 1) if (temp := temps[i]) is not None]
        for end, (row, _temp) in enumerate(stay):
            for start in range(end + 1):
                window = [temp for _, temp in stay[start : end + 1]]
                flat = max(window) < ceiling and max(window) - min(window) <= limits["flat_k"] + 1e-9
                if flat and view.line.ts[row] - view.line.ts[stay[start][0]] >= limits["flat_s"] * 1000:
                    return row
    return None
