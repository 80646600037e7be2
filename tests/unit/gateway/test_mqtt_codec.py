"""The codec on bytes that the specification gives, and on bytes that nobody should send."""

from __future__ import annotations

import struct

import pytest

from gateway.ingest import mqtt_codec as codec
from gateway.ingest.mqtt_codec import Ack, Connack, Control, Decoder, Malformed, Publish

ONE = b"\0\1"


def only(data: bytes, version: int = codec.V311) -> codec.Packet:
    (packet,) = Decoder(version).feed(data)
    return packet


def refusal(data: bytes, version: int = codec.V311) -> str:
    with pytest.raises(Malformed) as caught:
        Decoder(version).feed(data)
    return caught.value.reason


@pytest.mark.parametrize(
    ("data", "packet"),
    [
        (b"\x20\x02\x00\x00", Connack(0)),
        (b"\x20\x02\x01\x00", Connack(0, True)),
        (b"\x20\x02\x00\x05", Connack(5)),
        (b"\x30\x05\x00\x03a/bhi"[:7] + b"", Publish(b"a/b", b"")),
        (b"\x30\x07\x00\x03a/bhi", Publish(b"a/b", b"hi")),
        (b"\x32\x09\x00\x03a/b\x00\x0ahi", Publish(b"a/b", b"hi", b"\x00\x0a", 2)),
        (b"\x3d\x09\x00\x03a/b\x00\x0ahi", Publish(b"a/b", b"hi", b"\x00\x0a", 13)),
        (b"\x40\x02\x00\x01", Ack(codec.PUBACK, ONE)),
        (b"\x50\x02\x00\x01", Ack(codec.PUBREC, ONE)),
        (b"\x62\x02\x00\x01", Ack(codec.PUBREL, ONE)),
        (b"\x70\x02\x00\x01", Ack(codec.PUBCOMP, ONE)),
        (b"\x90\x04\x00\x01\x01\x80", Ack(codec.SUBACK, ONE, b"\x01\x80")),
        (b"\xb0\x02\x00\x01", Ack(codec.UNSUBACK, ONE)),
        (b"\xd0\x00", Control(codec.PINGRESP)),
        (b"\xe0\x00", Control(codec.DISCONNECT)),
        (b"\xc0\x00", Control(codec.PINGREQ)),
        (b"\x82\x02\x00\x01", Control(codec.SUBSCRIBE, ONE)),
    ],
)
def test_packets_of_version_3_1_1(data: bytes, packet: codec.Packet) -> None:
    assert only(data) == packet


