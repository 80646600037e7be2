"""MQTT 3.1.1, and 5 as far as a receiver needs it: bytes in, packets out, and back. No socket, no clock.

A :class:`Decoder` may be fed any split of the stream and never holds more than one packet and one feed. Packet ids stay
the two bytes that they are on the wire: acknowledging a thousand of them is one ``join``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

import msgspec

V311, V5 = 4, 5
"""Protocol levels, as CONNECT names them."""
LIMIT = 1 << 20
"""Longest packet that is kept whole. Of a longer PUBLISH the beginning is kept; its end is read past."""

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = range(8, 16)

PING = bytes((PINGREQ << 4, 0))
BYE = bytes((DISCONNECT << 4, 0))

WILL_RETAINED = 0b10_1100
"""Flags of CONNECT for a will: there is one, QoS 1, retained."""
SESSION_EXPIRY, KEEPALIVE, REASON, RECEIVE_MAXIMUM = 0x11, 0x13, 0x1F, 0x21
"""Properties of MQTT 5 that a session looks at or sends."""

Properties = Mapping[int, int | str | bytes]


class Malformed(Exception):
    """The other side does not speak MQTT; ``reason`` says where. The connection is of no use any more."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Publish(msgspec.Struct, frozen=True, gc=False):
    """An application message. ``mid`` is b"" at QoS 0; ``flags`` is the low half of the first byte."""

    topic: bytes
    payload: bytes
    mid: bytes = b""
    flags: int = 0

    @property
    def qos(self) -> int:
        """0, 1 or 2."""
        return self.flags >> 1 & 3

    @property
    def retained(self) -> bool:
        """Whether it lay in the broker before we subscribed."""
        return bool(self.flags & 1)

    @property
    def repeated(self) -> bool:
        """Whether the broker has sent it before (a hint, no more)."""
        return bool(self.flags & 8)


class Connack(msgspec.Struct, frozen=True):
    """The answer to CONNECT; ``code`` 0 is yes."""

    code: int
    session_present: bool = False
    properties: Properties = {}


class Ack(msgspec.Struct, frozen=True):
    """PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK or UNSUBACK by ``kind``; one code per filter, or at most one."""

    kind: int
    mid: bytes
    codes: bytes = b""

    @property
    def code(self) -> int:
        """Of a packet with at most one code; 0 (success) where it is left out."""
        return self.codes[0] if self.codes else 0


class Control(msgspec.Struct, frozen=True):
    """Any other packet: what clients send (CONNECT, SUBSCRIBE, …), PINGRESP, DISCONNECT, AUTH; its body as it came."""

    kind: int
    body: bytes = b""


Packet = Publish | Connack | Ack | Control


