"""One MQTT session over many connections, without socket and clock: what to send, what has come, when to try again.

The broker keeps the session (clean session off), so what was not acknowledged comes again; an acknowledgement belongs to
the connection its message came on, the *epoch*, and is never sent on a later one.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.ingest import mqtt_codec as codec
from gateway.ingest.mqtt_codec import Ack, Connack, Control, Decoder, Malformed, Publish
from gateway.ingest.receiver import Closings

FIRST_DELAY_S, LONGEST_DELAY_S = 0.2, 15.0
SILENCE = 1.5
"""Keepalive intervals without a byte after which the broker is dead."""
ANSWER_S = 10.0
"""How long a broker may take to answer CONNECT."""
COMMANDS_AT_ONCE = 100
"""Commands on the way without PUBACK; more wait here. A broker of MQTT 5 may grant fewer (Receive Maximum)."""

REFUSALS: Mapping[int, str] = {
    1: "Unsupported protocol version", 2: "Client identifier not valid", 3: "Server unavailable",
    4: "Bad user name or password", 5: "Not authorized",
    0x80: "Unspecified error", 0x83: "Implementation specific error",
    0x84: "Unsupported protocol version", 0x85: "Client identifier not valid", 0x86: "Bad user name or password",
    0x87: "Not authorized", 0x88: "Server unavailable", 0x89: "Server busy", 0x8A: "Banned",
    0x90: "Topic Name invalid", 0x97: "Quota exceeded", 0x99: "Payload format invalid", 0x9F: "Connection rate exceeded",
}  # fmt: skip
"""Codes of CONNACK in 3.1.1 (section 3.2.2.3), and of CONNACK and PUBACK in 5 (from 0x80 on, sections 3.2.2.2, 3.4.2.1)."""
TAKEN_OVER = 0x8E

Tell = Callable[..., None]


class Lost(Exception):
    """This connection is of no use any more; ``by_peer`` when the broker ended it without a reason."""

    def __init__(self, why: str, *, by_peer: bool = False) -> None:
        self.by_peer = by_peer
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a session is about. ``receive_maximum`` and ``expiry_s`` are for MQTT 5."""

    client_id: str
    filters: Sequence[str]
    user: str = ""
    password: str = ""
    version: int = codec.V311
    keepalive_s: int = 30
    receive_maximum: int = 5000
    expiry_s: int = 7 * 86_400


