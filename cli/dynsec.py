"""The accounts of a mosquitto broker, through the control topic of its dynamic-security plugin.

One connection of an administrator; every change is in force, and on the broker's disk, when its answer has come.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from cli.doctor_broker import PATIENCE_S
from domain.clock import SystemClock
from domain.errors import RefusedError, UnavailableError
from domain.settings import MQTT_PORTS, Settings

CONTROL = "$CONTROL/dynamic-security/v1"
RESPONSE = f"{CONTROL}/response"
AT_ONCE = 200
"""Accounts of one answer, so that no answer is larger than a packet may be."""
SEND, RECEIVE, SUBSCRIBE = "publishClientSend", "publishClientReceive", "subscribePattern"


@dataclass(frozen=True, slots=True)
class Role:
    """What an account may do: MQTT filters to write, and to subscribe to and receive from. All else is refused."""

    name: str
    write: tuple[str, ...] = ()
    read: tuple[str, ...] = ()

    @property
    def acls(self) -> list[dict[str, object]]:
        """As the plugin wants it."""
        lines = [(SEND, topic) for topic in self.write]
        lines += [(kind, topic) for topic in self.read for kind in (RECEIVE, SUBSCRIBE)]
        return [{"acltype": kind, "topic": topic, "priority": 0, "allow": True} for kind, topic in lines]


class DynamicSecurity:
    """A connection to the control topic. Raises UnavailableError where nobody answers, RefusedError where the broker refuses."""

    def __init__(self, settings: Settings, user: str, password: str) -> None:
        self._time = SystemClock().monotonic
        self._answers: list[dict[str, Any]] = []
        self._asked = 0
        greeting: list[str] = []
        granted: list[bool] = []
        parts = urlsplit(settings.mqtt_url)
        self._url = settings.mqtt_url
        self._client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=f"brewair-admin-{os.getpid()}", protocol=MQTTProtocolVersion.MQTTv5
        )
        client.connect_timeout = PATIENCE_S
        client.username_pw_set(user, password)
        if parts.scheme == "mqtts":
            certificate, key = (str(f) if f else None for f in (settings.mqtt_cert_file, settings.mqtt_key_file))
            client.tls_set(str(settings.mqtt_ca_file) if settings.mqtt_ca_file else None, certificate, key)

        def greeted(_client: mqtt.Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
            greeting.append(str(code) if code.is_failure else "")

        def subscribed(_client: mqtt.Client, _data: Any, _mid: int, codes: Any, _properties: Any) -> None:
            granted.append(not any(code.is_failure for code in codes))

        def came(_client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
            self._answers.extend(json.loads(message.payload).get("responses", ()))

        client.on_connect, client.on_subscribe, client.on_message = greeted, subscribed, came
        try:
            client.connect(parts.hostname or "", parts.port or MQTT_PORTS[parts.scheme], keepalive=10)
        except OSError as error:
            raise UnavailableError("The broker {url} cannot be reached: {why}", url=self._url, why=error) from error
        if not self._until(lambda: bool(greeting)):
            raise UnavailableError("The broker {url} does not answer", url=self._url)
        if greeting[0]:
            raise RefusedError(
                "The broker {url} does not let {user} in: {why}", url=self._url, user=user, why=greeting[0]
            )
        client.subscribe(RESPONSE, qos=1)
        if not self._until(lambda: bool(granted)) or not granted[0]:
            client.disconnect()
            raise RefusedError("{user} does not administrate the accounts of {url}", user=user, url=self._url)

    def do(self, command: str, **arguments: object) -> dict[str, Any]:
        """One command; returns its data. Raises RefusedError with the broker's words."""
        data, error = self._ask(command, arguments)
        if error:
            raise RefusedError("The broker refuses {command}: {why}", command=command, why=error)
        return data

    def attempt(self, command: str, **arguments: object) -> bool:
        """One command that may be superfluous; False where the broker refuses it."""
        return not self._ask(command, arguments)[1]

    def save_role(self, role: Role) -> None:
        """Make a role, or give it these rights and no others."""
        if not self.attempt("createRole", rolename=role.name, acls=role.acls):
            self.do("modifyRole", rolename=role.name, acls=role.acls)

    def account(self, user: str) -> dict[str, Any] | None:
        """One account, or None."""
        data, error = self._ask("getClient", {"username": user})
        return None if error else data["client"]

    def accounts(self) -> Iterator[Mapping[str, Any]]:
        """All accounts, by name."""
        offset = 0
        while page := self.do("listClients", verbose=True, count=AT_ONCE, offset=offset).get("clients", ()):
            yield from page
            offset += len(page)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()

    def _ask(self, command: str, arguments: Mapping[str, object]) -> tuple[dict[str, Any], str]:
        self._asked += 1
        label = str(self._asked)
        body = {"commands": [{"command": command, "correlationData": label, **arguments}]}
        self._client.publish(CONTROL, json.dumps(body).encode(), qos=1)

        def answered() -> bool:
            return any(answer.get("correlationData") == label for answer in self._answers)

        if not self._until(answered):
            raise UnavailableError(
                "The broker {url} does not answer on its control topic: is the dynamic-security plugin loaded?",
                url=self._url,
            )
        (answer,) = (one for one in self._answers if one.get("correlationData") == label)
        self._answers.clear()
        return answer.get("data", {}), str(answer.get("error", ""))

    def _until(self, done: Callable[[], bool]) -> bool:
        deadline = self._time() + PATIENCE_S
        while not done() and self._time() < deadline:
            if self._client.loop(timeout=0.05):
                break
        return done()
