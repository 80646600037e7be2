"""Sparkplug B: births give names to aliases, data say what changed, a hole in seq forgets, deaths are of their session."""

from __future__ import annotations

from typing import Any

import pytest

from domain.readings import Reading
from gateway.adapters.sparkplug_payload import Payload
from gateway.messages import Quarantined, Status
from tests.unit.gateway.adapters.bound import NOW, Bound, unit
from tests.unit.gateway.adapters.spb import BOOLEAN, DOUBLE, INT32, INT64, metric, payload

N, D = "spBv1.0/canteen/{}/edge", "spBv1.0/canteen/{}/edge/pot"
FOUND = bytes.fromhex(
    "0880bcd9f29e3412240a12456c656374726963616c2f706f7765725f7710011898b4d9f29e3420096500ea0a4612120a0674656d705f6310022003"
    "50fdffffff0f12110a096865617465725f6f6e1003200b700112180a0972756e5f73746174651004200c7a0768656174696e6712110a09766f6c74"
    "6167655f761005200a380112100a057461626c65100620108a010208011801"
)
"""A payload as another implementation writes it: float, negative Int32, boolean, string, null and a data set, with aliases."""


@pytest.fixture
def soy() -> Bound:
    return Bound(unit("SM-1", "soymilk", "sparkplug", "canteen/edge/pot"))


def born(bound: Bound, *metrics: dict[str, Any], seq: int = 1, bd_seq: int = 0) -> list[Any]:
    assert bound.all(N.format("NBIRTH"), payload(seq - 1, metric("bdSeq", bd_seq), timestamp=NOW)) == []
    return bound.all(D.format("DBIRTH"), payload(seq, *metrics, timestamp=NOW))


POWER, VOLTAGE = metric("Electrical/power_w", 8890.0, alias=1), metric("Electrical/voltage_v", 380.0, alias=2)


def test_a_birth_as_another_implementation_writes_it(soy: Bound) -> None:
    status, reading = soy.all(D.format("DBIRTH"), FOUND, NOW + 300)
    assert status == Status("SM-1", True, NOW + 300)
    assert (reading.serial, reading.ts) == ("SM-1", NOW), "a birth is one sample, of its own time"
    assert dict(reading.values) == {"power_w": 8890.5, "temp_c": -3.0, "heater_on": True, "run_state": "heating"}
    assert soy.unknown == {"table": 1}


def test_data_say_by_alias_what_has_changed(soy: Bound) -> None:
    born(soy, POWER, VOLTAGE)
    reading = soy.reading(
        D.format("DDATA"), payload(2, metric(value=9000.0, alias=1), timestamp=NOW + 1000), NOW + 1100
    )
    assert (reading.ts, dict(reading.values)) == (NOW + 1000, {"power_w": 9000.0, "voltage_v": 380.0})
    taken_back = payload(3, metric(alias=2), timestamp=NOW + 2000)
    assert soy.values(D.format("DDATA"), taken_back, NOW + 2000) == {"power_w": 9000.0}


def asked(bound: Bound) -> list[str]:
    """Topics on which births are asked for."""
    return [one.topic for one in bound.decoder.requests()]


def test_what_was_said_by_an_unknown_alias_is_held_and_understood_after_the_birth(soy: Bound) -> None:
    unborn = payload(7, metric(value=9000.0, alias=1), metric("temp_c", 20.0), metric(value=5, alias=9), timestamp=NOW)
    reading, held = soy.all(D.format("DDATA"), unborn)
    assert dict(reading.values) == {"temp_c": 20.0}
    assert isinstance(held, Quarantined)
    assert (held.reason, held.serial, "2 metrics" in held.explanation) == ("unknown_alias", "SM-1", True)
    assert soy.unknown == {}
    assert soy.all(D.format("DDATA"), payload(8, metric(value=1.0), timestamp=NOW)) == [], "neither name nor alias"
    born(soy, POWER, VOLTAGE)
    again, still = soy.all(D.format("DDATA"), held.raw)
    assert isinstance(again, Reading)
    assert (again.ts, again.values["power_w"]) == (NOW, 9000.0)
    assert isinstance(still, Quarantined)
    later = soy.reading(D.format("DDATA"), payload(2, metric(value=3.0, alias=1), timestamp=NOW + 1000), NOW + 1000)
    assert later.values["voltage_v"] == 380.0, "what is replayed has no place in the session and makes no hole in it"
    assert asked(soy) == [N.format("NCMD")], "of alias 9"


