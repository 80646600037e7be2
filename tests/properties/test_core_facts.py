"""The compiled core sees in ordinary samples what Python sees, to the last bit: states, facts, and what is remembered."""

from __future__ import annotations

import functools
import json
import math
import random
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_sim.faults import FAULTS, inflict, mend
from device_sim.profiles.freshair import FreshAir
from device_sim.profiles.soymilk import Soymilk
from domain.catalogue.facts import Facts
from domain.catalogue.model import ModelCard
from domain.catalogue.registry import EQUIPMENT
from domain.catalogue.rules import FACTS
from domain.detection.states import StateInference
from domain.readings import Reading
from gateway import samples
from gateway.core.programs import compiled
from tests.core_library import probe
from tests.unit.device_sim import machines

T0 = 1_763_776_800_000
Sample = dict[str, Any]


class Reference:
    """Python's state inference and facts of one machine, and rows as the core shows them."""

    def __init__(
        self, card: ModelCard, reference: Mapping[str, float], memory: Mapping[str, Any] | None = None
    ) -> None:
        self.card = card
        self.states = {name: float(nth) for nth, name in enumerate(EQUIPMENT[card.type].states)}
        self.inference = StateInference(card)
        self.facts: Facts = FACTS[card.type](card, reference)
        if memory:
            self.inference.restore(memory["inference"])
            self.facts.restore(memory["facts"])

    def row(self, sample: Sample, slots: Sequence[str]) -> list[object]:
        """State, normalised power and every slot after this sample."""
        values, rejected = samples.split(self.card.type, sample, Counter())
        assert not rejected
        reading = Reading("M1", self.card.type, sample["ts"], values)
        state = self.inference.step(reading)
        self.facts.update(reading, state, self.inference.pn)
        return [state, self.inference.pn, *map(self._slot, slots)]

    def _slot(self, name: str) -> float:
        value: Any = getattr(self.facts, name)
        if isinstance(value, str):
            return self.states[value]
        return math.nan if value is None else float(value)

    def memory(self) -> dict[str, Any]:
        """Both dumps, as JSON would carry them."""
        dumped: dict[str, Any] = json.loads(
            json.dumps({"inference": self.inference.dump(), "facts": self.facts.dump()}, allow_nan=False)
        )
        return dumped


def number(bits: str) -> float:
    value: float = struct.unpack(">d", bytes.fromhex(bits))[0]
    return value


def alike(ours: object, theirs: object) -> bool:
    """Equal to the last bit and the sign of zero; nan is nan."""
    if isinstance(ours, float) and isinstance(theirs, float):
        return struct.pack(">d", ours) == struct.pack(">d", theirs) or (math.isnan(ours) and math.isnan(theirs))
    return ours == theirs


@dataclass
class Played:
    """What became of a stream: how many samples the core left to Python, which states were seen, the memory at the end."""

    odd: int = 0
    states: Counter[str] = field(default_factory=Counter)
    memory: dict[str, Any] = field(default_factory=dict)


def play(
    card: ModelCard, reference: Mapping[str, float], stream: Sequence[Sample], *, cuts: Sequence[int] = ()
) -> Played:
    """Both sides fold the stream and must agree after every sample; at ``cuts`` both go on from what the core dumped."""
    spec, python, played = {**compiled(card), "reference": dict(reference)}, Reference(card, reference), Played()
    memory: dict[str, Any] = {}
    begin = 0
    for end in (*sorted(cuts), len(stream)):
        while True:
            answer = probe({"spec": spec, **memory, "payloads": [json.dumps(sample) for sample in stream[begin:end]]})
            slots = answer["slots"]
            for sample, (state, *figures) in zip(stream[begin:end], answer["steps"], strict=False):
                for name, ours, theirs in zip(
                    ["state", "pn", *slots],
                    python.row(sample, slots),
                    [state, *map(number, figures)],
                    strict=True,
                ):
                    assert alike(ours, theirs), f"{name} is {ours!r}, and in the core {theirs!r}, after {sample}"
                played.states[state] += 1
            memory = {"inference": answer["inference"], "facts": answer["facts"]}
            # as text, so that 1, 1.0 and true are three things
            assert json.dumps(memory, sort_keys=True) == json.dumps(python.memory(), sort_keys=True)
            begin += len(answer["steps"])
            if begin >= end:
                break
            python.row(stream[begin], slots)  # the core left it to Python
            memory = python.memory()
            played.odd += 1
            begin += 1
        python = Reference(card, reference, memory)
    played.memory = memory
    return played


# ---------------------------------------------------------------------- simulated machines


