"""What people decide about machines that nobody has registered; claiming one is registering it (``registry.save_machine``)."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from domain.desk.actor import Actor
from domain.desk.door import journal
from domain.errors import ConflictError, NotFoundError
from domain.store import strangers


def dismiss(session: Session, actor: Actor, number: int, now: datetime) -> int:
    """Not ours: what is held is given up, what comes is only counted. Returns how many messages were given up.

    Raises NotFoundError, ConflictError where somebody has claimed or dismissed it.
    """
    row = strangers.stranger(session, number)
    if row is None:
        raise NotFoundError("There is no unclaimed machine number {id}", id=number)
    if row.state != strangers.WAITING:
        raise ConflictError("Somebody has decided about this machine already")
    given_up = strangers.dismiss(session, row, now)
    what: dict[str, object] = {"convention": row.convention, "name": row.name, "messages": given_up}
    journal(session, now, actor, "stranger_dismissed", serial=row.serial or None, detail=what)
    return given_up
