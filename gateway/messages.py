"""What flows through the gateway: messages as they came, what they mean, and what is known of the machines."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from zoneinfo import ZoneInfo

import msgspec

from domain.readings import Reading
from domain.strangers import Stranger, speaks_for

_HEAD = struct.Struct("<qBH")
_RETAINED, _FOLDED = 1, 2


class Message(msgspec.Struct, frozen=True, gc=False):
    """One MQTT message. ``recv_ms`` is business time of receipt; ``retained`` ones are news of the past.

    ``folded``: the rules have had it already, it is in the spool once more for the telemetry store alone.
    """

    topic: str
    payload: bytes
    recv_ms: int
    retained: bool = False
    folded: bool = False

    def pack(self) -> bytes:
        """The message as a record of the spool."""
        topic = self.topic.encode("utf-8", "surrogateescape")
        flags = self.retained * _RETAINED | self.folded * _FOLDED
        return _HEAD.pack(self.recv_ms, flags, len(topic)) + topic + self.payload

    @classmethod
    def unpack(cls, record: bytes) -> Message:
        """The message that :meth:`pack` made a record of."""
        recv_ms, flags, length = _HEAD.unpack_from(record)
        head = _HEAD.size + length
        topic = record[_HEAD.size : head].decode("utf-8", "surrogateescape")
        return cls(topic, record[head:], recv_ms, bool(flags & _RETAINED), bool(flags & _FOLDED))


class Reason(StrEnum):
    """Why something went into quarantine; keys that programs and the portal rely on."""

    UNKNOWN_TOPIC = "unknown_topic"
    UNKNOWN_TYPE = "unknown_type"
    UNKNOWN_SERIAL = "unknown_serial"
    TYPE_MISMATCH = "type_mismatch"
    OVERSIZE = "oversize"
    UNREADABLE = "unreadable"
    TOO_DEEP = "too_deep"
    TOO_MANY = "too_many"
    WRONG_TYPE = "wrong_type"
    MISSING_TS = "missing_ts"
    NOT_FINITE = "not_finite"
    UNKNOWN_ALIAS = "unknown_alias"
    INTERNAL = "internal_error"
    UNWRITABLE = "unwritable"
    DAMAGED = "damaged"


class Unusable(Exception):
    """This object cannot be used; ``reason`` is for programs, the text for people. ``stranger`` is who said it, where the
    reason is that nobody knows them."""

    def __init__(self, reason: Reason, explanation: str, stranger: Stranger | None = None) -> None:
        self.reason, self.explanation, self.stranger = reason, explanation, stranger
        super().__init__(explanation)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Something that could not be used: the whole payload, or one object of a batch (``part`` counts from 0)."""

    reason: Reason
    explanation: str
    raw: bytes
    serial: str | None = None
    part: int = 0
    stranger: Stranger | None = None


@dataclass(frozen=True, slots=True)
class Birth:
    """What a machine said about itself when it came up."""

    serial: str
    ts: int
    model: str = ""
    fw: str = ""
    interval_s: float | None = None
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """Online, or offline (the last will)."""

    serial: str
    online: bool
    recv_ms: int
    retained: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """A machine's answer to a command."""

    serial: str
    id: str
    ok: bool
    error: str = ""


Decoded = Reading | Birth | Status | Reply | Quarantined


@dataclass(frozen=True, slots=True)
class Unit:
    """What the gateway knows of one registered machine. ``convention`` "" is native; else ``topic`` is its foreign name."""

    serial: str
    type: str
    model: str
    site_id: int = 0
    convention: str = ""
    topic: str = ""
    zone: ZoneInfo | None = None
    interval_s: float | None = None
    simulated: bool = False
    altitude_m: float = 0.0


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A machine at the site of one of ours that another gateway hears, and when it last did."""

    site_id: int
    heard_ms: int
    interval_s: float | None


@dataclass(frozen=True)
class Registry:
    """Our registered machines, by serial and by foreign topic; replaced as a whole when it changes."""

    units: Mapping[str, Unit] = field(default_factory=dict)
    bound: Mapping[tuple[str, str], Unit] = field(default_factory=dict)
    neighbours: Sequence[Neighbour] = ()

    @classmethod
    def of(cls, units: Iterable[Unit], neighbours: Sequence[Neighbour] = ()) -> Registry:
        """A registry of these machines."""
        known = list(units)
        return cls(
            {unit.serial: unit for unit in known},
            {(unit.convention, unit.topic): unit for unit in known if unit.convention},
            neighbours,
        )

    def without(self, serials: Collection[str]) -> Registry:
        """The same without some machines."""
        inside = (unit for unit in self.units.values() if unit.serial not in serials)
        return Registry.of(inside, self.neighbours) if serials else self

    def owners(self, stranger: Stranger) -> set[str]:
        """Serials of the machines that a stranger is, now that they are registered."""
        if stranger.convention:
            named = (unit for unit in self.bound.values() if unit.convention == stranger.convention)
            return {unit.serial for unit in named if speaks_for(stranger.name, unit.topic)}
        unit = self.units.get(stranger.serial)
        return {unit.serial} if unit is not None and unit.type == stranger.type else set()
