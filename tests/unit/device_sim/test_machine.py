"""The protocol side of a machine: birth, will, boot, seq, sampling, buffer and backfill, commands (wire.md)."""

from __future__ import annotations

import itertools
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_sim.faults import fault_named, inflict, mend
from device_sim.machine import BACKFILL_OBJECTS, Machine, Publication
from domain import wire
from tests.unit.device_sim.machines import START, freshair, machine, objects, soymilk

MINUTE = 60_000
NETWORK = fault_named("network_lost", "soymilk")
PLUG = fault_named("unplugged", "soymilk")


def command(
    unit: Machine, name: str, params: dict[str, Any], now_ms: int, *, identity: str = "c1", expires_in: int = MINUTE
) -> dict[str, Any]:
    """Send a command and return the reply."""
    payload = orjson.dumps({"id": identity, "name": name, "params": params, "expires_at": now_ms + expires_in})
    replies = objects(unit.receive(unit.command_topic, payload, now_ms), "reply")
    assert len(replies) == 1
    return replies[0]


def test_the_first_words_are_a_retained_birth_and_online() -> None:
    birth, online, *rest = machine(soymilk()).advance(START + 5 * MINUTE)
    body = orjson.loads(birth.payload)
    assert birth.topic == wire.up("soymilk", "SN-1", "birth")
    assert (birth.retain, birth.qos) == (True, 1)
    assert body["simulated"] is True
    assert (body["model"], body["interval_s"], body["ts"]) == ("SMM-60", 30, START)
    assert (online.topic.endswith("/up/status"), online.payload, online.retain) == (True, b"online", True)
    assert all(p.topic.endswith("/up/telemetry") and p.qos == 1 and not p.retain for p in rest)


def test_samples_come_at_the_interval_with_one_boot_and_rising_seq() -> None:
    samples = objects(machine(soymilk()).advance(START + 10 * MINUTE))
    assert [s["seq"] for s in samples] == list(range(1, len(samples) + 1))
    assert len({s["boot"] for s in samples}) == 1
    assert {b["ts"] - a["ts"] for a, b in itertools.pairwise(samples)} == {30_000}
    assert len(samples) in (19, 20)


def test_a_change_of_state_is_reported_at_once() -> None:
    samples = objects(machine(soymilk(batches=(60,))).advance(START + 3 * MINUTE))
    first_fill = next(s for s in samples if s["run_state"] == "filling")
    assert first_fill["ts"] == START + 61_000


def test_what_the_board_notices_is_an_event_with_a_seq_of_the_same_counter() -> None:
    unit = machine(soymilk(batches=(1,)))
    sent = unit.touch(START + 500, lambda physics: inflict(fault_named("overflow_dirty", "soymilk"), physics))
    sent += unit.advance(START + 30 * MINUTE)
    (event,) = objects(sent, "event")
    assert (event["fault_code"], event["level"]) == ("E3", "error")
    seqs = sorted(o["seq"] for o in objects(sent) + objects(sent, "event"))
    assert seqs == list(range(1, len(seqs) + 1))
    assert any(s.get("fault_code") == "E3" for s in objects(sent))


@given(st.lists(st.integers(1, 3_600_000), min_size=1, max_size=8))
@settings(max_examples=25, deadline=None)
def test_one_long_advance_gives_what_many_short_ones_give(pieces: list[int]) -> None:
    whole, parts = (machine(soymilk(batches=(60, 4000))) for _ in range(2))
    end = START + sum(pieces)
    expected = whole.advance(end)
    got: list[Publication] = []
    now = START
    for piece in pieces:
        now += piece
        got += parts.advance(now)
    assert got == expected


@given(st.lists(st.tuples(st.integers(1, 1_200_000), st.sampled_from(["network", "plug"])), max_size=8))
@settings(max_examples=40, deadline=None)
def test_whatever_is_lost_in_between_every_object_of_a_boot_arrives_once_and_in_order(
    switches: list[tuple[int, str]],
) -> None:
    unit = machine(soymilk(batches=(60, 4000)))
    sent, now, down = [], START, set[str]()
    for after, what in switches:
        now += after
        fault = NETWORK if what == "network" else PLUG
        deed = mend if what in down else inflict
        down ^= {what}
        sent += unit.touch(now, lambda physics, deed=deed, fault=fault: deed(fault, physics))  # type: ignore[misc]
    for fault in (NETWORK, PLUG):
        sent += unit.touch(now, lambda physics, fault=fault: mend(fault, physics))  # type: ignore[misc]
    sent += unit.advance(now + 5 * MINUTE)
    by_boot: dict[str, list[dict[str, Any]]] = {}
    for publication in sent:
        body = orjson.loads(publication.payload) if publication.objects else []
        for thing in body if isinstance(body, list) else [body]:
            by_boot.setdefault(thing["boot"], []).append(thing)
    for things in by_boot.values():
        seqs = [t["seq"] for t in things]
        assert seqs == sorted(set(seqs))
        if "plug" not in {what for _, what in switches}:
            assert seqs == list(range(1, len(seqs) + 1))
        assert [t["ts"] for t in things] == sorted(t["ts"] for t in things)


