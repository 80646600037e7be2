"""The seam between a fleet and whatever carries its messages: a broker, or a function in the same process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from device_sim.machine import Publication

Command = tuple[str, bytes]
"""Topic and payload of a downward message."""


class Bus(Protocol):
    """Carries messages both ways."""

    def publish(self, publications: Sequence[Publication]) -> None:
        """Take over ``publications``, in order; may block to hold back a fleet that is too fast."""
        ...

    def commands(self) -> list[Command]:
        """What came down since the last call."""
        ...

    def flush(self) -> None:
        """Block until everything published has been acknowledged."""
        ...


class DirectBus:
    """A bus without a broker: ``deliver`` is called for each message; ``command`` puts one on the way down."""

    def __init__(self, deliver: Callable[[Publication], None]) -> None:
        self._deliver = deliver
        self._commands: deque[Command] = deque()

    def publish(self, publications: Sequence[Publication]) -> None:
        """Deliver at once."""
        for publication in publications:
            self._deliver(publication)

    def command(self, topic: str, payload: bytes) -> None:
        """Queue a command for the fleet."""
        self._commands.append((topic, payload))

    def commands(self) -> list[Command]:
        """Commands queued since the last call."""
        return [self._commands.popleft() for _ in range(len(self._commands))]

    def flush(self) -> None:
        """Nothing is ever on its way."""
