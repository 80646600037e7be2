"""The seam behind which messages come from: a receiver hands out batches, and acknowledges them when it is told to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.messages import Message


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages in the order of receipt. ``receipt`` is the receiver's own note of what to acknowledge."""

    messages: list[Message] = field(default_factory=list)
    receipt: Any = None


class Receiver(Protocol):
    """A source of messages. ``receive`` and ``ack`` are called from one thread, ``publish`` from any."""

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
        """Send a command (QoS 1). Raises UnavailableError while the broker is away."""
        ...

    def close(self) -> None:
        """Say good-bye to the broker."""
        ...
