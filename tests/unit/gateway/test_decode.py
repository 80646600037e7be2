"""Every payload becomes readings or a reason; poison hurts its own object and nothing else."""

from __future__ import annotations

import json
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import wire
from domain.readings import Reading
from gateway.adapters.registry import ADAPTERS
from gateway.ingest.decode import Decoder
from gateway.messages import Birth, Decoded, Message, Quarantined, Reason, Registry, Reply, Status, Unit
from gateway.samples import AHEAD_MS, OLDEST_MS, RAW_BYTES

NOW = 1_795_000_000_000
REGISTRY = Registry.of(
    [
        Unit("SM-1", "soymilk", "SMM-60"),
        Unit("FA-1", "freshair", "FAU-300"),
        Unit("PLUG-1", "soymilk", "SMM-10", convention="tasmota", topic="kitchen", zone=ZoneInfo("Asia/Shanghai")),
        Unit("ROOM-1", "freshair", "FAU-150", convention="tasmota", topic="room", zone=ZoneInfo("Asia/Shanghai")),
    ]
)


def decode(topic: str, payload: bytes, *, recv_ms: int = NOW, retained: bool = False) -> list[Decoded]:
    decoder = Decoder(ADAPTERS.values(), REGISTRY, known_only=True)
    return decoder.decode(Message(topic, payload, recv_ms, retained))


def native(kind: str, payload: Any, serial: str = "SM-1", equipment_type: str = "soymilk") -> list[Decoded]:
    body = payload if isinstance(payload, bytes) else orjson.dumps(payload)
    return decode(wire.up(equipment_type, serial, kind), body)


def only(found: list[Decoded]) -> Any:
    (one,) = found
    return one


def test_the_sample_of_the_contract() -> None:
    payload = (
        b'{"ts":1794999999123,"boot":"k3f9","seq":123,"run_state":"heating","power_w":8890,'
        b'"voltage_v":229.6,"temp_c":71.4,"water_flow_lpm":0.0}'
    )
    assert only(native("telemetry", payload)) == Reading(
        "SM-1",
        "soymilk",
        1_794_999_999_123,
        {"run_state": "heating", "power_w": 8890.0, "voltage_v": 229.6, "temp_c": 71.4, "water_flow_lpm": 0.0},
        boot="k3f9",
        seq=123,
        recv_ms=NOW,
    )


def test_whole_numbers_become_floats_and_null_is_absent() -> None:
    reading = only(native("telemetry", {"ts": NOW, "power_w": 8890, "temp_c": None, "heater_on": True}))
    assert reading.values == {"power_w": 8890.0, "heater_on": True}
    assert type(reading.values["power_w"]) is float


def test_out_of_range_is_kept_out_and_the_rest_lives() -> None:
    reading = only(native("telemetry", {"ts": NOW, "power_w": 1e6, "voltage_v": -0.1, "temp_c": 20.0}))
    assert reading.values == {"temp_c": 20.0}
    assert reading.rejected == {"power_w": 1e6, "voltage_v": -0.1}


