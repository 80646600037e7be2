"""The samples of a run that is being measured, and the commands that wait for its machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from domain.store.tables import DeviceCommand, EvidenceSample

AT_ONCE = 500
"""Bound variables per statement: SQLite allows 32766, but the plan stays good with few."""


def known_identities(session: Session, run_id: int, identities: Sequence[str]) -> set[str]:
    """Which of these samples the run has already."""
    known: set[str] = set()
    for start in range(0, len(identities), AT_ONCE):
        known.update(
            session.scalars(
                select(EvidenceSample.identity).where(
                    EvidenceSample.run_id == run_id, EvidenceSample.identity.in_(identities[start : start + AT_ONCE])
                )
            )
        )
    return known


def bodies(session: Session, run_id: int) -> list[dict[str, Any]]:
    """The samples of a run by device time; ties by identity, so that the order never depends on arrival."""
    return list(
        session.scalars(
            select(EvidenceSample.body)
            .where(EvidenceSample.run_id == run_id)
            .order_by(EvidenceSample.ts_ms, EvidenceSample.identity)
        )
    )


def unsent(session: Session, serial: str) -> list[DeviceCommand]:
    """Commands to a machine that the gateway has not published yet."""
    return list(
        session.scalars(select(DeviceCommand).where(DeviceCommand.serial == serial, DeviceCommand.sent_at.is_(None)))
    )


def forget_outside(session: Session, run_id: int, first_ms: int, last_ms: int | None) -> None:
    """Drop the samples of a run from before ``first_ms`` and, if given, after ``last_ms`` (device time)."""
    outside = EvidenceSample.ts_ms < first_ms
    if last_ms is not None:
        outside |= EvidenceSample.ts_ms > last_ms
    session.execute(delete(EvidenceSample).where(EvidenceSample.run_id == run_id, outside))