@pytest.mark.parametrize(
    ("data", "packet"),
    [
        (b"\x20\x03\x01\x00\x00", Connack(0, True)),
        (b"\x20\x06\x00\x00\x03\x21\x00\x14", Connack(0, False, {codec.RECEIVE_MAXIMUM: 20})),
        (b"\x20\x02\x00\x01", Connack(1)),  # a broker of 3.1.1 answers in its own way
        (b"\x30\x06\x00\x01a\x00hi", Publish(b"a", b"hi")),
        (b"\x30\x0b\x00\x01a\x05\x02\x00\x00\x00\x3chi", Publish(b"a", b"hi")),
        (b"\x32\x0d\x00\x01a\x00\x07\x05\x02\x00\x00\x00\x3chi", Publish(b"a", b"hi", b"\x00\x07", 2)),
        (b"\x40\x03\x00\x01\x10", Ack(codec.PUBACK, ONE, b"\x10")),
        (b"\x90\x05\x00\x01\x00\x01\x87", Ack(codec.SUBACK, ONE, b"\x01\x87")),
        (b"\xb0\x04\x00\x01\x00\x11", Ack(codec.UNSUBACK, ONE, b"\x11")),
        (b"\xf0\x00", Control(codec.AUTH)),
    ],
)
def test_packets_of_version_5(data: bytes, packet: codec.Packet) -> None:
    assert only(data, codec.V5) == packet


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x00\x00", "begins with"),
        (b"\xf0\x00", "begins with"),  # AUTH is of version 5
        (b"\x41\x02\x00\x01", "begins with"),
        (b"\x80\x02\x00\x01", "begins with"),  # SUBSCRIBE has flags 2
        (b"\x36\x05\x00\x01a\x00\x01", "QoS 3"),
        (b"\x30\x00", "no topic"),
        (b"\x30\x01\x00", "no topic"),
        (b"\x30\x03\x00\x09a", "longer"),
        (b"\x32\x04\x00\x01a\x00", "longer"),
        (b"\x32\x05\x00\x01a\x00\x00", "id is 0"),
        (b"\x40\x01\x00", "missing or 0"),
        (b"\x40\x02\x00\x00", "missing or 0"),
        (b"\x20\x01\x00", "CONNACK"),
        (b"\x20\x02\x02\x00", "CONNACK"),
        (b"\x30\xff\xff\xff\xff\x01", "four bytes"),
        (b"\x20\x80\x80\x80\x01", "type 2 has 2097152 bytes"),
    ],
)
def test_what_is_not_mqtt_says_why(data: bytes, why: str) -> None:
    assert why in refusal(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x30\x04\x00\x01a\x09",  # properties longer than the packet
        b"\x30\x03\x00\x01a",  # none at all
        b"\x30\x08\x00\x01a\xff\xff\xff\xff\x01",
        b"\x20\x04\x00\x00\x01\x7e",  # no such property
        b"\x20\x05\x00\x00\x02\x21\x00",  # half a number
        b"\x20\x07\x00\x00\x04\x1f\x00\x09a",  # a text beyond its end
        b"\x20\x07\x00\x00\x04\x1f\x00\x01\xff",  # no UTF-8
        b"\x20\x05\x00\x00\x02\x0b\x80",  # half a variable integer
    ],
)
def test_broken_properties_are_malformed(data: bytes) -> None:
    refusal(data, codec.V5)


def test_what_was_good_before_the_malformed_is_given_first() -> None:
    decoder = Decoder()
    assert decoder.feed(b"\xd0\x00\x00\x00") == [Control(codec.PINGRESP)]
    for _ in range(2):
        with pytest.raises(Malformed):
            decoder.feed(b"")


def test_of_a_publish_above_the_limit_the_beginning_is_kept_and_the_stream_goes_on() -> None:
    decoder = Decoder(limit=200)
    stream = codec.publish("t", b"x" * 10_000, ONE) + codec.publish("t", b"next", b"\0\2")
    packets: list[codec.Packet] = []
    for at in range(0, len(stream), 7):
        packets += decoder.feed(stream[at : at + 7])
        assert decoder.buffered <= 200 + 5
    assert packets == [Publish(b"t", b"x" * 195, ONE, 2), Publish(b"t", b"next", b"\0\2", 2)]


def test_the_longest_packet_in_single_bytes_costs_no_more_than_its_bytes() -> None:
    decoder = Decoder()
    stream = codec.publish("t", bytes(300_000))
    packets = [packet for byte in struct.unpack(f"{len(stream)}c", stream) for packet in decoder.feed(byte)]
    assert packets == [Publish(b"t", bytes(300_000))]
    assert decoder.buffered == 0


def test_all_properties_of_every_shape() -> None:
    body = (
        b"\x11\x00\x00\x00\x0a" + b"\x13\x00\x1e" + b"\x24\x01" + b"\x0b\x80\x01" + b"\x1f\x00\x02no"
        b"\x16\x00\x01\xff" + b"\x26\x00\x01a\x00\x01b"
    )
    found = codec.properties(bytes((len(body),)) + body)
    assert found == {0x11: 10, 0x13: 30, 0x24: 1, 0x0B: 128, 0x1F: "no", 0x16: b"\xff", 0x26: "b"}


def test_a_farewell_has_a_code_and_perhaps_a_reason() -> None:
    assert codec.farewell(b"") == (0, "")
    assert codec.farewell(b"\x8e") == (0x8E, "")
    assert codec.farewell(b"\x8b\x07\x1f\x00\x04stop") == (0x8B, "stop")


def test_flags_of_a_message() -> None:
    message = Publish(b"t", b"", ONE, 0b1011)
    assert (message.qos, message.retained, message.repeated) == (1, True, True)
    assert (Publish(b"t", b"").qos, Publish(b"t", b"").retained, Publish(b"t", b"").repeated) == (0, False, False)
