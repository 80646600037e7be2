"""MQTT publishers for a fleet, with paho.

Either a few shared connections (load), or one connection per machine with a last will of its own (behaviour): then a machine
whose time has come is cut off without a DISCONNECT, so that the broker itself says the will.
"""

from __future__ import annotations

import queue
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TextIO
from urllib.parse import urlsplit

import orjson
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from device_sim.bus import Command
from device_sim.machine import KEEPALIVE_S, Machine, Publication
from domain.errors import InvalidError, UnavailableError

PORTS = {"mqtt": 1883, "mqtts": 8883}
IN_FLIGHT = 1000
"""Unacknowledged messages that one connection has on its way."""
BACKLOG = 5000
"""Unacknowledged messages at which ``publish`` holds the fleet back."""
CONNECT_TIMEOUT_S = 15.0
DRAIN_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Where the broker is and who we are there. ``url`` is ``mqtt://host:port`` or ``mqtts://host:port``."""

    url: str
    user: str = ""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def address(self) -> tuple[str, int, bool]:
        """Host, port, TLS; raises InvalidError."""
        parts = urlsplit(self.url)
        if parts.scheme not in PORTS or not parts.hostname:
            raise InvalidError("The broker's address must be mqtt://HOST:PORT or mqtts://HOST:PORT", field="broker")
        return parts.hostname, parts.port or PORTS[parts.scheme], parts.scheme == "mqtts"


class _Line:
    """One connection; what its callbacks see goes into queues that the fleet's thread reads."""

    def __init__(
        self, name: str, broker: Broker, publisher: Publisher, topics: Sequence[str], will: Publication | None
    ):
        self.name, self.broker, self.publisher, self.topics = name, broker, publisher, topics
        self.up: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.cut = False
        # A machine is known by its serial; a shared connection by nothing, so that two simulators never fight over a name.
        own = will is not None
        self.client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=name if own else "", clean_session=not own
        )
        client.max_inflight_messages_set(IN_FLIGHT)
        client.max_queued_messages_set(0)
        client.reconnect_delay_set(1, 10)
        if broker.user:
            client.username_pw_set(broker.user, broker.password or None)
        if broker.address()[2]:
            ca, cert, key = (str(f) if f else None for f in (broker.ca_file, broker.cert_file, broker.key_file))
            client.tls_set(ca_certs=ca, certfile=cert, keyfile=key)
        if will is not None:
            client.will_set(will.topic, will.payload, qos=will.qos, retain=will.retain)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_socket_open = self._on_socket_open

    def open(self) -> None:
        """Connect and wait for the broker's answer; raises UnavailableError."""
        host, port, _ = self.broker.address()
        while not self.up.empty():
            self.up.get_nowait()
        try:
            if self.cut:
                self.client.reconnect()
            else:
                self.client.connect(host, port, keepalive=KEEPALIVE_S)
            self.cut = False
            self.client.loop_start()
            answer = self.up.get(timeout=CONNECT_TIMEOUT_S)
        except (OSError, queue.Empty) as error:
            raise UnavailableError(
                "No broker at {url}: {reason}", url=self.broker.url, reason=error or "timeout"
            ) from error
        if answer:
            self.client.loop_stop()
            raise UnavailableError(
                "The broker at {url} refuses {name}: {answer}", url=self.broker.url, name=self.name, answer=answer
            )

    def sever(self) -> None:
        """Drop the connection as a dead machine does: no DISCONNECT."""
        self.client.loop_stop()
        socket = self.client.socket()
        if socket is not None:
            socket.close()
        self.cut = True

    def close(self) -> None:
        """Say goodbye, if there is anybody to say it to."""
        if not self.cut:
            self.client.disconnect()
            self.client.loop_stop()
            self.cut = True

    def _on_connect(
        self, client: mqtt.Client, _: Any, flags: mqtt.ConnectFlags, code: ReasonCode, __: Properties | None
    ) -> None:
        if not code.is_failure and self.topics:
            client.subscribe([(topic, 1) for topic in self.topics])
        self.up.put(str(code) if code.is_failure else "")

    def _on_socket_open(self, client: mqtt.Client, _: Any, sock: Any) -> None:
        # Without it each small message waits up to 40 ms for the broker's delayed acknowledgement of the one before.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _on_message(self, client: mqtt.Client, _: Any, message: mqtt.MQTTMessage) -> None:
        self.publisher.came_down.put((message.topic, bytes(message.payload)))

    def _on_publish(self, client: mqtt.Client, _: Any, mid: int, code: ReasonCode, __: Properties) -> None:
        self.publisher.acked.put((self.name, mid))


