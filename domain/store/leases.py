"""Which gateway works which shard: one row a shard, held for a while and renewed.

Two gateways that work one shard would each fold half of a machine's story. All times are the database's own where it has a
clock, so that two machines need not agree about theirs.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from domain.store.ingest import database_time
from domain.store.tables import ShardLease

LEASE = timedelta(seconds=30)
"""A gateway that was not heard of for so long has lost its shards to whoever asks."""
KEPT = timedelta(minutes=15)
"""One that was stopped before its spool was worked off keeps them so long: time to drain it, or to start it again."""


def take(
    session: Session, shards: Collection[int], *, holder: str, gateway: str, now: datetime, span: timedelta = LEASE
) -> ShardLease | None:
    """Hold all of ``shards`` from now on for ``span``; None, or the lease that stands in the way, and nothing is changed.

    Raises ConflictError at the commit where somebody was faster.
    """
    now = database_time(session) or now
    query = select(ShardLease).where(ShardLease.shard.in_(shards)).order_by(ShardLease.shard).with_for_update()
    present = {row.shard: row for row in session.scalars(query)}
    for row in present.values():
        if row.holder != holder and row.until > now:
            return row
    for shard in shards:
        row = present.get(shard) or ShardLease(shard=shard)
        row.holder, row.gateway, row.until = holder, gateway, now + span
        session.add(row)
    return None


def held(session: Session, shards: Collection[int], *, holder: str) -> bool:
    """Whether ``holder`` has them all, now and until this transaction ends (late or not, nobody else has taken them)."""
    mine = select(ShardLease.shard).where(ShardLease.shard.in_(shards), ShardLease.holder == holder)
    return len(session.scalars(mine.with_for_update(read=True)).all()) == len(shards)


def give_back(session: Session, *, holder: str, now: datetime) -> None:
    """Let anybody have what ``holder`` has."""
    past = (database_time(session) or now) - timedelta(seconds=1)
    session.execute(update(ShardLease).where(ShardLease.holder == holder).values(until=past, holder=""))
