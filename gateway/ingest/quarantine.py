"""What could not be used, on its way into the quarantine table, where people see, replay or drop it."""

from __future__ import annotations

import zlib
from collections.abc import Collection
from datetime import datetime

from domain import wire
from domain.clock import from_ms, to_ms
from domain.store import ingest as store
from domain.store import strangers
from domain.store.ingest import Held
from domain.store.session import Sessions
from domain.store.tables import QuarantineRow
from domain.telemetry.port import RefusedPoint
from gateway.messages import Message, Quarantined, Reason

REPLAYS_AT_ONCE = 1000
ADMITTED_BYTES = 1 << 20
"""Of a claimed machine, at one tick."""


def place(spool: str, position: int) -> str:
    """Where a record lies, as the identity of what is held of it."""
    return f"{spool}:{position:020d}"


def of_message(position: str, message: Message, item: Quarantined) -> Held:
    """One object or payload; its identity is its place in the spool, so that reading again holds nothing twice."""
    return Held(
        position=position,
        part=item.part,
        received_at=from_ms(message.recv_ms),
        topic=message.topic,
        payload=item.raw,
        reason=item.reason.value,
        explanation=item.explanation,
        serial=item.serial,
        retained=message.retained,
        stranger=item.stranger if item.stranger is not None and item.stranger.nameable else None,
    )


def of_point(refused: RefusedPoint, now: datetime) -> Held:
    """A point that the telemetry store will never take; its line is kept for people, it cannot be replayed."""
    return Held(
        position=f"point:{zlib.crc32(refused.line or refused.message.encode()):08x}",
        part=0,
        received_at=now,
        topic="",
        payload=refused.line,
        reason=Reason.UNWRITABLE.value,
        explanation=refused.message,
        serial=None,
    )


def keep(sessions: Sessions, held: list[Held]) -> None:
    """Hold things in a transaction of their own. Raises UnavailableError."""
    with sessions.command() as session:
        store.hold(session, held)


def wanted_again(sessions: Sessions, shards: Collection[int]) -> list[tuple[int, Message]]:
    """What somebody asked to have replayed of these shards, oldest first, as messages again with their row ids."""
    with sessions.read() as session:
        ours = [number for number, topic in store.to_replay(session) if wire.shard_of_topic(topic) in shards]
        rows = [session.get_one(QuarantineRow, number) for number in ours[:REPLAYS_AT_ONCE]]
        return [(row.id, _message(row)) for row in rows]


def replayed(sessions: Sessions, ids: list[int], now: datetime) -> None:
    """Mark rows whose messages are in the spool again."""
    with sessions.command() as session:
        store.settle(session, ids, store.REPLAYED, now)


def held_of(sessions: Sessions, serial: str) -> list[tuple[int, Message]]:
    """The next messages that are held of a claimed machine, oldest first, with their row ids."""
    with sessions.read() as session:
        return [(row.id, _message(row)) for row in strangers.held_of(session, serial, REPLAYS_AT_ONCE, ADMITTED_BYTES)]


def _message(row: QuarantineRow) -> Message:
    return Message(row.topic, row.payload, to_ms(row.received_at), row.retained)
