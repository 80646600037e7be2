"""A gateway's right to work its shards: taken before anything is folded, renewed, and proved again at every commit."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from domain.clock import SystemClock
from domain.errors import ConflictError, TakenError, UnavailableError
from domain.store import leases as store
from domain.store.session import Sessions

RENEW_AFTER = store.LEASE / 3
UNKNOWN = "?"
"""Name of a gateway that took something in the same moment; the next look says it."""


class Leases:
    """The leases of one gateway. The ``holder`` is its spool: nobody else can have that, and a restart is the same holder.

    Until ``take`` has succeeded nothing is checked: a simulation has its stores for itself.
    """

    def __init__(self, sessions: Sessions, shards: frozenset[int], *, holder: str, gateway: str) -> None:
        self.held: frozenset[int] = frozenset()
        self._sessions, self._shards, self._holder, self._gateway = sessions, shards, holder, gateway
        self._taken_at: datetime | None = None
        self._time, self._taken_s = SystemClock().monotonic, 0.0

    def take(self, now: datetime, span: timedelta = store.LEASE) -> str | None:
        """Take or renew them all for ``span``; the name of the gateway that has one of them, if that cannot be.

        Raises UnavailableError.
        """
        try:
            with self._sessions.command() as session:
                other = store.take(
                    session, self._shards, holder=self._holder, gateway=self._gateway, now=now, span=span
                )
        except ConflictError:
            return UNKNOWN
        if other is not None:
            return other.gateway
        self.held, self._taken_at, self._taken_s = self._shards, now, self._time()
        return None

    def renew(self, now: datetime) -> None:
        """Renew them when it is time. Raises TakenError where they went to another gateway, UnavailableError."""
        if self._taken_at is None or timedelta(0) <= now - self._taken_at < RENEW_AFTER:
            return
        other = self.take(now)
        if other is not None:
            raise _taken(other)

    def keep(self) -> None:
        """Renew them in the middle of long work, which has no newer ``now``: by the time that has passed. While SQL is away they
        are not. Raises TakenError."""
        if self._taken_at is None:
            return
        try:
            self.renew(self._taken_at + timedelta(seconds=self._time() - self._taken_s))
        except TakenError:
            raise
        except UnavailableError:
            return  # whoever does the work must not lose half of it; its commit will say so

    def check(self, session: Session) -> None:
        """Prove inside a transaction that they are ours until it ends. Raises TakenError."""
        if self.held and not store.held(session, self.held, holder=self._holder):
            raise _taken(UNKNOWN)

    def give_back(self, now: datetime) -> None:
        """Let anybody have them at once. Raises UnavailableError."""
        with self._sessions.command() as session:
            store.give_back(session, holder=self._holder, now=now)
        self.held = frozenset()


def _taken(gateway: str) -> TakenError:
    return TakenError("Another gateway has taken over our shards ({gateway})", gateway=gateway)