class Session:
    """``tell(event, **details)`` hears of every change. ``known`` are filters that the broker may still have of us: keep
    them before ``take()`` is sent. ``now`` is monotonic seconds everywhere."""

    def __init__(self, terms: Terms, known: Iterable[str], rng: random.Random, tell: Tell) -> None:
        self.epoch = 0
        self.subscribed = False
        self.known = list(known)
        self.next_attempt = 0.0
        self._terms, self._rng, self._tell = terms, rng, tell
        self._decoder = Decoder(terms.version)
        self._keepalive_s = float(terms.keepalive_s)
        self._out: list[bytes] = []
        self._sent = self._heard = self._asked = 0.0
        self._accepted = False
        self._lost: Lost | None = None
        self._retry_subscription: float | None = None
        self._failures = 0
        self._closings = Closings()
        self._last_id = 0
        self._subscribing: dict[bytes, int] = {}
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._on_the_way: dict[bytes, tuple[str, bytes]] = {}
        self._to_repeat: dict[bytes, tuple[str, bytes]] = {}
        self._window = COMMANDS_AT_ONCE

    # --- the life of a connection

    def opened(self, now: float) -> None:
        """There is a connection: introduce ourselves."""
        terms = self._terms
        self.epoch += 1
        self._decoder, self._lost = Decoder(terms.version), None
        self._keepalive_s = float(terms.keepalive_s)
        self._sent = self._heard = self._asked = now
        self._out = [
            codec.connect(
                terms.client_id,
                version=terms.version,
                keepalive_s=terms.keepalive_s,
                user=terms.user,
                password=terms.password,
                session_expiry_s=terms.expiry_s,
                receive_maximum=terms.receive_maximum,
            )
        ]

    def received(self, data: bytes, now: float) -> list[Publish]:
        """The messages in what was read; anything else is answered here.

        Raises Lost; where there are messages before the reason for it, they are returned, and ``turn`` raises.
        """
        self._heard = now
        messages: list[Publish] = []
        try:
            for packet in self._decoder.feed(data):
                if isinstance(packet, Publish):
                    messages.append(packet)
                else:
                    self._take_in(packet, now)
        except (Lost, Malformed) as error:
            lost = error if isinstance(error, Lost) else Lost(f"the broker does not speak MQTT: {error.reason}")
            if not messages:
                raise lost from None
            self._lost = lost
        return messages

    @property
    def missing(self) -> int:
        """How many bytes the packet that is coming in needs at least; 0 between two packets."""
        return self._decoder.missing

    def heard(self, now: float) -> None:
        """Messages came that somebody else has cut from the stream."""
        self._heard = now

    def lose(self, lost: Lost) -> None:
        """The connection is of no use any more, but messages came before: ``turn`` raises."""
        self._lost = lost

    def turn(self, now: float) -> None:
        """What time alone asks for: a ping, another attempt to subscribe. Raises Lost."""
        if self._lost is not None:
            raise self._lost
        if self._retry_subscription is not None and now >= self._retry_subscription:
            self._subscribe()
        if self._accepted and now - max(min(self._sent, self._heard), self._asked) >= self._keepalive_s:
            self._asked = now
            self._out.append(codec.PING)

    def silent(self, now: float) -> None:
        """Nothing was there to read. Raises Lost when that has been so for too long."""
        patience = SILENCE * self._keepalive_s if self._accepted else ANSWER_S
        if now - self._heard >= patience:
            raise Lost(f"the broker has been silent for {now - self._heard:.0f} s")

    def ended(self, lost: Lost, now: float) -> None:
        """The connection is gone. When the broker closes working ones again and again, somebody has our client id."""
        taken_over = self._accepted and lost.by_peer and self._closings.closed(now)
        if self._accepted:
            self._tell("broker_disconnected", why=str(lost))
        self._accepted = self.subscribed = False
        self._retry_subscription = None
        self._out, self._subscribing = [], {}
        longest = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(self._failures, 10))
        if taken_over:
            self._tell("client_id_taken_over", client_id=self._terms.client_id)
            longest = LONGEST_DELAY_S
        self._failures += 1
        self.next_attempt = now + self._rng.uniform(0.0, longest)

    def unreachable(self, why: str, now: float) -> None:
        """No connection could be made. A broker that is away has closed for its own reasons."""
        self._closings.clear()
        self._tell("broker_unreachable", why=why)
        self.ended(Lost(why), now)

    # --- what we send

    def take(self, now: float) -> bytes:
        """Everything to send now, in order."""
        self._send_commands()
        if not self._out:
            return b""
        self._sent = now
        out, self._out = b"".join(self._out), []
        return out

    def acknowledge(self, epoch: int, pubacks: bytes) -> None:
        """Acknowledge messages that came in ``epoch``; those of an earlier one come again instead."""
        if pubacks and epoch == self.epoch and self._accepted:
            self._out.append(pubacks)

    def publish(self, topic: str, payload: bytes) -> None:
        """Send a command at QoS 1; it is repeated on the next connection until the broker has it or refuses it."""
        self._waiting.append((topic, payload))

    def farewell(self) -> None:
        """Leave in good order; the broker keeps the session."""
        self._out.append(codec.BYE)

    def _send_commands(self) -> None:
        """As many as the broker grants: first those it may not have of the last connection, then new ones."""
        while self._accepted and len(self._on_the_way) < self._window:
            if repeated := bool(self._to_repeat):
                mid = next(iter(self._to_repeat))
                command = self._to_repeat.pop(mid)
            elif self._waiting and self.subscribed:
                mid, command = self._fresh_id(), self._waiting.popleft()
            else:
                break
            self._on_the_way[mid] = command
            self._out.append(codec.publish(*command, mid, repeated=repeated, version=self._terms.version))

    # --- what comes

    def _take_in(self, packet: Connack | Ack | Control, now: float) -> None:
        if isinstance(packet, Connack):
            self._introduced(packet)
        elif isinstance(packet, Ack):
            self._acknowledged(packet, now)
        elif packet.kind == codec.DISCONNECT:
            code, reason = codec.farewell(packet.body)
            if code == TAKEN_OVER:
                raise Lost("another client has our client id", by_peer=True)
            raise Lost(reason or f"the broker says good-bye (code {code})")
        elif packet.kind != codec.PINGRESP:
            raise Lost(f"the broker sends a packet of type {packet.kind}")

    def _introduced(self, answer: Connack) -> None:
        if answer.code:
            why = REFUSALS.get(answer.code, f"code {answer.code}")
            self._tell("broker_refused", why=why)
            raise Lost(why)
        self._accepted = True
        self._keepalive_s = float(answer.properties.get(codec.KEEPALIVE, self._terms.keepalive_s))
        stale = [one for one in self.known if one not in self._terms.filters] if answer.session_present else []
        if stale:
            mid = self._fresh_id()
            self._subscribing[mid] = codec.UNSUBACK
            self._out.append(codec.unsubscribe(mid, stale, version=self._terms.version))
        self.known = [*self._terms.filters, *stale]
        self._window = min(COMMANDS_AT_ONCE, int(answer.properties.get(codec.RECEIVE_MAXIMUM, 0)) or COMMANDS_AT_ONCE)
        self._on_the_way, self._to_repeat = {}, self._on_the_way | self._to_repeat
        self._send_commands()
        self._subscribe()

    def _subscribe(self) -> None:
        mid = self._fresh_id()
        self._retry_subscription = None
        self._subscribing[mid] = codec.SUBACK
        self._out.append(codec.subscribe(mid, self._terms.filters, version=self._terms.version))

    def _acknowledged(self, ack: Ack, now: float) -> None:
        if ack.kind == codec.PUBACK:
            command = self._on_the_way.pop(ack.mid, None)
            if command is not None and ack.code >= 0x80:
                self._tell("command_refused", topic=command[0], why=REFUSALS.get(ack.code, f"code {ack.code}"))
            return
        if self._subscribing.pop(ack.mid, None) != ack.kind:
            raise Lost("the broker acknowledges what was not asked")
        answers = list(zip(self._terms.filters, ack.codes, strict=False)) if ack.kind == codec.SUBACK else []
        refused = [one for one, code in answers if code >= 0x80]
        weak = [one for one, code in answers if code == 0]  # at QoS 0 nothing can be held back until it is durable
        if refused or weak:
            self._tell("subscription_refused" if refused else "subscription_weakened", filters=refused or weak)
            self._retry_subscription = now + self._keepalive_s
        elif not self._subscribing and self._retry_subscription is None:
            self.known = list(self._terms.filters)
            self.subscribed, self._failures = True, 0
            self._tell("broker_connected")

    def _fresh_id(self) -> bytes:
        """A packet id that nothing on the way has."""
        while True:
            self._last_id = self._last_id % 0xFFFF + 1
            mid = self._last_id.to_bytes(2, "big")
            if all(mid not in taken for taken in (self._on_the_way, self._to_repeat, self._subscribing)):
                return mid
