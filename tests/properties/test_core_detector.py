"""The compiled core says and remembers what Python says and remembers, whatever machines send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_sim.faults import FAULTS
from device_sim.fleet import Fleet, MachineSpec, everyday
from device_sim.machine import Publication
from device_sim.profiles import CARDS
from device_sim.site import Site
from domain.catalogue.model import ModelCard
from domain.detection.baseline import Baseline
from domain.readings import Value
from tests.core_seam import Twins

T0 = 1_763_776_800_000
HOUR_MS = 3_600_000
LEARNED = Baseline(pn_w={"heating": 5900.0, "running": 55.0}, filter_dp_pa=70.0)
FEW_BAILS = 0.02
"""Share of ordinary samples that may go to Python, else the core would be of no use."""


def follow(fleet: Fleet, twins: dict[str, Twins], to_ms: int, *, delay_ms: int = 40) -> None:
    """Let the machines live, and their twins hear them."""
    for publications in fleet.run(to_ms):
        tell(publications, twins, delay_ms)
        for each in twins.values():
            each.tick(fleet.now_ms + delay_ms)


def tell(publications: list[Publication], twins: dict[str, Twins], delay_ms: int = 40) -> None:
    for publication in publications:
        if publication.topic.endswith("/birth"):
            twins[publication.serial].interval(json.loads(publication.payload)["interval_s"])
        elif publication.topic.endswith("/telemetry"):
            twins[publication.serial].hear(publication.payload, publication.ts + delay_ms)


@pytest.mark.parametrize("interval_s", [10, 30])
@pytest.mark.parametrize("kind", sorted(CARDS))
def test_a_healthy_day_is_alike_and_hardly_needs_python(kind: str, interval_s: int) -> None:
    specs = everyday(kind, 3, seed=interval_s, interval_s=interval_s)
    fleet = Fleet.build(specs, seed=interval_s, start_ms=T0)
    twins = {spec.serial: Twins(CARDS[kind][spec.model], serial=spec.serial) for spec in specs}
    follow(fleet, twins, T0 + (6 if interval_s == 10 else 18) * HOUR_MS)
    samples = sum(each.samples for each in twins.values())
    assert samples > 5000
    assert sum(each.left_to_python for each in twins.values()) < FEW_BAILS * samples


def cases() -> Iterator[tuple[str, ModelCard]]:
    for fault in FAULTS.values():
        for kind in [fault.type] if fault.type else sorted(CARDS):
            models = [card for card in CARDS[kind].values() if card.heater_elements >= fault.needs_elements]
            yield fault.key, models[len(fault.key) % len(models)]


@pytest.mark.parametrize(("fault", "card"), list(cases()), ids=lambda given: getattr(given, "key", given))
def test_a_machine_with_a_fault_that_is_repaired_is_alike(fault: str, card: ModelCard) -> None:
    card = replace(card, site_altitude_m=600.0)
    spec = MachineSpec(
        serial="M1", type=card.type, model=card.key, site=Site(name="s", altitude_m=600.0), interval_s=10, card=card,
        batches=(300.0, 5400.0, 9000.0), level=3 if card.type == "freshair" else None,
    )  # fmt: skip
    fleet = Fleet.build([spec], seed=7, start_ms=T0)
    twins = {"M1": Twins(card, LEARNED)}
    follow(fleet, twins, T0 + HOUR_MS // 3)
    tell(fleet.inflict("M1", fault, fleet.now_ms), twins)
    follow(fleet, twins, T0 + 3 * HOUR_MS)
    tell(fleet.mend("M1", fault, fleet.now_ms), twins)
    twins["M1"].rearm(fleet.now_ms)
    follow(fleet, twins, T0 + 4 * HOUR_MS)
    assert twins["M1"].samples > 400  # unplugged for two thirds of the time


def test_faults_are_found_on_the_way() -> None:
    """What is compared above is not a fleet in which nothing happens."""
    card = CARDS["soymilk"]["SMM-60"]
    spec = MachineSpec(
        serial="M1", type="soymilk", model=card.key, site=Site(name="s"), interval_s=10, card=card, batches=(300.0,)
    )
    fleet, twins = Fleet.build([spec], seed=7, start_ms=T0), {"M1": Twins(card)}
    follow(fleet, twins, T0 + HOUR_MS // 4)
    tell(fleet.inflict("M1", "heater_element_open", fleet.now_ms), twins)
    follow(fleet, twins, T0 + HOUR_MS)
    tell(fleet.mend("M1", "heater_element_open", fleet.now_ms), twins)
    follow(fleet, twins, T0 + 2 * HOUR_MS)
    assert {(f.rule, f.cleared_at is None) for f in twins["M1"].findings} >= {("R04", True), ("R04", False)}


# ------------------------------------------------------------------ whatever comes

TEXTS = ["E4", "E9", " e4 ", "", "0", "None", "é", 'a"b', "tab\t", "x" * 300]
INTERESTING: dict[str, dict[str, list[Value]]] = {
    "soymilk": {
        "run_state": ["standby", "filling", "grinding", "heating", "boil_hold", "keep_warm", "dispensing", "paused", "odd", ""],
        "power_w": [0.0, 8.0, 20, 200.0, 500.5, 1500.0, 4000.0, 6000.0],
        "voltage_v": [0.0, 150.0, 190.0, 220, 229.7, 240.0, 290.0, 380.0, 410.0],
        "voltage_v_a": [100.0, 220.0, 395.1],
        "voltage_v_b": [220.0, 398.0],
        "voltage_v_c": [221.0, 399.5],
        "current_a_a": [0.0, 13.1],
        "current_a_b": [0.0, 13.7],
        "current_a_c": [0.0, 9.9],
        "water_flow_lpm": [0.0, 0.2, 6.0],
        "temp_c": [-8.0, 20.0, 55.0, 61.5, 94.1, 97.0, 97.6, 99.5, 127.0],
        "overflow_electrode": [True, False],
        "lid_open": [True, False],
        "inlet_valve": [True, False],
        "heater_on": [True, False],
        "motor_on": [True, False],
        "batch_id": ["B1", "B2", "B3"],
        "fault_code": TEXTS,
        "level": [0, 1.0, 2],
    },
    "freshair": {
        "run_state": ["standby", "starting", "running", "preheating", "off", "odd"],
        "power_w": [0.5, 3.0, 18.0, 60, 900.0],
        "voltage_v": [190.0, 220.0, 240.0],
        "level": [0, 1.0, 3.0, 9.0],
        "pm25_in_ugm3": [0.0, 30.0, 150, 151.0, 999.0],
        "pm25_out_ugm3": [0.0, 8.0, 9.0, 90.0, 300.0],
        "fan_supply_rpm": [0.0, 100, 900.0, 2200.0],
        "filter_dp_pa": [10.0, 80.0, 210.0],
        "filter_life_pct": [10.0, 60.0],
        "airflow_m3h": [0.0, 20.0, 120.0, 300],
        "temp_supply_c": [12.0, 30.0],
        "rh_out_pct": [50.0, 95.0],
        "ptc_on": [True, False],
        "door_open": [True, False],
        "fault_code": ["2", "0", "4"],
    },
}  # fmt: skip
ODD: list[dict[str, Any]] = [
    {"power_w": 99_999.0}, {"power_w": "much"}, {"power_w": True}, {"power_w": None}, {"run_state": 7}, {"seq": -1}, {"seq": 1.0},
    {"ts": None}, {"ts": 5}, {"stranger": 1}, {"stranger": [1, 2]}, {"boot": "other"}, {"boot": None}, {"seq": None},
    {"backfill": True}, {"backfill": 1}, {"mode": "auto"}, {"power_w": 1e999}, {"power_w": -0.0},
]  # fmt: skip


@st.composite
def streams(draw: st.DrawFn) -> tuple[ModelCard, list[tuple[bytes, int]]]:
    """What one machine sends in hours, as (payload, receipt): phases of about constant values, and all that goes wrong."""
    card = draw(st.sampled_from([card for kind in sorted(CARDS) for card in CARDS[kind].values()]))
    channels = INTERESTING[card.type]
    numbered, boot, seq, at = draw(st.booleans()), "b1", 0, T0
    sent: list[dict[str, Any]] = []
    messages: list[tuple[bytes, int]] = []
    for _ in range(draw(st.integers(1, 6))):
        happens = draw(st.sampled_from(["", "", "", "reboot", "set back", "hole", "long hole"]))
        if happens == "reboot":
            boot, seq = draw(st.sampled_from(["b1", "b2", "b3", "None", "b:4"])), draw(st.integers(0, 3))
        at += {
            "set back": -draw(st.sampled_from([5_000, 20_000, 7_200_000])),
            "hole": 45_000,
            "long hole": 5_400_000,
        }.get(happens, 0)
        chosen = draw(st.sets(st.sampled_from(sorted(channels)), min_size=1))
        options = {
            channel: draw(st.lists(st.sampled_from(channels[channel]), min_size=1, max_size=2))
            for channel in sorted(chosen)
        }
        step = draw(st.sampled_from([1_000, 5_000, 10_000, 30_000, 60_000]))
        batch = draw(st.sampled_from([1, 1, 1, 2, 5]))
        trouble = draw(st.sampled_from([0, 0, 10, 40]))
        noise = draw(st.randoms(use_true_random=False))
        waiting: list[dict[str, Any]] = []
        for _ in range(draw(st.integers(1, 90))):
            said: dict[str, Any] = {"ts": at, **{channel: noise.choice(some) for channel, some in options.items()}}
            if numbered:
                said |= {"boot": boot, "seq": seq}
                seq += 1
            at += step
            if noise.randrange(100) < trouble:
                kind = noise.choice(["odd", "twice", "late", "equal", "jitter", "less"])
                if kind == "odd":
                    said |= noise.choice(ODD)
                elif kind == "twice" and sent:
                    waiting.append(noise.choice(sent[-80:]))
                elif kind == "late" and sent:
                    waiting.append({**said, "ts": noise.choice(sent[-20:])["ts"] + 1 if sent[-1]["ts"] else 0})
                elif kind == "equal":
                    at -= step
                elif kind == "jitter":
                    at += noise.randrange(-step // 2, step)
                else:
                    said.pop(noise.choice(sorted(options)))
            sent.append(said)
            waiting.append(said)
            if len(waiting) >= batch:
                body = waiting[0] if len(waiting) == 1 else waiting
                messages.append(
                    (json.dumps(body, ensure_ascii=noise.random() < 0.5).encode(), at + noise.randrange(2_000))
                )
                waiting = []
            if noise.randrange(300) == 0:
                messages.append(
                    (
                        noise.choice(
                            [b"", b"[]", b"[{}]", b"{}", b"5", b"[5]", messages[-1][0][:-1] if messages else b"{"]
                        ),
                        at,
                    )
                )
    return card, messages


@given(streams(), st.sampled_from([None, LEARNED]))
@settings(max_examples=80, deadline=None)
def test_whatever_a_machine_sends_both_say_and_remember_the_same(
    stream: tuple[ModelCard, list[tuple[bytes, int]]], baseline: Baseline | None
) -> None:
    card, messages = stream
    twins = Twins(card, baseline)
    for nth, (payload, recv_ms) in enumerate(messages):
        if nth % 10 == 9:
            twins.tick(recv_ms)
        twins.hear(payload, recv_ms)