def test_unknown_keys_are_counted_and_not_stored() -> None:
    decoder = Decoder(ADAPTERS.values(), REGISTRY, known_only=True)
    message = Message(wire.up("soymilk", "SM-1", "telemetry"), orjson.dumps({"ts": NOW, "seq": 1, "foo": [1]}), NOW)
    assert only(decoder.decode(message)).values == {}
    assert dict(decoder.strangers) == {"foo": 1}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", Reason.UNREADABLE),
        (b"{", Reason.UNREADABLE),
        (b"hello", Reason.UNREADABLE),
        (b"\xff\xfe", Reason.UNREADABLE),
        (b'{"ts":%d,"recipe":"\xff"}' % NOW, Reason.UNREADABLE),
        (b"[" * 100_000 + b"]" * 100_000, Reason.TOO_DEEP),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, Reason.OVERSIZE),
        (b" " * (wire.MAX_PAYLOAD_BYTES + 1), Reason.OVERSIZE),
        (b"[" + b",".join([b"{}"] * 1001) + b"]", Reason.TOO_MANY),
        (b"17", Reason.WRONG_TYPE),
        (b"null", Reason.WRONG_TYPE),
        (b'"text"', Reason.WRONG_TYPE),
        (b'{"power_w":1}', Reason.MISSING_TS),
        (b'{"ts":null}', Reason.MISSING_TS),
        (b'{"ts":"1763776800123"}', Reason.WRONG_TYPE),
        (b'{"ts":1763776800123.5}', Reason.WRONG_TYPE),
        (b'{"ts":true}', Reason.WRONG_TYPE),
        (b'{"ts":1e300}', Reason.WRONG_TYPE),
        (b'{"ts":99999999999999999999999999}', Reason.WRONG_TYPE),
        (b'{"ts":1,"power_w":"high"}', Reason.WRONG_TYPE),
        (b'{"ts":1,"power_w":true}', Reason.WRONG_TYPE),
        (b'{"ts":1,"power_w":[1]}', Reason.WRONG_TYPE),
        (b'{"ts":1,"heater_on":1}', Reason.WRONG_TYPE),
        (b'{"ts":1,"run_state":5}', Reason.WRONG_TYPE),
        (b'{"ts":1,"run_state":"a\\u0000b"}', Reason.WRONG_TYPE),
        (b'{"ts":1,"run_state":"a\\nb"}', Reason.WRONG_TYPE),
        (b'{"ts":1,"run_state":"\\ud800"}', Reason.WRONG_TYPE),
        (b'{"ts":1,"run_state":"%s"}' % (b"x" * 300), Reason.WRONG_TYPE),
        (b'{"ts":1,"boot":7}', Reason.WRONG_TYPE),
        (b'{"ts":1,"seq":"7"}', Reason.WRONG_TYPE),
        (b'{"ts":1,"seq":-1}', Reason.WRONG_TYPE),
        (b'{"ts":1,"backfill":"yes"}', Reason.WRONG_TYPE),
        (b'{"ts":1,"power_w":NaN}', Reason.NOT_FINITE),
        (b'{"ts":1,"power_w":Infinity}', Reason.NOT_FINITE),
        (b'{"ts":1,"power_w":-Infinity}', Reason.NOT_FINITE),
        (b'{"ts":1,"power_w":1e400}', Reason.NOT_FINITE),
        (b'{"ts":1,"power_w":1%s}' % (b"0" * 400), Reason.NOT_FINITE),
        (b'{"ts":1,"power_w":1%s}' % (b"0" * 5000), Reason.UNREADABLE),
        (b'{"ts":NaN}', Reason.WRONG_TYPE),
    ],
)
def test_what_cannot_be_used_says_why(payload: bytes, reason: Reason) -> None:
    held = only(native("telemetry", payload))
    assert isinstance(held, Quarantined)
    assert held.reason is reason, held
    assert held.explanation
    assert held.serial == "SM-1"
    assert held.raw == payload[:RAW_BYTES]


def test_a_bad_object_hurts_no_other_of_its_batch() -> None:
    payload = (
        b'[{"ts":%d,"power_w":1.5},{"ts":%d,"power_w":NaN},7,{"power_w":1},{"ts":%d,"power_w":"x"},{"ts":%d,"temp_c":2}]'
        % (NOW, NOW, NOW, NOW + 1)
    )
    found = native("telemetry", payload)
    assert [r.values for r in found if isinstance(r, Reading)] == [{"power_w": 1.5}, {"temp_c": 2.0}]
    held = [q for q in found if isinstance(q, Quarantined)]
    assert [(q.part, q.reason) for q in held] == [
        (1, Reason.NOT_FINITE),
        (2, Reason.WRONG_TYPE),
        (3, Reason.MISSING_TS),
        (4, Reason.WRONG_TYPE),
    ]
    assert held[3].raw == b'{"ts":%d,"power_w":"x"}' % NOW, "an object is kept so that it can be sent again alone"


def test_backfill_is_marked() -> None:
    assert only(native("telemetry", [{"ts": NOW - 3_600_000, "power_w": 1.0, "backfill": True}])).backfill


@pytest.mark.parametrize("ts", [0, 1, -1, 86_400_000, NOW - OLDEST_MS - 1, NOW + AHEAD_MS + 1, 1 << 50, -(1 << 50)])
def test_a_clock_that_cannot_be_right_gives_way_to_the_time_of_receipt(ts: int) -> None:
    reading = only(native("telemetry", {"ts": ts, "power_w": 1.0}))
    assert NOW - 1000 < reading.ts <= NOW
    assert (reading.device_ts, reading.recv_ms) == (ts, NOW)


