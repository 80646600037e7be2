"""The native MQTT convention ``brewair/v1``: topics and payloads, both directions (wire.md).

``brewair/v1/{shard}/{type}/{serial}/up/{kind}`` and ``…/down/command``. Pure: no socket, no clock.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from functools import lru_cache

ROOT = "brewair/v1"
SHARDS = 16
UP_FILTER = f"{ROOT}/+/+/+/up/#"
_SHARD = re.compile(rf"{ROOT}/(\d\d)/")
DOWN_FILTER = f"{ROOT}/+/+/+/down/#"
SERIAL = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
FOREIGN_SHARD = 0
"""Whose gateway hears the topics of all foreign conventions, which name no shard, and does what is done once for all."""
UP_KINDS = ("telemetry", "event", "birth", "status", "reply")
MAX_SAMPLES = 1000
MAX_PAYLOAD_BYTES = 256 * 1024
ONLINE, OFFLINE = b"online", b"offline"


def shard_of(serial: str) -> str:
    """The two-digit shard of a serial number: crc32 modulo 16."""
    return f"{zlib.crc32(serial.encode()) % SHARDS:02d}"


def shard_of_topic(topic: str) -> int:
    """Whose gateway hears ``topic``: the shard that a native one names, else ``FOREIGN_SHARD``."""
    found = _SHARD.match(topic)
    shard = int(found[1]) if found else FOREIGN_SHARD
    return shard if shard < SHARDS else FOREIGN_SHARD


def prefix(equipment_type: str, serial: str) -> str:
    """Topic prefix of one machine, without a slash at its end."""
    return f"{ROOT}/{shard_of(serial)}/{equipment_type}/{serial}"


def up(equipment_type: str, serial: str, kind: str) -> str:
    """Topic on which a machine publishes ``kind`` (one of ``UP_KINDS``)."""
    return f"{prefix(equipment_type, serial)}/up/{kind}"


def down_command(equipment_type: str, serial: str) -> str:
    """Topic on which a machine receives commands."""
    return f"{prefix(equipment_type, serial)}/down/command"


@dataclass(frozen=True, slots=True)
class UpTopic:
    """A parsed upward topic."""

    type: str
    serial: str
    kind: str


@lru_cache(maxsize=1 << 12)
def parse_up(topic: str) -> UpTopic | None:
    """The parts of a native upward topic, or None where it is not one (wrong depth, shard, serial or kind)."""
    parts = topic.split("/")
    if len(parts) != 7 or parts[0] != "brewair" or parts[1] != "v1" or parts[5] != "up":
        return None
    shard, equipment_type, serial, kind = parts[2], parts[3], parts[4], parts[6]
    if kind not in UP_KINDS or not SERIAL.match(serial) or shard != shard_of(serial):
        return None
    return UpTopic(equipment_type, serial, kind)
