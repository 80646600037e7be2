"""Notices: somebody has seen them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from domain.desk.actor import Actor
from domain.errors import NotFoundError
from domain.store.queries import service
from domain.store.queries import tickets as query


def mark_read(session: Session, actor: Actor, notice_id: int, now: datetime) -> None:
    """One notice, by somebody it is for; reading it twice changes nothing. Raises NotFoundError for a stranger's."""
    found = None
    if actor.person_id is not None:
        found = service.notice(session, notice_id, person_id=actor.person_id, roles=_roles(actor))
    if found is None:
        raise NotFoundError("There is no notice {id}", id=notice_id)
    if found.read_at is None:
        found.read_at, found.read_by_id = now, actor.person_id


def mark_all_read(session: Session, actor: Actor, up_to_id: int, now: datetime) -> int:
    """Every unread notice of theirs up to the newest one they saw; returns how many there were."""
    if actor.person_id is None:
        return 0
    unread = [
        found
        for found in query.notices(session, person_id=actor.person_id, roles=_roles(actor), limit=1000)
        if found.id <= up_to_id
    ]
    for found in unread:
        found.read_at, found.read_by_id = now, actor.person_id
    return len(unread)


def _roles(actor: Actor) -> list[str]:
    return [role.value for role in actor.roles]