def test_what_is_held_says_when_it_came_where_it_does_not_say_when_it_was(soy: Bound) -> None:
    (held,) = soy.all(D.format("DDATA"), payload(7, metric(value=1.0, alias=1)), NOW + 5)
    assert isinstance(held, Quarantined)
    assert Payload.FromString(held.raw).timestamp == NOW + 5  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "lacking",
    [
        pytest.param([(D, "DDATA", payload(2, metric(value=1.0, alias=9), timestamp=NOW))], id="alias"),
        pytest.param([(D, "DDATA", payload(4, metric(value=1.0, alias=1), timestamp=NOW))], id="hole"),
        pytest.param([(N, "NDATA", payload(4, metric("load", 1.0), timestamp=NOW))], id="hole in the node"),
        pytest.param(
            [(N, "NDEATH", payload(None)), (D, "DDATA", payload(2, metric("pf", 1.0), timestamp=NOW))], id="no birth"
        ),
    ],
)
def test_a_birth_is_asked_for_until_it_comes(soy: Bound, lacking: list[tuple[str, str, bytes]]) -> None:
    assert asked(soy) == []
    born(soy, POWER, VOLTAGE)
    assert soy.all(D.format("DDATA"), payload(2, metric(value=1.0, alias=1), timestamp=NOW))
    assert asked(soy) == []
    born(soy, POWER, VOLTAGE)
    for where, kind, body in lacking:
        assert asked(soy) == []
        soy.all(where.format(kind), body)
    (request,) = soy.decoder.requests()
    assert request.topic == "spBv1.0/canteen/NCMD/edge"
    command: Any = Payload.FromString(request.payload)
    (told,) = command.metrics
    assert (command.timestamp, told.name, told.boolean_value) == (NOW, "Node Control/Rebirth", True)
    assert told.datatype == BOOLEAN == 11
    assert asked(soy) == ["spBv1.0/canteen/NCMD/edge"], "as long as there is none"
    born(soy, POWER, VOLTAGE, bd_seq=1)
    assert asked(soy) == []


def test_the_dead_and_strangers_are_not_asked(soy: Bound) -> None:
    soy.all(D.format("DDATA"), payload(7, metric("pf", 1.0), timestamp=NOW))
    soy.all("spBv1.0/canteen/NDATA/other", payload(7, metric("pf", 1.0), timestamp=NOW))
    assert asked(soy) == [N.format("NCMD")]
    soy.all(N.format("NDEATH"), payload(None))
    assert asked(soy) == []


def test_a_new_birth_gives_aliases_a_new_meaning(soy: Bound) -> None:
    born(soy, POWER, VOLTAGE)
    born(soy, metric("voltage_v", 381.0, alias=1), bd_seq=1)
    data = payload(2, metric(value=379.0, alias=1), timestamp=NOW)
    assert soy.values(D.format("DDATA"), data) == {"voltage_v": 379.0}


def test_a_hole_in_seq_forgets_values_but_not_names(soy: Bound) -> None:
    born(soy, POWER, VOLTAGE)
    again = payload(2, metric(value=1.0, alias=1), timestamp=NOW)
    assert soy.values(D.format("DDATA"), again) == {"power_w": 1.0, "voltage_v": 380.0}
    assert soy.values(D.format("DDATA"), again) == {"power_w": 1.0, "voltage_v": 380.0}, "the same message again"
    assert soy.values(D.format("DDATA"), payload(4, metric(value=2.0, alias=1), timestamp=NOW)) == {"power_w": 2.0}


def test_a_neighbour_whom_nobody_has_registered_makes_no_hole(soy: Bound) -> None:
    born(soy, POWER, VOLTAGE)
    stranger = "spBv1.0/canteen/DDATA/edge/stranger"
    assert soy.reason(stranger, payload(2, metric("pf", 1.0), timestamp=NOW)) == "unknown_serial"
    data = payload(3, metric(value=1.0, alias=1), timestamp=NOW)
    assert soy.values(D.format("DDATA"), data) == {"power_w": 1.0, "voltage_v": 380.0}


def test_seq_goes_round_after_255_over_all_of_the_nodes_messages(soy: Bound) -> None:
    born(soy, POWER, VOLTAGE, seq=254)
    assert soy.all(N.format("NDATA"), payload(255, metric("load", 0.5), timestamp=NOW)) == []
    data = payload(0, metric(value=1.0, alias=1), timestamp=NOW)
    assert soy.values(D.format("DDATA"), data) == {"power_w": 1.0, "voltage_v": 380.0}


def test_times_are_the_metrics_and_history_is_backfill(soy: Bound) -> None:
    born(soy, POWER, VOLTAGE)
    data = payload(
        2,
        metric(value=5.0, alias=1, timestamp=NOW + 2000),
        metric(value=4.0, alias=1, timestamp=NOW + 1000),
        metric(value=3.0, alias=1, timestamp=NOW - 60_000, is_historical=True),
        timestamp=NOW + 2000,
    )
    found: list[Any] = soy.all(D.format("DDATA"), data, NOW + 2000)
    assert [(r.ts - NOW, r.values["power_w"], r.backfill) for r in found] == [
        (-60_000, 3.0, True), (1000, 4.0, False), (2000, 5.0, False),
    ]  # fmt: skip
    assert "voltage_v" not in found[0].values, "what was then is not what is now"
    assert found[2].values["voltage_v"] == 380.0