class Decoder:
    """Cuts the stream of one connection into packets."""

    def __init__(self, version: int = V311, limit: int = LIMIT) -> None:
        self._version, self._limit = version, limit
        self._pending = bytearray()
        self._wanted = 0
        self._skip = 0
        self._broken: Malformed | None = None

    @property
    def buffered(self) -> int:
        """Bytes held of a packet whose end has not come."""
        return len(self._pending)

    @property
    def missing(self) -> int:
        """How many bytes the present packet needs at least; 0 between two packets."""
        if self._pending:
            return max(1, self._wanted - len(self._pending))
        return self._skip

    def feed(self, data: bytes) -> list[Packet]:
        """Every packet that is complete now, in order.

        Raises Malformed; what was good before it has been returned by then, however the stream was split.
        """
        if self._broken is not None:
            raise self._broken
        if self._skip:
            self._skip, data = max(0, self._skip - len(data)), data[self._skip :]
            if not data:
                return []
        if self._pending:
            self._pending += data
            if len(self._pending) < self._wanted:
                return []
            data = bytes(self._pending)
            self._pending.clear()
        packets: list[Packet] = []
        try:
            self._pending += data[self._split(data, packets) :]
        except Malformed as malformed:
            self._broken = malformed
            if not packets:
                raise
        return packets

    def _split(self, data: bytes, packets: list[Packet]) -> int:
        """Append the packets of ``data``; gives where the incomplete rest begins."""
        v5, limit = self._version == V5, self._limit
        self._wanted = 0
        at, end = 0, len(data)
        while at + 2 <= end:
            first, length, body = data[at], data[at + 1], at + 2
            if length > 127:
                length, body = _long_length(data, at + 1, end)
                if not body:
                    return at
            stop = following = body + length
            if length > limit:
                if first >> 4 != PUBLISH:
                    raise Malformed(f"a packet of type {first >> 4} has {length} bytes")
                stop = body + limit
            if stop > end:
                self._wanted = stop - at
                return at
            if first >> 4 == PUBLISH:  # written out here, as all traffic goes this way
                if length < 2 or first & 6 == 6:
                    raise Malformed("a PUBLISH has no topic, or QoS 3")
                topic_end = body + 2 + (data[body] << 8 | data[body + 1])
                payload = mid_end = topic_end + 2 if first & 6 else topic_end
                if v5:
                    payload = _after_properties(data, payload, stop)
                mid = data[topic_end:mid_end]
                if payload > stop or mid == b"\0\0":
                    raise Malformed("a PUBLISH is longer than its packet, or its id is 0")
                packets.append(Publish(data[body + 2 : topic_end], data[payload:stop], mid, first & 15))
            else:
                packets.append(_other(first, data[body:stop], v5))
            at = following
        self._skip = max(0, at - end)
        return min(at, end)


# --- reading


