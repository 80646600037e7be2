"""What an adapter is: one convention of topics and payloads, turned into our readings and back into commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from gateway.messages import Decoded, Message, Registry, Unit


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the outbox. ``expires_ms`` is business time."""

    id: str
    name: str
    params: Mapping[str, Any]
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Publication:
    """What to publish for a command. ``answers``: the machine will reply with the command's id and reverts by itself."""

    topic: str
    payload: bytes
    answers: bool = True


class Adapter(Protocol):
    """One convention. Pure: no socket, no clock."""

    @property
    def convention(self) -> str:
        """Its key, as a machine's binding names it; "" is native."""
        ...

    @property
    def filters(self) -> tuple[str, ...]:
        """MQTT filters to subscribe to."""
        ...

    @property
    def commands(self) -> tuple[str, ...]:
        """MQTT filters of what ``command`` and ``requests`` publish; a gateway's account may write these and no others."""
        ...

    def decode(self, message: Message, registry: Registry, strangers: Counter[str]) -> list[Decoded] | None:
        """What the message says, or None where its topic is not of this convention.

        Raises Unusable where the whole message cannot be used; single objects of a batch come back as Quarantined.
        """
        ...

    def command(self, unit: Unit, command: Command) -> Publication | None:
        """How to say ``command`` to ``unit``; None where the convention has no such command."""
        ...


@runtime_checkable
class Asking(Protocol):
    """An adapter of a convention in which a machine may be asked to say something again."""

    def requests(self) -> Sequence[Publication]:
        """What has to be asked for as things stand, from any thread; how often is up to who publishes it."""
        ...


class Deaf:
    """For conventions in which the gateway has nothing to say to a machine."""

    commands: tuple[str, ...] = ()

    def command(self, unit: Unit, command: Command) -> Publication | None:
        """No command is offered."""
        return None