def test_samples_of_a_wrong_clock_that_one_read_brings_stay_apart_and_in_order() -> None:
    times = [1000 * second for second in range(1000)]
    found = [only(native("telemetry", {"ts": ts, "power_w": 1.0})).ts for ts in times]
    assert found == sorted(set(found))
    again = [only(native("telemetry", {"ts": ts, "power_w": 1.0})).ts for ts in times]
    assert found == again, "read again, they are the same points"


@pytest.mark.parametrize("ts", [NOW - OLDEST_MS, NOW - 86_400_000, NOW, NOW + AHEAD_MS])
def test_a_clock_that_may_be_right_is_believed(ts: int) -> None:
    reading = only(native("telemetry", {"ts": ts, "power_w": 1.0}))
    assert (reading.ts, reading.device_ts) == (ts, None)


def test_a_batch_with_a_wrong_clock_keeps_its_spacing() -> None:
    found = native("telemetry", [{"ts": 1000 + 5000 * n, "power_w": float(n)} for n in range(3)])
    times = [r.ts for r in found if isinstance(r, Reading)]
    assert [ts - times[-1] for ts in times] == [-10_000, -5_000, 0]
    assert NOW - 1000 < times[-1] <= NOW
    mixed = native("telemetry", [{"ts": 0, "power_w": 0.0}, {"ts": NOW - 5, "power_w": 1.0}])
    assert [(r.device_ts, r.ts == NOW - 5) for r in mixed if isinstance(r, Reading)] == [(0, False), (None, True)]


def test_an_event_is_a_sample_of_the_makers_code() -> None:
    event = {"ts": NOW, "boot": "b", "seq": 4, "fault_code": "E4", "level": "error", "detail": {"x": 1}}
    reading = only(native("event", event))
    assert (reading.values, reading.seq) == ({"fault_code": "E4"}, 4)
    assert only(native("event", {"ts": NOW, "level": "error"})).reason is Reason.WRONG_TYPE


def test_birth_status_and_reply() -> None:
    birth = {"ts": NOW, "boot": "k", "model": "SMM-60", "fw": "1.4.2", "interval_s": 30, "simulated": True}
    assert only(native("birth", birth)) == Birth("SM-1", NOW, "SMM-60", "1.4.2", 30.0, True)
    assert only(native("status", b"online")) == Status("SM-1", True, NOW)
    assert only(decode(wire.up("soymilk", "SM-1", "status"), b"offline", retained=True)) == Status(
        "SM-1", False, NOW, True
    )
    assert only(native("reply", {"id": "c1", "ok": False, "error": "expired"})) == Reply("SM-1", "c1", False, "expired")
    assert native("status", b"") == native("birth", b"") == []


@pytest.mark.parametrize(
    ("kind", "payload", "reason"),
    [
        ("birth", b'{"model":"x"}', Reason.MISSING_TS),
        ("birth", b'{"ts":1,"interval_s":"30"}', Reason.WRONG_TYPE),
        ("birth", b'{"ts":1,"interval_s":0}', Reason.WRONG_TYPE),
        ("birth", b"[]", Reason.WRONG_TYPE),
        ("birth", b'{"ts":1,"model":"\\u0000"}', Reason.WRONG_TYPE),
        ("status", b"Online", Reason.WRONG_TYPE),
        ("reply", b'{"ok":true}', Reason.WRONG_TYPE),
        ("reply", b'{"id":3,"ok":true}', Reason.WRONG_TYPE),
    ],
)
def test_bad_births_states_and_replies(kind: str, payload: bytes, reason: Reason) -> None:
    assert only(native(kind, payload)).reason is reason


