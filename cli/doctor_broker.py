"""What ``brewair doctor`` asks a broker: in, rights, a message there and back, what it dropped. Touches no machine's topic
that exists: the serial number of its questions is ``-doctor-``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from domain import wire
from domain.clock import SystemClock
from domain.settings import Settings

PATIENCE_S = 5.0
BACK_S = 2.0
"""How long a message to ourselves, or a retained one, may take."""
NOBODY = "-doctor-"
DROPPED = "$SYS/broker/publish/messages/dropped"
UPTIME = "$SYS/broker/uptime"
NOT_AUTHORIZED = 0x87


class Strange(Exception):
    """The broker refuses us; the text is its reason."""


class Silence(Exception):
    """Something takes connections and says nothing."""


class BrokerProbe:
    """One connection to the first broker that is named, MQTT 5 where it speaks that (only 5 says whether a publication was
    allowed), else 3.1.1.

    Raises OSError, Strange or Silence where there is no connection.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._time = SystemClock().monotonic
        self.receive_maximum: int | None = None
        try:
            self._connect(MQTTProtocolVersion.MQTTv5)
            self.version = "5"
        except (Silence, Strange) as refused:
            self._client.disconnect()
            try:
                self._connect(MQTTProtocolVersion.MQTTv311)
            except Silence:
                raise refused from None
            self.version = "3.1.1"

    def deaf_to(self, filters: Iterable[str]) -> list[str]:
        """Those of the gateway's MQTT filters whose subscription is refused; asked for nobody's topics."""
        return [one for one in filters if not self._subscribed(one.replace("+", NOBODY))]

    def may_command_machines(self) -> bool | None:
        """Whether a command may be published; None where the protocol does not say."""
        code = self._published(wire.down_command("soymilk", NOBODY), b"{}")
        return None if self.version != "5" else code != NOT_AUTHORIZED

    def round_trip(self) -> float | None:
        """Seconds until a message to ourselves came back; None where it did not."""
        topic = f"brewair/doctor/{self._name}"
        if not self._subscribed(topic):
            return None
        began = self._time()
        self._published(topic, b"?")
        return self._time() - began if self._until(lambda: topic in self._came, BACK_S) else None

    def dropped(self) -> int | None:
        """Messages that the broker says it dropped; None where it tells nothing of itself.

        mosquitto keeps a figure for a minute after it changed: one that is not there, beside the uptime, which always is,
        did not.
        """
        if not (self._subscribed(DROPPED) and self._subscribed(UPTIME)):
            return None
        if not self._until(lambda: UPTIME in self._came, BACK_S):
            return None
        said = self._came.get(DROPPED, b"0")
        return int(said) if said.isdigit() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()

    # --- the connection

    def _connect(self, protocol: MQTTProtocolVersion) -> None:
        settings = self._settings
        self._name = f"brewair-doctor-{os.getpid()}"
        self._came: dict[str, bytes] = {}
        self._granted: dict[int, bool] = {}
        self._answers: dict[int, int] = {}
        greeting: list[str] = []
        self._client = client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=self._name, protocol=protocol)
        client.connect_timeout = PATIENCE_S
        if settings.mqtt_user:
            client.username_pw_set(settings.mqtt_user, settings.secret_text(settings.mqtt_password_file) or None)
        if settings.mqtt_url.startswith("mqtts:"):
            certificate, key = (str(f) if f else None for f in (settings.mqtt_cert_file, settings.mqtt_key_file))
            client.tls_set(str(settings.mqtt_ca_file) if settings.mqtt_ca_file else None, certificate, key)

        def greeted(_client: mqtt.Client, _data: Any, _flags: Any, code: Any, properties: Any) -> None:
            greeting.append(str(code) if code.is_failure else "")
            self.receive_maximum = getattr(properties, "ReceiveMaximum", None)

        def came(_client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
            self._came[message.topic] = bytes(message.payload)

        def granted(_client: mqtt.Client, _data: Any, mid: int, codes: Any, _properties: Any) -> None:
            self._granted[mid] = not any(code.is_failure for code in codes)

        def published(_client: mqtt.Client, _data: Any, mid: int, code: Any, _properties: Any) -> None:
            self._answers[mid] = code.value

        client.on_connect, client.on_message = greeted, came
        client.on_subscribe, client.on_publish = granted, published
        client.connect(*settings.brokers[0], keepalive=10)
        self._until(lambda: bool(greeting), PATIENCE_S)
        if not greeting:
            raise Silence
        if greeting[0]:
            raise Strange(greeting[0])

    def _subscribed(self, topic: str) -> bool:
        _, mid = self._client.subscribe(topic, qos=1)
        return mid is not None and self._until(lambda: mid in self._granted, BACK_S) and self._granted[mid]

    def _published(self, topic: str, payload: bytes) -> int | None:
        mid = self._client.publish(topic, payload, qos=1).mid
        return self._answers.get(mid) if self._until(lambda: mid in self._answers, BACK_S) else None

    def _until(self, done: Callable[[], bool], patience_s: float) -> bool:
        """Let the connection work until ``done``; False when it took too long or the connection ended."""
        deadline = self._time() + patience_s
        while not done() and self._time() < deadline:
            if self._client.loop(timeout=0.05):
                break
        return done()
