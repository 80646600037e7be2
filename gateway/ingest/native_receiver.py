"""The gateway's own receiver: one large read, every PUBLISH in it is one batch, one send acknowledges all of it.

The socket does not block; who calls waits in ``poll``. What MQTT says is decided in ``session.py``, how it looks on the
wire in ``mqtt_codec.py``.
"""

from __future__ import annotations

import queue
import random
import select
import socket
import ssl
import threading
from collections.abc import Sequence
from functools import lru_cache
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import structlog

from domain.clock import Clock, SystemClock, to_ms
from domain.errors import SettingsError, UnavailableError
from domain.settings import Settings
from gateway.core.library import Frames, compiled
from gateway.ingest import mqtt_codec as codec
from gateway.ingest.receiver import Batch, Counts
from gateway.ingest.session import Lost, Session, Terms
from gateway.messages import Message

CONNECT_TIMEOUT_S = 5.0
USER_TIMEOUT_MS = 20_000
READ_BYTES = 1 << 20
BUSY_HZ, MANY, COALESCE_S = 1000.0, 2000, 0.005
"""When so many messages come a second, more of them are waited for after a read of fewer than MANY: a read, a write to disk and a
send for each handful cost more than they carry."""
SMALL_WINDOW = 64
"""A broker that never had more than this on the way waits for our acknowledgements: then nothing is waited for."""
RATE_OVER_S = 0.1
VERSIONS = {"3.1.1": codec.V311, "5": codec.V5}
LEVELS = {"broker_connected": "info", "client_id_taken_over": "error"}
"""Of what is logged; a warning where nothing else is said."""
UNREADABLE = "\ufffd"
"""Topic of a message whose topic is no text; no convention has it, so it goes to the quarantine."""

log = structlog.get_logger()


