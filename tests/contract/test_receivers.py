"""One contract, five receivers: paho, our own in MQTT 3.1.1 and in 5, each with the compiled core and without.

On a real broker, and on one that lies.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from structlog.testing import capture_logs

from domain import wire
from domain.clock import SystemClock
from domain.errors import SettingsError, UnavailableError
from domain.settings import load
from gateway.ingest import mqtt_codec as codec
from gateway.ingest.receiver import Batch, Receiver
from gateway.ingest.receivers import RECEIVERS
from tests.fake_broker import FakeBroker
from tests.servers import Mosquitto, wait_until

TOPIC = wire.up("soymilk", "R-1", "telemetry")
STATUS = wire.up("soymilk", "R-1", "status")
CLIENT = "contract-receiver"
VARIANTS = {
    "paho": ("paho", "", "python"),
    "native": ("native", "", "auto"),
    "native5": ("native", "?version=5", "auto"),
    "native-python": ("native", "", "python"),
    "native5-python": ("native", "?version=5", "python"),
}
"""Receiver, what stands behind the broker's address, and who cuts what was read (auto: the compiled core where it is)."""


@dataclass
class Rig:
    """Receivers of one kind, opened on demand and closed at the end."""

    name: str
    query: str
    core: str
    folder: Path
    opened: list[Receiver] = field(default_factory=list)
    early: list[Batch] = field(default_factory=list)

    def make(self, url: str, *filters: str, client_id: str = CLIENT, **more: str) -> Receiver:
        given = {"BREWAIR_MQTT_URL": url + self.query, "BREWAIR_GATEWAY_CORE": self.core, **more}
        settings = load({"BREWAIR_DATA_DIR": str(self.folder), **given})
        receiver = RECEIVERS[self.name](
            settings,
            client_id=client_id,
            filters=filters or (wire.UP_FILTER,),
            memory=self.folder / "subscriptions",
            clock=SystemClock(),
            rng=random.Random(1),
        )
        self.opened.append(receiver)
        return receiver

    def open(self, url: str, *filters: str, client_id: str = CLIENT, **more: str) -> Receiver:
        receiver = self.make(url, *filters, client_id=client_id, **more)
        self.connect(receiver)
        return receiver

    def connect(self, receiver: Receiver) -> None:
        """Until it is connected; what comes meanwhile is for ``collect``."""

        def connected() -> bool:
            if not receiver.connected:
                self.early.append(receiver.receive(0.05))
            return receiver.connected

        wait_until(connected, timeout_s=30, what="the connection")

    def connect_again(self, receiver: Receiver) -> None:
        """Until the old connection is known to be lost and there is another one."""
        connections = receiver.counts.connections

        def again() -> bool:
            self.early.append(receiver.receive(0.05))
            return receiver.counts.connections > connections and receiver.connected

        wait_until(again, timeout_s=30, what="another connection")

    def collect(self, receiver: Receiver, count: int) -> list[Batch]:
        """At least ``count`` messages."""
        batches, self.early = self.early, []

        def enough() -> bool:
            if sum(len(batch.messages) for batch in batches) < count:
                batches.append(receiver.receive(0.1))
            return sum(len(batch.messages) for batch in batches) >= count

        wait_until(enough, timeout_s=30, what=f"{count} messages")
        return batches

    def lose(self, receiver: Receiver) -> None:
        wait_until(
            lambda: not receiver.receive(0.05).messages and not receiver.connected, timeout_s=20, what="the loss"
        )


def opened(variant: str, folder: Path) -> Iterator[Rig]:
    rig = Rig(*VARIANTS[variant], folder)
    yield rig
    for receiver in rig.opened:
        receiver.close()


@pytest.fixture(params=VARIANTS)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    yield from opened(request.param, tmp_path)


@pytest.fixture
def broker(mosquitto: Mosquitto) -> Mosquitto:
    return mosquitto


@pytest.fixture
def fake() -> Iterator[FakeBroker]:
    with FakeBroker() as broker:
        yield broker


def payloads(batches: list[Batch]) -> list[bytes]:
    return [message.payload for batch in batches for message in batch.messages]