def test_a_lost_network_ends_in_the_will_and_comes_back_with_a_backfill() -> None:
    unit = machine(soymilk())
    before = objects(unit.advance(START + 10 * MINUTE))
    unit.touch(START + 10 * MINUTE, lambda physics: inflict(NETWORK, physics))
    silence = unit.advance(START + 40 * MINUTE)
    assert [(p.will, p.payload, p.retain) for p in silence] == [(True, b"offline", True)]
    assert silence[0].ts - (START + 10 * MINUTE) == pytest.approx(90_000, abs=30_000)
    back = unit.touch(START + 40 * MINUTE, lambda physics: mend(NETWORK, physics))
    assert back[0].payload == b"online"
    assert not objects(back, "birth"), "the board never stopped"
    filled = objects(back)
    assert all(s["backfill"] is True for s in filled)
    assert filled[0]["seq"] == before[-1]["seq"] + 1
    assert [s["ts"] for s in filled] == sorted(s["ts"] for s in filled)
    live = objects(unit.advance(START + 45 * MINUTE))
    assert live[0]["seq"] == filled[-1]["seq"] + 1
    assert not any("backfill" in s for s in live)


def test_a_day_without_network_is_filled_in_within_the_limits_of_the_wire() -> None:
    unit = machine(soymilk())
    unit.touch(START + MINUTE, lambda physics: inflict(NETWORK, physics))
    unit.advance(START + 1440 * MINUTE)
    back = unit.touch(START + 1441 * MINUTE, lambda physics: mend(NETWORK, physics))
    arrays = [p for p in back if p.topic.endswith("/telemetry")]
    assert len(arrays) == -(-len(objects(back)) // BACKFILL_OBJECTS)
    assert all(len(p.objects) <= wire.MAX_SAMPLES and len(p.payload) <= wire.MAX_PAYLOAD_BYTES for p in arrays)
    assert [p.objects for p in arrays] == [
        tuple((o["ts"], o["seq"]) for o in orjson.loads(p.payload)) for p in arrays
    ]  # fmt: skip


def test_a_pulled_plug_forgets_the_batch_and_a_new_boot_counts_from_one() -> None:
    unit = machine(soymilk(batches=(60,)))
    first = objects(unit.advance(START + 5 * MINUTE))
    assert first[-1]["run_state"] == "grinding"
    unit.touch(START + 5 * MINUTE, lambda physics: inflict(PLUG, physics))
    dark = unit.advance(START + 20 * MINUTE)
    assert [p.payload for p in dark] == [b"offline"]
    sent = unit.touch(START + 20 * MINUTE, lambda physics: mend(PLUG, physics))
    sent += unit.advance(START + 25 * MINUTE)
    assert [p.topic.rsplit("/", 1)[1] for p in sent[:2]] == ["birth", "status"]
    again = objects(sent)
    assert again[0]["seq"] == 1
    assert again[0]["boot"] != first[0]["boot"]
    assert again[0]["run_state"] == "standby"


def test_set_interval_holds_for_its_time_and_reverts_by_itself() -> None:
    unit = machine(soymilk())
    now = START + 5 * MINUTE
    assert command(unit, "set_interval", {"interval_s": 5, "ttl_s": 60}, now) == {"id": "c1", "ok": True}
    fast = objects(unit.advance(now + MINUTE))
    assert len(fast) == 12
    slow = objects(unit.advance(now + 6 * MINUTE))
    assert len(slow) == 10


def test_test_mode_samples_at_ten_seconds_at_most_and_runs_a_part_batch() -> None:
    unit = machine(soymilk())
    now = START + 5 * MINUTE
    assert command(unit, "test_mode", {"interval_s": 30, "ttl_s": 3600}, now)["ok"] is True
    assert unit.testing
    samples = objects(unit.advance(now + 3600_000))
    assert samples[0]["batch_target_l"] == 18.0
    assert samples[0]["mode"] == "test"
    assert max(b["ts"] - a["ts"] for a, b in itertools.pairwise(samples)) <= 10_000
    states = {s["run_state"] for s in samples}
    assert {"filling", "grinding", "heating", "boil_hold", "keep_warm", "standby"} <= states
    later = objects(unit.advance(now + 3600_000 + 10 * MINUTE))
    assert not unit.testing
    assert later[-1]["mode"] == "auto"
    assert len(later) <= 21


def test_test_mode_empties_a_pot_before_it_fills() -> None:
    unit = machine(soymilk(batches=(60,)))
    now = START + 10 * MINUTE
    unit.advance(now)
    assert command(unit, "test_mode", {"interval_s": 5, "ttl_s": 3600}, now)["ok"]
    samples = objects(unit.advance(now + 3 * MINUTE))
    assert samples[0]["run_state"] == "cleaning"
    first_fill = next(s for s in samples if s["run_state"] == "filling")
    assert first_fill["water_level_pct"] <= 3.0


def test_a_fresh_air_unit_tests_at_its_highest_level() -> None:
    unit = machine(freshair(level=1))
    now = START + 5 * MINUTE
    unit.advance(now)
    assert command(unit, "test_mode", {"interval_s": 5, "ttl_s": 1800}, now)["ok"]
    levels = {s["level"] for s in objects(unit.advance(now + 30 * MINUTE)) if s["ts"] > now}
    assert levels == {3.0}


def test_stop_ends_program_and_test() -> None:
    unit = machine(soymilk())
    now = START + MINUTE
    command(unit, "test_mode", {"interval_s": 5, "ttl_s": 3600}, now)
    assert command(unit, "stop", {}, now + MINUTE, identity="c2") == {"id": "c2", "ok": True}
    assert not unit.testing
    assert {s["run_state"] for s in objects(unit.advance(now + 5 * MINUTE))} == {"standby"}


def test_a_nonce_is_shown_for_its_time() -> None:
    unit = machine(soymilk())
    now = START + MINUTE
    assert command(unit, "show_nonce", {"nonce": "8431", "ttl_s": 120}, now)["ok"]
    assert unit.display == "8431"
    unit.advance(now + 3 * MINUTE)
    assert unit.display == ""


def test_an_expired_command_is_refused_and_does_nothing() -> None:
    unit = machine(soymilk())
    reply = command(unit, "test_mode", {"interval_s": 5, "ttl_s": 60}, START + MINUTE, expires_in=0)
    assert reply == {"id": "c1", "ok": False, "error": "expired"}
    assert not unit.testing


@pytest.mark.parametrize(
    ("name", "params", "error"),
    [
        ("set_intervall", {}, "unknown command"),
        ("set_interval", {"interval_s": 5}, "ttl_s"),
        ("set_interval", {"interval_s": 0, "ttl_s": 60}, "interval_s"),
        ("set_interval", {"interval_s": True, "ttl_s": 60}, "interval_s"),
        ("set_interval", {"interval_s": "5", "ttl_s": 60}, "interval_s"),
        ("test_mode", {"interval_s": 5, "ttl_s": 60, "program": "dance"}, "unknown program"),
        ("show_nonce", {"nonce": "", "ttl_s": 60}, "nonce"),
    ],
)
def test_what_it_cannot_do_it_says(name: str, params: dict[str, Any], error: str) -> None:
    reply = command(machine(soymilk()), name, params, START + MINUTE)
    assert reply["ok"] is False
    assert error in reply["error"]


def test_a_command_delivered_twice_is_obeyed_once_and_answered_twice() -> None:
    unit = machine(soymilk())
    now = START + MINUTE
    first = command(unit, "test_mode", {"interval_s": 5, "ttl_s": 3600}, now)
    unit.advance(now + 5 * MINUTE)
    state = unit.physics.signature()
    again = command(unit, "test_mode", {"interval_s": 5, "ttl_s": 3600}, now + 5 * MINUTE, expires_in=1)
    assert first == again
    assert unit.physics.signature() == state


@pytest.mark.parametrize("payload", [b"", b"\xff", b"[]", b"3", b'{"name":"stop"}', b'{"id":7,"name":"stop"}'])
def test_rubbish_on_the_way_down_is_ignored(payload: bytes) -> None:
    unit = machine(soymilk())
    assert objects(unit.receive(unit.command_topic, payload, START + MINUTE), "reply") == []


def test_a_machine_without_network_hears_nothing() -> None:
    unit = machine(soymilk())
    unit.touch(START + MINUTE, lambda physics: inflict(NETWORK, physics))
    payload = orjson.dumps({"id": "c1", "name": "stop", "params": {}})
    assert unit.receive(unit.command_topic, payload, START + 2 * MINUTE) == []