def physics_of(card: ModelCard) -> Soymilk | FreshAir:
    if card.type == "soymilk":
        return machines.soymilk(card, batches=(300.0, 3000.0, 5400.0), share=0.6)
    return machines.freshair(card.key)


@functools.cache
def life(card: ModelCard, key: str) -> list[Sample]:
    """Two hours of a simulated machine, the fault in the second half hour and in the last."""
    fault = FAULTS.get(key)
    machine = machines.machine(physics_of(card), interval_s=20)
    sent = machine.advance(machines.START + 1_800_000)
    for at, deed in ((1_800_000, inflict), (3_600_000, mend), (5_400_000, inflict)):
        if fault is not None:
            sent += machine.touch(machines.START + at, lambda physics, deed=deed: deed(fault, physics))  # type: ignore[misc]
        sent += machine.advance(machines.START + at + 1_800_000)
    events = ({"ts": event["ts"], "fault_code": event["fault_code"]} for event in machines.objects(sent, "event"))
    return sorted((*machines.objects(sent), *events), key=lambda o: o["ts"])


TOLD = frozenset(("run_state",))
"""Machines that do not report their state."""
BARE = TOLD | {"heater_on", "motor_on", "inlet_valve", "ptc_on", "temp_c", "level", "airflow_m3h", "water_flow_lpm"}
"""Little more than a power meter."""

LIVES = [
    (card, fault)
    for equipment in EQUIPMENT.values()
    for card in equipment.cards.values()
    for fault in ("healthy", *(f.key for f in FAULTS.values() if f.type in ("", card.type)))
    if fault == "healthy" or card.heater_elements >= FAULTS[fault].needs_elements
]


@pytest.mark.parametrize("without", [frozenset(), TOLD, BARE], ids=["all", "untold", "bare"])
@pytest.mark.parametrize(("card", "fault"), LIVES, ids=lambda one: getattr(one, "key", one))
def test_of_simulated_machines(card: ModelCard, fault: str, without: frozenset[str]) -> None:
    stream = [{key: value for key, value in sample.items() if key not in without} for sample in life(card, fault)]
    played = play(card, {"heating": 0.97 * card.p_heat_w} if card.p_heat_w else {}, stream)
    assert played.odd == 0
    assert len(stream) > 100
    if fault == "healthy" and not without:
        active = {"heating", "boil_hold", "grinding", "filling"} if card.type == "soymilk" else {"running"}
        assert active <= set(played.states)


# ---------------------------------------------------------------------- whatever machines may send

SPECIAL = (
    ModelCard(key="plain", type="soymilk"),
    ModelCard(key="plain", type="freshair"),
    ModelCard(
        key="alike", type="soymilk", p_heat_w=1600, p_motor_w=1500, heater_elements=2, p_standby_w=12, site_altitude_m=1830
    ),
    ModelCard(
        key="room", type="freshair", rated_v=380, phases=3, p_fan_w=(500.0,), p_standby_w=4, airflow_m3h=(900, 1000),
        rpm=(1450,), eta_pm25=0.8, pm25_out_at="room",
    ),
    ModelCard(
        key="exact", type="freshair", p_fan_w=(40, 90), airflow_m3h=(333.3, 777.7), rpm=(700, 1300), eta_pm25=0.99,
        sensor_err_abs=5, sensor_err_rel=0.15,
    ),
)  # fmt: skip
CARDS = (*(card for equipment in EQUIPMENT.values() for card in equipment.cards.values()), *SPECIAL)

STEPS = (1_000, 5_000, 10_000, 10_000, 30_000, 30_000, 60_000, 95_000, 600_000)
BORDERS = (9_999, 10_000, 10_001, 59_999, 60_000, 60_001, 89_999, 90_001, 120_001, 180_001, 299_999, 300_001, 600_001)
HOLES = (1_800_000, 3_600_000, 3_600_001, 10_800_000)


