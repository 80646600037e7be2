"""The simulator's test programs before the judge: what is repaired passes its plan, what is not does not.

Neither side knows the other: the machine only hears ``test_mode``, the judge only sees its samples.
"""

from __future__ import annotations

import orjson
import pytest

from device_sim.faults import FAULTS, inflict, mend
from device_sim.fleet import MachineSpec, build
from device_sim.machine import Machine
from device_sim.profiles import CARDS
from device_sim.site import Site
from domain.catalogue.plan_model import TestPlan
from domain.catalogue.plans import PLANS
from domain.desk.visit import PROGRAMS, TEST_INTERVAL_S, TEST_MODE_MARGIN_S
from domain.readings import Reading
from domain.verdicts import Outcome, Verdict
from domain.verification.judge import judge

START = 1_768_338_000_000
SITE = Site(name="here", pm25_median=140.0)


def broken(model: str, equipment_type: str, *faults: str, seed: int = 1) -> Machine:
    """A machine with these faults, a minute after it was switched on."""
    spec = MachineSpec(serial="S", type=equipment_type, model=model, site=SITE, batches=())
    machine = build(spec, seed=seed, start_ms=START)
    for fault in faults:
        machine.touch(START + 1000, lambda physics, fault=fault: inflict(FAULTS[fault], physics))  # type: ignore[misc]
    machine.advance(START + 60_000)
    return machine


def verdict_of(machine: Machine, plan: TestPlan) -> Verdict:
    """Command test mode as the desk does, and judge what the machine says."""
    now = machine.now_ms
    ttl_s = int(plan.cap_s + plan.rest_s) + TEST_MODE_MARGIN_S
    params = {"interval_s": TEST_INTERVAL_S, "ttl_s": ttl_s}
    if plan.key in PROGRAMS:
        params["program"] = PROGRAMS[plan.key]
    order = {"id": "t", "name": "test_mode", "params": params, "expires_at": now + 60_000}
    sent = machine.receive(machine.command_topic, orjson.dumps(order), now) + machine.advance(now + ttl_s * 1000)
    samples = []
    for publication in sent:
        if publication.topic.endswith("/telemetry"):
            values = orjson.loads(publication.payload)
            ts, boot, seq = values.pop("ts"), values.pop("boot"), values.pop("seq")
            samples.append(Reading("S", plan.type, ts, values, boot=boot, seq=seq, simulated=True))
    entries = {e.key: (e.low if e.low is not None else e.high or 0.0) if e.numeric else True for e in plan.entries}
    return judge(plan, machine.card, samples, entries=entries, demo_site=True)


@pytest.mark.parametrize(
    ("key", "model"),
    [(key, model) for key, plan in PLANS.items() for model in CARDS[plan.type]],
)
def test_a_healthy_machine_passes_every_plan(key: str, model: str) -> None:
    machine = broken(model, PLANS[key].type)
    if key == "freshair:filter":
        machine.touch(machine.now_ms, lambda physics: mend(FAULTS["filter_clogged"], physics))
    verdict = verdict_of(machine, PLANS[key])
    assert verdict.outcome is Outcome.PASSED, verdict.reasons


@pytest.mark.parametrize(
    ("key", "model", "faults"),
    [
        ("soymilk:heating", "SMM-60", ("heater_element_open",)),
        ("soymilk:heating", "SMM-25", ("one_element_lost",)),
        ("soymilk:motor", "SMM-60", ("motor_stall",)),
        ("soymilk:inlet", "SMM-10", ("inlet_stuck",)),
        ("soymilk:overflow", "SMM-60", ("overflow_dirty",)),
        ("freshair:fan", "FAU-300", ("fan_dead",)),
        ("freshair:filter", "FAU-300", ("filter_missing",)),
        ("freshair:filter", "FAU-800D", ("filter_clogged",)),
        ("freshair:sensor", "FAU-150", ("sensors_swapped",)),
    ],
)  # fmt: skip
def test_a_machine_that_is_still_broken_fails(key: str, model: str, faults: tuple[str, ...]) -> None:
    verdict = verdict_of(broken(model, PLANS[key].type, *faults), PLANS[key])
    assert verdict.outcome is Outcome.FAILED, (verdict.outcome, verdict.reasons)


@pytest.mark.parametrize(
    ("key", "faults"),
    [
        ("soymilk:operator", ("no_water",)), ("soymilk:operator", ("lid_open",)), ("soymilk:heating", ("voltage_sag",)),
        ("soymilk:operator", ("unplugged",)), ("soymilk:heating", ("network_lost",)),
    ],
)  # fmt: skip
def test_what_cannot_be_proved_does_not_pass(key: str, faults: tuple[str, ...]) -> None:
    assert verdict_of(broken("SMM-60", "soymilk", *faults), PLANS[key]).outcome is not Outcome.PASSED
