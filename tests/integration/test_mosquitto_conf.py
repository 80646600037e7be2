"""The production configuration of the broker, run by the real broker with other paths and another port."""

from __future__ import annotations

import queue
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.servers import Mosquitto, ServerMissingError, do_without, find_program, wait_until

pytestmark = pytest.mark.integration

FOLDER = Path(__file__).parents[2] / "mosquitto"
GATEWAY = "service.gateway"
PASSWORDS = {GATEWAY: "pass-gateway", "SM-1": "pass-1", "SM-2": "pass-2", "+": "pass-plus"}

# A path or port of production → the same for a test. Everything else is run as it is written.
REPLACED = {
    "listener 1883": "listener {port} 127.0.0.1",
    "password_file /mosquitto/passwords/passwords": "password_file {folder}/passwords",
    "acl_file /mosquitto/config/acl": f"acl_file {FOLDER / 'acl'}",
    "persistence_location /mosquitto/data/": "persistence_location {folder}/",
}


def production_configuration() -> str:
    lines = (FOLDER / "mosquitto.conf").read_text(encoding="utf-8").splitlines()
    for old in REPLACED:
        assert lines.count(old) == 1, f"mosquitto.conf no longer has the line {old!r}"
    return "\n".join(REPLACED.get(line, line) for line in lines) + "\n"


@pytest.fixture(scope="module")
def broker() -> Iterator[Mosquitto]:
    try:
        server = Mosquitto(production_configuration())
        passwd = find_program("mosquitto_passwd", package="Debian package mosquitto")
    except ServerMissingError as error:
        do_without("mosquitto", error)
    file = server.folder / "passwords"
    file.touch(mode=0o600)
    for user, password in PASSWORDS.items():
        subprocess.run([passwd, "-b", file, user, password], check=True, timeout=30, capture_output=True)
    with server:
        yield server


class Connection:
    """One client of the broker that keeps what it receives."""

    def __init__(self, broker: Mosquitto, user: str, client_id: str, *, keep_session: bool = False) -> None:
        self.received: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=not keep_session)
        self.client.username_pw_set(user, PASSWORDS[user])
        self.client.on_message = lambda _c, _u, message: self.received.put((message.topic, bytes(message.payload)))
        self.client.max_inflight_messages_set(1000)
        self._granted: queue.Queue[int] = queue.Queue()
        self.client.on_subscribe = lambda _c, _u, mid, *_rest: self._granted.put(mid)
        self.client.connect(broker.host, broker.port)
        self.client.loop_start()
        wait_until(self.client.is_connected, what=f"{client_id} to connect")

    def subscribe(self, topic: str) -> None:
        self.client.subscribe(topic, qos=1)
        self._granted.get(timeout=10)

    def publish(self, topic: str, payload: str) -> None:
        self.client.publish(topic, payload.encode(), qos=1).wait_for_publish(timeout=10)

    def next(self) -> tuple[str, str]:
        topic, payload = self.received.get(timeout=10)
        return topic, payload.decode()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@contextmanager
def connected(broker: Mosquitto, user: str, client_id: str) -> Iterator[Connection]:
    connection = Connection(broker, user, client_id)
    try:
        yield connection
    finally:
        connection.close()


def connect_answer(broker: Mosquitto, user: str | None, password: str | None) -> str:
    """The broker's answer to a log-in, in words."""
    answers: queue.Queue[str] = queue.Queue()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="stranger")
    if user is not None:
        client.username_pw_set(user, password)
    client.on_connect = lambda _c, _u, _flags, reason, _properties: answers.put(str(reason))
    client.connect(broker.host, broker.port)
    client.loop_start()
    try:
        return answers.get(timeout=10)
    finally:
        client.disconnect()
        client.loop_stop()


@pytest.mark.parametrize(("user", "password"), [(None, None), ("SM-1", "pass-2"), ("SM-1", ""), ("SM-9", "pass-1")])
def test_nobody_comes_in_without_a_right_password(broker: Mosquitto, user: str | None, password: str | None) -> None:
    assert connect_answer(broker, user, password) == "Not authorized"


def test_a_right_password_comes_in(broker: Mosquitto) -> None:
    assert connect_answer(broker, "SM-1", "pass-1") == "Success"