def choices(card: ModelCard) -> dict[str, list[Any]]:
    """By channel: figures about which something is decided."""
    heat, motor, fan = card.p_heat_w or 3000.0, card.p_motor_w or 700.0, (*card.p_fan_w, 50.0)
    boil = card.boiling_c
    volts = [v * card.rated_v / 220 for v in (0.0, 60.0, 66.0, 150.0, 164.9, 165.0, 197.9, 220.0, 231.7, 240.0)]
    phase = [*volts, *(v / 1.7320508 for v in volts)]
    common: dict[str, list[Any]] = {
        "run_state": [*EQUIPMENT[card.type].states, "", "odd", "STANDBY"],
        "voltage_v": volts,
        **{f"voltage_v_{p}": phase for p in "abc"},
        **{f"current_a_{p}": [0.0, -0.0, 11.3, 13.64, 14.0] for p in "abc"},
        "level": [0.0, 0.4, 1, 1.0, 2.9, 3.0, 20.0],
        "fault_code": ["", " ", "0", " E0 ", "None", "OK", "E4", " E4  ", "2", "e 9", "normal", "x" * 256],
        "door_open": [True, False],
        "lid_open": [True, False],
    }
    if card.type == "soymilk":
        return common | {
            "power_w": [
                0, 0.0, 1.7, 0.3 * card.p_standby_w, 8.0, 14.9, 30.0, card.p_standby_w + 30.0, 60.0,
                *(s * motor for s in (0.24, 0.3, 0.69, 0.7, 0.71, 0.95, 1.0, 1.05, 1.3, 1.301)),
                *(s * heat for s in (0.05, 0.1, 0.2, 0.21, 1 / 3, 0.5, 0.51, 2 / 3, 0.9, 1.0, 1.07)),
            ],
            "temp_c": [
                -7.0, 20.0, 20.1, 20.2, 55.0, 59.9, 60.0, 61.4, *(boil - d for d in (5.1, 5.0, 2.6, 2.5, 2.4, 2.0, 1.9, 0.0)),
                126.0,
            ],
            "water_flow_lpm": [0.0, 0.2, 0.49, 0.5, 6.0],
            **{key: [True, False] for key in ("overflow_electrode", "inlet_valve", "heater_on", "motor_on")},
            "batch_id": ["", "b1", "b2", "b2 "],
        }  # fmt: skip
    return common | {
        "power_w": [
            0, 0.0, 0.5, 0.9, 3.0, *(s * f for f in fan for s in (0.19, 0.2, 0.3, 0.31, 1.0, 1.2)), 1.3 * fan[-1] + 200.0, 900.0,
        ],
        "pm25_in_ugm3": [0.0, -0.0, 5.0, 12.0, 35.0, 75.0, 150.0, 163.0, 999.0],
        "pm25_out_ugm3": [0.0, -0.0, 3.0, 4.0, 8.0, 90.0, 300.0, 999.0],
        "temp_supply_c": [-40.0, 18.5],
        "rh_out_pct": [40.0, 89.9, 90.0],
        "airflow_m3h": [0.0, 12.0, 0.29 * 300.0, 95.0, 151.0, 240.0, 287.0, 300.0, 800.0],
        "fan_supply_rpm": [0.0, 100.0, 440.0, 900.0, 2200.0],
        "filter_dp_pa": [0.0, 24.0, 80.0, 161.3, 210.0],
        "filter_life_pct": [0.0, 20.0, 21.0],
        "ptc_on": [True, False],
    }  # fmt: skip


@st.composite
def streams(draw: st.DrawFn) -> tuple[ModelCard, dict[str, float], list[Sample]]:
    """Phases in which some channels stand still, some change from sample to sample, some come and go; holes between."""
    card = draw(st.sampled_from(CARDS))
    card = replace(card, phases=draw(st.sampled_from([card.phases, card.phases, 1, 3])))
    reference = draw(
        st.sampled_from([{}, {"heating": 0.0}, {"heating": 1234.5}, {"filter_dp_pa": 77.7, "running": 5.0}])
    )
    rng = random.Random(draw(st.integers(0, 1 << 32)))
    known = choices(card)
    silent = draw(st.sets(st.sampled_from(sorted(known)), max_size=8)) | (
        {"run_state"} if draw(st.booleans()) else set()
    )
    channels = sorted(set(known) - silent)
    stream: list[Sample] = []
    at = T0
    for _ in range(draw(st.integers(1, 10))):
        step = draw(st.sampled_from(STEPS))
        held = {channel: [rng.choice(known[channel])] for channel in channels}
        moving = {c: rng.sample(known[c], min(len(known[c]), rng.choice((2, 3, 30)))) for c in channels}
        unsteady, patchy, hurried = rng.random() ** 2, rng.random() ** 2 / 2, rng.choice((0.0, 0.0, 0.05, 0.3))
        pools = {c: moving[c] if rng.random() < unsteady else held[c] for c in channels if rng.random() < 0.8}
        coming = {c for c in pools if rng.random() < patchy}
        for _ in range(draw(st.integers(1, 90))):
            values = {c: rng.choice(pool) for c, pool in pools.items() if c not in coming or rng.random() < 0.5}
            jitter = {
                c: min(v * rng.uniform(0.98, 1.02), 999.0)
                if isinstance(v, float) and rng.random() < unsteady / 4
                else v
                for c, v in values.items()
            }
            stream.append({"ts": at, **{c: v for c, v in jitter.items() if _in_range(card, c, v)}})
            at += rng.choice(BORDERS) if rng.random() < hurried else step
        at += draw(st.sampled_from((0, 0, 0, *BORDERS, *HOLES)))
    return card, reference, stream


