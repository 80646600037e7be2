"""The production broker with accounts: mosquitto.conf and start.sh as they are, with other paths and another port."""

from __future__ import annotations

import json
import queue
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from typer.testing import CliRunner

from cli.admin import app
from cli.devices import ADMIN, GATEWAY
from cli.dynsec import DynamicSecurity
from domain import settings
from tests.servers import Mosquitto, find_program, wait_until

FOLDER = Path(__file__).parents[1] / "mosquitto"
ADMIN_PASSWORD, GATEWAY_PASSWORD = "pass-admin", "pass-gateway"
PLUGIN = "mosquitto_dynamic_security.so"

# A path or port of production → the same for a test. Everything else is run as it is written.
REPLACED = {
    "listener 1883": "listener {port} 127.0.0.1",
    f"plugin /usr/lib/{PLUGIN}": "plugin {plugin}",
    "plugin_opt_config_file /mosquitto/data/dynamic-security.json": "plugin_opt_config_file {folder}/accounts.json",
    "persistence_location /mosquitto/data/": "persistence_location {folder}/",
}
STARTED = {
    "accounts=/mosquitto/data/dynamic-security.json": "accounts={folder}/accounts.json",
    "/run/secrets/broker_admin_password": "{folder}/admin_password",
    "/mosquitto/config/mosquitto.conf": "{folder}/mosquitto.conf",
}


def plugin() -> Path:
    """Where this machine has the plugin. Raises ServerMissingError as for the broker itself."""
    find_program("mosquitto", package="Debian package mosquitto")
    found = subprocess.run(
        ["find", "/usr/lib", "/usr/local/lib", "-name", PLUGIN], capture_output=True, text=True, check=False, timeout=60
    )
    return Path(found.stdout.split()[0])


def production_configuration() -> str:
    """mosquitto.conf; ``{port}`` and ``{folder}`` are filled in by the server."""
    lines = (FOLDER / "mosquitto.conf").read_text(encoding="utf-8").splitlines()
    for old in REPLACED:
        assert lines.count(old) == 1, f"mosquitto.conf no longer has the line {old!r}"
    return "\n".join(REPLACED.get(line, line) for line in lines).replace("{plugin}", str(plugin())) + "\n"


class GuardedMosquitto(Mosquitto):
    """Has the gateway's account; ``provision`` makes those of machines. ``more`` is added to the configuration."""

    def __init__(self, more: str = "") -> None:
        super().__init__(production_configuration() + more)
        self.passwords = {ADMIN: ADMIN_PASSWORD, GATEWAY: GATEWAY_PASSWORD}

    def prepare(self) -> None:
        super().prepare()
        (self.folder / "admin_password").write_text(ADMIN_PASSWORD + "\n")
        (self.folder / "gateway_password").write_text(GATEWAY_PASSWORD + "\n")
        script = (FOLDER / "start.sh").read_text(encoding="utf-8")
        for old, new in STARTED.items():
            assert script.count(old) == 1, f"start.sh no longer has {old!r}"
            script = script.replace(old, new.replace("{folder}", str(self.folder)))
        (self.folder / "start.sh").write_text(script)

    def command(self) -> list[str]:
        return ["sh", str(self.folder / "start.sh")]

    def complete(self) -> None:
        self.admin("setup", "--gateway-password-file", str(self.folder / "gateway_password"))

    def admin(self, command: str, *arguments: str, status: int = 0) -> str:
        """``brewair admin devices …`` as the broker's administrator; returns what it said, errors too."""
        ended = CliRunner().invoke(
            app,
            ["devices", command, *arguments, "--admin-password-file", str(self.folder / "admin_password")],
            env={"BREWAIR_DATA_DIR": str(self.folder / "data"), "BREWAIR_MQTT_URL": self.url},
        )
        if status == 0 and ended.exception is not None:
            raise ended.exception
        return ended.output if ended.exception is None else str(ended.exception)

    def control(self) -> DynamicSecurity:
        """The control topic, for what no command makes."""
        return DynamicSecurity(settings.load({"BREWAIR_MQTT_URL": self.url}), ADMIN, ADMIN_PASSWORD)

    def provision(self, serial: str, *options: str) -> dict[str, Any]:
        """Make a soymilk machine's account; its password is kept for the test."""
        made: dict[str, Any] = json.loads(self.admin("provision", serial, "--type", "soymilk", "--json", *options))
        self.passwords[serial] = made["password"]
        return made


class Connection:
    """One client of the broker that keeps what it receives."""

    def __init__(self, broker: GuardedMosquitto, user: str, client_id: str, *, keep_session: bool = False) -> None:
        self.received: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=not keep_session)
        self.client.username_pw_set(user, broker.passwords[user])
        self.listen(broker.host, broker.port)

    def listen(self, host: str, port: int) -> None:
        """Connect, and keep what comes."""
        self.client.on_message = lambda _c, _u, message: self.received.put((message.topic, bytes(message.payload)))
        self.client.max_inflight_messages_set(1000)
        self._granted: queue.Queue[bool] = queue.Queue()
        self.client.on_subscribe = lambda _c, _u, _mid, codes, _p: self._granted.put(not codes[0].is_failure)
        self.client.connect(host, port)
        self.client.loop_start()
        try:
            wait_until(self.client.is_connected, what="a client to connect")
        except TimeoutError:
            self.client.loop_stop()
            raise

    def subscribe(self, topic: str, *, granted: bool = True) -> None:
        self.client.subscribe(topic, qos=1)
        assert self._granted.get(timeout=10) is granted, topic

    def publish(self, topic: str, payload: str) -> None:
        self.client.publish(topic, payload.encode(), qos=1).wait_for_publish(timeout=10)

    def next(self) -> tuple[str, str]:
        topic, payload = self.received.get(timeout=10)
        return topic, payload.decode()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@contextmanager
def connected(broker: GuardedMosquitto, user: str, client_id: str) -> Iterator[Connection]:
    connection = Connection(broker, user, client_id)
    try:
        yield connection
    finally:
        connection.close()


def connect_answer(broker: Mosquitto, user: str | None, password: str | None, client_id: str = "stranger") -> str:
    """The broker's answer to a log-in, in words."""
    answers: queue.Queue[str] = queue.Queue()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id)
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