def test_samples_of_a_machine_that_calls_itself_simulated_are_marked() -> None:
    decoder = Decoder(ADAPTERS.values(), REGISTRY, known_only=True)

    def say(kind: str, body: Any) -> Any:
        return only(decoder.decode(Message(wire.up("soymilk", "SM-1", kind), orjson.dumps(body), NOW)))

    assert not say("telemetry", {"ts": NOW, "power_w": 1.0}).simulated
    say("birth", {"ts": NOW, "simulated": True})
    assert say("telemetry", {"ts": NOW, "power_w": 1.0}).simulated
    say("birth", {"ts": NOW})
    assert not say("telemetry", {"ts": NOW, "power_w": 1.0}).simulated


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("brewair/v1/00/soymilk/SM-1/up/telemetry", Reason.UNKNOWN_TOPIC),  # not its shard
        (f"{wire.prefix('soymilk', 'SM-1')}/up/what", Reason.UNKNOWN_TOPIC),
        ("brewair/v1/x", Reason.UNKNOWN_TOPIC),
        ("somewhere/else", Reason.UNKNOWN_TOPIC),
        ("", Reason.UNKNOWN_TOPIC),
        (wire.up("toaster", "T-1", "telemetry"), Reason.UNKNOWN_TYPE),
        (wire.up("soymilk", "SM-9", "telemetry"), Reason.UNKNOWN_SERIAL),
        (wire.up("freshair", "SM-1", "telemetry"), Reason.TYPE_MISMATCH),
        ("tele/stranger/SENSOR", Reason.UNKNOWN_SERIAL),
    ],
)
def test_topics_that_nobody_has(topic: str, reason: Reason) -> None:
    held = only(decode(topic, b'{"ts":%d,"power_w":1}' % NOW))
    assert held.reason is reason


def test_the_writer_stores_what_nobody_has_registered_yet() -> None:
    decoder = Decoder(ADAPTERS.values(), Registry(), known_only=False)
    message = Message(wire.up("soymilk", "SM-9", "telemetry"), orjson.dumps({"ts": NOW, "power_w": 1.0}), NOW)
    assert only(decoder.decode(message)).values == {"power_w": 1.0}


PMS = (
    b'{"Time":"2026-03-07T12:54:34","BME280":{"Temperature":20.7,"Humidity":24.4,"DewPoint":-0.4,"Pressure":1013.4},'
    b'"PMS5003":{"CF1":22,"CF2.5":32,"CF10":49,"PM1":22,"PM2.5":32,"PM10":49,"PB0.3":4146},"PressureUnit":"hPa",'
    b'"TempUnit":"C"}'
)
ENERGY = (
    b'{"Time":"2018-01-17T18:59:50","ENERGY":{"Total":1.956,"Yesterday":0.054,"Today":0.049,"Period":0,"Power":9,'
    b'"Factor":0.43,"Voltage":231,"Current":0.089}}'
)
PMS_MS, ENERGY_MS = 1_772_859_274_000, 1_516_186_790_000
"""2026-03-07 12:54:34 and 2018-01-17 18:59:50 in Shanghai, eight hours before UTC."""


def test_tasmotas_particle_sensor_as_found() -> None:
    reading = only(decode("tele/room/SENSOR", PMS, recv_ms=PMS_MS + 400))
    assert (reading.serial, reading.type, reading.ts) == ("ROOM-1", "freshair", PMS_MS)
    assert reading.values == {"pm25_out_ugm3": 32.0, "temp_room_c": 20.7, "rh_room_pct": 24.4}


def test_tasmotas_energy_meter_as_found() -> None:
    reading = only(decode("tele/kitchen/SENSOR", ENERGY, recv_ms=ENERGY_MS + 400))
    assert (reading.serial, reading.ts) == ("PLUG-1", ENERGY_MS)
    assert reading.values == {
        "power_w": 9.0, "voltage_v": 231.0, "current_a": 0.089, "pf": 0.43, "energy_kwh": 1.956,
    }  # fmt: skip


def test_atmospheric_not_standard_particles() -> None:
    body = json.loads(PMS)
    body["PMS5003"]["PM2.5"] = 20
    assert only(decode("tele/room/SENSOR", orjson.dumps(body), recv_ms=PMS_MS)).values["pm25_out_ugm3"] == 20.0


@pytest.mark.parametrize(("payload", "online"), [(b"Online", True), (b"Offline", False)])
def test_tasmotas_last_will(payload: bytes, online: bool) -> None:
    assert only(decode("tele/kitchen/LWT", payload)) == Status("PLUG-1", online, NOW)