def _long_length(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A variable-length integer and where it ends; (0, 0) where its end lies behind ``end``."""
    found = 0
    for place in range(4):
        if at + place >= end:
            return 0, 0
        byte = data[at + place]
        found |= (byte & 127) << 7 * place
        if byte < 128:
            return found, at + place + 1
    raise Malformed("a length has more than four bytes")


def _after_properties(data: bytes, at: int, end: int) -> int:
    """Where the properties that begin at ``at`` end."""
    length, begin = _long_length(data, at, end)
    if not begin or begin + length > end:
        raise Malformed("properties are longer than their packet")
    return begin + length


def _other(first: int, body: bytes, v5: bool) -> Packet:
    kind, flags = first >> 4, first & 15
    if flags != (2 if kind in (PUBREL, SUBSCRIBE, UNSUBSCRIBE) else 0) or kind == 0 or (kind == AUTH and not v5):
        raise Malformed(f"no packet begins with {first:#04x}")
    if kind == CONNACK:
        if len(body) < 2 or body[0] > 1:
            raise Malformed("a CONNACK has the wrong length or flags")
        return Connack(body[1], bool(body[0]), properties(body[2:]) if v5 and len(body) > 2 else {})
    if kind in (SUBACK, UNSUBACK):
        codes = _after_properties(body, 2, len(body)) if v5 else 2
        return Ack(kind, _mid(body), body[codes:])
    if kind in (PUBACK, PUBREC, PUBREL, PUBCOMP):
        return Ack(kind, _mid(body), body[2:3])
    return Control(kind, body)


def _mid(body: bytes) -> bytes:
    if len(body) < 2 or body[:2] == b"\0\0":
        raise Malformed("a packet id is missing or 0")
    return body[:2]


_SHAPES: Mapping[str, str] = {
    "B": "01 17 19 24 25 28 29 2A", "H": "13 21 22 23", "I": "02 11 18 27", "varint": "0B",
    "text": "03 08 12 15 1A 1C 1F", "bytes": "09 16", "pair": "26",
}  # fmt: skip
"""Properties by the shape of their value (MQTT 5, table 2-4)."""
_SHAPE_OF = {int(number, 16): shape for shape, numbers in _SHAPES.items() for number in numbers.split()}


def properties(data: bytes) -> dict[int, int | str | bytes]:
    """Properties with their length in front, by number; of one that comes twice the last. Raises Malformed."""
    end = _after_properties(data, 0, len(data))
    _, at = _long_length(data, 0, end)
    found: dict[int, int | str | bytes] = {}
    try:
        while at < end:
            number, at = data[at], at + 1
            shape = _SHAPE_OF[number]
            if shape == "varint":
                found[number], at = _long_length(data, at, end)
            elif shape in "BHI":
                (found[number],) = struct.unpack_from(f">{shape}", data, at)
                at += struct.calcsize(f">{shape}")
            else:
                for _ in range(2 if shape == "pair" else 1):
                    (length,) = struct.unpack_from(">H", data, at)
                    text, at = data[at + 2 : at + 2 + length], at + 2 + length
                found[number] = text if shape == "bytes" else text.decode()
            if not 0 < at <= end:
                raise Malformed("a property is longer than the properties")
    except (KeyError, struct.error, UnicodeDecodeError) as error:
        raise Malformed(f"a property cannot be read: {error!r}") from None
    return found


def farewell(body: bytes) -> tuple[int, str]:
    """Code and reason of a DISCONNECT of MQTT 5. Raises Malformed."""
    reason = properties(body[1:]).get(REASON, "") if len(body) > 1 else ""
    return (body[0] if body else 0), str(reason)


# --- writing


def connect(
    client_id: str,
    *,
    version: int = V311,
    keepalive_s: int = 30,
    clean: bool = False,
    user: str = "",
    password: str = "",
    will: tuple[str, bytes] | None = None,
    session_expiry_s: int = 0,
    receive_maximum: int = 0,
) -> bytes:
    """CONNECT; a will (topic, payload) is QoS 1 and retained. The last two are for MQTT 5."""
    flags = clean << 1 | bool(will) * WILL_RETAINED | bool(password) << 6 | bool(user) << 7
    body = _text("MQTT") + struct.pack(">BBH", version, flags, keepalive_s)
    if version == V5:
        body += _properties(((SESSION_EXPIRY, "I", session_expiry_s), (RECEIVE_MAXIMUM, "H", receive_maximum)))
    body += _text(client_id)
    if will is not None:
        topic, payload = will
        body += _no_properties(version) + _text(topic) + struct.pack(">H", len(payload)) + payload
    return _packet(CONNECT << 4, body + b"".join(_text(one) for one in (user, password) if one))


def subscribe(mid: bytes, filters: Sequence[str], *, qos: int = 1, version: int = V311) -> bytes:
    """SUBSCRIBE to all ``filters``."""
    wanted = b"".join(_text(one) + bytes((qos,)) for one in filters)
    return _packet(SUBSCRIBE << 4 | 2, mid + _no_properties(version) + wanted)


def unsubscribe(mid: bytes, filters: Sequence[str], *, version: int = V311) -> bytes:
    """UNSUBSCRIBE from all ``filters``."""
    return _packet(UNSUBSCRIBE << 4 | 2, mid + _no_properties(version) + b"".join(map(_text, filters)))


def publish(
    topic: str, payload: bytes, mid: bytes = b"", *, retain: bool = False, repeated: bool = False, version: int = V311
) -> bytes:
    """PUBLISH: QoS 1 with a packet id, QoS 0 without."""
    flags = retain | bool(mid) << 1 | repeated << 3
    return _packet(PUBLISH << 4 | flags, _text(topic) + mid + _no_properties(version) + payload)


def pubacks(mids: Sequence[bytes]) -> bytes:
    """One PUBACK for each id (the same in both versions)."""
    head = bytes((PUBACK << 4, 2))
    return head + head.join(mids) if mids else b""


def _packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + _length(len(body)) + body


def _length(length: int) -> bytes:
    digits = bytearray()
    while length > 127:
        digits.append(length & 127 | 128)
        length >>= 7
    digits.append(length)
    return bytes(digits)


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack(">H", len(encoded)) + encoded


def _no_properties(version: int) -> bytes:
    return b"\0" if version == V5 else b""


def _properties(given: Iterable[tuple[int, str, int]]) -> bytes:
    body = b"".join(struct.pack(f">B{shape}", number, value) for number, shape, value in given if value)
    return _length(len(body)) + body
