"""What holds for every stream: splits change nothing, poison is Malformed and nothing else, paho writes what we write."""

from __future__ import annotations

import io
import os
import random
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import paho.mqtt.client as paho
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.core.library import Frames, library
from gateway.ingest import mqtt_codec as codec
from gateway.ingest.mqtt_codec import Control, Decoder, Malformed, Packet, Publish
from tests.servers import ServerMissingError, do_without

LIMIT = 300
HEADER = 5
FUZZ_S = 60.0 if os.environ.get("BREWAIR_FULL") or os.environ.get("BREWAIR_REQUIRE") else 5.0
"""A minute where servers are required: in CI."""

mids = st.integers(1, 0xFFFF)
texts = st.text(st.characters(exclude_characters="\0+#", exclude_categories=["Cs"]), min_size=1, max_size=40)
payloads = st.binary(max_size=400)
versions = st.sampled_from([codec.V311, codec.V5])


def two(mid: int) -> bytes:
    return mid.to_bytes(2, "big")


class Oracle:
    """paho-mqtt, which writes its packets into a list instead of a socket."""

    def __init__(self, version: int = codec.V311, client_id: str = "oracle", *, clean: bool = False) -> None:
        protocol = paho.MQTTv5 if version == codec.V5 else paho.MQTTv311
        session = {} if version == codec.V5 else {"clean_session": clean}
        self.client: Any = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=protocol, **session)
        self.client._sock = io.BytesIO()
        self.written: list[bytes] = []
        self.client._packet_queue = lambda command, packet, *more: self.written.append(bytes(packet))

    def writes(self, work: Callable[[Any], object]) -> bytes:
        self.written.clear()
        work(self.client)
        (packet,) = self.written
        return packet


@st.composite
def server_packets(draw: st.DrawFn, version: int) -> bytes:
    """Any packet, as paho or we write it, or by the letter of the specification."""
    mid = two(draw(mids))
    none = b"\0" if version == codec.V5 else b""
    kinds: list[Callable[[], bytes]] = [
        lambda: codec.publish(draw(texts), draw(payloads), draw(st.sampled_from([b"", mid])), version=version),
        lambda: bytes((codec.CONNACK << 4, 2 + len(none), draw(st.integers(0, 1)), draw(st.integers(0, 5)))) + none,
        lambda: bytes((codec.SUBACK << 4, 3 + len(none))) + mid + none + bytes((draw(st.sampled_from([0, 1, 128])),)),
        lambda: bytes((codec.UNSUBACK << 4, 2 + len(none))) + mid + none,
        lambda: codec.pubacks([mid]),
        lambda: bytes((draw(st.sampled_from([0x50, 0x62, 0x70])), 2)) + mid,
        lambda: bytes((codec.PINGRESP << 4, 0)),
        lambda: codec.PING,
        lambda: codec.BYE,
        lambda: codec.connect(draw(texts), version=version),
        lambda: codec.subscribe(mid, draw(st.lists(texts, min_size=1, max_size=3)), version=version),
        lambda: codec.unsubscribe(mid, draw(st.lists(texts, min_size=1, max_size=3)), version=version),
    ]
    return draw(st.sampled_from(kinds))()


@st.composite
def streams(draw: st.DrawFn) -> tuple[int, bytes]:
    """A version and a stream: whole packets, perhaps with bytes changed, cut off or put in."""
    version = draw(versions)
    stream = bytearray(b"".join(draw(st.lists(server_packets(version), max_size=8))))
    for _ in range(draw(st.integers(0, 3)) if draw(st.booleans()) else 0):
        at = draw(st.integers(0, len(stream)))
        stream[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=6))
    return version, bytes(stream)


def outcome(version: int, parts: list[bytes]) -> tuple[list[Packet], str]:
    """Everything decoded from ``parts``, and why it stopped; checks what is held meanwhile."""
    decoder, packets = Decoder(version, LIMIT), []
    try:
        for part in parts:
            packets += decoder.feed(part)
            assert decoder.buffered < HEADER + LIMIT
        decoder.feed(b"")
    except Malformed as malformed:
        return packets, malformed.reason
    return packets, ""


def split(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[a:b] for a, b in pairwise(places)]


@settings(max_examples=300)
@given(streams(), st.lists(st.integers(0, 10_000), max_size=10))
def test_no_split_changes_what_is_decoded_nor_where_it_stops(given: tuple[int, bytes], cuts: list[int]) -> None:
    version, stream = given
    whole = outcome(version, [stream])
    assert outcome(version, split(stream, cuts)) == whole
    assert outcome(version, [stream[at : at + 1] for at in range(len(stream))]) == whole