def test_a_three_phase_meter_and_fahrenheit() -> None:
    body = {
        "Time": "2026-03-07T04:54:34Z",
        "TempUnit": "F",
        "ENERGY": {"Power": [10, 20, 30], "Voltage": [220, 221, 222], "Current": [1, 2, 3], "Factor": [1, 1, 1]},
        "DS18B20": {"Id": "0316", "Temperature": 212.0},
    }
    reading = only(decode("tele/kitchen/SENSOR", orjson.dumps(body), recv_ms=PMS_MS))
    assert reading.ts == PMS_MS
    assert reading.values == {
        "power_w": 60.0, "temp_c": 100.0, "voltage_v_a": 220.0, "voltage_v_b": 221.0, "voltage_v_c": 222.0,
        "current_a_a": 1.0, "current_a_b": 2.0, "current_a_c": 3.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "payload",
    [
        b"{}",
        b"[]",
        b'{"Time":7}',
        b'{"Time":"yesterday"}',
        b'{"Time":"0001-01-01T00:00:00"}',
        b'{"Time":"9999-12-31T23:59:59-23:00"}',
    ],
)
def test_tasmotas_odd_times_never_crash(payload: bytes) -> None:
    found = only(decode("tele/kitchen/SENSOR", payload))
    assert isinstance(found, Quarantined) or NOW - 1000 < found.ts <= NOW
    assert getattr(found, "reason", None) is not Reason.INTERNAL


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
keys = st.sampled_from(["ts", "seq", "boot", "backfill", "power_w", "temp_c", "heater_on", "run_state", "level", "x"])
objects = st.dictionaries(keys, json_values, max_size=6)
topics = st.sampled_from(
    [*(wire.up("soymilk", "SM-1", kind) for kind in wire.UP_KINDS), "tele/kitchen/SENSOR", "tele/kitchen/LWT", "x"]
)


@given(topic=topics, payload=st.binary(max_size=200) | json_values.map(lambda v: json.dumps(v).encode()))
def test_no_payload_raises_or_breaks_the_decoder(topic: str, payload: bytes) -> None:
    for found in decode(topic, payload):
        assert not isinstance(found, Quarantined) or found.reason is not Reason.INTERNAL


@given(st.lists(objects | json_values, max_size=8), st.integers(0, 8))
def test_a_good_object_lives_in_any_company(company: list[Any], at: int) -> None:
    good = {"ts": NOW, "power_w": 123.0, "seq": 77}
    found = native("telemetry", json.dumps([*company[:at], good, *company[at:]]).encode())
    assert any(isinstance(r, Reading) and r.seq == 77 and r.values == {"power_w": 123.0} for r in found)
    assert len(found) == len(company) + 1, "every object is a reading or in quarantine"


@given(objects)
def test_what_passes_is_finite_printable_and_in_range(fields: dict[str, Any]) -> None:
    for found in native("telemetry", json.dumps({"ts": NOW, **fields}).encode()):
        if isinstance(found, Reading):
            assert orjson.loads(orjson.dumps(dict(found.values))) == found.values
            assert 0 <= found.number("power_w") <= 25_000 if "power_w" in found.values else True  # type: ignore[operator]


@given(st.text(max_size=40), st.binary(max_size=50), st.integers(-(1 << 62), 1 << 62), st.booleans())
def test_a_message_survives_its_record(topic: str, payload: bytes, recv_ms: int, retained: bool) -> None:
    topic = topic.encode("utf-8", "ignore").decode()
    message = Message(topic, payload, recv_ms, retained)
    assert Message.unpack(message.pack()) == message


@pytest.mark.parametrize(
    ("topic", "body"),
    [
        pytest.param(wire.up("soymilk", "SM-1", "telemetry"), '{{"ts":{now},"k{n}":1}}', id="native"),
        pytest.param("tele/kitchen/SENSOR", '{{"Time":"2026-11-23T08:00:00","k{n}":1}}', id="tasmota"),
        pytest.param("miot/a/b", '[{{"siid":{n},"piid":1,"code":0,"value":1}}]', id="foreign table"),
    ],
)
def test_keys_that_machines_choose_do_not_fill_the_memory(topic: str, body: str) -> None:
    bound = Registry.of(
        [
            Unit("SM-1", "soymilk", "SMM-60"),
            Unit("T-1", "soymilk", "", convention="tasmota", topic="kitchen"),
            Unit("M-1", "soymilk", "", convention="miot", topic="a/b"),
        ]
    )
    decoder = Decoder(ADAPTERS.values(), bound, known_only=True)
    for n in range(1500):
        decoder.decode(Message(topic, body.format(now=NOW, n=n + 100).encode(), NOW))
    assert decoder.strangers.total() == 1500
    assert len(decoder.strangers) == 1001
    assert decoder.strangers["?"] == 500