def publish(broker: Mosquitto, *bodies: bytes, topic: str = TOPIC, qos: int = 1, retain: bool = False) -> None:
    """Publish and wait until the broker has all."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(1000)
    client.connect(broker.host, broker.port)
    client.loop_start()
    for info in [client.publish(topic, body, qos=qos, retain=retain) for body in bodies]:
        info.wait_for_publish(30)
    client.disconnect()
    client.loop_stop()


# --- on a real broker


def test_when_a_broker_is_gone_the_next_one_is_tried(rig: Rig) -> None:
    if rig.query:
        pytest.skip("the lying broker speaks 3.1.1")
    with FakeBroker() as second:
        with FakeBroker() as first:
            urls = ",".join(one.url.removeprefix("mqtt://") for one in (first, second))
            receiver = rig.open(f"mqtt://{urls}")
            assert (first.connections, second.connections) == (1, 0)
        rig.connect_again(receiver)
        assert second.connections == 1


@pytest.mark.integration
def test_in_order_and_once_when_acknowledged(rig: Rig, broker: Mosquitto) -> None:
    receiver = rig.open(broker.url)
    wanted = [str(number).encode() for number in range(3000)]
    publish(broker, *wanted)
    batches = rig.collect(receiver, 3000)
    assert payloads(batches) == wanted
    assert {message.topic for batch in batches for message in batch.messages} == {TOPIC}
    for batch in batches:
        receiver.ack(batch)
    receiver.close()
    # A client of the same id that came at once would push the old connection out with its acknowledgements unread.
    wait_until(lambda: f"{CLIENT} disconnected" in broker.log, what="the broker to have read everything")
    again = rig.open(broker.url)
    publish(broker, b"next")
    assert payloads(rig.collect(again, 1)) == [b"next"]


@pytest.mark.integration
def test_what_was_not_acknowledged_comes_again(rig: Rig, broker: Mosquitto) -> None:
    receiver = rig.open(broker.url)
    publish(broker, b"a", b"b")
    assert payloads(rig.collect(receiver, 2)) == [b"a", b"b"]
    receiver.close()
    assert payloads(rig.collect(rig.open(broker.url), 2)) == [b"a", b"b"]


@pytest.mark.integration
def test_a_broker_that_restarts_loses_nothing_for_us(rig: Rig, broker: Mosquitto) -> None:
    receiver = rig.open(broker.url)
    publish(broker, b"old")
    old = rig.collect(receiver, 1)
    broker.stop()
    rig.lose(receiver)
    with pytest.raises(UnavailableError):
        receiver.publish("t", b"")
    broker.start()
    rig.connect(receiver)
    for batch in old:
        receiver.ack(batch)  # of a former connection
    publish(broker, b"new")
    assert sorted(payloads(rig.collect(receiver, 2))) == [b"new", b"old"]


@pytest.mark.integration
def test_filters_that_are_no_longer_wanted_are_taken_back(rig: Rig, broker: Mosquitto) -> None:
    rig.open(broker.url, wire.UP_FILTER, "tele/+/SENSOR").close()
    receiver = rig.open(broker.url)
    publish(broker, b"unwanted", topic="tele/x/SENSOR")
    publish(broker, b"wanted")
    assert payloads(rig.collect(receiver, 1)) == [b"wanted"]
    assert payloads([receiver.receive(0.3)]) == []


@pytest.mark.integration
def test_retained_is_told_from_live(rig: Rig, broker: Mosquitto) -> None:
    publish(broker, b"online", topic=STATUS, retain=True)
    receiver = rig.open(broker.url)
    (retained,) = [message for batch in rig.collect(receiver, 1) for message in batch.messages]
    assert (retained.retained, retained.payload) == (True, b"online")
    publish(broker, b"offline", topic=STATUS, retain=True)
    (live,) = [message for batch in rig.collect(receiver, 1) for message in batch.messages]
    assert (live.retained, live.payload) == (False, b"offline")


def owed(batch: Batch) -> int:
    """How many acknowledgements: ids (paho), or PUBACKs of four bytes."""
    due = batch.receipt[1] if batch.receipt else ()
    return len(due) // 4 if isinstance(due, bytes) else len(due)


@pytest.mark.integration
def test_messages_without_acknowledgement_come_too(rig: Rig, broker: Mosquitto) -> None:
    receiver = rig.open(broker.url)
    publish(broker, b"at most once", qos=0)
    publish(broker, b"at least once")
    batches = rig.collect(receiver, 2)
    assert sorted(payloads(batches)) == [b"at least once", b"at most once"]
    assert sum(owed(batch) for batch in batches) == 1
    for batch in batches:
        receiver.ack(batch)
    publish(broker, b"exactly once", qos=2)
    assert payloads(rig.collect(receiver, 1)) == [b"exactly once"]


@pytest.mark.integration
def test_a_huge_message_is_recognised_as_one_and_does_no_harm(rig: Rig, broker: Mosquitto) -> None:
    receiver = rig.open(broker.url)
    publish(broker, bytes(10 << 20), b"next")
    huge, following = payloads(rig.collect(receiver, 2))
    assert wire.MAX_PAYLOAD_BYTES < len(huge) <= 10 << 20
    assert following == b"next"


@pytest.mark.integration
def test_commands_go_out_while_the_broker_is_there(rig: Rig, broker: Mosquitto) -> None:
    receiver = rig.open(broker.url, "brewair/v1/+/+/+/down/command")
    bodies = [str(number).encode() for number in range(250)]
    for body in bodies:
        receiver.publish(wire.down_command("soymilk", "R-1"), body)
    assert payloads(rig.collect(receiver, 250)) == bodies


@pytest.mark.integration
def test_while_idle_nothing_is_taken_in_and_commands_still_go_out(rig: Rig, broker: Mosquitto) -> None:
    receiver = rig.open(broker.url, "brewair/v1/+/+/+/down/command")
    receiver.publish(wire.down_command("soymilk", "R-1"), b"{}")
    for _ in range(3):
        receiver.idle(0.01)
    assert payloads(rig.collect(receiver, 1)) == [b"{}"]


@pytest.mark.integration
def test_one_client_id_belongs_to_the_last_who_came(rig: Rig, broker: Mosquitto) -> None:
    first = rig.open(broker.url)
    second = rig.open(broker.url)
    publish(broker, b"for the second")
    assert payloads(rig.collect(second, 1)) == [b"for the second"]
    rig.lose(first)
    rig.connect(first)
    publish(broker, b"for the first")
    assert payloads(rig.collect(first, 2)) == [b"for the second", b"for the first"]


PASSWORDS = """\
listener {port} 127.0.0.1
password_file {folder}/passwords
"""


@pytest.mark.integration
def test_a_wrong_password_is_said_once_and_the_right_one_lets_us_in(rig: Rig, mosquitto: Mosquitto) -> None:
    locked = Mosquitto(PASSWORDS)
    (locked.folder / "passwords").write_text("")
    subprocess.run(["mosquitto_passwd", "-b", str(locked.folder / "passwords"), "gw", "right"], check=True)
    (rig.folder / "wrong").write_text("wrong\n")
    (rig.folder / "right").write_text("right\n")
    with locked, capture_logs() as logs:
        user = {"BREWAIR_MQTT_USER": "gw"}
        receiver = rig.make(locked.url, **user, BREWAIR_MQTT_PASSWORD_FILE=str(rig.folder / "wrong"))
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            assert receiver.receive(0.05).messages == []
            assert not receiver.connected
        refusals = [line for line in logs if line["event"] == "broker_refused"]
        assert [line["why"].lower() for line in refusals] == ["not authorized"]
        receiver.close()
        rig.open(locked.url, **user, BREWAIR_MQTT_PASSWORD_FILE=str(rig.folder / "right"))


@dataclass(frozen=True)
class Authority:
    """A certificate authority of its own."""

    folder: Path

    def run(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def root(self, name: str) -> Path:
        self.run(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
            "-keyout", f"{name}.key", "-out", f"{name}.pem",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip
        return self.folder / f"{name}.pem"

    def issue(self, name: str, root: str) -> None:
        (self.folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
        self.run(
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
            "-keyout", f"{name}.key", "-out", f"{name}.csr",
        )  # fmt: skip
        self.run(
            "x509", "-req", "-in", f"{name}.csr", "-CA", f"{root}.pem", "-CAkey", f"{root}.key", "-CAcreateserial",
            "-days", "2", "-extfile", "names", "-out", f"{name}.pem",
        )  # fmt: skip


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root, a server and a client of it, and a root that nobody trusts."""
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    for name in ("root", "stranger"):
        authority.root(name)
    for name in ("server", "client"):
        authority.issue(name, "root")
    return authority.folder


