"""The seam behind which messages come from: a receiver hands out batches, and acknowledges them when it is told to."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from gateway.ingest.spool import bodies, pack
from gateway.messages import Message

TAKEOVERS, TAKEOVERS_WITHIN_S = 3, 60.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages in the order of receipt, ``block`` as the records of the spool that they will be.

    ``receipt`` is the receiver's own note of what to acknowledge.
    """

    block: bytes = b""
    count: int = 0
    receipt: Any = None

    @classmethod
    def of(cls, messages: Sequence[Message], receipt: Any = None) -> Self:
        """A batch of these messages."""
        return cls(b"".join([pack(message.pack()) for message in messages]), len(messages), receipt)

    @property
    def messages(self) -> list[Message]:
        """The messages, read again from the block."""
        return [Message.unpack(body) for body in bodies(self.block)]


@dataclass(slots=True)
class Counts:
    """What happened to the connection since the start. QoS 0 messages cannot be held back: what is lost of them counts."""

    connections: int = 0
    takeovers: int = 0
    dropped_qos0: int = 0

    def note(self, event: str) -> None:
        """Count an event that was just logged."""
        self.connections += event == "broker_connected"
        self.takeovers += event == "client_id_taken_over"


class Closings:
    """When the broker closes working connections again and again, somebody has our client id."""

    def __init__(self) -> None:
        self._at: deque[float] = deque()

    def closed(self, now: float) -> bool:
        """A working connection was closed at ``now`` (monotonic seconds); True when that looks like a takeover."""
        self._at.append(now)
        while now - self._at[0] > TAKEOVERS_WITHIN_S:
            self._at.popleft()
        return len(self._at) >= TAKEOVERS

    def clear(self) -> None:
        """The broker was away: it closed for its own reasons."""
        self._at.clear()


class Receiver(Protocol):
    """A source of messages. ``receive`` and ``ack`` are called from one thread, ``publish`` from any."""

    @property
    def counts(self) -> Counts:
        """What happened to the connection so far."""
        ...

    @property
    def connected(self) -> bool:
        """Whether the broker talks to us and our subscriptions stand."""
        ...

    def receive(self, timeout_s: float) -> Batch:
        """What has come, waiting up to ``timeout_s`` for the first message; keeps the connection up meanwhile."""
        ...

    def ack(self, batch: Batch) -> None:
        """Acknowledge a batch that is durable now. A batch of a former connection is not acknowledged: it comes again."""
        ...

    def idle(self, timeout_s: float) -> None:
        """Keep the connection alive without taking anything in, while a batch cannot be made durable."""
        ...

    def publish(self, topic: str, payload: bytes) -> None:
        """Queue a command (QoS 1), in memory only. Raises UnavailableError while the broker is away."""
        ...

    def close(self) -> None:
        """Say good-bye to the broker."""
        ...
