"""Commands to machines go through an SQL outbox: written here, published by the gateway, answered by the machine."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy.orm import Session

from domain.store.queries import evidence as query
from domain.store.tables import DeviceCommand

VALID_FOR = timedelta(minutes=10)
"""A machine that was away longer must not start by surprise (EJ)."""


def queue(
    session: Session, serial: str, name: str, params: dict[str, Any], now: datetime, *, valid_for: timedelta = VALID_FOR
) -> DeviceCommand:
    """Put one command into the outbox; the machine ignores it after ``valid_for``.

    What still waits for this machine is overtaken: a machine that comes back must not start a test that has ended.
    """
    for waiting in query.unsent(session, serial):
        waiting.expires_at = now
    command = DeviceCommand(
        id=str(uuid4()), serial=serial, name=name, params=params, created_at=now, expires_at=now + valid_for
    )
    session.add(command)
    return command
