"""What flows through the gateway: messages as they came, what they mean, and what is known of the machines."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from zoneinfo import ZoneInfo

import msgspec

from domain.readings import Reading

_HEAD = struct.Struct("<qBH")
_RETAINED = 1


class Message(msgspec.Struct, frozen=True, gc=False):
    """One MQTT message. ``recv_ms`` is business time of receipt; ``retained`` ones are news of the past."""

    topic: str
    payload: bytes
    recv_ms: int
    retained: bool = False

    def pack(self) -> bytes:
        """The message as a record of the spool."""
        topic = self.topic.encode("utf-8", "surrogateescape")
        return _HEAD.pack(self.recv_ms, _RETAINED if self.retained else 0, len(topic)) + topic + self.payload

    @classmethod
    def unpack(cls, record: bytes) -> Message:
        """The message that :meth:`pack` made a record of."""
        recv_ms, flags, length = _HEAD.unpack_from(record)
        head = _HEAD.size + length
        topic = record[_HEAD.size : head].decode("utf-8", "surrogateescape")
        return cls(topic, record[head:], recv_ms, bool(flags & _RETAINED))


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
    INTERNAL = "internal_error"
    UNWRITABLE = "unwritable"


class Unusable(Exception):
    """This object cannot be used; ``reason`` is for programs, the text for people."""

    def __init__(self, reason: Reason, explanation: str) -> None:
        self.reason, self.explanation = reason, explanation
        super().__init__(explanation)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Something that could not be used: the whole payload, or one object of a batch (``part`` counts from 0)."""

    reason: Reason
    explanation: str
    raw: bytes
    serial: str | None = None
    part: int = 0


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