def test_a_device_is_heard_on_its_own_topic_and_on_no_other(broker: Mosquitto) -> None:
    with connected(broker, GATEWAY, "gw-1") as gateway, connected(broker, "SM-1", "SM-1") as device:
        gateway.subscribe("brewair/v1/+/+/+/up/#")
        gateway.subscribe("#")
        for forged in (
            "brewair/v1/03/soymilk/SM-2/up/telemetry",
            "brewair/v1/03/soymilk/SM-1x/up/telemetry",
            "brewair/v1/SM-1/soymilk/SM-2/up/telemetry",
            "brewair/v1/03/soymilk/SM-1/down/command",
            "brewair/v2/03/soymilk/SM-1/up/telemetry",
            "anything/else",
        ):
            device.publish(forged, "forged")
        device.publish("brewair/v1/03/soymilk/SM-1/up/telemetry", "own")
        device.publish("brewair/v1/03/soymilk/SM-1/up/status", "online")
        # One publisher's messages keep their order: the forged ones would have come first.
        assert gateway.next() == ("brewair/v1/03/soymilk/SM-1/up/telemetry", "own")
        seen = {gateway.next()}
        while ("brewair/v1/03/soymilk/SM-1/up/status", "online") not in seen:
            seen.add(gateway.next())
        assert all(payload in ("own", "online") for _topic, payload in seen)


def test_a_user_named_like_a_wildcard_is_no_master_key(broker: Mosquitto) -> None:
    with (
        connected(broker, GATEWAY, "gw-2") as gateway,
        connected(broker, "+", "plus") as wildcard,
        connected(broker, "SM-1", "SM-1") as device,
    ):
        gateway.subscribe("brewair/v1/+/+/+/up/#")
        wildcard.publish("brewair/v1/03/soymilk/SM-2/up/telemetry", "forged")
        device.publish("brewair/v1/03/soymilk/SM-1/up/telemetry", "own")
        assert gateway.next()[1] == "own"


def test_a_command_reaches_its_device_and_nobody_else(broker: Mosquitto) -> None:
    with (
        connected(broker, GATEWAY, "gw-3") as gateway,
        connected(broker, "SM-1", "SM-1") as first,
        connected(broker, "SM-2", "SM-2") as second,
    ):
        second.subscribe("#")
        second.subscribe("brewair/v1/+/+/+/down/#")
        first.subscribe("brewair/v1/03/soymilk/SM-1/down/#")
        gateway.publish("brewair/v1/03/soymilk/SM-1/down/command", "for the first")
        gateway.publish("brewair/v1/07/soymilk/SM-2/down/command", "for the second")
        assert first.next()[1] == "for the first"
        assert second.next()[1] == "for the second"


def test_the_gateway_cannot_speak_in_a_devices_name(broker: Mosquitto) -> None:
    with connected(broker, GATEWAY, "gw-4") as gateway, connected(broker, "SM-1", "SM-1") as device:
        gateway.subscribe("brewair/v1/+/+/+/up/#")
        gateway.publish("brewair/v1/03/soymilk/SM-1/up/telemetry", "forged")
        device.publish("brewair/v1/03/soymilk/SM-1/up/telemetry", "own")
        assert gateway.next()[1] == "own"


def test_nothing_is_lost_while_the_gateway_is_away_and_the_broker_restarts(broker: Mosquitto) -> None:
    count = 5000  # five times what the broker's default queue holds
    gateway = Connection(broker, GATEWAY, "gw-away", keep_session=True)
    gateway.subscribe("brewair/v1/+/+/+/up/#")
    gateway.close()

    with connected(broker, "SM-1", "SM-1") as device:
        sent = [
            device.client.publish("brewair/v1/03/soymilk/SM-1/up/telemetry", str(number), qos=1)
            for number in range(count)
        ]
        for message in sent:
            message.wait_for_publish(timeout=60)

    broker.stop()
    broker.start()

    gateway = Connection(broker, GATEWAY, "gw-away", keep_session=True)
    try:
        wait_until(lambda: gateway.received.qsize() >= count, timeout_s=60, what=f"{count} queued messages")
        assert {int(gateway.next()[1]) for _ in range(count)} == set(range(count))
    finally:
        gateway.close()


def test_the_readme_explains_every_setting() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    settings = {
        line.split()[0]
        for line in (FOLDER / "mosquitto.conf").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    }
    explained = set(re.findall(r"`([a-z_]+)", "".join(re.findall(r"^\| (`.*?) \|", readme, re.MULTILINE))))
    assert settings == explained
