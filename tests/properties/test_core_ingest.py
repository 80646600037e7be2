"""The compiled core cuts packets and writes lines as Python does, and hands over what is odd."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from domain import wire
from domain.clock import SystemClock
from domain.readings import Reading
from domain.settings import load
from domain.telemetry.influx import line_of
from gateway.adapters.registry import ADAPTERS
from gateway.core.library import Lines, library
from gateway.core.programs import channels_of
from gateway.ingest import mqtt_codec as codec
from gateway.ingest.decode import Decoder
from gateway.ingest.native_receiver import NativeReceiver
from gateway.ingest.spool import body_at, pack
from gateway.messages import Message, Registry, Unit
from gateway.samples import AHEAD_MS, CHANNELS, OLDEST_MS
from tests.servers import ServerMissingError, do_without

NOW = 1_795_000_000_000
SLOW = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)


@pytest.fixture(autouse=True)
def _built() -> None:
    if library() is None:
        do_without("core", ServerMissingError("the compiled core was not built (Rust's cargo, then pip install again)"))


# --- packets

_topics = st.one_of(
    st.sampled_from(["a", "brewair/v1/00/soymilk/SM-1/up/telemetry", "豆浆/机"]), st.text(min_size=1, max_size=12)
).filter(lambda topic: not set(topic) & set("\0") and not any(0xD800 <= ord(letter) < 0xE000 for letter in topic))


@st.composite
def _packet(draw: st.DrawFn, version: int) -> bytes:
    kind = draw(st.sampled_from(["one", "one", "one", "zero", "ping", "suback", "bad topic", "long"]))
    payload = draw(st.binary(max_size=300))
    mid = draw(st.integers(1, 65535)).to_bytes(2, "big")
    repeated, retain = draw(st.booleans()), draw(st.booleans())
    if kind == "ping":
        return bytes((codec.PINGRESP << 4, 0))
    if kind == "suback":
        return (
            bytes((codec.SUBACK << 4, 4 if version == codec.V5 else 3))
            + mid
            + (b"\0\1" if version == codec.V5 else b"\1")
        )
    if kind == "long":
        payload *= 1 + (draw(st.integers(0, 70_000)) // (len(payload) + 1))
    made = codec.publish(
        draw(_topics), payload, b"" if kind == "zero" else mid, retain=retain, repeated=repeated, version=version
    )
    return made.replace(b"a", b"\xff", 1) if kind == "bad topic" and len(made) < 128 else made


def _heard(folder: Path, core: str, version: int, pieces: Sequence[bytes]) -> tuple[list[Message], bytes, str]:
    """Messages, acknowledgements, and why the connection ended, where it did."""
    receiver = NativeReceiver(
        load(
            {
                "BREWAIR_DATA_DIR": str(folder),
                "BREWAIR_MQTT_URL": f"mqtt://127.0.0.1:9?version={'5' if version == codec.V5 else '3.1.1'}",
                "BREWAIR_GATEWAY_CORE": core,
            }
        ),
        client_id="gw",
        filters=["#"],
        memory=folder / "subscriptions",
        clock=SystemClock(),
        rng=random.Random(1),
    )
    receiver._session.opened(0.0)
    messages, acks = [], b""
    # What is broken behind a message may be told with the next read.
    for piece in (*pieces, codec.PING, codec.PING):
        try:
            batch = receiver._cut(piece, NOW)
            messages += batch.messages
            acks += batch.receipt[1] if batch.receipt else b""
            receiver._session.turn(0.0)
        except Exception as lost:
            return messages, acks, type(lost).__name__
    return messages, acks, ""


@pytest.mark.parametrize("version", [codec.V311, codec.V5])
@SLOW
@given(data=st.data())
def test_packets_are_cut_alike_however_the_stream_is_split(tmp_path: Path, version: int, data: st.DataObject) -> None:
    packets = data.draw(st.lists(_packet(version), max_size=12))
    stream = b"".join(packets) + data.draw(st.binary(max_size=6))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) if a < b]
    assert _heard(tmp_path, "compiled", version, pieces) == _heard(tmp_path, "python", version, pieces)


# --- lines

_numbers = st.one_of(
    st.integers(-5, 500),
    st.floats(-50, 500, allow_nan=False).map(lambda number: round(number, 3)),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1e-7, 1e21, 2**53, 2**64, 123456789.123456789, 380]),
)
_texts = st.one_of(
    st.sampled_from(["standby", "heating", "E4", "", 'say "x"', "a\\b", "加热", "\x7f", "x" * 257, "a b", "tab\t"]),
    st.text(max_size=6),
)
_values = st.one_of(_numbers, _texts, st.booleans(), st.none(), st.just([1]), st.just({"a": 1}))
_keys = st.one_of(st.sampled_from([*CHANNELS["soymilk"], "nothing", "ts ", "wat\\u0065r"]), st.text(max_size=5))


@st.composite
def _object(draw: st.DrawFn) -> Any:
    body: dict[str, Any] = draw(st.dictionaries(_keys, _values, max_size=5))
    good = draw(st.dictionaries(st.sampled_from(["power_w", "voltage_v", "temp_c"]), st.floats(0, 100), max_size=3))
    body |= good | ({"run_state": draw(st.sampled_from(["standby", "heating"]))} if draw(st.booleans()) else {})
    body["ts"] = draw(
        st.one_of(st.integers(NOW - 5, NOW), st.sampled_from([None, 1.5, "x", 0, NOW + 10**9, float(NOW), True]))
    )
    for key, values in (("seq", st.sampled_from([1, None, -1, "1"])), ("boot", st.sampled_from(["k", None, 3, "启"]))):
        if draw(st.booleans()):
            body[key] = draw(values)
    if draw(st.integers(0, 3)) == 0:
        body["backfill"] = draw(st.sampled_from([True, False, None]))
    if draw(st.integers(0, 8)) == 0:
        return draw(st.sampled_from([3, "x", None, {}, []]))
    return body


@st.composite
def _payload(draw: st.DrawFn) -> bytes:
    parts = draw(st.lists(_object(), min_size=0, max_size=4))
    value = parts if draw(st.booleans()) or len(parts) != 1 else parts[0]
    spaced = draw(st.booleans())
    written = orjson.dumps(value, option=orjson.OPT_INDENT_2 if spaced else 0, default=str) if _plain(value) else b"{"
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(written)))
        written = (
            written[:at] + draw(st.sampled_from([b",", b"}", b"01", b"\xff", b" ", b'"', b"NaN", b"e5"])) + written[at:]
        )
    return written


def _plain(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


_FIELD = re.compile(rb'([^=,]+)=("(?:[^"\\]|\\.)*"|[^,]*)')


def _points(lines: bytes) -> dict[tuple[bytes, int], dict[bytes, Any]]:
    """What a store has after these lines: a later one of the same point adds to it."""
    found: dict[tuple[bytes, int], dict[bytes, Any]] = {}
    for line in filter(None, lines.split(b"\n")):
        head, _, rest = line.partition(b" ")
        fields, _, ts = rest.rpartition(b" ")
        point = found.setdefault((head, int(ts)), {})
        for key, value in _FIELD.findall(fields):
            point[key] = value if value[:1] in b'"tf' else float(value)
    return found


UNITS = [Unit("SM-1", "soymilk", "SMM-60", 1), Unit("SM-2", "soymilk", "SMM-60", 1, simulated=True)]


@SLOW
@given(said=st.lists(st.tuples(st.sampled_from(["SM-1", "SM-2", "SM-3"]), _payload()), max_size=8))
@example(said=[("SM-1", b'{"ts":1795000000000,"power_w":1E2,"power_w":null,"temp_c":1}'), ("SM-2", b"[]")])
@example(said=[("SM-1", b'{"ts":0,"power_w":5}'), ("SM-1", b'{"ts":1795000000000,"power_w":6}')])
def test_lines_hold_what_readings_hold(said: list[tuple[str, bytes]]) -> None:
    registry = Registry.of(UNITS)
    messages = [
        Message(wire.up("soymilk", serial, "telemetry"), payload, NOW + n) for n, (serial, payload) in enumerate(said)
    ]
    reference = Decoder(ADAPTERS.values(), registry, known_only=False)

    def by_python(message: Message, decoder: Decoder) -> list[bytes]:
        return [line_of(one) for one in decoder.decode(message) if isinstance(one, Reading)]

    wanted = b"\n".join(line for message in messages for line in by_python(message, reference))
    lines = Lines({key: channels_of(key) for key in CHANNELS}, OLDEST_MS, AHEAD_MS)
    lines.speakers([(wire.up(u.type, u.serial, "telemetry"), u.type, u.serial, u.simulated) for u in UNITS])
    chunk = b"".join(pack(message.pack()) for message in messages)
    written = lines.take(chunk)
    assert written.consumed == len(chunk)
    assert sum(count for _, count in written.received) == len(messages)
    decoder = Decoder(ADAPTERS.values(), registry, known_only=False)
    odd = [line for at in written.odd for line in by_python(Message.unpack(body_at(chunk, at)), decoder)]
    assert _points(written.body + b"\n".join(odd)) == _points(wanted)


def test_ordinary_samples_are_not_odd() -> None:
    """Else the core would be useless."""
    lines = Lines({key: channels_of(key) for key in CHANNELS}, OLDEST_MS, AHEAD_MS)
    lines.speakers([(wire.up("soymilk", "SM-1", "telemetry"), "soymilk", "SM-1", False)])
    said = b'"run_state":"heating","power_w":8890,"voltage_v":229.6,"temp_c":71.4,"lid_open":false'
    sample = b'{"ts":%d,"boot":"k3f9","seq":123,' + said + b"}"
    topic = wire.up("soymilk", "SM-1", "telemetry")
    chunk = b"".join(pack(Message(topic, sample % (NOW + n), NOW).pack()) for n in range(50))
    written = lines.take(chunk)
    assert (written.odd, written.lines, written.samples) == ([], 50, 50)
    first = b'run_state="heating",lid_open=false,temp_c=71.4 1795000000000'
    assert written.body.split(b"\n")[0] == b"soymilk,serial=SM-1 voltage_v=229.6,power_w=8890," + first
    broken = bytearray(chunk)
    broken[len(chunk) // 2] ^= 1
    assert lines.take(bytes(broken)).consumed < len(chunk)
