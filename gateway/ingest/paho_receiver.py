"""A receiver on paho-mqtt, driven by its caller's thread: what is read, made durable and acknowledged happens in turn.

QoS 1 with manual acknowledgement and a session that the broker keeps; packet ids of a former connection are never
acknowledged on a later one. Reconnects for ever, after a random share of a delay that doubles up to 15 s.
"""

from __future__ import annotations

import queue
import random
import select
import socket
import ssl
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import structlog
from paho.mqtt.enums import CallbackAPIVersion

from domain.clock import Clock, SystemClock, to_ms
from domain.errors import SettingsError, UnavailableError
from domain.settings import Settings
from gateway.ingest.receiver import Batch, Closings, Counts
from gateway.messages import Message

KEEPALIVE_S = 30
CONNECT_TIMEOUT_S = 5.0
ANSWER_S = 30.0
"""A broker that ends a session may have to tell its other nodes before it answers."""
USER_TIMEOUT_MS = 20_000
FIRST_DELAY_S, LONGEST_DELAY_S = 0.2, 15.0
BATCH_MESSAGES, BATCH_BYTES = 5000, 4 << 20
LEVELS = {"broker_connected": "info", "client_id_taken_over": "error"}
"""Of what is logged; a warning where nothing else is said."""

log = structlog.get_logger()


