"""What holds for every convention: refusals and nothing else, and a memory that is a function of what was read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from domain.clock import from_ms
from domain.errors import UnavailableError
from domain.readings import Reading
from domain.store import ingest as store
from domain.store.tables import QuarantineRow
from gateway.adapters import memory
from gateway.adapters.memory import Bindings, Overlay
from gateway.adapters.port import Asking, Command
from gateway.adapters.registry import ADAPTERS
from gateway.ingest.decode import Decoder
from gateway.messages import Decoded, Message, Quarantined, Reason, Registry, Unusable
from tests.unit.gateway.adapters.bound import NOW, Bound, unit
from tests.unit.gateway.adapters.spb import metric, payload
from tests.unit.gateway.plant import T0, Plant, register

FOREIGN = [convention for convention in ADAPTERS if convention]


def name_of(convention: str) -> str:
    line = ADAPTERS.lines[convention]
    levels = line.topic.split("/")
    return "/".join(levels[level] for level in line.name)


UNITS = [unit(f"M-{convention}", "soymilk", convention, name_of(convention)) for convention in FOREIGN]
TOPICS = [
    *(ADAPTERS.lines[convention].topic for convention in FOREIGN),
    "tele/kitchen/LWT", "shellyem-1/online", "homie/kitchen/$state", "zigbee2mqtt/bridge/devices",
    "zigbee2mqtt/kitchen/availability", "/sys/a1B2c3D4e5F/kitchen/thing/event/property/batch/post",
    "spBv1.0/canteen/DBIRTH/edge-1/kitchen", "spBv1.0/canteen/DDEATH/edge-1/kitchen", "spBv1.0/canteen/NBIRTH/edge-1",
    "spBv1.0/canteen/NDEATH/edge-1",
]  # fmt: skip
WORDS = (
    "params", "properties", "value", "time", "ts", "method", "NotifyStatus", "NotifyFullStatus", "switch:0", "em1:0", "em:0",
    "apower", "a_act_power", "total_act_power", "status", "code", "t", "fault", "pm25", "siid", "piid", "power_w", "heater_on",
    "run_state", "Time", "ENERGY", "Power", "fan_state", "filter_age", "friendly_name", "definition", "exposes", "state",
)  # fmt: skip
words = st.sampled_from(WORDS)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | words | st.just(NOW),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words | st.text(max_size=6), inner, max_size=5),
    max_leaves=14,
)
metrics = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "name": st.sampled_from(["power_w", "a/temp_c", "bdSeq", "x", ""]) | st.text(max_size=4),
            "alias": st.integers(0, 3) | st.integers(0, (1 << 64) - 1),
            "timestamp": st.just(NOW) | st.integers(0, (1 << 64) - 1),
            "datatype": st.integers(0, 20),
            "is_null": st.booleans(),
            "is_historical": st.booleans(),
            "int_value": st.integers(0, (1 << 32) - 1),
            "double_value": st.floats(),
            "string_value": st.text(max_size=3),
        },
    ),
    max_size=4,
)
payloads = (
    st.binary(max_size=120)
    | anything.map(lambda value: json.dumps(value).encode())
    | st.builds(lambda seq, ms: payload(seq, *ms), st.none() | st.integers(0, 300), metrics)
)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(TOPICS), payloads, st.booleans()), max_size=4))
def test_nothing_but_refusals_whatever_comes(messages: list[tuple[str, bytes, bool]]) -> None:
    bound = Bound(*UNITS)
    for topic, body, retained in messages:
        for found in bound.all(topic, body, retained=retained):
            assert not isinstance(found, Quarantined) or found.reason is not Reason.INTERNAL, found
            if isinstance(found, Reading):
                assert orjson.loads(orjson.dumps(dict(found.values))) == found.values


@pytest.mark.parametrize("convention", FOREIGN)
def test_every_lines_example_is_a_topic_of_its_adapter(convention: str) -> None:
    topic = ADAPTERS.lines[convention].topic
    with pytest.raises(Unusable, match=name_of(convention)) as refusal:
        ADAPTERS[convention].decode(Message(topic, b"[]", NOW), Registry(), Counter())
    assert refusal.value.reason is Reason.UNKNOWN_SERIAL
    others = [other for other in ADAPTERS if other not in (convention, "")]
    assert all(ADAPTERS[other].decode(Message(topic, b"[]", NOW), Registry(), Counter()) is None for other in others)


def test_each_look_up_is_an_adapter_of_its_own() -> None:
    assert ADAPTERS["shelly"] is not ADAPTERS["shelly"]
    assert set(ADAPTERS) >= {"", "tasmota", "alink", "tuya", "shelly", "zigbee2mqtt", "miot", "sparkplug", "homie"}


@pytest.mark.parametrize("convention", ADAPTERS)
def test_a_gateway_may_write_what_its_adapters_publish(convention: str) -> None:
    """The account of the gateway has these rights and no others."""
    topic = name_of(convention) if convention else ""
    adapter = ADAPTERS[convention]
    published = [
        publication.topic
        for bound in (
            unit("M-1", "soymilk", convention, topic),
            unit("M-1", "soymilk", convention, f"{topic}/switch:0"),
        )
        for name in ("set_interval", "test_mode", "stop", "show_nonce")
        if (publication := adapter.command(bound, Command("1", name, {"interval_s": 10, "ttl_s": 60}, NOW))) is not None
        and (convention != "tasmota" or bound.topic == topic)
    ]
    if isinstance(adapter, Asking):
        edge = Registry.of([unit("M-1", "soymilk", convention, topic)])
        adapter.decode(Message(ADAPTERS.lines[convention].topic, payload(1), NOW), edge, Counter())
        published += [request.topic for request in adapter.requests()]
    assert all(any(topic_matches_sub(allowed, said) for allowed in adapter.commands) for said in published)
    assert bool(published) == bool(adapter.commands)


# ------------------------------------------------------------------------------------------------------ memory and replay


def shelly(step: int, what: dict[str, float], *, full: bool = False) -> Message:
    ts = NOW + step * 1000
    params = {"ts": ts / 1000, "switch:0": what}
    body = {"method": "NotifyFullStatus" if full else "NotifyStatus", "params": params}
    return Message("shellyem-1/events/rpc", orjson.dumps(body), ts)


def sparkplug(step: int, what: dict[str, float], *, full: bool = False) -> Message:
    ts = NOW + step * 1000
    names = {"apower": (1, "power_w"), "voltage": (2, "voltage_v"), "current": (3, "current_a")}
    told = [metric(names[key][1] if full else "", value, alias=names[key][0]) for key, value in what.items()]
    return Message(
        f"spBv1.0/canteen/{'DBIRTH' if full else 'DDATA'}/edge-1/kitchen", payload(step % 256, *told, timestamp=ts), ts
    )


figures = st.dictionaries(
    st.sampled_from(["apower", "voltage", "current"]), st.floats(1.0, 50.0).map(lambda v: round(v, 1)), min_size=1
)
whole = st.fixed_dictionaries({key: st.just(7.5) for key in ("apower", "voltage", "current")})


def readings(messages: Sequence[Message]) -> list[Decoded]:
    decoder = Decoder(ADAPTERS.values(), Registry.of(UNITS), known_only=True)
    return [one for message in messages for one in decoder.decode(message) if isinstance(one, Reading)]


@pytest.mark.parametrize("make", [shelly, sparkplug])
@settings(deadline=None)
@given(
    before=st.lists(figures, max_size=6), snapshot=whole, after=st.lists(figures, max_size=6), start=st.integers(0, 6)
)
def test_from_a_snapshot_on_it_does_not_matter_where_reading_began(
    make: Callable[..., Message],
    before: list[dict[str, float]],
    snapshot: dict[str, float],
    after: list[dict[str, float]],
    start: int,
) -> None:
    story = [make(step, what) for step, what in enumerate(before)]
    story.append(make(len(story), snapshot, full=True))
    story += [make(len(story) + step, what) for step, what in enumerate(after)]
    kept = 1 + len(after)
    all_along, later = readings(story), readings(story[min(start, len(before)) :])
    assert all_along[-kept:] == later[-kept:]
    assert len(all_along[-1].values) == 3, "complete since the snapshot"  # type: ignore[union-attr]


@pytest.mark.parametrize("make", [shelly, sparkplug])
@settings(deadline=None)
@given(story=st.lists(figures, min_size=1, max_size=8), start=st.integers(0, 7))
def test_a_restart_without_memory_says_less_and_never_something_else(
    make: Callable[..., Message], story: list[dict[str, float]], start: int
) -> None:
    messages = [make(step, what, full=step == 0) for step, what in enumerate(story)]
    known: dict[int, Any] = {one.ts: one for one in readings(messages) if isinstance(one, Reading)}
    for one in readings(messages[start:]):
        assert isinstance(one, Reading)
        assert one.values.items() <= known[one.ts].values.items()


def test_rules_and_store_read_the_same_although_one_is_ahead_of_the_other() -> None:
    registry = Registry.of(UNITS)
    ahead, behind = (Decoder(ADAPTERS.values(), registry, known_only=known) for known in (True, False))
    story = [
        shelly(0, {"apower": 5.0, "voltage": 229.0}, full=True), shelly(1, {"apower": 6.0}), shelly(2, {"voltage": 230.0}),
        shelly(3, {"apower": 9.0, "voltage": 231.0}),
    ]  # fmt: skip
    first = [ahead.decode(message) for message in story]
    assert first == [behind.decode(message) for message in story]


def test_the_overlay_is_bounded_and_keeps_to_its_binding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MACHINES", 100)
    overlay = Overlay()
    one, other = unit("A", "soymilk", "shelly", "x"), unit("A", "soymilk", "shelly", "y")
    assert overlay.part(one, 1, {"a": 1.0}) == {"a": 1.0}
    assert overlay.part(other, 2, {"b": 2.0}) == {"b": 2.0}, "bound anew, another device"
    for number in range(105):
        overlay.part(unit(f"S-{number}", "soymilk", "shelly", "x"), 1, {})
    assert len(overlay._states) == 100
    assert overlay.part(other, 3, {"c": 3.0}) == {"c": 3.0}, "the first one heard of is forgotten"


def test_bindings_follow_the_registry() -> None:
    bindings, first = Bindings("shelly", levels=1), unit("A", "soymilk", "shelly", "x/em1:1")
    assert bindings.of(Registry.of([first]), "x") == [first]
    assert bindings.of(Registry.of([unit("B", "soymilk", "tasmota", "x")]), "x") == ()


def test_two_cursors_and_a_crash_store_what_was_said_under_the_bound_serial(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    register(plant.sessions, "SH-1", binding_convention="shelly", binding_topic="shellyem-1", model="SMM-10")
    plant.pipeline.refresh_registry()

    def say(at_s: int, what: dict[str, float], *, full: bool = False) -> None:
        ts = T0 + at_s * 1000
        method = "NotifyFullStatus" if full else "NotifyStatus"
        body = orjson.dumps({"method": method, "params": {"ts": ts / 1000, "switch:0": what}})
        plant.pipeline.ingest([("shellyem-1/events/rpc", body, ts)])

    say(0, {"apower": 5.0, "voltage": 229.0}, full=True)
    say(30, {"apower": 1800.0})
    plant.crash()  # nothing was stored yet, and the rules had read both
    say(60, {"voltage": 230.0})
    plant.pipeline.drain()
    rows = plant.telemetry.range("SH-1", "soymilk", T0, T0 + 61_000, ("power_w", "voltage_v"))
    assert [(row.ts, dict(row.values)) for row in rows] == [
        (T0, {"power_w": 5.0, "voltage_v": 229.0}),
        (T0 + 30_000, {"power_w": 1800.0, "voltage_v": 229.0}),
        (T0 + 60_000, {"power_w": 1800.0, "voltage_v": 230.0}),
    ]
    assert plant.count(QuarantineRow) == 0


class EdgeNode:
    """A Sparkplug edge node in front of ``plant``'s machine SP-1, which says power by alias."""

    def __init__(self, plant: Plant) -> None:
        self.plant, self._seq = plant, 0
        register(plant.sessions, "SP-1", binding_convention="sparkplug", binding_topic="canteen/edge-1/kitchen")
        plant.pipeline.refresh_registry()

    def birth(self, at_s: int) -> None:
        self._seq = 0
        self._say("NBIRTH/edge-1", at_s, metric("bdSeq", 0))
        self._say("DBIRTH/edge-1/kitchen", at_s, metric("a/power_w", 5.0, alias=1))

    def data(self, at_s: int, watts: float) -> None:
        self._say("DDATA/edge-1/kitchen", at_s, metric(value=watts, alias=1))

    def _say(self, where: str, at_s: int, *told: dict[str, Any]) -> None:
        ts = T0 + at_s * 1000
        self.plant.pipeline.ingest([(f"spBv1.0/canteen/{where}", payload(self._seq, *told, timestamp=ts), ts)])
        self._seq += 1

    def asked(self) -> int:
        return [topic for topic, _ in self.plant.published].count("spBv1.0/canteen/NCMD/edge-1")

    def stored(self) -> dict[int, float]:
        self.plant.pipeline.drain()
        rows = self.plant.telemetry.range("SP-1", "soymilk", T0, T0 + 10_000_000, ("power_w",))
        return {(row.ts - T0) // 1000: row.values["power_w"] for row in rows}  # type: ignore[misc]


def replay(plant: Plant, at_s: int) -> None:
    """As an operator does."""
    with plant.sessions.command() as session:
        rows = store.quarantine(session, reason="unknown_alias")
        store.settle(session, [row.id for row in rows], store.REPLAY, from_ms(T0 + at_s * 1000))
    plant.tick(at_s)


def test_aliases_of_before_a_restart_are_held_asked_for_and_stored_in_the_end(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    edge = EdgeNode(plant)
    edge.birth(0)
    edge.data(10, 10.0)
    plant.tick(11)
    assert edge.stored() == {0: 5.0, 10: 10.0}
    assert edge.asked() == 0
    plant.pipeline.detection.flush(plant.clock.now(), snapshot=True)
    plant.crash()
    for at_s in range(20, 60, 10):
        edge.data(at_s, float(at_s))
        plant.tick(at_s + 1)
    assert edge.stored() == {0: 5.0, 10: 10.0}
    assert [row.reason for row in plant.held()] == ["unknown_alias"] * 4
    assert edge.asked() == 2, "at 21 s and at 51 s"
    edge.birth(60)
    replay(plant, 61)
    assert edge.stored() == {0: 5.0, **{at_s: float(at_s) for at_s in range(10, 60, 10)}, 60: 5.0}
    plant.tick(100)
    assert edge.asked() == 2


def test_what_the_store_alone_has_no_birth_of_is_held_too(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    edge = EdgeNode(plant)
    edge.birth(0)
    plant.pipeline.drain()
    plant.crash()  # the rules begin before the birth again, the store behind it
    edge.data(10, 10.0)
    plant.tick(11)
    assert plant.held() == []
    assert edge.stored() == {0: 5.0}
    (held,) = plant.held()
    assert held.reason == "unknown_alias"
    plant.tick(12)
    assert edge.asked() == 1
    edge.birth(20)
    edge.stored()
    replay(plant, 21)
    assert edge.stored() == {0: 5.0, 10: 10.0, 20: 5.0}


def test_nothing_is_asked_while_the_broker_is_away_or_of_what_is_long_past(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    edge = EdgeNode(plant)
    said, away = plant.publish, True

    def publish(topic: str, body: bytes) -> None:
        if away:
            raise UnavailableError("away")
        said(topic, body)

    plant.publish = publish
    edge.data(0, 1.0)
    plant.tick(1)
    away = False
    assert edge.asked() == 0
    plant.tick(2)
    assert edge.asked() == 1
    edge.data(3, 1.0)
    plant.pipeline.accept([Message("spBv1.0/canteen/NDATA/edge-1", payload(9), T0)])
    plant.tick(300)
    assert edge.asked() == 1, "both readers are behind; a birth may be among what they have still to read"
