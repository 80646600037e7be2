"""Reading log-in sessions, and what the live pages follow."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from domain.store.queries.tickets import MEASURED
from domain.store.tables import LoginSession, TestRun


def login_session(session: Session, token_hash: str) -> LoginSession | None:
    """The log-in session of a cookie's hash, with its person."""
    return session.scalar(
        select(LoginSession).where(LoginSession.token_hash == token_hash).options(joinedload(LoginSession.person))
    )


def run_marks(session: Session) -> dict[int, tuple[int, int, int]]:
    """Runs that are being measured: id → (ticket id, samples received, samples judged)."""
    rows = session.execute(
        select(TestRun.id, TestRun.ticket_id, TestRun.samples, TestRun.judged_samples).where(MEASURED)
    )
    return {run_id: (ticket_id, samples, judged) for run_id, ticket_id, samples, judged in rows}