class Publisher:
    """A ``Bus`` over a real broker for ``machines``.

    ``connections`` > 0 shares so many connections; 0 gives each machine its own. ``acks`` gets one JSON line
    ``{"serial","ts","seq"}`` per acknowledged sample or event, written only after its PUBACK.
    """

    def __init__(
        self,
        broker: Broker,
        machines: Iterable[Machine],
        *,
        connections: int = 1,
        acks: TextIO | None = None,
    ) -> None:
        fleet = list(machines)
        self.acked: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
        self.came_down: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._acks = acks
        self._pending: dict[tuple[str, int], Publication] = {}
        self._line_of: dict[str, _Line] = {}
        self._own = connections == 0
        if self._own:
            groups = [(machine.serial, [machine]) for machine in fleet]
        else:
            groups = [(f"shared-{k}", fleet[k::connections]) for k in range(connections)]
        self._lines = []
        for name, group in groups:
            will = group[0].will if self._own else None
            line = _Line(name, broker, self, [machine.command_topic for machine in group], will)
            self._lines.append(line)
            self._line_of.update((machine.serial, line) for machine in group)

    def __enter__(self) -> Self:
        """Connect all lines; raises UnavailableError."""
        try:
            for line in self._lines:
                line.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def publish(self, publications: Sequence[Publication]) -> None:
        """Hand over to paho; blocks while more than ``BACKLOG`` messages wait for their PUBACK."""
        for publication in publications:
            line = self._line_of[publication.serial]
            if publication.will and self._own:
                line.sever()
                continue
            if line.cut:
                line.open()
            sent = line.client.publish(publication.topic, publication.payload, publication.qos, publication.retain)
            if sent.rc not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN):
                raise UnavailableError("The broker took no message: {reason}", reason=mqtt.error_string(sent.rc))
            self._pending[line.name, sent.mid] = publication
        self._settle()
        while len(self._pending) > BACKLOG:
            self._settle(wait_s=DRAIN_TIMEOUT_S)

    def commands(self) -> list[Command]:
        """What came down since the last call."""
        return [self.came_down.get_nowait() for _ in range(self.came_down.qsize())]

    def flush(self, timeout_s: float = DRAIN_TIMEOUT_S) -> None:
        """Block until every message has its PUBACK; raises UnavailableError after ``timeout_s`` without any progress."""
        self._settle()
        while self._pending:
            self._settle(wait_s=timeout_s)

    @property
    def unacknowledged(self) -> int:
        """Messages without a PUBACK so far."""
        self._settle()
        return len(self._pending)

    def close(self) -> None:
        """Disconnect all lines; what has no PUBACK yet stays unlogged."""
        for line in self._lines:
            line.close()
        self._settle()

    def _settle(self, wait_s: float = 0.0) -> None:
        """Take in PUBACKs; with ``wait_s`` wait for at least one."""
        if wait_s:
            try:
                self._acknowledge(self.acked.get(timeout=wait_s))
            except queue.Empty:
                raise UnavailableError("No PUBACK for {seconds} s", seconds=wait_s) from None
        for _ in range(self.acked.qsize()):
            self._acknowledge(self.acked.get_nowait())
        if self._acks is not None:
            self._acks.flush()

    def _acknowledge(self, key: tuple[str, int]) -> None:
        publication = self._pending.pop(key, None)
        if publication is not None and self._acks is not None:
            for ts, seq in publication.objects:
                line = {"serial": publication.serial, "ts": ts, "seq": seq}
                self._acks.write(orjson.dumps(line).decode() + "\n")