@pytest.fixture
def secure(mosquitto: Mosquitto, certificates: Path) -> Iterator[Mosquitto]:
    """A listener with TLS that wants to see a certificate, and one without for the tests' own publishers."""
    with Mosquitto(f"""\
listener {{port}} 127.0.0.1
cafile {certificates}/root.pem
certfile {certificates}/server.pem
keyfile {certificates}/server.key
require_certificate true
allow_anonymous true
max_queued_messages 100000
max_inflight_messages 20000
""") as broker:
        yield broker


def secured(broker: Mosquitto) -> str:
    return f"mqtts://{broker.host}:{broker.port}"


@pytest.mark.integration
def test_tls_with_a_client_certificate(rig: Rig, secure: Mosquitto, certificates: Path) -> None:
    files = {
        "BREWAIR_MQTT_CA_FILE": str(certificates / "root.pem"),
        "BREWAIR_MQTT_CERT_FILE": str(certificates / "client.pem"),
        "BREWAIR_MQTT_KEY_FILE": str(certificates / "client.key"),
    }
    receiver = rig.open(secured(secure), wire.UP_FILTER, "big", **files)
    sender = mqtt.Client(CallbackAPIVersion.VERSION2)
    sender.tls_set(*(str(certificates / name) for name in ("root.pem", "client.pem", "client.key")))
    sender.max_inflight_messages_set(1000)
    sender.connect(secure.host, secure.port)
    sender.loop_start()
    wanted = [bytes(100_000), *(str(number).encode() for number in range(2000))]
    for body in wanted:
        sender.publish("big", body, qos=1)
    batches = rig.collect(receiver, len(wanted))
    assert payloads(batches) == wanted
    for batch in batches:
        receiver.ack(batch)
    assert receiver.receive(0.2).messages == []
    sender.disconnect()
    sender.loop_stop()