class PahoReceiver:
    """See :class:`gateway.ingest.receiver.Receiver`. ``memory`` is a file that remembers the filters of the session."""

    def __init__(
        self,
        settings: Settings,
        *,
        client_id: str,
        filters: Sequence[str],
        memory: Path,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._brokers = cycle(settings.brokers)
        self._host, self._port = settings.brokers[0]
        self._filters, self._memory, self._clock, self._rng = list(filters), memory, clock, rng
        self._time = SystemClock().monotonic
        self.counts = Counts()
        self._closings = Closings()
        self._client_id = client_id
        self._arrived: list[Message] = []
        self._to_ack: list[int] = []
        self._bytes = 0
        self._epoch = 0
        self._subscribed = False
        self._attempts = 0
        self._next_attempt = 0.0
        self._retry_subscription: float | None = None
        self._told = ""
        self._outgoing: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self._client = self._make_client(settings, client_id)

    @property
    def connected(self) -> bool:
        """Whether our subscriptions stand."""
        return self._subscribed

    def receive(self, timeout_s: float) -> Batch:
        """What has come; empty after ``timeout_s`` or while the broker is away."""
        deadline = self._time() + timeout_s
        if not self._alive(timeout_s):
            return Batch()
        self._send_due()
        while len(self._arrived) < BATCH_MESSAGES and self._bytes < BATCH_BYTES:
            patience = 0.0 if self._arrived else max(0.0, deadline - self._time())
            if not self._pump(patience):
                break
        batch = Batch.of(self._arrived, (self._epoch, self._to_ack))
        self._arrived, self._to_ack, self._bytes = [], [], 0
        return batch

    def ack(self, batch: Batch) -> None:
        """All acknowledgements in one go, unless the connection is another one by now."""
        epoch, ids = batch.receipt or (0, [])
        if epoch != self._epoch or not ids:
            return
        self._cork(True)
        for mid in ids:
            self._client.ack(mid, 1)
        self._client.loop_write()
        self._cork(False)

    def idle(self, timeout_s: float) -> None:
        """Send pings and commands. What the broker sends meanwhile waits here, never more than it sends ahead: paho gives up a
        connection whose ping it has not read the answer to."""
        if self._alive(timeout_s):
            self._send_due()
            self._client.loop_write()
            self._pump(0.0)

    def publish(self, topic: str, payload: bytes) -> None:
        """Hand a command to the connection's thread. Raises UnavailableError while the broker is away."""
        if not self._subscribed:
            raise UnavailableError("The broker {host} is away", host=self._host)
        self._outgoing.put((topic, payload))

    def close(self) -> None:
        """Disconnect in good order; the broker keeps the session."""
        self._subscribed = False
        self._client.disconnect()
        self._client.loop_write()

    # --- connection

    def _make_client(self, settings: Settings, client_id: str) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=False,
            manual_ack=True,
            protocol=mqtt.MQTTv311,
        )
        client.suppress_exceptions = False
        client.connect_timeout = CONNECT_TIMEOUT_S
        _prove_who(client, settings)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_subscribe, client.on_message = self._on_subscribe, self._on_message
        client.on_socket_open = _tune
        # With this hook paho leaves all writing to us: acknowledgements leave together.
        client.on_socket_register_write = _nothing
        return client

    def _alive(self, timeout_s: float) -> bool:
        """Whether there is a socket; tries to get one when it is time."""
        if self._client.socket() is not None:
            return True
        pause = self._next_attempt - self._time()
        if pause > 0:
            select.select([], [], [], min(pause, timeout_s))
            if pause > timeout_s:
                return False
        self._attempts += 1
        longest = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(self._attempts, 10))
        self._next_attempt = self._time() + self._rng.uniform(0.0, longest)
        self._host, self._port = next(self._brokers)
        try:
            self._client.connect(self._host, self._port, keepalive=KEEPALIVE_S)
        except (OSError, ValueError) as error:
            self._closings.clear()
            self._tell("broker_unreachable", why=str(error))
            return False
        return True

    def _pump(self, timeout_s: float) -> bool:
        """One round of the socket; False when nothing was there to read or the connection ended."""
        client = self._client
        sock = client.socket()
        if sock is None:
            return False
        pending = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        writers = [sock] if client.want_write() else []
        readable, writable, _ = select.select([sock], writers, [], 0.0 if pending else timeout_s)
        if writable:
            client.loop_write()
        if readable or pending:
            client.loop_read()
        client.loop_misc()
        return bool(readable or pending or writable)

    def _send_due(self) -> None:
        """Another attempt to subscribe, and commands."""
        if self._retry_subscription is not None and self._time() >= self._retry_subscription:
            self._subscribe()
        while self._subscribed:
            try:
                topic, payload = self._outgoing.get_nowait()
            except queue.Empty:
                return
            self._client.publish(topic, payload, qos=1)

    def _cork(self, on: bool) -> None:
        sock = self._client.socket()
        cork = getattr(socket, "TCP_CORK", None)
        if cork is not None and isinstance(sock, socket.socket) and not isinstance(sock, ssl.SSLSocket):
            sock.setsockopt(socket.IPPROTO_TCP, cork, int(on))

    def _new_epoch(self) -> None:
        """What was received on the old connection and not handed out comes again on the new one."""
        self._epoch += 1
        self._subscribed, self._retry_subscription = False, None
        self.counts.dropped_qos0 += len(self._arrived) - len(self._to_ack)
        self._arrived, self._to_ack, self._bytes = [], [], 0

    # --- callbacks of paho

    def _on_connect(self, client: mqtt.Client, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        self._new_epoch()
        if reason.is_failure:
            self._tell("broker_refused", why=str(reason))
            return
        stale = set(self._remembered()) - set(self._filters) if flags.session_present else set()
        if stale:
            client.unsubscribe(sorted(stale))
        self._subscribe()

    def _subscribe(self) -> None:
        self._retry_subscription = None
        self._client.subscribe([(one, 1) for one in self._filters])

    def _on_subscribe(self, _client: mqtt.Client, _data: Any, _mid: int, reasons: Any, _properties: Any) -> None:
        answers = list(zip(self._filters, reasons, strict=False))
        refused = [one for one, reason in answers if reason.is_failure]
        weak = [one for one, reason in answers if reason.value == 0]  # QoS 0: nothing to acknowledge
        if refused or weak:
            self._tell("subscription_refused" if refused else "subscription_weakened", filters=refused or weak)
            self._retry_subscription = self._time() + KEEPALIVE_S
            return
        try:
            self._memory.write_text("\n".join(self._filters))
        except OSError as error:
            self._tell("subscriptions_not_kept", why=str(error))
        self._subscribed, self._attempts = True, 0
        self._tell("broker_connected")

    def _on_disconnect(self, _client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        was_up = self._subscribed
        self._new_epoch()
        if was_up:
            self._tell("broker_disconnected", why=str(reason))
            if self._closings.closed(self._time()):
                self._tell("client_id_taken_over", client_id=self._client_id)
                self._next_attempt = self._time() + self._rng.uniform(0.0, LONGEST_DELAY_S)

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = "\ufffd"  # no convention has it: quarantine
        payload = bytes(message.payload)
        self._arrived.append(Message(topic, payload, to_ms(self._clock.now()), bool(message.retain)))
        self._bytes += len(payload)
        if message.qos:
            self._to_ack.append(message.mid)

    def _remembered(self) -> list[str]:
        try:
            return self._memory.read_text().splitlines()
        except OSError:
            return []

    def _tell(self, event: str, **details: Any) -> None:
        """One line per change of state, not one per attempt."""
        if event != self._told:
            self._told = event
            self.counts.note(event)
            say = getattr(log, LEVELS.get(event, "warning"))
            say(event, host=self._host, port=self._port, **details)


def _prove_who(client: mqtt.Client, settings: Settings) -> None:
    """User, password and certificates. Raises SettingsError."""
    if settings.mqtt_user:
        client.username_pw_set(settings.mqtt_user, settings.secret_text(settings.mqtt_password_file))
    if settings.mqtt_url.startswith("mqtts:"):
        try:
            client.tls_set(
                ca_certs=str(settings.mqtt_ca_file) if settings.mqtt_ca_file else None,
                certfile=str(settings.mqtt_cert_file) if settings.mqtt_cert_file else None,
                keyfile=str(settings.mqtt_key_file) if settings.mqtt_key_file else None,
            )
        except (ssl.SSLError, OSError) as error:
            raise SettingsError("The certificates of the broker cannot be used: {why}", why=error) from error


def end_session(settings: Settings, client_id: str) -> None:
    """Have the broker forget the session of a client that will not come back. Raises UnavailableError."""
    last: OSError | None = None
    clock = SystemClock().monotonic
    for host, port in settings.brokers:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=True)
        _prove_who(client, settings)
        client.connect_timeout = CONNECT_TIMEOUT_S
        greeted: list[bool] = []
        client.on_connect = lambda _client, _data, _flags, reason, _properties, said=greeted: said.append(
            not reason.is_failure
        )
        try:
            client.connect(host, port)
        except OSError as error:
            last = error
            continue
        until = clock() + ANSWER_S
        while not greeted and clock() < until and client.loop(1.0) == mqtt.MQTT_ERR_SUCCESS:
            pass
        client.disconnect()
        if greeted and greeted[0]:
            log.info("session_ended", client_id=client_id, host=host, port=port)
            return
    raise UnavailableError(
        "No broker lets us end the session of {client_id}: {why}", client_id=client_id, why=last or "refused"
    )


def _tune(_client: mqtt.Client, _data: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)


def _nothing(_client: mqtt.Client, _data: Any, _sock: Any) -> None:
    return
