"""The session by itself: every byte it sends, every moment at which it does."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gateway.ingest import mqtt_codec as codec
from gateway.ingest.mqtt_codec import Ack, Control, Decoder, Packet, Publish
from gateway.ingest.session import LONGEST_DELAY_S, Lost, Session, Terms

YES, NEW = b"\x20\x02\x01\x00", b"\x20\x02\x00\x00"
GRANTED, REFUSED = b"\x01", b"\x80"


class Line:
    """A session with a broker of our making at the other end."""

    def __init__(self, *filters: str, known: tuple[str, ...] = (), **terms: Any) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.terms = Terms("gw", filters or ("a/#",), **terms)
        self.session = Session(
            self.terms, known, random.Random(1), lambda event, **more: self.said.append((event, more))
        )
        self.sent = Decoder(self.terms.version)

    def events(self) -> list[str]:
        return [event for event, _ in self.said]

    def take(self, now: float) -> list[Packet]:
        return self.sent.feed(self.session.take(now))

    def up(self, now: float, answer: bytes = YES) -> None:
        """Connected and subscribed."""
        self.session.opened(now)
        assert [type(packet) for packet in self.take(now)] == [Control]
        self.sent = Decoder(self.terms.version)
        self.session.received(answer, now)
        for packet in self.take(now):
            if isinstance(packet, Control):
                self.session.received(self.grant(packet), now)
        assert self.session.subscribed

    def grant(self, packet: Control) -> bytes:
        none = b"\0" if self.terms.version == codec.V5 else b""
        kind = codec.SUBACK if packet.kind == codec.SUBSCRIBE else codec.UNSUBACK
        codes = GRANTED * len(self.terms.filters) if kind == codec.SUBACK else b""
        return bytes((kind << 4, 2 + len(none) + len(codes))) + packet.body[:2] + none + codes


def kinds(packets: list[Packet]) -> list[int]:
    return [packet.kind if isinstance(packet, (Control, Ack)) else codec.PUBLISH for packet in packets]


def test_it_introduces_itself_subscribes_and_is_connected_when_granted() -> None:
    line = Line("a/#", "b", user="u", password="p")
    line.session.opened(0.0)
    assert line.session.take(0.0) == codec.connect("gw", user="u", password="p")
    line.session.received(NEW, 0.1)
    assert line.session.take(0.1) == codec.subscribe(b"\0\1", ["a/#", "b"])
    assert not line.session.subscribed
    line.session.received(b"\x90\x04\x00\x01\x01\x01", 0.2)
    assert line.session.subscribed
    assert line.events() == ["broker_connected"]


def test_version_5_asks_for_a_window_and_a_week() -> None:
    line = Line(version=codec.V5)
    line.session.opened(0.0)
    assert line.session.take(0.0) == codec.connect(
        "gw", version=codec.V5, receive_maximum=5000, session_expiry_s=604_800
    )


def test_filters_of_an_earlier_life_are_taken_back_and_forgotten_only_when_that_is_done() -> None:
    line = Line("a/#", known=("old/#", "a/#"))
    line.session.opened(0.0)
    line.take(0.0)
    line.session.received(YES, 0.0)
    assert line.session.known == ["a/#", "old/#"]
    line.sent = Decoder()
    unsubscribe, subscribe = line.take(0.0)
    assert isinstance(unsubscribe, Control)
    assert isinstance(subscribe, Control)
    assert (unsubscribe.kind, unsubscribe.body[2:]) == (codec.UNSUBSCRIBE, b"\0\5old/#")
    line.session.received(line.grant(subscribe), 0.0)
    assert not line.session.subscribed
    line.session.received(line.grant(unsubscribe), 0.0)
    assert line.session.subscribed
    assert line.session.known == ["a/#"]


def test_a_broker_without_our_session_has_no_old_filters_to_take_back() -> None:
    line = Line("a/#", known=("old/#",))
    line.up(0.0, NEW)
    assert line.session.known == ["a/#"]


def test_acknowledgements_belong_to_their_connection() -> None:
    line = Line()
    line.up(0.0)
    first = line.session.epoch
    line.session.acknowledge(first, codec.pubacks([b"\0\1", b"\0\2"]))
    assert line.session.take(0.0) == b"\x40\x02\0\1\x40\x02\0\2"
    line.session.ended(Lost("gone"), 1.0)
    line.session.acknowledge(first, codec.pubacks([b"\0\3"]))
    line.up(2.0)
    line.session.acknowledge(first, codec.pubacks([b"\0\3"]))
    assert line.session.take(2.0) == b""


def test_a_quiet_line_is_pinged_once_per_keepalive_and_given_up_after_one_and_a_half() -> None:
    line = Line()
    line.up(0.0)
    line.session.turn(29.9)
    assert line.session.take(29.9) == b""
    line.session.turn(30.0)
    assert line.session.take(30.0) == codec.PING
    line.session.turn(44.0)
    assert line.session.take(44.0) == b""
    line.session.silent(44.9)
    with pytest.raises(Lost, match="silent for 45 s"):
        line.session.silent(45.0)


def test_a_line_on_which_only_the_broker_speaks_is_pinged_too() -> None:
    line = Line()
    line.up(0.0)
    pings = 0
    for now in range(1, 121):
        line.session.received(codec.publish("a/b", b"x", b"\0\1"), float(now))
        line.session.turn(float(now))
        pings += line.session.take(float(now)) == codec.PING
    assert pings == 4


def test_a_broker_that_never_answers_connect_is_given_up() -> None:
    line = Line()
    line.session.opened(0.0)
    line.session.silent(9.9)
    with pytest.raises(Lost):
        line.session.silent(10.0)


def test_the_broker_may_set_the_keepalive() -> None:
    line = Line(version=codec.V5)
    line.up(0.0, b"\x20\x06\x01\x00\x03\x13\x00\x0a")
    line.session.turn(10.0)
    assert line.session.take(10.0) == codec.PING


def test_delays_are_a_random_share_of_a_doubling_span_up_to_15_s() -> None:
    line = Line()
    delays: list[list[float]] = []
    for _ in range(300):
        line.session = Session(line.terms, (), random.Random(len(delays)), lambda *_, **__: None)
        row = []
        for attempt in range(10):
            line.session.unreachable("no", 100.0 * attempt)
            row.append(line.session.next_attempt - 100.0 * attempt)
        delays.append(row)
    for attempt, column in enumerate(zip(*delays, strict=True)):
        span = min(15.0, 0.2 * 2**attempt)
        assert 0.0 <= min(column) < 0.1 * span
        assert 0.9 * span < max(column) <= span


def test_a_connection_that_stood_begins_the_delays_anew() -> None:
    line = Line()
    for _ in range(8):
        line.session.unreachable("no", 0.0)
    line.up(100.0)
    line.session.ended(Lost("gone"), 200.0)
    assert line.session.next_attempt <= 200.2


@pytest.mark.parametrize(("code", "why"), [(1, "version"), (4, "password"), (5, "Not authorized"), (77, "code 77")])
def test_a_refusal_says_why(code: int, why: str) -> None:
    line = Line()
    line.session.opened(0.0)
    with pytest.raises(Lost, match=why):
        line.session.received(bytes((0x20, 2, 0, code)), 0.0)
    line.session.ended(Lost("refused"), 0.0)
    ((event, details),) = line.said
    assert event == "broker_refused"
    assert why in details["why"]


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        (b"\x01\x80", ("subscription_refused", {"filters": ["b"]})),
        (b"\x01\x00", ("subscription_weakened", {"filters": ["b"]})),
        (b"\x80\x00", ("subscription_refused", {"filters": ["a/#"]})),
    ],
)
def test_a_subscription_that_is_refused_or_weakened_is_tried_again_after_a_keepalive(
    codes: bytes, said: tuple[str, dict[str, Any]]
) -> None:
    line = Line("a/#", "b")
    line.session.opened(0.0)
    line.take(0.0)
    line.session.received(YES, 0.0)
    line.session.take(0.0)
    line.session.received(b"\x90\x04\x00\x01" + codes, 1.0)
    assert line.said == [said]
    assert not line.session.subscribed
    line.sent = Decoder()
    line.session.turn(30.9)
    assert kinds(line.take(30.9)) == [codec.PINGREQ]
    line.session.turn(31.0)
    packets = [packet for packet in line.take(31.0) if isinstance(packet, Control)]
    (again,) = [packet for packet in packets if packet.kind == codec.SUBSCRIBE]
    line.session.received(line.grant(again), 31.0)
    assert line.session.subscribed


def test_commands_are_repeated_until_the_broker_has_them() -> None:
    line = Line()
    line.up(0.0)
    for body in (b"1", b"2"):
        line.session.publish("t", body)
    line.sent = Decoder()
    one, two = line.take(0.0)
    assert isinstance(one, Publish)
    assert isinstance(two, Publish)
    assert (one.payload, one.qos, one.repeated, two.payload) == (b"1", 1, False, b"2")
    line.session.received(codec.pubacks([one.mid]), 0.1)
    line.session.ended(Lost("gone"), 1.0)
    line.session.publish("t", b"3")
    line.session.opened(2.0)
    line.session.take(2.0)
    line.session.received(YES, 2.0)
    line.sent = Decoder()
    again, subscribe = line.take(2.0)
    assert isinstance(again, Publish)
    assert (again.payload, again.mid, again.repeated) == (b"2", two.mid, True)
    assert isinstance(subscribe, Control)
    line.session.received(line.grant(subscribe), 2.0)
    (third,) = line.take(2.0)
    assert isinstance(third, Publish)
    assert (third.payload, third.repeated) == (b"3", False)


def test_not_more_than_a_hundred_commands_are_on_the_way() -> None:
    line = Line()
    line.up(0.0)
    for _ in range(250):
        line.session.publish("t", b"")
    line.sent = Decoder()
    first = line.take(0.0)
    assert len(first) == 100
    line.session.received(codec.pubacks([packet.mid for packet in first if isinstance(packet, Publish)]), 0.0)
    assert len(line.take(0.0)) == 100


def granting(window: int) -> bytes:
    """A CONNACK of MQTT 5 with a Receive Maximum."""
    return b"\x20\x06\x01\x00\x03\x21" + window.to_bytes(2, "big")


def commands(packets: list[Packet]) -> list[tuple[bytes, bytes, bool]]:
    return [(packet.payload, packet.mid, packet.repeated) for packet in packets if isinstance(packet, Publish)]


@pytest.mark.parametrize(("granted", "at_once"), [(1, 1), (99, 99), (65_535, 100), (0, 100)])
def test_a_broker_may_grant_fewer_commands_on_the_way(granted: int, at_once: int) -> None:
    line = Line(version=codec.V5)
    line.up(0.0, granting(granted))
    for _ in range(150):
        line.session.publish("t", b"")
    first = commands(line.take(0.0))
    assert len(first) == at_once
    line.session.received(codec.pubacks([first[0][1]]), 0.0)
    assert len(commands(line.take(0.0))) == 1


def test_repeated_commands_keep_to_the_grant_of_the_new_connection_and_come_before_new_ones() -> None:
    line = Line(version=codec.V5)
    line.up(0.0, granting(5))
    for number in range(6):
        line.session.publish("t", str(number).encode())
    ids = [mid for _, mid, _ in commands(line.take(0.0))]
    assert len(ids) == 5
    for first, now in ((0, 1.0), (1, 2.0)):
        line.session.ended(Lost("gone"), now)
        line.session.opened(now)
        assert kinds(line.take(now)) == [codec.CONNECT]
        line.sent = Decoder(codec.V5)
        line.session.received(granting(2), now)
        packets = line.take(now)
        assert commands(packets) == [(b"%d" % n, ids[n], True) for n in (first, first + 1)]
        (subscribe,) = [packet for packet in packets if isinstance(packet, Control)]
        line.session.received(line.grant(subscribe), now)
        assert line.take(now) == []
        line.session.received(codec.pubacks([ids[first]]), now)
    fresh = {line.session._fresh_id() for _ in range(0x10000)}
    assert fresh.isdisjoint(ids[2:]), "an id that waits to be repeated is taken"
    line.session.received(codec.pubacks([ids[2]]), 2.0)
    assert commands(line.take(2.0)) == [(b"3", ids[3], True), (b"4", ids[4], True)]
    line.session.received(codec.pubacks([ids[3]]), 2.0)
    (new,) = commands(line.take(2.0))
    assert (new[0], new[2]) == (b"5", False)


def test_a_command_that_the_broker_refuses_is_told_and_not_repeated() -> None:
    line = Line(version=codec.V5)
    line.up(0.0, granting(2))
    for topic in ("forbidden", "nobody/there", "next"):
        line.session.publish(topic, b"")
    (_, refused, _), (_, unheard, _) = commands(line.take(0.0))
    no, nobody = b"\x40\x03" + refused + b"\x87", b"\x40\x03" + unheard + b"\x10"
    line.session.received(no + nobody + no, 0.0)
    assert line.said[1:] == [("command_refused", {"topic": "forbidden", "why": "Not authorized"})]
    (last,) = commands(line.take(0.0))
    line.session.received(b"\x40\x04" + last[1] + b"\xff\x00", 0.0)
    assert line.said[2:] == [("command_refused", {"topic": "next", "why": "code 255"})]
    line.session.ended(Lost("gone"), 1.0)
    line.session.opened(2.0)
    line.session.take(2.0)
    line.session.received(granting(2), 2.0)
    line.sent = Decoder(codec.V5)
    assert commands(line.take(2.0)) == []


def closed(line: Line, now: float) -> None:
    line.up(now)
    line.session.ended(Lost("the broker closed the connection", by_peer=True), now)


def test_three_closings_within_a_minute_are_somebody_with_our_client_id() -> None:
    line = Line()
    for now in (0.0, 25.0):
        closed(line, now)
    assert "client_id_taken_over" not in line.events()
    closed(line, 59.0)
    assert line.said[-1] == ("client_id_taken_over", {"client_id": "gw"})
    delays = []
    for _ in range(50):
        closed(line, 60.0)
        delays.append(line.session.next_attempt - 60.0)
    assert 0.8 * LONGEST_DELAY_S < max(delays) <= LONGEST_DELAY_S, (
        "the rightful one is back as soon as the other is gone"
    )


@pytest.mark.parametrize("times", [(0.0, 31.0, 62.0), (0.0, 61.0, 122.0)])
def test_rare_closings_are_nobody(times: tuple[float, ...]) -> None:
    line = Line()
    for now in times:
        closed(line, now)
    assert "client_id_taken_over" not in line.events()


def test_connections_that_we_gave_up_ourselves_are_nobody() -> None:
    line = Line()
    for now in (0.0, 1.0, 2.0, 3.0):
        line.up(now)
        line.session.ended(Lost("the broker has been silent for 45 s"), now)
    assert "client_id_taken_over" not in line.events()


def test_a_broker_that_was_away_in_between_explains_its_closings() -> None:
    line = Line()
    for now in (0.0, 10.0, 20.0, 30.0):
        closed(line, now)
        line.session.unreachable("refused", now + 1)
    assert "client_id_taken_over" not in line.events()


def test_version_5_says_itself_that_we_were_taken_over() -> None:
    line = Line(version=codec.V5)
    line.up(0.0, b"\x20\x03\x01\x00\x00")
    with pytest.raises(Lost, match="another client has our client id") as lost:
        line.session.received(b"\xe0\x02\x8e\x00", 1.0)
    assert lost.value.by_peer
    with pytest.raises(Lost, match="stop") as lost:
        line.session.received(b"\xe0\x09\x8b\x07\x1f\x00\x04stop", 1.0)
    assert not lost.value.by_peer


@pytest.mark.parametrize("nonsense", [codec.PING, b"\xb0\x02\x00\x63", b"\x00\x00", codec.connect("x")])
def test_what_a_broker_never_says_ends_the_connection(nonsense: bytes) -> None:
    line = Line()
    line.up(0.0)
    with pytest.raises(Lost):
        line.session.received(nonsense, 0.0)


def test_messages_before_the_end_of_a_connection_are_handed_out() -> None:
    line = Line()
    line.up(0.0)
    (message,) = line.session.received(codec.publish("a/b", b"x") + codec.PING, 0.0)
    assert message.payload == b"x"
    with pytest.raises(Lost, match="type 12"):
        line.session.turn(0.0)
    line.session.ended(Lost("gone"), 0.0)
    line.up(1.0)
    line.session.turn(1.0)


def test_packet_ids_on_the_way_are_not_given_again() -> None:
    line = Line()
    line.up(0.0)
    line.session.publish("t", b"stays")
    line.sent = Decoder()
    (stays,) = line.take(0.0)
    assert isinstance(stays, Publish)
    fresh = {line.session._fresh_id() for _ in range(0x10000)}
    assert stays.mid not in fresh
    assert b"\0\0" not in fresh
    assert len(fresh) == 0xFFFE
