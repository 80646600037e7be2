"""Telemetry that a store has lost, written again from the segments that the spool still keeps.

Reads the folder only, so the gateway may be at work. Points are identified by (type, serial, ts): writing them again
changes nothing, and neither does doing it twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from domain.readings import Reading
from domain.telemetry.port import Telemetry
from gateway.adapters.port import Adapter
from gateway.ingest.decode import Decoder
from gateway.ingest.spool import scan
from gateway.messages import Message, Registry

READINGS_AT_ONCE = 5000


@dataclass(slots=True)
class Refilled:
    """What was found in the time asked for, and the receipt of the oldest and the latest message in the spool (ms)."""

    messages: int = 0
    readings: int = 0
    damaged: int = 0
    oldest_ms: int | None = None
    latest_ms: int | None = None


def refill(
    folder: Path,
    adapters: Iterable[Adapter],
    registry: Registry,
    telemetry: Telemetry,
    since_ms: int | None = None,
    until_ms: int | None = None,
) -> Refilled:
    """Write every reading received in [``since_ms``, ``until_ms``); None is no limit. Raises UnavailableError."""
    found = Refilled()
    waiting: list[Reading] = []
    for reading in _readings(folder, Decoder(adapters, registry, known_only=False), found, since_ms, until_ms):
        waiting.append(reading)
        if len(waiting) >= READINGS_AT_ONCE:
            telemetry.write(waiting)
            waiting.clear()
    if waiting:
        telemetry.write(waiting)
    return found


def _readings(
    folder: Path, decoder: Decoder, found: Refilled, since_ms: int | None, until_ms: int | None
) -> Iterator[Reading]:
    for _, records, damaged in scan(folder):
        found.damaged += damaged
        for record in records:
            message = Message.unpack(record)
            found.oldest_ms = message.recv_ms if found.oldest_ms is None else min(found.oldest_ms, message.recv_ms)
            found.latest_ms = max(found.latest_ms or 0, message.recv_ms)
            decoded = decoder.decode(message)  # also outside the time: births say which machines are simulated
            if (since_ms is None or message.recv_ms >= since_ms) and (until_ms is None or message.recv_ms < until_ms):
                found.messages += 1
                readings = [one for one in decoded if isinstance(one, Reading)]
                found.readings += len(readings)
                yield from readings