def test_signed_numbers_are_sent_as_unsigned_ones_whose_type_the_birth_says(soy: Bound) -> None:
    born(
        soy,
        metric("temp_c", 20, alias=1, datatype=INT32),
        {"name": "uptime_s", "alias": 2, "long_value": 5, "datatype": INT64},
    )
    cold = payload(2, {"alias": 1, "int_value": 0xFFFFFFFD}, {"alias": 2, "long_value": (1 << 64) - 1}, timestamp=NOW)
    reading = soy.reading(D.format("DDATA"), cold)
    assert (dict(reading.values), dict(reading.rejected)) == ({"temp_c": -3.0}, {"uptime_s": -1.0})


def test_deaths(soy: Bound) -> None:
    born(soy, POWER, bd_seq=5)
    assert soy.all(N.format("NDEATH"), payload(None, metric("bdSeq", 4))) == [], "the will of an earlier session"
    assert soy.one(N.format("NDEATH"), payload(None, metric("bdSeq", 5))) == Status("SM-1", False, NOW)
    data = payload(2, metric("voltage_v", 1.0), timestamp=NOW)
    assert soy.values(D.format("DDATA"), data) == {"voltage_v": 1.0}
    assert soy.one(D.format("DDEATH"), payload(3, timestamp=NOW)) == Status("SM-1", False, NOW)
    unborn = payload(4, metric("pf", 1.0), metric(value=1.0, alias=1), timestamp=NOW)
    reading, held = soy.all(D.format("DDATA"), unborn)
    assert dict(reading.values) == {"pf": 1.0}, "aliases end with the session"
    assert held.reason == "unknown_alias"


def test_a_node_may_be_a_machine_itself() -> None:
    both = Bound(
        unit("SM-1", "soymilk", "sparkplug", "canteen/edge/pot"), unit("FA-1", "freshair", "sparkplug", "canteen/edge")
    )
    status, reading = both.all(N.format("NBIRTH"), payload(0, metric("co2_in_ppm", 554.0, alias=9), timestamp=NOW))
    assert (status, dict(reading.values)) == (Status("FA-1", True, NOW), {"co2_in_ppm": 554.0})
    data = payload(1, metric(value=600.0, alias=9, datatype=DOUBLE), timestamp=NOW)
    assert both.values(N.format("NDATA"), data) == {"co2_in_ppm": 600.0}
    assert {one.serial for one in both.all(N.format("NDEATH"), payload(None)) if isinstance(one, Status)} == {
        "SM-1",
        "FA-1",
    }


def test_what_a_refused_message_said_is_not_taken_for_unchanged(soy: Bound) -> None:
    born(soy, POWER, VOLTAGE)
    assert soy.reason(D.format("DDATA"), payload(2, metric(value="high", alias=1), timestamp=NOW)) == "wrong_type"
    assert soy.values(D.format("DDATA"), payload(3, metric("pf", 1.0), timestamp=NOW)) == {"pf": 1.0}
    assert soy.reason(D.format("DDATA"), b"\xff") == "unreadable"
    assert soy.values(D.format("DDATA"), payload(5, metric("freq_hz", 50.0), timestamp=NOW)) == {"freq_hz": 50.0}


def test_nothing_is_retained(soy: Bound) -> None:
    assert soy.all(D.format("DBIRTH"), FOUND, retained=True) == []


@pytest.mark.parametrize(
    ("topic", "raw", "reason"),
    [
        (D.format("DDATA"), b"\xff", "unreadable"),
        (D.format("DDATA"), b"{}", "unreadable"),
        (D.format("DDATA"), bytes(300_000), "oversize"),
        (D.format("DDATA"), payload(1, metric("pf", 1.0, timestamp=1 << 60)), "wrong_type"),
        (D.format("DDATA"), payload(1, metric("pf", float("nan"), timestamp=NOW)), "not_finite"),
        (D.format("DDATA"), payload(1, *(metric("pf", 1.0, timestamp=n) for n in range(1001))), "too_many"),
        ("spBv1.0/canteen/DDATA/edge/stranger", b"", "unknown_serial"),
        ("spBv1.0/canteen/NBIRTH/stranger", b"", "unknown_serial"),
        (D.format("DCMD"), b"", "unknown_topic"),
        (D.format("NDATA"), b"", "unknown_topic"),
        ("spBv1.0/STATE/host", b"", "unknown_topic"),
    ],
)
def test_what_cannot_be_used_says_why(soy: Bound, topic: str, raw: bytes, reason: str) -> None:
    assert soy.reason(topic, raw) == reason
