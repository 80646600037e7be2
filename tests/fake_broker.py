"""A broker that does what a test tells it to: says yes to everybody, sends any bytes, and remembers what it was sent."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from gateway.ingest import mqtt_codec as codec
from gateway.ingest.mqtt_codec import Ack, Control, Decoder
from tests.servers import HOST

YES = b"\x20\x02\x01\x00"
"""CONNACK: welcome, your session is here."""
PONG = b"\xd0\x00"


class FakeBroker:
    """MQTT 3.1.1 on a free port, one connection at a time. ``answers`` maps the kind of a packet to the answer, which
    may be changed; SUBSCRIBE and UNSUBSCRIBE are granted."""

    def __init__(self) -> None:
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"mqtt://{HOST}:{self.port}"
        self.answers = {codec.CONNECT: YES, codec.PINGREQ: PONG}
        self.acknowledged: list[tuple[int, bytes]] = []
        """(number of the connection, packet id) of every PUBACK."""
        self.received: list[codec.Packet] = []
        self.connections = 0
        self._current: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def send(self, data: bytes) -> None:
        """Any bytes on the current connection."""
        assert self._current is not None
        self._current.sendall(data)

    def cut(self) -> None:
        """Close the current connection."""
        if self._current is not None:
            self._current.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while True:
            try:
                self._current, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with self._current:
                self._talk(self._current)

    def _talk(self, connection: socket.socket) -> None:
        decoder = Decoder()
        try:
            while data := connection.recv(65536):
                for packet in decoder.feed(data):
                    self._take(connection, packet)
        except OSError:
            return

    def _take(self, connection: socket.socket, packet: codec.Packet) -> None:
        self.received.append(packet)
        if isinstance(packet, Ack):
            self.acknowledged.append((self.connections, packet.mid))
        elif isinstance(packet, Control):
            connection.sendall(self.answers.get(packet.kind, b"") or _granted(packet))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with suppress(OSError):
            self.cut()
        self._thread.join(5)


def _granted(packet: Control) -> bytes:
    if packet.kind == codec.SUBSCRIBE:
        filters, at = 0, 2
        while at < len(packet.body):
            at, filters = at + 3 + int.from_bytes(packet.body[at : at + 2], "big"), filters + 1
        return bytes((codec.SUBACK << 4, 2 + filters)) + packet.body[:2] + b"\1" * filters
    if packet.kind == codec.UNSUBSCRIBE:
        return bytes((codec.UNSUBACK << 4, 2)) + packet.body[:2]
    return b""