@pytest.mark.integration
def test_a_broker_whose_certificate_nobody_vouches_for_gets_nothing(
    rig: Rig, secure: Mosquitto, certificates: Path
) -> None:
    with capture_logs() as logs:
        receiver = rig.make(secured(secure), BREWAIR_MQTT_CA_FILE=str(certificates / "stranger.pem"))
        for _ in range(5):
            receiver.receive(0.1)
    assert not receiver.connected
    (line,) = logs
    assert line["event"] == "broker_unreachable"
    assert "certificate verify failed" in line["why"]


def test_a_certificate_that_is_none_is_a_matter_of_settings(rig: Rig) -> None:
    (rig.folder / "ca.pem").write_text("no certificate")
    with pytest.raises(SettingsError, match="certificates of the broker"):
        rig.make("mqtts://127.0.0.1:9", BREWAIR_MQTT_CA_FILE=str(rig.folder / "ca.pem"))


# --- on a broker that lies


@pytest.fixture(params=["paho", "native"])
def rig311(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """The lying broker does not speak MQTT 5."""
    yield from opened(request.param, tmp_path)


def test_no_acknowledgement_goes_to_another_connection(rig311: Rig, fake: FakeBroker) -> None:
    receiver = rig311.open(fake.url)
    fake.send(codec.publish(TOPIC, b"old", b"\0\7"))
    old = rig311.collect(receiver, 1)
    fake.cut()
    rig311.lose(receiver)
    rig311.connect(receiver)
    fake.send(codec.publish(TOPIC, b"new", b"\0\7"))  # the same packet id, another message
    new = rig311.collect(receiver, 1)
    for batch in old:
        receiver.ack(batch)
    receiver.receive(0.2)
    assert fake.acknowledged == []
    for batch in new:
        receiver.ack(batch)
    wait_until(lambda: fake.acknowledged == [(2, b"\0\7")], what="the acknowledgement of the new one")


def test_a_topic_that_is_no_text_is_handed_on_for_the_quarantine(rig311: Rig, fake: FakeBroker) -> None:
    receiver = rig311.open(fake.url)
    fake.send(b"\x32\x09\x00\x03a\xff/\x00\x0ahi")
    (batch,) = [batch for batch in rig311.collect(receiver, 1) if batch.messages]
    (message,) = batch.messages
    assert (message.topic.encode(), message.payload) == (b"\xef\xbf\xbd", b"hi")
    receiver.ack(batch)
    wait_until(lambda: fake.acknowledged == [(1, b"\0\x0a")], what="its acknowledgement")


def test_one_byte_at_a_time_is_the_same(rig311: Rig, fake: FakeBroker) -> None:
    receiver = rig311.open(fake.url)
    stream = b"".join(codec.publish(TOPIC, str(n).encode(), n.to_bytes(2, "big")) for n in range(1, 6))
    got: list[Batch] = []
    for at in range(len(stream)):
        fake.send(stream[at : at + 1])
        got.append(receiver.receive(0.0))
    if sum(len(batch.messages) for batch in got) < 5:
        got += rig311.collect(receiver, 5 - sum(len(batch.messages) for batch in got))
    assert payloads(got) == [b"1", b"2", b"3", b"4", b"5"]


def test_nonsense_ends_the_connection_and_another_one_is_made(rig311: Rig, fake: FakeBroker) -> None:
    receiver = rig311.open(fake.url)
    fake.send(b"\x32\x05\x00\x01a\x00\x00" if rig311.name == "native" else b"\xf0\x00")
    rig311.lose(receiver)
    rig311.connect(receiver)
    assert fake.connections == 2


@pytest.mark.parametrize(("code", "event"), [(0x80, "subscription_refused"), (0, "subscription_weakened")])
def test_a_subscription_without_qos_1_is_said_is_no_connection_and_tried_again(
    rig311: Rig, fake: FakeBroker, monkeypatch: pytest.MonkeyPatch, code: int, event: str
) -> None:
    fake.answers[codec.SUBSCRIBE] = b"\x90\x03\x00\x01" + bytes((code,))
    with capture_logs() as logs:
        receiver = rig311.make(fake.url)
        wait_until(
            lambda: (receiver.receive(0.05), any(line["event"] == event for line in logs))[1],
            what="a word about it",
        )
    assert not receiver.connected
    del fake.answers[codec.SUBSCRIBE]
    receiver.receive(0.05)
    assert not receiver.connected, "not at once"
    monkeypatch.setattr(receiver, "_time", lambda: SystemClock().monotonic() + 30.0)
    rig311.connect(receiver)
    assert fake.connections == 1


# --- what only our own can


@pytest.mark.integration
def test_with_version_5_the_broker_sends_no_more_ahead_than_we_asked_for(broker: Mosquitto, tmp_path: Path) -> None:
    rig = Rig("native", "?version=5", "auto", tmp_path)
    receiver = rig.open(broker.url)
    publish(broker, *[b"x"] * 6000)
    batches = rig.collect(receiver, 5000)
    assert len(payloads([*batches, receiver.receive(0.3)])) == 5000
    for batch in batches:
        receiver.ack(batch)
    assert len(payloads(rig.collect(receiver, 1000))) == 1000
    receiver.close()


@pytest.mark.integration
def test_two_gateways_with_one_client_id_are_noticed_and_leave_each_other_time(
    broker: Mosquitto, tmp_path: Path
) -> None:
    rig = Rig("native", "", "auto", tmp_path)
    one, other = rig.make(broker.url), rig.make(broker.url)

    def alarmed() -> bool:
        one.receive(0.02)
        other.receive(0.02)
        return any(line["event"] == "client_id_taken_over" for line in logs)

    with capture_logs() as logs:
        wait_until(alarmed, timeout_s=60, what="the alarm")
    (alarm,) = [line for line in logs if line["event"] == "client_id_taken_over"]
    assert (alarm["log_level"], alarm["client_id"]) == ("error", CLIENT)
    one.close()
    other.close()


def test_a_version_that_nobody_speaks_is_a_matter_of_settings(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="version must be one of"):
        Rig("native", "?version=4", "auto", tmp_path).make("mqtt://127.0.0.1:9")
