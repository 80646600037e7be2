"""What time alone brings about: warnings, escalations, expiry, self-checks, verdicts. Called by the gateway's tick."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy.orm import Session

from domain.desk.actor import SYSTEM
from domain.desk.dispatch import expire_unaccepted
from domain.desk.door import journal, notify
from domain.desk.guidance import watch_guided
from domain.desk.intake import reopen_after_waiver
from domain.desk.probation import watch_probation
from domain.desk.verification import judge_running
from domain.store.queries import tickets as query
from domain.tickets.deadlines import WARN_BEFORE
from domain.tickets.states import Role


def watch_deadlines(session: Session, now: datetime) -> None:
    """Warn the dispatcher before a deadline, escalate to the manager at its breach; each once."""
    for ticket in query.with_running_deadline(session, now + WARN_BEFORE):
        if ticket.due_at <= now:
            ticket.escalated_at = now
            journal(session, now, SYSTEM, "escalated", ticket=ticket)
            notify(
                session, now, "danger", "Deadline missed: ticket {number}", ticket=ticket, role=Role.MANAGER,
                number=ticket.id,
            )  # fmt: skip
        elif ticket.warned_at is None:
            ticket.warned_at = now
            journal(session, now, SYSTEM, "deadline_warning", ticket=ticket)
            notify(
                session, now, "warning", "Deadline near: ticket {number}", ticket=ticket, role=Role.DISPATCHER,
                number=ticket.id,
            )  # fmt: skip


WATCHES: tuple[Callable[[Session, datetime], None], ...] = (
    judge_running,
    watch_deadlines,
    expire_unaccepted,
    watch_guided,
    reopen_after_waiver,
    watch_probation,
)
"""In this order; each is one transaction of its own, so that one that fails does not hold up the others."""