@settings(max_examples=500)
@given(versions, st.binary(max_size=200))
@example(codec.V311, b"\x30\xff\xff\xff\x7f")
@example(codec.V311, b"\x32\x02\xff\xff")
@example(codec.V5, b"\x30\x04\x00\x01a\x80")
def test_any_bytes_are_packets_or_malformed(version: int, noise: bytes) -> None:
    outcome(version, [noise])


@given(st.integers(0, 15), st.integers(LIMIT + 1, 268_435_455))
def test_a_hostile_length_is_refused_or_read_past_but_never_held(kind: int, length: int) -> None:
    decoder = Decoder(limit=LIMIT)
    head = bytes((kind << 4,)) + codec._length(length)
    if kind != codec.PUBLISH:
        with pytest.raises(Malformed):
            decoder.feed(head)
        return
    assert decoder.feed(head + b"\0\1t") == []
    assert decoder.feed(bytes(LIMIT - 3)) == [Publish(b"t", bytes(LIMIT - 3))]
    rest = min(length - LIMIT, 100_000)
    assert decoder._skip == length - LIMIT
    decoder._skip = rest  # a quarter of a gigabyte of zeros takes too long
    for size in (rest // 2, rest - rest // 2):
        assert decoder.feed(bytes(size)) == []
        assert decoder.buffered == 0
    assert decoder.feed(b"\xd0\0") == [Control(codec.PINGRESP)]


@given(versions, texts, payloads, mids, st.booleans(), st.booleans(), st.booleans())
def test_publish_as_paho_writes_it(
    version: int, topic: str, payload: bytes, mid: int, at_least_once: bool, retain: bool, again: bool
) -> None:
    repeated = again and at_least_once
    theirs = Oracle(version).writes(
        lambda client: client._send_publish(mid, topic.encode(), payload, int(at_least_once), retain, repeated)
    )
    ours = codec.publish(
        topic, payload, two(mid) if at_least_once else b"", retain=retain, repeated=repeated, version=version
    )
    assert ours == theirs
    (packet,) = Decoder(version).feed(theirs)
    assert isinstance(packet, Publish)
    assert (packet.topic.decode(), packet.payload, packet.qos) == (topic, payload, int(at_least_once))
    assert (packet.retained, packet.repeated) == (retain, repeated)
    assert packet.mid == (two(mid) if at_least_once else b"")


@given(texts, payloads, mids, st.integers(0, 1000), texts)
def test_properties_of_a_message_are_passed_over(topic: str, payload: bytes, mid: int, expiry: int, text: str) -> None:
    given = Properties(PacketTypes.PUBLISH)
    given.MessageExpiryInterval, given.ContentType, given.UserProperty = expiry, text, (text, "x" * 120)
    theirs = Oracle(codec.V5).writes(
        lambda client: client._send_publish(mid, topic.encode(), payload, 1, False, False, None, given)
    )
    assert Decoder(codec.V5).feed(theirs) == [Publish(topic.encode(), payload, two(mid), 2)]


@given(texts, st.integers(1, 0xFFFF), st.booleans(), texts, texts)
def test_connect_as_paho_writes_it(client_id: str, keepalive: int, clean: bool, user: str, password: str) -> None:
    oracle = Oracle(client_id=client_id, clean=clean)
    assert codec.connect(client_id, keepalive_s=keepalive, clean=clean) == oracle.writes(
        lambda client: client._send_connect(keepalive)
    )
    oracle.client.username_pw_set(user, password)
    assert codec.connect(client_id, keepalive_s=keepalive, clean=clean, user=user, password=password) == oracle.writes(
        lambda client: client._send_connect(keepalive)
    )


@given(versions, texts, texts.filter(lambda topic: not set(topic) & set("#+") and topic), payloads, texts)
def test_a_will_as_paho_writes_it(version: int, client_id: str, topic: str, payload: bytes, user: str) -> None:
    oracle = Oracle(version, client_id)
    oracle.client.username_pw_set(user)
    oracle.client._clean_start = False
    oracle.client.will_set(topic, payload, qos=1, retain=True)
    ours = codec.connect(client_id, version=version, keepalive_s=60, user=user, will=(topic, payload))
    assert ours == oracle.writes(lambda client: client._send_connect(60))


@given(texts, st.integers(1, 0xFFFF), st.integers(1, 0xFFFFFFFF), st.integers(1, 0xFFFF))
def test_connect_of_version_5_as_paho_writes_it(client_id: str, keepalive: int, expiry: int, window: int) -> None:
    oracle = Oracle(codec.V5, client_id)
    wanted = Properties(PacketTypes.CONNECT)
    wanted.SessionExpiryInterval, wanted.ReceiveMaximum = expiry, window
    oracle.client._connect_properties, oracle.client._clean_start = wanted, False
    ours = codec.connect(
        client_id, version=codec.V5, keepalive_s=keepalive, session_expiry_s=expiry, receive_maximum=window
    )
    assert ours == oracle.writes(lambda client: client._send_connect(keepalive))


@given(versions, mids, st.lists(texts, min_size=1, max_size=5))
def test_subscribe_and_unsubscribe_as_paho_writes_them(version: int, mid: int, filters: list[str]) -> None:
    oracle = Oracle(version)
    encoded = [one.encode() for one in filters]
    oracle.client._last_mid = mid - 1
    options = [(one, paho.SubscribeOptions(qos=1) if version == codec.V5 else 1) for one in encoded]
    assert codec.subscribe(two(mid), filters, version=version) == oracle.writes(
        lambda client: client._send_subscribe(False, options)
    )
    oracle.client._last_mid = mid - 1
    assert codec.unsubscribe(two(mid), filters, version=version) == oracle.writes(
        lambda client: client._send_unsubscribe(False, encoded)
    )


@given(st.lists(mids, min_size=1, max_size=20))
def test_acknowledgements_as_paho_writes_them(given: list[int]) -> None:
    oracle = Oracle()
    theirs = b"".join(oracle.writes(lambda client, mid=mid: client._send_puback(mid)) for mid in given)
    assert codec.pubacks(map(two, given)) == theirs


def test_the_small_ones_as_paho_writes_them() -> None:
    oracle = Oracle()
    assert oracle.writes(lambda client: client._send_pingreq()) == codec.PING
    assert oracle.writes(lambda client: client._send_disconnect()) == codec.BYE


@pytest.mark.slow
def test_fuzz() -> None:
    """Mutated streams in random pieces: packets or Malformed, and never more held than one packet."""
    rng = random.Random(20261123)
    seeds = [
        codec.publish("a/b", bytes(50), b"\0\7"), codec.publish("t", bytes(1000)), codec.pubacks([b"\0\1", b"\0\2"]),
        b"\x20\x06\x00\x00\x03\x21\x00\x14", b"\x90\x04\x00\x01\x01\x80", b"\xd0\x00", b"\xe0\x02\x8e\x00",
        codec.connect("c", version=codec.V5, receive_maximum=9), codec.subscribe(b"\0\1", ["a", "b/#"]),
    ]  # fmt: skip
    deadline, rounds = time.monotonic() + FUZZ_S, 0
    while time.monotonic() < deadline:
        stream = bytearray(b"".join(rng.choices(seeds, k=rng.randint(1, 6))))
        for _ in range(rng.randint(0, 6)):
            at = rng.randrange(len(stream) + 1)
            stream[at : at + rng.randint(0, 4)] = rng.randbytes(rng.randint(0, 4))
        version = rng.choice((codec.V311, codec.V5))
        cuts = [rng.randrange(10_000) for _ in range(rng.randint(0, 12))]
        assert outcome(version, split(bytes(stream), cuts)) == outcome(version, [bytes(stream)])
        rounds += 1
    assert rounds > 100


@pytest.mark.slow
def test_fuzz_of_the_compiled_frames() -> None:
    """However a stream is cut: the same messages and acknowledgements; it never takes more than it was given, nor does a
    hostile length make it hold anything."""
    if library() is None:
        do_without("core", ServerMissingError("the compiled core was not built (Rust's cargo, then pip install again)"))
    rng, deadline, rounds = random.Random(20261124), time.monotonic() + FUZZ_S, 0
    seeds = [
        codec.publish("a/b", bytes(50), b"\0\7"), codec.publish("t", bytes(1000)), codec.publish("z", b"", b"\0\1"),
        b"\xd0\x00", b"\x30\xff\xff\xff\x7f\0\1t", b"\x32\x02\xff\xff", b"\x30\xff\xff\xff\xff\x01",
    ]  # fmt: skip
    while time.monotonic() < deadline:
        stream = bytearray(b"".join(rng.choices(seeds, weights=[9, 9, 9, 1, 1, 1, 1], k=rng.randint(1, 8))))
        for _ in range(rng.randint(0, 3)):
            at = rng.randrange(len(stream) + 1)
            stream[at : at + rng.randint(0, 4)] = rng.randbytes(rng.randint(0, 4))
        frames = Frames(rng.choice((codec.V311, codec.V5)))
        whole = frames.take(bytes(stream), 1)
        assert whole.consumed <= len(stream)
        assert len(whole.block) <= len(stream) + 64 * whole.messages
        assert len(whole.acks) <= 4 * whole.messages
        rest, block, acks = b"", b"", b""
        for piece in split(bytes(stream), [rng.randrange(10_000) for _ in range(rng.randint(0, 12))]):
            taken = frames.take(rest + piece, 1)
            block, acks, rest = block + taken.block, acks + taken.acks, (rest + piece)[taken.consumed :]
            if not taken.clean:
                break
        assert (block, acks) == (whole.block, whole.acks)
        rounds += 1
    assert rounds > 100