class NativeReceiver:
    """See :class:`gateway.ingest.receiver.Receiver`. ``memory`` is a file that remembers the filters of the session.

    ``?version=5`` behind the broker's address speaks MQTT 5, with a receive maximum and a session that ends a week after
    the gateway was last seen. Raises SettingsError.
    """

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
        parts = urlsplit(settings.mqtt_url)
        self._brokers = cycle(settings.brokers)
        self._host, self._port = settings.brokers[0]
        self._tls = _tls(settings) if parts.scheme == "mqtts" else None
        terms = Terms(
            client_id,
            list(filters),
            settings.mqtt_user,
            settings.secret_text(settings.mqtt_password_file),
            _version(parts.query),
        )
        self._memory, self._clock = memory, clock
        self._remembered = _lines(memory)
        self._session = Session(terms, self._remembered, rng, self._tell)
        self._time = SystemClock().monotonic
        self.counts = Counts()
        self._frames = Frames(terms.version) if compiled(settings) else None
        self._sock: socket.socket | None = None
        self._poll = select.poll()
        self._unsent = self._rest = b""
        self._outgoing: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._buffer = bytearray(READ_BYTES)
        self._last_read = self._largest_read = 0
        self._rate_hz, self._counted, self._counted_since = 0.0, 0, 0.0
        self._granted = terms.receive_maximum if terms.version == codec.V5 else None
        self._told = ""

    @property
    def connected(self) -> bool:
        """Whether our subscriptions stand."""
        return self._session.subscribed

    def receive(self, timeout_s: float) -> Batch:
        """What one read brings; empty after ``timeout_s`` or while the broker is away."""
        deadline = self._time() + timeout_s
        if not self._alive(timeout_s):
            return Batch()
        self._coalesce()
        try:
            while True:
                self._send()
                arrived = self._read(max(0.0, deadline - self._time()))
                if arrived.count or self._time() >= deadline:
                    break
        except Lost as lost:
            self._end(lost)
            return Batch()
        self._last_read = arrived.count
        self._largest_read = max(self._largest_read, self._last_read)
        return arrived

    def ack(self, batch: Batch) -> None:
        """All acknowledgements in one send, unless the connection is another one by now."""
        if batch.receipt is not None:
            self._session.acknowledge(*batch.receipt)
            self._send_or_end()

    def idle(self, timeout_s: float) -> None:
        """Send pings and commands; what the broker sends meanwhile stays in the socket."""
        if self._alive(timeout_s):
            self._send_or_end()

    def publish(self, topic: str, payload: bytes) -> None:
        """Hand a command to the connection's thread. Raises UnavailableError while the broker is away."""
        if not self.connected:
            raise UnavailableError("The broker {host} is away", host=self._host)
        self._outgoing.put((topic, payload))

    def close(self) -> None:
        """Disconnect in good order; the broker keeps the session."""
        self._closed.set()
        if self._sock is not None:
            self._session.farewell()
            self._send_or_end()
        self._drop()
        self._session.subscribed = False

    # --- connection

    def _alive(self, timeout_s: float) -> bool:
        """Whether there is a connection; makes one when it is time."""
        if self._sock is not None:
            return True
        pause = self._session.next_attempt - self._time()
        if pause > 0:
            self._closed.wait(min(pause, timeout_s))
            if pause > timeout_s:
                return False
        self._host, self._port = next(self._brokers)
        try:
            sock = _connect(self._host, self._port, self._tls)
        except (OSError, ValueError) as error:
            self._session.unreachable(str(error), self._time())
            return False
        self._sock, self._poll, self._unsent, self._rest = sock, select.poll(), b"", b""
        self._poll.register(sock, select.POLLIN)
        self._last_read = self._largest_read = 0
        self._session.opened(self._time())
        return True

    def _drop(self) -> None:
        if self._sock is not None:
            self._sock.close()
        self._sock = None

    def _end(self, lost: Lost) -> None:
        self._drop()
        self._session.ended(lost, self._time())

    # --- traffic

    def _coalesce(self) -> None:
        """Under load let a little more come together; not when idle, nor when the broker waits for our acknowledgements.

        MQTT 3.1.1 does not say how many messages a broker sends ahead; it is at least the largest read so far.
        """
        now, enough = self._time(), min(MANY, self._granted // 2) if self._granted else MANY
        self._counted += self._last_read
        if now - self._counted_since >= RATE_OVER_S:
            self._rate_hz, self._counted = self._counted / (now - self._counted_since), 0
            self._counted_since = now
        busy = self._rate_hz >= BUSY_HZ and self._largest_read > SMALL_WINDOW
        if busy and self._last_read < enough:
            self._closed.wait(COALESCE_S)

    def _read(self, patience_s: float) -> Batch:
        """One read; nothing where nothing came in time. Raises Lost."""
        sock = self._sock
        assert sock is not None
        decrypted = isinstance(sock, ssl.SSLSocket) and sock.pending()
        if not decrypted and not self._poll.poll(patience_s * 1000):
            self._session.silent(self._time())
            return Batch()
        try:
            data = _available(sock, self._buffer)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return Batch()
        except OSError as error:
            raise Lost(str(error), by_peer=isinstance(error, ConnectionResetError)) from None
        if not data:
            raise Lost("the broker closed the connection", by_peer=True)
        return self._cut(data, to_ms(self._clock.now()))

    def _cut(self, data: bytes, recv_ms: int) -> Batch:
        """The messages in what was read; ordinary ones by the compiled core, where it is there. Raises Lost."""
        if self._frames is None:
            return self._by_session(data, recv_ms)
        session = self._session
        session.heard(self._time())
        parts: list[Batch] = []
        data, self._rest = self._rest + data, b""
        while data:
            looked_at = session.missing
            if not looked_at:
                taken = self._frames.take(data, recv_ms)
                parts.append(Batch(taken.block, taken.messages, (session.epoch, taken.acks)))
                data = data[taken.consumed :]
                if taken.clean:
                    self._rest = data
                    break
                looked_at = 2  # enough to learn how long this other packet is
            piece, data = data[:looked_at], data[looked_at:]
            try:
                parts.append(self._by_session(piece, recv_ms))
            except Lost as lost:
                if not any(part.count for part in parts):
                    raise
                session.lose(lost)
                break
        if len(parts) == 1:
            return parts[0]
        acks = b"".join([part.receipt[1] for part in parts])
        return Batch(b"".join([part.block for part in parts]), sum(part.count for part in parts), (session.epoch, acks))

    def _by_session(self, data: bytes, recv_ms: int) -> Batch:
        """The messages in ``data``; whatever else is in it is answered. Raises Lost."""
        arrived = self._session.received(data, self._time())
        messages = [Message(_topic(one.topic), one.payload, recv_ms, one.retained) for one in arrived]
        return Batch.of(messages, (self._session.epoch, codec.pubacks([one.mid for one in arrived if one.mid])))

    def _send(self) -> None:
        """Send what is due, as much as the socket takes now. Raises Lost."""
        session, now = self._session, self._time()
        while not self._outgoing.empty():
            session.publish(*self._outgoing.get())
        session.turn(now)
        due = session.take(now)
        if session.known != self._remembered:
            self._remember(session.known)
        if not (due or self._unsent):
            return
        assert self._sock is not None
        waited, self._unsent = bool(self._unsent), self._unsent + due
        try:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass  # the broker has to read first
        except OSError as error:
            raise Lost(str(error), by_peer=isinstance(error, ConnectionResetError)) from None
        if waited or self._unsent:
            self._poll.modify(self._sock, select.POLLIN | (select.POLLOUT if self._unsent else 0))

    def _send_or_end(self) -> None:
        if self._sock is None:
            return
        try:
            self._send()
        except Lost as lost:
            self._end(lost)

    def _remember(self, filters: Sequence[str]) -> None:
        self._remembered = list(filters)
        try:
            self._memory.write_text("\n".join(filters))
        except OSError as error:
            self._tell("subscriptions_not_kept", why=str(error))

    def _tell(self, event: str, **details: Any) -> None:
        """One line per change of state, not one per attempt; a refused command is no state: each is said."""
        if event != self._told:
            if event != "command_refused":
                self._told = event
            self.counts.note(event)
            say = getattr(log, LEVELS.get(event, "warning"))
            say(event, host=self._host, port=self._port, **details)


def _connect(host: str, port: int, tls: ssl.SSLContext | None) -> socket.socket:
    """A connection that does not block; asks the name service anew. Raises OSError, ValueError."""
    sock = socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        if tls is not None:
            sock = tls.wrap_socket(sock, server_hostname=host)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _available(sock: socket.socket, buffer: bytearray) -> bytes:
    """What lies ready, up to the size of ``buffer``; b"" at the end of the stream. Raises OSError, BlockingIOError too."""
    room = memoryview(buffer)
    size = sock.recv_into(room)
    while isinstance(sock, ssl.SSLSocket) and 0 < size < len(room):  # TLS gives 16 KiB at most in one go
        try:
            more = sock.recv_into(room[size:])
        except (OSError, ssl.SSLError):
            break  # what is wrong shows at the next read
        if not more:
            break
        size += more
    return bytes(room[:size])


def _tls(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.mqtt_ca_file)
        if settings.mqtt_cert_file:
            context.load_cert_chain(settings.mqtt_cert_file, settings.mqtt_key_file)
    except (ssl.SSLError, OSError) as error:
        raise SettingsError("The certificates of the broker cannot be used: {why}", why=error) from error
    return context


def _version(query: str) -> int:
    """The protocol level that the broker's address asks for."""
    wanted = parse_qs(query).get("version", ["3.1.1"])[-1]
    if wanted not in VERSIONS:
        raise SettingsError("BREWAIR_MQTT_URL: version must be one of {known}", known=", ".join(VERSIONS))
    return VERSIONS[wanted]


@lru_cache(maxsize=1 << 15)
def _topic(topic: bytes) -> str:
    try:
        text = topic.decode()
    except UnicodeDecodeError:
        return UNREADABLE
    return UNREADABLE if "\0" in text else text


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