def _in_range(card: ModelCard, key: str, value: object) -> bool:
    channel = EQUIPMENT[card.type].channels[key]
    low, high = (
        (-math.inf if channel.low is None else channel.low),
        (math.inf if channel.high is None else channel.high),
    )
    return not isinstance(value, (int, float)) or low <= value <= high


@given(streams())
@settings(max_examples=150, deadline=None)
def test_of_whatever_machines_may_send(drawn: tuple[ModelCard, dict[str, float], list[Sample]]) -> None:
    card, reference, stream = drawn
    assert play(card, reference, stream).odd <= 0.1 * len(stream) + 3


@given(streams(), st.data())
@settings(max_examples=60, deadline=None)
def test_restored_anywhere_it_goes_on_alike(
    drawn: tuple[ModelCard, dict[str, float], list[Sample]], data: st.DataObject
) -> None:
    card, reference, stream = drawn
    cuts = data.draw(st.lists(st.integers(0, len(stream)), min_size=1, max_size=4))
    assert play(card, reference, stream, cuts=cuts).memory == play(card, reference, stream).memory


BATCHES = EQUIPMENT["soymilk"].cards["SMM-25"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([1_000, 5_000, 10_000, 10_001, 60_000, 61_000, 89_999, 90_001]),
            st.sampled_from(["heating", "boil_hold", "boil_hold", "keep_warm", "standby", "dispensing", "grinding"]),
            st.sampled_from([BATCHES.boiling_c - below for below in (2.6, 2.5, 2.3, 2.0, 1.0)]),
        ),
        min_size=3,
        max_size=25,
    )
)
@settings(max_examples=400, deadline=None)
def test_of_the_boil(said: list[tuple[int, str, float]]) -> None:
    stream, at = [], T0
    for step, state, temp in said:
        at += step
        stream.append({"ts": at, "run_state": state, "temp_c": temp, "power_w": 6000.0})
    play(BATCHES, {}, stream)


def test_powers_are_those_of_the_c_library() -> None:
    """``x * x`` is not always ``x ** 2``: one in a thousand differs in the last bit."""
    volts = [{"ts": T0 + nth, "voltage_v": nth / 10, "power_w": 1000.0} for nth in range(700, 4_500)]
    play(BATCHES, {}, volts)
    flows = [{"ts": T0 + nth, "airflow_m3h": float(nth), "filter_dp_pa": 97.0} for nth in range(1_000)]
    play(EQUIPMENT["freshair"].cards["FAU-800D"], {}, flows)


@given(st.lists(st.sampled_from([950.0, 1000.0, 1045.0, 1050.0, 1111.1]), min_size=4, max_size=40))
@settings(max_examples=60, deadline=None)
def test_ripple_on_its_border_is_left_to_python(powers: list[float]) -> None:
    card = ModelCard(key="alike", type="soymilk", p_heat_w=1000, p_motor_w=1000)
    play(card, {}, [{"ts": T0 + 5_000 * nth, "power_w": power} for nth, power in enumerate(powers)])


def test_the_border_itself() -> None:
    card = ModelCard(key="alike", type="soymilk", p_heat_w=1000, p_motor_w=1000)
    stream = [{"ts": T0 + 5_000 * nth, "power_w": 1000.0 + 50.0 * (-1) ** nth} for nth in range(6)]
    assert play(card, {}, stream).odd == 2


# ---------------------------------------------------------------------- memories that cannot be held


@pytest.mark.parametrize(
    "broken",
    [
        {"facts": {"state": "unheard_of"}},
        {"facts": {"last_ts": 1.5}},
        {"facts": {"state_since": 1 << 60}},
        {"facts": {"code": 7}},
        {"facts": {"bad_batch": 1}},
        {"facts": {"temps": [20.0, "x"]}},
        {"inference": {"candidate": None}},
        {"inference": {"powers": 5.0}},
    ],
    ids=str,
)
def test_a_memory_that_cannot_be_held_exactly_is_refused(broken: dict[str, dict[str, Any]]) -> None:
    card = EQUIPMENT["soymilk"].cards["SMM-10"]
    memory = Reference(card, {}).memory()
    asked = {"spec": compiled(card), "payloads": []}
    assert probe({**asked, **memory}) is not None
    assert probe({**asked, **{part: memory[part] | broken.get(part, {}) for part in memory}}) is None
